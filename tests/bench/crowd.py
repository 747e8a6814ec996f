"""What 5,000 agents cost that each watch the pods of their own node: in quiet, in memory, and when something happens.

There are as many pods as nodes, one on each, and a watch for each node, a few hundred to a connection; etcd has a watch
of each node's range of keys. A change concerns one of the watches. Connecting is not in the time, nor are those of the
other side connected while one is measured.

    idle        the processor time that the server takes while nothing is written: our bookmarks; etcd sends none
    events/s    changes by 100 callers until the last was heard
    memory      what the server has grown by with all of them connected, divided by them
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import psutil

from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench import etcd_peer
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.placing import write
from tests.bench.stage import stage
from tests.bench.watching import Audience, Ours, Peer, Side, listening, write_all
from tests.bench.writing import pod_of_size

NODES = 5_000
CHANGES = 5_000
SETTLE_S = 3.0
IDLE_S = 20.0
"""Two rounds of bookmarks."""

Of = Callable[[Side, int, list[core.Pod]], Awaitable[float]]
"""Measures a side, whose server has this process id."""


async def fill(client: GrpcClusterClient) -> list[core.Pod]:
    """Creates a pod on each node, and returns them as they are stored."""
    pods = [pod_of_size(f"pod-{i}") for i in range(NODES)]
    for i, pod in enumerate(pods):
        pod.spec.nodeName = f"node-{i}"
    await write(client, [operations.create(pod) for pod in pods])
    return (await client.list(core.Pod)).items


async def idle_percent(side: Side, pid: int, pods: list[core.Pod]) -> float:
    """Of one core."""
    async with listening(side, NODES, Audience().hear, nodes=True):
        await asyncio.sleep(SETTLE_S)
        before_s, begun = _cpu_s(pid), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        return 100 * (_cpu_s(pid) - before_s) / (time.perf_counter() - begun)


async def events_per_s(side: Side, pid: int, pods: list[core.Pod]) -> float:
    """See the head of this file."""
    audience = Audience()
    async with listening(side, NODES, audience.hear, nodes=True):
        begun = time.perf_counter()
        await asyncio.gather(write_all(side, pods, CHANGES), audience.all_heard(CHANGES))
        return CHANGES / (time.perf_counter() - begun)


async def kib_per_watch(side: Side, pid: int, pods: list[core.Pod]) -> float:
    """See the head of this file. Only the first time counts: what was freed is not given back."""
    before = psutil.Process(pid).memory_info().rss
    async with listening(side, NODES, Audience().hear, nodes=True):
        await asyncio.sleep(SETTLE_S)
        return (psutil.Process(pid).memory_info().rss - before) / NODES / 1024


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@asynccontextmanager
async def crowd(measure: Of, afresh: bool) -> AsyncIterator[Sides]:
    """A master and an etcd; `afresh`: others for each measurement."""

    async def measured(ours: bool) -> float:
        async with _servers() as (sides, pods):
            side, pid = sides[0] if ours else sides[1]
            return await measure(side, pid, pods)

    async with AsyncExitStack() as stack:
        peer: Measure | None = None
        if afresh:
            mine: Measure = partial(measured, True)
            peer = partial(measured, False) if etcd_peer.installed() else None
        else:
            sides, pods = await stack.enter_async_context(_servers())
            mine = partial(measure, *sides[0], pods)
            peer = partial(measure, *sides[1], pods) if len(sides) > 1 else None
        yield Sides(ours=mine, peer=peer, peer_name=etcd_peer.NAME)


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[list[tuple[Side, int]], list[core.Pod]]]:
    """Ours and, where it is installed, etcd, each with its process id; and the pods."""
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(stage())
        await scene.start_master()
        ours = Ours(scene)
        stack.push_async_callback(ours.close)
        pods = await fill(ours.client)
        sides: list[tuple[Side, int]] = [(ours, scene.pid("master"))]
        etcd = await stack.enter_async_context(etcd_peer.etcd(scene))
        if etcd is not None:
            peer = Peer(etcd, scene)
            stack.push_async_callback(peer.close)
            for pod in pods:
                await peer.write(pod)
            sides.append((peer, etcd.pid))
        yield sides, pods


def _register(name: str, unit: str, what: str, aim: str, measure: Of, *, runs: int = 3, afresh: bool = False) -> None:
    @benchmark(name, unit=unit, what=what, aim=aim, runs=runs)
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        async with crowd(measure, afresh) as sides:
            yield sides


_register(
    "agents_5000",
    "events/s",
    f"{CHANGES:,} changes by 100 callers, each heard by one of {NODES:,} watches, each of a node",
    "> etcd",
    events_per_s,
)
_register("agents_5000_idle", "% of a core", f"the server with {NODES:,} quiet watches", "<= 5", idle_percent)
_register("agents_5000_memory", "KiB/watch", "the server's memory for each of them", "", kib_per_watch, afresh=True)
