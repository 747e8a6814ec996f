"""By which filters and scores pods are placed, and how ties are decided: what a cycle is told once.

Beside Kubernetes' there may be those of plug-ins. As long as these look at the node alone, pods of a class are placed
from pools (`cluster.scheduler.pools`); otherwise every decision is made anew, which gives the same answers and takes
longer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cluster.scheduler.axes import MAX_BASE
from cluster.scheduler.choosing import CompareWeights
from cluster.scheduler.filters import FILTERS, Filter, Scope, feasible
from cluster.scheduler.filters.affinity import INTER_POD_AFFINITY
from cluster.scheduler.filters.load import DATA_DIRECTORIES, HOST_PORTS, RESOURCES
from cluster.scheduler.filters.node import TAINT_TOLERATION
from cluster.scheduler.filters.topology import TOPOLOGY_SPREAD
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.scores import BEST
from cluster.scheduler.scoring import Score, weighted
from cluster.scheduler.settings import Weights
from cluster.scheduler.snapshot import ALL_ROWS, BoolArray, IntArray, Snapshot
from cluster.scheduler.ties import TieBreak


class Rules:
    """Filters in their order, scores with their weights, and the order of ties."""

    def __init__(
        self,
        weights: Weights,
        seed: int,
        *,
        without_filters: Collection[str] = (),
        more_filters: Sequence[Filter] = (),
        more_scores: Sequence[tuple[Score, int]] = (),
    ) -> None:
        """`without_filters`: names of Kubernetes' own that do not count; `more_filters` come after those that do.

        Raises ValueError if the weights are too great in sum.
        """
        left_out = tuple(each for each in FILTERS if each.name in without_filters)
        self.filters = (*(each for each in FILTERS if each not in left_out), *more_filters)
        self._own = weighted(weights)
        self.scores = (*self._own, *more_scores)
        self.ties = TieBreak(seed, packs=weights.packs)
        self.compare = CompareWeights(
            taints=weights.taint_toleration,
            nodes=weights.node_affinity,
            spread=weights.spread,
            pods=weights.inter_pod_affinity,
        )
        self._foreseeable = (
            {HOST_PORTS.name, RESOURCES.name, DATA_DIRECTORIES.name}.isdisjoint(without_filters)
            and all(each.scope is Scope.NODE for each in more_filters)
            and all(score.scope is Scope.NODE and not score.compares for score, _ in more_scores)
        )
        self._minds_taints = TAINT_TOLERATION in self.filters
        self.spreads = TOPOLOGY_SPREAD in self.filters
        """Constraints with DoNotSchedule refuse nodes."""
        self.keeps_apart = INTER_POD_AFFINITY in self.filters
        """Required affinity to pods refuses nodes."""
        self._more = tuple(more_scores)
        self._formulas = [(score.formula, weight) for score, weight in self.scores if score.formula is not None]
        self._node_filters = tuple(each for each in self.filters if each.scope is Scope.NODE)
        base = sum(weight for _, weight in (*self._formulas, *self._more))
        if BEST * base > MAX_BASE:
            raise ValueError(
                f"the weights of scores that look at one node are {base} in sum, at most {MAX_BASE // BEST}"
            )

    def is_incremental(self, pod_class: PodClass) -> bool:
        """What placing one pod of the class changes is known without asking the rules again."""
        if self._minds_taints:
            return self._foreseeable
        # A pod on a node whose taints it does not tolerate is not counted by a constraint that honors taints.
        return self._foreseeable and not any(each.honor_taints for each in pod_class.shape.spread)

    def is_suitable(self, snapshot: Snapshot, pod_class: PodClass) -> BoolArray:
        """Per row, whether the node is one for the class, whatever pods are on it."""
        return feasible(snapshot, pod_class, ALL_ROWS, self._node_filters)

    def fixed_score(self, snapshot: Snapshot, pod_class: PodClass) -> IntArray:
        """Per row, the weighted sum of the scores that look at the node alone."""
        total = np.zeros(len(snapshot.names), np.int64)
        rows = np.flatnonzero(snapshot.alive)
        for score, weight in self._more:
            total[rows] += weight * judged(score, snapshot, pod_class, rows)
        return total

    def load_score(self, loads: IntArray) -> IntArray:
        """The weighted sum of the scores of loads: cpu and memory of the node, cpu and memory in use with the pod."""
        total = np.zeros(len(loads), np.int64)
        for formula, weight in self._formulas:
            total += weight * formula(loads[:, :2], loads[:, 2:])
        return total

    def total(self, snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
        """The weighted sum of all scores; the rows are all that fit."""
        total = np.zeros(len(rows), np.int64)
        for score, weight in self._own:
            total += weight * score.of(snapshot, pod_class, rows)
        for score, weight in self._more:
            total += weight * judged(score, snapshot, pod_class, rows)
        return total


def judged(score: Score, snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> IntArray:
    """What a score says, from 0 to 100: a plug-in that says more or less is cut."""
    return np.clip(score.of(snapshot, pod_class, rows), 0, BEST)
