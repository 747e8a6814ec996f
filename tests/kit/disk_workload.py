"""A store on SQLite that writes, forgets, checkpoints and is opened again, and says what it acknowledged.

    python -m tests.kit.disk_workload DIR SEED APPENDS [--careless]

Run under strace by tests/unit/store/test_power_cut.py. What it writes follows from the seed (`script`): who knows
the seed knows what must be there. After each append is durable it prints "ack REVISION". `--careless` has SQLite run
with synchronous=NORMAL, for a test that the harness notices what that costs.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from cluster.store import schema
from cluster.store.history import Window
from cluster.store.interface import Request
from cluster.store.journal import SqliteJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Change, Version
from tests.kit.clock import VirtualClock

STORE_ID = "power-cut"
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


def script(seed: int, appends: int) -> Iterator[Append]:
    """The appends of a run."""
    rng, model, revision = random.Random(seed), Model(), 0
    for number in range(appends):
        puts: list[Put] = []
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            revision += 1
            for name in rng.sample([f"p{n}" for n in range(12)], rng.choice([1, 1, 1, 3])):
                if name in model and rng.random() < 0.2:
                    puts.append(Put(name, revision, model.pop(name)[1], True))
                    continue
                size = rng.choice([10, 300, 300, 5000, 20000])
                meta = core.ObjectMeta(name=name, namespace="default", resourceVersion=str(revision))
                meta.annotations["filler"] = f"{revision} {name} ".ljust(size, "x")
                data = core.Pod(metadata=meta).SerializeToString(deterministic=True)
                puts.append(Put(name, revision, data, False))
                model[name] = (revision, data)
        yield Append(puts, f"admin/{number}", dict(model))


def journal(directory: Path) -> SqliteJournal:
    """The one under test; a small ballast, so that it is part of it."""
    return SqliteJournal(directory, lambda: STORE_ID, ballast_bytes=65536)


async def write(directory: Path, seed: int, appends: int) -> None:
    """Writes it all, with a new start now and then."""
    rng = random.Random(seed)
    store = await _open(directory)
    for number, append in enumerate(script(seed, appends)):
        changes = []
        model: dict[str, Version | None] = {}
        for put in append.puts:
            key = Key("Pod", "default", put.name)
            old = model[put.name] if put.name in model else store.get(key)
            new = Version(key, put.revision, put.data, deleted=put.deleted)
            changes.append(Change(old, new, time_s=float(put.revision)))
            model[put.name] = None if put.deleted else new
        revision = append.puts[-1].revision
        await store.commit(changes, [Request(append.request, revision, float(revision), b"answer")])
        os.write(1, f"ack {revision}\n".encode())
        if number % 25 == 24:
            await store.history.compact(store.revision, 0.0, 1e6)
        if rng.random() < 0.02:
            await store.stop()
            store = await _open(directory)
    await store.stop()


async def _open(directory: Path) -> Store:
    own = journal(directory)
    store = Store(own, SETTINGS, VirtualClock())
    await store.start()
    assert own._writer is not None
    own._writer._wal_limit = 40  # checkpoints all the time
    return store


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
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
