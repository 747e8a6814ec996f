"""A store that writes, forgets, reads and is opened again, and says what it acknowledged: in a process of its own.

    python -m tests.kit.store_workload WHERE SEED APPENDS [--careless] [--full]

WHERE is a directory, or "etcd:HOST:PORT:PREFIX". Run under strace by tests/unit/store/test_power_cut.py, and with crash
points by tests/e2e/test_crash_points.py. What it writes follows from the seed (`script`): who knows the seed knows
what must be there. It goes on from what is there already; after each append is durable it prints "ack REVISION".

`--careless` has SQLite run with synchronous=NORMAL, for a test that the harness notices what that costs. `--full` has
the disk full for a while.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cluster.actor.clock import SystemClock
from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.etcd import EtcdClient
from cluster.store import failpoints, schema
from cluster.store.etcd import sweeper
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.history import Window
from cluster.store.interface import DiskFull, Journal, Request, Unreachable
from cluster.store.journal import SqliteJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Change, Version
from cluster.store.writing import Writer
from tests.kit.clock import VirtualClock

STORE_ID = "power-cut"
OPENINGS = 5
SETTINGS = StoreSettings(ring_changes=20, window=Window(revisions=60, age_s=1e12, slack=20))
Model = dict[str, tuple[int, bytes]]
"""Name -> revision and content."""


class Put(NamedTuple):
    """One change."""

    name: str
    revision: int
    data: bytes
    """Of a deletion: the last content."""
    deleted: bool


class Append(NamedTuple):
    """What is written at once: complete revisions."""

    puts: list[Put]
    request: str
    after: Model
    """What exists then."""


def script(seed: int, appends: int, large: bool = False) -> Iterator[Append]:
    """The appends of a run; `large`: one of them is more than etcd takes at once."""
    rng, model, revision = random.Random(seed), Model(), 0
    for number in range(appends):
        puts: list[Put] = []
        huge = large and number == 30
        for _ in range(4 if huge else rng.choice([1, 1, 1, 2, 5])):
            revision += 1
            for name in rng.sample([f"p{n}" for n in range(12)], rng.choice([1, 1, 1, 3])):
                if name in model and rng.random() < 0.2:
                    puts.append(Put(name, revision, model.pop(name)[1], True))
                    continue
                size = rng.choice([400_000] if huge else [10, 300, 300, 5000, 20000])
                meta = core.ObjectMeta(name=name, namespace="default", resourceVersion=str(revision))
                meta.annotations["filler"] = f"{revision} {name} ".ljust(size, "x")
                data = core.Pod(metadata=meta).SerializeToString(deterministic=True)
                puts.append(Put(name, revision, data, False))
                model[name] = (revision, data)
        yield Append(puts, f"admin/{number}", dict(model))


def journal(where: str) -> Journal:
    """The one under test; SQLite's with a small ballast, so that it is part of it."""
    if where.startswith("etcd:"):
        _, host, port, prefix = where.split(":")
        limits = EtcdSettings(lease_ttl_s=2, request_appends=30, etcd_age_s=0.0, etcd_revisions=10)
        client = EtcdClient([f"{host}:{port}"], failpoint=failpoints.hit)
        return EtcdJournal(client, prefix, limits, SystemClock(), random.Random(), lambda: STORE_ID)
    return SqliteJournal(Path(where), lambda: STORE_ID, ballast_bytes=65536)


async def opened(where: str) -> Store:
    """A store that has read what is there. It begins again, as a master does, where others have compacted its etcd."""
    for more_tries in range(OPENINGS - 1, -1, -1):
        store = Store(journal(where), SETTINGS, VirtualClock())
        try:
            await store.start()
            break
        except Unreachable:
            await store.stop()
            if not more_tries:
                raise
    return store


class Workload:
    """Writes it all, with a new start now and then."""

    def __init__(self, where: str, seed: int, full: bool) -> None:
        self._where = where
        self._rng = random.Random(seed)
        self._full = full

    async def run(self, appends: Iterable[Append]) -> None:
        await self._open()
        for number, append in enumerate(appends):
            if append.puts[-1].revision <= self.store.revision:
                continue  # an earlier life has done it
            if self._full and number % 20 == 10 and (writer := self._writer) is not None:
                (pages,) = writer.db.execute("PRAGMA page_count").fetchone()
                writer.db.execute(f"PRAGMA max_page_count={pages}").fetchall()
            try:
                await self._write(append)
            except DiskFull:
                assert self._writer is not None
                self._writer.db.execute("PRAGMA max_page_count=1000000").fetchall()
                await asyncio.sleep(0.3)  # it looks for room now and then
                await self._write(append)
            if number % 25 == 24:
                await self.store.history.compact(self.store.revision, 0.0, 1e6)
            if number in (39, 79, 99):
                await asyncio.sleep(1.1)  # for what is done once in a second
            if number == 60:
                await asyncio.sleep(0.5)  # for etcd's past: what was seen at 39 is far behind now
            if self._rng.random() < 0.03 and not 39 <= number <= 60:
                await self._close()
                await self._open()
        await self._close()

    async def _write(self, append: Append) -> None:
        changes = []
        model: dict[str, Version | None] = {}
        for put in append.puts:
            key = Key("Pod", "default", put.name)
            old = model[put.name] if put.name in model else self.store.get(key)
            new = Version(key, put.revision, put.data, deleted=put.deleted)
            changes.append(Change(old, new, time_s=float(put.revision)))
            model[put.name] = None if put.deleted else new
        revision = append.puts[-1].revision
        request = Request(append.request, revision, SystemClock().wall(), b"answer")
        await self.store.commit(changes, [request])
        await self.store.head()
        os.write(1, f"ack {revision}\n".encode())

    @property
    def _writer(self) -> Writer | None:
        own = self.store.journal
        return own._writer if isinstance(own, SqliteJournal) else None

    async def _open(self) -> None:
        self.store = await opened(self._where)
        own = self.store.journal
        self._term = await own.campaign("127.0.0.1:1")
        await self.store.barrier()
        if self._writer is not None:
            self._writer._wal_limit = 40  # checkpoints all the time

    async def _close(self) -> None:
        await self._term.resign()
        await self.store.stop()


def careless() -> None:
    """From now on commits are not synced."""
    configure = schema.configure

    def without_sync(db: sqlite3.Connection) -> None:
        configure(db)
        db.execute("PRAGMA synchronous=NORMAL").fetchall()

    schema.configure = without_sync


if __name__ == "__main__":
    if "--careless" in sys.argv:
        careless()
    sweeper.HOUSEKEEPING_S = 0.1  # a minute is longer than this run
    where, seed, appends = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    asyncio.run(Workload(where, seed, "--full" in sys.argv).run(script(seed, appends, where.startswith("etcd:"))))
