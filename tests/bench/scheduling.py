"""The scheduler as its users meet it: scheduler_perf's workloads, from the creation of a pod to bound and durable.

Everything is real: master, SQLite with synchronous=FULL, gRPC with mutual TLS, scheduler; on the same cores as the
client that creates the pods and the watcher that sees them bound. Nodes are objects without agents, as there. Each
workload is a row of the table; its number is the measured pods by the time from the first create to the last one seen
bound. Kubernetes' own figures that stand as aims are those its CI demands, on bigger machines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import EventType
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Sides, benchmark
from tests.bench.placing import write
from tests.bench.stage import Stage, stage
from tests.bench.workloads import NAMESPACE, WORKLOADS, MakePod, Workload, basic, impossible, nodes_of
from tests.bench.workloads import node as make_node

BATCH = 500
"""So many pods in one call."""
WRITERS = 4
"""So many calls at once."""
LIMIT_S = 300.0
STEADY_RATE, STEADY_S = 1000, 10
"""Pods a second, for so long."""


class BoundPods:
    """Watches what is bound, and counts; it keeps nothing of a pod but its name and the time."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._client = client
        self.at_s: dict[str, float] = {}
        """When each pod was seen bound."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        started = asyncio.Event()
        self._task = asyncio.create_task(self._watch(started))
        await asyncio.wait_for(started.wait(), LIMIT_S)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, started: asyncio.Event) -> None:
        wish = self._client.watch(core.Pod, field_selector="spec.nodeName!=", initial_state=True)
        async with wish as batches:
            async for batch in batches:
                now_s = time.perf_counter()
                for event in batch:
                    if event.type is EventType.ADDED and event.object is not None:
                        self.at_s[event.object.metadata.name] = now_s
                    elif event.type is EventType.INITIAL_STATE_END:
                        started.set()
                self._changed.set()

    async def until(self, prefix: str, count: int) -> None:
        """Returns when so many pods whose names begin so are bound."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.at_s) < count or sum(name.startswith(prefix) for name in self.at_s) < count:
                self._changed.clear()
                await self._changed.wait()


async def create(client: GrpcClusterClient, pods: Sequence[core.Pod]) -> None:
    """Creates the pods in calls of BATCH, WRITERS of them at once."""
    calls = iter([pods[start : start + BATCH] for start in range(0, len(pods), BATCH)])

    async def writer() -> None:
        for call in calls:
            outcome = await client.write([operations.create(pod) for pod in call], timeout_s=60.0)
            for each in outcome.outcomes:
                each.unwrap()

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


def make_pods(prefix: str, count: int, make: MakePod) -> list[core.Pod]:
    return [make(f"{prefix}-{number}", number) for number in range(count)]


@asynccontextmanager
async def perf_cluster(scene: Stage, workload: Workload) -> AsyncIterator[tuple[GrpcClusterClient, BoundPods]]:
    """A master and a scheduler, the workload's nodes, the pods that are there before."""
    async with AsyncExitStack() as stack:
        await scene.start_master()
        client = scene.client()
        stack.push_async_callback(client.close)
        await write(client, [operations.create(each) for each in workload.classes])
        await make_nodes(client, list(nodes_of(workload)))
        await scene.start(
            *("-m", "cluster", "manager", "--run", "scheduler", "--master", scene.master, "--profile", scene.profile),
            *("--scheduler-credentials", str(scene.credentials("scheduler"))),
        )
        bound = BoundPods(client)
        stack.push_async_callback(bound.stop)
        await bound.start()
        for number, (count, make) in enumerate(workload.initial):
            await create(client, make_pods(f"init{number}", count, make))
            await bound.until(f"init{number}-", count)
        if workload.pending is not None:
            await create(client, make_pods("pending", *workload.pending))
            await asyncio.sleep(2.0)  # they are refused once
        yield client, bound


async def make_nodes(client: GrpcClusterClient, nodes: Sequence[core.Node]) -> None:
    """Nodes that are ready; there is no controller here that would take the taint of new ones away."""
    await write(client, [operations.create(node) for node in nodes], batch=500)
    await write(client, [operations.update_status(node) for node in nodes], batch=500)
    ready = [
        operations.patch(key_of(node), {"spec": {"taints": None}})
        for node in (await client.list(core.Node)).items
        if node.spec.taints
    ]
    await write(client, ready, batch=500)


async def churn(client: GrpcClusterClient) -> None:
    """What SchedulingWithMixedChurn does once a second: a node, a pod that fits nowhere and a service come and go."""
    number = 0
    while True:
        await asyncio.sleep(1.0)
        number += 1
        node = make_node(f"churn-{number}")
        pod = impossible(f"churn-{number}", number)
        service = core.Service(metadata=core.ObjectMeta(name=f"churn-{number}", namespace=NAMESPACE))
        service.spec.selector["app"] = "churn"
        service.spec.ports.add(port=8080)
        made: list[core.Node | core.Pod | core.Service] = [node, pod, service]
        await client.write([operations.create(each) for each in made])
        await asyncio.sleep(0.5)
        gone: list[wire.Operation] = [operations.delete(key_of(each), grace_period_s=0) for each in (pod, service)]
        await client.write([operations.delete(key_of(node)), *gone])


def register(workload: Workload, aim: str) -> None:
    """One row of the table. Each run has a cluster of its own: what was placed before is not there."""

    @benchmark(
        f"perf_{workload.name}",
        unit="pods/s",
        what=f"{workload.measured:,} pods on {workload.nodes:,} nodes, created (500 a call) to bound and durable",
        aim=aim,
        runs=3,
        warm_up=False,
    )
    @asynccontextmanager
    async def row() -> AsyncIterator[Sides]:
        async def ours() -> float:
            async with stage() as scene, perf_cluster(scene, workload) as (client, bound):
                pods = make_pods("pod", workload.measured, workload.make)
                churning = asyncio.create_task(churn(client)) if workload.churns else None
                try:
                    begun = time.perf_counter()
                    await create(client, pods)
                    await bound.until("pod-", workload.measured)
                    return workload.measured / (max(bound.at_s.values()) - begun)
                finally:
                    if churning is not None:
                        churning.cancel()
                        await asyncio.gather(churning, return_exceptions=True)

        yield Sides(ours)


for _workload in WORKLOADS:
    register(_workload, ">= 5000" if _workload.name == "SchedulingBasic" else ">= 1000")
register(Workload("SchedulingBasic_50000", 5000, ((1000, basic),), 50_000, basic), ">= 5000")


@benchmark(
    "perf_steady_p99",
    unit="ms",
    what=f"p99 of creation to bound at a steady {STEADY_RATE:,} pods/s for {STEADY_S} s on 5,000 nodes, 20 a call",
    aim="<= 1000",
    runs=3,
    warm_up=False,
)
@asynccontextmanager
async def perf_steady_p99() -> AsyncIterator[Sides]:
    async def ours() -> float:
        workload = Workload("steady", 5000, ((1000, basic),), STEADY_RATE * STEADY_S, basic)
        async with stage() as scene, perf_cluster(scene, workload) as (client, bound):
            created: dict[str, float] = {}

            async def send(pods: list[core.Pod]) -> None:
                created.update(dict.fromkeys((pod.metadata.name for pod in pods), time.perf_counter()))
                for outcome in (await client.write([operations.create(pod) for pod in pods])).outcomes:
                    outcome.unwrap()

            sending: set[asyncio.Task[None]] = set()
            begun = time.perf_counter()
            for start in range(0, workload.measured, 20):
                await asyncio.sleep(max(0.0, begun + start / STEADY_RATE - time.perf_counter()))
                sending.add(asyncio.create_task(send([basic(f"pod-{start + number}") for number in range(20)])))
            await asyncio.gather(*sending)
            await bound.until("pod-", workload.measured)
            delays = sorted(bound.at_s[name] - at_s for name, at_s in created.items())
            return delays[int(len(delays) * 0.99)] * 1000

    yield Sides(ours)
