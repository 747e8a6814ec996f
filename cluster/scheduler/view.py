"""What one class of pods sees of the snapshot: its nodes in pools, kept up with what changes.

Building the pools looks at every node and costs a few milliseconds for five thousand of them; after that only the rows
that changed are looked at again (the snapshot's journal says which), and counts of domains are read anew when their
tallies have moved. What the class itself places the pools know already. A change of a node, or of what is asked about
other pods, makes the pools be built afresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.api.selectors import PodTerm
from cluster.scheduler import dimensions, nodes
from cluster.scheduler.dimensions import Dimension
from cluster.scheduler.filters.load import has_free_ports, holds_data, room
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.pools import MAX_BASE, NOWHERE, Axis, Entry, Pools, Role
from cluster.scheduler.rules import Rules
from cluster.scheduler.snapshot import ALL_ROWS, CPU, MEMORY, BoolArray, IntArray, Rows, Snapshot, Versions
from cluster.scheduler.tallies import InNamespace
from cluster.scheduler.ties import KEY_BITS

LADDER = 16
"""For so many pods more the scores of a node's load are computed at once."""
LADDERS_LIMIT = 20_000
"""So many different loads are remembered with the scores that they lead to."""


@dataclass(slots=True, eq=False)
class _Source:
    """An axis, and where its numbers come from."""

    axis: Axis
    dimensions: list[Dimension]
    """Of one key; their counts add up."""
    seen: int = -1
    """The versions of their tallies that the counts are from, summed."""

    def version(self) -> int:
        return sum(tally.version for dimension in self.dimensions for tally, _ in dimension.sources)

    def is_live(self) -> bool:
        return all(tally.live for dimension in self.dimensions for tally, _ in dimension.sources)

    def count(self) -> None:
        """Reads the counts anew, unless they are where they were."""
        version = self.version()
        if version == self.seen:
            return
        self.seen = version
        axis, first = self.axis, self.dimensions[0]
        counts = sum((each.counts() for each in self.dimensions[1:]), first.counts())
        if axis.role is Role.HARD:
            constraint = first.constraint
            assert constraint is not None
            levels = Counter(counts[first.eligible()].tolist())
            axis.measure(levels, constraint.min_domains)
        if not axis.by_node:
            axis.counts = counts.tolist()

    def places(self, rows: IntArray) -> IntArray:
        """The places of rows."""
        first = self.dimensions[0]
        if not self.axis.by_node:
            return first.codes[rows]
        values = sum((each.own(rows) for each in self.dimensions[1:]), first.own(rows))
        if self.axis.role in (Role.NEAR, Role.APART):
            values = np.minimum(values, 1)
        return np.where(first.has(rows), values, NOWHERE)


@dataclass(frozen=True, slots=True, eq=False)
class _Rung:
    """Where a row stands that was given pods: the load that it began with, and what scores more pods lead to."""

    load: tuple[int, ...]
    ladder: list[int]
    fixed: int


class View:
    """The pools of one class."""

    def __init__(self, snapshot: Snapshot, pod_class: PodClass, rules: Rules) -> None:
        self._snapshot = snapshot
        self._class = pod_class
        self._rules = rules
        self._versions: Versions = snapshot.versions
        self._group: InNamespace | None = snapshot.selectors.group_of(pod_class)
        self._terms = _terms(snapshot, pod_class)
        self._position = snapshot.position
        self._sources = self._find_sources()
        self._ladders: dict[tuple[int, ...], list[int]] = {}
        self._rungs: dict[int, _Rung] = {}
        self._suitable: BoolArray = rules.is_suitable(snapshot, pod_class)
        for source in self._sources:
            if source.axis.role in (Role.HARD, Role.NEAR):
                self._suitable &= source.dimensions[0].has(ALL_ROWS)
        if pod_class.shape.directories:
            self._suitable &= holds_data(snapshot, pod_class, ALL_ROWS)
        self._intolerable = nodes.intolerable_taints(snapshot, pod_class.shape, ALL_ROWS)
        self._liking = nodes.liking(snapshot, pod_class.shape, ALL_ROWS)
        self._fixed: IntArray = rules.fixed_score(snapshot, pod_class)
        self.pools = self._build()

    # -- keeping up

    def keeps_up(self) -> bool:
        """Catches up with the snapshot. False: too much has changed, make a new view."""
        snapshot, before = self._snapshot, self._versions
        now = snapshot.versions
        if now != before:
            if (now.generation, now.nodes, now.namespaces) != (before.generation, before.nodes, before.namespaces):
                return False
            if self._class.shape.directories and now.directories != before.directories:
                return False
            if now.selectors != before.selectors and snapshot.selectors.group_of(self._class) != self._group:
                return False
            if now.terms != before.terms and _terms(snapshot, self._class) != self._terms:
                return False
            self._versions = now
        if snapshot.position == self._position:
            return True
        changed = snapshot.changed_since(self._position)
        if changed is None or 4 * len(changed) > snapshot.node_count or not all(s.is_live() for s in self._sources):
            return False
        self._position = snapshot.position
        for source in self._sources:
            source.count()
        self.pools.begins = self._begins()
        self._renew(changed[self._suitable[changed]])
        return True

    def has_placed(self) -> None:
        """What the pools have given out is in the snapshot now, and nothing else has changed meanwhile."""
        self._position = self._snapshot.position
        self._versions = self._snapshot.versions
        for source in self._sources:
            source.seen = source.version()

    def _renew(self, rows: IntArray) -> None:
        """These rows have other pods than before."""
        spaces = self._room(rows)
        full = rows[spaces <= 0]
        for row in full.tolist():
            self._rungs.pop(row, None)
            self.pools.drop(row)
        left = spaces > 0
        rows, spaces = rows[left], spaces[left]
        places = [source.places(rows).tolist() for source in self._sources]
        for row, key, space, intolerable, liked, *at in zip(
            rows.tolist(),
            self._keys(rows).tolist(),
            spaces.tolist(),
            self._intolerable[rows].tolist(),
            self._liking[rows].tolist(),
            *places,
            strict=True,
        ):
            self._rungs.pop(row, None)
            self.pools.put(self.pools.pool(tuple(at), intolerable, liked), Entry(row, key, space))

    # -- building

    def _find_sources(self) -> list[_Source]:
        snapshot, pod_class, weights = self._snapshot, self._class, self._rules.compare
        found = [_source(snapshot, Role.HARD, [each]) for each in dimensions.hard_spread(snapshot, pod_class)]
        found += [_source(snapshot, Role.NEAR, [each]) for each in dimensions.near(snapshot, pod_class)]
        by_key: dict[str, list[Dimension]] = {}
        for each in (*dimensions.apart(snapshot, pod_class), *dimensions.repelled(snapshot, pod_class)):
            by_key.setdefault(each.key, []).append(each)
        found += [_source(snapshot, Role.APART, of_key) for of_key in by_key.values()]
        if weights.spread:
            found += [_source(snapshot, Role.SOFT, [each]) for each in dimensions.soft_spread(snapshot, pod_class)]
        if weights.pods:
            found += [_source(snapshot, Role.LIKED, [each]) for each in dimensions.liked(snapshot, pod_class)]
        return found

    def _begins(self) -> bool:
        near = [source.axis for source in self._sources if source.axis.role is Role.NEAR]
        if not near or not all(axis.step for axis in near):
            return False
        dimension = next(source for source in self._sources if source.axis.role is Role.NEAR).dimensions[0]
        tally = dimension.sources[0][0]
        if not tally.pods:
            return True
        return not any(source.dimensions[0].counts().any() for source in self._sources if source.axis.role is Role.NEAR)

    def _build(self) -> Pools:
        snapshot, rules = self._snapshot, self._rules
        for source in self._sources:
            source.count()
        pools = Pools(
            [source.axis for source in self._sources],
            rules.compare,
            rows=len(snapshot.names),
            row_of_rank=rules.ties.rows(snapshot),
            packs=rules.ties.packs,
            begins=self._begins(),
            strict=bool(self._class.shape.spread),
            climb=self._climb,
        )
        rows = np.flatnonzero(self._suitable)
        spaces = self._room(rows)
        left = spaces > 0
        rows, spaces = rows[left], spaces[left]
        if not len(rows):
            return pools
        keys = self._keys(rows)
        columns = [source.places(rows) for source in self._sources]
        columns += [self._intolerable[rows], self._liking[rows]]
        group = _grouped(columns, len(rows))
        order = np.lexsort((keys, group))
        rows, spaces, keys, group = rows[order], spaces[order], keys[order], group[order]
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        entries = [Entry(*each) for each in zip(rows.tolist(), keys.tolist(), spaces.tolist(), strict=True)]
        bases = MAX_BASE - (keys >> KEY_BITS)
        described = [column[order][starts].tolist() for column in columns]
        for start, end, intolerable, liked, *at in zip(
            starts.tolist(),
            [*starts[1:].tolist(), len(rows)],
            described[-2],
            described[-1],
            *described[:-2],
            strict=True,
        ):
            different, counts = np.unique(bases[start:end], return_counts=True)
            pools.fill(
                pools.pool(tuple(at), intolerable, liked),
                entries[start:end],
                dict(zip(different.tolist(), counts.tolist(), strict=True)),
            )
        return pools

    # -- rows

    def _room(self, rows: IntArray) -> IntArray:
        spaces = room(self._snapshot, self._class, rows)
        if self._class.shape.host_ports:  # one pod of the class leaves none for the next
            spaces = np.where(has_free_ports(self._snapshot, self._class, rows), np.minimum(spaces, 1), 0)
        return spaces

    def _keys(self, rows: IntArray) -> IntArray:
        base = self._rules.load_score(self._loads(rows)) + self._fixed[rows]
        keys: IntArray = ((MAX_BASE - base) << KEY_BITS) | self._rules.ties.keys(self._snapshot, rows)
        return keys

    def _loads(self, rows: Rows) -> IntArray:
        """What each row has and what is in use with one more pod: cpu and memory, cpu and memory."""
        snapshot = self._snapshot
        asked = np.array([self._class.shape.scored_cpu_milli, self._class.shape.scored_memory_bytes], np.int64)
        return np.hstack([snapshot.allocatable[rows][:, : MEMORY + 1], snapshot.scored[rows] + asked])

    def _climb(self, row: int, given: int) -> int:
        """The score of a row's load for the next pod, after it was given so many."""
        rung = self._rungs.get(row)
        if rung is None:  # the snapshot does not know of the first one yet
            load = tuple(self._loads(np.array([row]))[0].tolist())
            ladder = self._ladders.get(load)
            if ladder is None:
                if len(self._ladders) >= LADDERS_LIMIT:
                    self._ladders.clear()
                ladder = self._ladders[load] = []
            rung = self._rungs[row] = _Rung(load, ladder, int(self._fixed[row]))
        ladder = rung.ladder
        while len(ladder) <= given:
            ladder += self._more(rung.load, len(ladder))
        return ladder[given] + rung.fixed

    def _more(self, load: tuple[int, ...], start: int) -> list[int]:
        shape = self._class.shape
        steps = np.arange(start, start + LADDER, dtype=np.int64)
        has_cpu, has_memory, cpu, memory = load
        loads = np.empty((LADDER, 4), np.int64)
        loads[:, CPU], loads[:, MEMORY] = has_cpu, has_memory
        loads[:, 2 + CPU] = cpu + steps * shape.scored_cpu_milli
        loads[:, 2 + MEMORY] = memory + steps * shape.scored_memory_bytes
        more: list[int] = self._rules.load_score(loads).tolist()
        return more


def _source(snapshot: Snapshot, role: Role, found: list[Dimension]) -> _Source:
    first = found[0]
    axis = Axis(
        role,
        by_node=first.per_node or _is_unique(first.codes[snapshot.alive]),
        step=sum(each.step for each in found),
        max_skew=first.constraint.max_skew if first.constraint is not None else 0,
    )
    return _Source(axis, found)


def _is_unique(codes: IntArray) -> bool:
    """Whether no two nodes are in one domain."""
    return int(np.bincount(codes[codes >= 0], minlength=1).max()) <= 1


def _terms(snapshot: Snapshot, pod_class: PodClass) -> set[PodTerm]:
    """The affinity terms of other pods that matter to the class."""
    return {*dimensions.repelling_terms(snapshot, pod_class), *dimensions.speaking_terms(snapshot, pod_class)}


def _grouped(columns: Sequence[IntArray], rows: int) -> IntArray:
    """A number per row; equal numbers where all columns are equal."""
    group = np.zeros(rows, np.int64)
    for column in columns:
        if (column == column[0]).all():
            continue
        different, number = np.unique(column, return_inverse=True)
        group = group * len(different) + number
        if int(group.max()) > 1 << 40:
            group = np.unique(group, return_inverse=True)[1]
    return group
