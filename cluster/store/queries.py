"""What is asked of the log on disk, in SQL. Each asks one connection and holds no transaction afterwards.

Every row that leaves here has been held against its digest: a page may rot after the start has verified it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cluster.store import chain
from cluster.store.interface import JournalFailed
from cluster.store.schema import NAMES, Row, first_id, record_of, revision_of
from cluster.store.version import Record

_LOG = ", ".join(f"log.{name}" for name in NAMES.split(", "))
_OLD = ", ".join(f"old.{name}" for name in NAMES.split(", "))
_WIDTH = len(NAMES.split(", "))
_LAST = (1 << 50) - 1
"""No revision is greater."""


def checked(row: Row) -> Record:
    """A row, read. Raises JournalFailed if it is not what was written."""
    record = record_of(row)
    try:
        sound = chain.digest(record) == row[9]
    except Exception:  # such as a number where a text should be
        sound = False
    if not sound:
        raise JournalFailed(f"the log is damaged at {chain.place_of(record)}; stop the master, and see: podium fsck")
    return record


def fetch(db: sqlite3.Connection, after: int, limit: int, until: int = _LAST) -> list[Row]:
    """The next rows after an id, up to a revision, unchecked: for whoever verifies all of them."""
    text = f"SELECT {NAMES} FROM log WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
    return db.execute(text, (after, first_id(until + 1), limit)).fetchall()


def newest(db: sqlite3.Connection, until: int) -> tuple[int, bytes] | None:
    """Revision and kept chain of the last row up to a revision."""
    text = "SELECT id, chain FROM log WHERE id < ? ORDER BY id DESC LIMIT 1"
    row = db.execute(text, (first_id(until + 1),)).fetchone()
    return None if row is None else (revision_of(row[0]), row[1])


def read(db: sqlite3.Connection, after: int, limit: int, kind: str) -> list[tuple[Record, Record | None]]:
    """See Journal.read. The log is gone through in order; rows of other kinds are passed over where they lie."""
    of_kind = "AND +log.kind = ? " if kind else ""  # the plus: no index, of which the order would have to be made anew
    text = (
        f"SELECT {_LOG}, {_OLD} FROM log LEFT JOIN log AS old ON log.previous > 0 AND old.kind = log.kind "
        "AND old.namespace = log.namespace AND old.name = log.name "
        "AND old.id BETWEEN ? * log.previous AND ? * log.previous + ? WHERE log.id BETWEEN ? AND ? "
        f"{of_kind}ORDER BY log.id LIMIT ?"
    )
    scale = first_id(1)
    kinds = (kind,) if kind else ()
    rows = db.execute(text, (scale, scale, scale - 1, first_id(after + 1), (1 << 63) - 1, *kinds, limit)).fetchall()
    if len(rows) == limit:  # the rest of the revision that the limit may have cut
        last = rows[-1][0]
        end = first_id(revision_of(last) + 1) - 1
        rows += db.execute(text, (scale, scale, scale - 1, last + 1, end, *kinds, -1)).fetchall()
    return [(checked(row[:_WIDTH]), checked(row[_WIDTH:]) if row[_WIDTH] is not None else None) for row in rows]


def read_at(db: sqlite3.Connection, revision: int, kind: str, namespace: str) -> list[Record]:
    """See Journal.read_at."""
    where, values = ("AND namespace = ?", [namespace]) if namespace else ("", [])
    text = (
        f"SELECT {NAMES} FROM log WHERE id IN (SELECT max(id) FROM log INDEXED BY log_by_key "
        f"WHERE kind = ? AND id < ? {where} GROUP BY namespace, name)"
    )
    rows = db.execute(text, (kind, first_id(revision + 1), *values)).fetchall()
    return [record for record in map(checked, rows) if not record.deleted]


def read_key(
    db: sqlite3.Connection, kind: str, namespace: str, name: str, after: int, until: int, limit: int
) -> list[Record]:
    """See Journal.read_key."""
    text = (
        f"SELECT {NAMES} FROM log INDEXED BY log_by_key WHERE kind = ? AND namespace = ? AND name = ? "
        "AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
    )
    values = (kind, namespace, name, first_id(after + 1), first_id(until + 1), limit)
    return [checked(row) for row in db.execute(text, values).fetchall()]


def revision_at(db: sqlite3.Connection, time_s: float) -> int:
    """See Journal.revision_at: a binary search, some twenty rows are looked at."""
    first = db.execute("SELECT id, time_s FROM log ORDER BY id LIMIT 1").fetchone()
    last = db.execute("SELECT id, time_s FROM log ORDER BY id DESC LIMIT 1").fetchone()
    if first is None or first[1] > time_s:
        return 0
    if last[1] <= time_s:
        return revision_of(last[0])
    # `low` was made in time, what follows on `high` was not; between them nothing is known.
    low, high = revision_of(first[0]), revision_of(last[0])
    while high - low > 1:
        middle = (low + high) // 2
        row_id, made_s = db.execute(
            "SELECT id, time_s FROM log WHERE id >= ? ORDER BY id LIMIT 1", (first_id(middle),)
        ).fetchone()
        if made_s <= time_s:
            low = revision_of(row_id)
        else:
            high = middle
    return low


def requests(db: sqlite3.Connection) -> Sequence[tuple[int, str, int, float, bytes, bytes]]:
    """All rows of the requests, in order."""
    return db.execute(
        "SELECT number, request_id, revision, time_s, outcome, chain FROM requests ORDER BY number"
    ).fetchall()
