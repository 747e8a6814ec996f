"""How fast news gets around: one change, many watchers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.actor.tasks import Tasks
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Sides, benchmark
from tests.bench.placing import make_pod, write
from tests.bench.stage import stage

WATCHERS = 100
EVENTS = 1000
TIMEOUT_S = 60.0


class Watcher:
    """Counts what it hears."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._client = client
        self._heard = 0
        self._news = asyncio.Event()
        self.listening = asyncio.Event()

    async def run(self) -> None:
        async with self._client.watch(core.Pod, initial_state=True) as batches:
            async for batch in batches:
                self.listening.set()  # the end of the initial state, at the latest
                self._heard += sum(event.object is not None for event in batch)
                self._news.set()

    async def hear(self, count: int) -> None:
        """Returns when so many events were heard since the call before."""
        while self._heard < count:
            self._news.clear()
            await self._news.wait()
        self._heard -= count


@benchmark(
    "watch_fanout_100x1000",
    unit="events/s",
    what="1,000 pods created (100 a call) until the last of 100 watchers has decoded the last event; sum over watchers",
)
@asynccontextmanager
async def watch_fanout() -> AsyncIterator[Sides]:
    async with stage() as scene:
        await scene.start_master()
        client = scene.client()
        tasks = Tasks("watchers")
        watchers = [Watcher(client) for _ in range(WATCHERS)]
        for i, watcher in enumerate(watchers):
            tasks.spawn(watcher.run(), name=f"watcher {i}")

        async def hear(count: int) -> None:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*(watcher.hear(count) for watcher in watchers))

        async def ours() -> float:
            creates = [operations.create(make_pod(f"pod-{i}")) for i in range(EVENTS)]
            begun = time.perf_counter()
            await write(client, creates)
            await hear(EVENTS)
            taken = time.perf_counter() - begun
            pods = (await client.list(core.Pod)).items
            await write(client, [operations.delete(key_of(pod), grace_period_s=0) for pod in pods])
            await hear(EVENTS)
            return WATCHERS * EVENTS / taken

        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*(watcher.listening.wait() for watcher in watchers))
            yield Sides(ours)
        finally:
            await tasks.cancel_all()
            await client.close()
