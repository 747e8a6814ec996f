"""A whole cluster of real processes, as a user has it: how fast it starts, runs pods, heals, and what it costs idle.

The clock starts when the request is sent and stops when the watch shows the result to this process, which is a client
like any other; so every figure holds the whole road through master, scheduler, agent, spawner and back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials
from tests.bench.harness import Sides, benchmark

TIMEOUT_S = 60.0
IDLE_S = 20.0


@dataclass(slots=True)
class Whole:
    """A running cluster and a client of it that watches its pods."""

    info: dict[str, Any]
    client: GrpcClusterClient
    pods: Informer[core.Pod]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, check: Callable[[], bool], what: str) -> float:
        """The time at which the check came true. Raises TimeoutError."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not check():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {TIMEOUT_S:g} s for {what}") from None
        return time.perf_counter()

    def running(self, app: str) -> list[core.Pod]:
        """Pods of an application that run and are not being deleted."""
        return [
            pod
            for pod in self.pods.indexer.list()
            if pod.metadata.labels.get("app") == app
            and pod.status.phase == "Running"
            and not pod.metadata.HasField("deletionTimestamp")
        ]

    async def empty(self) -> None:
        """Removes every controller and pod, and waits until they are gone."""
        controllers = (await self.client.list(core.ReplicationController)).items
        pods = (await self.client.list(core.Pod)).items
        keys = [key_of(rc) for rc in controllers] + [key_of(pod) for pod in pods]
        await self.client.write([operations.delete(key) for key in keys])
        await self.until(lambda: not self.pods.indexer.list(), "the cluster to be empty")


async def podium(*arguments: str, home: Path) -> str:
    """Standard output of the `podium` command. Raises RuntimeError if it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cluster.cli.main", *arguments),
        env=os.environ | {"PODIUM_HOME": str(home)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"podium {' '.join(arguments)} ended with {process.returncode}: {errors.decode()}")
    return out.decode()


@asynccontextmanager
async def whole(nodes: int = 3, *options: str) -> AsyncIterator[Whole]:
    """A cluster in the laptop profile, stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as directory:
        home = Path(directory) / "home"
        await podium("up", "--cluster", "bench", "--nodes", str(nodes), "-d", *options, home=home)
        try:
            info = json.loads(await podium("cluster-info", "-o", "json", home=home))
            client = GrpcClusterClient(info["master"], Credentials.load(Path(info["credentials"])))
            pods: Informer[core.Pod] = Informer(client, core.Pod)
            cluster = Whole(info, client, pods)
            pods.add_handler(lambda old, new: cluster.changed.set())
            await pods.start()
            await pods.wait_synced(TIMEOUT_S)
            try:
                yield cluster
            finally:
                await pods.stop()
                await client.close()
        finally:
            await podium("down", "--cluster", "bench", "--now", home=home)


def sleeping_pod(name: str) -> core.Pod:
    """A pod that sleeps and ends at once when told to."""
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, "default"
    pod.metadata.labels["app"] = "bench"
    pod.spec.terminationGracePeriodSeconds = 1
    pod.spec.containers.add(name="main", command=["sleep", "1000"])
    return pod


def sleeping_controller(replicas: int) -> core.ReplicationController:
    """A controller of such pods."""
    rc = core.ReplicationController()
    rc.metadata.name, rc.metadata.namespace = "bench", "default"
    rc.spec.replicas = replicas
    rc.spec.selector["app"] = "bench"
    template = sleeping_pod("")
    rc.spec.template.metadata.labels["app"] = "bench"
    rc.spec.template.spec.CopyFrom(template.spec)
    return rc


@benchmark(
    "start_3_nodes",
    unit="s",
    what="`podium up --nodes 3 -d` from a warm install to every node Ready, the command's own start included",
    aim="<= 1.5",
)
@asynccontextmanager
async def start_3_nodes() -> AsyncIterator[Sides]:
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as directory:
        home = Path(directory) / "home"

        async def ours() -> float:
            start = time.perf_counter()
            await podium("up", "--cluster", "bench", "--nodes", "3", "-d", home=home)
            took = time.perf_counter() - start
            await podium("down", "--cluster", "bench", home=home)
            return took

        yield Sides(ours)


@benchmark(
    "stop_3_nodes",
    unit="s",
    what="`podium down` of 3 nodes with 10 pods, until 0 processes are left",
    aim="<= 1",
    runs=3,
)
@asynccontextmanager
async def stop_3_nodes() -> AsyncIterator[Sides]:
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as directory:
        home = Path(directory) / "home"
        manifest = Path(directory) / "rc.yaml"
        manifest.write_text(
            "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: bench}\nspec:\n  replicas: 10\n"
            "  selector: {app: bench}\n  template:\n    metadata: {labels: {app: bench}}\n"
            "    spec: {containers: [{name: main, command: [sleep, '1000']}]}\n"
        )

        async def ours() -> float:
            await podium("up", "--cluster", "bench", "--nodes", "3", "-d", "--apply", str(manifest), home=home)
            start = time.perf_counter()
            await podium("down", "--cluster", "bench", home=home)
            return time.perf_counter() - start

        yield Sides(ours)


@benchmark(
    "apply_to_running",
    unit="ms",
    what="one pod on 3 nodes, from the write to phase Running in a watch",
    aim="<= 100",
    runs=20,
)
@asynccontextmanager
async def apply_to_running() -> AsyncIterator[Sides]:
    async with whole() as cluster:
        numbers = itertools.count()

        async def ours() -> float:
            pod = sleeping_pod(f"one-{next(numbers)}")
            start = time.perf_counter()
            (await cluster.client.write([operations.create(pod)])).outcomes[0].unwrap()
            end = await cluster.until(lambda: len(cluster.running("bench")) == 1, "the pod to run")
            await cluster.empty()
            return (end - start) * 1000

        yield Sides(ours)


@benchmark(
    "run_100_pods", unit="s", what="a controller of 100 pods on 3 nodes, from its write to all Running", aim="<= 3"
)
@asynccontextmanager
async def run_100_pods() -> AsyncIterator[Sides]:
    async with whole() as cluster:

        async def ours() -> float:
            start = time.perf_counter()
            (await cluster.client.write([operations.create(sleeping_controller(100))])).outcomes[0].unwrap()
            end = await cluster.until(lambda: len(cluster.running("bench")) == 100, "100 pods to run")
            await cluster.empty()
            return end - start

        yield Sides(ours)


@benchmark(
    "replace_deleted_pod",
    unit="ms",
    what="a pod of 3 is deleted: from the write to its replacement Running",
    aim="<= 300",
    runs=10,
)
@asynccontextmanager
async def replace_deleted_pod() -> AsyncIterator[Sides]:
    async with whole() as cluster:
        await cluster.client.write([operations.create(sleeping_controller(3))])
        await cluster.until(lambda: len(cluster.running("bench")) == 3, "3 pods to run")

        async def ours() -> float:
            before = {pod.metadata.uid for pod in cluster.running("bench")}
            victim = cluster.running("bench")[0]
            start = time.perf_counter()
            await cluster.client.write([operations.delete(key_of(victim), uid=victim.metadata.uid)])
            return (await _replaced(cluster, before, victim.metadata.uid) - start) * 1000

        yield Sides(ours)


@benchmark(
    "replace_killed_container",
    unit="ms",
    what="the process of a pod gets SIGKILL: from the signal to Running again (first restart, in place)",
    aim="<= 300",
    runs=10,
)
@asynccontextmanager
async def replace_killed_container() -> AsyncIterator[Sides]:
    async with whole() as cluster:
        numbers = itertools.count()

        async def ours() -> float:
            name = f"one-{next(numbers)}"  # a fresh one each time: its first restart has no back-off
            await cluster.client.write([operations.create(sleeping_pod(name))])
            await cluster.until(lambda: len(cluster.running("bench")) == 1, "the pod to run")
            status = cluster.running("bench")[0].status.containerStatuses[0]
            start = time.perf_counter()
            os.kill(int(status.containerID.removeprefix("process://").partition("/")[0]), signal.SIGKILL)
            end = await cluster.until(lambda: _restarts(cluster, name) == 1, "the container to run again")
            await cluster.empty()
            return (end - start) * 1000

        yield Sides(ours)


@benchmark(
    "replace_killed_node",
    unit="s",
    what="an agent of 3 gets SIGKILL: from the signal to its pods Running elsewhere (laptop profile)",
    aim="<= 5",
    runs=3,
)
@asynccontextmanager
async def replace_killed_node() -> AsyncIterator[Sides]:
    yield Sides(_kill_a_node)


async def _kill_a_node() -> float:
    async with whole() as cluster:
        await cluster.client.write([operations.create(sleeping_controller(6))])
        await cluster.until(lambda: len(cluster.running("bench")) == 6, "6 pods to run")
        agent = next(process for process in cluster.info["processes"] if process["name"] == "node-2")
        start = time.perf_counter()
        os.kill(agent["pid"], signal.SIGKILL)
        end = await cluster.until(
            lambda: sum(pod.spec.nodeName != "node-2" for pod in cluster.running("bench")) == 6,
            "6 pods to run elsewhere",
        )
        return end - start


@benchmark("idle_cpu", unit="% of a core", what=f"3 idle nodes and all daemons, over {IDLE_S:g} s", aim="<= 2", runs=3)
@asynccontextmanager
async def idle_cpu() -> AsyncIterator[Sides]:
    async with whole() as cluster:
        await cluster.pods.stop()

        async def ours() -> float:
            await asyncio.sleep(2.0)
            processes = _processes(cluster)
            before = sum(sum(process.cpu_times()[:2]) for process in processes)
            await asyncio.sleep(IDLE_S)
            return (sum(sum(process.cpu_times()[:2]) for process in processes) - before) / IDLE_S * 100

        yield Sides(ours)


@benchmark(
    "idle_memory",
    unit="MB of PSS",
    what="3 idle nodes and all daemons, shared memory counted once",
    aim="<= 300",
    runs=3,
)
@asynccontextmanager
async def idle_memory() -> AsyncIterator[Sides]:
    async with whole() as cluster:

        async def ours() -> float:
            await asyncio.sleep(2.0)
            return float(sum(process.memory_full_info().pss for process in _processes(cluster))) / 1e6

        yield Sides(ours)


def _processes(cluster: Whole) -> list[psutil.Process]:
    """The supervisor and all below it."""
    supervisor = next(entry["pid"] for entry in cluster.info["processes"] if entry["role"] == "supervisor")
    root = psutil.Process(supervisor)
    return [root, *root.children(recursive=True)]


def _restarts(cluster: Whole, name: str) -> int:
    pod = cluster.pods.indexer.get(Key("Pod", "default", name))
    if pod is None or not pod.status.containerStatuses:
        return 0
    status = pod.status.containerStatuses[0]
    return int(status.restartCount) if status.state.HasField("running") else 0


async def _replaced(cluster: Whole, before: set[str], victim: str) -> float:
    def check() -> bool:
        now = {pod.metadata.uid for pod in cluster.running("bench")}
        return len(now) == len(before) and victim not in now

    return await cluster.until(check, "the replacement to run")
