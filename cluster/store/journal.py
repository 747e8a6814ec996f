"""The log on disk: SQLite in WAL mode, synchronous=FULL, one connection that writes, in one thread.

Why so: with WAL and FULL a commit is durable when it returns, through power loss too (NORMAL loses acknowledged
commits); SQLite before 3.51.3 can corrupt a WAL file when two connections write or checkpoint at the same moment, so
exactly one does both (writing.py); and a reader that stays open would keep the WAL from being reset, so the second
connection reads in short pieces and never holds a transaction (queries.py). A lock on the directory keeps a second
master out.

Opening is reading: the file is looked through (opening.py), and `load` holds every row against its digest and the chain
(audit.py), before there is a connection that could write. What fails is refused, and stays as it is.

A row's id is its revision and its position in it, packed: the order of the table is the order of the log.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

from cluster.actor.clock import Clock, SystemClock
from cluster.actor.tasks import Tasks
from cluster.store import ballast, opening, queries, restoring, schema
from cluster.store.alone import Alone
from cluster.store.audit import Place, feed, refusal
from cluster.store.ballast import Ballast
from cluster.store.chain import GENESIS, Base, Finding, Verifier
from cluster.store.interface import Compacted, Copy, JournalFailed, Opening, Request
from cluster.store.schema import Meta
from cluster.store.version import Record
from cluster.store.writing import Writer

R = TypeVar("R")

_LOAD_ROWS = 2000
_TIDY_EVERY_S = 1.0


class SqliteJournal(Alone):
    """See interface.Journal. `new_store_id` is asked once, when the store is created."""

    def __init__(
        self,
        directory: Path,
        new_store_id: Callable[[], str],
        *,
        ballast_bytes: int = ballast.DEFAULT_BYTES,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._new_store_id = new_store_id
        self._ballast_bytes = ballast_bytes
        self._clock = clock or SystemClock()
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reader_thread = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._tasks = Tasks("journal")
        self._stirred = asyncio.Event()
        """There may be something to tidy up."""
        self._lock_fd: int | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        """Used in its thread only, but for looking at a value."""
        self._meta, self._place = Meta(""), Place(0, GENESIS, 0, GENESIS)
        """As they were found."""
        self._closed = False

    engine = "sqlite"
    version = sqlite3.sqlite_version

    @property
    def path(self) -> Path:
        """The database file."""
        return self._directory / schema.FILE_NAME

    @property
    def problems(self) -> Sequence[str]:
        return [] if self._writer is None else self._writer.problems

    # --- life

    async def open(self) -> Opening:
        try:
            return await self._write(self._open)
        except BaseException:
            await self.close()
            raise

    def _open(self) -> Opening:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = opening.take_lock(self._directory)
        restoring.settle(self._directory)
        spare = Ballast(self._directory / ballast.FILE_NAME, self._ballast_bytes)
        opening.find_room(self._directory, spare)
        try:
            opening.prepare(self._directory, self._new_store_id)
            self._reader = opening.connect_reader(self.path)
            self._meta, self._place = opening.examine(self._reader, self._directory)
        except schema.UNREADABLE as error:
            raise self._unreadable(error) from error
        return Opening(self._meta.store_id, self._meta.base.compacted)

    async def load(self) -> AsyncIterator[Sequence[Record]]:
        """Raises StoreRefused at the first row that is not as it was written, and after the last if one is missing."""
        assert self._reader is not None, "the journal is not open"
        verifier = opening.strict(self._reader, self._directory).verifier(self._meta)
        after = -1
        while rows := await self._load(lambda db, after=after: queries.fetch(db, after, _LOAD_ROWS)):  # type: ignore[misc]
            after = rows[-1][0]
            yield await self._load(lambda _, rows=rows: feed(verifier, rows))  # type: ignore[misc]
        verifier.finish()
        await self._write(self._begin_writing)
        self._tasks.spawn(self._tidy_up(), name="journal.tidy-up")

    async def load_requests(self) -> Sequence[Request]:
        return await self._load(lambda db: opening.strict(db, self._directory).requests(self._meta))

    def _begin_writing(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(self._directory, self._meta, self._place, self._ballast_bytes, self._clock)
        return self._writer

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._tasks.cancel_all()
        loop = asyncio.get_running_loop()
        if self._reader is not None:
            await loop.run_in_executor(self._reader_thread, self._reader.close)
        try:
            await loop.run_in_executor(self._writer_thread, self._close_writer)
        finally:
            self._writer_thread.shutdown(wait=True)
            self._reader_thread.shutdown(wait=True)

    def _close_writer(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    # --- writing

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        def append() -> None:
            writer = self._begin_writing()
            writer.append(records, requests, frees)
            if writer.wants_checkpoint:
                self._writer_thread.submit(
                    writer.checkpoint
                )  # after the acknowledgement; the next call hears of a failure

        try:
            await self._write(append)
        finally:
            self._stirred.set()

    async def compact(self, revision: int, limit: int) -> bool:
        return await self._write(lambda: self._begin_writing().compact(revision, limit))

    async def _tidy_up(self) -> None:
        """A second after something was written: the mark is synced. While the disk is full: looks for room."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            await self._clock.sleep(_TIDY_EVERY_S)
            writer = await self._write(self._begin_writing)
            await self._write(writer.tidy)
            if writer.full:
                self._stirred.set()

    # --- reading

    async def head(self) -> int:
        return (self._writer.place if self._writer is not None else self._place).revision

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        return await self._read(lambda db: queries.read(db, after, limit, kind))

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        return await self._read(lambda db: queries.read_at(db, revision, kind, namespace))

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        return await self._read(lambda db: queries.read_key(db, kind, namespace, name, after, until, limit))

    async def revision_at(self, time_s: float) -> int:
        return await self._read(lambda db: queries.revision_at(db, time_s))

    async def copy(self, revision: int) -> Copy:
        """See interface.Journal.copy. Nothing is held between two pieces, so the WAL is reset as ever."""
        base = await self._base()
        if revision < base.compacted:
            raise Compacted(f"revision {revision} is no longer kept")
        return Copy(base, revision, self._copied(base, revision))

    async def _copied(self, base: Base, revision: int) -> AsyncGenerator[Sequence[Record], None]:
        verifier = Verifier(base, _refuse_to_copy)
        after = -1
        while rows := await self._read(lambda db, after=after: queries.fetch(db, after, _LOAD_ROWS, revision)):  # type: ignore[misc]
            if await self._base() != base:  # asked where it is changed, so it holds for what was read before
                raise Compacted(f"revision {base.compacted} is no longer kept")
            after = rows[-1][0]
            yield await self._read(lambda _, rows=rows: feed(verifier, rows))  # type: ignore[misc]
        verifier.finish()
        if verifier.revision != revision:
            _refuse_to_copy(Finding(f"after revision {verifier.revision}", f"changes up to {revision} are missing"))

    async def _base(self) -> Base:
        return await self._write(lambda: self._begin_writing().meta.base)

    # --- into the threads

    async def _write(self, job: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._writer_thread, job)

    async def _read(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """For what is asked while the store is in use. Raises JournalFailed."""
        try:
            return await self._in_reader(job)
        except schema.UNREADABLE as error:
            raise JournalFailed(f"{self.path} cannot be read: {error}") from error

    async def _load(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """For what is asked before the store is in use. Raises StoreRefused."""
        try:
            return await self._in_reader(job)
        except schema.UNREADABLE as error:
            raise self._unreadable(error) from error

    async def _in_reader(self, job: Callable[[sqlite3.Connection], R]) -> R:
        db = self._reader
        assert db is not None, "the journal is not open"
        return await asyncio.get_running_loop().run_in_executor(self._reader_thread, job, db)

    def _unreadable(self, error: Exception) -> Exception:
        return refusal(self._directory, Finding(str(self.path), f"it cannot be read: {error}"))


def _refuse_to_copy(finding: Finding) -> NoReturn:
    raise JournalFailed(f"the log is damaged, {finding}; stop the master, and see: podium fsck")
