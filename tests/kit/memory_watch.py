"""A watch of the in-memory cluster: a cursor into its history, for what somebody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Generic, Protocol, TypeVar, cast

from cluster.api.errors import Expired, Unavailable
from cluster.api.fields import FieldSelector, parse_field_selector
from cluster.api.kinds import AnyObject, Kind
from cluster.api.labels import Selector, parse_selector
from cluster.client.interface import EventType, WatchEvent
from tests.kit.memory_rules import own_copy
from tests.kit.memory_store import MemoryStore
from tests.kit.memory_transaction import Change

T = TypeVar("T", bound=AnyObject)


class Watched(Protocol):
    """The cluster that is watched."""

    store: MemoryStore
    changed: asyncio.Event
    """Set, and replaced by another one, whenever there may be something to tell."""
    epoch: int
    """Another one: every watch breaks."""
    held: bool
    """No watch tells anything."""
    bookmarks: int
    """Another one: there is a bookmark for whoever has nothing else to hear of."""


class Connected(Protocol):
    """The client that watches."""

    closed: bool


class Filter:
    """Which objects somebody asked for."""

    def __init__(self, kind: Kind, namespace: str, label_selector: str, field_selector: str) -> None:
        self._kind = kind
        self._namespace = namespace
        self._labels: Selector = parse_selector(label_selector)
        self._fields: FieldSelector = parse_field_selector(kind.name, field_selector)

    def matches(self, obj: AnyObject | None) -> bool:
        if obj is None or type(obj) is not self._kind.message:
            return False
        if self._namespace and obj.metadata.namespace != self._namespace:
            return False
        return self._labels.matches(obj.metadata.labels) and self._fields.matches(obj)


class MemoryWatch(Generic[T]):
    """A cursor into the history."""

    def __init__(
        self,
        client: Connected,
        cluster: Watched,
        wanted: Filter,
        after_revision: int | None,
        initial_state: bool,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._store = cluster.store
        self._wanted = wanted
        self._initial_state = initial_state
        self._cursor = self._store.revision if after_revision is None else after_revision
        self._epoch = cluster.epoch
        self._bookmarks = cluster.bookmarks
        self.store_id = ""

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[T]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[T]]:
        while True:
            changed = self._cluster.changed
            batch = self._next_batch()
            if batch:
                self.store_id = self._store.store_id
                return batch
            await changed.wait()

    def _next_batch(self) -> list[WatchEvent[T]]:
        cluster, store = self._cluster, self._store
        if cluster.epoch != self._epoch or self._client.closed:
            raise Unavailable("the connection broke")
        if cluster.held:
            return []
        if self._initial_state:
            self._initial_state = False
            self._cursor = store.revision
            found = [obj for obj in store.objects.values() if self._wanted.matches(obj)]
            batch = [self._event(EventType.ADDED, int(obj.metadata.resourceVersion), obj) for obj in found]
            return [*batch, WatchEvent(EventType.INITIAL_STATE_END, store.revision, None)]
        if self._cursor > store.revision:
            raise Expired(f"revision {self._cursor} is in the future; the newest is {store.revision}")
        if self._cursor < store.compacted:
            raise Expired(f"the changes after revision {self._cursor} are no longer kept")
        news = []
        for change in reversed(store.history):
            if change.revision <= self._cursor:
                break
            news.append(change)
        self._cursor = store.revision
        events = [event for change in reversed(news) if (event := self._translate(change)) is not None]
        bookmarks = cluster.bookmarks
        if not events and bookmarks != self._bookmarks:
            events.append(WatchEvent(EventType.BOOKMARK, store.revision, None))
        self._bookmarks = bookmarks
        return events

    def _translate(self, change: Change) -> WatchEvent[T] | None:
        before, after = self._wanted.matches(change.old), self._wanted.matches(change.new)
        if after:
            assert change.new is not None
            return self._event(EventType.MODIFIED if before else EventType.ADDED, change.revision, change.new)
        if before:
            assert change.old is not None
            last = own_copy(change.old)
            last.metadata.resourceVersion = str(change.revision)
            return self._event(EventType.DELETED, change.revision, last)
        return None

    @staticmethod
    def _event(type_: EventType, revision: int, obj: AnyObject) -> WatchEvent[T]:
        return WatchEvent(type_, revision, cast(T, obj))
