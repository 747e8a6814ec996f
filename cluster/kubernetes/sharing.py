"""Watches of one caller that wish for the same are told from one watch at the master, and each event is encoded once.

    hub = Hub(clock)
    leave = hub.join(client, wish, reader, since=120)

Every reader begins with a source of its own, a watch at the master that begins where the reader wants to begin; so what
a master says about the beginning (Forbidden, Expired, what there is) is said to that reader alone. The first source of
a wish that is past its beginning becomes the common one. Any other source whose readers know as much as those of the
common one gives them over, and ends:

    common   ... 7 8 9        told up to 9                 own   ... 7 8      not yet: the reader would miss 9
    common   ... 7 8 9                                     own   ... 8 9      given over: both go on with 10
    common   ... 7 8 9                                     own   ... 9 10 11  given over, and does not hear of 10 and 11
                                                                              from the common one a second time

This is right because both tell the same changes of the same store in the order of their revisions, and never a part of
what happened at one revision. When a source breaks, all its readers hear of it, and each begins anew where it was.

With two hundred readers, to hand an event to all of them takes longer than to hear of it. So after it was handed out,
a source rests for REST times as long, up to MAX_REST_S: what is heard meanwhile goes out together, and most of the time
is left for others. With few readers the rest is too short to be noticed; for one alone there is none.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError
from cluster.api.kinds import AnyObject
from cluster.client.interface import ClusterClient, EventType, WatchEvent

REST = 4
MAX_REST_S = 0.05
"""Between two times that readers are woken, as measured by how long they took."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is watched. Those who wish for the same, of the same client, are told the same."""

    kind: type[AnyObject]
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    allow_stale: bool = False


@dataclass(slots=True)
class News:
    """An event, and the bytes that it was encoded to."""

    event: WatchEvent[Any]
    encoded: dict[Any, bytes] = field(default_factory=dict)
    """By what readers want, each in the words of its own."""


class Reader(Protocol):
    """Who is told. No call may wait or raise."""

    def heard(self, news: Sequence[News]) -> None:
        """Events, in order. A call of `wake` follows."""
        ...

    def wake(self) -> None:
        """There is news."""
        ...

    def ended(self, error: ApiError) -> None:
        """The watch is over; nothing more is heard."""
        ...


class Hub:
    """All sources of a process. Use from one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._common: dict[tuple[ClusterClient, Wish], Source] = {}
        self._sources: dict[Reader, Source] = {}

    def join(self, client: ClusterClient, wish: Wish, reader: Reader, *, since: int | None) -> Callable[[], None]:
        """Tells a reader all changes after a revision, or, if `since` is None, what there is, INITIAL_STATE_END and
        then the changes. Returns what ends that; called twice, or after the end, it does nothing. Raises what
        `ClusterClient.listen` raises."""
        source = self._sources[reader] = Source(self, client, wish, reader, since, self._clock)
        try:
            source.begin()
        except ApiError:
            self._sources.pop(reader, None)
            raise
        return lambda: self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        source = self._sources.pop(reader, None)
        if source is not None:
            source.leave(reader)

    # --- what sources say

    def told(self, source: Source) -> None:
        """A source that is past its beginning has told its readers something."""
        place = source.client, source.wish
        common = self._common.setdefault(place, source)
        if common is source or common.store_id != source.store_id or source.revision < common.revision:
            return
        for reader in source.give_over():
            self._sources[reader] = common
            common.take_over(reader, source.revision)

    def over(self, source: Source) -> None:
        """A source has ended, or has no readers any more."""
        for reader in source.readers:
            self._sources.pop(reader, None)
        place = source.client, source.wish
        if self._common.get(place) is source:
            del self._common[place]


class Source:
    """One watch at the master, and whom it tells. See the head of this file."""

    def __init__(
        self, hub: Hub, client: ClusterClient, wish: Wish, reader: Reader, since: int | None, clock: Clock
    ) -> None:
        self.client = client
        self.wish = wish
        self.store_id = ""
        self.revision = since or 0
        """All up to here was told."""
        self.readers: dict[Reader, int] = {reader: 0}
        """And up to where each of them knows more than was told here; 0 once it does not."""
        self._hub = hub
        self._since = since
        self._clock = clock
        self._begun = since is not None
        self._end: Callable[[], None] | None = None
        self._over = False
        self._rests = False
        self._has_news = False

    def begin(self) -> None:
        """See `Hub.join`."""
        wish = self.wish
        end = self.client.listen(
            wish.kind,
            self,
            wish.namespace,
            label_selector=wish.label_selector,
            field_selector=wish.field_selector,
            after_revision=self._since,
            initial_state=self._since is None,
            allow_stale=wish.allow_stale,
        )
        if self._over:
            end()
        else:
            self._end = end

    # --- what the master says

    def heard(self, batch: Sequence[WatchEvent[Any]], store_id: str) -> None:
        """See `WatchListener`."""
        if self._over:
            return
        self.store_id = store_id
        news = [News(event) for event in batch]
        for reader, known in self.readers.items():
            reader.heard(news if not known else [each for each in news if each.event.revision > known])
        for event in batch:
            if event.type is EventType.INITIAL_STATE_END:
                self._begun = True
            if self._begun:
                self.revision = max(self.revision, event.revision)
        for reader, known in self.readers.items():
            if known and known <= self.revision:
                self.readers[reader] = 0
        self._wake()
        if self._begun:
            self._hub.told(self)

    def ended(self, error: ApiError) -> None:
        """See `WatchListener`."""
        if self._over:
            return
        self._over, self._end = True, None
        self._hub.over(self)
        readers, self.readers = self.readers, {}
        for reader in readers:
            reader.ended(copy.copy(error))

    # --- readers

    def take_over(self, reader: Reader, known: int) -> None:
        """One more, who knows of everything up to a revision."""
        self.readers[reader] = known if known > self.revision else 0

    def give_over(self) -> list[Reader]:
        """Those who are told elsewhere from now on. The source ends."""
        readers, self.readers = list(self.readers), {}
        self._stop()
        return readers

    def leave(self, reader: Reader) -> None:
        """One less. After the last, the source ends."""
        self.readers.pop(reader, None)
        if not self.readers:
            self._stop()

    def _stop(self) -> None:
        self._over = True
        self._hub.over(self)
        end, self._end = self._end, None
        if end is not None:
            end()

    # --- waking, and rest

    def _wake(self) -> None:
        if self._rests:
            self._has_news = True
            return
        self._has_news = False
        for reader in self.readers:
            reader.wake()
        if len(self.readers) > 1:
            self._rests = True
            # Those who were woken run before this does, so it comes when they are done.
            asyncio.get_running_loop().call_soon(self._awake, self._clock.monotonic())

    def _awake(self, since_s: float) -> None:
        took_s = self._clock.monotonic() - since_s
        asyncio.get_running_loop().call_later(min(REST * took_s, MAX_REST_S), self._rested)

    def _rested(self) -> None:
        self._rests = False
        if self._has_news:
            self._wake()
