"""One watch, from the first batch to the last: what is on disk, what is in memory, what comes.

    after 12, and the ring begins at 40       history 13..40 in pieces, then the lane's, from the ring and live
    after 57                                  what the ring has after 57, then live
    initial_state                             an ADDED per object and the marker, then live

The step from one to the next has no wait in it, so what a watcher was told and what it will hear of join exactly. All
the way its reader is timed (`watchers.py`): a reader who takes nothing is closed, whatever it is being handed.

Whoever reads many watches at once goes the same way (`bundle.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError, BadRequest, StoreRewound
from cluster.store import encoding
from cluster.store.history import PIECE, History
from cluster.store.mvcc import State
from cluster.store.ring import Ring
from cluster.store.version import Change, Version
from cluster.store.watchers import BATCH_BYTES, Interest, Watcher, Watchers, join


class Source(Protocol):
    """What is watched: the store. State and ring may be exchanged at any time (when all was read anew)."""

    @property
    def state(self) -> State: ...

    @property
    def ring(self) -> Ring: ...

    @property
    def history(self) -> History: ...

    @property
    def store_id(self) -> str: ...

    async def reach(self, revision: int) -> None: ...


class Watches:
    """Makes watches of a source."""

    def __init__(self, source: Source, watchers: Watchers, clock: Clock) -> None:
        self._source = source
        self._watchers = watchers
        self._clock = clock
        self.refusal: ApiError | None = None
        """If set, new watches end with this at once."""

    async def run(
        self,
        interest: Interest,
        after: int | None,
        initial_state: bool,
        store_id: str,
        interrupt: Callable[[ApiError], None] | None,
    ) -> AsyncGenerator[bytes, None]:
        """See `Store.watch`."""
        wake = asyncio.Event()
        watcher = await self.enter(after, store_id, wake.set, interrupt)
        prefix = self.prefix
        try:
            async with aclosing(self.open(watcher, interest, after, initial_state)) as batches:
                async for batch in batches:
                    yield prefix + batch
                    prefix = b""
            while True:
                wake.clear()
                found = watcher.read(self._source.state.revision)
                if found is None:
                    await wake.wait()
                    continue
                self._watchers.handing(watcher, self._clock.monotonic())
                yield prefix + found
                self._watchers.taken(watcher)
                prefix = b""
        finally:
            self._watchers.leave(watcher)

    @property
    def prefix(self) -> bytes:
        """What the first batch of a watch begins with: which store this is."""
        return encoding.batch_store_id(self._source.store_id)

    async def enter(
        self,
        after: int | None,
        store_id: str,
        wake: Callable[[], None],
        interrupt: Callable[[ApiError], None] | None,
    ) -> Watcher:
        """A new watcher, who must leave in the end. Raises BadRequest, StoreRewound, Unavailable."""
        if after is not None:
            await self._check(after, store_id)
        if self.refusal is not None:
            raise self.refusal
        return self._watchers.enter(self._source.state.revision if after is None else after, wake, interrupt)

    async def open(
        self, watcher: Watcher, interest: Interest, after: int | None, initial_state: bool
    ) -> AsyncGenerator[bytes, None]:
        """What a watcher who has just entered is to be told before it goes on from its lane, where it is at the end.

        The next batch is asked for when the one before was taken. Raises what has ended the watch meanwhile.
        """
        source = self._source
        if after is not None:
            watcher.taken_revision = after
            async with aclosing(self._catch_up(watcher, interest)) as batches:
                async for batch in batches:
                    yield batch
            self._watchers.join(watcher, interest)
            recent = source.ring.after(max(watcher.last_revision, source.ring.horizon))
            watcher.backlog = _events(interest, recent)
            watcher.wants_bookmark = not watcher.backlog
        else:
            watcher.last_revision = source.state.revision
            self._watchers.join(watcher, interest)
            watcher.wants_bookmark = not initial_state
            if initial_state:
                present = source.state.list(interest.kind, interest.namespace, interest.node)
                if interest.name:
                    present = [version for version in present if version.key.name == interest.name]
                async with aclosing(self._initial(watcher, interest, present)) as batches:
                    async for batch in batches:
                        yield batch

    async def _check(self, after: int, store_id: str) -> None:
        """A watch can begin after that revision."""
        if after < 0:
            raise BadRequest(f"after_revision must not be negative, but is {after}")
        known = self._source.store_id
        if store_id and store_id != known:
            raise StoreRewound(f"this is store {known}, not {store_id}: revisions mean something else here; list again")
        await self._source.reach(after)

    async def _catch_up(self, watcher: Watcher, interest: Interest) -> AsyncGenerator[bytes, None]:
        """From the disk, until the ring goes on."""
        source, reader = self._source, object()
        try:
            while watcher.last_revision < source.ring.horizon:
                shown, now_s = source.state.revision, self._clock.monotonic()
                read = await source.history.read(reader, watcher.last_revision, now_s, interest.kind)
                # A log that is shared may be further on than what is shown here; that comes when it is.
                changes = [change for change in read if change.revision <= shown]
                end = changes[-1].revision if changes and len(read) >= PIECE else shown
                said = list(_batches(_events(interest, changes)))
                if watcher.wants_bookmark:  # on the way, too, so that who breaks off does not begin where it began
                    watcher.wants_bookmark = False
                    said.append((end, encoding.event(encoding.BOOKMARK, end)))
                for revision, batch in said:
                    watcher.last_revision = revision
                    self._watchers.handing(watcher, self._clock.monotonic())
                    yield batch
                    self._watchers.taken(watcher)
                    if watcher.ended is not None:
                        raise watcher.ended
                watcher.last_revision = end
        finally:
            source.history.unpin(reader)

    async def _initial(
        self, watcher: Watcher, interest: Interest, present: Sequence[Version]
    ) -> AsyncGenerator[bytes, None]:
        """An ADDED per version, and the marker, at the revision at which the watcher joined."""
        revision = watcher.last_revision
        watcher.last_revision = 0  # what is taken before the marker is nothing to resume from
        parts: list[bytes] = []
        size = 0
        for version in present:
            if interest.matches is not None and not interest.matches(version.parse()):
                continue
            event = encoding.event(encoding.ADDED, version.revision, version.key.kind, version.data)
            parts.append(event)
            size += len(event)
            if size >= BATCH_BYTES:
                self._watchers.handing(watcher, self._clock.monotonic())
                yield b"".join(parts)
                self._watchers.taken(watcher)
                if watcher.ended is not None:
                    raise watcher.ended
                parts, size = [], 0
        parts.append(encoding.event(encoding.INITIAL_STATE_END, revision))
        watcher.last_revision = revision
        self._watchers.handing(watcher, self._clock.monotonic())
        yield b"".join(parts)
        self._watchers.taken(watcher)


def _events(interest: Interest, changes: Iterable[Change]) -> list[tuple[int, bytes]]:
    """The events of those changes that concern this interest."""
    events: list[tuple[int, bytes]] = []
    for change in changes:
        kind, namespace, _ = change.key
        if kind != interest.kind or interest.namespace not in ("", namespace):
            continue
        event = interest.event(change)
        change.release()
        if event is not None:
            events.append((change.revision, event))
    return events


def _batches(events: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(events):
        start, revision, batch = join(events, start)
        yield revision, batch
