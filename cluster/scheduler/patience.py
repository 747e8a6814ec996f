"""What is said of pods only after a while: that members of their group are missing, that nobody is their scheduler.

Both begin to wait when they are heard of, and the time counts from the next look at the clock (`begin`). A table that
has none itself.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass

from cluster.api.meta import Key
from cluster.scheduler.lots import GangKey

STRANGERS_LIMIT = 10_000
"""Pods of unknown schedulers that are remembered; the oldest are forgotten first, and nothing is said of them."""
STRANGER_AFTER_S = 30.0
"""So long another scheduler has to place its pod, before anything is said of it."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A pod that waits for a scheduler that is none of ours."""

    key: Key
    uid: str
    scheduler: str


class Patience:
    """Who waits, and until when nothing is said."""

    def __init__(self) -> None:
        self._new_gangs: dict[GangKey, float] = {}
        self._gangs: list[tuple[float, GangKey]] = []
        self._timed: set[GangKey] = set()
        """Those that stand in it."""
        self._new_strangers: dict[str, Stranger] = {}
        self._strangers: OrderedDict[str, tuple[Stranger, float]] = OrderedDict()
        """By uid; and when something is said."""

    def gathers(self, gang: GangKey, timeout_s: float) -> None:
        """A gang waits for members, for so long without a word. Does nothing if it waits already."""
        if gang not in self._timed:
            self._new_gangs[gang] = timeout_s

    def stranger(self, stranger: Stranger) -> None:
        """A pod waits for another scheduler. Does nothing if it waits already."""
        if stranger.uid not in self._strangers:
            self._new_strangers[stranger.uid] = stranger

    def forget(self, uid: str) -> None:
        """A pod is no stranger any more, or is gone."""
        if self._strangers or self._new_strangers:
            self._strangers.pop(uid, None)
            self._new_strangers.pop(uid, None)

    def begin(self, now_s: float) -> None:
        """The time of those that are new begins."""
        for gang, timeout_s in self._new_gangs.items():
            self._timed.add(gang)
            heapq.heappush(self._gangs, (now_s + timeout_s, gang))
        self._new_gangs.clear()
        for uid, stranger in self._new_strangers.items():
            self._strangers[uid] = (stranger, now_s + STRANGER_AFTER_S)
            if len(self._strangers) > STRANGERS_LIMIT:
                self._strangers.popitem(last=False)
        self._new_strangers.clear()

    def overdue_gangs(self, now_s: float) -> list[GangKey]:
        """Gangs whose time is over. They wait no more: say `gathers` again of those that do."""
        over = []
        while self._gangs and self._gangs[0][0] <= now_s:
            gang = heapq.heappop(self._gangs)[1]
            self._timed.discard(gang)
            over.append(gang)
        return over

    def overdue_strangers(self, now_s: float) -> list[Stranger]:
        """Strangers whose time is over; each once."""
        over = []
        while self._strangers and next(iter(self._strangers.values()))[1] <= now_s:
            over.append(self._strangers.popitem(last=False)[1][0])
        return over

    def next_due_s(self) -> float | None:
        """When somebody's time is over."""
        due = [self._gangs[0][0]] if self._gangs else []
        if self._strangers:
            due.append(next(iter(self._strangers.values()))[1])
        return min(due, default=None)
