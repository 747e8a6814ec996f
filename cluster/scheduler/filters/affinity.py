"""Affinity and anti-affinity to pods, as required: near to some, apart from others, and not where others don't want it.

near       each term's domain has a pod that all the terms mean. The first pod of a group whose affinity is to itself
           may begin it anywhere with the labels, as long as there is no such pod in any domain
apart      no term's domain has a pod that the term means; a node without the label is in no domain and passes
repelled   no domain has a pod whose anti-affinity means this one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cluster.scheduler.dimensions import Dimension, apart, near, repelled
from cluster.scheduler.filters.base import Filter, Scope
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot

NOT_NEAR = "node(s) didn't match pod affinity rules"
NOT_APART = "node(s) didn't match pod anti-affinity rules"
REPELLED = "node(s) didn't satisfy existing pods anti-affinity rules"


def may_begin(dimensions: Sequence[Dimension]) -> bool:
    """Whether a pod with this required affinity is the first of its group: it means itself, and nobody is there."""
    return all(dimension.step and not dimension.counts().any() for dimension in dimensions)


def is_near(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    """Where the required affinity is met."""
    dimensions = near(snapshot, pod_class)
    begins = may_begin(dimensions)
    met = np.ones(len(snapshot.alive[rows]), np.bool_)
    for dimension in dimensions:
        met &= dimension.has(rows)
        if not begins:
            met &= dimension.values(rows) > 0
    return met


def is_apart(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    """Where the required anti-affinity is met."""
    return _is_free(snapshot, apart(snapshot, pod_class), rows)


def is_welcome(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    """Where no other pod's required anti-affinity is against this one."""
    return _is_free(snapshot, repelled(snapshot, pod_class), rows)


def _is_free(snapshot: Snapshot, dimensions: Sequence[Dimension], rows: Rows) -> BoolArray:
    free = np.ones(len(snapshot.alive[rows]), np.bool_)
    for dimension in dimensions:
        if any(tally.pods for tally, _ in dimension.sources):
            free &= dimension.values(rows) == 0
    return free


def _matches(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    return (
        is_near(snapshot, pod_class, rows) & is_apart(snapshot, pod_class, rows) & is_welcome(snapshot, pod_class, rows)
    )


def _affinity_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    reasons: Counter[str] = Counter()
    left = rows
    for reason, passes in ((NOT_NEAR, is_near), (NOT_APART, is_apart), (REPELLED, is_welcome)):
        passed = passes(snapshot, pod_class, left)
        reasons[reason] += int((~passed).sum())
        left = left[passed]
    return +reasons


INTER_POD_AFFINITY = Filter("InterPodAffinity", Scope.CLUSTER, _matches, _affinity_reasons)
