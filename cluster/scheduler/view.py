"""What one class of pods sees of the snapshot: its nodes in pools, kept up with what changes.

Putting all nodes into pools costs a few milliseconds for five thousand of them. After that only the rows that changed
are looked at again (the snapshot's journal says which), and what their pods add to the domains. What the class itself
places the pools know already. A change of a node, or of what is asked about other pods, makes a new view necessary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cluster.api.selectors import PodTerm
from cluster.scheduler import dimensions, nodes
from cluster.scheduler.axes import MAX_BASE, NOWHERE, Axis, Chooser, Field, Role
from cluster.scheduler.choosing import chooser
from cluster.scheduler.dimensions import Dimension
from cluster.scheduler.filters.load import has_free_ports, holds_data, missing_resources, room
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.pools import Entry, Pools, Taken
from cluster.scheduler.rules import Rules
from cluster.scheduler.snapshot import ALL_ROWS, CPU, MEMORY, PODS, BoolArray, IntArray, Rows, Snapshot
from cluster.scheduler.ties import KEY_BITS

LADDER = 16
"""For so many pods more the scores of a node's load are computed at once."""
MANY_CHANGES = 32
"""If more rows have changed, and more than an eighth of all, the view is made anew."""
LADDERS_LIMIT = 20_000
"""So many different loads are remembered with the scores that they lead to."""

Load = tuple[int, ...]
"""Cpu and memory of a node, those in use with one more pod, and the score that never changes."""


class _Source:
    """An axis, and where its numbers come from."""

    def __init__(self, snapshot: Snapshot, role: Role, found: Sequence[Dimension]) -> None:
        """The counts of the dimensions, which are all of one key, add up."""
        first = found[0]
        constraint = first.constraint
        self.axis = Axis(
            role,
            by_node=first.per_node or _is_unique(first.codes[snapshot.alive]),
            step=sum(each.step for each in found),
            max_skew=constraint.max_skew if constraint is not None else 0,
            domains_wanted=constraint.min_domains if constraint is not None else 0,
        )
        self.has: BoolArray = first.has(ALL_ROWS)
        """Which rows are in a domain."""
        self._codes = first.codes
        self._weighed = [source for dimension in found for source in dimension.sources]
        self._tallies = [tally for tally, _ in self._weighed]
        counted: BoolArray = self.has if first.per_node else self.has & first.counted
        self._counted = counted.tobytes()
        self._seen = self._version()
        own = sum((tally.counts * factor for tally, factor in self._weighed), np.zeros(len(self.has), np.int64))
        self._own: list[int] = np.where(counted, own, 0).tolist()
        """What the pods of each row add, as far as they are counted here."""
        counts = sum((each.counts() for each in found[1:]), first.counts())
        if not self.axis.by_node:
            self.axis.counts = counts.tolist()
        self._eligible: set[int] = set()
        if role is Role.HARD:
            eligible = first.eligible()
            self._eligible.update(eligible.tolist())
            self.axis.levels = dict(Counter(counts[eligible].tolist()))
            self.axis.settle()

    def is_empty(self) -> bool:
        """Nothing of what it counts is in any domain."""
        return not any(tally.pods for tally in self._tallies) or not any(self._own)

    def is_live(self) -> bool:
        """Its tallies are kept current."""
        return all(tally.live for tally in self._tallies)

    def catch_up(self, rows: Sequence[int]) -> None:
        """The pods of these rows have changed, and maybe of no others."""
        version = self._version()
        if version == self._seen:
            return
        self._seen = version
        axis = self.axis
        for row in rows:
            if not self._counted[row]:
                continue
            own = sum([tally.counts.item(row) * factor for tally, factor in self._weighed])
            before = self._own[row]
            if own == before:
                continue
            self._own[row] = own
            code = self._codes.item(row)
            if not axis.by_node:
                before, axis.counts[code] = axis.counts[code], axis.counts[code] + own - before
                own = axis.counts[code]
            if axis.role is Role.HARD and code in self._eligible:
                axis.raise_level(before, own - before)
        if axis.role is Role.HARD:
            axis.settle()

    def has_placed(self, rows: Sequence[int]) -> None:
        """What the pools have counted themselves is in the tallies now."""
        self._seen = self._version()
        step = self.axis.step
        if step:
            own, counted = self._own, self._counted
            for row in rows:
                if counted[row]:
                    own[row] += step

    def place(self, row: int) -> int:
        """The place of a row in the pools."""
        if not self.axis.by_node:
            return self._codes.item(row)
        if not self.has[row]:
            return NOWHERE
        own = self._own[row]
        return min(own, 1) if self.axis.role in (Role.NEAR, Role.APART) else own

    def places(self, rows: IntArray) -> IntArray:
        """The same for many rows."""
        if not self.axis.by_node:
            return self._codes[rows]
        own = np.array(self._own, np.int64)[rows]
        if self.axis.role in (Role.NEAR, Role.APART):
            own = np.minimum(own, 1)
        return np.where(self.has[rows], own, NOWHERE)

    def _version(self) -> int:
        return sum([tally.version for tally in self._tallies])


class View:
    """The pools of one class."""

    def __init__(self, snapshot: Snapshot, pod_class: PodClass, rules: Rules) -> None:
        self._snapshot = snapshot
        self._class = pod_class
        self._rules = rules
        self._versions = snapshot.versions
        self._position = snapshot.position
        self._group = snapshot.selectors.group_of(pod_class)
        self._terms = _terms(snapshot, pod_class)
        self._sources = self._find_sources()
        suitable = rules.is_suitable(snapshot, pod_class)
        for source in self._sources:
            if source.axis.role in (Role.HARD, Role.NEAR):
                suitable &= source.has
        if missing_resources(snapshot, pod_class.shape):
            suitable &= False
        if pod_class.shape.directories:
            suitable &= holds_data(snapshot, pod_class, ALL_ROWS)
        self._suitable = suitable
        self._intolerable = nodes.intolerable_taints(snapshot, pod_class.shape, ALL_ROWS)
        self._liking = nodes.liking(snapshot, pod_class.shape, ALL_ROWS)
        self._fixed: IntArray = rules.fixed_score(snapshot, pod_class)
        self._asked = [(i, asked) for i, asked in enumerate(snapshot.vector(pod_class.shape).tolist()) if asked]
        self._scored = (pod_class.shape.scored_cpu_milli, pod_class.shape.scored_memory_bytes)
        self._loads: dict[int, Load] = {}
        """Of rows that were given pods: what they were like before."""
        self._by_load: dict[Load, list[int]] = {}
        self._ladders: dict[int, list[int]] = {}
        self._chooser: Chooser | None = None
        self._field = Field([source.axis for source in self._sources], strict=bool(pod_class.shape.spread))
        self._first_loads: IntArray = np.zeros((len(suitable), 5), np.int64)
        """The load of every row when the pools were built."""
        self._pools = self._build()

    def take(self, limit: int) -> list[Taken]:
        """Decides about so many pods of the class; what is taken must be placed in the snapshot next. Fewer: the next
        one fits nowhere."""
        self._chooser = chooser(self._field, self._rules.compare, self._chooser)
        return self._pools.take(self._chooser, limit)

    def has_placed(self, rows: Sequence[int]) -> None:
        """What was taken is in the snapshot now, and nothing else has changed meanwhile."""
        self._position = self._snapshot.position
        self._versions = self._snapshot.versions
        for source in self._sources:
            source.has_placed(rows)

    def keeps_up(self) -> bool:
        """Catches up with the snapshot. False: too much has changed, make a new view."""
        snapshot = self._snapshot
        now = snapshot.versions
        if now != self._versions and not self._is_still_right():
            return False
        self._versions = now
        if snapshot.position == self._position:
            return True
        changed = snapshot.changed_since(self._position)
        if changed is None or not all(source.is_live() for source in self._sources):
            return False
        if len(changed) > max(MANY_CHANGES, snapshot.node_count // 8):
            return False
        self._position = snapshot.position
        for source in self._sources:
            source.catch_up(changed)
        self._field.begins = self._begins()
        if self._chooser is not None and self._chooser.listens:
            self._chooser = None  # it did not hear of this
        for row in changed:
            if self._suitable[row]:
                self._put(row)
        return True

    def _is_still_right(self) -> bool:
        """Whether what has changed beside the pods on rows makes no difference to the class."""
        snapshot, now, before = self._snapshot, self._snapshot.versions, self._versions
        if now[:4] != before[:4]:
            return False
        if self._class.shape.directories and now.directories != before.directories:
            return False
        if now.selectors != before.selectors and snapshot.selectors.group_of(self._class) != self._group:
            return False
        return now.terms == before.terms or _terms(snapshot, self._class) == self._terms

    def _find_sources(self) -> list[_Source]:
        snapshot, pod_class, weights = self._snapshot, self._class, self._rules.compare
        found: list[tuple[Role, list[Dimension]]] = []
        if self._rules.spreads:
            found += [(Role.HARD, [each]) for each in dimensions.hard_spread(snapshot, pod_class)]
        if self._rules.keeps_apart:
            found += [(Role.NEAR, [each]) for each in dimensions.near(snapshot, pod_class)]
            by_key: dict[str, list[Dimension]] = {}
            for each in (*dimensions.apart(snapshot, pod_class), *dimensions.repelled(snapshot, pod_class)):
                by_key.setdefault(each.key, []).append(each)
            found += [(Role.APART, of_key) for of_key in by_key.values()]
        if weights.spread:
            found += [(Role.SOFT, [each]) for each in dimensions.soft_spread(snapshot, pod_class)]
        if weights.pods:
            found += [(Role.LIKED, [each]) for each in dimensions.liked(snapshot, pod_class)]
        return [_Source(snapshot, role, group) for role, group in found]

    def _begins(self) -> bool:
        """Whether the class means itself by its required affinity, and no such pod is anywhere."""
        near = [source for source in self._sources if source.axis.role is Role.NEAR]
        return bool(near) and all(source.axis.step and source.is_empty() for source in near)

    # -- nodes

    def _build(self) -> Pools:
        rules, snapshot = self._rules, self._snapshot
        self._field.begins = self._begins()
        rows = np.flatnonzero(self._suitable)
        spaces = self._room(rows)
        rows, spaces = rows[spaces > 0], spaces[spaces > 0]
        loads = self._loads_of(rows)
        base = rules.load_score(loads) + self._fixed[rows]
        self._first_loads[rows, :4], self._first_loads[rows, 4] = loads, self._fixed[rows]
        keys = ((MAX_BASE - base) << KEY_BITS) | rules.ties.keys(snapshot, rows)
        pools = Pools(
            self._field,
            keys=_scattered(keys, rows, len(snapshot.names)),
            rooms=_scattered(spaces, rows, len(snapshot.names)),
            row_of_rank=rules.ties.rows(snapshot),
            packs=rules.ties.packs,
            ladders=self._ladders,
            climb=self._climb,
        )
        if not len(rows):
            return pools
        columns = [source.places(rows) for source in self._sources]
        columns += [self._intolerable[rows], self._liking[rows]]
        group = _grouped(columns, len(rows))
        order = np.lexsort((keys, group))
        rows, keys, group, base = rows[order], keys[order], group[order], base[order]
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        *places, intolerable, liked = (column[order][starts].tolist() for column in columns)
        ends = [*starts[1:].tolist(), len(rows)]
        all_rows, all_keys = rows.tolist(), keys.tolist()
        for start, end, taints, weight, *at in zip(starts.tolist(), ends, intolerable, liked, *places, strict=True):
            different, counts = np.unique(base[start:end], return_counts=True)
            pools.fill(
                pools.pool(tuple(at), taints, weight),
                all_rows[start:end],
                all_keys[start:end],
                dict(zip(different.tolist(), counts.tolist(), strict=True)),
            )
        return pools

    def _put(self, row: int) -> None:
        """This row has other pods than before."""
        snapshot, pools = self._snapshot, self._pools
        has, used = snapshot.allocatable[row].tolist(), snapshot.requested[row].tolist()
        space = min([(has[column] - used[column]) // asked for column, asked in self._asked])
        if space > 0 and self._class.shape.host_ports:
            space = int(self._room(np.array([row]))[0])
        if space <= 0:
            pools.drop(row)
            return
        cpu, memory = snapshot.scored[row].tolist()
        load = (has[CPU], has[MEMORY], cpu + self._scored[CPU], memory + self._scored[MEMORY], self._fixed.item(row))
        ladder = self._by_load.get(load)
        if ladder is None:
            if len(self._by_load) >= LADDERS_LIMIT:
                self._by_load.clear()
            ladder = self._by_load[load] = self._more(load, 0)
        self._loads[row], self._ladders[row] = load, ladder
        places = tuple([source.place(row) for source in self._sources])
        pool = pools.pool(places, self._intolerable.item(row), self._liking.item(row))
        key = ((MAX_BASE - ladder[0]) << KEY_BITS) | self._rules.ties.key(snapshot, row, used[PODS])
        pools.put(pool, Entry(row, key, space))

    def _room(self, rows: IntArray) -> IntArray:
        spaces = room(self._snapshot, self._class, rows)
        if self._class.shape.host_ports:  # one pod of the class leaves none for the next
            spaces = np.where(has_free_ports(self._snapshot, self._class, rows), np.minimum(spaces, 1), 0)
        return spaces

    # -- scores of loads

    def _loads_of(self, rows: Rows) -> IntArray:
        snapshot = self._snapshot
        scored = snapshot.scored[rows] + np.array(self._scored, np.int64)
        return np.hstack([snapshot.allocatable[rows][:, : MEMORY + 1], scored])

    def _climb(self, row: int, given: int) -> int:
        """The score of a row's load for the next pod, after it was given so many since it was put into its pool."""
        ladder = self._ladders.get(row)
        if ladder is None:
            load: Load = tuple(self._first_loads[row].tolist())
            self._loads[row] = load
            ladder = self._ladders[row] = self._by_load.setdefault(load, [])
        while len(ladder) <= given:
            ladder += self._more(self._loads[row], len(ladder))
        return ladder[given]

    def _more(self, load: Load, start: int) -> list[int]:
        steps = np.arange(start, start + LADDER, dtype=np.int64)
        has_cpu, has_memory, cpu, memory, fixed = load
        loads = np.empty((LADDER, 4), np.int64)
        loads[:, CPU], loads[:, MEMORY] = has_cpu, has_memory
        loads[:, 2 + CPU] = cpu + steps * self._scored[CPU]
        loads[:, 2 + MEMORY] = memory + steps * self._scored[MEMORY]
        more: list[int] = (self._rules.load_score(loads) + fixed).tolist()
        return more


def _is_unique(codes: IntArray) -> bool:
    """Whether no two nodes are in one domain."""
    return int(np.bincount(codes[codes >= 0], minlength=1).max()) <= 1


def _terms(snapshot: Snapshot, pod_class: PodClass) -> tuple[frozenset[PodTerm], frozenset[PodTerm]]:
    """The affinity terms of other pods that matter to the class: those that keep it away, and those that speak for or
    against it. The same term may be of both kinds, and come to be of the other."""
    return (
        frozenset(dimensions.repelling_terms(snapshot, pod_class)),
        frozenset(dimensions.speaking_terms(snapshot, pod_class)),
    )


def _scattered(values: IntArray, rows: IntArray, size: int) -> list[int]:
    """The values at their rows, 0 elsewhere."""
    scattered = np.zeros(size, np.int64)
    scattered[rows] = values
    everywhere: list[int] = scattered.tolist()
    return everywhere


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
