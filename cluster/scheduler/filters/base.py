"""What a filter is: the form that all of them have, those of plug-ins too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot


class Scope(Enum):
    """What the answer of a filter depends on, and so what can change it."""

    NODE = "node"
    """The node alone."""
    LOAD = "load"
    """The node and the pods on it."""
    CLUSTER = "cluster"
    """Pods on other nodes too, or other nodes."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason why a node may be no place for a pod."""

    name: str
    scope: Scope
    passes: Callable[[Snapshot, PodClass, Rows], BoolArray]
    """For each of the rows, whether it passes. What it says of rows without a live node does not matter."""
    reasons: Callable[[Snapshot, PodClass, IntArray], Counter[str]]
    """For rows that failed, the reasons in Kubernetes' words, counted."""


def always(reason: str) -> Callable[[Snapshot, PodClass, IntArray], Counter[str]]:
    """The same reason for every node that failed."""
    return lambda snapshot, pod_class, rows: Counter({reason: len(rows)})
