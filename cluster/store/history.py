"""How far back the log goes: what may be forgotten, and reading what fell out of memory but is still on disk.

The window has two limits, a number of revisions and an age; whichever is passed first. Compaction and readers share a
lock for readers and writers, for both span an await: a reader checks that its revision is kept and then reads a piece,
and no compaction may come between the two. Between two pieces the reader's place is pinned: compaction stops short of
it, for a while; a reader that stays away longer than PIN_S has been closed or is gone. Where several masters share a
log, only the one that leads compacts, and it does not know the readers of the others: those may be overtaken, and then
are told that their revision has expired.

`compaction_target` and `Marks` are pure; `History` does the waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import aiorwlock

from cluster.api.errors import Expired, Unavailable
from cluster.api.meta import Key
from cluster.api.times import format_time
from cluster.store.interface import Compacted, Copy, Journal, Unreachable
from cluster.store.version import Change, Record, Version

PIECE = 500
"""Changes read, or rows deleted, in one go."""
PIN_S = 15.0
"""How long a reader's place is kept after its last read."""
_MARK_EVERY_S = 30.0
_LOCK_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """How much history is kept."""

    revisions: int = 50_000
    """At most this many revisions ..."""
    age_s: float = 24 * 3600.0
    """... and none that is older than this."""
    slack: int = 1_000
    """Compaction waits until it is worth while: this many revisions beyond the window."""


class Marks:
    """When which revision was the newest, roughly: a mark every half minute."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def note(self, time_s: float, revision: int) -> None:
        """A change of that time and revision was made."""
        if not self._marks or time_s >= self._marks[-1][0] + _MARK_EVERY_S:
            self._marks.append((time_s, revision))

    def newest_before(self, time_s: float) -> int:
        """A revision such that it and all before are older than `time_s`; 0 if none is known. Forgets older marks."""
        while len(self._marks) > 1 and self._marks[1][0] < time_s:
            del self._marks[0]
        return self._marks[0][1] if self._marks and self._marks[0][0] < time_s else 0


def compaction_target(head: int, compacted: int, aged: int, window: Window, pins: Iterable[int]) -> int | None:
    """The revision up to which to compact now, or None: head revision, what is compacted already, the newest revision
    that is too old, the window, and the places of readers who are catching up."""
    target = min(max(head - window.revisions, aged), head, *pins)
    return target if target - compacted >= window.slack else None


class History:
    """The part of the log that is on disk only."""

    def __init__(self, journal: Journal, window: Window, compacted: int) -> None:
        self.compacted = compacted
        """The oldest revision that can be shown, and watched from."""
        self.marks = Marks()
        self._journal = journal
        self._window = window
        self._lock = aiorwlock.RWLock()
        self._pins: dict[object, tuple[int, float]] = {}

    async def read(self, reader: object, after: int, now_s: float, kind: str = "") -> list[Change]:
        """The changes (of a kind, or all) after a revision, about PIECE of them, and a pin at the last for `reader`.
        Fewer than PIECE: there are no more. Raises Expired."""
        async with self._lock.reader:
            self._check(after)
            async with self._reading(after):
                rows = await self._journal.read(after, PIECE, kind)
        changes = [_change(record, old) for record, old in rows]
        self._pins[reader] = (changes[-1].revision if changes else after, now_s)
        return changes

    def unpin(self, reader: object) -> None:
        """The reader has caught up, or is gone. Twice is fine."""
        self._pins.pop(reader, None)

    async def read_at(self, revision: int, kind: str, namespace: str, node: str) -> Sequence[Version]:
        """What existed at a revision, sorted by namespace and name. Raises Expired."""
        async with self._lock.reader:
            self._check(revision)
            async with self._reading(revision):
                records = await self._journal.read_at(revision, kind, namespace)
        versions = [record.version() for record in records if not node or record.node == node]
        return sorted(versions, key=lambda version: version.key)

    async def read_key(self, key: Key, until: int, limit: int) -> Sequence[Record]:
        """What is kept of one object's changes up to a revision, the newest `limit`, newest first; tombstones too.

        Up to `compacted`, that is its last state only, and nothing if it was deleted by then.
        """
        async with self._lock.reader, self._reading(until):
            return await self._journal.read_key(key.kind, key.namespace, key.name, 0, until, limit)

    async def get_at(self, revision: int, key: Key) -> Version | None:
        """The object of that key as it was at a revision. Raises Expired."""
        async with self._lock.reader:
            self._check(revision)
            async with self._reading(revision):
                found = await self._journal.read_key(key.kind, key.namespace, key.name, 0, revision, 1)
        return found[0].version() if found and not found[0].deleted else None

    async def revision_at(self, time_s: float) -> int:
        """See `Journal.revision_at`. Raises Unavailable."""
        async with self._reading(0):
            return await self._journal.revision_at(time_s)

    @asynccontextmanager
    async def copying(self, revision: int, now: Callable[[], float]) -> AsyncIterator[Copy]:
        """The whole log as of a revision that is known here; nothing is forgotten meanwhile, unless its reader stays
        away for longer than PIN_S. Raises what `Journal.copy` raises, and Unavailable."""
        holder = object()
        self._pins[holder] = (0, now())
        try:
            async with self._lock.reader, self._reachable():
                copy = await self._journal.copy(revision)
            async with aclosing(self._pieces(copy, holder, now)) as pieces:
                yield replace(copy, records=pieces)
        finally:
            self.unpin(holder)

    async def _pieces(
        self, copy: Copy, holder: object, now: Callable[[], float]
    ) -> AsyncGenerator[Sequence[Record], None]:
        async with aclosing(copy.records) as pieces:
            while True:
                async with self._lock.reader, self._reachable():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                self._pins[holder] = (0, now())
                yield piece

    async def compact(self, head: int, wall_s: float, now_s: float) -> None:
        """Forgets what is outside of the window. Gives way to readers: tries again another time if they are busy."""
        self._pins = {reader: pin for reader, pin in self._pins.items() if now_s - pin[1] < PIN_S}
        aged = self.marks.newest_before(wall_s - self._window.age_s)
        pins = [revision for revision, _ in self._pins.values()]
        target = compaction_target(head, self.compacted, aged, self._window, pins)
        if target is None:
            return
        done = False
        while not done:
            try:
                async with asyncio.timeout(_LOCK_WAIT_S):  # in this very task: the lock belongs to who takes it
                    await self._lock.writer.acquire()
            except TimeoutError:
                return
            try:
                if any(revision < target for revision, _ in self._pins.values()):
                    return  # somebody has come while we waited
                done = await self._journal.compact(target, PIECE)
                self.compacted = target
            finally:
                self._lock.writer.release()

    def _check(self, revision: int) -> None:
        if revision < self.compacted:
            raise self.expired(revision)

    def expired(self, revision: int) -> Expired:
        """The error of who asks for a revision that is no longer kept."""
        error = Expired(f"revision {revision} is no longer kept; the oldest is {self.compacted}")
        error.oldest_revision = self.compacted
        return error

    async def too_early(self, time_s: float) -> Expired:
        """The error of who asks for a time before what is kept. Raises Unavailable."""
        oldest = self.compacted
        async with self._lock.reader, self._reading(oldest):
            first = await self._journal.read(oldest, 1)
        since = f"; the first change after it was made at {format_time(int(first[0][0].time_s))}" if first else ""
        error = Expired(
            f"what was at {format_time(int(time_s))} is no longer kept; the oldest revision is {oldest}{since}"
        )
        error.oldest_revision = oldest
        return error

    @asynccontextmanager
    async def _reading(self, revision: int) -> AsyncIterator[None]:
        """What the journal raises, as an answer."""
        try:
            async with self._reachable():
                yield
        except Compacted as error:
            raise self.expired(revision) from error

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        try:
            yield
        except Unreachable as error:
            raise Unavailable(f"the log cannot be read: {error}") from error


def _change(record: Record, old: Record | None) -> Change:
    return Change(old.version() if old is not None else None, record.version(), record.time_s)
