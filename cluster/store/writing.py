"""The one connection that writes, what it knows, and what it does when the disk does not.

    append      commit (fsync) -> high-water mark (highwater.py) -> returns, which is the acknowledgement

Sync, and used by one thread; the journal (journal.py) gives it one. A transaction that is refused for want of space is
DiskFull, and the ballast (ballast.py) is given back: deletions and compaction go on in its room, everything else waits
until it can be made again. Any other failure is JournalFailed, after which nothing is done any more: a failed fsync may
be followed by one that succeeds and means nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.actor.clock import Clock
from cluster.store import ballast, chain, compaction, failpoints, highwater, opening, schema
from cluster.store.audit import Place
from cluster.store.ballast import Ballast
from cluster.store.highwater import HighWater, Mark
from cluster.store.interface import DiskFull, JournalFailed, Request
from cluster.store.requests import AGE_S, LIMIT
from cluster.store.schema import Meta
from cluster.store.version import Record

_FORGET_EVERY = 500
"""Requests; they are forgotten in batches."""
_WAL_PAGES = 1000
"""The WAL is copied into the database when it has about so many."""
_LOOK_FOR_ROOM_EVERY_S = 0.2

_ABANDONED: list[sqlite3.Connection] = []
"""Connections whose disk has failed. Closing one would write again what failed, and take it for well; the process ends
anyway."""


class _Full(Exception):
    """SQLite has no room, and has undone the transaction."""


class Writer:
    """See the head of this file."""

    def __init__(self, directory: Path, meta: Meta, place: Place, ballast_bytes: int, clock: Clock) -> None:
        """Goes on from a store that was examined and verified: what is in it, acknowledged or not, counts from now on.

        Raises JournalFailed.
        """
        self._directory = directory
        self._path = directory / schema.FILE_NAME
        self._clock = clock
        self.meta = meta
        self.place = place
        """Where the log ends. It changes when that is durable."""
        self.full = ""
        """Why, while the disk is full; empty: there is room."""
        self.failed: JournalFailed | None = None
        self._look_for_room_s = 0.0
        self._wal_load, self._wal_limit = 0, 300
        """Commits and rows since the last checkpoint, and how many make it worth while."""
        self._ballast = Ballast(directory / ballast.FILE_NAME, ballast_bytes)
        try:
            self.db = opening.connect_writer(self._path)
        except (sqlite3.Error, OSError) as error:
            raise self._fail(error) from error
        try:
            self._high_water = HighWater(directory / highwater.FILE_NAME)
            self._note()
            self.sync_mark()
            if not self._ballast.make():
                self.full = self._no_room
        except OSError as error:
            _ABANDONED.append(self.db)
            raise self._fail(error) from error
        # What the WAL still holds may have been written before a crash that a failing disk caused: now it is written
        # to another place, and synced.
        self.checkpoint()

    @property
    def problems(self) -> list[str]:
        """See Journal.problems."""
        return [
            *([f"DiskFull: {self.full}"] if self.full else ()),
            *([f"JournalFailed: {self.failed}"] if self.failed else ()),
        ]

    @property
    def _no_room(self) -> str:
        return f"{self._directory} has no room; only deletions are written until there is some"

    def close(self) -> None:
        """Once."""
        if self.failed is not None:
            _ABANDONED.append(self.db)
        else:
            self.sync_mark()
            self.checkpoint()
            self.db.close()  # the last connection of a WAL database removes the WAL
        self._high_water.close()

    # --- writing

    def append(self, records: Sequence[Record], requests: Sequence[Request], frees: bool) -> None:
        """See Journal.append. Raises DiskFull, JournalFailed."""
        place, meta = self.place, self.meta
        links = chain.link(place.chain, records)
        request_links = schema.request_links(place.requests_chain, requests)
        after = Place(
            records[-1].revision if records else place.revision,
            links[-1][1] if links else place.chain,
            place.requests + len(requests),
            request_links[-1] if request_links else place.requests_chain,
        )
        kept = place.requests - meta.forgotten
        forget = (kept + len(requests)) // _FORGET_EVERY != kept // _FORGET_EVERY

        def insert() -> None:
            nonlocal meta
            failpoints.hit("store.before_commit")
            schema.insert(self.db, records, links)
            if requests:
                schema.insert_requests(self.db, place.requests + 1, requests, request_links)
            if forget:
                oldest_s = requests[-1].time_s - AGE_S
                meta = compaction.forget_requests(self.db, meta, after.requests - LIMIT, oldest_s)

        self._transact(insert, frees)
        self.place, self.meta = after, meta
        try:
            failpoints.hit("store.after_commit")
            self._note()
            failpoints.hit("store.after_mark")
        except OSError as error:
            raise self._fail(error) from error
        self._wal_load += 1 + len(records)

    def compact(self, revision: int, limit: int) -> bool:
        """See Journal.compact. Raises DiskFull, JournalFailed."""
        if revision <= self.meta.base.compacted:
            return True
        meta, done = self.meta, False

        def forget() -> None:
            nonlocal meta, done
            failpoints.hit("store.before_compact")
            base, done = compaction.compact(self.db, self.meta.base, revision, limit)
            meta = replace(self.meta, base=base)
            schema.write_meta(self.db, meta)

        self._transact(forget, frees=True)
        self.meta = meta
        try:
            failpoints.hit("store.after_compact")
            self._note()
        except OSError as error:
            raise self._fail(error) from error
        self._wal_load += limit
        return done

    @property
    def wants_checkpoint(self) -> bool:
        """The WAL has become long."""
        return self._wal_load >= self._wal_limit

    def checkpoint(self) -> None:
        """Copies the WAL into the database. Raises JournalFailed."""
        if self.failed is not None:
            return
        self._wal_load = 0
        try:
            failpoints.hit("store.before_checkpoint")
            _, pages, _ = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            failpoints.hit("store.after_checkpoint")
        except sqlite3.Error as error:
            if _is_full(error):
                self._out_of_room()
                return
            raise self._fail(error) from error
        except OSError as error:
            raise self._fail(error) from error
        if pages > 0:  # how many pages a row takes depends on what is in it
            self._wal_limit = min(4000, max(100, round(self._wal_limit * min(2.0, max(0.5, _WAL_PAGES / pages)))))

    def tidy(self) -> None:
        """Once in a while, after something was written or while there is no room. Raises JournalFailed."""
        if self.failed is not None:
            return
        self.sync_mark()
        if self.full and self._find_room():
            self.checkpoint()

    def sync_mark(self) -> None:
        """Makes the high-water mark last through a power cut. Raises JournalFailed."""
        if not self._high_water.moved:
            return
        try:
            failpoints.hit("store.before_mark_sync")
            self._high_water.sync()
            failpoints.hit("store.after_mark_sync")
        except OSError as error:
            raise self._fail(error) from error

    def _note(self) -> None:
        meta, place = self.meta, self.place
        self._high_water.note(
            Mark(
                meta.store_id,
                place.revision,
                place.chain,
                place.requests,
                place.requests_chain,
                meta.base.compacted,
            )
        )

    def _transact(self, work: Callable[[], None], frees: bool) -> None:
        """Raises DiskFull, JournalFailed."""
        if self.full and not self._find_room() and not frees:
            raise DiskFull(self.full)
        try:
            self._try(work)
            return
        except _Full:
            self._out_of_room()
        if not frees:
            raise DiskFull(self.full)
        try:
            self._try(work)
        except _Full:
            raise DiskFull(f"{self._directory} has no room; even what is kept for deleting is used up") from None

    def _try(self, work: Callable[[], None]) -> None:
        """One transaction. Raises _Full, JournalFailed."""
        if self.failed is not None:
            raise self.failed
        try:
            self.db.execute("BEGIN IMMEDIATE")
            work()
            self.db.execute("COMMIT")
        except BaseException as error:
            full = isinstance(error, sqlite3.Error) and _is_full(error)
            try:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            except sqlite3.Error:
                full = False
            if full:
                raise _Full from error
            if isinstance(error, (sqlite3.Error, OSError)):
                raise self._fail(error) from error
            raise

    def _fail(self, error: Exception) -> JournalFailed:
        self.failed = self.failed or JournalFailed(f"{self._path}: {error}")
        return self.failed

    # --- room on the disk

    def _out_of_room(self) -> None:
        """Gives the ballast back: from now on only what makes room is written."""
        failpoints.hit("store.before_ballast")
        self.full = self._no_room
        try:
            self._ballast.free()
        except OSError as error:
            raise self._fail(error) from error
        failpoints.hit("store.after_ballast")

    def _find_room(self) -> bool:
        """Makes the ballast again, if the disk has room for it."""
        now = self._clock.monotonic()
        if now < self._look_for_room_s:
            return False
        try:
            found = self._ballast.make()
        except OSError as error:
            raise self._fail(error) from error
        if found:
            self.full = ""
        else:
            self._look_for_room_s = now + _LOOK_FOR_ROOM_EVERY_S
        return found


def _is_full(error: sqlite3.Error) -> bool:
    # The index of the WAL is a file, too, and to make it longer needs room.
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
