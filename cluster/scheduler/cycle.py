"""One decision: filter, score, take the best; and many decisions in one go.

The first few pods of a class are decided by asking every rule about every node. When more come, its nodes are put into
pools (`view`), and each further decision takes a few steps. A refusal is kept until something happens that could help.
The answers are the same in every case: the tests compare them with a plain reference.

Placing is assumed at once: the next decision sees it. Whether the master takes the binding is found out later and
elsewhere (`cluster.scheduler.assumed`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from cluster.scheduler import filters
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Filter, Refusal
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.rules import Rules
from cluster.scheduler.scoring import Score
from cluster.scheduler.settings import Weights
from cluster.scheduler.snapshot import Snapshot
from cluster.scheduler.tallies import Chosen, InNamespace
from cluster.scheduler.view import View

VIEWS_LIMIT = 128
"""So many classes have their nodes in pools; the one that was least recently placed has to begin anew."""
ANSWERS_LIMIT = 4096
"""Of so many classes it is remembered how many pods came, and why they were refused."""
ALONE = 2
"""So many pods of a class are decided one by one before its nodes are put into pools, which takes as long."""


class Dice(Protocol):
    """What is needed of `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to stop - 1."""
        ...


class Placement(NamedTuple):
    """The pod goes to this node."""

    node: str
    score: int
    """Weighted sum of the scores."""
    feasible: int
    """How many nodes fitted."""
    ties: int
    """How many of them had this score; `cluster.scheduler.ties` says which of them is taken."""


Stamp = tuple[int, ...]
"""What a refusal depends on."""


@dataclass(slots=True, eq=False)
class _Answer:
    """What is remembered of a class."""

    refusal: Refusal | None = None
    stamp: Stamp = ()
    alone: int = 0
    """How many pods were decided one by one since there were no pools (any more)."""


class Cycle:
    """Decides over a snapshot. The dice give the seed for ties; with it, the same state gives the same nodes."""

    def __init__(
        self,
        snapshot: Snapshot,
        weights: Weights,
        dice: Dice,
        *,
        without_filters: Collection[str] = (),
        more_filters: Sequence[Filter] = (),
        more_scores: Sequence[tuple[Score, int]] = (),
    ) -> None:
        self._snapshot = snapshot
        self._rules = Rules(
            weights,
            dice.randrange(1 << 32),
            without_filters=without_filters,
            more_filters=more_filters,
            more_scores=more_scores,
        )
        self._views: OrderedDict[PodClass, View] = OrderedDict()
        self._answers: OrderedDict[PodClass, _Answer] = OrderedDict()

    @property
    def rules(self) -> Rules:
        """By which it decides."""
        return self._rules

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Those that a node has to pass."""
        return self._rules.filters

    @property
    def seed(self) -> int:
        """Of the draws that decide ties."""
        return self._rules.ties.seed

    def decide(self, pod: PlacedPod) -> Placement | Refusal:
        """Picks a node and places the pod there in the snapshot, or says why there is none."""
        return self.decide_many(pod.pod_class, (pod,))[0]

    def decide_many(self, pod_class: PodClass, pods: Sequence[PlacedPod]) -> list[Placement | Refusal]:
        """The same as `decide` for one after the other of these pods, which are all of this class, in their order."""
        refusal = self._refused_before(pod_class)
        if refusal is not None:
            return [refusal] * len(pods)
        outcomes: list[Placement | Refusal] = []
        if self._brings_data(pod_class):
            outcomes += self._decide_one_by_one(pods[:1])  # from now on the others go where it went
        view = self._view(pod_class, len(pods)) if self._rules.is_incremental(pod_class) else None
        rest = pods[len(outcomes) :]
        return outcomes + (self._decide_one_by_one(rest) if view is None else self._decide_from_pools(view, rest))

    def decide_for(self, pod: PlacedPod, node: str) -> Placement | None:
        """Places the pod on this node, if it may go there: that of its nomination, which is compared to no other."""
        row = self._snapshot.row_of(node)
        if row is None or not filters.feasible(self._snapshot, pod.pod_class, np.array([row]), self._rules.filters)[0]:
            return None
        self._snapshot.place(pod, node)
        return Placement(node, 0, 1, 1)

    def refusal_of(self, pod_class: PodClass) -> Refusal | None:
        """What a pod of this class would be told now; None if it would find a node."""
        refusal = self._refused_before(pod_class)
        if refusal is not None:
            return refusal
        if filters.feasible(self._snapshot, pod_class, which=self._rules.filters).any():
            return None
        return self._refuse(pod_class)

    # -- by asking all rules

    def _decide_one_by_one(self, pods: Sequence[PlacedPod]) -> list[Placement | Refusal]:
        outcomes: list[Placement | Refusal] = []
        for pod in pods:
            outcome = self._decide_alone(pod)
            if isinstance(outcome, Refusal):  # and nothing has changed for those that are like it
                return outcomes + [outcome] * (len(pods) - len(outcomes))
            outcomes.append(outcome)
        return outcomes

    def _decide_alone(self, pod: PlacedPod) -> Placement | Refusal:
        snapshot, pod_class, rules = self._snapshot, pod.pod_class, self._rules
        rows = np.flatnonzero(filters.feasible(snapshot, pod_class, which=rules.filters))
        if not len(rows):
            return self._refuse(pod_class)
        total = rules.total(snapshot, pod_class, rows)
        best = int(total.max())
        ties = rows[total == best]
        node = snapshot.names[int(ties[rules.ties.keys(snapshot, ties).argmin()])]
        snapshot.place(pod, node)
        return Placement(node, best, len(rows), len(ties))

    def _brings_data(self, pod_class: PodClass) -> bool:
        """A data directory of the class is nowhere yet."""
        names = (f"{pod_class.namespace}/{name}" for name in pod_class.shape.directories)
        return not all(self._snapshot.directory_rows(name) for name in names)

    # -- from pools

    def _decide_from_pools(self, view: View, pods: Sequence[PlacedPod]) -> list[Placement | Refusal]:
        snapshot = self._snapshot
        taken = view.take(len(pods))
        rows = [how[0] for how in taken]
        snapshot.place_many(pods[: len(rows)], rows)
        view.has_placed(rows)
        names = snapshot.names
        outcomes: list[Placement | Refusal] = [
            Placement(names[row], score, feasible, ties) for row, score, feasible, ties in taken
        ]
        if len(rows) < len(pods):
            outcomes += [self._refuse(pods[0].pod_class)] * (len(pods) - len(rows))
        return outcomes

    def _view(self, pod_class: PodClass, pods: int) -> View | None:
        """The pools of a class; None if for so many pods it is not worth while to make any."""
        answer = self._answer(pod_class)
        view = self._views.pop(pod_class, None)
        if view is not None and not view.keeps_up():
            view, answer.alone = None, 0
        if view is None:
            answer.alone += pods
            if answer.alone <= ALONE:
                return None
            if len(self._views) >= VIEWS_LIMIT:
                self._views.popitem(last=False)
            view = View(self._snapshot, pod_class, self._rules)
        self._views[pod_class] = view
        return view

    # -- refusals

    def _refuse(self, pod_class: PodClass) -> Refusal:
        answer = self._answer(pod_class)
        answer.refusal = filters.refusal(self._snapshot, pod_class, self._rules.filters)
        answer.stamp = self._stamp(pod_class)
        return answer.refusal

    def _refused_before(self, pod_class: PodClass) -> Refusal | None:
        answer = self._answers.get(pod_class)
        if answer is None or answer.refusal is None or answer.stamp != self._stamp(pod_class):
            return None
        return answer.refusal

    def _stamp(self, pod_class: PodClass) -> Stamp:
        """Changes whenever something happens that could help the class. Pods that come help only those that want to be
        near them, or not too far ahead of them; to all others they make a refusal no better."""
        snapshot, shape, versions = self._snapshot, pod_class.shape, self._snapshot.versions
        stamp = [versions.generation, versions.nodes, versions.namespaces, snapshot.departures]
        if shape.directories:
            stamp.append(versions.directories)
        if shape.near:
            stamp.append(snapshot.tallies.of(Chosen(shape.near)).version)
        for constraint in shape.spread:
            if constraint.hard:
                stamp.append(snapshot.tallies.of(InNamespace(pod_class.namespace, constraint.selector)).version)
        return tuple(stamp)

    def _answer(self, pod_class: PodClass) -> _Answer:
        answer = self._answers.pop(pod_class, None)
        if answer is None:
            if len(self._answers) >= ANSWERS_LIMIT:
                self._answers.popitem(last=False)
            answer = _Answer()
        self._answers[pod_class] = answer
        return answer
