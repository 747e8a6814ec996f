"""The store: save, then show.

`commit` is the order in which everything here happens: the changes become durable in the journal, and only then the
fold, the ring and the watchers learn of them, all in one step without a wait. So nobody ever reads, lists or watches a
revision that a power cut could take back, and whoever sees a revision in one place sees it in all.

The one writer (the master's actor) makes the changes; revisions are its to number, in order and without gaps. Where
several masters share a log, one at a time may append; every store follows the log all the time, and shows what others
have appended, by the same step. What one has appended oneself may come back that way, before or after `commit` returns:
whatever comes first is shown, and the other is known already. A store that has fallen so far behind that the log does
not lead on from where it is reads everything anew, and its watchers begin again.

Readers are served from memory; from disk only what is older than what the ring holds. `barrier` makes a read see
everything that was acknowledged before it began, by whichever master.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Expired, Unavailable
from cluster.api.meta import Key
from cluster.store.barrier import BARRIER_S, Barrier
from cluster.store.bundle import Bundle
from cluster.store.history import History, Window
from cluster.store.interface import (
    Appended,
    Compacted,
    DiskFull,
    Journal,
    JournalFailed,
    NotLeading,
    Opening,
    Request,
    Undecided,
    Unreachable,
)
from cluster.store.mvcc import State
from cluster.store.requests import Requests
from cluster.store.ring import Ring
from cluster.store.version import Change, Record, Version, records_of
from cluster.store.watchers import SWEEP_EVERY_S, TOGETHER, Interest, Watchers, bookmark_interval_s
from cluster.store.watches import Watches

_log = logging.getLogger("podium.store")

_IDLE_SWEEP_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits of a store."""

    ring_changes: int = 50_000
    """Changes kept in memory for watchers and snapshots: some seconds of the fastest writing, for as long as a watcher
    may stay away before it is asked for on disk."""
    ring_bytes: int = 32 * 1024 * 1024
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
        """`on_failure` is told when housekeeping or following has failed (the disk, when forgetting old history; a log
        that is damaged): the store must not be used any more. By default that is logged."""
        self.journal = journal
        self._settings = settings
        self._clock = clock
        self._tasks = Tasks("store", on_crash=None if on_failure is None else lambda _, error: on_failure(error))
        self._watchers = Watchers()
        self._watches = Watches(self, self._watchers, clock)
        self._barrier = Barrier(journal)
        self.ring = Ring(settings.ring_changes, settings.ring_bytes)
        self.history = History(journal, settings.window, 0)
        self.state = State()
        """What is durable. For reading only; it changes between two awaits of the reader, and when the log had to be
        read anew, it is another object afterwards."""
        self.requests = Requests()
        """What was answered to writes that must not happen twice."""
        self.leading = False
        """Set by who knows: whether this process may append. Who leads compacts."""
        self.store_id = ""

    @property
    def revision(self) -> int:
        """The newest durable revision that is known here."""
        return self.state.revision

    def now(self) -> float:
        """Seconds of a clock that never jumps."""
        return self._clock.monotonic()

    @property
    def oldest(self) -> int:
        """The oldest revision that can be listed, or watched from."""
        return self.history.compacted

    @property
    def watchers(self) -> int:
        """How many watches there are."""
        return len(self._watchers)

    # --- life

    async def start(self) -> None:
        """Opens the journal, reads it, and begins to follow it. Raises StoreRefused, Unreachable, JournalFailed."""
        opening = await self.journal.open()
        self.store_id = opening.store_id
        with _no_collection():
            await self._load(opening)
        self._tasks.spawn(self._follow(), name="store.following")
        self._tasks.spawn(self._keep_house(), name="store.housekeeping")
        self._tasks.spawn(self._forget_history(), name="store.compaction")

    async def stop(self) -> None:
        """Ends all watches with Unavailable and closes the journal. Twice is fine."""
        self.drain()
        await self._tasks.cancel_all()
        await self.journal.close()

    def drain(self) -> None:
        """Ends all watches, and every one that is begun later, with Unavailable: the server is stopping."""
        if self._watches.refusal is None:
            self._watches.refusal = Unavailable("the master is stopping; connect again and resume")
            self._watchers.end_all(self._watches.refusal)

    async def _load(self, opening: Opening) -> None:
        """Reads the whole log, and then shows it, all at once."""
        state, ring = State(), Ring(self._settings.ring_changes, self._settings.ring_bytes)
        marks = self.history.marks
        # The last changes go through the ring, so that watchers can resume in memory; what is before is folded only.
        async for records in self.journal.load():
            for record in records:
                new = record.version()
                if record.revision <= opening.compacted:
                    state.load(new)
                    continue
                self._check_follows(record.revision, max(state.revision, opening.compacted))
                _fold(state, ring, Change(state.get(new.key), new, record.time_s))
                marks.note(record.time_s, record.revision)
            _trim(state, ring)
        # The log may end in deletions that were compacted away: its revision is known all the same.
        state.revision = max(state.revision, opening.compacted)
        state.horizon = max(state.horizon, opening.compacted)
        ring.horizon = max(ring.horizon, opening.compacted)
        requests = Requests()
        requests.add(await self.journal.load_requests())
        self.state, self.ring, self.requests = state, ring, requests
        self.history.compacted = opening.compacted
        self._barrier.reached(state.revision)

    # --- writing

    async def commit(self, changes: Sequence[Change], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        """Makes the changes durable, then visible; all of them or none. `requests` are those that made them, and
        `frees` says that they make room. Raises as `Journal.append` does.

        One caller at a time; revisions follow on `revision` in order. If the caller is cancelled, or has been told
        Undecided or NotLeading, the changes may still become durable, and visible: it must not write again before it
        leads anew.
        """
        if not changes:
            return
        first, last = changes[0].revision, changes[-1].revision
        assert first == self.revision + 1, f"{changes[0]!r} does not follow on revision {self.revision}"
        assert last - first < len(changes), f"a gap in {changes!r}"
        await self.journal.append(records_of(list(changes)), requests, frees=frees)  # save
        self._show([change for change in changes if change.revision > self.revision], requests)  # then show

    def _show(self, changes: Sequence[Change], requests: Sequence[Request]) -> None:
        """The one step by which anybody learns of anything; see the head of this file."""
        if requests:
            self.requests.add(requests)
        if not changes:
            return
        for change in changes:
            _fold(self.state, self.ring, change)
        self.history.marks.note(changes[-1].time_s, changes[-1].revision)
        _trim(self.state, self.ring)
        self._watchers.publish(changes)
        for change in changes:
            change.release()
        self._barrier.reached(self.revision)

    # --- following

    async def _follow(self) -> None:
        """Shows what others append, for ever."""
        while True:
            after = self.revision
            try:
                async for appended in self.journal.follow(after):
                    self._take(appended)
                return
            except Compacted as error:
                if self.revision > after:
                    continue  # it has been shown meanwhile by `commit`: go on from there
                _log.warning("reading the whole log anew: %s", error)
                await self._load_anew()

    def _take(self, appended: Appended) -> None:
        """Shows one append, unless it is known already."""
        changes: list[Change] = []
        fresh: dict[Key, Version] = {}
        revision = self.revision
        for record in appended.records:
            if record.revision <= self.revision:
                continue  # our own, or what we have read when we began
            self._check_follows(record.revision, revision)
            revision = record.revision
            new = record.version()
            old = fresh.get(new.key) or self.state.get(new.key)
            changes.append(Change(None if old is None or old.deleted else old, new, record.time_s))
            fresh[new.key] = new
        self.history.compacted = max(self.history.compacted, appended.compacted)
        self._show(changes, appended.requests)

    async def _load_anew(self) -> None:
        while True:
            try:
                opening = await self.journal.open()
                if opening.store_id != self.store_id:
                    raise JournalFailed(f"the log is that of store {opening.store_id} now, and was {self.store_id}")
                await self._load(opening)
                break
            except (Unreachable, Compacted) as error:
                _log.warning("the log could not be read: %s", error)
                await self._clock.sleep(1.0)
        expired = Expired("this master had fallen behind and has read everything anew; list again")
        expired.oldest_revision = self.oldest
        self._watchers.end_all(expired)

    @staticmethod
    def _check_follows(revision: int, before: int) -> None:
        if revision not in (before, before + 1):
            raise JournalFailed(f"the log is damaged: revision {revision} comes after {before}")

    # --- reading

    async def barrier(self, timeout_s: float = BARRIER_S) -> None:
        """Returns when everything is visible here that was in the log when this was called, whoever wrote it.

        Raises Unavailable if that cannot be known, or does not arrive, in time.
        """
        await self._barrier.everything(timeout_s)

    async def head(self, timeout_s: float = BARRIER_S) -> int:
        """The newest revision of the log, as of some moment during this call. Raises Unavailable."""
        return await self._barrier.head(timeout_s)

    async def reach(self, revision: int, timeout_s: float = BARRIER_S) -> None:
        """Returns when a revision that somebody has heard of is visible here.

        Raises StoreRewound if the log does not go so far, Unavailable if that cannot be known, or does not arrive, in
        time.
        """
        await self._barrier.reach(revision, timeout_s)

    def get(self, key: Key) -> Version | None:
        """The object of that key, as of `revision`."""
        return self.state.get(key)

    async def get_at(self, revision: int, key: Key) -> Version | None:
        """The object of that key as it was at a revision; None: there was none.

        Raises Expired for a revision too old, StoreRewound for one to come, Unavailable.
        """
        await self.reach(revision)
        if revision >= self.state.horizon:
            return self.state.get_at(revision, key)
        return await self.history.get_at(revision, key)

    async def list_at(self, revision: int, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]:
        """What existed at a revision, sorted by namespace and name. Raises as `get_at` does."""
        await self.reach(revision)
        if revision >= self.state.horizon:
            return self.state.list_at(revision, kind, namespace, node)
        return await self.history.read_at(revision, kind, namespace, node)

    async def revision_at(self, time_s: float) -> int:
        """The newest revision that was made at or before a wall time, as far as this master knows.

        If wall time was set back meanwhile, any revision at which it passed that time. Raises Expired if the revision
        is no longer kept, Unavailable.
        """
        found = self.ring.newest_until(time_s)
        if found is None:
            found = await self.history.revision_at(time_s)
        if found < self.oldest:
            raise await self.history.too_early(time_s)
        return found

    async def read_key(self, key: Key, until: int, limit: int) -> Sequence[Record]:
        """What is kept of one object's changes up to a revision, the newest `limit`, newest first; tombstones too.

        Up to `oldest`, that is its last state only, and nothing if it was deleted by then. Raises Unavailable.
        """
        return await self.history.read_key(key, until, limit)

    # --- watching

    def watch(
        self,
        interest: Interest,
        *,
        after: int | None = None,
        initial_state: bool = False,
        store_id: str = "",
        interrupt: Callable[[ApiError], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Encoded WatchBatches: see `ClusterClient.watch` for what is promised about them.

        The first batch carries the store's id; a watch that has nothing to say at first begins with a bookmark. Ends
        by raising Expired, Unavailable, or StoreRewound (for a revision that has not happened, or is of another store:
        `store_id`). If it ends while its reader takes a batch, `interrupt` is called with the error. Closing the
        iterator forgets the watcher.
        """
        return self._watches.run(interest, after, initial_state, store_id, interrupt)

    def bundle(self, interrupt: Callable[[ApiError], None] | None = None) -> Bundle:
        """Many watches for one reader. `interrupt`: called when one of them ends while the reader takes a message."""
        return Bundle(self, self._watches, self._watchers, self._clock, interrupt)

    # --- housekeeping

    async def _keep_house(self) -> None:
        """Sweeps slow watchers and sends bookmarks, each at its interval; it waits for nothing else, so that a watcher
        with nothing to hear of is told so in time whatever the disk does."""
        told = self._clock.monotonic()
        owed = 0.0
        while True:
            longest_s = SWEEP_EVERY_S if self._watchers.pending else _IDLE_SWEEP_EVERY_S
            await self._clock.sleep(min(longest_s, self._settings.bookmark_interval_s))
            now = self._clock.monotonic()
            self._watchers.sweep(self.ring.horizon, now)
            count = len(self._watchers)
            round_s = bookmark_interval_s(self._settings.bookmark_interval_s, count)
            if count > TOGETHER:  # a part of them at a time
                owed += count * (now - told) / round_s
                told = now
                self._watchers.mark_bookmarks(math.floor(owed))
                owed -= math.floor(owed)
            elif now - told >= round_s:
                told, owed = now, 0.0
                self._watchers.mark_bookmarks(count)

    async def _forget_history(self) -> None:
        """Compacts at its interval. After a great burst that takes a while: a piece at a time, between the writes."""
        while True:
            await self._clock.sleep(self._settings.compact_interval_s)
            if self.leading:
                await self._compact()

    async def _compact(self) -> None:
        try:
            await self.history.compact(self.revision, self._clock.wall(), self._clock.monotonic())
        except DiskFull:
            pass  # forgetting needs space, too; reads and watches live on, and there will be another time
        except (NotLeading, Unreachable, Undecided) as error:
            _log.info("compaction waits: %s", error)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Loading makes a million objects and no garbage; looking through them for some, again and again, would take a
    quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _fold(state: State, ring: Ring, change: Change) -> None:
    state.apply(change)
    ring.push(change)


def _trim(state: State, ring: Ring) -> None:
    for change in ring.trim():
        state.forget(change)
