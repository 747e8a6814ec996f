"""Names over gRPC: how many are resolved a second, and how soon who follows one hears of a change.

1,000 services with 10 endpoints each. What is followed is changed at a steady pace by writing its Endpoints, disk
included, while others follow other services; a change counts as heard when the set with it is decoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from cluster.actor.tasks import Tasks
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.stage import stage

SERVICES, ENDPOINTS = 1_000, 10
CALLERS = 50
CALLS = 2_000
CHANGES, PER_S = 200, 50.0
TIMEOUT_S = 60.0


class Resolving:
    """A master with services, and a client of it."""

    def __init__(self, client: GrpcClusterClient, following: GrpcClusterClient) -> None:
        self._client, self._following = client, following
        self._port = 1_000

    async def fill(self) -> None:
        """Makes the services and who is behind them."""
        made = [each for number in range(SERVICES) for each in (_service(number), _endpoints(number, 1_000))]
        for first in range(0, len(made), 500):
            written = await self._client.write([operations.create(each) for each in made[first : first + 500]])
            for outcome in written.outcomes:
                outcome.unwrap()

    async def per_s(self) -> float:
        """Names resolved a second, by several callers at once."""
        began_s = time.perf_counter()

        async def call(first: int) -> None:
            for number in range(first, CALLS, CALLERS):
                view = await self._client.resolve(f"svc-{number % SERVICES}")
                assert len(view.endpoints) == ENDPOINTS

        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*(call(number) for number in range(CALLERS)))
        return CALLS / (time.perf_counter() - began_s)

    async def p99_ms(self, others: int) -> float:
        """Of many changes of one service, how long 99 of 100 took to be heard; others follow others meanwhile."""
        tasks = Tasks("followers")
        written: dict[int, float] = {}
        heard: dict[int, float] = {}
        ready = asyncio.Event()

        async def follow(number: int) -> None:
            async with self._following.watch_service(f"svc-{number}") as views:
                async for view in views:
                    if number == 0:
                        ready.set()
                        for port in view.endpoints[0].ports.values():
                            heard.setdefault(port, time.perf_counter())

        for number in range(others + 1):
            tasks.spawn(follow(number), name=f"follow {number}")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await ready.wait()
                for _ in range(CHANGES):
                    self._port += 1
                    written[self._port] = time.perf_counter()
                    outcome = await self._client.write([operations.update(_endpoints(0, self._port))])
                    outcome.outcomes[0].unwrap()
                    await asyncio.sleep(max(0.0, written[self._port] + 1 / PER_S - time.perf_counter()))
                while self._port not in heard:
                    await asyncio.sleep(0.001)
        finally:
            await tasks.cancel_all()
        delays = sorted(heard[port] - at for port, at in written.items() if port in heard)
        return 1000 * delays[int(len(delays) * 0.99) - 1]


@asynccontextmanager
async def resolving(measure: str, *arguments: int) -> AsyncIterator[Sides]:
    async with stage() as scene:
        await scene.start_master()
        one, other = scene.client(), scene.client()
        try:
            world = Resolving(one, other)
            await world.fill()
            ours: Measure = partial(getattr(world, measure), *arguments)
            yield Sides(ours=ours)
        finally:
            await one.close()
            await other.close()


@benchmark("resolve", unit="names/s", what=f"Resolve by {CALLERS} callers; 1,000 services with 10 endpoints each")
@asynccontextmanager
async def resolve() -> AsyncIterator[Sides]:
    async with resolving("per_s") as sides:
        yield sides


@benchmark(
    "watch_service_p99",
    unit="ms",
    what="99 of 100 changes of endpoints (50/s) are heard so long after they were written; 200 services are followed",
    aim="<= 100 ms",
    runs=3,
)
@asynccontextmanager
async def watch_service_p99() -> AsyncIterator[Sides]:
    async with resolving("p99_ms", 199) as sides:
        yield sides


def _service(number: int) -> core.Service:
    return core.Service(
        metadata=core.ObjectMeta(name=f"svc-{number}", namespace="default"),
        spec=core.ServiceSpec(ports=[core.ServicePort(port=80)]),
    )


def _endpoints(number: int, port: int) -> core.Endpoints:
    addresses = [
        core.EndpointAddress(
            ip=f"10.{number // 250}.{number % 250}.{place + 1}", labels={"podium.dev/shard": str(place)}
        )
        for place in range(ENDPOINTS)
    ]
    subset = core.EndpointSubset(addresses=addresses, ports=[core.EndpointPort(port=port, protocol="TCP")])
    return core.Endpoints(metadata=core.ObjectMeta(name=f"svc-{number}", namespace="default"), subsets=[subset])
