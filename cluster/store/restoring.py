"""A backup becomes the store of a directory: built beside the one that is there, looked through, and put in its place.

    restore.new/     the new store while it is made; complete before anything else is touched
    restore.old/     the files of the store before, kept until the next restore
    restore.json     while files change places: what is being done

    stage       restore.new/ is made from the backup and verified as a start verifies a store    nothing has changed
    switch      "aside": the files of the old store go to restore.old/, one by one
                "install": those of restore.new/ come in their place                          then restore.json goes
    put back    "remove": the restored store's files go
                "return": those of restore.old/ come back                                     then restore.json goes

Several files cannot change places at once, so restore.json says how far it is, durable before each step, and every step
may be repeated. Whoever opens the store next finishes what it says (`settle`), before it looks at anything else. So
whenever a process dies or the power fails, the next start sees the old store or the new one, never a mixture.

The restored store is another incarnation of the one that was backed up: its id gets another suffix, so that whoever
knows later revisions of it is told so, and reads everything again. Revisions go on from the backup's.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.store import failpoints, fsck, highwater, opening, schema
from cluster.store.backup_file import Census
from cluster.store.backup_format import End, Header, Part, Records
from cluster.store.chain import GENESIS
from cluster.store.highwater import Mark
from cluster.store.interface import Request, StoreRefused
from cluster.store.schema import Meta

NEW, OLD, MARKER = "restore.new", "restore.old", opening.RESTORE_MARKER
_FILES = ("store.db", "store.db-wal", "store.db-shm", "store.db-journal", "high-water")
"""What a store consists of. The lock stays where it is; the ballast is no part of it."""
_ROWS = 5000
"""In one transaction."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A store that is ready to take its place."""

    header: Header
    store_id: str
    records: int
    objects: Mapping[str, int]
    """How many exist, by kind."""


def incarnation(store_id: str, suffix: str) -> str:
    """The id of a store after a restore: "<uuid>+<8 hex>", whatever suffix it had before."""
    return f"{store_id.partition('+')[0]}+{suffix}"


def stage(directory: Path, parts: Iterable[Part], suffix: str) -> Staged:
    """Makes a store from a backup, in `directory`/restore.new, durable and verified when this returns.

    The store that is there is not touched, and may be in use. `suffix` is new for each restore: 8 hex digits. Raises
    BadBackup, StoreRefused (what was made does not verify), OSError, sqlite3.Error; then nothing is left.
    """
    new = directory / NEW
    if (directory / MARKER).exists():
        raise StoreRefused(f"a restore into {directory} was interrupted; start the cluster once, and it is finished")
    _remove(new)
    new.mkdir(mode=0o700)
    try:
        failpoints.hit("restore.before_stage")
        staged = _Build(new, suffix).run(parts)
        report = fsck.check(new)
        if not report.sound:
            raise StoreRefused(f"what was made of the backup is damaged: {report.findings[0]}")
        failpoints.hit("restore.after_stage")
        return staged
    except BaseException:
        _remove(new)
        raise


class _Build:
    """Fills a new store. Nothing of it is durable before its end: until then it is nobody's."""

    def __init__(self, directory: Path, suffix: str) -> None:
        self._directory = directory
        self._path = directory / schema.FILE_NAME
        self._suffix = suffix
        self._header: Header | None = None
        self._census = Census()
        self._requests: list[Request] = []
        self._records = 0

    def run(self, parts: Iterable[Part]) -> Staged:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        db = sqlite3.connect(self._path, isolation_level=None)
        try:
            for pragma in ("page_size=4096", "journal_mode=OFF", "synchronous=OFF", "temp_store=MEMORY"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            end = self._fill(db, parts)
        finally:
            db.close()
        header, store_id = self._header, self._store_id
        assert header is not None, "the end comes after it"
        # As the one connection that writes would have it; with that its last bytes are on the disk.
        db = opening.connect_writer(self._path)
        try:
            links = schema.request_links(GENESIS, self._requests)
            db.execute("BEGIN IMMEDIATE")
            schema.insert_requests(db, 1, self._requests, links)
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()
        _sync(self._path)
        mark = Mark(
            store_id,
            header.revision,
            end.chain,
            len(links),
            links[-1] if links else GENESIS,
            header.base.compacted,
        )
        opening.write_first_mark(self._directory / highwater.FILE_NAME, mark)
        return Staged(header, store_id, self._records, self._census.objects)

    @property
    def _store_id(self) -> str:
        assert self._header is not None
        return incarnation(self._header.store_id, self._suffix)

    def _fill(self, db: sqlite3.Connection, parts: Iterable[Part]) -> End:
        end: End | None = None
        rows = 0
        for part in parts:
            if isinstance(part, Header):
                self._header = part
                schema.create(db, Meta(self._store_id, part.base))
                db.execute("BEGIN IMMEDIATE")
            elif isinstance(part, Records):
                schema.insert(db, part.records, part.links)
                self._census.add(part)
                self._records += len(part.records)
                rows += len(part.records)
                if rows >= _ROWS:
                    db.execute("COMMIT")
                    db.execute("BEGIN IMMEDIATE")
                    rows = 0
            elif isinstance(part, End):
                db.execute("COMMIT")
                end = part
            else:
                self._requests += part  # a few minutes' worth
        assert end is not None, "whoever reads a backup raises if it has none"
        return end


def switch(directory: Path) -> None:
    """Puts the staged store in the place of the one that is there. The caller has the lock. Raises OSError.

    When this raises, `put_back` undoes it; when nobody does, the next start finishes it.
    """
    _remove(directory / OLD)
    (directory / OLD).mkdir(mode=0o700)
    failpoints.hit("restore.before_switch")
    _mark(directory, "aside")
    _go_on(directory)


def put_back(directory: Path, store_id: str) -> None:
    """Puts the store back that was there before `switch`, however far that came; `store_id` is that of the new one.

    The caller has the lock. Raises OSError, StoreRefused.
    """
    phase = _phase(directory)
    if phase == "aside":  # nothing of the new store is in its place
        _mark(directory, "return")
    elif phase == "install" or (not phase and _store_id(directory) == store_id):
        failpoints.hit("restore.before_remove")
        _mark(directory, "remove")
    _go_on(directory)
    _remove(directory / NEW)


def _store_id(directory: Path) -> str:
    mark = highwater.read(directory / highwater.FILE_NAME)
    return mark.store_id if mark is not None else ""


def settle(directory: Path) -> None:
    """Finishes a switch, or a way back, that was interrupted; does nothing otherwise. The caller has the lock.

    Raises StoreRefused, OSError.
    """
    _go_on(directory)


def interrupted(directory: Path) -> bool:
    """The next start has to `settle` something."""
    return (directory / MARKER).exists()


def _go_on(directory: Path) -> None:
    new, old = directory / NEW, directory / OLD
    while phase := _phase(directory):
        if phase == "aside":
            for _ in _move(directory, old):
                failpoints.hit("restore.between_aside")
            _mark(directory, "install")
        elif phase == "install":
            for _ in _move(new, directory):
                failpoints.hit("restore.between_install")
            _remove(new)
            failpoints.hit("restore.after_install")
            _unmark(directory)
        elif phase == "remove":
            for name in _FILES:
                (directory / name).unlink(missing_ok=True)
                failpoints.hit("restore.between_remove")
            schema.sync_directory(directory)
            _mark(directory, "return")
        elif phase == "return":
            for _ in _move(old, directory):
                failpoints.hit("restore.between_return")
            _remove(old)
            _remove(new)
            _unmark(directory)
        else:
            raise StoreRefused(f"{directory / MARKER} was written by a newer Podium, or is damaged")


def _phase(directory: Path) -> str:
    try:
        return str(json.loads((directory / MARKER).read_text())["phase"])
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def _mark(directory: Path, phase: str) -> None:
    """Durable when this returns."""
    temporary = directory / f"{MARKER}.tmp"
    temporary.write_text(json.dumps({"phase": phase}))
    _sync(temporary)
    temporary.replace(directory / MARKER)
    schema.sync_directory(directory)
    failpoints.hit("restore.after_mark")


def _unmark(directory: Path) -> None:
    failpoints.hit("restore.before_done")
    (directory / MARKER).unlink()
    schema.sync_directory(directory)
    failpoints.hit("restore.after_done")


def _move(source: Path, target: Path) -> Iterator[str]:
    """Those files of a store that are still there; the rest has been moved before. Names each when it has moved."""
    for name in _FILES:
        try:
            (source / name).rename(target / name)
        except FileNotFoundError:
            continue
        yield name
    schema.sync_directory(target)
    if source.is_dir():
        schema.sync_directory(source)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
