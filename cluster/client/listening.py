"""Keeps a mirror of one kind of objects true by listening: like a reflector, without a task and a stream of its own.

For a process that has thousands of mirrors: what one costs while nothing happens is a few hundred bytes. What is asked
for and made of the answers is in `mirror.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError
from cluster.api.kinds import AnyObject
from cluster.client.interface import ClusterClient, WatchEvent
from cluster.client.mirror import RETRY_INITIAL_S, RETRY_MAX_S, Mirror, Sink

T = TypeVar("T", bound=AnyObject)


class Listening(Generic[T]):
    """One mirror; its sink hears from `start` to `stop`."""

    __slots__ = ("_begun_at_s", "_client", "_clock", "_end", "_kind", "_mirror", "_selectors", "_stopped", "_tasks")

    def __init__(
        self,
        client: ClusterClient,
        kind: type[T],
        sink: Sink[T],
        *,
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock,
        rng: random.Random,
        tasks: Tasks,
    ) -> None:
        """`tasks` owns the waits between a watch that broke and the next."""
        self._client = client
        self._kind = kind
        self._selectors = label_selector, field_selector
        self._clock = clock
        self._tasks = tasks
        name = f"{kind.__name__} ({field_selector or label_selector or 'all'})"
        self._mirror: Mirror[T] = Mirror(name, sink, Backoff(RETRY_INITIAL_S, RETRY_MAX_S, jitter=0.5, rng=rng))
        self._end: Callable[[], None] | None = None
        self._begun_at_s = 0.0
        self._stopped = False

    @property
    def has_synced(self) -> bool:
        """The whole state has been read at least once."""
        return self._mirror.relists > 0

    def start(self) -> None:
        """Begins to listen."""
        self._begun_at_s = self._clock.monotonic()
        wish = self._mirror.begin()
        label_selector, field_selector = self._selectors
        try:
            self._end = self._client.listen(
                self._kind,
                self,
                label_selector=label_selector,
                field_selector=field_selector,
                after_revision=wish.after_revision,
                initial_state=wish.initial_state,
                store_id=wish.store_id,
            )
        except ApiError as error:
            self.ended(error)

    def stop(self) -> None:
        """Ends; the sink hears nothing more. Twice is fine."""
        self._stopped = True
        self._end_watch()

    def _end_watch(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end()

    # --- what the watch tells

    def heard(self, batch: Sequence[WatchEvent[T]], store_id: str) -> None:
        """See `WatchListener`."""
        if self._stopped:
            return
        try:
            self._mirror.take(batch, store_id)
        except ApiError as error:
            self._end_watch()
            self.ended(error)

    def ended(self, error: ApiError) -> None:
        """See `WatchListener`."""
        self._end = None
        if not self._stopped:
            delay_s = self._mirror.failed(error, self._clock.monotonic() - self._begun_at_s)
            self._tasks.spawn(self._again(delay_s), name="watch again")

    async def _again(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        if not self._stopped:
            self.start()
