"""The tables of the store's file, how they are made, and how those of an earlier Podium become these.

    log        a row per record that is kept, in order: id is revision and position, packed. With it its digest and the
               chain after it (chain.py)
    requests   a row per write that must not happen twice, in order, with a chain of their own
    meta       the store's id, and what the rest stands on: the compacted beginning, and the requests that were
               forgotten. Sealed with a checksum, for nothing else vouches for it

The schema's number is in the file's header. A newer one is refused; an older one is copied aside and then changed, in
one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from cluster.store import chain
from cluster.store.chain import GENESIS, Base
from cluster.store.interface import Request, StoreRefused
from cluster.store.version import MAX_CHANGES, Record

APPLICATION_ID = 0x506F6469
"""In the file's header: "Podi"."""
SCHEMA_VERSION = 2

FILE_NAME = "store.db"

POSITION_BITS = (MAX_CHANGES - 1).bit_length()

Row: TypeAlias = tuple[int, str, str, str, int, int, str, float, bytes, bytes, bytes]
"""The columns of the log, in order."""

COLUMNS = ("id", "kind", "namespace", "name", "previous", "deleted", "node", "time_s", "data", "digest", "chain")
NAMES = ", ".join(COLUMNS)

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What comes of reading a damaged file: SQLite quotes from it in its messages."""

_PIECE = 2000

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    previous INTEGER NOT NULL, deleted INTEGER NOT NULL, node TEXT NOT NULL, time_s REAL NOT NULL, data BLOB NOT NULL,
    digest BLOB NOT NULL DEFAULT x'', chain BLOB NOT NULL DEFAULT x''
);
CREATE INDEX log_by_key ON log (kind, namespace, name, id);
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL, revision INTEGER NOT NULL, time_s REAL NOT NULL, outcome BLOB NOT NULL,
    chain BLOB NOT NULL
);
"""
_FROM_1 = """
ALTER TABLE log ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
ALTER TABLE log ADD COLUMN chain BLOB NOT NULL DEFAULT x'';
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL, revision INTEGER NOT NULL, time_s REAL NOT NULL, outcome BLOB NOT NULL,
    chain BLOB NOT NULL
);
"""
_SHAPE = {
    "meta": ("name", "value"),
    "log": COLUMNS,
    "requests": ("number", "request_id", "revision", "time_s", "outcome", "chain"),
}


@dataclass(frozen=True, slots=True)
class Meta:
    """The content of the table `meta`."""

    store_id: str
    base: Base = field(default_factory=Base)
    forgotten: int = 0
    """The number of the newest request that is not kept any more ..."""
    forgotten_chain: bytes = GENESIS
    """... and the chain of requests at it."""


# --- ids and rows


def first_id(revision: int) -> int:
    """The id of a revision's first change."""
    return revision << POSITION_BITS


def revision_of(row_id: int) -> int:
    """The revision of a row's change."""
    return row_id >> POSITION_BITS


def record_of(row: Row) -> Record:
    """A row, read. Nothing is checked."""
    row_id, kind, namespace, name, previous, deleted, node, time_s, data, _, _ = row
    position = row_id & (1 << POSITION_BITS) - 1
    return Record(row_id >> POSITION_BITS, position, kind, namespace, name, previous, bool(deleted), node, time_s, data)


def insert(db: sqlite3.Connection, records: Iterable[Record], links: Iterable[tuple[bytes, bytes]]) -> None:
    """Adds records with their digests and chains (chain.link), within the caller's transaction."""
    rows = [(first_id(r.revision) + r.position, *r[2:], *linked) for r, linked in zip(records, links, strict=True)]
    db.executemany(f"INSERT INTO log ({NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def request_links(before: bytes, requests: Iterable[Request]) -> list[bytes]:
    """The chain of requests after each of these."""
    found: list[bytes] = []
    for request in requests:
        before = chain.step(before, chain.request_digest(request))
        found.append(before)
    return found


def insert_requests(db: sqlite3.Connection, first: int, requests: Sequence[Request], links: Sequence[bytes]) -> None:
    """Adds requests, numbered from `first`, with their chains (request_links), within the caller's transaction."""
    rows = [(first + n, *request, linked) for n, (request, linked) in enumerate(zip(requests, links, strict=True))]
    db.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?)", rows)


# --- the file


def configure(db: sqlite3.Connection) -> None:
    """How the one connection that writes works: a commit is durable when it returns, through power loss too.

    It checkpoints when it is told to and at no other time: a failed checkpoint within a commit would not be told of.
    """
    for pragma in (
        "page_size=4096",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        "temp_store=MEMORY",
        "busy_timeout=5000",
        "cell_size_check=ON",
        "mmap_size=0",
        "trusted_schema=OFF",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """The schema of a file; 0: it is empty. Raises StoreRefused for what is not a store, or a newer one."""
    (application_id,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0 and application_id == 0:
        return 0
    if application_id != APPLICATION_ID or version <= 0:
        raise StoreRefused(f"{path} is not a store of Podium")
    if version > SCHEMA_VERSION:
        raise StoreRefused(f"{path} was written by a newer Podium (schema {version}; this one knows {SCHEMA_VERSION})")
    return int(version)


def check_shape(db: sqlite3.Connection) -> None:
    """Raises ValueError if the tables are not those of this schema."""
    for table, columns in _SHAPE.items():
        found = tuple(name for _, name, *_ in db.execute(f"PRAGMA table_info({table})").fetchall())
        if found != columns:
            raise ValueError(f"the table {table} has other columns: {', '.join(map(str, found))}")
    indexed = tuple(name for _, _, name in db.execute("PRAGMA index_info(log_by_key)").fetchall())
    if indexed != ("kind", "namespace", "name", "id"):
        raise ValueError("the index of the log has other columns")


def create(db: sqlite3.Connection, meta: Meta) -> None:
    """Makes the tables, empty, in one transaction. `meta.base` may say that a log goes on from another one."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _statements(_SCHEMA):
        db.execute(statement)
    write_meta(db, meta)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("COMMIT")


def write_meta(db: sqlite3.Connection, meta: Meta) -> None:
    """Replaces the table `meta`, within the caller's transaction."""
    values = _values(meta)
    db.execute("DELETE FROM meta")
    db.executemany("INSERT INTO meta VALUES (?, ?)", [*values.items(), ("seal", _seal(values))])


def read_meta(db: sqlite3.Connection) -> Meta:
    """Raises ValueError if it is not what was written."""
    values = {str(name): str(value) for name, value in db.execute("SELECT name, value FROM meta").fetchall()}
    if values.pop("seal", "") != _seal(values):
        raise ValueError("the table meta was changed")
    base = Base(
        int(values["compacted"]), bytes.fromhex(values["chain"]), int(values["count"]), int(values["total"], 16)
    )
    return Meta(values["store_id"], base, int(values["forgotten"]), bytes.fromhex(values["forgotten_chain"]))


def _values(meta: Meta) -> dict[str, str]:
    base = meta.base
    return {
        "store_id": meta.store_id,
        "compacted": str(base.compacted),
        "chain": base.chain.hex(),
        "count": str(base.count),
        "total": f"{base.total:x}",
        "forgotten": str(meta.forgotten),
        "forgotten_chain": meta.forgotten_chain.hex(),
    }


def _seal(values: dict[str, str]) -> str:
    text = "".join(f"{len(name)}:{name}{len(value)}:{value}" for name, value in sorted(values.items()))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _statements(text: str) -> Iterator[str]:
    return filter(str.strip, text.split(";"))


# --- from an earlier schema


def migrate(db: sqlite3.Connection, path: Path, before_commit: Callable[[Meta, int, bytes], None]) -> Path:
    """Schema 1 to 2, in one transaction, after a copy of the file was made. Returns the path of the copy.

    `before_commit` gets what the store will be: its meta, the newest revision, and the chain there. Until it has
    returned, the file is what it was.
    """
    copy = path.with_name(f"{path.name}.schema-1")
    copy_database(db, copy)
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(_FROM_1):
            db.execute(statement)
        values = dict(db.execute("SELECT name, value FROM meta").fetchall())
        meta = Meta(str(values["store_id"]), Base(compacted=int(values["compacted"])))
        # A compaction may have stopped half-way: what is left of the compacted part is what exists, and nothing else.
        end = first_id(meta.base.compacted + 1)
        db.execute(
            "DELETE FROM log WHERE id IN (SELECT id FROM log WHERE id < ?1 AND (deleted OR EXISTS (SELECT 1 FROM log "
            "AS newer WHERE newer.kind = log.kind AND newer.namespace = log.namespace AND newer.name = log.name "
            "AND newer.id > log.id AND newer.id < ?1)))",
            (end,),
        )
        meta, newest, head = _link_all(db, meta)
        write_meta(db, meta)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        before_commit(meta, newest, head)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return copy


def _link_all(db: sqlite3.Connection, meta: Meta) -> tuple[Meta, int, bytes]:
    """Gives each row its digest and chain; the meta that goes with them, the newest revision, and the chain there."""
    after, newest, head = -1, meta.base.compacted, GENESIS
    count = total = 0
    while rows := db.execute(f"SELECT {NAMES} FROM log WHERE id > ? ORDER BY id LIMIT {_PIECE}", (after,)).fetchall():
        after = rows[-1][0]
        changes = []
        for record in map(record_of, rows):
            made = chain.digest(record)
            if record.revision <= meta.base.compacted:
                count, total = count + 1, chain.add(total, [made])
            else:
                head, newest = chain.step(head, made), record.revision
            changes.append((made, head, first_id(record.revision) + record.position))
        db.executemany("UPDATE log SET digest = ?, chain = ? WHERE id = ?", changes)
    return replace(meta, base=Base(meta.base.compacted, GENESIS, count, total)), newest, head


def copy_database(db: sqlite3.Connection, path: Path) -> None:
    """A copy of the database as it is, in one file, complete and durable when this returns."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    target = sqlite3.connect(temporary, isolation_level=None)
    try:
        target.execute("PRAGMA synchronous=FULL").fetchall()
        db.backup(target)
        # The copy takes over the WAL mode, and would want a file beside it.
        target.execute("PRAGMA journal_mode=DELETE").fetchall()
    finally:
        target.close()
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory last through a power cut. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
