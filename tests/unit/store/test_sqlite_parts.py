"""What only the journal on SQLite has: schemas, the high-water mark, the ballast, requests that are forgotten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.store import failpoints, highwater, opening, writing
from cluster.store.ballast import Ballast
from cluster.store.highwater import HighWater, Mark
from cluster.store.interface import DiskFull, JournalFailed, Request, StoreRefused
from cluster.store.journal import SqliteJournal
from tests.kit.clock import VirtualClock
from tests.unit.store.damage import content, copy, fill, flip, journal, make, record

SCHEMA_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    previous INTEGER NOT NULL, deleted INTEGER NOT NULL, node TEXT NOT NULL, time_s REAL NOT NULL, data BLOB NOT NULL
);
CREATE INDEX log_by_key ON log (kind, namespace, name, id);
PRAGMA application_id=0x506F6469;
PRAGMA user_version=1;
PRAGMA journal_mode=WAL;
"""


def make_schema_1(directory: Path, revisions: int, compacted: int = 0) -> None:
    """A store as the first Podium left it, in the middle of a compaction: what is replaced is still there."""
    directory.mkdir()
    db = sqlite3.connect(directory / "store.db", isolation_level=None)
    db.executescript(SCHEMA_1)
    db.executemany("INSERT INTO meta VALUES (?, ?)", [("store_id", "an-old-store"), ("compacted", str(compacted))])
    rows = [(r.revision << 12, *r[2:]) for r in map(record, range(1, revisions + 1))]
    db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    db.close()


@pytest.mark.parametrize("compacted", [0, 20])
async def test_a_store_of_the_first_schema_is_brought_up_to_date(tmp_path: Path, compacted: int) -> None:
    store = tmp_path / "store"
    make_schema_1(store, 50, compacted)
    found = await content(store)
    first = compacted - 6 if compacted else 1  # the seven that existed then, and everything after
    assert (found.store_id, found.compacted) == ("an-old-store", compacted)
    assert found.records == [record(n) for n in range(first, 51)]
    again = journal(store)
    await again.open()
    await fill(again, 51, 60)
    await again.close()
    assert (await content(store)).records[-1] == record(60)
    kept = sqlite3.connect(store / "store.db.schema-1")
    assert kept.execute("SELECT count(*) FROM log").fetchone() == (50,)
    assert kept.execute("PRAGMA user_version").fetchone() == (1,)
    kept.close()


async def test_an_empty_store_of_the_first_schema(tmp_path: Path) -> None:
    make_schema_1(tmp_path / "store", 0)
    assert (await content(tmp_path / "store")).records == []


async def test_a_damaged_store_of_the_first_schema_is_not_touched(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make_schema_1(store, 200)
    flip(store / "store.db", 4096 * 3, 8)
    before = (store / "store.db").read_bytes()
    with pytest.raises(StoreRefused, match="damaged"):
        await content(store)
    assert (store / "store.db").read_bytes() == before


OPEN = """
import asyncio, sys
from pathlib import Path
from tests.unit.store.damage import content
asyncio.run(content(Path(sys.argv[1])))
"""


def _open_until_killed(store: Path, points: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", OPEN, str(store)],
        env={"PODIUM_FAILPOINTS": points, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode


@pytest.mark.parametrize("point", ["store.before_migrate", "store.after_migrate"])
async def test_killed_while_the_schema_changes(tmp_path: Path, point: str) -> None:
    store = tmp_path / "store"
    make_schema_1(store, 50, 20)
    assert _open_until_killed(store, f"{point}=exit") == failpoints.EXIT_CODE
    assert (await content(store)).records == [record(n) for n in range(14, 51)]


@pytest.mark.parametrize("point", ["store.before_create", "store.after_create"])
async def test_killed_while_the_store_is_made(tmp_path: Path, point: str) -> None:
    assert _open_until_killed(tmp_path / "store", f"{point}=exit") == failpoints.EXIT_CODE
    assert (await content(tmp_path / "store")).records == []
    assert (await content(tmp_path / "store")).records == []


# --- the high-water mark

marks = st.builds(
    Mark,
    store_id=st.text(max_size=60),
    revision=st.integers(0, 2**60),
    chain=st.binary(min_size=32, max_size=32),
    requests=st.integers(0, 2**60),
    requests_chain=st.binary(min_size=32, max_size=32),
    compacted=st.integers(0, 2**60),
)


@given(mark=marks, turn=st.integers(0, 2**60), place=st.integers(0), bit=st.integers(0, 7))
def test_a_mark_is_read_as_it_was_written_or_not_at_all(mark: Mark, turn: int, place: int, bit: int) -> None:
    slot = highwater.encode(turn, mark)
    assert len(slot) <= highwater.SLOT_BYTES
    assert highwater.decode(slot + bytes(100)) == (turn, mark)
    damaged = bytearray(slot)
    damaged[place % len(slot)] ^= 1 << bit
    assert highwater.decode(bytes(damaged)) is None
    assert highwater.decode(slot[: place % len(slot)]) is None


def test_the_newer_of_two_marks_counts(tmp_path: Path) -> None:
    path = tmp_path / "high-water"
    assert highwater.read(path) is None
    file = HighWater(path)
    assert highwater.read(path) is None
    for revision in range(1, 6):
        mark = Mark("s", revision, bytes(32), 0, bytes(32))
        file.note(mark)
        assert highwater.read(path) == mark
    file.sync()
    file.close()
    again = HighWater(path)
    again.note(Mark("s", 6, bytes(32), 0, bytes(32)))
    again.close()
    flip(path, 0 if path.read_bytes()[8] == 6 else highwater.SLOT_BYTES, 8)
    found = highwater.read(path)
    assert found is not None
    assert found.revision in (5, 6)
    assert path.stat().st_size == 2 * highwater.SLOT_BYTES


async def test_the_mark_is_synced_a_second_after_it_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    opened = SqliteJournal(tmp_path / "store", lambda: "s", ballast_bytes=0, clock=clock)
    await opened.open()
    async for _ in opened.load():
        pass
    await fill(opened, 1, 3)
    assert opened._writer is not None
    synced: list[bool] = []
    monkeypatch.setattr(HighWater, "sync", lambda file: synced.append(file.moved))
    await clock.run_for(0.5)
    assert synced == []
    await clock.run_for(1.0)
    while not synced:
        await clock.run_for(0.1)
    monkeypatch.undo()
    await opened.close()


# --- requests


async def test_requests_are_forgotten_when_they_are_old_or_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LIMIT", 1000)
    opened = journal(tmp_path / "store")
    await opened.open()

    async def write(number: int, time_s: float) -> None:
        await opened.append([record(number)], [Request(f"admin/{number}", number, time_s, b"done")])

    for number in range(1, 451):
        await write(number, time_s=0.0)
    assert len(await _kept(opened)) == 450, "they are forgotten in batches"
    for number in range(451, 501):
        await write(number, time_s=601.0)
    assert await _kept(opened) == list(range(451, 501)), "ten minutes old"
    for number in range(501, 2101):
        await write(number, time_s=602.0)
    kept = await _kept(opened)
    assert kept == list(range(kept[0], 2101))
    assert 1000 <= len(kept) < 1500
    await opened.close()
    assert [int(r.request_id.split("/")[1]) for r in (await content(tmp_path / "store")).requests] == kept


async def _kept(opened: SqliteJournal) -> list[int]:
    assert opened._writer is not None
    return [row[0] for row in opened._writer.db.execute("SELECT revision FROM requests ORDER BY number").fetchall()]


# --- a full disk


def test_the_ballast_is_made_given_back_and_made_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 1 << 20)
    ballast.free()
    assert ballast.make()
    assert ballast.make()
    status = (tmp_path / "ballast").stat()
    assert (status.st_size, status.st_blocks * 512 >= 1 << 20) == (1 << 20, True)
    ballast.free()
    assert (tmp_path / "ballast").stat().st_blocks == 0
    assert ballast.make()
    assert Ballast(tmp_path / "ballast", 4096).make()
    assert (tmp_path / "ballast").stat().st_size == 4096
    assert Ballast(tmp_path / "ballast", 0).make()
    assert not (tmp_path / "ballast").exists()


class Full:
    """Lets the journal believe that the disk is full, but for so many pages when the ballast is given back."""

    def __init__(self, opened: SqliteJournal, monkeypatch: pytest.MonkeyPatch, reserve_pages: int) -> None:
        self._db = opened._begin_writing().db
        self.space_is_back = False
        self._limit(0)
        reserve = iter([reserve_pages])  # once: there is nothing left to give back the second time
        monkeypatch.setattr(Ballast, "free", lambda _: self._limit(next(reserve, None)))
        monkeypatch.setattr(Ballast, "make", lambda _: self._make())

    def _limit(self, more: int | None) -> None:
        if more is None:
            return
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        self._db.execute(f"PRAGMA max_page_count={pages + more}").fetchone()

    def _make(self) -> bool:
        if self.space_is_back:
            self._db.execute("PRAGMA max_page_count=1000000").fetchone()
        return self.space_is_back


async def test_on_a_full_disk_only_what_makes_room_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    opened = SqliteJournal(tmp_path / "store", lambda: "s", clock=clock)
    await opened.open()
    async for _ in opened.load():
        pass
    await fill(opened, 1, 100)
    full = Full(opened, monkeypatch, reserve_pages=30)
    head = await opened.head()
    with pytest.raises(DiskFull, match="has no room; only deletions are written"):
        await fill(opened, head + 1, head + 100)
    head = await opened.head()
    assert [problem.split(":")[0] for problem in opened.problems] == ["DiskFull"]
    with pytest.raises(DiskFull):
        await opened.append([record(head + 1)])
    assert len(await opened.read(head - 3, 10)) == 3, "reading goes on"
    await opened.append([record(head + 1, deleted=True)], frees=True)
    assert not await opened.compact(50, 20), "and so does forgetting"
    with pytest.raises(DiskFull, match="even what is kept for deleting is used up"):
        await _delete(opened, head + 2, head + 1000)
    head = await opened.head()
    full.space_is_back = True
    await clock.run_for(5.0)
    while opened.problems:
        await clock.run_for(0.5)
    await opened.append([record(head + 1)])
    await opened.close()
    monkeypatch.undo()
    assert (await content(tmp_path / "store")).records[-1].revision == head + 1


async def _delete(opened: SqliteJournal, first: int, last: int) -> None:
    for revision in range(first, last + 1):
        await opened.append([record(revision, deleted=True)], frees=True)


# --- a disk that fails


async def test_nothing_is_written_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    await fill(opened, 1, 5)
    monkeypatch.setattr(failpoints, "_active", {"store.before_checkpoint": failpoints.Failpoint("raise")})
    writer = opened._begin_writing()
    writer._wal_limit = 1
    await opened.append([record(6)])
    with pytest.raises(JournalFailed, match=r"failpoint store\.before_checkpoint"):
        await opened.append([record(7)])
    assert [problem.split(":")[0] for problem in opened.problems] == ["JournalFailed"]
    monkeypatch.undo()
    with pytest.raises(JournalFailed):
        await opened.append([record(7)])
    killed = copy(tmp_path / "store", tmp_path / "killed")
    await opened.close()
    assert [r.revision for r in (await content(killed)).records] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("point", "durable"), [("store.before_commit", 3), ("store.after_commit", 4), ("store.after_mark", 4)]
)
async def test_a_failure_at_each_step_of_an_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, durable: int
) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    await fill(opened, 1, 3)
    monkeypatch.setattr(failpoints, "_active", {point: failpoints.Failpoint("raise")})
    with pytest.raises(JournalFailed):
        await opened.append([record(4)])
    monkeypatch.undo()
    killed = copy(tmp_path / "store", tmp_path / "killed")
    await opened.close()
    assert len((await content(killed)).records) == durable


# --- opening


@pytest.mark.parametrize(("free", "message"), [(500_000, ""), (50_000, "has no room at all")])
async def test_opening_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, message: str) -> None:
    opened = SqliteJournal(tmp_path / "store", lambda: "s")
    await opened.open()
    await fill(opened, 1, 3)
    await opened.close()
    assert (tmp_path / "store" / "ballast").stat().st_size
    monkeypatch.setattr(opening, "_free_bytes", lambda _: free)
    monkeypatch.setattr(Ballast, "make", lambda _: False)
    again = SqliteJournal(tmp_path / "store", lambda: "s")
    if message:
        with pytest.raises(DiskFull, match=message):
            await again.open()
    else:
        await again.open()
        assert [r.revision async for piece in again.load() for r in piece] == [1, 2, 3]
        assert again.problems
        await again.close()
    assert (tmp_path / "store" / "ballast").stat().st_size == 0


async def test_a_failing_checkpoint_is_told_of(tmp_path: Path) -> None:
    """SQLite's own checkpoints, at the end of a commit, are not: so there are none."""
    store = await make(tmp_path)
    db = opening.connect_writer(store / "store.db")
    assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    db.close()


async def test_the_wal_does_not_grow_for_ever(tmp_path: Path) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    for first in range(1, 8001, 100):
        await opened.append([record(n) for n in range(first, first + 100)])
    assert (tmp_path / "store" / "store.db-wal").stat().st_size < 20e6
    assert os.stat(tmp_path / "store" / "store.db").st_size > 3e6
    await opened.close()
