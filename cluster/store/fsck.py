"""`podium fsck`: everything that a start asks of a store, and all findings instead of the first.

For a store that no master has open, or a copy of one anywhere. Reads only: not even the lock file is made, and the WAL
stays as it is. (Beside a WAL, SQLite makes `store.db-shm`, an index of it that holds nothing of its own.)
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.store import highwater, opening, queries, schema
from cluster.store.audit import Audit, feed
from cluster.store.chain import Finding
from cluster.store.interface import StoreRefused
from cluster.store.schema import Meta

MOST_FINDINGS = 100
"""More are counted, and not kept."""
_ROWS = 2000


class NotHere(StoreRefused):
    """There is no store in the directory, or none that this Podium can read."""


class InUse(StoreRefused):
    """A master has the store open."""


@dataclass(slots=True)
class Report:
    """What was found."""

    directory: Path
    schema: int = 0
    store_id: str = ""
    revision: int = 0
    """The newest; 0 also if nothing could be read."""
    oldest: int = 0
    """The oldest that can be listed, and watched from."""
    records: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    """How many exist at `revision`, by kind."""
    requests: int = 0
    chain: str = ""
    """At `revision`."""
    high_water: int | None = None
    """Everything up to here was acknowledged; None: nobody knows."""
    size_bytes: int = 0
    """Of the database and its WAL."""
    findings: Sequence[Finding] = ()
    more_findings: int = 0

    @property
    def sound(self) -> bool:
        """Nothing is missing and nothing is wrong."""
        return not self.findings


def check(directory: Path) -> Report:
    """Reads all of a store. Raises NotHere, InUse, StoreRefused (not a store, or a newer one), OSError."""
    path = directory / schema.FILE_NAME
    signs = (path, directory / highwater.FILE_NAME, directory / opening.RESTORE_MARKER)
    if not any(sign.exists() for sign in signs):
        raise NotHere(f"there is no store in {directory}")
    lock_fd = _lock(directory)
    try:
        return _Check(directory).run()
    finally:
        if lock_fd is not None:
            os.close(lock_fd)


def _lock(directory: Path) -> int | None:
    """Keeps masters out meanwhile, where there is a lock file."""
    try:
        fd = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None  # a copy, and nobody's
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUse(f"{directory} is in use by a master") from None
    return fd


class _Check:
    def __init__(self, directory: Path) -> None:
        self._path = directory / schema.FILE_NAME
        self._findings: list[Finding] = []
        self._report = Report(directory)

    def run(self) -> Report:
        report = self._report
        size, wal_size = map(_size, (self._path, self._path.with_name(f"{self._path.name}-wal")))
        report.size_bytes = size + wal_size
        marker = report.directory / opening.RESTORE_MARKER
        if marker.exists():
            self._found(Finding(str(marker), "a restore was interrupted; the next start of the master finishes it"))
        if not size:
            self._found(Finding(str(self._path), "the file is missing or empty, but there was a store here"))
        else:
            try:
                self._read(at_rest=not wal_size)
            except schema.UNREADABLE as error:
                self._found(Finding(str(self._path), f"it cannot be read: {error}"))
        report.findings = self._findings
        return report

    def _found(self, finding: Finding) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(finding)
        else:
            self._report.more_findings += 1

    def _read(self, *, at_rest: bool) -> None:
        report = self._report
        db = opening.connect_reader(self._path, at_rest=at_rest)
        try:
            report.schema = schema.version_of(db, self._path)
            if 0 < report.schema < schema.SCHEMA_VERSION:
                raise NotHere(
                    f"{self._path} was written by an earlier Podium (schema {report.schema}), which kept no checksums; "
                    "start a master with it once, and it has them"
                )
            audit = Audit(db, report.directory, self._found)
            meta = audit.structure()
            if meta is None:
                return
            report.store_id, report.oldest = meta.store_id, meta.base.compacted
            place = audit.place(meta)
            report.revision, report.chain = place.revision, place.chain.hex()
            mark = audit.end(meta, place)
            report.high_water = mark.revision if mark is not None else None
            self._rows(audit, meta)
            report.requests = len(audit.requests(meta))
        finally:
            db.close()

    def _rows(self, audit: Audit, meta: Meta) -> None:
        report, verifier = self._report, audit.verifier(meta)
        alive: set[tuple[str, str, str]] = set()
        after = -1
        while rows := queries.fetch(audit.db, after, _ROWS):
            after = rows[-1][0]
            for record in feed(verifier, rows):
                key = (record.kind, record.namespace, record.name)
                if record.deleted:
                    alive.discard(key)
                else:
                    alive.add(key)
            report.records += len(rows)
        verifier.finish()
        report.objects = dict(sorted(Counter(str(kind) for kind, _, _ in alive).items()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
