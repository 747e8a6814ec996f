"""Which pool gives the next node: its score is the best sum of its top and of what the scores add that compare nodes.

The same choice in two ways, by how many pools there are: over lists, which is the fastest for a few dozen, and over
arrays, for hundreds (racks) or thousands. Both say what `cluster.scheduler.scores` says of nodes, for pools; the tests
make either choose where the other one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.scheduler.axes import MISSING, NOWHERE, Axis, Chooser, Chosen, Field, Pool, Role, first_of_tie
from cluster.scheduler.scores import BEST, level_weight
from cluster.scheduler.snapshot import BoolArray, IntArray

_ENDLESS = 1 << 62
FEW = 48
"""Up to so many pools, lists are faster than arrays."""


@dataclass(frozen=True, slots=True)
class CompareWeights:
    """The weights of the scores that compare nodes."""

    taints: int
    nodes: int
    spread: int
    pods: int


class FewChooser(Chooser):
    """Chooses over lists."""

    def __init__(self, ground: Field, weights: CompareWeights) -> None:
        self._field = ground
        self._weights = weights
        self._hard = ground.of_role(Role.HARD)
        self._near = ground.of_role(Role.NEAR)
        self._apart = ground.of_role(Role.APART)
        self._soft = ground.of_role(Role.SOFT) if weights.spread else []
        self._liked = ground.of_role(Role.LIKED) if weights.pods else []
        self._guarded = bool(self._hard or self._near or self._apart)
        self._known = -1
        self._last: list[Pool] = []
        """The version of the field, or the pools, that what follows is for."""
        self._constant = 0
        self._steady: list[int] | None = None
        """Marks that stay as they are while the pools do: the same for all, or per pool."""
        self._compared: list[Pool] = []
        self._levels: list[_Level] = []
        """What soft spreading compares, and by what."""
        self._simple = False

    def choose(self) -> Chosen | None:
        """The pool that has the best node."""
        ground = self._field
        if self._guarded:
            pools = self._open()
            if pools != self._last and (self._soft or self._known < 0 or ground.minds_taints or ground.minds_nodes):
                self._known = 0
                self._last = pools
                self._learn(pools)
        else:
            pools = ground.live
            if self._known != ground.version:
                self._known = ground.version
                self._learn(pools)
        if not pools:
            return None
        feasible = ground.nodes if len(pools) == len(ground.live) else sum([pool.size for pool in pools])
        if self._simple:
            return self._choose_simply(pools, feasible)
        totals = [pool.top for pool in pools]
        if self._steady is not None:
            totals = [total + mark for total, mark in zip(totals, self._steady, strict=True)]
        if self._soft and self._compared:
            totals = self._with_spread(totals, pools, feasible)
        if self._liked:
            totals = self._with_liking(totals, pools)
        best = max(totals)
        if totals.count(best) == 1:
            pool = pools[totals.index(best)]
            return pool, best + self._constant, feasible, pool.bases[pool.top]
        tied = [each for each, total in zip(pools, totals, strict=True) if total == best]
        ties = sum([each.bases[each.top] for each in tied])
        return min(tied, key=first_of_tie), best + self._constant, feasible, ties

    def _choose_simply(self, pools: Sequence[Pool], feasible: int) -> Chosen:
        """The same with soft spreading over hosts and one more level, and nothing else that makes a difference: the
        default spreading of a controller's pods over zones, in two loops."""
        hosts, zones = self._levels
        counts, each, more = zones.axis.counts, level_weight(zones.different), zones.axis.max_skew - 1
        crowds = []
        most, least = 0, _ENDLESS
        for on_host, place in zip(hosts.crowds(pools, feasible), zones.places, strict=True):
            crowd = int(on_host + (counts[place] * each + more))
            crowds.append(crowd)
            if crowd > most:
                most = crowd
            if crowd < least:
                least = crowd
        both = most + least
        if not most:
            both = most = 1
        weight, best, tied = self._weights.spread, -1, [pools[0]]
        for pool, crowd in zip(pools, crowds, strict=True):
            total = pool.top + weight * (BEST * (both - crowd) // most)
            if total > best:
                best, tied = total, [pool]
            elif total == best:
                tied.append(pool)
        first = tied[0]
        if len(tied) == 1:
            return first, best + self._constant, feasible, first.bases[first.top]
        ties = sum([each.bases[each.top] for each in tied])
        return min(tied, key=first_of_tie), best + self._constant, feasible, ties

    def _open(self) -> list[Pool]:
        """The pools whose nodes may be taken."""
        found = []
        begins = self._field.begins
        for pool in self._field.live:
            places = pool.places
            for i, axis in self._apart:
                if _value(axis, places[i]):
                    break
            else:
                for i, axis in self._hard:
                    if _value(axis, places[i]) + axis.step - axis.least > axis.max_skew:
                        break
                else:
                    if begins or all(_value(axis, places[i]) for i, axis in self._near):
                        found.append(pool)
        return found

    def _learn(self, pools: Sequence[Pool]) -> None:
        """What these pools have in common with each other."""
        weights, ground = self._weights, self._field
        self._constant, self._steady = BEST * weights.taints, None
        if ground.minds_taints and weights.taints:
            most = max([pool.intolerable for pool in pools], default=0)
            if most:
                self._constant = 0
                self._steady = [weights.taints * (BEST - BEST * pool.intolerable // most) for pool in pools]
        if ground.minds_nodes and weights.nodes:
            most = max([pool.liked for pool in pools], default=0)
            if most:
                marks = self._steady or [0] * len(pools)
                self._steady = [
                    mark + weights.nodes * (BEST * pool.liked // most) for mark, pool in zip(marks, pools, strict=True)
                ]
        if self._soft:
            self._compared = [pool for pool in pools if not pool.ignored]
            self._levels = [_Level(axis, [pool.places[i] for pool in self._compared]) for i, axis in self._soft]
            self._simple = (
                [level.axis.by_node for level in self._levels] == [True, False]
                and not any(level.gaps for level in self._levels)
                and len(self._compared) == len(pools)
                and self._steady is None
                and not self._liked
            )

    def _with_spread(self, totals: list[int], pools: Sequence[Pool], feasible: int) -> list[int]:
        """These totals and what `scores.spread` says."""
        weight, compared = self._weights.spread, self._compared
        all_of_them = len(compared) == len(pools)
        nodes = feasible if all_of_them else sum([pool.size for pool in compared])
        crowds = self._levels[0].crowds(compared, nodes)
        for level in self._levels[1:]:
            crowds = [a + b for a, b in zip(crowds, level.crowds(compared, nodes), strict=True)]
        whole = list(map(int, crowds))
        most = max(whole)
        both = most + min(whole)
        if not most:  # all are 0, and get the best
            both = most = 1
        if all_of_them:
            return [
                total + weight * (BEST * (both - crowd) // most) for total, crowd in zip(totals, whole, strict=True)
            ]
        at = iter(whole)
        return [
            total if pool.ignored else total + weight * (BEST * (both - next(at)) // most)
            for total, pool in zip(totals, pools, strict=True)
        ]

    def _with_liking(self, totals: list[int], pools: Sequence[Pool]) -> list[int]:
        """These totals and what `scores.inter_pod_affinity` says."""
        weight = self._weights.pods
        liking = [sum([_value(axis, pool.places[i]) for i, axis in self._liked]) for pool in pools]
        least, most = min(liking), max(liking)
        if least == most:
            return totals
        return [
            total + weight * int(float(BEST) * ((value - least) / (most - least)))
            for total, value in zip(totals, liking, strict=True)
        ]


class _Level:
    """One axis of soft spreading, over some pools."""

    __slots__ = ("_nodes", "_part", "axis", "different", "gaps", "places")

    def __init__(self, axis: Axis, places: list[int]) -> None:
        self.axis = axis
        self.places = places
        missing = NOWHERE if axis.by_node else MISSING
        self.gaps = missing in places
        """Some pools are in no domain."""
        self.different = len(set(places)) - self.gaps
        """Of places; where they are domains, so many domains."""
        self._nodes = -1
        self._part: list[float] = []
        """Where every node is a domain: the last answer, and for how many nodes it was."""

    def crowds(self, pools: Sequence[Pool], nodes: int) -> list[float]:
        """What the axis adds to the crowd in each of the pools, which have so many nodes."""
        axis, places, gaps = self.axis, self.places, self.gaps
        more = axis.max_skew - 1
        if axis.by_node:
            if gaps:
                nodes = sum([pool.size for pool, place in zip(pools, places, strict=True) if place != NOWHERE])
            if nodes != self._nodes:
                self._nodes = nodes
                each = level_weight(nodes)
                self._part = [place * each + more if place != NOWHERE else 0.0 for place in places]
            return self._part
        each, counts = level_weight(self.different), axis.counts
        if gaps:
            return [counts[place] * each + more if place != MISSING else 0.0 for place in places]
        return [counts[place] * each + more for place in places]


def _value(axis: Axis, place: int) -> int:
    if axis.by_node:
        return place if place != NOWHERE else 0
    return axis.counts[place]


class ManyChooser(Chooser):
    """Chooses over arrays, with one entry per pool, live or not."""

    listens = True

    def __init__(self, ground: Field, weights: CompareWeights) -> None:
        self._field = ground
        self._weights = weights
        self._soft = ground.of_role(Role.SOFT) if weights.spread else []
        self._liking = ground.of_role(Role.LIKED) if weights.pods else []
        self._known = 0
        """So many pools are in the arrays."""
        self._sizes: IntArray = _none()
        self._tops: IntArray = _none()
        self._at_top: IntArray = _none()
        """How many nodes have the base of the top."""
        self._firsts: IntArray = _none()
        """The order among ties of the node at the top."""
        self._intolerable: IntArray = _none()
        self._liked: IntArray = _none()
        self._ignored: BoolArray = np.zeros(0, np.bool_)
        self._places: list[IntArray] = [_none() for _ in ground.axes]
        self._counts = [np.array(axis.counts, np.int64) for axis in ground.axes]

    def choose(self) -> Chosen | None:
        """The pool that has the best node."""
        ground, weights = self._field, self._weights
        if self._known != len(ground.pools):
            self._learn()
        at = np.flatnonzero(self._open())
        if not len(at):
            return None
        total = self._tops[at] + self._taint_marks(at)
        if ground.minds_nodes and weights.nodes:
            liked = self._liked[at]
            most = int(liked.max())
            if most:
                total += weights.nodes * (BEST * liked // most)
        if self._soft:
            total += weights.spread * self._spread(at)
        if self._liking:
            value = sum((self._value(i, axis)[at] for i, axis in self._liking), np.zeros(len(at), np.int64))
            least, most = int(value.min()), int(value.max())
            if least != most:
                total += weights.pods * (float(BEST) * ((value - least) / (most - least))).astype(np.int64)
        best = int(total.max())
        tied = at[total == best]
        first = tied[self._firsts[tied].argmin()]
        feasible = ground.nodes if len(at) == len(ground.live) else int(self._sizes[at].sum())
        return ground.pools[first], best, feasible, int(self._at_top[tied].sum())

    def changed(self, pool: Pool) -> None:
        """Its top or size is another one."""
        at = pool.at
        if at < self._known:
            self._sizes[at] = pool.size
            if pool.size:
                self._tops[at], self._at_top[at], self._firsts[at] = pool.top, pool.bases[pool.top], first_of_tie(pool)

    def risen(self, number: int, place: int, step: int) -> None:
        """A domain of an axis has so many more."""
        self._counts[number][place] += step

    def _learn(self) -> None:
        """There are more pools than before."""
        new = self._field.pools[self._known :]
        self._known += len(new)
        self._sizes = _more(self._sizes, [pool.size for pool in new])
        self._tops = _more(self._tops, [pool.top for pool in new])
        self._at_top = _more(self._at_top, [pool.bases.get(pool.top, 0) for pool in new])
        self._firsts = _more(self._firsts, [first_of_tie(pool) if pool.size else 0 for pool in new])
        self._intolerable = _more(self._intolerable, [pool.intolerable for pool in new])
        self._liked = _more(self._liked, [pool.liked for pool in new])
        self._ignored = np.append(self._ignored, np.array([pool.ignored for pool in new], np.bool_))
        self._places = [_more(places, [pool.places[i] for pool in new]) for i, places in enumerate(self._places)]

    def _value(self, number: int, axis: Axis) -> IntArray:
        places = self._places[number]
        return np.where(places != NOWHERE, places, 0) if axis.by_node else self._counts[number][places]

    def _open(self) -> BoolArray:
        """Which pools have nodes that may be taken."""
        ground = self._field
        found: BoolArray = self._sizes > 0
        for i, axis in enumerate(ground.axes):
            if axis.role is Role.APART:
                found &= self._value(i, axis) == 0
            elif axis.role is Role.HARD:
                found &= self._value(i, axis) + (axis.step - axis.least) <= axis.max_skew
            elif axis.role is Role.NEAR and not ground.begins:
                found &= self._value(i, axis) > 0
        return found

    def _taint_marks(self, at: IntArray) -> Any:
        weight = self._weights.taints
        if weight and self._field.minds_taints:
            intolerable = self._intolerable[at]
            most = int(intolerable.max())
            if most:
                return weight * (BEST - BEST * intolerable // most)
        return weight * BEST

    def _spread(self, at: IntArray) -> IntArray:
        """As `scores.spread`."""
        ignored = self._ignored[at]
        some = bool(ignored.any())
        compared = at[~ignored] if some else at
        if not len(compared):
            return np.zeros(len(at), np.int64)
        crowds = np.zeros(len(compared))
        for i, axis in self._soft:
            places = self._places[i][compared]
            there = places != (NOWHERE if axis.by_node else MISSING)
            if axis.by_node:
                different = int(self._sizes[compared][there].sum())
                counts = places
            else:
                different = int(np.count_nonzero(np.bincount(places[there], minlength=1)))
                counts = self._counts[i][places]
            crowds += np.where(there, counts * level_weight(different) + (axis.max_skew - 1), 0.0)
        whole = crowds.astype(np.int64)
        least, most = int(whole.min()), int(whole.max())
        scores: IntArray = BEST * (most + least - whole) // most if most else np.full(len(whole), BEST, np.int64)
        if not some:
            return scores
        all_scores = np.zeros(len(at), np.int64)
        all_scores[~ignored] = scores
        return all_scores


def chooser(ground: Field, weights: CompareWeights, current: Chooser | None) -> Chooser:
    """The faster one for so many pools, which may be the current one. One that listens is good only as long as it hears
    of every change: if counts or nodes are changed from outside, there is no current one any more."""
    many = len(ground.live) > FEW
    if current is not None and current.listens == many:
        return current
    return ManyChooser(ground, weights) if many else FewChooser(ground, weights)


def _none() -> IntArray:
    return np.zeros(0, np.int64)


def _more(array: IntArray, values: Sequence[int]) -> IntArray:
    return np.append(array, np.array(values, np.int64))
