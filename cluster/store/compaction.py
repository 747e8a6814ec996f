"""Forgetting, in SQL: changes that later ones replaced, and requests that nobody will repeat.

The compacted part has one row per object that existed at its end, and nothing else. A piece moves its end over some
more rows, and each of them can replace at most one row that is there:

    compacted to 3     a 1, b 3 | c 4, a 5, delete b 6
    a piece, to 6      a 5, c 4 |                          a 1 was replaced by a 5, b 3 by its deletion

So a piece costs what its rows cost, however large the rest is, and whenever it stops, what is there is consistent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from cluster.store import chain, schema
from cluster.store.chain import Base
from cluster.store.schema import Meta, first_id, revision_of

_FORGET_AT_ONCE = 2000


def compact(db: sqlite3.Connection, base: Base, revision: int, limit: int) -> tuple[Base, bool]:
    """Forgets about `limit` changes up to a revision, within the caller's transaction. Returns the compacted beginning
    as it is then, and whether all is done."""
    text = (
        "SELECT id, kind, namespace, name, previous, deleted, digest, chain FROM log WHERE id >= ? AND id < ? "
        "ORDER BY id LIMIT ?"
    )
    end = first_id(revision + 1)
    rows = db.execute(text, (first_id(base.compacted + 1), end, limit)).fetchall()
    done = len(rows) < limit
    if not done:  # the rest of the revision that the limit may have cut
        last = rows[-1][0]
        rows += db.execute(text, (last + 1, first_id(revision_of(last) + 1), -1)).fetchall()
    kept: dict[tuple[str, str, str], tuple[int, bytes]] = {}
    gone: list[int] = []
    taken: list[bytes] = []
    for row_id, kind, namespace, name, previous, deleted, digest, _ in rows:
        key = (kind, namespace, name)
        if key in kept:
            gone.append(kept.pop(key)[0])
        elif previous:
            old = db.execute(
                "SELECT id, digest FROM log INDEXED BY log_by_key WHERE kind = ? AND namespace = ? AND name = ? "
                "AND id < ? ORDER BY id DESC LIMIT 1",
                (*key, row_id),
            ).fetchone()
            if old is not None:
                gone.append(old[0])
                taken.append(old[1])
        if deleted:
            gone.append(row_id)
        else:
            kept[key] = (row_id, digest)
    db.executemany("DELETE FROM log WHERE id = ?", [(row_id,) for row_id in gone])
    total = chain.add(chain.subtract(base.total, taken), [digest for _, digest in kept.values()])
    count = base.count - len(taken) + len(kept)
    compacted = revision if done else revision_of(rows[-1][0])
    head = rows[-1][7] if rows else base.chain
    return Base(max(base.compacted, compacted), head, count, total), done


def forget_requests(db: sqlite3.Connection, meta: Meta, number: int, time_s: float) -> Meta:
    """Forgets requests up to a number, and further those before a time, within the caller's transaction. Returns the
    meta as it is then, which is written."""
    until, until_chain = meta.forgotten, meta.forgotten_chain
    rows = db.execute("SELECT number, time_s, chain FROM requests ORDER BY number LIMIT ?", (_FORGET_AT_ONCE,))
    for row_number, made_s, row_chain in rows.fetchall():
        if row_number > number and made_s >= time_s:
            break
        until, until_chain = row_number, row_chain
    if until == meta.forgotten:
        return meta
    db.execute("DELETE FROM requests WHERE number <= ?", (until,))
    meta = replace(meta, forgotten=until, forgotten_chain=until_chain)
    schema.write_meta(db, meta)
    return meta
