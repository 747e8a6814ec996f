"""Several processes that carry connections: real ones, with a routing table here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cluster.actor.clock import SystemClock
from cluster.pb.v1 import core_pb2 as core
from proxy.merging import merged
from proxy.policies import Target
from proxy.routing import Address, Named, Route
from proxy.settings import ProxySettings
from proxy.sockets import ListenSockets
from proxy.stats import Stats
from proxy.workers import Workers
from tests.unit.proxy.rig import DEADLINE_S, KEY, Endpoint, Parties


class Scene(Parties):
    """Two workers that serve one port."""

    def __init__(self) -> None:
        super().__init__()
        settings = ProxySettings("127.0.0.1:1", Path("/"), workers=2, hold_s=DEADLINE_S)
        self.sockets = ListenSockets(2, 128)
        self.told: list[tuple[object, ...]] = []
        self.workers = Workers(settings, self.sockets.copies, clock=SystemClock())
        self.workers.tell = lambda *words: self.told.append(words)
        self.route = Route(KEY, Target("127.0.0.1", 0), ())

    async def start(self) -> None:
        await self.workers.start()
        self.workers.open(self.route, self.sockets.obtain(self.route))
        self.address = self.sockets.addresses[KEY]

    def lead_to(self, *endpoints: Endpoint, **changes: object) -> None:
        targets = tuple(endpoint.target for endpoint in endpoints)
        self.route = replace(self.route, targets=targets, **changes)  # type: ignore[arg-type]
        self.workers.update(self.route)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    it = Scene()
    try:
        await it.start()
        yield it
    finally:
        it.close_all()
        pids = it.workers.pids
        await it.workers.stop()
        await it.workers.stop()
        it.sockets.close()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


async def test_both_serve_and_their_counters_are_one() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        pairs = [await it.pair(endpoint) for _ in range(40)]
        for client, behind in pairs:
            await client.say(b"hello")
            assert await behind.hear(5) == b"hello"
        await it.until(lambda: it.workers.observe().of(KEY).bytes_to_endpoints == 200)
        assert len(it.workers) == 40
        counted = [slot.counted.connections for slot in it.workers._slots if slot.counted is not None]
        assert len(counted) == 2
        assert all(counted), "each has a share"
        for peer in (peer for pair in pairs for peer in pair):
            peer.close()
        await it.until(lambda: len(it.workers) == 0)


async def test_a_worker_that_is_killed_is_started_again_and_what_waits_is_served() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        await it.until(lambda: len(it.workers.pids) == 2)
        await it.pair(endpoint)
        before = it.workers.pids
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        waiting = [await it.connect() for _ in range(6)]  # the kernel answers: the sockets are kept here
        for one in waiting:
            await one.say(b"?")
        for _ in waiting:
            assert await (await endpoint.accept()).hear(1) == b"?"
        assert not set(before) & set(it.workers.pids)


async def test_clients_stick_whichever_worker_serves_them() -> None:
    async with scene() as it:
        endpoints = [it.endpoint() for _ in range(3)]
        it.lead_to(*endpoints, affinity_timeout_s=60)
        for _ in range(20):
            await it.connect()
        accepted = await _all_accepted(endpoints, 20)
        assert sorted(accepted) == [0, 0, 20]


async def test_ambassadors_answer_in_workers_and_their_events_come_here() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        known = (Address(endpoint.target, core.EndpointAddress(ip=endpoint.target.ip)),)
        it.lead_to(endpoint, ambassador=Named("nobody:Knows", ()), addresses=known)
        await it.until(lambda: len(it.told) == 2)
        assert {(words[0], words[2]) for words in it.told} == {(KEY, "NoPolicy")}
        it.lead_to(endpoint, ambassador=Named("http", ()), addresses=known)
        await it.workers.settled(DEADLINE_S)
        client = await it.connect()
        await client.say(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        behind = await endpoint.accept()
        assert (await behind.hear(10)).startswith(b"GET /x HTT")


async def test_draining() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        client, behind = await it.pair(endpoint)
        it.workers.stop_accepting()
        it.sockets.close()
        draining = asyncio.get_running_loop().create_task(it.workers.drain(DEADLINE_S))
        await client.say(b"still here")
        assert await behind.hear(10) == b"still here"
        assert not draining.done()
        client.close()
        behind.close()
        await draining


async def _all_accepted(endpoints: list[Endpoint], count: int) -> list[int]:
    accepted = [0] * len(endpoints)

    async def count_those_of(number: int) -> None:
        while True:
            await endpoints[number].accept()
            accepted[number] += 1

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(count_those_of(number)) for number in range(len(endpoints))]
    async with asyncio.timeout(DEADLINE_S):
        while sum(accepted) < count:
            await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return accepted


def test_sums() -> None:
    parts = []
    for number in (1, 2):
        stats = Stats(listeners=3, connections_limit=100)
        port = stats.of(KEY)
        port.accepted, port.active = number, number
        endpoint = port.endpoint(Target("127.0.0.1", 80))
        endpoint.connections = endpoint.active = number
        endpoint.up.bytes = 10 * number
        endpoint.first_byte.observe(0.001)
        parts.append(stats)
    total = merged(parts)
    port = total.ports[KEY]
    assert (total.listeners, total.connections_limit, port.accepted, port.active) == (3, 200, 3, 3)
    endpoint = port.endpoints[Target("127.0.0.1", 80)]
    assert (endpoint.connections, endpoint.active, port.bytes_to_endpoints, endpoint.first_byte.count) == (3, 3, 30, 2)
    ended = merged(parts, live=False).ports[KEY]
    assert (ended.accepted, ended.active, ended.bytes_to_endpoints) == (3, 0, 30)
