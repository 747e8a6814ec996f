"""In which ways pods elsewhere matter for where a pod may go, or is liked: one dimension for each.

A dimension counts pods per domain (the nodes with one value of a label, such as a zone), and every node has the count
of its domain. All rules about other pods are read from such counts:

    even spreading    count + 1 may be ahead of the emptiest domain by maxSkew           hard_spread
    near              a pod of the affinity is in the domain                             near
    apart             no pod of the anti-affinity is there, and none that is against us  apart, repelled
    liked spreading   the fewer the better                                               soft_spread
    liked nearness    the more weight the better                                         liked

`step` is what one more pod of the same class adds to the count of its domain: with it, the next decision about the
class needs no counting. Who is counted is Kubernetes' choice (podtopologyspread, interpodaffinity). One thing is more
than there: without constraints of its own, a pod of a service or controller is spread over racks too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from cluster.api.selectors import PodTerm
from cluster.scheduler import nodes
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import SpreadConstraint
from cluster.scheduler.snapshot import ALL_ROWS, BoolArray, IntArray, Rows, Snapshot
from cluster.scheduler.tallies import Bears, Chosen, InNamespace, Leans, Tally, leaning_terms

HOST_LABEL = "kubernetes.io/hostname"
ZONE_LABEL = "topology.kubernetes.io/zone"
RACK_LABEL = "podium.dev/rack"
DEFAULT_SPREADING = ((HOST_LABEL, 3), (ZONE_LABEL, 5), (RACK_LABEL, 5))
"""Key and maxSkew of Kubernetes' system defaults for soft spreading; and the rack, as the zone."""


@dataclass(slots=True, eq=False)
class Dimension:
    """How many pods of some interest are in the domain of each node."""

    key: str
    """The label of nodes that makes the domains."""
    sources: tuple[tuple[Tally, int], ...]
    """What is counted, and what each counts for."""
    step: int
    """What one more pod of the class adds to its domain."""
    codes: IntArray
    """Per row, the number of its domain; -1: it is in none."""
    counted: BoolArray
    """Per row, whether its pods count."""
    per_node: bool = False
    """Every node counts for itself, whatever its label."""
    constraint: SpreadConstraint | None = None
    """For spreading."""
    term: PodTerm | None = None
    """For near, apart and repelled."""

    def counts(self) -> IntArray:
        """Per domain (per row, if every node counts for itself); one more entry at the end, for nodes in none: 0."""
        own = self.own(ALL_ROWS)
        if self.per_node:
            return np.append(own, 0)
        where = self.counted & (self.codes >= 0)
        size = int(self.codes.max(initial=-1)) + 1
        counts = np.bincount(self.codes[where], weights=own[where].astype(np.float64), minlength=size + 1)
        return counts.astype(np.int64)

    def values(self, rows: Rows, counts: IntArray | None = None) -> IntArray:
        """For each of the rows, the count of its domain; 0 if it is in none."""
        if self.per_node:
            return self.own(rows)
        return (self.counts() if counts is None else counts)[self.codes[rows]]

    def own(self, rows: Rows) -> IntArray:
        """For each of the rows, what its own pods add to the count of its domain."""
        total = np.zeros(len(self.codes[rows]), np.int64)
        for tally, factor in self.sources:
            if tally.pods:
                total += factor * tally.counts[rows]
        return total if self.per_node else np.where(self.counted[rows], total, 0)

    def has(self, rows: Rows) -> BoolArray:
        """Which of the rows are in a domain."""
        codes = self.codes[rows]
        return np.ones(len(codes), np.bool_) if self.per_node else codes >= 0

    def least(self, counts: IntArray) -> int:
        """The count of the emptiest domain that counts; 0 while there are too few domains."""
        there = self.eligible()
        constraint = self.constraint
        if not len(there) or (constraint is not None and len(there) < constraint.min_domains):
            return 0
        return int(counts[there].min())

    def eligible(self) -> IntArray:
        """The numbers of the domains that have a node that counts."""
        return np.flatnonzero(np.bincount(self.codes[self.counted & (self.codes >= 0)]))


# -- spreading


def hard_spread(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per constraint with DoNotSchedule. Only nodes with all their labels count."""
    return _spread(snapshot, pod_class, [each for each in pod_class.shape.spread if each.hard])


def soft_spread(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per constraint with ScheduleAnyway; of a pod without any constraint, those of the default spreading."""
    if pod_class.shape.spread:
        return _spread(snapshot, pod_class, [each for each in pod_class.shape.spread if not each.hard])
    group = snapshot.selectors.group_of(pod_class)
    if group is None:
        return []
    counted = snapshot.alive & nodes.is_allowed(snapshot, pod_class.shape, ALL_ROWS)
    return [
        _spread_dimension(snapshot, pod_class, SpreadConstraint(key, skew, False, group.selector), group, counted)
        for key, skew in DEFAULT_SPREADING
        if key == HOST_LABEL or snapshot.label_column(key).numbers
    ]


def _spread(snapshot: Snapshot, pod_class: PodClass, constraints: Sequence[SpreadConstraint]) -> list[Dimension]:
    if not constraints:
        return []
    labelled = snapshot.alive.copy()
    for constraint in constraints:
        labelled &= snapshot.label_column(constraint.topology_key).codes >= 0
    shape = pod_class.shape
    allowed = nodes.is_allowed(snapshot, shape, ALL_ROWS) if any(c.honor_affinity for c in constraints) else labelled
    tolerable = nodes.is_tolerable(snapshot, shape, ALL_ROWS) if any(c.honor_taints for c in constraints) else labelled
    dimensions = []
    for constraint in constraints:
        counted = labelled & allowed if constraint.honor_affinity else labelled
        if constraint.honor_taints:
            counted = counted & tolerable
        interest = InNamespace(pod_class.namespace, constraint.selector)
        dimensions.append(_spread_dimension(snapshot, pod_class, constraint, interest, counted))
    return dimensions


def _spread_dimension(
    snapshot: Snapshot, pod_class: PodClass, constraint: SpreadConstraint, interest: InNamespace, counted: BoolArray
) -> Dimension:
    return Dimension(
        key=constraint.topology_key,
        sources=((snapshot.tallies.of(interest), 1),),
        step=interest.weight(pod_class, snapshot.tallies.namespaces),
        codes=snapshot.label_column(constraint.topology_key).codes,
        counted=counted,
        per_node=not constraint.hard and constraint.topology_key == HOST_LABEL,
        constraint=constraint,
    )


# -- affinity


def near(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per required affinity term. A pod counts only if all the terms mean it."""
    terms = pod_class.shape.near
    if not terms:
        return []
    tally = snapshot.tallies.of(Chosen(terms))
    step = tally.interest.weight(pod_class, snapshot.tallies.namespaces)
    return [_affinity(snapshot, term.topology_key, [(tally, 1)], step, term) for term in terms]


def apart(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per required anti-affinity term."""
    tallies = snapshot.tallies
    return [
        _affinity(
            snapshot,
            term.topology_key,
            [(tallies.of(Chosen((term,))), 1)],
            int(tallies.namespaces.mean(term, pod_class)),
            term,
        )
        for term in pod_class.shape.apart
    ]


def repelled(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per required anti-affinity term of other pods that means this one; its own included, for those to come."""
    tallies = snapshot.tallies
    return [
        _affinity(snapshot, term.topology_key, [(tallies.of(Bears(term)), 1)], pod_class.shape.apart.count(term), term)
        for term in repelling_terms(snapshot, pod_class)
    ]


def liked(snapshot: Snapshot, pod_class: PodClass) -> list[Dimension]:
    """One per topology key of preferred terms: its own, and those of other pods that speak for it or against it."""
    tallies = snapshot.tallies
    mean = tallies.namespaces.mean
    found: list[tuple[str, Tally, int, int]] = []
    for weight, term in pod_class.shape.liked_pods:
        tally = tallies.of(Chosen((term,)))
        found.append((term.topology_key, tally, weight, weight * mean(term, pod_class)))
    for term in speaking_terms(snapshot, pod_class):
        leans = Leans(term)
        found.append((term.topology_key, tallies.of(leans), 1, leans.weight(pod_class, tallies.namespaces)))
    found.sort(key=lambda each: each[0])
    dimensions = []
    for key, group in groupby(found, lambda each: each[0]):
        of_key = list(group)
        sources = [(tally, factor) for _, tally, factor, _ in of_key]
        dimensions.append(_affinity(snapshot, key, sources, sum(step for *_, step in of_key), None))
    return dimensions


def repelling_terms(snapshot: Snapshot, pod_class: PodClass) -> list[PodTerm]:
    """The anti-affinity terms of pods that are there, or of the class itself, that mean the class."""
    own = dict.fromkeys(pod_class.shape.apart)
    return _meaning(snapshot, pod_class, {**own, **snapshot.tallies.repelling})


def speaking_terms(snapshot: Snapshot, pod_class: PodClass) -> list[PodTerm]:
    """The terms by which pods that are there, or of the class itself, speak for or against the class."""
    own = dict.fromkeys(term for _, term in leaning_terms(pod_class))
    return _meaning(snapshot, pod_class, {**own, **snapshot.tallies.leaning})


def _meaning(snapshot: Snapshot, pod_class: PodClass, terms: Iterable[PodTerm]) -> list[PodTerm]:
    namespaces = snapshot.tallies.namespaces
    return [term for term in terms if namespaces.mean(term, pod_class)]


def _affinity(
    snapshot: Snapshot, key: str, sources: Sequence[tuple[Tally, int]], step: int, term: PodTerm | None
) -> Dimension:
    return Dimension(
        key=key,
        sources=tuple(sources),
        step=step,
        codes=snapshot.label_column(key).codes,
        counted=snapshot.alive,
        term=term,
    )
