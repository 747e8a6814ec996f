"""Is this the store that was written, all of it, and nothing else? The questions that a start and `podium fsck` ask.

Three things are held against each other: the file's own structure (SQLite's integrity_check), the digests and chains
within it (chain.py), and the high-water mark beside it (highwater.py). SQLite alone notices a page that makes no sense;
it does not notice other bytes in a row, a WAL that ends early or is gone, or another file in the place of this one.

Everything is asked of a connection that only reads: a store that is refused stays as it is, for somebody to look at.
Findings go to a function; the start gives one that raises, `podium fsck` one that collects.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.store import highwater, queries, schema
from cluster.store.chain import Finding, Verifier
from cluster.store.highwater import Mark
from cluster.store.interface import Request, StoreRefused
from cluster.store.schema import Meta, Row
from cluster.store.version import Record

Report = Callable[[Finding], None]

_LAST = (1 << 50) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log ends."""

    revision: int
    chain: bytes
    requests: int
    requests_chain: bytes


class Audit:
    """The questions, in the order in which they make sense. One connection, one thread at a time."""

    def __init__(self, db: sqlite3.Connection, directory: Path, report: Report) -> None:
        self.db = db
        self._path = directory / schema.FILE_NAME
        self._mark_path = directory / highwater.FILE_NAME
        self.report = report

    def structure(self) -> Meta | None:
        """The pages, the tables, and what `meta` says; None if that cannot be read, which has been reported."""
        try:
            for (verdict,) in self.db.execute("PRAGMA integrity_check(10)").fetchall():
                if verdict != "ok":
                    self.report(Finding(str(self._path), f"SQLite finds it damaged: {verdict}"))
            schema.check_shape(self.db)
            return schema.read_meta(self.db)
        except (*schema.UNREADABLE, ValueError, KeyError, TypeError) as error:
            self.report(Finding(str(self._path), f"it is damaged: {error}"))
            return None

    def place(self, meta: Meta) -> Place:
        """Where the log ends, as far as its rows say. Raises schema.UNREADABLE."""
        revision, chain = queries.newest(self.db, _LAST) or (0, meta.base.chain)
        if revision <= meta.base.compacted:
            revision, chain = meta.base.compacted, meta.base.chain
        row = self.db.execute("SELECT number, chain FROM requests ORDER BY number DESC LIMIT 1").fetchone()
        return Place(revision, chain, *(row or (meta.forgotten, meta.forgotten_chain)))

    def mark(self) -> Mark | None:
        """The high-water mark. Raises OSError."""
        return highwater.read(self._mark_path)

    def end(self, meta: Meta, place: Place) -> Mark | None:
        """Does the log reach what was acknowledged, and is it that there? Returns the mark.

        Raises schema.UNREADABLE.
        """
        try:
            mark = self.mark()
        except OSError as error:
            self.report(Finding(str(self._mark_path), f"it cannot be read: {error.strerror}"))
            return None
        if mark is None:
            if place.revision or place.requests:
                what = "it is missing or damaged, so nobody can say whether the end of the log is there"
                self.report(Finding(str(self._mark_path), what))
            return None
        if mark.store_id != meta.store_id:
            what = f"this is store {meta.store_id}, and store {mark.store_id} was here: the file was exchanged"
            self.report(Finding(str(self._path), what))
        elif mark.revision > place.revision:
            what = (
                f"the log ends here, but everything up to revision {mark.revision} was acknowledged: its end is lost "
                "(the WAL was damaged or deleted), or the file is an older copy"
            )
            self.report(Finding(f"{self._path}, after revision {place.revision}", what))
        elif mark.compacted > meta.base.compacted:
            what = f"changes up to revision {mark.compacted} were forgotten, but the file says {meta.base.compacted}"
            self.report(Finding(str(self._path), what))
        elif mark.requests > place.requests:
            what = f"requests up to number {mark.requests} were acknowledged, and the last is {place.requests}"
            self.report(Finding(str(self._path), what))
        elif self._chain_at(mark.revision, meta) not in (mark.chain, None):
            what = "the log up to here is not the one that was acknowledged"
            self.report(Finding(f"{self._path}, revision {mark.revision}", what))
        elif self._requests_chain_at(mark.requests, meta) not in (mark.requests_chain, None):
            self.report(Finding(str(self._path), "the requests are not those that were acknowledged"))
        return mark

    def _chain_at(self, revision: int, meta: Meta) -> bytes | None:
        """The chain as of a revision; None: that is compacted."""
        if revision <= meta.base.compacted:
            return meta.base.chain if revision == meta.base.compacted else None
        found = queries.newest(self.db, revision)
        return found[1] if found is not None and found[0] == revision else b""

    def _requests_chain_at(self, number: int, meta: Meta) -> bytes | None:
        if number <= meta.forgotten:
            return meta.forgotten_chain if number == meta.forgotten else None
        row = self.db.execute("SELECT chain FROM requests WHERE number = ?", (number,)).fetchone()
        return row[0] if row is not None else b""

    def requests(self, meta: Meta) -> Sequence[Request]:
        """All that are kept, each of them verified. Raises schema.UNREADABLE."""
        number, chain = meta.forgotten, meta.forgotten_chain
        found: list[Request] = []
        for row_number, request_id, revision, time_s, outcome, kept in queries.requests(self.db):
            if row_number != number + 1:
                self.report(Finding(f"after request {number}", f"requests are missing before number {row_number}"))
            request, number = Request(request_id, revision, time_s, outcome), row_number
            try:
                (chain,) = schema.request_links(chain, [request])
            except Exception as error:  # such as a number where a text should be
                self.report(Finding(f"request {number}", f"it is no request: {error}"))
            if chain != kept:
                self.report(Finding(f"request {number}", "it is not what was written"))
                chain = kept
            found.append(request)
        return found

    def verifier(self, meta: Meta) -> Verifier:
        """To be fed with all rows, by `feed`."""
        return Verifier(meta.base, self.report)


def feed(verifier: Verifier, rows: Sequence[Row]) -> list[Record]:
    """The records of rows, verified."""
    records = list(map(schema.record_of, rows))
    verifier.feed([(record, row[9], row[10]) for record, row in zip(records, rows, strict=True)])
    return records


def refusal(directory: Path, finding: Finding) -> StoreRefused:
    """What a start says to a finding, with the next command."""
    return StoreRefused(
        f"{finding}. The store is not opened, and nothing of it was changed. "
        f"All findings: podium fsck --dir {directory}. Back to a backup: podium restore FILE"
    )
