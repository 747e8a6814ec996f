"""Placing many pods of one class one after the other, each with a few steps: nodes in pools.

What decides between two nodes is of two kinds. Its own load: `base`, the scores that look at one node alone. And what
depends on other nodes: how many pods of interest are in its domains (`dimensions`), how its taints compare with those
of others. Nodes that are equal in all of the second kind are in one pool, whatever their loads:

    pool             places (one per axis)      heap of nodes, best first
    zone a, 0 here   (0, code of a)             (base 98, n7), (base 98, n2), (base 91, n5)
    zone a, 1 here   (1, code of a)             (base 97, n1)
    zone b, 0 here   (0, code of b)             (base 98, n4)

For one decision each pool is looked at once (`choosing`): whether its nodes may be taken, and what the scores add that
compare nodes. The best total is the best sum of that and the top of a heap. Then one node moves: its load has grown, a
count of its own may have, and the counts of its domains. With nodes of three zones there are a handful of pools,
whether there are five nodes or five thousand, and however different their loads are.

The answer is that of a decision made anew (the tests compare both with a plain reference). Where the numbers come from
is the view's business (`cluster.scheduler.view`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

from cluster.scheduler.ties import KEY_BITS, MAX_CROWD, RANK_BITS

MAX_BASE = (1 << 22) - 1
"""The weighted sum of the scores that look at one node alone is not greater."""
MISSING = -1
"""The place of a node that is in no domain; counts have a 0 at this index."""
NOWHERE = -(1 << 62)
"""The same where a place is a count."""

RANK_MASK = (1 << RANK_BITS) - 1
TIE_MASK = (1 << KEY_BITS) - 1


class Role(Enum):
    """What the counts of an axis are for."""

    HARD = auto()
    """Even spreading that must be kept."""
    NEAR = auto()
    """There must be one."""
    APART = auto()
    """There must be none."""
    SOFT = auto()
    """The fewer the better."""
    LIKED = auto()
    """The more the better."""


@dataclass(slots=True, eq=False)
class Axis:
    """Counts of pods per domain. A node's place is the number of its domain; or, where every node is a domain of its
    own, the count itself."""

    role: Role
    by_node: bool
    step: int
    """What one more pod of the class adds."""
    max_skew: int = 0
    """HARD and SOFT."""
    domains_wanted: int = 0
    """HARD: while there are fewer, the least is 0."""
    counts: list[int] = field(default_factory=list)
    """Per domain, and a 0 at the end; empty if places are counts."""
    levels: dict[int, int] = field(default_factory=dict)
    """HARD: how many domains have each count."""
    least: int = 0
    """HARD: the smallest of them."""

    def settle(self) -> None:
        """HARD: the levels have changed."""
        levels = self.levels
        self.least = min(levels) if levels and sum(levels.values()) >= self.domains_wanted else 0

    def raise_level(self, value: int, by: int) -> None:
        """HARD: a domain had this count and has another one now. `settle` it, unless that was not the least."""
        levels = self.levels
        levels[value + by] = levels.get(value + by, 0) + 1
        left = levels[value] - 1
        if left:
            levels[value] = left
        else:
            del levels[value]


class Pool:
    """Nodes that are equal in all that depends on others."""

    __slots__ = (
        "at",
        "bases",
        "heap",
        "ignored",
        "intolerable",
        "is_live",
        "liked",
        "places",
        "size",
        "stale",
        "successor",
        "top",
    )

    def __init__(self, at: int, places: tuple[int, ...], intolerable: int, liked: int, ignored: bool) -> None:
        self.at = at
        """Its number."""
        self.places = places
        self.intolerable = intolerable
        """Taints that the pod would rather not have."""
        self.liked = liked
        """Weight of the preferred node affinity."""
        self.ignored = ignored
        """Soft spreading leaves these nodes out."""
        self.heap: list[int] = []
        """The keys of its nodes: base (the higher, the smaller the key), then the order of ties."""
        self.bases: dict[int, int] = {}
        """How many nodes have each base."""
        self.size = 0
        self.top = 0
        """The highest base."""
        self.is_live = False
        """It has nodes."""
        self.stale = False
        """The heap may have keys of nodes that are elsewhere by now."""
        self.successor: Pool | None = None
        """Where a node of this pool is when it has got a pod."""


@dataclass(slots=True, eq=False)
class Field:
    """All pools of a class, and what it minds: what a choice is made from."""

    axes: Sequence[Axis]
    strict: bool
    """Soft spreading leaves out nodes that lack one of its labels."""
    pools: list[Pool] = field(default_factory=list)
    live: list[Pool] = field(default_factory=list)
    """Those that have nodes."""
    nodes: int = 0
    """How many nodes they have."""
    version: int = 0
    """Grows whenever one becomes live or ceases to be."""
    begins: bool = False
    """No pod of the affinity is there, and the class means itself: its first may go anywhere."""
    minds_taints: bool = False
    minds_nodes: bool = False

    def of_role(self, role: Role) -> list[tuple[int, Axis]]:
        """The axes of a role, with their numbers."""
        return [(i, axis) for i, axis in enumerate(self.axes) if axis.role is role]


Chosen = tuple[Pool, int, int, int]
"""Which pool gives the next node; its score, how many nodes may be taken, and how many of them have this score."""


class Chooser:
    """Makes choices, and hears of what has changed."""

    listens = False
    """It wants to hear."""

    def choose(self) -> Chosen | None:
        """The pool that has the best node; None: no node may be taken."""
        raise NotImplementedError

    def changed(self, pool: Pool) -> None:
        """Its top or size is another one."""

    def risen(self, number: int, place: int, step: int) -> None:
        """A domain of an axis has so many more."""


class Entry(NamedTuple):
    """A node as it goes into its pool."""

    row: int
    key: int
    room: int
    """For how many pods of the class."""


Taken = tuple[int, int, int, int]
"""A row; and the score, the number of nodes that might have been taken, and how many had this score."""
PoolKey = tuple[tuple[int, ...], int, int]


class Pools:
    """Moves nodes between pools."""

    def __init__(
        self,
        ground: Field,
        *,
        keys: list[int],
        rooms: list[int],
        row_of_rank: Sequence[int],
        packs: bool,
        ladders: dict[int, list[int]],
        climb: Callable[[int, int], int],
    ) -> None:
        """`keys` and `rooms` are those of all rows that are filled in next; of any other row they do not matter.
        `ladders[row][n]` is the base of a row after it was given n pods; where that is missing, `climb(row, n)`."""
        self.field = ground
        self._row_of_rank = row_of_rank
        self._crowd_step = -1 << RANK_BITS if packs else 1 << RANK_BITS
        self._saturated = 0 if packs else MAX_CROWD
        self._ladders = ladders
        self._climb = climb
        self._by_key: dict[PoolKey, Pool] = {}
        self._pool_of: list[Pool | None] = [None] * len(keys)
        self._key_of = keys
        self._room = rooms
        self._given = [0] * len(keys)
        self._soft = ground.of_role(Role.SOFT)
        self._rising = [(i, axis) for i, axis in enumerate(ground.axes) if axis.step and not axis.by_node]
        self._moving = [(i, axis) for i, axis in enumerate(ground.axes) if axis.step and axis.by_node]
        self._hard_moving = [(i, axis) for i, axis in self._moving if axis.role is Role.HARD]

    # -- which nodes there are

    def pool(self, places: tuple[int, ...], intolerable: int, liked: int) -> Pool:
        """The pool of nodes like that."""
        key = (places, intolerable, liked)
        pool = self._by_key.get(key)
        if pool is None:
            ground = self.field
            ignored = ground.strict and any(places[i] in (MISSING, NOWHERE) for i, _ in self._soft)
            pool = self._by_key[key] = Pool(len(ground.pools), places, intolerable, liked, ignored)
            ground.pools.append(pool)
            ground.minds_taints = ground.minds_taints or intolerable > 0
            ground.minds_nodes = ground.minds_nodes or liked > 0
        return pool

    def fill(self, pool: Pool, rows: Sequence[int], keys: list[int], bases: dict[int, int]) -> None:
        """Nodes that were nowhere, sorted by their keys, are in this pool, which was empty."""
        pool.heap, pool.bases, pool.size = keys, bases, len(rows)
        self.field.nodes += len(rows)
        for row in rows:
            self._pool_of[row] = pool
        self._renew(pool)

    def put(self, pool: Pool, entry: Entry) -> None:
        """A node is in this pool; where it was, it is no more."""
        row, key, room = entry
        self._given[row], self._room[row] = 0, room
        if self._pool_of[row] is pool and self._key_of[row] == key:
            return
        self.drop(row)
        heappush(pool.heap, key)
        base = MAX_BASE - (key >> KEY_BITS)
        pool.bases[base] = pool.bases.get(base, 0) + 1
        pool.size += 1
        self.field.nodes += 1
        self._pool_of[row], self._key_of[row] = pool, key
        self._renew(pool)

    def drop(self, row: int) -> None:
        """A node has no room any more, or is gone."""
        pool = self._pool_of[row]
        if pool is not None:
            self._pool_of[row] = None
            pool.stale = True
            self.field.nodes -= 1
            _uncount(pool, MAX_BASE - (self._key_of[row] >> KEY_BITS))
            self._renew(pool)

    # -- decisions

    def take(self, chooser: Chooser, limit: int) -> list[Taken]:
        """Decides where the next pods of the class go, so many, and counts them there; fewer: then no node will do."""
        taken: list[Taken] = []
        choose, give = chooser.choose, self._give
        while len(taken) < limit:
            chosen = choose()
            if chosen is None:
                break
            pool, score, feasible, ties = chosen
            taken.append((give(pool, chooser), score, feasible, ties))
        return taken

    def _give(self, pool: Pool, chooser: Chooser) -> int:
        """The first node of a pool gets a pod. Its row."""
        heap = pool.heap
        key = heap[0]
        row = self._row_of_rank[key & RANK_MASK]
        room = self._room[row] = self._room[row] - 1
        _uncount(pool, pool.top)
        target = None
        if room:
            given = self._given[row] = self._given[row] + 1
            try:
                base = self._ladders[row][given]
            except (KeyError, IndexError):
                base = self._climb(row, given)
            tie = key & TIE_MASK
            if tie >> RANK_BITS != self._saturated:
                tie += self._crowd_step
            key = self._key_of[row] = ((MAX_BASE - base) << KEY_BITS) | tie
            target = (pool.successor or self._successor(pool)) if self._moving else pool
            bases = target.bases
            bases[base] = bases.get(base, 0) + 1
            target.size += 1
            if target is pool:
                heapreplace(heap, key)
            else:
                heappop(heap)
                heappush(target.heap, key)
                self._pool_of[row] = target
                if target.is_live and not target.stale:
                    if base > target.top:
                        target.top = base
                else:
                    self._renew(target)
        else:
            heappop(heap)
            self._pool_of[row] = None
            self.field.nodes -= 1
        if heap and not pool.stale:
            pool.top = MAX_BASE - (heap[0] >> KEY_BITS)
        else:
            self._renew(pool)
        if self._rising or self._hard_moving:
            self._rise(pool, chooser)
        if chooser.listens:
            chooser.changed(pool)
            if target is not None:
                chooser.changed(target)
        self.field.begins = False
        return row

    def _rise(self, pool: Pool, chooser: Chooser) -> None:
        """The domains of a node have got a pod more. Soft spreading does not count pods on nodes that it leaves out."""
        places = pool.places
        for i, axis in self._rising:
            place = places[i]
            if place != MISSING and not (pool.ignored and axis.role is Role.SOFT):
                if axis.role is Role.HARD:
                    _raise(axis, axis.counts[place])
                axis.counts[place] += axis.step
                if chooser.listens:
                    chooser.risen(i, place, axis.step)
        for i, axis in self._hard_moving:
            if places[i] != NOWHERE:
                _raise(axis, places[i])

    def _successor(self, pool: Pool) -> Pool:
        places = list(pool.places)
        for i, axis in self._moving:
            if places[i] != NOWHERE and not (pool.ignored and axis.role is Role.SOFT):
                places[i] = stepped(axis, places[i])
        pool.successor = self.pool(tuple(places), pool.intolerable, pool.liked)
        return pool.successor

    def _renew(self, pool: Pool) -> None:
        """The heap of a pool has changed: what is at its top, and whether it is live."""
        heap = pool.heap
        if pool.stale:
            self._clean(pool)
        if heap:
            pool.top = MAX_BASE - (heap[0] >> KEY_BITS)
            if not pool.is_live:
                pool.is_live = True
                self.field.live.append(pool)
                self.field.version += 1
        elif pool.is_live:
            pool.is_live = False
            self.field.live.remove(pool)
            self.field.version += 1

    def _clean(self, pool: Pool) -> None:
        """Throws away keys of nodes that are elsewhere, as far as they are at the top."""
        heap = pool.heap
        while heap:
            row = self._row_of_rank[heap[0] & RANK_MASK]
            if self._pool_of[row] is pool and self._key_of[row] == heap[0]:
                return
            heappop(heap)
        pool.stale = False


def stepped(axis: Axis, value: int) -> int:
    """The count after one more pod, as a place: of what must be there or must not, only whether there is any."""
    return min(value + axis.step, 1) if axis.role in (Role.NEAR, Role.APART) else value + axis.step


def first_of_tie(pool: Pool) -> int:
    """The smaller, the sooner the first node of a pool is taken among nodes of the same score."""
    return pool.heap[0] & TIE_MASK


def _raise(axis: Axis, value: int) -> None:
    axis.raise_level(value, axis.step)
    if value == axis.least and value not in axis.levels:
        axis.settle()


def _uncount(pool: Pool, base: int) -> None:
    pool.size -= 1
    bases = pool.bases
    left = bases[base] - 1
    if left:
        bases[base] = left
    else:
        del bases[base]
