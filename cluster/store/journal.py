"""The log on disk: SQLite in WAL mode, synchronous=FULL, one connection that writes, in one thread.

Why so: with WAL and FULL a commit is durable when it returns, through power loss too (NORMAL loses acknowledged
commits); SQLite before 3.51.3 can corrupt a WAL file when two connections write or checkpoint at the same moment, so
exactly one does both; and a reader that stays open would keep the WAL from being reset, so the second connection reads
in short pieces and never holds a transaction. A lock on the directory keeps a second master out.

A row's id is its revision and its position in it, packed (ORDER): the order of the table is the order of the log. A
transaction that is refused for want of space is DiskFull; any other failure of a commit is JournalFailed, after which
this journal must not be used again: a failed fsync may be followed by one that succeeds and means nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

from cluster.store import failpoints
from cluster.store.alone import Alone
from cluster.store.interface import DiskFull, JournalFailed, Opening, Request, StoreRefused
from cluster.store.version import Record

R = TypeVar("R")
_Row: TypeAlias = tuple[int, str, str, str, int, int, str, float, bytes]

APPLICATION_ID = 0x506F6469
"""In the file's header: "Podi"."""
SCHEMA_VERSION = 1

_POSITION_BITS = 12
MAX_CHANGES_PER_REVISION = 1 << _POSITION_BITS
_LOAD_ROWS = 2000

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    previous INTEGER NOT NULL, deleted INTEGER NOT NULL, node TEXT NOT NULL, time_s REAL NOT NULL, data BLOB NOT NULL
);
CREATE INDEX log_by_key ON log (kind, namespace, name, id);
"""

_COLUMNS = "id, kind, namespace, name, previous, deleted, node, time_s, data"
_JOINED = ", ".join(f"log.{column.strip()}" for column in _COLUMNS.split(","))
_OLD = ", ".join(f"old.{column.strip()}" for column in _COLUMNS.split(","))


class SqliteJournal(Alone):
    """See interface.Journal. `new_store_id` is asked once, when the store is created."""

    def __init__(self, directory: Path, new_store_id: Callable[[], str]) -> None:
        super().__init__()
        self._directory = directory
        self._new_store_id = new_store_id
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reader_thread = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._lock_fd: int | None = None
        self._closed = False

    engine = "sqlite"
    version = sqlite3.sqlite_version
    problems: Sequence[str] = ()

    @property
    def path(self) -> Path:
        """The database file."""
        return self._directory / "store.db"

    async def open(self) -> Opening:
        try:
            return await self._write(self._open)
        except BaseException:
            await self.close()
            raise

    async def load(self) -> AsyncIterator[Sequence[Record]]:
        after = -1
        while rows := await self._read(lambda db, after=after: _fetch(db, after, _LOAD_ROWS)):  # type: ignore[misc]
            after = rows[-1][0]
            yield [_record(row) for row in rows]

    async def load_requests(self) -> Sequence[Request]:
        return []

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        await self._write(lambda: self._append(records))

    async def head(self) -> int:
        def query(db: sqlite3.Connection) -> int:
            newest = db.execute("SELECT max(id) FROM log").fetchone()[0] or 0
            (compacted,) = db.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
            return max(_revision(newest), int(compacted))

        return await self._read(query)

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        def query(db: sqlite3.Connection) -> list[Record]:
            text = (
                f"SELECT {_COLUMNS} FROM log WHERE kind = ? AND namespace = ? AND name = ? AND id >= ? AND id < ? "
                "ORDER BY id DESC LIMIT ?"
            )
            values = (kind, namespace, name, _first_id(after + 1), _first_id(until + 1), limit)
            return [_record(row) for row in db.execute(text, values).fetchall()]

        return await self._read(query)

    async def revision_at(self, time_s: float) -> int:
        def query(db: sqlite3.Connection) -> int:
            return _revision(db.execute("SELECT max(id) FROM log WHERE time_s <= ?", (time_s,)).fetchone()[0] or 0)

        return await self._read(query)

    async def read(self, after: int, limit: int) -> Sequence[tuple[Record, Record | None]]:
        def query(db: sqlite3.Connection) -> list[tuple[Record, Record | None]]:
            text = (
                f"SELECT {_JOINED}, {_OLD} FROM log LEFT JOIN log AS old ON log.previous > 0 AND old.kind = log.kind "
                "AND old.namespace = log.namespace AND old.name = log.name "
                "AND old.id BETWEEN ? * log.previous AND ? * log.previous + ? WHERE log.id BETWEEN ? AND ? "
                "ORDER BY log.id LIMIT ?"
            )
            scale, last = MAX_CHANGES_PER_REVISION, MAX_CHANGES_PER_REVISION - 1
            begin = _first_id(after + 1)
            rows = db.execute(text, (scale, scale, last, begin, (1 << 63) - 1, limit)).fetchall()
            if len(rows) == limit:  # the rest of the revision that the limit may have cut
                newest = rows[-1][0]
                end = _first_id(_revision(newest) + 1) - 1
                rows += db.execute(text, (scale, scale, last, newest + 1, end, -1)).fetchall()
            return [(_record(row[:9]), _record(row[9:]) if row[9] is not None else None) for row in rows]

        return await self._read(query)

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        def query(db: sqlite3.Connection) -> list[Record]:
            # With a single max(), SQLite takes the other columns from the row that has it.
            where, values = ("AND namespace = ?", [namespace]) if namespace else ("", [])
            text = (
                f"SELECT {_COLUMNS.replace('id', 'max(id)', 1)} FROM log WHERE kind = ? AND id < ? {where} "
                "GROUP BY namespace, name"
            )
            rows = db.execute(text, (kind, _first_id(revision + 1), *values)).fetchall()
            return [record for record in map(_record, rows) if not record.deleted]

        return await self._read(query)

    async def compact(self, revision: int, limit: int) -> bool:
        return await self._write(lambda: self._compact(revision, limit))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        if self._reader is not None:
            await loop.run_in_executor(self._reader_thread, self._reader.close)
        await loop.run_in_executor(self._writer_thread, self._close_writer)
        self._writer_thread.shutdown(wait=True)
        self._reader_thread.shutdown(wait=True)

    # --- in the threads

    async def _write(self, job: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._writer_thread, job)

    async def _read(self, job: Callable[[sqlite3.Connection], R]) -> R:
        def run() -> R:
            if self._reader is None:
                self._reader = sqlite3.connect(
                    f"file:{self.path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
                self._reader.execute("PRAGMA query_only=ON")
                self._reader.execute("PRAGMA busy_timeout=5000")
                self._reader.execute("PRAGMA wal_autocheckpoint=0")
            return job(self._reader)

        return await asyncio.get_running_loop().run_in_executor(self._reader_thread, run)

    def _open(self) -> Opening:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreRefused(f"{self._directory} is in use by another master") from None
        # SQLite gives its side files the mode of the database.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            db = self._writer = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            return self._prepare(db)
        except sqlite3.DatabaseError as error:
            raise StoreRefused(f"{self.path} cannot be read as a store: {error}") from error

    def _prepare(self, db: sqlite3.Connection) -> Opening:
        (application_id,), (version,) = (
            db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        new = tables == 0 and application_id == 0
        if not new and application_id != APPLICATION_ID:
            raise StoreRefused(f"{self.path} is not a store of Podium")
        if version > SCHEMA_VERSION:
            raise StoreRefused(
                f"{self.path} was written by a newer Podium (schema {version}; this one knows {SCHEMA_VERSION})"
            )
        for pragma in (
            "page_size=4096",
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=1000",
            "temp_store=MEMORY",
            "busy_timeout=5000",
            "cell_size_check=ON",
            "mmap_size=0",
            "trusted_schema=OFF",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
        if new:
            db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            values = (("store_id", self._new_store_id()), ("compacted", "0"))
            db.executemany("INSERT INTO meta VALUES (?, ?)", values)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")
        else:
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StoreRefused(f"{self.path} is damaged: {verdict}")
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
        return Opening(str(meta["store_id"]), int(meta["compacted"]))

    def _append(self, records: Sequence[Record]) -> None:
        rows = [(_first_id(r.revision) + r.position, *r[2:]) for r in records]

        def insert(db: sqlite3.Connection) -> None:
            db.executemany(f"INSERT INTO log ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

        failpoints.hit("store.before_commit")
        self._commit(insert)
        failpoints.hit("store.after_commit")

    def _compact(self, revision: int, limit: int) -> bool:
        """Deletes rows that a newer row within the compacted part replaces, and tombstones there."""
        end = _first_id(revision + 1)
        done = False

        def delete(db: sqlite3.Connection) -> None:
            nonlocal done
            db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (str(revision),))
            gone = db.execute(
                "DELETE FROM log WHERE id IN (SELECT id FROM log WHERE id < ?1 AND (deleted OR EXISTS (SELECT 1 FROM "
                "log AS newer WHERE newer.kind = log.kind AND newer.namespace = log.namespace "
                "AND newer.name = log.name AND newer.id > log.id AND newer.id < ?1)) ORDER BY id LIMIT ?2)",
                (end, limit),
            ).rowcount
            done = gone < limit

        self._commit(delete)
        return done

    def _commit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        db = self._writer
        assert db is not None, "the journal is not open"
        try:
            db.execute("BEGIN IMMEDIATE")
            work(db)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFull(f"{self.path}: the disk is full") from error
            raise JournalFailed(f"{self.path}: {error}") from error

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()  # the last connection of a WAL database checkpoints it and removes the WAL
            self._writer = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _first_id(revision: int) -> int:
    return revision << _POSITION_BITS


def _revision(row_id: int) -> int:
    return row_id >> _POSITION_BITS


def _fetch(
    db: sqlite3.Connection, after: int, limit: int
) -> list[tuple[int, str, str, str, int, int, str, float, bytes]]:
    return db.execute(f"SELECT {_COLUMNS} FROM log WHERE id > ? ORDER BY id LIMIT ?", (after, limit)).fetchall()


def _record(row: _Row) -> Record:
    row_id, kind, namespace, name, previous, deleted, node, time_s, data = row
    position = row_id & MAX_CHANGES_PER_REVISION - 1
    return Record(_revision(row_id), position, kind, namespace, name, previous, bool(deleted), node, time_s, data)
