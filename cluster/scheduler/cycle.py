"""One decision: filter, score, pick among the best with dice; and many decisions in one go.

For each class of pods there is a view: the mask of nodes that fit and the part of the score that
depends on one node alone. When a pod is placed, one row changes, and every view catches up with the rows that changed
since it was last used. So the thousandth replica costs a few operations over arrays, and gets the same answer as if
everything had been computed anew (the tests compare with a plain reference).

Placing is assumed at once: the next decision sees it. Whether the master takes the binding is found out later and
elsewhere (`cluster.scheduler.assumed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.scheduler import filters, scores
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Refusal
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.settings import Weights
from cluster.scheduler.shape import tolerates
from cluster.scheduler.snapshot import ALL_ROWS, MEMORY, BoolArray, IntArray, Rows, Snapshot
from cluster.scheduler.spread import GroupKey, SpreadSelectors

VIEWS_LIMIT = 512
"""So many classes are kept computed; the least recently used one is dropped and computed anew when it comes again."""


class Dice(Protocol):
    """What a tie needs of `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to stop - 1."""
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """The pod goes to this node."""

    node: str
    score: int
    """Weighted sum of the scores."""
    feasible: int
    """How many nodes fitted."""
    ties: int
    """How many of them had this score; the dice picked one."""


class _View:
    """What one class of pods sees. Arrays have one entry per row."""

    __slots__ = (
        "base",
        "candidates",
        "feasible",
        "generation",
        "intolerable",
        "pod_class",
        "position",
        "refusal",
        "suitable",
    )

    def __init__(self, pod_class: PodClass) -> None:
        self.pod_class = pod_class
        self.generation = -1
        self.position = 0
        self.suitable: BoolArray = np.zeros(0, np.bool_)
        """What the filters say that look at the node alone, whatever is on it."""
        self.feasible: BoolArray = np.zeros(0, np.bool_)
        self.base: IntArray = np.zeros(0, np.int64)
        self.intolerable: IntArray = np.zeros(0, np.int64)
        self.candidates: IntArray = np.zeros(0, np.int64)
        """The feasible rows, ascending."""
        self.refusal: Refusal | None = None
        """Why nothing fits; kept until a row changes."""

    def refresh(self, snapshot: Snapshot, weights: Weights) -> None:
        """Catches up with the snapshot."""
        if self.position == snapshot.position and self.generation == snapshot.generation:
            return
        changed = snapshot.changed_since(self.position)
        self.position = snapshot.position
        self.refusal = None
        if changed is None or self.generation != snapshot.generation:
            self._start_over(snapshot)
            nodes: Rows = ALL_ROWS
            rows: Rows = ALL_ROWS
        else:
            nodes, rows = changed.nodes, changed.rows
        pod_class = self.pod_class
        if nodes is ALL_ROWS or len(changed.nodes if changed else ()):
            self.suitable[nodes] = filters.feasible(snapshot, pod_class, nodes, filters.NODE_FILTERS)
            self.intolerable[nodes] = intolerable_taints(snapshot, pod_class, nodes)
        self.base[rows] = base_score(snapshot, pod_class, rows, weights)
        before = self.feasible[rows]
        after = self.suitable[rows] & filters.feasible(snapshot, pod_class, rows, filters.LOAD_FILTERS)
        if not np.array_equal(before, after):
            self.feasible[rows] = after
            self.candidates = np.flatnonzero(self.feasible)

    def _start_over(self, snapshot: Snapshot) -> None:
        self.generation = snapshot.generation
        size = len(snapshot.names)
        self.suitable = np.zeros(size, np.bool_)
        self.feasible = np.zeros(size, np.bool_)
        self.base = np.zeros(size, np.int64)
        self.intolerable = np.zeros(size, np.int64)
        self.candidates = np.zeros(0, np.int64)


def base_score(snapshot: Snapshot, pod_class: PodClass, rows: Rows, weights: Weights) -> IntArray:
    """The weighted scores that look at nothing but the node itself."""
    allocatable = snapshot.allocatable[rows, : MEMORY + 1]
    used = snapshot.scored[rows] + np.array(
        [pod_class.shape.scored_cpu_milli, pod_class.shape.scored_memory_bytes], np.int64
    )
    total: IntArray = weights.least_allocated * scores.least_allocated(allocatable, used)
    return total + weights.balanced_allocation * scores.balanced_allocation(allocatable, used)


def intolerable_taints(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> IntArray:
    """Per row, how many PreferNoSchedule taints the pod does not tolerate."""
    per_set = np.array(
        [
            sum(
                taint.effect == "PreferNoSchedule" and not tolerates(pod_class.shape.tolerations, taint)
                for taint in taints
            )
            for taints in snapshot.taint_sets
        ],
        np.int64,
    )
    return per_set[snapshot.taint_set[rows]]


def spread_score(snapshot: Snapshot, group: GroupKey | None, candidates: IntArray) -> IntArray:
    """The spreading score of candidate rows; all the same if the pod is of no group."""
    if group is None:
        return np.zeros(len(candidates), np.int64)
    counts = snapshot.group(group).counts
    domains = []
    for label in scores.DOMAIN_LABELS:
        column = snapshot.label_column(label)
        if column.numbers:
            has = column.codes >= 0
            per_domain = np.bincount(
                column.codes[has], weights=counts[has].astype(np.float64), minlength=len(column.numbers)
            )
            domains.append(scores.Domain(column.codes[candidates], per_domain.astype(np.int64)))
    return scores.spread(counts[candidates], domains)


class Cycle:
    """Decides over a snapshot. The dice decide ties only; the same dice and the same history give the same nodes."""

    def __init__(self, snapshot: Snapshot, selectors: SpreadSelectors, weights: Weights, dice: Dice) -> None:
        self._snapshot = snapshot
        self._selectors = selectors
        self._weights = weights
        self._dice = dice
        self._views: dict[PodClass, _View] = {}

    def decide(self, pod: PlacedPod) -> Placement | Refusal:
        """Picks a node and places the pod there in the snapshot, or says why there is none."""
        view = self._view(pod.pod_class)
        candidates = view.candidates
        if not len(candidates):
            return self._refusal(view)
        group = self._selectors.group_of(pod.pod_class)
        total = total_score(self._snapshot, self._weights, view.base, view.intolerable, group, candidates)
        best = total.max()
        ties = candidates[total == best]
        row = int(ties[self._dice.randrange(len(ties)) if len(ties) > 1 else 0])
        node = self._snapshot.names[row]
        self._snapshot.place(pod, node)
        return Placement(node, int(best), len(candidates), len(ties))

    def decide_many(self, pod_class: PodClass, pods: Sequence[PlacedPod]) -> list[Placement | Refusal]:
        """The same as `decide` for one after the other of these pods, which are all of this class, in their order."""
        return [self.decide(pod) for pod in pods]

    def refused_by(self, pod_class: PodClass) -> frozenset[str] | None:
        """The filters that refuse a pod of this class now; None if it would find a node."""
        view = self._view(pod_class)
        return None if len(view.candidates) else self._refusal(view).filters

    def _refusal(self, view: _View) -> Refusal:
        if view.refusal is None:
            view.refusal = filters.refusal(self._snapshot, view.pod_class)
        return view.refusal

    def _view(self, pod_class: PodClass) -> _View:
        view = self._views.pop(pod_class, None)
        if view is None:
            if len(self._views) >= VIEWS_LIMIT:
                del self._views[next(iter(self._views))]
            view = _View(pod_class)
        self._views[pod_class] = view
        view.refresh(self._snapshot, self._weights)
        return view


def total_score(
    snapshot: Snapshot,
    weights: Weights,
    base: IntArray,
    intolerable: IntArray,
    group: GroupKey | None,
    candidates: IntArray,
) -> IntArray:
    """The weighted sum of all scores for candidate rows; `base` and `intolerable` have one entry per row."""
    total: IntArray = base[candidates] + weights.taint_toleration * scores.taint_toleration(intolerable[candidates])
    if group is not None:
        total = total + weights.spread * spread_score(snapshot, group, candidates)
    return total
