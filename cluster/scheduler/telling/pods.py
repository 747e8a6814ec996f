"""What filters compared that look at pods elsewhere: even spreading, nearness and distance."""

from __future__ import annotations

from cluster.scheduler import dimensions
from cluster.scheduler.dimensions import Dimension
from cluster.scheduler.filters.affinity import may_begin
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import Snapshot
from cluster.scheduler.telling.base import Teller, plural, pods_text, term_text


def _value(snapshot: Snapshot, dimension: Dimension, code: int) -> str:
    """The value of the label that a domain's number stands for."""
    numbers = snapshot.label_column(dimension.key).numbers
    return next(value for value, number in numbers.items() if number == code)


class PodTopologySpread(Teller):
    """topologySpreadConstraints with DoNotSchedule."""

    filter = "PodTopologySpread"

    def __init__(self, snapshot: Snapshot, pod_class: PodClass) -> None:
        super().__init__(snapshot, pod_class)
        self._all = [(each, each.counts()) for each in dimensions.hard_spread(snapshot, pod_class)]

    def detail(self, row: int, passed: bool) -> str:
        """Per constraint: how many there with it, how many in the emptiest domain, and the limit."""
        return "; ".join(self._compared(dimension, row) for dimension, _ in self._all) or "no hard constraints"

    def remedy(self, row: int) -> str:
        """Label it, fill up the others, or allow more."""
        return "; and ".join(self._remedy(dimension, row) for dimension, _ in self._all if self._fails(dimension, row))

    def effort(self, row: int) -> float:
        """The further ahead, the more."""
        return sum(
            3.0 if dimension.codes[row] < 0 else 2.0 + 0.1 * min(self._excess(dimension, row), 10)
            for dimension, _ in self._all
            if self._fails(dimension, row)
        )

    def _numbers(self, dimension: Dimension, row: int) -> tuple[int, int]:
        """How many there would be in the row's domain, and how many there are in the emptiest."""
        counts = next(counts for each, counts in self._all if each is dimension)
        return int(counts[dimension.codes[row]]) + dimension.step, dimension.least(counts)

    def _excess(self, dimension: Dimension, row: int) -> int:
        there, least = self._numbers(dimension, row)
        assert dimension.constraint is not None
        return there - least - dimension.constraint.max_skew

    def _fails(self, dimension: Dimension, row: int) -> bool:
        return bool(dimension.codes[row] < 0) or self._excess(dimension, row) > 0

    def _compared(self, dimension: Dimension, row: int) -> str:
        if dimension.codes[row] < 0:
            return f"has no {dimension.key}"
        there, least = self._numbers(dimension, row)
        constraint = dimension.constraint
        assert constraint is not None
        domain = f"{dimension.key}={_value(self._snapshot, dimension, int(dimension.codes[row]))}"
        return (
            f"{domain}: {there} with it, {least} in the emptiest: ahead by {there - least}, at most"
            f" {constraint.max_skew}"
        )

    def _remedy(self, dimension: Dimension, row: int) -> str:
        node, key, constraint = self._name(row), dimension.key, dimension.constraint
        assert constraint is not None
        if dimension.codes[row] < 0:
            if not self._snapshot.label_column(key).numbers:
                return f"spreads over {key}, and no node has such a label: label the nodes, or spread over another one"
            return f"{node} has no label {key}: give it one, or take the constraint away"
        there, least = self._numbers(dimension, row)
        domain = f"{key}={_value(self._snapshot, dimension, int(dimension.codes[row]))}"
        text = (
            f"{domain} of {node} would have {there} {pods_text(constraint.selector)}, and the emptiest domain has"
            f" {least}: place some there, or raise maxSkew to {there - least}"
        )
        found = len(dimension.eligible())
        if found < constraint.min_domains:
            return f"{text}, or lower minDomains ({constraint.min_domains}; there are {found})"
        return text


class InterPodAffinity(Teller):
    """Required affinity and anti-affinity to pods, its own and that of others."""

    filter = "InterPodAffinity"

    def __init__(self, snapshot: Snapshot, pod_class: PodClass) -> None:
        super().__init__(snapshot, pod_class)
        near = dimensions.near(snapshot, pod_class)
        self._begins = may_begin(near)
        self._near = self._counted(near)
        self._apart = self._counted(dimensions.apart(snapshot, pod_class))
        self._repelled = self._counted(dimensions.repelled(snapshot, pod_class))

    def detail(self, row: int, passed: bool) -> str:
        """Of a node that passed, all terms; of another, those that it fails."""
        said = [self._near_text(*each, row) for each in self._near if passed or self._misses(*each, row)]
        said += [self._apart_text(*each, row) for each in self._apart if passed or self._count(*each, row)]
        said += [self._repelled_text(*each, row) for each in self._repelled if self._count(*each, row)]
        return "; ".join(said) or "minds no pods, and none there minds it"

    def remedy(self, row: int) -> str:
        """Bring pods, or let them go, or ask for less."""
        node, parts = self._name(row), []
        for each in self._near:
            if self._misses(*each, row):
                parts.append(self._near_remedy(*each, row))
        for dimension, counts in self._apart:
            if count := self._count(dimension, counts, row):
                parts.append(
                    f"wants no {self._term(dimension)} near, and {self._domain(dimension, row)} of {node} has {count}:"
                    " let them go, or ask for less in spec.affinity.podAntiAffinity"
                )
        for dimension, counts in self._repelled:
            if count := self._count(dimension, counts, row):
                parts.append(f"{self._against(dimension, count, row)} of {node}: let them go, or add a node elsewhere")
        return "; and ".join(parts)

    def effort(self, row: int) -> float:
        """The more pods are in the way, the more."""
        missing = sum(self._misses(*each, row) for each in self._near)
        against = sum(self._count(*each, row) for each in (*self._apart, *self._repelled))
        return 2.0 + missing + 0.1 * min(against, 20)

    def _counted(self, found: list[Dimension]) -> list[tuple[Dimension, list[int]]]:
        return [(dimension, dimension.counts().tolist()) for dimension in found]

    def _count(self, dimension: Dimension, counts: list[int], row: int) -> int:
        return counts[int(dimension.codes[row])]

    def _misses(self, dimension: Dimension, counts: list[int], row: int) -> bool:
        return bool(dimension.codes[row] < 0) or not (self._begins or self._count(dimension, counts, row))

    def _domain(self, dimension: Dimension, row: int) -> str:
        code = int(dimension.codes[row])
        return f"{dimension.key}={_value(self._snapshot, dimension, code)}" if code >= 0 else f"no {dimension.key}"

    def _term(self, dimension: Dimension) -> str:
        assert dimension.term is not None
        return term_text(dimension.term, self._class.namespace)

    def _near_text(self, dimension: Dimension, counts: list[int], row: int) -> str:
        if dimension.codes[row] < 0:
            return f"wants {self._term(dimension)} near by {dimension.key}, and has no such label"
        if self._begins:
            return f"wants {self._term(dimension)} near: is the first of them"
        there = self._count(dimension, counts, row) or "none"
        return f"wants {self._term(dimension)} near: {there} in {self._domain(dimension, row)}"

    def _apart_text(self, dimension: Dimension, counts: list[int], row: int) -> str:
        there = self._count(dimension, counts, row) or "none"
        return f"wants no {self._term(dimension)} near: {there} in {self._domain(dimension, row)}"

    def _repelled_text(self, dimension: Dimension, counts: list[int], row: int) -> str:
        return self._against(dimension, self._count(dimension, counts, row), row)

    def _against(self, dimension: Dimension, count: int, row: int) -> str:
        who = f"{plural(count, 'pod')} {'wants' if count == 1 else 'want'}"
        return f"{who} no {self._term(dimension)} in {self._domain(dimension, row)}"

    def _near_remedy(self, dimension: Dimension, counts: list[int], row: int) -> str:
        node, key = self._name(row), dimension.key
        if dimension.codes[row] < 0:
            if not self._snapshot.label_column(key).numbers:
                return (
                    f"wants {self._term(dimension)} near by {key}, and no node has such a label: label the nodes, or"
                    " choose another topologyKey"
                )
            return f"{node} has no label {key}, by which it wants {self._term(dimension)} near: give it one"
        if not any(counts):
            return (
                f"wants {self._term(dimension)} near, and there are none: start one, or ask for less in spec.affinity"
            )
        return (
            f"wants {self._term(dimension)} near, and none is in {self._domain(dimension, row)} of {node}: make room"
            " where they are, or start one there"
        )
