"""Which nodes a pod may go to: Kubernetes' filters, in Kubernetes' order, over all nodes at once.

A filter answers for the rows it is asked about, so that the same code looks at all nodes when a class is new and only
at the changed ones later. What it says when a node fails are Kubernetes' words, counted over nodes by `refusal`:

    0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.

A filter knows no other filter, no score and no queue. To add one: write its two functions in the file of its kind, put
it into FILTERS where it belongs in the order, and say in `cluster.scheduler.queue` which events can help a pod that it
refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from cluster.scheduler.filters.affinity import INTER_POD_AFFINITY
from cluster.scheduler.filters.base import Filter, Scope
from cluster.scheduler.filters.load import DATA_DIRECTORIES, HOST_PORTS, RESOURCES
from cluster.scheduler.filters.node import (
    IMAGE_RUNTIME,
    NODE_AFFINITY,
    NODE_NAME,
    NODE_UNSCHEDULABLE,
    TAINT_TOLERATION,
)
from cluster.scheduler.filters.topology import TOPOLOGY_SPREAD
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import ALL_ROWS, BoolArray, Rows, Snapshot

__all__ = ["FILTERS", "NO_NODES", "Filter", "Refusal", "Scope", "feasible", "refusal", "sentence"]

FILTERS: tuple[Filter, ...] = (
    NODE_UNSCHEDULABLE,
    NODE_NAME,
    TAINT_TOLERATION,
    NODE_AFFINITY,
    IMAGE_RUNTIME,
    HOST_PORTS,
    RESOURCES,
    DATA_DIRECTORIES,
    TOPOLOGY_SPREAD,
    INTER_POD_AFFINITY,
)


def feasible(
    snapshot: Snapshot, pod_class: PodClass, rows: Rows = ALL_ROWS, which: tuple[Filter, ...] = FILTERS
) -> BoolArray:
    """For each of the rows, whether a pod of this class may go there, as far as these filters say."""
    mask = snapshot.alive[rows].copy()
    for each in which:
        mask &= each.passes(snapshot, pod_class, rows)
    return mask


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod fits on no node."""

    message: str
    """As in the FailedScheduling event."""
    filters: frozenset[str]
    """The names of the filters that refused a node."""


NO_NODES = "no nodes available to schedule pods"


def refusal(snapshot: Snapshot, pod_class: PodClass, which: tuple[Filter, ...] = FILTERS) -> Refusal:
    """Why no node will do. Each node is counted for the first filter that refuses it, as in Kubernetes."""
    if not snapshot.node_count:
        return Refusal(NO_NODES, frozenset())
    left = snapshot.alive.copy()
    reasons: Counter[str] = Counter()
    refusing: set[str] = set()
    for each in which:
        passed = each.passes(snapshot, pod_class, ALL_ROWS)
        failed = np.flatnonzero(left & ~passed)
        if len(failed):
            refusing.add(each.name)
            reasons.update(each.reasons(snapshot, pod_class, failed))
            left &= passed
    return Refusal(sentence(reasons, int(left.sum()), snapshot.node_count), frozenset(refusing))


def sentence(reasons: Counter[str], available: int, nodes: int) -> str:
    """Kubernetes' sentence: the reasons with their counts, sorted as text."""
    counted = sorted(f"{count} {reason}" for reason, count in reasons.items())
    return f"{available}/{nodes} nodes are available: {', '.join(counted)}."
