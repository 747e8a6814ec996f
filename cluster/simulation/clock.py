"""Virtual time: an hour passes in no time, and in the right order.

Whoever waits by this clock waits until somebody says that time has passed. Tests say it themselves (`run_for`); in a
simulation time passes when everybody waits (`idle.py`), from one moment at which something happens to the next
(`advance_to_next`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools


class VirtualClock:
    """A Clock that stands still until it is told to go on. Sleepers wake in the order of their times; those of one
    moment in the order in which they went to sleep."""

    def __init__(self, monotonic_s: float = 1000.0, wall_s: float = 1_700_000_000.0) -> None:
        self._now_s = monotonic_s
        self._wall_offset_s = wall_s - monotonic_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._now_s

    def wall(self) -> float:
        return self._now_s + self._wall_offset_s

    def jump_wall(self, seconds: float) -> None:
        """What an administrator does to a machine's clock; durations do not notice."""
        self._wall_offset_s += seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._order), future))
        await future

    def next_due_s(self) -> float | None:
        """When the next sleeper wakes, in monotonic seconds; None if nobody sleeps. Who has given up does not count."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, seconds: float) -> None:
        """Lets time pass at once; sleepers that are due become ready, and run when the caller next awaits."""
        self._advance_to(self._now_s + seconds)

    def advance_to_next(self) -> bool:
        """Lets time pass to the moment at which the next sleeper wakes; all of that moment become ready. False if
        nobody sleeps."""
        due_s = self.next_due_s()
        if due_s is None:
            return False
        self._advance_to(max(due_s, self._now_s))
        return True

    def _advance_to(self, target_s: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= target_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, due_s)
            if not future.done():
                future.set_result(None)
        self._now_s = target_s

    async def run_for(self, seconds: float, settle: int = 20) -> None:
        """Lets time pass from sleeper to sleeper, and everyone act at each stop."""
        target_s = self._now_s + seconds
        await self.settle(settle)
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self.advance(max(0.0, self._sleepers[0][0] - self._now_s))
            await self.settle(settle)
        self.advance(target_s - self._now_s)
        await self.settle(settle)

    async def settle(self, rounds: int = 20) -> None:
        """Lets every task that can run do so, a number of rounds."""
        for _ in range(rounds):
            await asyncio.sleep(0)
