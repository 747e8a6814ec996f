"""A reflector that fills an indexer and calls whoever wants to know: how a daemon sees the cluster.

Handlers are plain functions, called as `handler(old, new)`: (None, new) for an object that is new, (old, new) for a
change, (old, None) for one that is gone. They are called in the order of revisions, after the indexer has taken the
change, and for one key never with a gap: an object that was deleted and made again meanwhile (another uid) is delivered
as gone and then as new. A handler that raises is logged and hurts nobody else. They do not block: they put a key into a
work queue or set a flag. A batch handler gets the same changes in the same order, as a list per batch of the watch, or
the whole of a state that was read: for those who keep much and would rather take it in at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import DeadlineExceeded
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, key_of
from cluster.client.indexer import Indexer, IndexFunction
from cluster.client.interface import ClusterClient, EventType, WatchEvent
from cluster.client.reflector import Reflector

T = TypeVar("T", bound=AnyObject)
Handler = Callable[[T | None, T | None], None]
Change = tuple[T | None, T | None]
BatchHandler = Callable[[Sequence[tuple[T | None, T | None]]], None]

_log = logging.getLogger("podium.client")


class Informer(Generic[T]):
    """A live, indexed copy of one kind of objects (those that the selectors match)."""

    def __init__(
        self,
        client: ClusterClient,
        kind: type[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        indexes: Mapping[str, IndexFunction[T]] | None = None,
        trim: Callable[[T], T] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`trim`: what is kept of an object, and told to handlers, for those who need little of it."""
        self.indexer: Indexer[T] = Indexer(indexes)
        self._trim = trim
        self._name = f"informer {kind.__name__}"
        self._handlers: list[Handler[T]] = []
        self._batch_handlers: list[BatchHandler[T]] = []
        self._batch: list[Change[T]] = []
        self._synced = asyncio.Event()
        self._on_synced: list[Callable[[], None]] = []
        self._tasks = Tasks(self._name)
        self._reflector: Reflector[T] = Reflector(
            client,
            kind,
            self,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            clock=clock,
            rng=rng,
        )

    @property
    def revision(self) -> int:
        """The copy is true as of this revision; 0 before the first sync."""
        return self._reflector.revision

    @property
    def has_synced(self) -> bool:
        """The whole state has been read at least once."""
        return self._synced.is_set()

    @property
    def relists(self) -> int:
        """How often the whole state was read."""
        return self._reflector.relists

    def add_handler(self, on_change: Handler[T]) -> None:
        """Calls `on_change` for every change from now on, and at once as (None, obj) for each object already known."""
        self._handlers.append(on_change)
        for obj in self.indexer.list():
            self._call(on_change, None, obj)

    def add_batch_handler(self, on_changes: BatchHandler[T]) -> None:
        """Calls `on_changes` with every batch of changes from now on, and at once with the objects already known. When
        it is called, the indexer is as it is after the last of them."""
        self._batch_handlers.append(on_changes)
        known: list[Change[T]] = [(None, obj) for obj in self.indexer.list()]
        if known:
            self._call_batch(on_changes, known)

    def on_synced(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once, after the first complete state has been delivered; at once if that is past."""
        if self.has_synced:
            callback()
        else:
            self._on_synced.append(callback)

    async def start(self) -> None:
        """Begins to watch, and returns at once; see `wait_synced`. Twice is a mistake."""
        self._tasks.spawn(self._reflector.run(), name=self._name)

    async def stop(self) -> None:
        """Ends the watch. The indexer keeps what it has. Twice is fine."""
        await self._tasks.cancel_all()

    async def wait_synced(self, timeout_s: float) -> None:
        """Returns once `has_synced`. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"the {self._name} has not synced within {timeout_s:g} s") from None

    # --- what the reflector tells (its Sink)

    def replace(self, objects: Sequence[T], revision: int) -> None:
        if self._trim is not None:
            objects = [self._trim(obj) for obj in objects]
        keys = [key_of(obj) for obj in objects]
        for key in set(self.indexer.keys()).difference(keys):
            self._forget(key, None)
        for key, obj in zip(keys, objects, strict=True):
            # What has not changed since the state was last read is no news.
            if self.indexer.get(key) != obj:
                self._keep(key, obj)
        self._tell_batch()
        if not self._synced.is_set():
            self._synced.set()
            for callback in self._on_synced:
                try:
                    callback()
                except Exception:
                    _log.exception("%s: a callback failed", self._name)
            self._on_synced.clear()

    def apply(self, events: Sequence[WatchEvent[T]], revision: int) -> None:
        for event in events:
            obj = event.object
            assert obj is not None
            if self._trim is not None:
                obj = self._trim(obj)
            key = key_of(obj)
            if event.type is EventType.DELETED:
                self._forget(key, obj)
            else:
                self._keep(key, obj)
        self._tell_batch()

    def _keep(self, key: Key, obj: T) -> None:
        old = self.indexer.get(key)
        if old is not None and old.metadata.uid != obj.metadata.uid:
            self._forget(key, None)
            old = None
        self.indexer.put(obj, key)
        self._tell(old, obj)

    def _forget(self, key: Key, last: T | None) -> None:
        old = self.indexer.remove(key)
        if old is not None:
            # The content with which it went, where that is known.
            self._tell(last if last is not None and last.metadata.uid == old.metadata.uid else old, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            self._call(handler, old, new)
        if self._batch_handlers:
            self._batch.append((old, new))

    def _tell_batch(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            for handler in self._batch_handlers:
                self._call_batch(handler, batch)

    def _call_batch(self, handler: BatchHandler[T], changes: Sequence[Change[T]]) -> None:
        try:
            handler(changes)
        except Exception:
            _log.exception("%s: a handler failed for %d changes", self._name, len(changes))

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:
            obj = new if new is not None else old
            _log.exception("%s: a handler failed for %s", self._name, key_of(obj) if obj is not None else "?")
