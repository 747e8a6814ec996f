"""The node agent and its spawner: what a start costs, how soon pods are adopted, how little they cost at rest.

Whole clusters, as users have them: every figure of a start holds the road through master and scheduler too. The peer of
starts is a bare loop of posix_spawn and waitpid in this process, for the same command.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from cluster.actor.clock import SystemClock
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from cluster.up import control
from node_agent.runtime.cgroups import Cgroups, Limits
from node_agent.runtime.interface import Confinement, Program
from node_agent.runtime.process import ProcessRuntime
from tests.bench.harness import Sides, benchmark
from tests.bench.whole import IDLE_S, TIMEOUT_S, Whole, sleeping_controller, sleeping_pod, whole

WAVES, WAVE = 5, 100
"""A node takes 110 pods at most: short ones come in waves."""
STARTS = 1000
COMMAND = ["/bin/sh", "-c", "exit 0"]
AGENTS = ("node-1", "node-2")


def processes(cluster: Whole, *names: str) -> list[psutil.Process]:
    """Daemons of the cluster by name; an agent's spawner is "node-1-spawner"."""
    by_name = {entry["name"]: entry["pid"] for entry in cluster.info["processes"]}
    return [psutil.Process(by_name[name]) for name in names]


def agents_and_spawners(cluster: Whole) -> list[psutil.Process]:
    return processes(cluster, *AGENTS, *(f"{name}-spawner" for name in AGENTS))


def bare_rate(count: int) -> float:
    """Starts per second of the bare loop."""
    start = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(COMMAND[0], COMMAND, os.environ), 0)
    return count / (time.perf_counter() - start)


def short_pod(name: str) -> core.Pod:
    pod = sleeping_pod(name)
    pod.spec.restartPolicy = "Never"
    del pod.spec.containers[0].command[:]
    pod.spec.containers[0].command.extend(COMMAND)
    return pod


@benchmark(
    "spawner_starts",
    unit="starts/s",
    what="1,000 programs that end at once, 100 at a time, through one spawner that confined itself, each with a log,"
    " a record and control groups of its own, from the order to the report of its end",
    aim=">= half of the peer",
    runs=5,
)
@asynccontextmanager
async def spawner_starts() -> AsyncIterator[Sides]:
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as scratch:
        node = Path(scratch) / "cluster" / "node"
        for name in ("pods", "data"):
            (node / name).mkdir(parents=True)
        hidden = node.parent
        runtime = ProcessRuntime(node, clock=SystemClock(), log_max_bytes=1 << 20, log_files=2, hidden=hidden)
        await runtime.start()
        cgroups = Cgroups.find(f"bench-{os.getpid()}")
        room = asyncio.Semaphore(WAVE)

        async def start_one(run_id: str) -> None:
            async with room:
                confinement = Confinement(cgroups=cgroups.make(run_id, Limits()))
                log, env = str(node / "pods" / f"{run_id}.log"), {"PATH": os.environ["PATH"]}
                await runtime.run(Program(run_id, tuple(COMMAND), env, str(node / "pods"), log, confinement))
                await runtime.wait(run_id)
                runtime.forget(run_id)
                cgroups.remove(run_id)
                os.unlink(log)

        async def ours() -> float:
            start = time.perf_counter()
            await asyncio.gather(*(start_one(f"bench-{next(numbers)}") for _ in range(STARTS)))
            return STARTS / (time.perf_counter() - start)

        async def peer() -> float:
            return bare_rate(STARTS)

        yield Sides(ours, peer, "bare posix_spawn")
        await runtime.stop()
        cgroups.close()


@benchmark(
    "short_pods",
    unit="pods/s",
    what="pods that end at once, in waves of 100 on one node: from the write of a wave to all of it Succeeded",
    aim=">= half of the peer",
    runs=3,
)
@asynccontextmanager
async def short_pods() -> AsyncIterator[Sides]:
    numbers = itertools.count()
    async with whole(1) as cluster:

        async def ours() -> float:
            took = 0.0
            for _ in range(WAVES):
                pods = [short_pod(f"short-{next(numbers)}") for _ in range(WAVE)]
                start = time.perf_counter()
                await cluster.client.write([operations.create(pod) for pod in pods])
                end = await cluster.until(
                    lambda: sum(pod.status.phase == "Succeeded" for pod in cluster.pods.indexer.list()) == WAVE,
                    "a wave to end",
                )
                took += end - start
                await cluster.empty()
            return WAVES * WAVE / took

        async def peer() -> float:
            return bare_rate(WAVES * WAVE)

        yield Sides(ours, peer, "bare posix_spawn")


@benchmark(
    "apply_to_running_at_100",
    unit="ms",
    what="the slowest of 50 pods, one at a time, from the write to Running, on a node that runs 100 others",
    aim="p99 <= 100",
    runs=3,
)
@asynccontextmanager
async def apply_to_running_at_100() -> AsyncIterator[Sides]:
    numbers = itertools.count()
    async with whole(1) as cluster:
        await _run(cluster, 100)

        async def ours() -> float:
            slowest = 0.0
            for _ in range(50):
                pod = sleeping_pod(f"one-{next(numbers)}")
                pod.metadata.labels["app"] = "one"
                start = time.perf_counter()
                created = (await cluster.client.write([operations.create(pod)])).outcomes[0].unwrap()
                slowest = max(slowest, await cluster.until(lambda: len(cluster.running("one")) == 1, "it runs") - start)
                await cluster.client.write([operations.delete(key_of(created), grace_period_s=0)])
                await cluster.until(lambda: not cluster.running("one"), "it is gone")
            return slowest * 1000

        yield Sides(ours)


@benchmark(
    "adopt_200_pods",
    unit="s",
    what="two agents with 100 pods each are killed and started: from the order to all pods adopted, none restarted",
    aim="<= 1",
    runs=3,
)
@asynccontextmanager
async def adopt_200_pods() -> AsyncIterator[Sides]:
    async with whole(2) as cluster:
        await _run(cluster, 200)
        before = {pod.metadata.uid: pod.status.containerStatuses[0].containerID for pod in cluster.running("bench")}
        directory = Path(cluster.info["directory"])

        async def ours() -> float:
            status = control.ask(directory / "run" / "control.sock", {"op": "status"})
            for child in status["children"]:
                if child["name"] in AGENTS:
                    os.kill(child["pid"], signal.SIGKILL)
            await asyncio.sleep(0.3)
            logs = {name: (directory / "log" / f"{name}.log").read_text().count("pods adopted") for name in AGENTS}
            start = time.perf_counter()
            control.ask(directory / "run" / "control.sock", {"op": "start"})
            deadline = start + TIMEOUT_S
            while any(
                (directory / "log" / f"{name}.log").read_text().count("pods adopted") == logs[name] for name in AGENTS
            ):
                if time.perf_counter() > deadline:
                    raise TimeoutError("the agents do not adopt their pods")
                await asyncio.sleep(0.005)
            took = time.perf_counter() - start
            await asyncio.sleep(1.0)
            after = {pod.metadata.uid: pod.status.containerStatuses[0].containerID for pod in cluster.running("bench")}
            if after != before:
                raise RuntimeError("a pod was restarted, or lost")
            return took

        yield Sides(ours)


@benchmark(
    "agent_memory",
    unit="kB",
    what="memory (PSS) of two agents and their spawners with 200 pods, less that with none, per pod",
    aim="<= 150",
    runs=1,
)
@asynccontextmanager
async def agent_memory() -> AsyncIterator[Sides]:
    async with whole(2) as cluster:
        empty = sum(process.memory_full_info().pss for process in agents_and_spawners(cluster))

        async def ours() -> float:
            await _run(cluster, 200)
            await asyncio.sleep(2.0)
            full = sum(process.memory_full_info().pss for process in agents_and_spawners(cluster))
            await cluster.empty()
            return (full - empty) / 200 / 1000

        yield Sides(ours)


@benchmark(
    "agent_idle",
    unit="%",
    what="processor time of an agent and its spawner that run 100 pods at rest, each with files from a ConfigMap, in"
    " percent of one core",
    aim="<= 1 with 200 pods",
    runs=1,
)
@asynccontextmanager
async def agent_idle() -> AsyncIterator[Sides]:
    async with whole(1) as cluster:
        settings = core.ConfigMap(metadata=core.ObjectMeta(name="bench", namespace="default"), data={"level": "info"})
        (await cluster.client.write([operations.create(settings)])).outcomes[0].unwrap()
        await _run(cluster, 100, with_files=True)
        await asyncio.sleep(3.0)

        async def ours() -> float:
            watched = processes(cluster, "node-1", "node-1-spawner")
            before = sum(sum(process.cpu_times()[:2]) for process in watched)
            await asyncio.sleep(IDLE_S)
            return (sum(sum(process.cpu_times()[:2]) for process in watched) - before) / IDLE_S * 100

        yield Sides(ours)


@benchmark(
    "stop_200_pods",
    unit="s",
    what="200 pods on two nodes that obey SIGTERM: from their deletion to the last one gone in a watch",
    aim="<= 1",
    runs=3,
)
@asynccontextmanager
async def stop_200_pods() -> AsyncIterator[Sides]:
    async with whole(2) as cluster:

        async def ours() -> float:
            await _run(cluster, 200)
            start = time.perf_counter()
            await cluster.empty()
            return time.perf_counter() - start

        yield Sides(ours)


async def _run(cluster: Whole, count: int, *, with_files: bool = False) -> None:
    controller = sleeping_controller(count)
    if with_files:
        spec = controller.spec.template.spec
        spec.volumes.add(name="conf").volumeSource.configMap.localObjectReference.name = "bench"
        spec.containers[0].volumeMounts.add(name="conf", mountPath="/etc/bench")
    (await cluster.client.write([operations.create(controller)])).outcomes[0].unwrap()
    await cluster.until(lambda: len(cluster.running("bench")) == count, f"{count} pods to run")
