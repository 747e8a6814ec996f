"""Backups of a store that is written to meanwhile: as of one revision, whole, or refused in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from cluster.api.errors import Expired, Internal, Overloaded
from cluster.store import backup
from cluster.store.backup import Backups, Origin
from cluster.store.backup_format import BadBackup, Reading
from cluster.store.history import PIN_S, Window
from cluster.store.interface import Request
from cluster.store.journal import SqliteJournal
from cluster.store.store import Store, StoreSettings
from tests.kit.clock import VirtualClock
from tests.unit.store.rig import Script
from tests.unit.store.test_backup_format import read

ORIGIN = Origin("demo", "0.1", "127.9.0.0/20", "127.9.16.0")
SMALL = StoreSettings(ring_changes=10, window=Window(revisions=10, age_s=1e9, slack=1))


@asynccontextmanager
async def opened(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[tuple[Store, Script, Backups]]:
    store = Store(SqliteJournal(tmp_path, lambda: "a-store", ballast_bytes=0), SMALL, clock)
    await store.start()
    store.leading = True
    try:
        yield store, Script(store), Backups(store, clock, ORIGIN)
    finally:
        await store.stop()


async def forget(store: Store, clock: VirtualClock) -> None:
    """What the housekeeper would do now."""
    await store.history.compact(store.revision, clock.wall(), clock.monotonic())


async def test_a_backup_is_as_of_one_revision_while_writing_goes_on(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with opened(tmp_path, clock) as (store, script, backups):
        for number in range(40):
            await script.put(f"p{number % 7}")
        await store.commit([script.change("p1")], [Request("admin/1", 41, clock.wall(), b"done")])
        pieces = []
        async with aclosing(backups.run()) as run:
            async for piece in run:
                pieces.append(piece)
                await script.put("later")
                await forget(store, clock)
        header, records, requests, end = read(pieces)
        assert (header.store_id, header.revision, header.base.compacted) == ("a-store", 41, 0)
        assert (header.cluster, header.podium, header.engine) == ("demo", "0.1", "sqlite")
        assert (header.service_cidr, header.pod_cidr_base) == ("127.9.0.0/20", "127.9.16.0")
        assert [record.revision for record in records] == list(range(1, 42))
        assert [request.request_id for request in requests] == ["admin/1"]
        assert end.records == 41
        assert store.oldest == 0, "nothing was forgotten meanwhile"
        await forget(store, clock)
        assert store.oldest > 30, "and now it is"
        header, records, _, _ = read([piece async for piece in backups.run()])
        assert header.base.compacted == store.oldest
        assert header.revision == store.revision


async def test_there_is_a_limit_to_backups_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, VirtualClock()) as (_, script, backups):
        await script.put("a")
        runs = [backups.run() for _ in range(backup.AT_ONCE)]
        for run in runs:
            await anext(run)
        with pytest.raises(Overloaded):
            await anext(backups.run())
        await runs.pop().aclose()
        assert len([piece async for piece in backups.run()]) == 3
        await runs.pop().aclose()


@pytest.mark.parametrize("away_s", [PIN_S + 1, backup.LONGEST_S + 1])
async def test_a_reader_that_stays_away_keeps_nothing_from_being_forgotten(
    tmp_path: Path, away_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.store.journal._LOAD_ROWS", 10)
    clock = VirtualClock()
    async with opened(tmp_path, clock) as (store, script, backups):
        for number in range(50):
            await script.put(f"p{number}")
        pieces = []
        async with aclosing(backups.run()) as run:
            pieces.append(await anext(run))
            pieces.append(await anext(run))
            clock.advance(away_s)
            await forget(store, clock)
            assert store.oldest == 40
            with pytest.raises(Expired, match="too slow"):
                await anext(run)
        reading = Reading()
        for piece in pieces:
            for _ in reading.feed(piece):
                pass
        with pytest.raises(BadBackup, match="its end is missing"):
            reading.finish()


async def test_a_reader_that_has_gone_holds_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with opened(tmp_path, clock) as (store, script, backups):
        for number in range(30):
            await script.put(f"p{number}")
        run = backups.run()
        await anext(run)
        await forget(store, clock)
        assert store.oldest == 0
        await run.aclose()
        await forget(store, clock)
        assert store.oldest == 20


async def test_what_has_rotted_is_not_backed_up(tmp_path: Path) -> None:
    async with opened(tmp_path, VirtualClock()) as (store, script, backups):
        for number in range(30):
            await script.put(f"p{number}", app=f"the-number-{number}")
    data = (tmp_path / "store.db").read_bytes()
    async with opened(tmp_path, VirtualClock()) as (store, _, backups):
        at = data.index(b"the-number-17") + 5
        with (tmp_path / "store.db").open("r+b") as file:
            file.seek(at)
            file.write(b"X")
        journal = store.journal
        assert isinstance(journal, SqliteJournal)
        assert journal._reader is not None
        journal._reader.execute("PRAGMA shrink_memory").fetchall()
        with pytest.raises(Internal, match="damaged"):
            async for _ in backups.run():
                pass
