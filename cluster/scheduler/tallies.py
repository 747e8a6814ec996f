"""How many of the pods on each node matter to somebody: one array of counts per question, kept current.

A question (`Interest`) is asked about classes of pods, not about pods: what does one pod of this class count for you?
The answer holds for all pods of the class, so it is asked once per pair, and from then on a pod that comes or goes
costs one addition per tally that minds it.

    InNamespace   pods that spreading counts
    Chosen        pods that the affinity or anti-affinity of the pod to be placed means
    Bears         pods that have this very term as a required anti-affinity: they keep others away
    Leans         pods whose affinity speaks by this very term for others or against them, by its weight

The last two are the symmetry of Kubernetes' InterPodAffinity; `repelling` and `leaning` say which terms there are to
ask about. Pods on their way out count for affinity, and don't for spreading, as in Kubernetes. Bounded: the tally that
was least recently asked for is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.api.labels import Selector
from cluster.api.selectors import PodTerm
from cluster.scheduler.podclass import PodClass

IntArray = NDArray[np.int64]

TALLIES_LIMIT = 1024
"""So many questions are kept answered; another one makes the least recently asked be dropped."""

HARD_AFFINITY_WEIGHT = 1
"""How much a required affinity of a pod that is there speaks for the pod that it is affine to. Kubernetes' default."""


class Namespaces:
    """The labels of namespaces; one that was not heard of has none."""

    def __init__(self) -> None:
        self._labels: dict[str, Mapping[str, str]] = {}
        self._asked: set[str] = set()
        self.version = 0
        """Grows whenever labels change that somebody has asked for."""

    def mean(self, term: PodTerm, pod_class: PodClass) -> bool:
        """Whether a term means pods of this class."""
        namespace = pod_class.namespace
        if term.namespace_selector.is_nothing:
            return namespace in term.namespaces and term.selector.matches(pod_class.label_map)
        self._asked.add(namespace)
        return term.matches(pod_class.label_map, namespace, self._labels.get(namespace, {}))

    def set(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """A namespace has these labels, or is gone (None). Whether an answer that was given before is another now."""
        before = self._labels.pop(name, {})
        if labels is not None:
            self._labels[name] = labels
        matters = name in self._asked and before != (labels or {})
        self.version += matters
        return matters


class Interest(Protocol):
    """A question about the pods on nodes. Hashable: equal questions share a tally."""

    @property
    def living_only(self) -> bool:
        """Pods on their way out do not count."""
        ...

    def weight(self, pod_class: PodClass, namespaces: Namespaces) -> int:
        """What one pod of the class counts for; 0 if it does not matter."""
        ...


@dataclass(frozen=True, slots=True)
class InNamespace:
    """Pods of one namespace by their labels, as spreading counts them."""

    namespace: str
    selector: Selector

    @property
    def living_only(self) -> bool:
        """Spreading does not count pods on their way out."""
        return True

    def weight(self, pod_class: PodClass, namespaces: Namespaces) -> int:
        """1 if it is selected."""
        return int(pod_class.namespace == self.namespace and self.selector.matches(pod_class.label_map))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Pods that every one of these terms means."""

    terms: tuple[PodTerm, ...]

    @property
    def living_only(self) -> bool:
        """Affinity counts every pod that is on a node."""
        return False

    def weight(self, pod_class: PodClass, namespaces: Namespaces) -> int:
        """1 if all of them mean it."""
        return int(all(namespaces.mean(term, pod_class) for term in self.terms))


@dataclass(frozen=True, slots=True)
class Bears:
    """Pods that have this term as a required anti-affinity."""

    term: PodTerm

    @property
    def living_only(self) -> bool:
        """Affinity counts every pod that is on a node."""
        return False

    def weight(self, pod_class: PodClass, namespaces: Namespaces) -> int:
        """How often it has it."""
        return pod_class.shape.apart.count(self.term)


@dataclass(frozen=True, slots=True)
class Leans:
    """Pods whose affinity speaks by this term."""

    term: PodTerm

    @property
    def living_only(self) -> bool:
        """Affinity counts every pod that is on a node."""
        return False

    def weight(self, pod_class: PodClass, namespaces: Namespaces) -> int:
        """How much it speaks for a pod that the term means, or (below 0) against it."""
        return sum(weight for weight, term in leaning_terms(pod_class) if term == self.term)


def leaning_terms(pod_class: PodClass) -> Iterator[tuple[int, PodTerm]]:
    """The terms by which a pod that is there speaks for or against others, with their weights."""
    yield from ((HARD_AFFINITY_WEIGHT, term) for term in pod_class.shape.near)
    yield from pod_class.shape.liked_pods


@dataclass(slots=True, eq=False)
class Tally:
    """The answer to one question, per row. It stays current until it is dropped (`live` is False then)."""

    interest: Interest
    counts: IntArray
    version: int
    """Another one whenever a count changes, greater than any before, of this tally or another."""
    pods: int = 0
    """How many pods matter, on whatever row."""
    live: bool = True


@dataclass(slots=True, eq=False)
class _Placed:
    """All pods of one class that have a node, apart for those that are on their way out."""

    rows: Counter[int] = field(default_factory=Counter)
    tallies: list[tuple[Tally, int]] = field(default_factory=list)


class Tallies:
    """Keeps count of the pods on rows, by class, and of the tallies that were asked for."""

    def __init__(self, rows: int) -> None:
        self.namespaces = Namespaces()
        self.repelling: Counter[PodTerm] = Counter()
        """The required anti-affinities of pods that are there, each with how many classes have it."""
        self.leaning: Counter[PodTerm] = Counter()
        """The terms by which pods that are there speak for or against others."""
        self.terms_version = 0
        """Grows whenever one of these two gets another term, or loses one."""
        self._size = rows
        self._placed: dict[tuple[PodClass, bool], _Placed] = {}
        self._tallies: dict[Interest, Tally] = {}
        self._counted_for = 0
        self._version = 0

    def of(self, interest: Interest) -> Tally:
        """The tally of a question."""
        if self.namespaces.version != self._counted_for:
            self._counted_for = self.namespaces.version
            self._forget()
        tally = self._tallies.pop(interest, None)
        if tally is None:
            if len(self._tallies) >= TALLIES_LIMIT:
                self._drop(next(iter(self._tallies)))
            tally = Tally(interest, np.zeros(self._size, np.int64), self._next_version())
            for (pod_class, terminating), placed in self._placed.items():
                weight = self._weight(interest, pod_class, terminating)
                if weight:
                    placed.tallies.append((tally, weight))
                    for row, count in placed.rows.items():
                        tally.counts[row] += weight * count
                        tally.pods += count
        self._tallies[interest] = tally
        return tally

    def add(self, pod_class: PodClass, terminating: bool, row: int, sign: int) -> None:
        """A pod of this class has come to a row (1) or left it (-1)."""
        placed = self._entry(pod_class, terminating)
        placed.rows[row] += sign
        if not placed.rows[row]:
            del placed.rows[row]
        for tally, weight in placed.tallies:
            tally.counts[row] += sign * weight
            tally.pods += sign
            tally.version = self._next_version()
        if not placed.rows:
            del self._placed[pod_class, terminating]
            self._count_terms(pod_class, -1)

    def add_many(self, pod_class: PodClass, rows: IntArray, counts: IntArray) -> None:
        """So many pods of this class have come to each of these rows, which are all different."""
        placed = self._entry(pod_class, False)
        placed.rows.update(dict(zip(rows.tolist(), counts.tolist(), strict=True)))
        for tally, weight in placed.tallies:
            tally.counts[rows] += weight * counts
            tally.pods += int(counts.sum())
            tally.version = self._next_version()

    def grow(self, by: int) -> None:
        """There are so many rows more."""
        self._size += by
        for tally in self._tallies.values():
            tally.counts = np.concatenate([tally.counts, np.zeros(by, np.int64)])

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _entry(self, pod_class: PodClass, terminating: bool) -> _Placed:
        placed = self._placed.get((pod_class, terminating))
        if placed is None:
            placed = self._placed[pod_class, terminating] = _Placed()
            for interest, tally in self._tallies.items():
                weight = self._weight(interest, pod_class, terminating)
                if weight:
                    placed.tallies.append((tally, weight))
            self._count_terms(pod_class, 1)
        return placed

    def _weight(self, interest: Interest, pod_class: PodClass, terminating: bool) -> int:
        if terminating and interest.living_only:
            return 0
        return interest.weight(pod_class, self.namespaces)

    def _count_terms(self, pod_class: PodClass, sign: int) -> None:
        if pod_class.shape.minds_pods:
            self._count(self.repelling, pod_class.shape.apart, sign)
            self._count(self.leaning, (term for _, term in leaning_terms(pod_class)), sign)

    def _count(self, terms: Counter[PodTerm], of: Iterable[PodTerm], sign: int) -> None:
        for term in of:
            terms[term] += sign
            if terms[term] == (1 if sign > 0 else 0):
                self.terms_version += 1
            if not terms[term]:
                del terms[term]

    def _drop(self, interest: Interest) -> None:
        tally = self._tallies.pop(interest)
        tally.live = False
        for placed in self._placed.values():
            placed.tallies = [each for each in placed.tallies if each[0] is not tally]

    def _forget(self) -> None:
        """Other pods may matter now: all is counted afresh when it is asked for."""
        for tally in self._tallies.values():
            tally.live = False
        self._tallies.clear()
        for placed in self._placed.values():
            placed.tallies.clear()
