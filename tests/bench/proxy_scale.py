"""What the proxy adds to the time of a request, what connections that do nothing cost, and how soon changes are heeded.

added p99     at half of what hey gets through HAProxy, less what it sees without a proxy; both sides at that rate
idle          10,000 connections through the proxy, each end held by this process: the proxy's memory (PSS) with them
update        1,000 services of 10 endpoints: from the answer to a write until a connection reaches the new endpoint
memory        of the proxy with those
"""

from __future__ import annotations

import asyncio
import resource
import select
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psutil

from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from proxy.relay import reset
from tests.bench.harness import Measure, Sides, benchmark
from tests.bench.placing import write
from tests.bench.proxying import PORT, need, start_haproxy, start_http_backend, start_peer, start_podium
from tests.bench.stage import Stage, listen, stage

HEY_WORKERS = 8
HEY_S = 3
IDLE = 10_000
FILES = 65_536
SERVICES = 1_000
ENDPOINTS = 10


async def hey(address: tuple[str, int], rate: int) -> list[float]:
    """The seconds that each request took; at most so many per second (0: as many as possible)."""
    limit = ["-q", str(max(1, rate // HEY_WORKERS))] if rate else []
    process = await asyncio.create_subprocess_exec(
        *("hey", "-z", f"{HEY_S}s", "-c", str(HEY_WORKERS), *limit, "-o", "csv", f"http://{address[0]}:{address[1]}/"),
        stdout=asyncio.subprocess.PIPE,
    )
    lines = (await process.communicate())[0].decode().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    if not rows or any(row[6] != "200" for row in rows):
        raise RuntimeError(f"hey saw {len(rows)} requests, and some failed")
    return [float(row[0]) for row in rows]


def p99(seconds: list[float]) -> float:
    """In milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100)[98]


@benchmark(
    "proxy_added_p99",
    unit="ms",
    what="hey at half load, kept connections: p99 through the proxy less p99 without one",
    aim="<= haproxy",
)
@asynccontextmanager
async def proxy_added_p99() -> AsyncIterator[Sides]:
    need("hey")
    async with stage() as scene, AsyncExitStack() as stack:
        behind = await start_http_backend(stack, scene)
        ours = await start_podium(stack, scene, behind)
        peer = await start_peer(stack, scene, behind)
        rate = len(await hey(peer or ours, 0)) // HEY_S // 2

        async def added(address: tuple[str, int]) -> float:
            return max(0.001, p99(await hey(address, rate)) - p99(await hey(behind, rate)))

        peers: Measure | None = None if peer is None else (lambda: added(peer))
        yield Sides(lambda: added(ours), peers, "haproxy")


def room_for_connections() -> int:
    """How many a process may have that holds both ends, as the clients here and a proxy do; 10,000 are enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), max(hard, FILES)))
        hard = FILES
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(IDLE, (hard - 1000) // 2)


def pss_mb(pid: int) -> float:
    """Of a process and its children."""
    process = psutil.Process(pid)
    return sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True))) / 1e6


class Crowd:
    """Connections that do nothing: both their ends, but for the proxy between them."""

    def __init__(self, stack: AsyncExitStack, address: tuple[str, int]) -> None:
        self._listener = listen(stack, address, backlog=4096)
        self._listener.setblocking(False)
        self._ends: list[socket.socket] = []
        stack.callback(self.close)

    def connect(self, to: tuple[str, int], count: int) -> None:
        """So many clients through the proxy; returns when all have reached the other end."""
        sources = 4
        for number in range(count):
            client = socket.socket()
            client.bind((f"127.0.0.{2 + number % sources}", 0))
            client.connect(to)
            self._ends.append(client)
            self._accept(0.0)
        deadline = time.perf_counter() + 30
        while len(self._ends) < 2 * count:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{len(self._ends) - count} of {count} connections arrived")
            self._accept(0.1)

    def _accept(self, timeout_s: float) -> None:
        if timeout_s:
            select.select([self._listener], [], [], timeout_s)
        while True:
            try:
                self._ends.append(self._listener.accept()[0])
            except BlockingIOError:
                return

    def close(self) -> None:
        """Ends them all, by resets: otherwise the next crowd would find no port that is free."""
        for end in self._ends:
            reset(end)
            end.close()
        self._ends.clear()


@benchmark(
    "proxy_idle_memory", unit="MB of PSS", what="10,000 idle connections through the proxy", aim="<= 150 MB", runs=3
)
@asynccontextmanager
async def proxy_idle_memory() -> AsyncIterator[Sides]:
    count = room_for_connections()
    async with stage() as scene, AsyncExitStack() as stack:
        behind = (f"{scene.block}.200.3", PORT)
        crowd = Crowd(stack, behind)
        ours = await start_podium(stack, scene, behind)
        peer: tuple[str, int] | None = (f"{scene.block}.201.1", PORT)
        pid = 0
        try:
            assert peer is not None
            rules = f"""
listen peer
  mode tcp
  bind {peer[0]}:{PORT}
  maxconn {count + 100}
  timeout client 1h
  timeout server 1h
  server backend {behind[0]}:{behind[1]}
"""
            before = {process.pid for process in psutil.Process().children()}
            await start_haproxy(stack, scene.directory, "idle", rules, maxconn=count + 100)
            pid = next(one.pid for one in psutil.Process().children() if one.pid not in before)
        except FileNotFoundError:
            peer = None

        async def memory(address: tuple[str, int], of: int) -> float:
            empty = pss_mb(of)
            await asyncio.to_thread(crowd.connect, address, count)
            taken = pss_mb(of)
            crowd.close()
            await asyncio.sleep(1.0)
            return taken + (IDLE - count) * (taken - empty) / count

        proxy = scene.pid("proxy")
        peers: Measure | None = None if peer is None else (lambda: memory(peer, pid))
        yield Sides(lambda: memory(ours, proxy), peers, "haproxy")


def service(number: int) -> core.Service:
    """One of many."""
    made = core.Service()
    made.metadata.name, made.metadata.namespace = f"svc-{number}", "default"
    made.spec.ports.add(port=PORT, protocol="TCP")
    return made


def endpoints(number: int, block: str, *first: tuple[str, int]) -> core.Endpoints:
    """Ten addresses where nobody is, or these."""
    made = core.Endpoints()
    made.metadata.name, made.metadata.namespace = f"svc-{number}", "default"
    subset = made.subsets.add()
    for ip in [ip for ip, _ in first] or [f"{block}.{210 + i}.{1 + number % 250}" for i in range(ENDPOINTS)]:
        subset.addresses.add(ip=ip)
    subset.ports.add(port=first[0][1] if first else PORT, protocol="TCP")
    return made


async def fill(scene: Stage) -> GrpcClusterClient:
    """Master and proxy with all services; returns when the proxy serves the last of them."""
    await scene.start_master()
    client = scene.client()
    for number in range(SERVICES):
        await write(client, [operations.create(service(number)), operations.create(endpoints(number, scene.block))])
    await scene.start_proxy()
    return client


@benchmark(
    "proxy_routing_update",
    unit="ms",
    what="1,000 services x 10 endpoints: a write of endpoints until a connection reaches the new one",
    aim="<= 50 ms",
)
@asynccontextmanager
async def proxy_routing_update() -> AsyncIterator[Sides]:
    async with stage() as scene, AsyncExitStack() as stack:
        client = await fill(scene)
        stack.push_async_callback(client.close)
        listeners = [listen(stack, (f"{scene.block}.200.{4 + place}", PORT)) for place in (0, 1)]
        for listener in listeners:
            listener.setblocking(False)
        address = (await client.get(core.Service, "svc-500", "default")).spec.clusterIP
        turn = 0

        async def update() -> float:
            nonlocal turn
            turn = 1 - turn
            listener = listeners[turn]
            wanted = endpoints(500, scene.block, listener.getsockname())
            stored = await client.get(core.Endpoints, "svc-500", "default")
            wanted.metadata.CopyFrom(stored.metadata)
            await write(client, [operations.update(wanted)])
            begun = time.perf_counter()
            while True:
                with socket.create_connection((address, PORT)):
                    await asyncio.sleep(0)
                    try:
                        listener.accept()[0].close()
                        return 1000 * (time.perf_counter() - begun)
                    except BlockingIOError:
                        pass
                if time.perf_counter() - begun > 20:
                    raise RuntimeError("the new endpoint was never reached")
                await asyncio.sleep(0.001)

        yield Sides(update)


@benchmark(
    "proxy_routing_memory", unit="MB of PSS", what="the proxy with 1,000 services x 10 endpoints", runs=1, warm_up=False
)
@asynccontextmanager
async def proxy_routing_memory() -> AsyncIterator[Sides]:
    async with stage() as scene, AsyncExitStack() as stack:
        client = await fill(scene)
        stack.push_async_callback(client.close)

        async def memory() -> float:
            return pss_mb(scene.pid("proxy"))

        yield Sides(memory)
