"""Placement: the whole road from creation to bound. The algorithm alone is measured in `tests.bench.deciding`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Sides, benchmark
from tests.bench.stage import Stage, stage

NODES = 500
PODS = 1000
TIMEOUT_S = 60.0


def make_node(name: str) -> core.Node:
    """A large idle node that says it is ready; `name` ends in -NUMBER, which decides its zone."""
    node = core.Node()
    node.metadata.name = name
    node.metadata.labels["kubernetes.io/hostname"] = name
    node.metadata.labels["topology.kubernetes.io/zone"] = f"zone-{int(name.rpartition('-')[2]) % 3}"
    for amounts in (node.status.capacity, node.status.allocatable):
        for resource, amount in (("cpu", "32"), ("memory", "64Gi"), ("pods", "110")):
            amounts[resource].string = amount
    node.status.conditions.add(type="Ready", status="True", reason="KubeletReady")
    return node


def make_pod(name: str, owner_uid: str = "") -> core.Pod:
    """A small pod of the application "bench"."""
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, "default"
    pod.metadata.labels["app"] = "bench"
    if owner_uid:
        pod.metadata.ownerReferences.add(
            kind="ReplicationController", name="bench", uid=owner_uid, apiVersion="v1", controller=True
        )
    container = pod.spec.containers.add(name="main", command=["sleep", "1000"])
    container.resources.requests["cpu"].string = "100m"
    container.resources.requests["memory"].string = "64Mi"
    return pod


async def write(client: GrpcClusterClient, writes: Sequence[wire.Operation], batch: int = 100) -> None:
    """Writes in batches. Raises the first error."""
    for start in range(0, len(writes), batch):
        for outcome in (await client.write(writes[start : start + batch], timeout_s=30.0)).outcomes:
            outcome.unwrap()


class Observer:
    """Watches all pods, as anybody could, and says when so many are bound, or none is left."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._informer: Informer[core.Pod] = Informer(client, core.Pod)
        self._bound: set[str] = set()
        self._changed = asyncio.Event()
        self._informer.add_handler(self._on_pod)

    async def start(self) -> None:
        await self._informer.start()
        await self._informer.wait_synced(TIMEOUT_S)

    async def stop(self) -> None:
        await self._informer.stop()

    @property
    def keys(self) -> list[Key]:
        """All pods there are."""
        return self._informer.indexer.keys()

    async def until_bound(self, count: int) -> None:
        await self._until(lambda: len(self._bound) >= count)

    async def until_empty(self) -> None:
        await self._until(lambda: not len(self._informer.indexer))

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if new is None:
            assert old is not None
            self._bound.discard(old.metadata.uid)
        elif new.spec.nodeName:
            self._bound.add(new.metadata.uid)
        self._changed.set()

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not done():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def idle_cluster(scene: Stage) -> AsyncIterator[tuple[GrpcClusterClient, Observer]]:
    """A master and a manager with 500 idle hollow nodes, a client, and somebody who watches the pods."""
    async with AsyncExitStack() as stack:
        await scene.start_master()
        await scene.start_manager()
        client = scene.client()
        stack.push_async_callback(client.close)
        await scene.start_hollow(NODES)
        async with asyncio.timeout(TIMEOUT_S):
            while any(node.spec.taints for node in (await client.list(core.Node)).items):
                await asyncio.sleep(0.1)
        observer = Observer(client)
        stack.push_async_callback(observer.stop)
        await observer.start()
        yield client, observer


async def delete_pods(client: GrpcClusterClient, observer: Observer) -> None:
    """Removes all pods at once, and returns when nobody sees one any more."""
    await write(client, [operations.delete(key, grace_period_s=0) for key in observer.keys])
    await observer.until_empty()


@benchmark(
    "bound_1000_pods_500_nodes",
    unit="s",
    what="1,000 pods created by a client (100 a call) until a watcher has seen all of them bound, 500 idle nodes",
    aim="<= 2",
)
@asynccontextmanager
async def bound_1000_pods_500_nodes() -> AsyncIterator[Sides]:
    async with stage() as scene, idle_cluster(scene) as (client, observer):

        async def ours() -> float:
            pods = [operations.create(make_pod(f"pod-{i}")) for i in range(PODS)]
            begun = time.perf_counter()
            await write(client, pods)
            await observer.until_bound(PODS)
            taken = time.perf_counter() - begun
            await delete_pods(client, observer)
            return taken

        yield Sides(ours)


@benchmark(
    "scaled_to_1000_pods_500_nodes",
    unit="s",
    what="a controller scaled from 0 to 1,000 until a watcher has seen all pods bound, 500 idle nodes",
)
@asynccontextmanager
async def scaled_to_1000_pods_500_nodes() -> AsyncIterator[Sides]:
    async with stage() as scene, idle_cluster(scene) as (client, observer):
        controller = core.ReplicationController()
        controller.metadata.name, controller.metadata.namespace = "bench", "default"
        controller.spec.replicas = 0
        controller.spec.selector["app"] = "bench"
        template = make_pod("unused")
        controller.spec.template.metadata.labels["app"] = "bench"
        controller.spec.template.spec.CopyFrom(template.spec)
        await write(client, [operations.create(controller)])

        async def scale(replicas: int) -> None:
            await write(client, [operations.patch(key_of(controller), {"spec": {"replicas": replicas}})])

        async def ours() -> float:
            begun = time.perf_counter()
            await scale(PODS)
            await observer.until_bound(PODS)
            taken = time.perf_counter() - begun
            await scale(0)
            await observer.until_empty()
            return taken

        yield Sides(ours)
