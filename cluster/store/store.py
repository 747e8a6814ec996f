"""The store: save, then show.

`commit` is the order in which everything here happens: the changes become durable in the journal, and only then the
fold, the ring and the watchers learn of them, all in one step without a wait. So nobody ever reads, lists or watches a
revision that a power cut could take back, and whoever sees a revision in one place sees it in all.

The one writer (the master's actor) makes the changes; revisions are its to number, in order and without gaps. Readers
are served from memory; from disk only snapshots and watches that begin before what the ring holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import Expired, Unavailable
from cluster.api.meta import Key
from cluster.store import encoding
from cluster.store.history import History, Window
from cluster.store.interface import DiskFull, Journal
from cluster.store.mvcc import State
from cluster.store.ring import Ring
from cluster.store.version import Change, Record, Version, records_of
from cluster.store.watchers import BATCH_BYTES, Interest, Watcher, Watchers, join

_SWEEP_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits of a store."""

    ring_changes: int = 10_000
    """Changes kept in memory for watchers and snapshots."""
    ring_bytes: int = 16 * 1024 * 1024
    """And at most about this much memory for them."""
    bookmark_interval_s: float = 5.0
    """A watcher that has nothing to hear of is told the revision this often."""
    compact_interval_s: float = 30.0
    """How often it is looked at whether something may be forgotten."""
    window: Window = field(default_factory=Window)
    """How much history is kept on disk."""


class Store:
    """See the head of this file. Use from one event loop."""

    def __init__(
        self,
        journal: Journal,
        settings: StoreSettings,
        clock: Clock,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """`on_failure` is told when housekeeping has failed (the disk, when forgetting old history): the store must
        not be used any more. By default that is logged."""
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._tasks = Tasks("store", on_crash=None if on_failure is None else lambda _, error: on_failure(error))
        self._watchers = Watchers()
        self._ring = Ring(settings.ring_changes, settings.ring_bytes)
        self._history = History(journal, settings.window, 0)
        self._stopping: Unavailable | None = None
        self.state = State()
        """What is durable. For reading only; it changes between two awaits of the reader."""
        self.store_id = ""

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        return self.state.revision

    @property
    def oldest(self) -> int:
        """The oldest revision that can be listed, or watched from."""
        return self._history.compacted

    @property
    def watchers(self) -> int:
        """How many watches there are."""
        return len(self._watchers)

    # --- life

    async def start(self) -> None:
        """Opens the journal and reads it. Raises StoreRefused."""
        opening = await self._journal.open()
        self.store_id = opening.store_id
        self._history.compacted = opening.compacted
        # The last changes go through the ring, so that watchers can resume in memory; what is before is folded only.
        async for records in self._journal.load():
            for record in records:
                if record.revision <= opening.compacted:
                    self.state.load(record.version())
                    continue
                new = record.version()
                self._fold(Change(self.state.get(new.key), new, record.time_s))
            self._trim()
        self._advance_to(opening.compacted)
        self._tasks.spawn(self._keep_house(), name="store.housekeeping")

    async def stop(self) -> None:
        """Ends all watches with Unavailable and closes the journal. Twice is fine."""
        self.drain()
        await self._tasks.cancel_all()
        await self._journal.close()

    def drain(self) -> None:
        """Ends all watches, and every one that is begun later, with Unavailable: the server is stopping."""
        if self._stopping is None:
            self._stopping = Unavailable("the master is stopping; connect again and resume")
            self._watchers.end_all(self._stopping)

    # --- writing

    async def commit(self, changes: Sequence[Change]) -> None:
        """Makes the changes durable, then visible. All of them or none. Raises DiskFull, JournalFailed.

        One caller at a time; revisions follow on `revision` in order. If the caller is cancelled, the changes may
        become durable without becoming visible: it must not write again.
        """
        if not changes:
            return
        first, last = changes[0].revision, changes[-1].revision
        assert first == self.revision + 1, f"{changes[0]!r} does not follow on revision {self.revision}"
        assert last - first < len(changes), f"a gap in {changes!r}"
        await self._journal.append(records_of(list(changes)))  # save
        self._show(changes)  # then show

    def _show(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._fold(change)
        self._trim()
        self._watchers.publish(changes)
        for change in changes:
            change.release()

    def _fold(self, change: Change) -> None:
        self.state.apply(change)
        self._ring.push(change)
        self._history.marks.note(change.time_s, change.revision)

    def _trim(self) -> None:
        for change in self._ring.trim():
            self.state.forget(change)

    def _advance_to(self, revision: int) -> None:
        """The log may end in deletions that were compacted away: its revision is known all the same."""
        self.state.revision = max(self.state.revision, revision)
        self.state.horizon = max(self.state.horizon, revision)
        self._ring.horizon = max(self._ring.horizon, revision)

    # --- reading

    def get(self, key: Key) -> Version | None:
        """The object of that key, as of `revision`."""
        return self.state.get(key)

    async def list_at(self, revision: int, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]:
        """What existed at a revision, sorted by namespace and name. Raises Expired for one too old, or to come."""
        self._check_known(revision)
        if revision >= self.state.horizon:
            return self.state.list_at(revision, kind, namespace, node)
        return await self._history.read_at(revision, kind, namespace, node)

    async def read_key(self, key: Key, until: int, limit: int) -> Sequence[Record]:
        """What is kept of one object's changes up to a revision, the newest `limit`, newest first; tombstones too.

        Up to `oldest`, that is its last state only, and nothing if it was deleted by then.
        """
        return await self._history.read_key(key, until, limit)

    def _check_known(self, revision: int) -> None:
        if revision > self.revision:
            raise Expired(
                f"revision {revision} has not happened: this store is at {self.revision}; "
                "it was restored, or is another one; list again"
            )

    # --- watching

    async def watch(
        self, interest: Interest, *, after: int | None = None, initial_state: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Encoded WatchBatches: see `ClusterClient.watch` for what is promised about them.

        The first batch carries the store's id; a watch that has nothing to say at first begins with a bookmark. Ends
        by raising Expired or Unavailable. Closing the iterator forgets the watcher.
        """
        prefix = encoding.batch_store_id(self.store_id)
        if after is not None:
            self._check_known(after)
            reader = object()
            try:
                while after < self._ring.horizon:
                    changes = await self._history.read(reader, after, self._clock.monotonic())
                    if not changes:
                        break
                    after = changes[-1].revision
                    for batch in _batches(_events(interest, changes)):
                        yield prefix + batch
                        prefix = b""
            finally:
                self._history.unpin(reader)
        # From here to the first batch there is no wait: what the watcher has and what it will hear of join exactly.
        start = self.revision if after is None else after
        wake = asyncio.Event()
        watcher = self._watchers.join(interest, start, wake.set)
        if self._stopping is not None:
            watcher.end(self._stopping)
        try:
            if initial_state:
                present = self.state.list(interest.kind, interest.namespace, interest.node)
                async for batch in self._initial(watcher, present):
                    yield prefix + batch
                    prefix = b""
            elif after is not None:
                watcher.backlog = _events(interest, self._ring.after(max(after, self._ring.horizon)))
                watcher.wants_bookmark = not watcher.backlog
            else:
                watcher.wants_bookmark = True
            while True:
                wake.clear()
                found = watcher.read(self.revision)
                if found is None:
                    await wake.wait()
                    continue
                watcher.pending_since_s = self._clock.monotonic()
                yield prefix + found
                prefix = b""
                watcher.pending_since_s = None
        finally:
            self._watchers.leave(watcher)

    async def _initial(self, watcher: Watcher, present: Sequence[Version]) -> AsyncGenerator[bytes, None]:
        """An ADDED per version, and the marker, at the revision at which the watcher joined."""
        revision, interest = watcher.last_revision, watcher.lane.interest
        parts: list[bytes] = []
        size = 0
        for version in present:
            if interest.matches is not None and not interest.matches(version.parse()):
                continue
            event = encoding.event(encoding.ADDED, version.revision, version.key.kind, version.data)
            parts.append(event)
            size += len(event)
            if size >= BATCH_BYTES:
                watcher.pending_since_s = self._clock.monotonic()
                yield b"".join(parts)
                watcher.pending_since_s = None
                if watcher.ended is not None:
                    raise watcher.ended
                parts, size = [], 0
        parts.append(encoding.event(encoding.INITIAL_STATE_END, revision))
        watcher.pending_since_s = self._clock.monotonic()
        yield b"".join(parts)
        watcher.pending_since_s = None

    # --- housekeeping

    async def _keep_house(self) -> None:
        """Sweeps slow watchers, sends bookmarks, compacts: each at its interval."""
        bookmarks = compacted = self._clock.monotonic()
        while True:
            pause_s = min(_SWEEP_EVERY_S, self._settings.bookmark_interval_s, self._settings.compact_interval_s)
            await self._clock.sleep(pause_s)
            now = self._clock.monotonic()
            self._watchers.sweep(self._ring.horizon, now)
            if now - bookmarks >= self._settings.bookmark_interval_s:
                bookmarks = now
                self._watchers.mark_bookmarks()
            if now - compacted >= self._settings.compact_interval_s:
                compacted = now
                try:
                    await self._history.compact(self.revision, self._clock.wall(), now)
                except DiskFull:
                    pass  # forgetting needs space, too; reads and watches live on, and there will be another time


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


def _batches(events: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    start = 0
    while start < len(events):
        start, _, batch = join(events, start)
        yield batch
