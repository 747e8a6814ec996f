"""Stores to damage: what is in them is known, and so is whether they were closed or killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.store.interface import Request
from cluster.store.journal import SqliteJournal
from cluster.store.version import Record

KEYS = 7


def record(revision: int, *, deleted: bool = False, position: int = 0) -> Record:
    """Revision after revision of a few pods, each with a payload that occurs nowhere else."""
    number = revision % KEYS + 100 * position
    previous = max(0, revision - KEYS) if position == 0 else 0
    data = b"<payload of revision %06d>" % revision * 20
    return Record(
        revision, position, "Pod", "default", f"p{number}", previous, deleted, f"n{number}", 1.0 * revision, data
    )


def request(revision: int) -> Request:
    return Request(f"admin/{revision}", revision, 1.0 * revision, b"outcome of %d" % revision)


@dataclass(frozen=True)
class Content:
    """What a store says when it is opened."""

    store_id: str
    compacted: int
    records: Sequence[Record]
    requests: Sequence[Request]


def journal(directory: Path, store_id: str = "a-store") -> SqliteJournal:
    return SqliteJournal(directory, lambda: store_id, ballast_bytes=0)


async def content(directory: Path) -> Content:
    """Opens the store, reads all of it, and closes it. Raises StoreRefused."""
    opened = journal(directory, "fresh")
    opening = await opened.open()
    try:
        records = [record async for piece in opened.load() for record in piece]
        requests = await opened.load_requests()
        return Content(opening.store_id, opening.compacted, records, requests)
    finally:
        await opened.close()


async def fill(opened: SqliteJournal, first: int, last: int, *, compact_to: int = 0) -> None:
    for revision in range(first, last + 1):
        await opened.append([record(revision)], [request(revision)] if revision % 2 else [])
    if compact_to:
        while not await opened.compact(compact_to, 5):
            pass


async def make(
    directory: Path, *, revisions: int = 60, compact_to: int = 0, killed: bool = False, store_id: str = "a-store"
) -> Path:
    """A store with so many revisions. A killed one is the files as they were while it was open: part of it is in the
    WAL only."""
    opened = journal(directory / "live", store_id)
    await opened.open()
    async for _ in opened.load():
        pass
    await fill(opened, 1, revisions, compact_to=compact_to)
    if killed:
        copy(directory / "live", directory / "store")
        await opened.close()
        shutil.rmtree(directory / "live")
    else:
        await opened.close()
        (directory / "live").rename(directory / "store")
    return directory / "store"


def copy(source: Path, target: Path) -> Path:
    """All files of a store, but for what SQLite makes anew."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))
    return target


def flip(path: Path, offset: int, length: int = 64) -> None:
    """Inverts bytes of a file."""
    data = bytearray(path.read_bytes())
    for place in range(offset, min(offset + length, len(data))):
        data[place] ^= 0xFF
    path.write_bytes(data)
