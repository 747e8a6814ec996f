"""The proxy as a whole, on a cluster in memory and real sockets."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cluster.actor.clock import SystemClock
from cluster.api.errors import Unavailable
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.metrics import Metrics
from proxy.engine import Engine
from proxy.exposition import Exposition
from proxy.policies import Target
from proxy.routing import RouteKey, ServiceName
from proxy.server import OneEngine, ProxyServer
from proxy.settings import DataPathSettings
from proxy.sockets import ListenSockets, why_it_cannot_listen
from proxy.stats import Stats
from tests.kit.memory_client import MemoryCluster
from tests.unit.proxy.rig import DEADLINE_S, Endpoint, Peer

WEB = RouteKey(ServiceName("default", "web"), "http")


class World:
    """A cluster, its proxy, and who talks through it."""

    def __init__(self, cluster: MemoryCluster, proxy: ProxyServer, stats: Stats) -> None:
        self.cluster = cluster
        self.proxy = proxy
        self.stats = stats

    def put_service(self, name: str = "web", *, ip: str = "127.0.0.1", port: int = 0, protocol: str = "TCP") -> None:
        """Port 0: let the kernel choose; no real service may say that, but nothing here depends on it."""
        self.cluster.put(
            core.Service(
                metadata=core.ObjectMeta(namespace="default", name=name),
                spec=core.ServiceSpec(
                    clusterIP=ip, ports=[core.ServicePort(name="http", port=port, protocol=protocol)]
                ),
            )
        )

    def remove_service(self, name: str = "web") -> None:
        self.cluster.remove(core.Service(metadata=core.ObjectMeta(namespace="default", name=name)))

    def put_endpoints(self, *endpoints: Endpoint, name: str = "web") -> None:
        self.cluster.put(
            core.Endpoints(
                metadata=core.ObjectMeta(namespace="default", name=name),
                subsets=[
                    core.EndpointSubset(
                        addresses=[core.EndpointAddress(ip=endpoint.target.ip)],
                        ports=[core.EndpointPort(name="http", port=endpoint.target.port, protocol="TCP")],
                    )
                    for endpoint in endpoints
                ],
            )
        )

    async def connect(self, key: RouteKey = WEB) -> Peer:
        sock = socket.socket()
        sock.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_connect(sock, self.proxy.listeners[key])
        return Peer(sock)

    def events(self) -> list[tuple[str, str]]:
        return [(event.involvedObject.name, event.reason) for event in self.cluster.objects(core.Event)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def world(*, started: bool = True) -> AsyncIterator[World]:
    clock, rng, stats = SystemClock(), random.Random(5), Stats()
    cluster = MemoryCluster(clock, rng)
    settings = DataPathSettings(hold_s=DEADLINE_S, drain_s=0.05, bind_retry_max_s=0.2)
    engine = Engine(settings, clock=clock, rng=rng, stats=stats, file_limit=1024)
    proxy = ProxyServer(
        cluster.client("proxy"),
        OneEngine(engine),
        ListenSockets(1, settings.backlog),
        settings,
        clock=clock,
        rng=rng,
    )
    made = World(cluster, proxy, stats)
    try:
        if started:
            await proxy.start()
        yield made
    finally:
        await proxy.stop()
        await proxy.stop()


async def test_serves_what_is_there_when_it_starts() -> None:
    async with world(started=False) as it:
        endpoint = Endpoint()
        it.put_service()
        it.put_endpoints(endpoint)
        await it.proxy.start()
        assert list(it.proxy.listeners) == [WEB]
        client = await it.connect()
        backend = await endpoint.accept()
        await client.say(b"hello")
        assert await backend.hear(5) == b"hello"
        for peer in (client, backend, endpoint):
            peer.close()


async def test_a_service_comes_changes_and_goes() -> None:
    async with world() as it:
        one, two = Endpoint(), Endpoint()
        it.put_service()
        await until(lambda: WEB in it.proxy.listeners)
        client = await it.connect()  # nobody is ready yet: held
        it.put_endpoints(one)
        backend = await one.accept()
        it.put_endpoints(two)
        await until(lambda: it.stats.ports[WEB].accepted == 1)
        other_client = await it.connect()
        other_backend = await two.accept()
        address = it.proxy.listeners[WEB]
        it.remove_service()
        await until(lambda: not it.proxy.listeners)
        for from_, to in ((client, backend), (other_backend, other_client)):
            await from_.say(b"still connected")
            assert await to.hear(15) == b"still connected"
        sock = socket.socket()
        assert sock.connect_ex(address) != 0
        for closing in (sock, client, backend, other_client, other_backend, one, two):
            closing.close()
        await until(lambda: it.proxy.connections == 0)
        assert "podium_proxy_connections_total{" not in _metrics(it.stats), "nothing is left of it"


async def test_routes_stay_while_the_master_is_away() -> None:
    async with world() as it:
        endpoint = Endpoint()
        it.put_service()
        it.put_endpoints(endpoint)
        await until(lambda: WEB in it.proxy.listeners)
        it.cluster.fail_next(Unavailable("the master is away"))
        it.cluster.break_watches()
        client = await it.connect()
        backend = await endpoint.accept()
        it.put_service("late")
        late = RouteKey(ServiceName("default", "late"), "http")
        await until(lambda: late in it.proxy.listeners)
        assert WEB in it.proxy.listeners
        for closing in (client, backend, endpoint):
            closing.close()


async def test_an_address_in_use_is_said_and_tried_again() -> None:
    async with world() as it:
        holder = socket.socket()
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        it.put_service(port=holder.getsockname()[1])
        await until(lambda: ("web", "ListenFailed") in it.events())
        assert it.proxy.listeners == {}
        holder.close()
        await until(lambda: WEB in it.proxy.listeners)
        await until(lambda: ("web", "Listening") in it.events())


async def test_an_address_is_taken_over_at_once() -> None:
    """Two services claim one address; the second one has it as soon as the first is gone."""
    async with world() as it:
        it.put_service()
        await until(lambda: WEB in it.proxy.listeners)
        port = it.proxy.listeners[WEB].port
        it.put_service("first", ip="127.0.0.3", port=port)
        first, second = (RouteKey(ServiceName("default", name), "http") for name in ("first", "second"))
        await until(lambda: first in it.proxy.listeners)
        it.put_service("second", ip="127.0.0.3", port=port)
        await until(lambda: ("second", "ListenFailed") in it.events())
        it.remove_service("first")
        await until(lambda: second in it.proxy.listeners)


def test_a_node_port_that_is_taken_names_the_cure() -> None:
    error = OSError(errno.EADDRINUSE, "in use")
    assert why_it_cannot_listen(Target("127.0.0.1", 30080), error) == (
        "Cannot listen on 127.0.0.1:30080: the port is in use, by another program or another cluster on this machine; "
        "give the service another nodePort"
    )


async def test_headless_services_and_other_protocols_have_no_listener() -> None:
    async with world() as it:
        it.put_service("headless", ip="None")
        it.put_service("names", protocol="SCTP")
        await until(lambda: ("names", "UnsupportedProtocol") in it.events())
        assert it.proxy.listeners == {}


async def test_metrics() -> None:
    async with world() as it:
        endpoint = Endpoint()
        it.put_service()
        it.put_endpoints(endpoint)
        await until(lambda: WEB in it.proxy.listeners)
        client = await it.connect()
        backend = await endpoint.accept()
        await client.say(b"12345")
        await backend.hear(5)
        text = _metrics(it.stats)
        labels = 'namespace="default",port="http",service="web"'
        for line in (
            "podium_proxy_listeners 1.0",
            f"podium_proxy_connections_active{{{labels}}} 1.0",
            f"podium_proxy_connections_total{{{labels}}} 1.0",
            f'podium_proxy_bytes_total{{direction="to-endpoints",{labels}}} 5.0',
        ):
            assert line in text
        for closing in (client, backend, endpoint):
            closing.close()


def _metrics(stats: Stats) -> str:
    metrics = Metrics()
    metrics.register(Exposition(lambda: stats))
    return metrics.render().decode()
