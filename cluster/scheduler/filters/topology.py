"""topologySpreadConstraints with DoNotSchedule: no domain may get too far ahead of the emptiest.

    pods that match in the domain + 1 if the pod matches itself - pods in the emptiest domain <= maxSkew

A node without one of the labels is refused: it is in no domain.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from cluster.scheduler.dimensions import Dimension, hard_spread
from cluster.scheduler.filters.base import Filter, Scope
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot

MISMATCH = "node(s) didn't match pod topology spread constraints"
NO_LABEL = f"{MISMATCH} (missing required label)"


def is_even(dimension: Dimension, rows: Rows) -> BoolArray:
    """For rows that are in a domain, whether one more pod there is within the limit."""
    constraint = dimension.constraint
    assert constraint is not None
    counts = dimension.counts()
    skew = dimension.values(rows, counts) + dimension.step - dimension.least(counts)
    even: BoolArray = skew <= constraint.max_skew
    return even


def _is_spread(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    spread = np.ones(len(snapshot.alive[rows]), np.bool_)
    for dimension in hard_spread(snapshot, pod_class):
        spread &= dimension.has(rows) & is_even(dimension, rows)
    return spread


def _spread_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    """Each node for the first constraint that it fails."""
    reasons: Counter[str] = Counter()
    left = rows
    for dimension in hard_spread(snapshot, pod_class):
        has = dimension.has(left)
        reasons[NO_LABEL] += int((~has).sum())
        left = left[has]
        even = is_even(dimension, left)
        reasons[MISMATCH] += int((~even).sum())
        left = left[even]
    return +reasons


TOPOLOGY_SPREAD = Filter("PodTopologySpread", Scope.CLUSTER, _is_spread, _spread_reasons)
