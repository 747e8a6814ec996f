from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from cluster.store.interface import DiskFull, JournalFailed, StoreRefused
from cluster.store.journal import SqliteJournal
from cluster.store.store import Store, StoreSettings
from tests.kit.clock import VirtualClock
from tests.unit.store.rig import Script, key


def journal(path: Path) -> SqliteJournal:
    return SqliteJournal(path, lambda: "fresh")


async def test_two_masters_cannot_open_one_directory(tmp_path: Path) -> None:
    first, second = journal(tmp_path), journal(tmp_path)
    await first.open()
    with pytest.raises(StoreRefused, match="in use by another master"):
        await second.open()
    await first.close()
    third = journal(tmp_path)
    await third.open()
    await third.close()


async def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    for path in (tmp_path / "store").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    await opened.close()


async def test_the_disk_is_written_the_safe_way(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    await opened.open()

    def pragmas() -> list[object]:
        db = opened._begin_writing().db
        names = ("journal_mode", "synchronous", "application_id", "user_version", "mmap_size")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await opened._write(pragmas) == ["wal", 2, 0x506F6469, 2, 0]
    await opened.close()


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    await opened.open()
    await opened.close()
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreRefused, match="newer Podium"):
        await journal(tmp_path).open()


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("CREATE TABLE songs (name TEXT)")
    db.close()
    with pytest.raises(StoreRefused, match="not a store of Podium"):
        await journal(tmp_path).open()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at" * 100, b"SQLite format 3\0" + bytes(4080)]
)
async def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreRefused):
        await journal(tmp_path).open()


async def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "store.db")
    with pytest.raises(OSError):
        await journal(tmp_path).open()


async def test_a_full_disk_refuses_writes_and_nothing_else(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    store = Store(opened, StoreSettings(), VirtualClock())
    await store.start()
    script = Script(store)
    await script.put("a")

    def limit_pages(pages: int) -> None:
        opened._begin_writing().db.execute(f"PRAGMA max_page_count={pages}").fetchall()

    await opened._write(lambda: limit_pages(1))  # no fewer than there are: not one more
    with pytest.raises(DiskFull):
        await _fill(script)
    revision = store.revision
    assert store.get(key("a")) is not None
    assert await store.list_at(revision, "Pod")
    await opened._write(lambda: limit_pages(1 << 20))
    assert await script.put("b") == revision + 1
    await store.stop()
    again = Store(journal(tmp_path), StoreSettings(), VirtualClock())
    await again.start()
    assert again.revision == revision + 1
    await again.stop()


async def _fill(script: Script) -> None:
    for number in range(100):
        await script.put(f"p{number}", app="x" * 1000)


async def test_a_failure_of_the_disk_is_not_mistaken_for_a_full_one(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    store = Store(opened, StoreSettings(), VirtualClock())
    await store.start()
    script = Script(store)
    await script.put("a")

    def sabotage() -> None:
        opened._begin_writing().db.execute("DROP TABLE log")

    await opened._write(sabotage)
    with pytest.raises(JournalFailed):
        await script.put("b")
    assert store.revision == 1
    assert store.get(key("b")) is None
    await store.stop()


async def test_closing_twice_is_fine_and_frees_the_lock(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    await opened.open()
    assert [records async for records in opened.load()] == []
    await opened.close()
    await opened.close()
    assert not (tmp_path / "store.db-wal").exists()
