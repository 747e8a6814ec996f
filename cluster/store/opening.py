"""Opening the store's file: making it, bringing it up to date, and refusing what is not the store that was left here.

Nothing is written to a file that exists, but to bring it to the newest schema: what is wrong with it is found through a
connection that only reads, and whoever looks at it later finds it as it was.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cluster.store import failpoints, highwater, schema
from cluster.store.audit import Audit, Place, refusal
from cluster.store.ballast import Ballast
from cluster.store.chain import GENESIS, Finding
from cluster.store.highwater import HighWater, Mark
from cluster.store.interface import DiskFull, StoreRefused
from cluster.store.schema import Meta

RESTORE_MARKER = "restore.json"
"""Is there while a restore is not done: the files of two stores are changing places (restoring.py)."""
_ABSENT = 0
_ROOM_BYTES = 1024 * 1024
_LEAST_BYTES = 128 * 1024
"""The WAL and its index, when they are made."""


def take_lock(directory: Path) -> int:
    """A descriptor that holds the lock on a store's directory. Raises StoreRefused if a master has it, OSError."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise StoreRefused(f"{directory} is in use by another master") from None
    return fd


def connect_reader(path: Path, *, at_rest: bool = False) -> sqlite3.Connection:
    """A connection that only reads, and leaves a WAL as it is when it is closed. Raises sqlite3.Error.

    `at_rest`: there is no WAL, and nobody will write; then SQLite makes no files of its own.
    """
    how = "mode=ro&immutable=1" if at_rest else "mode=ro"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("query_only=ON", "busy_timeout=5000", "cell_size_check=ON", "mmap_size=0", "trusted_schema=OFF"):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes; makes an empty file if there is none. Raises sqlite3.Error, OSError."""
    # SQLite gives its side files the mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        schema.configure(db)
    except BaseException:
        db.close()
        raise
    return db


def find_room(directory: Path, spare: Ballast) -> None:
    """Opening needs some room, too: on a full disk the ballast is given back. Raises DiskFull, OSError."""
    if _free_bytes(directory) >= _ROOM_BYTES:
        return
    spare.free()
    if _free_bytes(directory) < _LEAST_BYTES:
        raise DiskFull(f"{directory} has no room at all: the store cannot even be opened; make some and try again")


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return (status.f_bfree if os.getuid() == 0 else status.f_bavail) * status.f_frsize


def strict(reader: sqlite3.Connection, directory: Path) -> Audit:
    """An audit that refuses the store at the first finding."""

    def refuse(finding: Finding) -> NoReturn:
        raise refusal(directory, finding)

    return Audit(reader, directory, refuse)


def prepare(directory: Path, new_store_id: Callable[[], str]) -> None:
    """Makes the store if there is none, and migrates an older one. The caller has the lock.

    Raises StoreRefused, schema.UNREADABLE, OSError.
    """
    path = directory / schema.FILE_NAME
    mark_path = directory / highwater.FILE_NAME
    if not mark_path.exists():
        _roll_back(path)
    version = _version(path)
    if version == _ABSENT:
        if mark_path.exists():
            mark = highwater.read(mark_path)
            until = f", with everything up to revision {mark.revision} acknowledged" if mark is not None else ""
            what = f"the file is missing or empty, but there was a store here{until}"
            raise refusal(directory, Finding(str(path), what))
        _create(path, mark_path, new_store_id())
    elif version < schema.SCHEMA_VERSION:
        _migrate(path, mark_path)


def examine(reader: sqlite3.Connection, directory: Path) -> tuple[Meta, Place]:
    """Everything but the rows. Raises StoreRefused, schema.UNREADABLE."""
    audit = strict(reader, directory)
    meta = audit.structure()
    assert meta is not None, "what is wrong is raised"
    place = audit.place(meta)
    audit.end(meta, place)
    return meta, place


def _version(path: Path) -> int:
    """The schema of the store's file; _ABSENT: there is none, or one that was not made completely."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))  # SQLite would follow a link
    except FileNotFoundError:
        return _ABSENT
    if not path.stat().st_size:
        return _ABSENT
    reader = connect_reader(path)
    try:
        return schema.version_of(reader, path)
    finally:
        reader.close()


def _roll_back(path: Path) -> None:
    """Undoes what a power cut has left of the very first write, when the file becomes one with a WAL: until then SQLite
    keeps a rollback journal, and who only reads may not roll back. Nothing was acknowledged by then."""
    if not path.with_name(f"{path.name}-journal").exists():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA schema_version").fetchone()
    finally:
        db.close()


def _create(path: Path, mark_path: Path, store_id: str) -> None:
    db = connect_writer(path)
    try:
        failpoints.hit("store.before_create")
        schema.create(db, Meta(store_id))
        # From here on there is a file that is not empty: SQLite throws away a WAL that it finds beside an empty one.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        failpoints.hit("store.after_create")
    finally:
        db.close()
    write_first_mark(mark_path, Mark(store_id, 0, GENESIS, 0, GENESIS))


def _migrate(path: Path, mark_path: Path) -> None:
    db = connect_writer(path)

    def before_commit(meta: Meta, revision: int, head: bytes) -> None:
        write_first_mark(mark_path, Mark(meta.store_id, revision, head, 0, GENESIS))
        failpoints.hit("store.before_migrate")

    try:
        (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise refusal(path.parent, Finding(str(path), f"SQLite finds it damaged: {verdict}"))
        schema.migrate(db, path, before_commit)
        failpoints.hit("store.after_migrate")
    finally:
        db.close()


def write_first_mark(path: Path, mark: Mark) -> None:
    """Makes the high-water file of a new store, durable when this returns. Raises OSError."""
    file = HighWater(path)
    try:
        file.note(mark)
        file.sync()
    finally:
        file.close()
    schema.sync_directory(path.parent)
