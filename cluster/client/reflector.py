"""Keeps a mirror of one kind of objects true by reading a watch of its own; what that means is in `mirror.py`.

It refuses to know what the sink does with the objects.
"""

from __future__ import annotations

import logging
import random
from typing import Generic, TypeVar

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock, SystemClock
from cluster.api.errors import ApiError, Unavailable
from cluster.api.kinds import AnyObject
from cluster.client.interface import ClusterClient
from cluster.client.mirror import RETRY_INITIAL_S, RETRY_MAX_S, Mirror, Sink

T = TypeVar("T", bound=AnyObject)

_log = logging.getLogger("podium.client")


class Reflector(Generic[T]):
    """Runs the protocol of a mirror for one kind and one set of selectors."""

    def __init__(
        self,
        client: ClusterClient,
        kind: type[T],
        sink: Sink[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock: Clock = clock or SystemClock()
        retry = Backoff(RETRY_INITIAL_S, RETRY_MAX_S, jitter=0.5, rng=rng or random.Random())
        self._mirror: Mirror[T] = Mirror(kind.__name__, sink, retry)

    @property
    def revision(self) -> int:
        """The mirror is true as of this revision; 0 before the first `replace`."""
        return self._mirror.revision

    @property
    def relists(self) -> int:
        """How often the whole state was read."""
        return self._mirror.relists

    @property
    def failures(self) -> int:
        """How often a watch broke."""
        return self._mirror.failures

    async def run(self) -> None:
        """Never returns; ends by cancellation only."""
        while True:
            started_s = self._clock.monotonic()
            try:
                await self._watch()
            except ApiError as error:
                await self._clock.sleep(self._mirror.failed(error, self._clock.monotonic() - started_s))
            except Exception:
                # A bug here or in a transport must not silently end the mirror.
                self._mirror.failures += 1
                _log.exception("the watch of %s failed", self._kind.__name__)
                await self._clock.sleep(RETRY_MAX_S)

    async def _watch(self) -> None:
        wish = self._mirror.begin()
        async with self._client.watch(
            self._kind,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            after_revision=wish.after_revision,
            initial_state=wish.initial_state,
            store_id=wish.store_id,
        ) as stream:
            async for batch in stream:
                self._mirror.take(batch, stream.store_id)
        raise Unavailable("the watch ended" if self._mirror.is_complete else "the watch ended before its initial state")
