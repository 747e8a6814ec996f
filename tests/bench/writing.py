"""How many durable writes a second, ours and etcd's: the same bytes on the same disk, both over mutual TLS, both asked
by one Python process over grpc.aio.

A write of ours replaces the status of a pod of about 512 bytes, etcd's puts the same bytes under the pod's key; both
replace what was there, and both answer when it is on the disk. "Clients" are concurrent callers, each of which waits
for its answer before it writes again; all of them share one client object, as they would in a program: our client's
write stream, etcd's one channel. A batch of 100 is one call, all or nothing: our atomic write, etcd's transaction.
Everything that a program does is in the time: to make the request, and to look at each answer.

We check, complete and index what is written, and answer with the object; etcd stores bytes and answers with a revision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.bench import etcd_peer
from tests.bench.etcd_peer import Etcd
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.placing import make_pod, write
from tests.bench.stage import stage

PODS = 1000
POD_BYTES = 512


def pod_of_size(name: str) -> core.Pod:
    """A pod that is about POD_BYTES long when it is stored."""
    pod = make_pod(name)
    pod.metadata.annotations["note"] = "x" * 110
    return pod


def change(pod: core.Pod, number: int) -> core.Pod:
    """The pod with another status, of the same size each time."""
    changed = core.Pod()
    changed.CopyFrom(pod)
    changed.metadata.ClearField("resourceVersion")
    changed.status.message = f"{number:032}"
    return changed


async def fill(client: GrpcClusterClient) -> list[core.Pod]:
    """Creates the pods, and returns them as they are stored."""
    await write(client, [operations.create(pod_of_size(f"pod-{i}")) for i in range(PODS)])
    pods = (await client.list(core.Pod)).items
    size = sum(change(pod, 0).ByteSize() for pod in pods) / len(pods)
    assert abs(size - POD_BYTES) < 60, f"pods of {size:g} bytes"
    return pods


class Ours:
    """The master's side."""

    def __init__(self, client: GrpcClusterClient, pods: list[core.Pod]) -> None:
        self._client = client
        self._pods = pods
        self._number = 0

    async def one(self) -> None:
        (outcome,) = (await self._client.write([self._next()])).outcomes
        outcome.unwrap()

    async def batch(self, size: int) -> None:
        written = await self._client.write([self._next() for _ in range(size)], atomic=True)
        for outcome in written.outcomes:
            outcome.unwrap()

    def _next(self) -> wire.Operation:
        self._number += 1
        return operations.update_status(change(self._pods[self._number % len(self._pods)], self._number))


class Peer:
    """etcd's side."""

    def __init__(self, client: Etcd, pods: list[core.Pod]) -> None:
        self._client = client
        self._pods = pods
        self._number = 0

    async def one(self) -> None:
        await self._client.put(*self._next())

    async def batch(self, size: int) -> None:
        await self._client.put_all([self._next() for _ in range(size)])

    def _next(self) -> tuple[bytes, bytes]:
        self._number += 1
        pod = change(self._pods[self._number % len(self._pods)], self._number)
        return f"/pods/{pod.metadata.name}".encode(), pod.SerializeToString()


async def rate(work: Callable[[], Awaitable[None]], *, clients: int, each: int, size: int = 1) -> float:
    """Writes a second, when so many clients do their work so often."""

    async def caller() -> None:
        for _ in range(each):
            await work()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(clients)))
    return clients * each * size / (time.perf_counter() - begun)


@asynccontextmanager
async def writing(*, clients: int, total: int, batch: int = 1) -> AsyncIterator[Sides]:
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(stage())
        await scene.start_master()
        client = scene.client()
        stack.push_async_callback(client.close)
        etcd = await stack.enter_async_context(etcd_peer.etcd(scene))
        pods = await fill(client)
        each = max(1, total // clients // batch)

        def measure(side: Ours | Peer) -> Measure:
            work = side.one if batch == 1 else partial(side.batch, batch)
            return partial(rate, work, clients=clients, each=each, size=batch)

        yield Sides(
            ours=measure(Ours(client, pods)),
            peer=None if etcd is None else measure(Peer(etcd, pods)),
            peer_name=etcd_peer.NAME,
        )


def _register(name: str, what: str, *, clients: int, total: int, batch: int = 1) -> None:
    @benchmark(name, unit="writes/s", what=what, aim="> etcd")
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        async with writing(clients=clients, total=total, batch=batch) as sides:
            yield sides


_register(
    "writes_1", "status updates of 512 bytes, one client that waits for the disk each time", clients=1, total=1000
)
_register("writes_10", "the same, 10 clients", clients=10, total=5000)
_register("writes_100", "the same, 100 clients", clients=100, total=10_000)
_register("writes_1000", "the same, 1,000 clients", clients=1000, total=10_000)
_register("writes_batch_100", "100 in a call, all or nothing, one client", clients=1, total=20_000, batch=100)
_register("writes_batch_100_by_10", "100 in a call, all or nothing, 10 clients", clients=10, total=40_000, batch=100)


@benchmark("creates_100", unit="writes/s", what="pods created 100 a call, 2 clients: checked and completed in full")
@asynccontextmanager
async def creates_100() -> AsyncIterator[Sides]:
    async with stage() as scene:
        await scene.start_master()
        client = scene.client()
        count = 0

        async def batch() -> None:
            nonlocal count
            count += 100
            pods = [make_pod(f"pod-{i}") for i in range(count - 100, count)]
            for outcome in (await client.write([operations.create(pod) for pod in pods])).outcomes:
                outcome.unwrap()

        try:
            yield Sides(lambda: rate(batch, clients=2, each=15, size=100))
        finally:
            await client.close()
