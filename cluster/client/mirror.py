"""What a mirror of one kind of objects asks for and makes of the answers, whatever breaks on the way. Pure.

The protocol of a reflector, after Kubernetes' client-go, with the initial state and the changes on one stream:

    no revision known     watch(initial_state): collect ADDED ... INITIAL_STATE_END, then sink.replace(all of it)
    revision N known      watch(after_revision=N): sink.apply(batch), N grows with each batch, also by bookmarks
    Expired               N is no longer kept: forget N, begin again. This reader was too slow: try after N once more
    StoreRewound          the store was rebuilt or restored, revisions mean something else: forget N, begin again
    anything else         keep N, wait (50 ms, doubling to 2 s, with jitter), try again

So the sink sees every change exactly once and in the order of revisions, or a `replace` where that was impossible. Who
carries the answers here is `reflector.py`, which reads a stream, or `listening.py`, which is called.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cluster.actor.backoff import Backoff
from cluster.api.errors import ApiError, BadRequest, Expired, Forbidden, Invalid, StoreRewound, Unauthenticated
from cluster.api.kinds import AnyObject
from cluster.client.interface import EventType, WatchEvent

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


@dataclass(frozen=True, slots=True)
class Wish:
    """What to watch for: the arguments of `ClusterClient.watch`."""

    after_revision: int | None
    initial_state: bool
    store_id: str


class Mirror(Generic[T]):
    """See the head of this file."""

    __slots__ = (
        "_can_resume",
        "_name",
        "_objects",
        "_overtaken_at",
        "_retry",
        "_sink",
        "_store_id",
        "failures",
        "relists",
        "revision",
    )

    def __init__(self, name: str, sink: Sink[T], retry: Backoff) -> None:
        """`name` says in the log what is mirrored. `retry` has jitter, so that a hundred watchers of a restarted master
        do not come back in step."""
        self._name = name
        self._sink = sink
        self._retry = retry
        self._store_id = ""
        self._can_resume = False
        self._objects: list[T] | None = None
        """The initial state while it is being read; not bounded but by that state, which the sink will hold anyway."""
        self._overtaken_at = 0
        """Where this mirror was when its watch was closed for being slow; twice at one place, all is read again."""
        self.revision = 0
        """The mirror is true as of this revision; 0 before the first `replace`."""
        self.relists = 0
        """How often the whole state was read."""
        self.failures = 0
        """How often a watch broke."""

    @property
    def is_complete(self) -> bool:
        """The watch that is under way has told its initial state, if it was to tell one."""
        return self._objects is None

    def begin(self) -> Wish:
        """What to watch for now; what `take` is given from here on answers this."""
        if self._can_resume:
            self._objects = None
            return Wish(self.revision, False, self._store_id)
        self._objects = []
        return Wish(None, True, "")

    def take(self, batch: Sequence[WatchEvent[T]], store_id: str) -> None:
        """A batch of the watch, from a store. Raises Expired if that is not the one that was mirrored until now."""
        if self._objects is not None:
            batch = self._take_initial(batch, store_id)
        elif store_id and self._store_id and store_id != self._store_id:
            raise Expired("the cluster's store is another one than before")
        if not batch:
            return
        seen = self.revision
        # A server that repeats itself after a resume does no harm: a revision is never split over two batches.
        events = [event for event in batch if event.object is not None and event.revision > seen]
        revision = max(seen, batch[-1].revision)
        if events:
            self._sink.apply(events, revision)
        self.revision = revision

    def _take_initial(self, batch: Sequence[WatchEvent[T]], store_id: str) -> Sequence[WatchEvent[T]]:
        """Collects the initial state; what comes after it."""
        assert self._objects is not None
        for position, event in enumerate(batch):
            if event.type is EventType.INITIAL_STATE_END:
                objects, self._objects = self._objects, None
                self._store_id = store_id
                self.relists += 1
                self._sink.replace(objects, event.revision)
                self.revision = event.revision
                self._can_resume = True
                return batch[position + 1 :]
            if event.object is not None:
                self._objects.append(event.object)
        return ()

    def failed(self, error: ApiError, lived_s: float) -> float:
        """The watch has ended with this error, so long after it began: how many seconds to wait before the next."""
        self.failures += 1
        if lived_s >= STEADY_S:
            self._retry.reset()
        if isinstance(error, _HOPELESS):
            _log.warning("may not or cannot watch %s: %s", self._name, error)
            return RETRY_MAX_S
        elif isinstance(error, Expired) and error.last_revision and self.revision > self._overtaken_at:
            # Too slow to be waited for, but what comes next may well be there still.
            self._overtaken_at = self.revision
            _log.info("watching %s again, after revision %d: %s", self._name, self.revision, error)
        elif isinstance(error, (Expired, StoreRewound)):
            _log.info("reading all %s again: %s", self._name, error)
            self._can_resume = False
        else:
            _log.debug("the watch of %s broke: %s", self._name, error)
        return self._retry.next()
