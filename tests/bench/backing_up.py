"""Backup and restore of a large store: 150,000 pods, 1,000 nodes and 20,000 events, as in `restarting`.

A backup is measured as a user has it: from the call to the file that is whole, durable and was looked through. While it
is made, the master's memory is looked at: a backup streams. A restore is measured from the file to the store that has
changed places with the one before; the master's start is `restart_150000`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from cluster.cli.backup import new_file
from cluster.client.backup import fetch_backup
from cluster.rpc.identity import Credentials
from cluster.store import backup_file, opening, restoring
from cluster.store.backup_file import Census
from cluster.store.backup_format import Reading, Records
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.restarting import PODS, Restarting, fill
from tests.bench.stage import Stage, stage

_LOOK_EVERY_S = 0.02


class BackingUp:
    """Makes backups of the master's store, and stores of them."""

    def __init__(self, scene: Stage) -> None:
        self.scene = scene
        self._file = scene.directory / "backup"
        self._store = scene.directory / "master"

    async def start(self) -> None:
        await self.scene.start_master()

    async def backup_s(self) -> float:
        """One backup, into a file that is replaced."""
        began_s = time.perf_counter()
        reading, census = Reading(), Census()
        credentials = Credentials.load(self.scene.credentials("admin"))
        with new_file(self._file, force=True) as out:
            async for data in fetch_backup([self.scene.master], credentials):
                for part in reading.feed(data):
                    if isinstance(part, Records):
                        census.add(part)
                out.write(data)
            reading.finish()
        assert census.objects["Pod"] == PODS
        return time.perf_counter() - began_s

    async def backup_rate(self) -> float:
        """MB/s of the same."""
        took_s = await self.backup_s()
        return self._file.stat().st_size / 1e6 / took_s

    async def memory(self) -> float:
        """By how many MB the master grows meanwhile."""
        (master,) = [c for c in psutil.Process().children() if str(self._store) in c.cmdline()]
        before = most = master.memory_info().rss
        backup = asyncio.create_task(self.backup_s())
        while not backup.done():
            most = max(most, master.memory_info().rss)
            await asyncio.sleep(_LOOK_EVERY_S)
        await backup
        return (most - before) / 1e6

    async def restore_s(self) -> float:
        """One restore, over the store that is there."""
        began_s = time.perf_counter()
        restoring.stage(self._store, backup_file.parts_of(self._file), f"{0:08x}")
        lock = opening.take_lock(self._store)
        try:
            restoring.switch(self._store)
        finally:
            os.close(lock)
        return time.perf_counter() - began_s


@asynccontextmanager
async def _backing_up() -> AsyncIterator[BackingUp]:
    async with stage() as scene:
        scene.credentials("master", scene.master.partition(":")[0])
        await fill(scene.directory / "master", PODS)
        backing_up = BackingUp(scene)
        await backing_up.start()
        yield backing_up


def _register(name: str, unit: str, what: str, measure: str) -> None:
    @benchmark(name, unit=unit, what=what, runs=3)
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        async with _backing_up() as backing_up:
            chosen: Measure = getattr(backing_up, measure)
            yield Sides(chosen)


_register("backup_150000", "s", "a backup of a store with 150,000 pods, from the call to the durable file", "backup_s")
_register("backup_rate", "MB/s", "the same, by its size", "backup_rate")
_register("backup_memory", "MB", "by how much the master grows while that backup is made", "memory")


@benchmark("restore_150000", unit="s", what="that backup becomes the store, verified and in its place", runs=3)
@asynccontextmanager
async def restore() -> AsyncIterator[Sides]:
    """The master that was backed up is ended before: nobody has the store open."""
    async with _backing_up() as backing_up:
        await backing_up.backup_s()
        await Restarting(backing_up.scene).stop()
        yield Sides(backing_up.restore_s)
