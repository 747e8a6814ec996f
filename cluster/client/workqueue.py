"""The queue of a controller: keys of objects that should be looked at, after Kubernetes' client-go.

    add(k) while k waits          nothing: it waits already
    add(k) while k is worked on   k is given out again after done(k), never to two workers at once
    add_after(k, s)               add(k) after that time; of several times for one key the earliest counts
    add_rate_limited(k)           add_after with a delay that doubles with each call until forget(k)

The queue holds keys, not events: whoever gets a key looks up what is true now. So nothing is lost by holding each key
once, and the queue is never longer than there are objects. It is bounded all the same: when full, `add` refuses the
key (False), and once the queue has run empty `resync` is called, which adds all keys that the owner knows.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cluster.actor.clock import Clock, SystemClock
from cluster.actor.tasks import Tasks

K = TypeVar("K", bound=Hashable)


class QueueClosed(Exception):
    """The queue was closed: there will be no more keys."""


class WorkQueue(Generic[K]):
    """See above. Lives on one event loop; `close` ends its timer and every waiting `get`."""

    def __init__(
        self,
        name: str = "workqueue",
        *,
        limit: int = 100_000,
        resync: Callable[[], None] | None = None,
        retry_initial_s: float = 0.005,
        retry_max_s: float = 60.0,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`rng` adds jitter (up to a quarter less) to the delays of `add_rate_limited`."""
        self._clock: Clock = clock or SystemClock()
        self._rng = rng
        self._limit = limit
        self._resync = resync
        self._retry_initial_s = retry_initial_s
        self._retry_max_s = retry_max_s
        self._waiting: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._tasks = Tasks(name)
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = 0.0
        self._closed = False
        self._overflowed = False
        self.refused = 0
        """How many keys were refused because the queue was full."""

    def __len__(self) -> int:
        """Keys that wait for a worker now (without those that are delayed)."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """No key waits, is worked on, or is delayed."""
        return not (self._dirty or self._working or self._due)

    def add(self, key: K) -> bool:
        """Queues a key. False if the queue is full (see above) or closed."""
        if self._closed:
            return False
        if key in self._dirty:
            return True
        if len(self._dirty) >= self._limit:
            self.refused += 1
            self._overflowed = True
            return False
        self._dirty.add(key)
        if key not in self._working:
            self._waiting.append(key)
            self._wake()
        return True

    def add_after(self, key: K, delay_s: float) -> None:
        """Queues a key after `delay_s` seconds; at once if that is not positive."""
        if self._closed:
            return
        if delay_s <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + delay_s
        if key in self._due:
            if self._due[key] <= due:
                return
        elif len(self._due) >= self._limit:
            # Too many delays to remember: better too early than never.
            self.add(key)
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._set_timer()

    def add_rate_limited(self, key: K) -> float:
        """Queues a key after a delay that doubles each time, and returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is capped as well: 2.0 ** 1100 does not exist.
        delay_s = min(self._retry_initial_s * 2.0 ** min(failures, 60), self._retry_max_s)
        if self._rng is not None:
            delay_s *= self._rng.uniform(0.75, 1.0)
        self.add_after(key, delay_s)
        return delay_s

    def failures(self, key: K) -> int:
        """How often the key was added rate limited since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key went well: its next rate limited delay is the shortest again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, which nobody else will get until `done(key)`. Raises QueueClosed."""
        while not self._waiting:
            if self._closed:
                raise QueueClosed
            if self._overflowed and not self._working and self._resync is not None:
                self._overflowed = False
                self._resync()
                continue
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # Woken and cancelled at once: the key must not be left lying.
                if getter.done() and not getter.cancelled():
                    self._wake()
                elif getter in self._getters:
                    self._getters.remove(getter)
                raise
        if self._closed:
            raise QueueClosed
        key = self._waiting.popleft()
        self._dirty.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on the key is over; if it was added meanwhile, it is queued again."""
        self._working.discard(key)
        if key in self._dirty:
            self._waiting.append(key)
            self._wake()
        elif self._overflowed:
            self._wake(even_empty=True)

    async def close(self) -> None:
        """Ends every `get`, forgets what is queued. Twice is fine."""
        self._closed = True
        self._heap.clear()
        self._due.clear()
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
        await self._tasks.cancel_all()

    def _wake(self, even_empty: bool = False) -> None:
        if not self._waiting and not even_empty:
            return
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _set_timer(self) -> None:
        due = self._heap[0][0]
        if self._timer is not None and not self._timer.done():
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._tasks.spawn(self._run_timer(), name="workqueue timer")

    async def _run_timer(self) -> None:
        while self._heap:
            self._timer_due = self._heap[0][0]
            await self._clock.sleep(max(0.0, self._timer_due - self._clock.monotonic()))
            now = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                due, _, key = heapq.heappop(self._heap)
                # Entries that an earlier time has replaced are skipped.
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
