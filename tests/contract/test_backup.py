"""A backup of any store becomes a store of any engine: the same log, the same requests, under another id.

And for etcd, what must not happen meanwhile: a master that leads, one that sleeps, a restore that dies.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.rpc.etcd import Delete, EtcdClient, Get, Put
from cluster.store import backup_file, failpoints, opening, restoring
from cluster.store.backup import Backups, Origin
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.restoring import _Found, restore
from cluster.store.failpoints import EXIT_CODE, VARIABLE
from cluster.store.interface import Journal, JournalFailed, NotLeading, Request, StoreRefused
from cluster.store.journal import SqliteJournal
from cluster.store.memory import MemoryJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Record
from tests.contract.journal_suite import _busy, everything, made
from tests.kit.etcd import PATIENT_CLIENT, PATIENT_JOURNAL, EtcdCluster, shared_etcd

__all__ = ["shared_etcd"]

pytestmark = pytest.mark.usefixtures("no_leaks")
ENGINES = ("memory", "sqlite", "etcd")
CLOCK = SystemClock()
SUFFIX = "0123abcd"


class Place:
    """Where stores of each engine are made, and made of backups."""

    def __init__(self, directory: Path, etcd: EtcdCluster) -> None:
        self.directory = directory
        self.etcd = etcd
        self.prefix = f"/podium/{random.SystemRandom().getrandbits(64):x}/"
        self._memory = MemoryJournal("a-store")

    def journal(self, engine: str) -> Journal:
        if engine == "memory":
            return self._memory
        if engine == "sqlite":
            return SqliteJournal(self.directory / "store", lambda: "a-store", ballast_bytes=0)
        client = EtcdClient(self.etcd.endpoints, settings=PATIENT_CLIENT)
        return EtcdJournal(client, self.prefix, PATIENT_JOURNAL, CLOCK, random.Random(), lambda: "a-store")

    async def backup(self, journal: Journal) -> Path:
        """Of a journal that is not open."""
        store = Store(journal, StoreSettings(), CLOCK)
        await store.start()
        try:
            pieces = [piece async for piece in Backups(store, CLOCK, Origin("demo")).run()]
        finally:
            await store.stop()
        path = self.directory / "backup"
        path.write_bytes(b"".join(pieces))
        return path

    async def restore(self, engine: str, backup: Path, suffix: str = SUFFIX) -> restoring.Staged:
        if engine == "sqlite":
            (self.directory / "store").mkdir(exist_ok=True)
            staged = restoring.stage(self.directory / "store", backup_file.parts_of(backup), suffix)
            lock = opening.take_lock(self.directory / "store")
            restoring.switch(self.directory / "store")
            os.close(lock)
            return staged
        client = EtcdClient(self.etcd.endpoints, settings=PATIENT_CLIENT)
        try:
            return await restore(client, self.prefix, backup_file.parts_of(backup), suffix, CLOCK)
        finally:
            await client.close()

    async def keys(self) -> list[str]:
        """What is in etcd, without the names of revisions."""
        client = EtcdClient(self.etcd.endpoints, settings=PATIENT_CLIENT)
        try:
            found = await client.get(Get(*Keys(self.prefix).all, keys_only=True))
            names = [item.key.decode().removeprefix(self.prefix) for item in found.kvs]
            return sorted({name.rpartition("/")[0] + "/" if name.count("0") > 9 else name for name in names})
        finally:
            await client.close()

    async def look(self, engine: str) -> tuple[str, int, list[Record], list[Request]]:
        journal = self.journal(engine)
        found = await journal.open()
        try:
            records = await everything(journal)
            return found.store_id, found.compacted, records, list(await journal.load_requests())
        finally:
            await journal.close()


@pytest.fixture
def place(tmp_path: Path, shared_etcd: EtcdCluster) -> Place:
    return Place(tmp_path, shared_etcd)


async def fill(journal: Journal, log: list[Record], compact_to: int = 0) -> None:
    """Each record with a request of its own."""
    await journal.open()
    try:
        await everything(journal)
        term = await journal.campaign("127.0.0.1:1")
        newest = 0
        for start in range(0, len(log), 40):
            piece = [record for record in log[start:] if record.revision > newest][:40]
            if not piece:
                break
            last = piece[-1].revision
            piece = [record for record in log if newest < record.revision <= last]
            newest = last
            requests = [Request(f"admin/{r}", r, CLOCK.wall(), b"x") for r in sorted({r.revision for r in piece})]
            await journal.append(piece, requests)
        while compact_to and not await journal.compact(compact_to, 10):
            pass
        await term.resign()
    finally:
        await journal.close()


@pytest.mark.parametrize("compact_to", [0, 43, 100])
@pytest.mark.parametrize("to", ["sqlite", "etcd"])
@pytest.mark.parametrize("origin", ENGINES)
async def test_from_any_engine_to_any(place: Place, origin: str, to: str, compact_to: int) -> None:
    source = Place(place.directory / "source", place.etcd)
    source.directory.mkdir()
    await fill(source.journal(origin), list(_busy(100)), compact_to)
    backup = await source.backup(source.journal(origin))
    _, compacted, records, requests = await source.look(origin)
    staged = await place.restore(to, backup)
    assert staged.records == len(records)
    assert await place.look(to) == (f"a-store+{SUFFIX}", compacted, records, requests)
    # The restored store is one like any other: it is written, compacted, backed up and restored again.
    journal = place.journal(to)
    await journal.open()
    await everything(journal)
    term = await journal.campaign("127.0.0.1:1")
    await journal.append([made(101, "new", previous=0)], [Request("admin/new", 101, CLOCK.wall(), b"x")])
    while not await journal.compact(99, 7):
        pass
    await term.resign()
    await journal.close()
    _, compacted, records, requests = await place.look(to)
    assert (compacted, records[-1].name) == (max(99, compact_to), "new")
    again = await place.backup(place.journal(to))
    await place.restore(to, again, "ffffffff")
    assert await place.look(to) == ("a-store+ffffffff", compacted, records, requests)
    if to == "etcd":
        assert await place.keys() == ["at-ffffffff/head", "at-ffffffff/log/", "at-ffffffff/requests/", "store"]


async def test_large_logs_become_many_chunks(place: Place) -> None:
    log = [made(n)._replace(data=bytes([n % 256]) * 5000) for n in range(1, 1200)]
    source = Place(place.directory / "source", place.etcd)
    source.directory.mkdir()
    await fill(source.journal("sqlite"), log, 600)
    backup = await source.backup(source.journal("sqlite"))
    await place.restore("etcd", backup)
    _, compacted, records, _ = await place.look("etcd")
    assert compacted == 600
    assert records == (await source.look("sqlite"))[2]


@asynccontextmanager
async def leading(place: Place) -> AsyncIterator[Journal]:
    journal = place.journal("etcd")
    await journal.open()
    await everything(journal)
    await journal.campaign("127.0.0.1:1")
    try:
        yield journal
    finally:
        await journal.close()


async def test_while_a_master_leads_nothing_is_restored(place: Place) -> None:
    await fill(place.journal("etcd"), list(_busy(50)))
    backup = await place.backup(place.journal("etcd"))
    before = await place.look("etcd")
    async with leading(place) as journal:
        with pytest.raises(StoreRefused, match=r"a master leads, at 127\.0\.0\.1:1"):
            await place.restore("etcd", backup)
        await journal.append([made(51, "more", previous=0)])
    assert (await place.look("etcd"))[2] == [*before[2], made(51, "more", previous=0)]


async def test_a_master_that_begins_to_lead_meanwhile_is_not_overtaken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place.journal("etcd"), list(_busy(50)))
    backup = await place.backup(place.journal("etcd"))
    async with leading(place) as journal:
        client = EtcdClient(place.etcd.endpoints, settings=PATIENT_CLIENT)
        monkeypatch.setattr("cluster.store.etcd.restoring._Restore._look", _unseen(client, Keys(place.prefix)))
        with pytest.raises(StoreRefused, match="begun to lead meanwhile"):
            await restore(client, place.prefix, backup_file.parts_of(backup), SUFFIX, CLOCK)
        await journal.append([made(51, "more", previous=0)])
        await client.close()
    assert await place.keys() == ["head", "log/", "requests/", "store"]


def _unseen(client: EtcdClient, keys: Keys) -> object:
    """A look that was taken before the leader was there."""

    async def look(self: object) -> object:
        store, head = [(await client.get(Get(key))).kvs[0] for key in (keys.store, keys.head)]
        status = await client.status()
        return _Found(keys, store.mod_revision, head.mod_revision, status.header.cluster_id)

    return look


async def test_a_master_that_has_slept_over_it_writes_nothing_and_shows_nothing(place: Place) -> None:
    await fill(place.journal("etcd"), list(_busy(50)))
    backup = await place.backup(place.journal("etcd"))
    async with leading(place) as journal:
        client = EtcdClient(place.etcd.endpoints, settings=PATIENT_CLIENT)
        await client.txn([], [Delete(Keys(place.prefix).leader)])  # as if its lease had run out
        await place.restore("etcd", backup)
        restored = await place.look("etcd")
        with pytest.raises((NotLeading, JournalFailed)):
            await journal.append([made(51, "late", previous=0)])
        with pytest.raises(JournalFailed, match="is gone from etcd"):
            await journal.head()
        await client.close()
    assert await place.look("etcd") == restored


async def test_what_is_not_ours_is_not_touched(place: Place) -> None:
    await fill(place.journal("sqlite"), list(_busy(20)))
    backup = await place.backup(place.journal("sqlite"))
    client = EtcdClient(place.etcd.endpoints, settings=PATIENT_CLIENT)
    await client.txn([], [Put(f"{place.prefix}other".encode(), b"theirs")])
    with pytest.raises(StoreRefused, match="something else below"):
        await place.restore("etcd", backup)
    assert await place.keys() == ["other"]
    await client.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from cluster.actor.clock import SystemClock
from cluster.rpc.etcd import EtcdClient
from cluster.store import backup_file
from cluster.store.etcd.restoring import restore
async def main():
    client = EtcdClient(sys.argv[1].split(","))
    await restore(client, sys.argv[2], backup_file.parts_of(Path(sys.argv[3])), "aaaaaaaa", SystemClock())
    await client.close()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "failpoint", ["restore.etcd_between_chunks", "restore.etcd_before_switch", "restore.etcd_after_switch"]
)
async def test_killed_while_it_restores(place: Place, failpoint: str) -> None:
    assert failpoint in failpoints.KNOWN
    await fill(place.journal("etcd"), list(_busy(60)), 20)
    backup = await place.backup(place.journal("etcd"))
    before = await place.look("etcd")
    command = [sys.executable, "-c", CHILD, ",".join(place.etcd.endpoints), place.prefix, str(backup)]
    environment = {**os.environ, VARIABLE: f"{failpoint}=exit"}
    code = await asyncio.to_thread(lambda: subprocess.run(command, env=environment, timeout=60).returncode)
    assert code == EXIT_CODE
    found = await place.look("etcd")
    assert found[1:] == before[1:]
    assert found[0] == ("a-store+aaaaaaaa" if failpoint == "restore.etcd_after_switch" else "a-store")
    await place.restore("etcd", backup)
    assert (await place.look("etcd"))[1:] == before[1:]
    assert {key.split("/")[0] for key in await place.keys()} == {f"at-{SUFFIX}", "store"}
