"""How much the master takes: durable writes through gRPC and SQLite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Sides, benchmark
from tests.bench.placing import make_pod, write
from tests.bench.stage import stage


async def create_pods(client: GrpcClusterClient, count: int, *, batch: int, writers: int) -> float:
    """Writes per second; the pods are removed again, outside of the time that counts."""
    creates = [operations.create(make_pod(f"pod-{i}")) for i in range(count)]
    share = count // writers
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for i in range(writers):
            group.create_task(write(client, creates[i * share : (i + 1) * share], batch))
    taken = time.perf_counter() - begun
    pods = (await client.list(core.Pod)).items
    assert len(pods) == count
    await write(client, [operations.delete(key_of(pod), grace_period_s=0) for pod in pods])
    return count / taken


@asynccontextmanager
async def creating(count: int, *, batch: int, writers: int) -> AsyncIterator[Sides]:
    async with stage() as scene:
        await scene.start_master()
        client = scene.client()
        try:
            yield Sides(lambda: create_pods(client, count, batch=batch, writers=writers))
        finally:
            await client.close()


@benchmark("writes_1", unit="writes/s", what="pods created one a call, one writer: each waits for the disk")
@asynccontextmanager
async def writes_1() -> AsyncIterator[Sides]:
    async with creating(300, batch=1, writers=1) as sides:
        yield sides


@benchmark("writes_1_by_16", unit="writes/s", what="pods created one a call, 16 writers: commits are shared")
@asynccontextmanager
async def writes_1_by_16() -> AsyncIterator[Sides]:
    async with creating(1600, batch=1, writers=16) as sides:
        yield sides


@benchmark("writes_100", unit="writes/s", what="pods created 100 a call, 2 writers")
@asynccontextmanager
async def writes_100() -> AsyncIterator[Sides]:
    async with creating(4000, batch=100, writers=2) as sides:
        yield sides
