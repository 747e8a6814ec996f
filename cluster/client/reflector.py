"""Keeps a mirror of one kind of objects true, through restarts of the master and broken connections.

The protocol of a reflector, after Kubernetes' client-go, with the initial state and the changes on one stream:

    no revision known     watch(initial_state): collect ADDED ... INITIAL_STATE_END, then sink.replace(all of it)
    revision N known      watch(after_revision=N): sink.apply(batch), N grows with each batch, also by bookmarks
    Expired               N is no longer kept: forget N, begin again. This reader was too slow: try after N once more
    StoreRewound          the store was rebuilt or restored, revisions mean something else: forget N, begin again
    anything else         keep N, wait (50 ms, doubling to 2 s, with jitter), try again

So the sink sees every change exactly once and in the order of revisions, or a `replace` where that was impossible. It
refuses to know what the sink does with them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock, SystemClock
from cluster.api.errors import (
    ApiError,
    BadRequest,
    Expired,
    Forbidden,
    Invalid,
    StoreRewound,
    Unauthenticated,
    Unavailable,
)
from cluster.api.kinds import AnyObject
from cluster.client.interface import ClusterClient, EventType, WatchEvent, WatchStream

T = TypeVar("T", bound=AnyObject)

_log = logging.getLogger("podium.client")

RETRY_INITIAL_S = 0.05
RETRY_MAX_S = 2.0
STEADY_S = 5.0
"""A stream that lived this long was no flapping: the next retry is quick again."""

_HOPELESS = (Forbidden, Unauthenticated, BadRequest, Invalid)
"""Retrying soon will not help; retry slowly, since certificates and rules may change."""


class Sink(Protocol[T]):
    """Where the mirror is kept. Neither call may raise."""

    def replace(self, objects: Sequence[T], revision: int) -> None:
        """These are all the objects there are, as of that revision."""
        ...

    def apply(self, events: Sequence[WatchEvent[T]], revision: int) -> None:
        """These changes come next; with them the mirror is true as of that revision. No bookmarks among them."""
        ...


class Reflector(Generic[T]):
    """Runs the protocol above for one kind and one set of selectors."""

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
        self._sink = sink
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock: Clock = clock or SystemClock()
        # Jitter, so that a hundred watchers of a restarted master do not come back in step.
        self._retry = Backoff(RETRY_INITIAL_S, RETRY_MAX_S, jitter=0.5, rng=rng or random.Random())
        self._store_id = ""
        self._can_resume = False
        self._overtaken_at = 0
        """Where this mirror was when its watch was closed for being slow; twice at one place, all is read again."""
        self.revision = 0
        """The mirror is true as of this revision; 0 before the first `replace`."""
        self.relists = 0
        """How often the whole state was read."""
        self.failures = 0
        """How often a watch broke."""

    async def run(self) -> None:
        """Never returns; ends by cancellation only."""
        while True:
            started_s = self._clock.monotonic()
            try:
                await self._watch()
            except ApiError as error:
                self.failures += 1
                steady = self._clock.monotonic() - started_s >= STEADY_S
                await self._clock.sleep(self._next_delay(error, steady))
            except Exception:
                # A bug here or in a transport must not silently end the mirror.
                self.failures += 1
                _log.exception("the watch of %s failed", self._kind.__name__)
                await self._clock.sleep(RETRY_MAX_S)

    async def _watch(self) -> None:
        resume = self._can_resume
        async with self._client.watch(
            self._kind,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            after_revision=self.revision if resume else None,
            initial_state=not resume,
            store_id=self._store_id if resume else "",
        ) as stream:
            if not resume:
                await self._read_initial_state(stream)
            async for batch in stream:
                self._check_store(stream)
                self._take(batch)
        raise Unavailable("the watch ended")

    async def _read_initial_state(self, stream: WatchStream[T]) -> None:
        # Not bounded but by the state itself, which the sink will hold anyway.
        objects: list[T] = []
        async for batch in stream:
            for position, event in enumerate(batch):
                if event.type is EventType.INITIAL_STATE_END:
                    self._store_id = stream.store_id
                    self.relists += 1
                    self._sink.replace(objects, event.revision)
                    self.revision = event.revision
                    self._can_resume = True
                    self._take(batch[position + 1 :])
                    return
                if event.object is not None:
                    objects.append(event.object)
        raise Unavailable("the watch ended before its initial state did")

    def _take(self, batch: Sequence[WatchEvent[T]]) -> None:
        seen = self.revision
        # A server that repeats itself after a resume does no harm: a revision is never split over two batches.
        events = [event for event in batch if event.object is not None and event.revision > seen]
        revision = max(seen, batch[-1].revision) if batch else seen
        if events:
            self._sink.apply(events, revision)
        self.revision = revision

    def _check_store(self, stream: WatchStream[T]) -> None:
        if stream.store_id and self._store_id and stream.store_id != self._store_id:
            raise Expired("the cluster's store is another one than before")

    def _next_delay(self, error: ApiError, steady: bool) -> float:
        if steady:
            self._retry.reset()
        if isinstance(error, _HOPELESS):
            _log.warning("may not or cannot watch %s: %s", self._kind.__name__, error)
            return RETRY_MAX_S
        elif isinstance(error, Expired) and error.last_revision and self.revision > self._overtaken_at:
            # Too slow to be waited for, but what comes next may well be there still.
            self._overtaken_at = self.revision
            _log.info("watching %s again, after revision %d: %s", self._kind.__name__, self.revision, error)
        elif isinstance(error, (Expired, StoreRewound)):
            _log.info("reading all %s again: %s", self._kind.__name__, error)
            self._can_resume = False
        else:
            _log.debug("the watch of %s broke: %s", self._kind.__name__, error)
        return self._retry.next()
