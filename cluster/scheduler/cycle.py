"""One decision: filter, score, take the best; and many decisions in one go.

Placing is assumed at once: the next decision sees it. Whether the master takes the binding is found out later and
elsewhere (`cluster.scheduler.assumed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.scheduler import filters, scoring
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Filter, Refusal
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.scoring import Score
from cluster.scheduler.settings import Weights
from cluster.scheduler.snapshot import Snapshot
from cluster.scheduler.ties import TieBreak


class Dice(Protocol):
    """What is needed of `random.Random`."""

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
    """How many of them had this score; `cluster.scheduler.ties` says which of them is taken."""


class Cycle:
    """Decides over a snapshot. The dice give the seed for ties; with it, the same state gives the same nodes."""

    def __init__(
        self,
        snapshot: Snapshot,
        weights: Weights,
        dice: Dice,
        which: tuple[Filter, ...] = filters.FILTERS,
        further_scores: tuple[tuple[Score, int], ...] = (),
    ) -> None:
        self._snapshot = snapshot
        self.filters = which
        """Those that a node has to pass."""
        self._scores = (*scoring.weighted(weights), *further_scores)
        self._ties = TieBreak(dice.randrange(1 << 32), packs=weights.packs)

    @property
    def seed(self) -> int:
        """Of the draws that decide ties."""
        return self._ties.seed

    def decide(self, pod: PlacedPod) -> Placement | Refusal:
        """Picks a node and places the pod there in the snapshot, or says why there is none."""
        snapshot, pod_class = self._snapshot, pod.pod_class
        rows = np.flatnonzero(filters.feasible(snapshot, pod_class, which=self.filters))
        if not len(rows):
            return filters.refusal(snapshot, pod_class, self.filters)
        total = np.zeros(len(rows), np.int64)
        for score, weight in self._scores:
            total += weight * score.of(snapshot, pod_class, rows)
        best = int(total.max())
        ties = rows[total == best]
        node = snapshot.names[int(ties[self._ties.keys(snapshot, ties).argmin()])]
        snapshot.place(pod, node)
        return Placement(node, best, len(rows), len(ties))

    def decide_many(self, pod_class: PodClass, pods: Sequence[PlacedPod]) -> list[Placement | Refusal]:
        """The same as `decide` for one after the other of these pods, which are all of this class, in their order."""
        return [self.decide(pod) for pod in pods]

    def decide_for(self, pod: PlacedPod, node: str) -> Placement | None:
        """Places the pod on this node, if it may go there: that of its nomination, which nobody else is compared to."""
        row = self._snapshot.row_of(node)
        if row is None or not filters.feasible(self._snapshot, pod.pod_class, np.array([row]), self.filters)[0]:
            return None
        self._snapshot.place(pod, node)
        return Placement(node, 0, 1, 1)

    def refusal_of(self, pod_class: PodClass) -> Refusal | None:
        """What a pod of this class would be told now; None if it would find a node."""
        if filters.feasible(self._snapshot, pod_class, which=self.filters).any():
            return None
        return filters.refusal(self._snapshot, pod_class, self.filters)
