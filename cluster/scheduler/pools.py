"""Placing many pods of one class one after the other, each with a few steps: nodes in pools.

What decides between two nodes is of two kinds. Its own load: `base`, the scores that look at one node alone. And what
depends on other nodes: how many pods of interest are in its domains (`dimensions`), how its taints compare with those
of others. Nodes that are equal in all of the second kind are in one pool, whatever their loads:

    pool             places (one per axis)      heap of nodes, best first
    zone a, 0 here   (0, code of a)             (base 98, n7), (base 98, n2), (base 91, n5)
    zone a, 1 here   (1, code of a)             (base 97, n1)
    zone b, 0 here   (0, code of b)             (base 98, n4)

For one decision each pool is looked at once: whether its nodes may be taken, and what the scores add that compare
nodes. The best total is the best sum of that and the top of a heap. Then one node moves: its load has grown, a count of
its own may have, and the counts of its domains. With nodes of three zones there are a handful of pools, whether there
are five nodes or five thousand, and however different their loads are.

The answer is that of a decision made anew (the tests compare both with a plain reference). No numpy here: counts are
few and change one at a time. Where the numbers come from is the view's business (`cluster.scheduler.view`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

from cluster.scheduler.scores import BEST, level_weight
from cluster.scheduler.ties import CROWD_BITS, KEY_BITS, MAX_CROWD, RANK_BITS

MAX_BASE = (1 << 22) - 1
"""The weighted sum of the scores that look at one node alone is not greater."""
MISSING = -1
"""The place of a node that is in no domain; counts have a 0 at this index."""
NOWHERE = -(1 << 62)
"""The same where a place is a count."""

_SIZE = -1
"""As many domains as nodes."""
_RANK_MASK = (1 << RANK_BITS) - 1
_TIE_MASK = (1 << KEY_BITS) - 1


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
    counts: list[int] = field(default_factory=list)
    """Per domain, and a 0 at the end; empty if places are counts."""
    levels: Counter[int] = field(default_factory=Counter)
    """HARD: how many domains have each count."""
    least: int = 0
    """HARD: the smallest of them; 0 while there are too few domains."""
    floating: bool = True
    """HARD: there are domains enough, so that the least is what it is."""
    max_skew: int = 0
    """HARD and SOFT."""

    def value(self, place: int) -> int:
        """The count at a place."""
        if self.by_node:
            return place if place != NOWHERE else 0
        return self.counts[place]

    def measure(self, levels: Counter[int], domains_wanted: int) -> None:
        """HARD: these are the counts of all domains that count."""
        self.levels = levels
        self.floating = sum(levels.values()) >= domains_wanted and bool(levels)
        self.least = min(levels) if self.floating else 0

    def raise_level(self, value: int) -> None:
        """HARD: a domain had this count and has got a step more."""
        levels = self.levels
        levels[value] -= 1
        levels[value + self.step] += 1
        if not levels[value]:
            del levels[value]
            if self.floating and value == self.least:
                self.least = min(levels)


class Pool:
    """Nodes that are equal in all that depends on others."""

    __slots__ = (
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

    def __init__(self, places: tuple[int, ...], intolerable: int, liked: int, ignored: bool) -> None:
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


@dataclass(frozen=True, slots=True)
class CompareWeights:
    """The weights of the scores that compare nodes."""

    taints: int
    nodes: int
    spread: int
    pods: int


class Taken(NamedTuple):
    """What a decision took."""

    row: int
    score: int
    feasible: int
    ties: int


class Entry(NamedTuple):
    """A node as it goes into its pool."""

    row: int
    key: int
    room: int
    """For how many pods of the class."""


PoolKey = tuple[tuple[int, ...], int, int]


class Pools:
    """The nodes that have room for a class, in pools, and the counts that matter to it."""

    def __init__(
        self,
        axes: Sequence[Axis],
        weights: CompareWeights,
        *,
        rows: int,
        row_of_rank: Sequence[int],
        packs: bool,
        begins: bool,
        strict: bool,
        climb: Callable[[int, int], int],
    ) -> None:
        self.axes = axes
        self.begins = begins
        """No pod of the affinity is there, and the class means itself: its first may go anywhere."""
        self._weights = weights
        self._row_of_rank = row_of_rank
        self._crowd_step = -1 if packs else 1
        self._strict = strict
        self._climb = climb
        self._pools: dict[PoolKey, Pool] = {}
        self._live: list[Pool] = []
        """Those that have nodes."""
        self._changed = True
        """Pools were added or emptied since the last decision."""
        self._compared: list[Pool] = []
        """What the last decision compared for soft spreading, and in how many domains of each axis that is."""
        self._different: list[int] = []
        self._pool_of: list[Pool | None] = [None] * rows
        self._key_of = [0] * rows
        self._room = [0] * rows
        self._given = [0] * rows
        by_role = {role: [(i, axis) for i, axis in enumerate(axes) if axis.role is role] for role in Role}
        self._hard, self._near, self._apart = by_role[Role.HARD], by_role[Role.NEAR], by_role[Role.APART]
        self._soft, self._liked = by_role[Role.SOFT], by_role[Role.LIKED]
        self._guarded = bool(self._hard or self._near or self._apart)
        self._rising = [(i, axis) for i, axis in enumerate(axes) if axis.step and not axis.by_node]
        self._moving = [(i, axis) for i, axis in enumerate(axes) if axis.step and axis.by_node]
        self._minds_taints = self._minds_nodes = False

    def __len__(self) -> int:
        return len(self._live)

    # -- which nodes there are

    def pool(self, places: tuple[int, ...], intolerable: int, liked: int) -> Pool:
        """The pool of nodes like that."""
        key = (places, intolerable, liked)
        pool = self._pools.get(key)
        if pool is None:
            ignored = self._strict and any(places[i] in (MISSING, NOWHERE) for i, _ in self._soft)
            pool = self._pools[key] = Pool(places, intolerable, liked, ignored)
            self._minds_taints = self._minds_taints or intolerable > 0
            self._minds_nodes = self._minds_nodes or liked > 0
        return pool

    def fill(self, pool: Pool, entries: Sequence[Entry], bases: dict[int, int]) -> None:
        """Nodes that were nowhere, sorted by their keys, are in this pool, which was empty."""
        pool.heap = [entry.key for entry in entries]
        pool.bases, pool.size = bases, len(entries)
        for row, key, room in entries:
            self._pool_of[row], self._key_of[row], self._room[row] = pool, key, room
        self._renew(pool)

    def put(self, pool: Pool, entry: Entry) -> None:
        """A node is in this pool; where it was, it is no more."""
        row, key, room = entry
        if self._pool_of[row] is pool and self._key_of[row] == key:
            self._room[row], self._given[row] = room, 0
            return
        self.drop(row)
        heappush(pool.heap, key)
        base = MAX_BASE - (key >> KEY_BITS)
        pool.bases[base] = pool.bases.get(base, 0) + 1
        pool.size += 1
        self._pool_of[row], self._key_of[row], self._room[row] = pool, key, room
        self._renew(pool)

    def drop(self, row: int) -> None:
        """A node has no room any more, or is gone."""
        pool = self._pool_of[row]
        self._given[row] = 0
        if pool is None:
            return
        self._pool_of[row] = None
        pool.stale = True
        self._uncount(pool, MAX_BASE - (self._key_of[row] >> KEY_BITS))
        self._renew(pool)

    # -- a decision

    def take(self) -> Taken | None:
        """Decides where the next pod of the class goes, and counts it there; None: no node will do."""
        open_pools = self._open() if self._guarded else self._live
        if not open_pools:
            return None
        marks = self._marks(open_pools)
        totals = [pool.top + mark for pool, mark in zip(open_pools, marks, strict=True)]
        best = max(totals)
        pool = open_pools[totals.index(best)]
        ties = pool.bases[pool.top]
        if totals.count(best) > 1:
            tied = [each for each, total in zip(open_pools, totals, strict=True) if total == best]
            ties = sum(each.bases[each.top] for each in tied)
            pool = min(tied, key=_first_of_tie)
        feasible = sum([each.size for each in open_pools])
        return Taken(self._give(pool), best, feasible, ties)

    def _open(self) -> list[Pool]:
        """The pools whose nodes may be taken."""
        found = []
        for pool in self._live:
            places = pool.places
            for i, axis in self._apart:
                if axis.value(places[i]):
                    break
            else:
                for i, axis in self._hard:
                    if axis.value(places[i]) + axis.step - axis.least > axis.max_skew:
                        break
                else:
                    if self.begins or all(axis.value(places[i]) for i, axis in self._near):
                        found.append(pool)
        return found

    def _marks(self, pools: Sequence[Pool]) -> Sequence[int]:
        """What the scores that compare nodes give to each pool, weighted."""
        weights = self._weights
        constant = BEST * weights.taints
        marks: list[int] | None = None
        if self._minds_taints and weights.taints:
            most = max(pool.intolerable for pool in pools)
            if most:
                constant = 0
                marks = [weights.taints * (BEST - BEST * pool.intolerable // most) for pool in pools]
        if self._minds_nodes and weights.nodes:
            most = max(pool.liked for pool in pools)
            if most:
                marks = _sum(marks, [weights.nodes * (BEST * pool.liked // most) for pool in pools])
        if self._soft and weights.spread:
            marks = _sum(marks, self._spread_marks(pools))
        if self._liked and weights.pods:
            marks = _sum(marks, self._liking_marks(pools))
        if marks is None:
            return [constant] * len(pools)
        return [mark + constant for mark in marks] if constant else marks

    def _spread_marks(self, pools: Sequence[Pool]) -> list[int]:
        """As `scores.spread`, for pools."""
        weight = self._weights.spread
        compared = [pool for pool in pools if not pool.ignored] if self._strict else pools
        crowds = [0.0] * len(compared)
        for (i, axis), different in zip(self._soft, self._count_different(compared), strict=True):
            each, more, counts = level_weight(different), axis.max_skew - 1, axis.counts
            if axis.by_node:
                for n, pool in enumerate(compared):
                    place = pool.places[i]
                    if place != NOWHERE:
                        crowds[n] += place * each + more
            else:
                for n, pool in enumerate(compared):
                    place = pool.places[i]
                    if place != MISSING:
                        crowds[n] += counts[place] * each + more
        whole = [int(crowd) for crowd in crowds]
        most = max(whole, default=0)
        if most:
            both = most + min(whole)
            marks = [weight * (BEST * (both - crowd) // most) for crowd in whole]
        else:
            marks = [weight * BEST] * len(whole)
        if len(compared) == len(pools):
            return marks
        given = iter(marks)
        return [0 if pool.ignored else next(given) for pool in pools]

    def _count_different(self, compared: Sequence[Pool]) -> list[int]:
        """In how many domains the nodes are, per soft axis."""
        if self._changed or (self._guarded and compared != self._compared):
            self._changed = False
            self._compared = list(compared)
            self._different = [
                _SIZE if axis.by_node else len({pool.places[i] for pool in compared} - {MISSING})
                for i, axis in self._soft
            ]
        return [
            sum([pool.size for pool in compared if pool.places[i] != NOWHERE]) if different == _SIZE else different
            for (i, _), different in zip(self._soft, self._different, strict=True)
        ]

    def _liking_marks(self, pools: Sequence[Pool]) -> list[int]:
        """As `scores.inter_pod_affinity`, for pools."""
        weight = self._weights.pods
        liking = [sum([axis.value(pool.places[i]) for i, axis in self._liked]) for pool in pools]
        least, most = min(liking), max(liking)
        if least == most:
            return [0] * len(liking)
        return [weight * int(float(BEST) * ((value - least) / (most - least))) for value in liking]

    # -- its consequences

    def _give(self, pool: Pool) -> int:
        """The first node of a pool gets a pod. Its row."""
        key = pool.heap[0]
        row = self._row_of_rank[key & _RANK_MASK]
        self._given[row] += 1
        self._room[row] -= 1
        target: Pool | None = None
        if self._room[row] > 0:
            target = pool
            if self._moving:
                target = pool.successor or self._successor(pool)
        self._uncount(pool, pool.top)
        if target is None:
            heappop(pool.heap)
            self._pool_of[row] = None
            self._renew(pool)
        else:
            base = self._climb(row, self._given[row])
            crowd = min(max(((key >> RANK_BITS) & MAX_CROWD) + self._crowd_step, 0), MAX_CROWD)
            key = ((((MAX_BASE - base) << CROWD_BITS) | crowd) << RANK_BITS) | (key & _RANK_MASK)
            target.bases[base] = target.bases.get(base, 0) + 1
            target.size += 1
            self._pool_of[row], self._key_of[row] = target, key
            if target is pool:
                heapreplace(pool.heap, key)
            else:
                heappop(pool.heap)
                heappush(target.heap, key)
                self._renew(target)
            self._renew(pool)
        for i, axis in self._moving:
            if axis.role is Role.HARD and pool.places[i] != NOWHERE:
                axis.raise_level(pool.places[i])
        for i, axis in self._rising:
            place = pool.places[i]
            if place != MISSING:
                if axis.role is Role.HARD:
                    axis.raise_level(axis.counts[place])
                axis.counts[place] += axis.step
        if self.begins and self._near:
            self.begins = False
        return row

    def _successor(self, pool: Pool) -> Pool:
        places = list(pool.places)
        for i, axis in self._moving:
            if places[i] != NOWHERE:
                places[i] = stepped(axis, places[i])
        pool.successor = self.pool(tuple(places), pool.intolerable, pool.liked)
        return pool.successor

    def _uncount(self, pool: Pool, base: int) -> None:
        pool.size -= 1
        pool.bases[base] -= 1
        if not pool.bases[base]:
            del pool.bases[base]

    def _renew(self, pool: Pool) -> None:
        """The heap of a pool has changed: what is at its top, and whether it is live."""
        heap = pool.heap
        if pool.stale:
            self._clean(pool)
        if heap:
            pool.top = MAX_BASE - (heap[0] >> KEY_BITS)
            if not pool.is_live:
                pool.is_live = self._changed = True
                self._live.append(pool)
        elif pool.is_live:
            pool.is_live, self._changed = False, True
            self._live.remove(pool)

    def _clean(self, pool: Pool) -> None:
        """Throws away keys of nodes that are elsewhere, as far as they are at the top."""
        heap = pool.heap
        while heap:
            row = self._row_of_rank[heap[0] & _RANK_MASK]
            if self._pool_of[row] is pool and self._key_of[row] == heap[0]:
                return
            heappop(heap)
        pool.stale = False


def stepped(axis: Axis, value: int) -> int:
    """The count after one more pod, as a place: of what must be there or must not, only whether there is any."""
    return min(value + axis.step, 1) if axis.role in (Role.NEAR, Role.APART) else value + axis.step


def _first_of_tie(pool: Pool) -> int:
    return pool.heap[0] & _TIE_MASK


def _sum(one: list[int] | None, other: list[int]) -> list[int]:
    return other if one is None else [a + b for a, b in zip(one, other, strict=True)]
