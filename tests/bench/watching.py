"""How fast news gets around, from our master and from etcd: the same changes of the same bytes, to as many watchers.

A change replaces the status of one of 1,000 pods of about 512 bytes (see writing.py), and is on the disk before anybody
hears of it. All watchers are in this process, one stream each, a few hundred to a connection. Whoever hears of a change
wants the pod, so decoding it is in the time: our watchers are those of our client, etcd's read the call of grpc.aio
themselves and parse the value as a pod, which is the least that a client of etcd can do. Watchers are connected before
the clock starts and only while their side is measured, so that nobody pays for the other's.

    events/s    from the first of many changes (100 callers, one change a call) until the last watcher has the last one
    delay       from the call that writes a change until a watcher has it, at a steady pace, disk included
    resumed     a watcher that was away: how fast it is told what it has missed
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Protocol

import grpc.aio

from cluster.actor.tasks import Tasks
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench import etcd_peer
from tests.bench.etcd_peer import Etcd
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.stage import Stage, stage
from tests.bench.writing import change, fill

CALLERS = 100
PER_CONNECTION = 250
RESUMED = 8_000
"""Fewer changes than the master keeps in memory, as for a watcher that was away for a moment."""
TIMEOUT_S = 60.0

_NUMBERS = itertools.count(1)
"""No two changes are the same: what changes nothing is no event."""

Hear = Callable[[core.Pod], None]


class Side(Protocol):
    """Who is watched."""

    async def write(self, pod: core.Pod) -> int:
        """Replaces a pod; the revision."""
        ...

    async def watch(self, connection: int, after: int | None, node: str, hear: Hear, ready: asyncio.Event) -> None:
        """Tells of every change of pods (of a node, if one is named), for ever."""
        ...

    async def close(self) -> None: ...


class Ours:
    """The master."""

    def __init__(self, scene: Stage) -> None:
        self._scene = scene
        self.client = scene.client()
        self._watching: dict[int, GrpcClusterClient] = {}

    async def write(self, pod: core.Pod) -> int:
        written = await self.client.write([operations.update_status(pod)])
        written.outcomes[0].unwrap()
        return written.revision

    async def watch(self, connection: int, after: int | None, node: str, hear: Hear, ready: asyncio.Event) -> None:
        client = self._watching.get(connection)
        if client is None:
            client = self._watching[connection] = self._scene.client()
        selector = f"spec.nodeName={node}" if node else ""
        async with client.watch(core.Pod, field_selector=selector, after_revision=after) as batches:
            async for batch in batches:
                ready.set()
                for event in batch:
                    if event.object is not None:
                        hear(event.object)

    async def close(self) -> None:
        for client in (self.client, *self._watching.values()):
            await client.close()


class Peer:
    """etcd."""

    def __init__(self, client: Etcd, scene: Stage) -> None:
        self._scene = scene
        self._client = client
        self._watching: dict[int, Etcd] = {}

    async def write(self, pod: core.Pod) -> int:
        key = f"/pods/{pod.spec.nodeName or '-'}/{pod.metadata.name}"
        return await self._client.put(key.encode(), pod.SerializeToString())

    async def watch(self, connection: int, after: int | None, node: str, hear: Hear, ready: asyncio.Event) -> None:
        client = self._watching.get(connection)
        if client is None:
            client = self._watching[connection] = self._client.again()
        prefix = f"/pods/{node}/" if node else "/pods/"
        end = prefix[:-1] + chr(ord("/") + 1)
        call = await client.watch(prefix.encode(), end.encode(), after)
        ready.set()
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                for event in response.events:
                    hear(core.Pod.FromString(event.kv.value))
        finally:
            call.cancel()

    async def close(self) -> None:
        for client in self._watching.values():
            await client.close()


class Audience:
    """Watchers that count together."""

    def __init__(self) -> None:
        self._heard = 0
        self._wanted = 0
        self._done = asyncio.Event()
        self.delays_s: list[float] = []

    def hear(self, pod: core.Pod) -> None:
        """For watchers whose speed is measured."""
        self._heard += 1
        if self._heard == self._wanted:
            self._done.set()

    def hear_stamped(self, pod: core.Pod) -> None:
        """For changes whose number is the time at which they were written."""
        self.delays_s.append(time.perf_counter() - int(pod.status.message) / 1e9)
        self.hear(pod)

    async def all_heard(self, events: int) -> None:
        """Returns when so many were heard since it was made."""
        async with asyncio.timeout(TIMEOUT_S):
            if self._heard < events:
                self._wanted = events
                await self._done.wait()
        assert self._heard == events, f"{self._heard} events, not {events}"


@asynccontextmanager
async def listening(
    side: Side, watchers: int, hear: Hear, *, nodes: bool = False, after: int | None = None
) -> AsyncIterator[None]:
    """So many watchers of a side, all connected; with `nodes`, each watches a node of its own."""
    tasks = Tasks("watchers")
    ready = [asyncio.Event() for _ in range(watchers)]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for i, event in enumerate(ready):
                node = f"node-{i}" if nodes else ""
                tasks.spawn(side.watch(i // PER_CONNECTION, after, node, hear, event), name=f"watcher {i}")
                if i % PER_CONNECTION == PER_CONNECTION - 1:
                    await event.wait()
            for event in ready:
                await event.wait()
        yield
    finally:
        await tasks.cancel_all()


async def write_all(side: Side, pods: list[core.Pod], changes: int) -> None:
    """So many changes by CALLERS, each of whom waits for its answer before it writes again."""
    numbers = itertools.islice(_NUMBERS, changes)

    async def caller() -> None:
        for number in numbers:
            await side.write(change(pods[number % len(pods)], number))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def events_per_s(side: Side, pods: list[core.Pod], watchers: int, changes: int) -> float:
    """See the head of this file; the sum over all watchers."""
    audience = Audience()
    async with listening(side, watchers, audience.hear):
        begun = time.perf_counter()
        await asyncio.gather(write_all(side, pods, changes), audience.all_heard(watchers * changes))
        return watchers * changes / (time.perf_counter() - begun)


async def resumed_per_s(side: Side, pods: list[core.Pod]) -> float:
    """See the head of this file."""
    after = await side.write(change(pods[0], next(_NUMBERS)))
    await write_all(side, pods, RESUMED)
    audience = Audience()
    begun = time.perf_counter()
    async with listening(side, 1, audience.hear, after=after):
        await audience.all_heard(RESUMED)
        return RESUMED / (time.perf_counter() - begun)


async def p99_ms(side: Side, pods: list[core.Pod], watchers: int, changes: int, per_s: float) -> float:
    """See the head of this file; over all watchers and changes."""
    audience = Audience()
    tasks = Tasks("writes")
    async with listening(side, watchers, audience.hear_stamped):
        try:
            begun = time.perf_counter()
            for number in range(changes):
                await asyncio.sleep(max(0.0, begun + number / per_s - time.perf_counter()))
                pod = change(pods[number % len(pods)], time.perf_counter_ns())
                tasks.spawn(side.write(pod), name=f"write {number}")
            await audience.all_heard(watchers * changes)
        finally:
            await tasks.cancel_all()
    return 1000 * sorted(audience.delays_s)[int(len(audience.delays_s) * 0.99)]


Of = Callable[[Side, list[core.Pod]], Awaitable[float]]


@asynccontextmanager
async def watching(measure: Of) -> AsyncIterator[Sides]:
    """A master and an etcd, each with 1,000 pods."""
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(stage())
        await scene.start_master()
        ours = Ours(scene)
        stack.push_async_callback(ours.close)
        pods = await fill(ours.client)
        etcd = await stack.enter_async_context(etcd_peer.etcd(scene))
        peer: Measure | None = None
        if etcd is not None:
            other = Peer(etcd, scene)
            stack.push_async_callback(other.close)
            peer = partial(measure, other, pods)
        yield Sides(ours=partial(measure, ours, pods), peer=peer, peer_name=etcd_peer.NAME)


def _register(name: str, unit: str, what: str, aim: str, measure: Of, runs: int = 5) -> None:
    @benchmark(name, unit=unit, what=what, aim=aim, runs=runs)
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        async with watching(measure) as sides:
            yield sides


for _watchers, _changes in ((1, 10_000), (100, 1_000), (1_000, 200)):
    _register(
        f"watch_{_watchers}",
        "events/s",
        f"{_changes:,} changes by {CALLERS} callers until the last of {_watchers:,} has decoded the last; the sum",
        "> etcd",
        partial(events_per_s, watchers=_watchers, changes=_changes),
    )
_register("watch_resumed", "events/s", f"one watcher that has missed {RESUMED:,} changes", "> etcd", resumed_per_s)
for _watchers, _changes, _per_s in ((1, 1_000, 200.0), (100, 300, 50.0), (1_000, 40, 5.0)):
    _register(
        f"watch_p99_{_watchers}",
        "ms",
        f"99 of 100 changes ({_per_s:g}/s) have reached each of {_watchers:,} watchers so long after they were written",
        "< etcd",
        partial(p99_ms, watchers=_watchers, changes=_changes, per_s=_per_s),
        runs=3,
    )
