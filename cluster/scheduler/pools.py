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
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

from cluster.scheduler.axes import (
    MAX_BASE,
    MISSING,
    NOWHERE,
    RANK_MASK,
    TIE_MASK,
    Axis,
    Chooser,
    Field,
    Pool,
    Role,
)
from cluster.scheduler.ties import KEY_BITS, MAX_CROWD, RANK_BITS


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
