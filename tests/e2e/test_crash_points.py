"""Every crash point there is: a process dies there, others go on from what it left, and nothing is missing.

For each name in `failpoints.KNOWN` a workload (tests/kit/store_workload.py), or a master under clients, is run so that
it dies there. Then a store is opened on what is left: all that was acknowledged is there, and nothing that was not
written. Then another life completes the work. A point that is never reached fails the test: it would test nothing.

In `make test` each point kills once, usually the third time that it is reached; `make chaos` does it several times.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.store.failpoints import EXIT_CODE, KNOWN, VARIABLE
from cluster.store.interface import Unreachable
from cluster.store.schema import first_id
from cluster.store.store import Store
from tests.kit import store_workload
from tests.kit.clock import VirtualClock
from tests.kit.etcd import EtcdCluster, shared_etcd
from tests.kit.master_process import Ended, MasterProcess, Pki
from tests.unit.store.test_sqlite_parts import SCHEMA_1

__all__ = ["shared_etcd"]

SEED = 5
APPENDS = 100
AT_ONCE = 4
FIRST = next(seed for seed in range(100) if random.Random(seed).randrange(2) == 0)
"""Dice that choose the first of two addresses."""
LIFE_S = 120.0
OF_A_SCHEMA_1 = 20
"""Appends that are there already when the schema is to be changed."""
LONG = bool(os.environ.get("PODIUM_CHAOS_S"))
FULL = ("store.before_ballast", "store.after_ballast")
MIGRATING = ("store.before_migrate", "store.after_migrate")
SELDOM = {
    *FULL,
    *MIGRATING,
    *(f"store.{when}_create" for when in ("before", "after")),
    *(
        f"etcd.{when}_{what}"
        for when in ("before", "after")
        for what in ("create", "grant", "claim", "clean", "resign")
    ),
    "etcd.between_parts",
    "etcd.before_compact",
    "etcd.after_compact",
}
"""Reached once or twice in a life."""
ALONE = ("etcd.before_compact", "etcd.after_compact")
"""What etcd has forgotten for one workload, no other can have it forget."""


@dataclass
class Fate:
    """What became of the work at one crash point."""

    point: str
    place: Callable[[str], str]
    """A new place for a store, by a name for it."""
    where: str = ""
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)
    looks: int = 10

    async def run(self) -> None:
        """Dies there the third time, or the first time if it does not get there so often."""
        deaths = 0
        for nth in (1, 2, 3, 7) if LONG else (1,) if self.point in SELDOM else (3, 1):
            if not deaths or LONG:
                deaths += await self._die(nth)
        if not deaths:
            self.wrong.append("was never reached")

    async def _die(self, nth: int) -> bool:
        self.where, self.acknowledged = self.place(f"{self.point}-{nth}"), 0
        died, code = False, EXIT_CODE
        for points in (f"{self.point}=exit:nth{nth}", ""):
            code, said = await self._live(points)
            died = died or code == EXIT_CODE
            self.acknowledged = max([self.acknowledged, *said])
            # The runs of others may compact the etcd that they share meanwhile: then it is looked anew, as masters do.
            while not await self._look():
                self.looks -= 1
                if self.looks < 0:
                    self.wrong.append("what is there cannot be opened: it is compacted again and again")
                    break
        if code:
            self.wrong.append(f"the last life ended with {code}")
        return died

    async def _live(self, points: str) -> tuple[int, list[int]]:
        command = ["-m", "tests.kit.store_workload", self.where, str(SEED), str(APPENDS)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *(["--full"] if self.point in FULL else []),
            env={**os.environ, VARIABLE: points},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, error = await asyncio.wait_for(process.communicate(), LIFE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            self.wrong.append(f"{points or 'the last life'} did not end in {LIFE_S:g} s")
            return -1, []
        if process.returncode not in (0, EXIT_CODE):
            self.wrong.append(error.decode()[-1500:])
        return process.returncode or 0, [int(line.split()[1]) for line in out.decode().splitlines()]

    async def _look(self) -> bool:
        """Opens a store on what is there. False: somebody has compacted it meanwhile."""
        large = self.where.startswith("etcd:")
        appends = list(store_workload.script(SEED, APPENDS, large))
        whole = {0: store_workload.Model(), **{append.puts[-1].revision: append.after for append in appends}}
        journal = store_workload.journal(self.where)
        store = Store(journal, store_workload.SETTINGS, VirtualClock())
        try:
            await store.start()
            await store.barrier()
            if store.revision < self.acknowledged:
                self.wrong.append(f"{self.acknowledged} was acknowledged, and {store.revision} is there")
            there = {v.key.name: (v.revision, v.data) for v in store.state.list("Pod")}
            if there != whole.get(store.revision):
                self.wrong.append(f"at {store.revision} there is not what was written")
            kept = {request.request_id for request in await journal.load_requests()}
            done = [append.request for append in appends if append.puts[-1].revision <= store.revision]
            begun = OF_A_SCHEMA_1 if self.point in MIGRATING else 0
            if not kept <= set(done) or not kept >= set(done[begun:][-20:]):
                self.wrong.append(f"at {store.revision} there are the requests {sorted(kept)}")
        except Unreachable:
            return False
        except Exception as error:
            self.wrong.append(f"what is there cannot be opened: {error!r}")
        finally:
            await store.stop()
        return True


async def fates(points: Iterable[str], place: Callable[[str], str], at_once: int = AT_ONCE) -> None:
    """Some at once: most of the time they wait, for a disk or for the end of a lease."""
    places = asyncio.Semaphore(at_once)
    all_ = [Fate(point, place) for point in points]

    async def run(fate: Fate) -> None:
        async with places:
            await fate.run()

    await asyncio.gather(*map(run, all_))
    wrong = {fate.point: fate.wrong for fate in all_ if fate.wrong}
    assert not wrong, wrong


def _of_the_journal(engine: str) -> list[str]:
    return [point for point in KNOWN if point.startswith(f"{engine}.")]


async def test_nothing_is_lost_at_any_crash_point_of_a_store_on_sqlite(tmp_path: Path) -> None:
    def place(name: str) -> str:
        directory = tmp_path / name
        if name.startswith(MIGRATING):
            make_schema_1(directory)
        return str(directory)

    await fates(_of_the_journal("store"), place)


@pytest.mark.usefixtures("no_leaks")
async def test_nothing_is_lost_at_any_crash_point_of_a_store_in_etcd(shared_etcd: EtcdCluster) -> None:
    run = f"{random.SystemRandom().getrandbits(64):x}"
    (endpoint,) = shared_etcd.endpoints

    def place(name: str) -> str:
        return f"etcd:{endpoint}:/podium/{run}-{name}/"

    await fates([point for point in _of_the_journal("etcd") if point not in ALONE], place)
    await fates(ALONE, place, at_once=1)


def make_schema_1(directory: Path) -> None:
    """The beginning of the script, as the first schema had it."""
    directory.mkdir(mode=0o700)
    db = sqlite3.connect(directory / "store.db")
    db.executescript(SCHEMA_1)
    db.executemany("INSERT INTO meta VALUES (?, ?)", [("store_id", store_workload.STORE_ID), ("compacted", "0")])
    before: dict[str, int] = {}
    position, last = 0, 0
    for append in list(store_workload.script(SEED, APPENDS))[:OF_A_SCHEMA_1]:
        for put in append.puts:
            position = position + 1 if put.revision == last else 0
            last = put.revision
            row = (put.name, before.get(put.name, 0), int(put.deleted), float(put.revision), put.data)
            text = "INSERT INTO log VALUES (?, 'Pod', 'default', ?, ?, ?, '', ?, ?)"
            db.execute(text, (first_id(put.revision) + position, *row))
            before[put.name] = 0 if put.deleted else put.revision
    db.commit()
    db.close()


POINTS_OF_MASTERS = [name for name in KNOWN if name.startswith("master.")]
AT_START = ("master.before_campaign", "master.after_campaign", "master.after_catch_up")
"""A master that is to lead gets there before it serves."""
FORWARDING = ("master.before_forward", "master.after_forward")
WRITES = 30


@pytest.mark.parametrize("point", POINTS_OF_MASTERS)
async def test_nothing_is_lost_or_done_twice_at_any_crash_point_of_a_master(
    point: str, shared_etcd: EtcdCluster, tmp_path: Path
) -> None:
    """One of two masters dies there, under a client that knows both and a reader of the other one."""
    arguments = ["--store", f"{shared_etcd.url}/{tmp_path.name}"]
    pki = Pki(tmp_path)
    first, second = MasterProcess(pki, "m1", arguments), MasterProcess(pki, "m2", arguments)
    doomed = second if point in FORWARDING else first
    failpoints = {point: f"{point}=exit:nth{1 if point in AT_START else 5}"}
    try:
        if point in AT_START:
            # Nobody leads yet, so this one is the first to try; it may be ready before it has.
            with suppress(Ended):
                await first.start(failpoints[point])
            assert await first.wait() == EXIT_CODE
            await second.start()
            await first.start()
        else:
            await first.start(failpoints[point] if doomed is first else "")
            await second.start(failpoints[point] if doomed is second else "")
        # The client begins at the doomed one; what is written at the second is handed on to the first, who leads.
        order = f"{second.address},{first.address}" if doomed is second else f"{first.address},{second.address}"
        made: list[str] = []
        async with aclosing(GrpcClusterClient(order, pki.admin, rng=random.Random(FIRST))) as client:
            for number in range(WRITES):
                name = f"s-{number}"
                (outcome,) = (await client.write([operations.create(service(name))], timeout_s=30.0)).outcomes
                outcome.unwrap()  # a second time, it would be AlreadyExists
                made.append(name)
            if point not in AT_START:
                assert await doomed.wait() == EXIT_CODE, "it died there"
            found = [each.metadata.name for each in (await client.list(core.Service, "default", timeout_s=30.0)).items]
        assert sorted(found) == sorted(made)
    finally:
        await first.close()
        await second.close()


def service(name: str) -> core.Service:
    spec = core.ServiceSpec(ports=[core.ServicePort(port=80)], selector={"app": "web"})
    return core.Service(metadata=core.ObjectMeta(name=name, namespace="default"), spec=spec)


def test_no_crash_point_is_forgotten() -> None:
    """Those of backups and restores are killed at in files of their own."""
    tests = Path(__file__).parents[1]
    backups = (tests / "e2e" / "test_backup.py").read_text()
    restores = (tests / "unit" / "store" / "test_restoring.py").read_text()
    in_etcd = (tests / "contract" / "test_backup.py").read_text()
    for name in KNOWN:
        group = name.partition(".")[0]
        if group == "backup":
            assert 'for name in KNOWN if name.startswith("backup.")' in backups
        elif name.startswith("restore.etcd_"):
            assert f'"{name}"' in in_etcd, name
        elif group == "restore":
            assert 'for name in failpoints.KNOWN if name.startswith("restore.")' in restores
        else:
            assert group in ("store", "etcd", "master"), f"nobody dies at {name}"
