"""A master that starts again over a large store: every record is verified before anything is served.

The store is made by the journal itself, as it lies on the disk after the master's own compaction: 150,000 pods of about
1.5 kB, 1,000 nodes and 20,000 events, the last 50,000 revisions one by one.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from cluster.pb.v1 import core_pb2 as core
from cluster.store.history import Window
from cluster.store.journal import SqliteJournal
from cluster.store.version import Record
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.placing import make_node, make_pod
from tests.bench.stage import Stage, stage

PODS = 150_000
NODES = 1_000
EVENTS = 20_000
POD_BYTES = 1500
_BATCH = 1000


def records(pods: int) -> Iterator[Record]:
    """Nodes, events and pods, one revision each."""
    revision = 0

    def made(kind: str, namespace: str, name: str, node: str, obj: core.Node | core.Pod | core.Event) -> Record:
        nonlocal revision
        revision += 1
        obj.metadata.resourceVersion = str(revision)
        data = obj.SerializeToString(deterministic=True)
        return Record(revision, 0, kind, namespace, name, 0, False, node, 1.7e9 + revision / 100, data)

    for number in range(NODES):
        yield made("Node", "", f"node-{number}", "", make_node(f"node-{number}"))
    for number in range(EVENTS):
        event = core.Event(reason="Scheduled", message=f"Successfully assigned default/pod-{number} to node-{number}")
        event.metadata.name, event.metadata.namespace = f"pod-{number}.{number:x}", "default"
        yield made("Event", "default", event.metadata.name, "", event)
    for number in range(pods):
        pod = make_pod(f"pod-{number}", owner_uid=f"{number:036}")
        pod.metadata.uid = f"{number:036}"
        pod.spec.nodeName = f"node-{number % NODES}"
        pod.status.phase = "Running"
        pod.status.podIP = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        for type_ in ("Initialized", "Ready", "ContainersReady", "PodScheduled"):
            pod.status.conditions.add(type=type_, status="True", lastTransitionTime={"seconds": 1_700_000_000 + number})
        pod.metadata.annotations["note"] = "x" * max(0, POD_BYTES - pod.ByteSize() - 20)
        yield made("Pod", "default", pod.metadata.name, pod.spec.nodeName, pod)


async def fill(directory: Path, pods: int) -> None:
    """Makes the store."""
    journal = SqliteJournal(directory, lambda: "bench")
    await journal.open()
    try:
        async for _ in journal.load():
            pass
        batch: list[Record] = []
        for record in records(pods):
            batch.append(record)
            if len(batch) == _BATCH:
                await journal.append(batch)
                batch = []
        await journal.append(batch)
        kept_from = await journal.head() - Window().revisions
        while kept_from > 0 and not await journal.compact(kept_from, 500):
            pass
    finally:
        await journal.close()


class Restarting:
    """Starts a master over the store, again and again."""

    def __init__(self, scene: Stage) -> None:
        self._scene = scene

    async def seconds(self) -> float:
        """From the start of the process to its READY line."""
        began_s = time.perf_counter()
        await self._scene.start_master()
        took_s = time.perf_counter() - began_s
        await self.stop()
        return took_s

    async def bytes_per_pod(self) -> float:
        """What a master with these pods has in memory, divided by them."""
        await self._scene.start_master()
        (child,) = [c for c in psutil.Process().children() if str(self._scene.directory / "master") in c.cmdline()]
        size = child.memory_info().rss
        await self.stop()
        return size / PODS

    async def stop(self) -> None:
        """As if killed: what is measured is a start, not a stop."""
        for child in psutil.Process().children():
            if str(self._scene.directory / "master") in child.cmdline():
                child.send_signal(signal.SIGKILL)
        await self._scene.stop()
        await asyncio.sleep(0)


def _register(name: str, unit: str, what: str, aim: str, measure: str) -> None:
    @benchmark(name, unit=unit, what=what, aim=aim, runs=3)
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        async with stage() as scene:
            scene.credentials("master", scene.master.partition(":")[0])  # its directory is the store's, too
            await fill(scene.directory / "master", PODS)
            chosen: Measure = getattr(Restarting(scene), measure)
            yield Sides(chosen)


_register("restart_150000", "s", "a master with 150,000 pods, from its start to READY", "<= 5 s", "seconds")
_register("restart_memory", "B/pod", "the memory of that master, divided by its pods", "", "bytes_per_pod")
