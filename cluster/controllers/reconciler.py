"""The shell that every controller shares: workers that take keys from a queue and set each one right.

A controller gives one coroutine, `sync(key)`: it looks up what is true now, decides (in a pure function), and writes.
It returns when the key is as it should be, returns False to be asked again later, or raises; a key is never lost. Who
wants to be asked at a certain time adds the key to the queue with a delay.

  returns None or True        done; the next failure starts with the shortest delay again
  returns False, or Conflict  asked again after 5 ms, 10, 20 ... up to a minute
  master away or overloaded   asked again after 200 ms: the delay must not have grown by the time it is back
  any other exception         logged; then as Conflict
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cluster.actor.tasks import Tasks
from cluster.api.errors import AlreadyExists, Conflict, DeadlineExceeded, NotFound, Overloaded, Unavailable
from cluster.client.workqueue import QueueClosed, WorkQueue
from cluster.controllers.context import Context

K = TypeVar("K", bound=Hashable)

AWAY_RETRY_S = 0.2
RETRY_MAX_S = 60.0

_AWAY = (Unavailable, DeadlineExceeded, Overloaded)
_STALE = (Conflict, NotFound, AlreadyExists)
AGAIN = (*_AWAY, Conflict, AlreadyExists)
"""Errors that say nothing against what was asked for: the same may well succeed when it is asked again."""

_log = logging.getLogger(__name__)


class Reconciler(Generic[K]):
    """A queue of keys and the workers that empty it. The queue refuses nothing below 100,000 keys, one per object."""

    def __init__(
        self,
        name: str,
        sync: Callable[[K], Awaitable[bool | None]],
        *,
        workers: int,
        context: Context,
        resync: Callable[[], None],
    ) -> None:
        """`resync` adds every key there is; it is called after the queue was full and had to refuse some."""
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue(
            name, retry_max_s=RETRY_MAX_S, clock=context.clock, rng=context.rng, resync=resync
        )
        self._sync = sync
        self._workers = workers
        self._tasks = Tasks(name, on_crash=context.on_crash)

    async def start(self) -> None:
        """The workers begin with what was queued before."""
        for number in range(self._workers):
            self._tasks.spawn(self._work(), name=f"{self.name} worker {number}")

    async def stop(self) -> None:
        """Ends the workers, in the middle of a write if need be. Twice is fine."""
        await self.queue.close()
        await self._tasks.cancel_all()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueClosed:
                return
            try:
                await self._attempt(key)
            finally:
                self.queue.done(key)

    async def _attempt(self, key: K) -> None:
        try:
            done = await self._sync(key)
        except _AWAY as error:
            _log.debug("%s: %s waits: %s", self.name, key, error)
            self.queue.add_after(key, AWAY_RETRY_S)
        except _STALE as error:
            _log.debug("%s: %s again: %s", self.name, key, error)
            self.queue.add_rate_limited(key)
        except Exception:
            _log.exception("%s: %s failed", self.name, key)
            self.queue.add_rate_limited(key)
        else:
            if done is False:
                self.queue.add_rate_limited(key)
            else:
                self.queue.forget(key)
