"""How much each node is liked, by each score: from the snapshot to the formulas of `cluster.scheduler.scores`.

A score is given the rows that fit, all of them and no others, and answers from 0 to 100 for each; the weighted sum
decides. To add one: its function and a row in SCORES, its weight in `cluster.scheduler.settings`, and the numbers that
it compared in `cluster.scheduler.explain`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.scheduler import nodes, scores
from cluster.scheduler.dimensions import Dimension, liked, soft_spread
from cluster.scheduler.filters.base import Scope
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.settings import Weights
from cluster.scheduler.shape import Shape
from cluster.scheduler.snapshot import MEMORY, BoolArray, IntArray, Rows, Snapshot

Formula = Callable[[IntArray, IntArray], IntArray]
"""From cpu and memory that each node has, and cpu and memory that are in use with the pod, to a score."""


@dataclass(frozen=True, slots=True)
class Score:
    """One reason why a node is liked more than another."""

    name: str
    scope: Scope
    of: Callable[[Snapshot, PodClass, IntArray], IntArray]
    """For each of the rows, from 0 to 100; the rows are all that fit."""
    compares: bool = False
    """What it says of one row depends on which others fit."""
    formula: Formula | None = None
    """The same from a node's load, if it looks at nothing else."""


def load(snapshot: Snapshot, shape: Shape, rows: Rows) -> tuple[IntArray, IntArray]:
    """Cpu and memory of each row: what it has, and what is in use with the pod."""
    asked = np.array([shape.scored_cpu_milli, shape.scored_memory_bytes], np.int64)
    return snapshot.allocatable[rows][:, : MEMORY + 1], snapshot.scored[rows] + asked


def _of_load(name: str, formula: Formula) -> Score:
    return Score(
        name,
        Scope.LOAD,
        lambda snapshot, pod_class, rows: formula(*load(snapshot, pod_class.shape, rows)),
        formula=formula,
    )


def _taints(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
    return scores.taint_toleration(nodes.intolerable_taints(snapshot, pod_class.shape, rows))


def _node_affinity(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
    return scores.node_affinity(nodes.liking(snapshot, pod_class.shape, rows))


def _spread(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
    dimensions = soft_spread(snapshot, pod_class)
    if not dimensions:
        return np.zeros(len(rows), np.int64)
    ignored = is_ignored(pod_class, dimensions, rows)
    levels = [
        scores.Level(
            counts=dimension.values(rows),
            has=dimension.has(rows),
            different=different_domains(dimension, rows[~ignored]),
            max_skew=dimension.constraint.max_skew,
        )
        for dimension in dimensions
        if dimension.constraint is not None
    ]
    return scores.spread(levels, ignored)


def is_ignored(pod_class: PodClass, dimensions: Sequence[Dimension], rows: Rows) -> BoolArray:
    """Which rows soft spreading leaves out: with constraints of its own, a pod wants all their labels on a node."""
    has_all = np.ones(len(dimensions[0].codes[rows]), np.bool_)
    if pod_class.shape.spread:
        for dimension in dimensions:
            has_all &= dimension.codes[rows] >= 0
    return ~has_all


def different_domains(dimension: Dimension, rows: IntArray) -> int:
    """How many different domains the rows are in."""
    if dimension.per_node:
        return len(rows)
    codes = dimension.codes[rows]
    return int(np.count_nonzero(np.bincount(codes[codes >= 0])))


def pod_liking(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> IntArray:
    """Per row, the weights for and against it of preferred affinity to pods, summed."""
    total = np.zeros(len(snapshot.alive[rows]), np.int64)
    for dimension in liked(snapshot, pod_class):
        if any(tally.pods for tally, _ in dimension.sources):
            total += dimension.values(rows)
    return total


def _inter_pod_affinity(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
    return scores.inter_pod_affinity(pod_liking(snapshot, pod_class, rows))


LEAST_ALLOCATED = _of_load("LeastAllocated", scores.least_allocated)
MOST_ALLOCATED = _of_load("MostAllocated", scores.most_allocated)
BINPACK = _of_load("Binpack", scores.binpack)
BALANCED_ALLOCATION = _of_load("BalancedAllocation", scores.balanced_allocation)
TAINT_TOLERATION = Score("TaintToleration", Scope.NODE, _taints, compares=True)
NODE_AFFINITY = Score("NodeAffinity", Scope.NODE, _node_affinity, compares=True)
SPREAD = Score("Spread", Scope.CLUSTER, _spread, compares=True)
INTER_POD_AFFINITY = Score("InterPodAffinity", Scope.CLUSTER, _inter_pod_affinity, compares=True)


def weighted(weights: Weights) -> tuple[tuple[Score, int], ...]:
    """The scores that count, with their weights."""
    table = (
        (LEAST_ALLOCATED, weights.least_allocated),
        (MOST_ALLOCATED, weights.most_allocated),
        (BINPACK, weights.binpack),
        (BALANCED_ALLOCATION, weights.balanced_allocation),
        (TAINT_TOLERATION, weights.taint_toleration),
        (NODE_AFFINITY, weights.node_affinity),
        (SPREAD, weights.spread),
        (INTER_POD_AFFINITY, weights.inter_pod_affinity),
    )
    return tuple((score, weight) for score, weight in table if weight)
