"""Kubernetes' stated limit on one machine: 5,000 nodes and 150,000 pods, all of them Running, all in these two cores.

The nodes are hollow (`podium hollow`): they register, beat, watch and report like real agents, through the same
protocol; controllers and scheduler run, with a process of its own each, so that the scheduler can be ended and started
again. The cluster is filled once, and everything here is measured on it; what filling it took is a figure, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Shared, Sides, benchmark
from tests.bench.scheduling import BoundPods, create, make_pods
from tests.bench.stage import Stage, stage
from tests.bench.workloads import basic

NODES = 5_000
PODS = 150_000
DEADLINE_S = 600.0
LOOK_S = 1.0
SETTLE_S = 5.0
LISTS = 3
"""So many lists make a figure: each reader's first one has memory to ask for."""


@dataclass(frozen=True, slots=True)
class Full:
    """The filled cluster."""

    scene: Stage
    client: GrpcClusterClient
    bound: BoundPods
    running_per_s: float
    """Pods by the time from the first create until all were Running."""


async def start_part(scene: Stage, part: str) -> None:
    """Controllers or scheduler."""
    await scene.start(
        *("-m", "cluster", "manager", "--run", part, "--master", scene.master, "--profile", scene.profile),
        *("--credentials", str(scene.credentials("controllers"))),
        *("--scheduler-credentials", str(scene.credentials("scheduler"))),
        name=part,
    )


def small(name: str, number: int) -> core.Pod:
    """A pod of which 30 fit on a hollow node, and more."""
    pod = basic(name)
    pod.spec.containers[0].resources.requests["cpu"].string = "50m"
    return pod


@asynccontextmanager
async def _full() -> AsyncIterator[Full]:
    async with stage() as scene, AsyncExitStack() as stack:
        await scene.start_master()
        await start_part(scene, "controllers")
        await start_part(scene, "scheduler")
        await scene.start_hollow(NODES)
        client = scene.client()
        stack.push_async_callback(client.close)
        async with asyncio.timeout(DEADLINE_S):
            while not await _all_take_pods(client):
                await asyncio.sleep(LOOK_S)
            bound = BoundPods(client)
            stack.push_async_callback(bound.stop)
            await bound.start()
            begun_s = time.perf_counter()
            await create(client, make_pods("pod", PODS, small))
            await bound.until("pod-", PODS)
            while await _running(client) < PODS:
                await asyncio.sleep(LOOK_S)
            taken_s = time.perf_counter() - begun_s
        await asyncio.sleep(SETTLE_S)
        yield Full(scene, client, bound, PODS / taken_s)


async def _all_take_pods(client: GrpcClusterClient) -> bool:
    nodes = (await client.list(core.Node, timeout_s=30.0)).items
    return len(nodes) == NODES and not any(node.spec.taints for node in nodes)


async def _running(client: GrpcClusterClient) -> int:
    return len((await client.list(core.Pod, field_selector="status.phase=Running", timeout_s=60.0)).items)


FULL = Shared(_full)


def _pss_bytes(pid: int) -> int:
    """Its share of what it uses: pages that several have are counted once in all."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")


async def _memory_gib(full: Full) -> float:
    return sum(_pss_bytes(pid) for _, pid in full.scene.pids) / 2**30


async def _list_s(full: Full) -> float:
    times = []
    for _ in range(LISTS):
        begun_s = time.perf_counter()
        found = await full.client.list(core.Pod, timeout_s=60.0)
        times.append(time.perf_counter() - begun_s)
        assert len(found.items) >= PODS
    return sorted(times)[LISTS // 2]


async def _restart_s(full: Full) -> float:
    """Killed, started, ready, and a pod bound by it."""
    number = len(full.bound.at_s)
    await full.scene.kill("scheduler")
    begun_s = time.perf_counter()
    await start_part(full.scene, "scheduler")
    await create(full.client, make_pods(f"after-{number}", 1, small))
    await full.bound.until(f"after-{number}-", 1)
    return time.perf_counter() - begun_s


async def _running_per_s(full: Full) -> float:
    return full.running_per_s


def _register(
    name: str, unit: str, what: str, aim: str, measure: Callable[[Full], Awaitable[float]], runs: int
) -> None:
    @benchmark(f"hollow_{name}", unit=unit, what=what, aim=aim, runs=runs, warm_up=False, shares=FULL)
    @asynccontextmanager
    async def row() -> AsyncIterator[Sides]:
        yield Sides(partial(measure, await FULL.get()))


_SIZE = f"{NODES:,} hollow nodes and {PODS:,} pods"
_register("filling", "pods/s", f"{_SIZE}: from the first create until all are Running", "", _running_per_s, 1)
_register("memory", "GiB", f"{_SIZE}: all processes together (PSS)", "<= 6", _memory_gib, 1)
_register("list", "s", f"{_SIZE}: a client lists all pods", "<= 1", _list_s, 3)
_register("restart", "s", f"{_SIZE}: the killed scheduler started, and a pod bound by it", "<= 5", _restart_s, 3)
