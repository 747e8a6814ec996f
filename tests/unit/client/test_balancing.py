"""A client that balances by itself: a live set of endpoints, and a gRPC channel over all of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import pytest

from cluster.api.errors import DeadlineExceeded, Forbidden, Unavailable
from cluster.client.balancing import ServiceEndpoints, balanced_channel
from cluster.client.choosing import ByKey
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster

PATIENCE_S = 20.0


def service(name: str = "web") -> core.Service:
    return core.Service(
        metadata=core.ObjectMeta(name=name, namespace="default"),
        spec=core.ServiceSpec(type="ClusterIP", ports=[core.ServicePort(name="http", port=80)]),
    )


def behind(*places: str, leaving: tuple[str, ...] = (), port: int = 8080, name: str = "web") -> core.Endpoints:
    """Places as "address" or "address=shard"."""

    def address(place: str) -> core.EndpointAddress:
        ip, _, shard = place.partition("=")
        return core.EndpointAddress(ip=ip, labels={"podium.dev/shard": shard} if shard else {})

    subset = core.EndpointSubset(
        addresses=map(address, places),
        terminatingAddresses=map(address, leaving),
        ports=[core.EndpointPort(name="http", port=port, protocol="TCP")],
    )
    return core.Endpoints(metadata=core.ObjectMeta(name=name, namespace="default"), subsets=[subset])


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(self.clock, random.Random(1))

    def endpoints(self, **more: object) -> ServiceEndpoints:
        client = self.cluster.client()
        return ServiceEndpoints(client, "web", clock=self.clock, rng=random.Random(2), **more)  # type: ignore[arg-type]


async def settled(world: World, seconds: float = 0.0) -> None:
    """Everything that was to happen has happened."""
    await world.clock.run_for(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_set_follows_the_service() -> None:
    world = World()
    async with world.endpoints(port="http") as web:
        with pytest.raises(Unavailable, match="has not answered yet"):
            web.pick()
        await settled(world)
        with pytest.raises(Unavailable, match="there is none of that name"):
            web.pick()
        world.cluster.put(service())
        await settled(world)
        with pytest.raises(Unavailable, match="no endpoint that serves port http is ready, of 0 in all"):
            web.pick()
        world.cluster.put(behind("127.0.0.1", "127.0.0.2"))
        await web.wait_ready(1.0)
        assert [web.pick().address for _ in range(4)] == ["127.0.0.1", "127.0.0.2"] * 2
        world.cluster.put(behind("127.0.0.2", leaving=("127.0.0.1",)))
        await settled(world)
        assert {web.pick().address for _ in range(4)} == {"127.0.0.2"}
        world.cluster.put(behind(leaving=("127.0.0.1",)))
        await settled(world)
        assert web.pick().address == "127.0.0.1", "who still serves, when nobody else is left"


async def test_the_last_set_stands_while_the_master_is_away() -> None:
    world = World()
    world.cluster.put(service())
    world.cluster.put(behind("127.0.0.1"))
    async with world.endpoints() as web:
        await web.wait_ready(1.0)
        world.cluster.fail_next(Unavailable("away"), times=3)
        world.cluster.break_watches()
        await settled(world)
        assert web.pick().address == "127.0.0.1"
        world.cluster.put(behind("127.0.0.2"))
        await settled(world, 10.0)
        assert web.pick().address == "127.0.0.2"


async def test_who_may_not_ask_is_told_so() -> None:
    world = World()
    world.cluster.fail_next(Forbidden("you may not"))
    async with world.endpoints() as web:
        with pytest.raises(Forbidden):
            await web.wait_ready(10.0)
        with pytest.raises(Forbidden):
            web.pick()


async def test_waiting_has_an_end() -> None:
    world = World()
    world.cluster.put(service())
    async with world.endpoints() as web:
        waiting = asyncio.ensure_future(web.wait_ready(5.0))
        await settled(world, 4.0)
        assert not waiting.done()
        await settled(world, 2.0)
        with pytest.raises(DeadlineExceeded, match="no endpoint is ready, of 0 in all, for 5 s"):
            await waiting


async def test_what_cannot_be_reached_is_avoided_for_a_while() -> None:
    world = World()
    world.cluster.put(service())
    world.cluster.put(behind("127.0.0.1", "127.0.0.2"))
    async with world.endpoints(avoid_s=1.0) as web:
        await web.wait_ready(1.0)
        with web.use() as endpoint:
            assert (endpoint.address, web.load(endpoint)) == ("127.0.0.1", 1)
        assert web.load(endpoint) == 0
        assert web.pick().address == "127.0.0.2"
        with pytest.raises(ConnectionRefusedError), web.use():
            raise ConnectionRefusedError
        assert {web.pick().address for _ in range(4)} == {"127.0.0.2"}
        with pytest.raises(OSError), web.use():
            raise OSError
        assert {web.pick().address for _ in range(4)} == {"127.0.0.1", "127.0.0.2"}, "rather these than none"
        await settled(world, 1.1)
        assert {web.pick().address for _ in range(4)} == {"127.0.0.1", "127.0.0.2"}
        with pytest.raises(ValueError, match="own"), web.use() as endpoint:
            raise ValueError("its own mistake")
        assert {web.pick().address for _ in range(4)} == {"127.0.0.1", "127.0.0.2"}


async def test_shards_and_keys() -> None:
    world = World()
    world.cluster.put(service())
    world.cluster.put(behind("127.0.0.1=a", "127.0.0.2=b", "127.0.0.3=b"))
    async with world.endpoints(choice=ByKey()) as web:
        await web.wait_ready(1.0)
        assert web.pick(shard="a").address == "127.0.0.1"
        assert {web.pick(key=f"k{n}", shard="b").address for n in range(50)} == {"127.0.0.2", "127.0.0.3"}
        assert len({web.pick(key="k").address for _ in range(50)}) == 1
        with pytest.raises(Unavailable, match="no endpoint of shard c is ready, of 3 in all"):
            web.pick(shard="c")


# --- gRPC


class Greeter:
    """Servers on loopback addresses, which say who they are."""

    def __init__(self) -> None:
        self.port = 0
        self.servers: dict[str, grpc.aio.Server] = {}
        self.holding = asyncio.Event()
        self.let_go = asyncio.Event()

    async def start(self, address: str) -> None:
        server = grpc.aio.server()

        async def who(request: bytes, context: object) -> bytes:
            if request == b"hold":
                self.holding.set()
                await self.let_go.wait()
            return address.encode()

        async def count(request: bytes, context: object) -> AsyncIterator[bytes]:
            for _ in range(3):
                yield address.encode()

        handlers = {
            "Who": grpc.unary_unary_rpc_method_handler(who),
            "Count": grpc.unary_stream_rpc_method_handler(count),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", handlers),))
        self.port = server.add_insecure_port(f"{address}:{self.port}")
        await server.start()
        self.servers[address] = server


@asynccontextmanager
async def greeters(*addresses: str) -> AsyncIterator[tuple[MemoryCluster, Greeter]]:
    cluster, greeter = MemoryCluster(), Greeter()
    cluster.put(service())
    async with AsyncExitStack() as stack:
        for address in addresses:
            await greeter.start(address)
            stack.push_async_callback(greeter.servers[address].stop, None)
        cluster.put(behind(*addresses, port=greeter.port))
        yield cluster, greeter


async def test_each_call_goes_to_whose_turn_it_is() -> None:
    async with greeters("127.0.0.1", "127.0.0.2", "127.0.0.3") as (cluster, _):
        async with balanced_channel(cluster.client(), "web", port="http") as channel:
            who = channel.unary_unary("/Greeter/Who")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(b"")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            await ready(channel)
            answers = Counter([await who(b"", timeout=PATIENCE_S) for _ in range(30)])
            assert sorted(answers.values()) == [10, 10, 10]
            stream = channel.unary_stream("/Greeter/Count")
            assert len({each async for each in stream(b"", timeout=PATIENCE_S)}) == 1
            assert len(channel.targets) == 3
            assert channel.get_state() is grpc.ChannelConnectivity.READY
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        with pytest.raises(grpc.aio.UsageError):
            await who(b"")


async def test_calls_under_way_outlive_their_endpoint_and_connections_do_not() -> None:
    async with (
        greeters("127.0.0.1", "127.0.0.2") as (cluster, greeter),
        balanced_channel(cluster.client(), "web") as channel,
    ):
        who = channel.unary_unary("/Greeter/Who")
        await ready(channel)
        held = who(b"hold", timeout=PATIENCE_S)
        await asyncio.wait_for(greeter.holding.wait(), PATIENCE_S)
        first = (await who(b"", timeout=PATIENCE_S)).decode()
        other = next(address for address in greeter.servers if address != first)
        cluster.put(behind(first, port=greeter.port))
        async with asyncio.timeout(PATIENCE_S):
            while {await who(b"", timeout=PATIENCE_S) for _ in range(4)} != {first.encode()}:
                pass
        assert f"{other}:{greeter.port}" in channel.targets, "a call is under way there"
        greeter.let_go.set()
        assert (await held).decode() == other
        async with asyncio.timeout(PATIENCE_S):
            while channel.targets != [f"{first}:{greeter.port}"]:
                await asyncio.sleep(0.01)


async def test_an_endpoint_that_fails_is_avoided_and_its_calls_are_not_repeated() -> None:
    async with (
        greeters("127.0.0.1", "127.0.0.2") as (cluster, greeter),
        balanced_channel(cluster.client(), "web", avoid_s=600.0) as channel,
    ):
        who = channel.unary_unary("/Greeter/Who")
        await ready(channel)
        assert len({await who(b"", timeout=PATIENCE_S) for _ in range(4)}) == 2
        await greeter.servers["127.0.0.2"].stop(None)
        calls = [who(b"", timeout=PATIENCE_S) for _ in range(2)]
        codes = {await call.code() for call in calls}
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        for _ in range(10):  # the channel hears of it when the caller does, or a moment later
            await asyncio.sleep(0)
        assert [await who(b"", timeout=PATIENCE_S) for _ in range(10)] == [b"127.0.0.1"] * 10


async def test_a_call_says_its_key_and_its_shard() -> None:
    async with greeters("127.0.0.1", "127.0.0.2", "127.0.0.3") as (cluster, greeter):
        cluster.put(behind("127.0.0.1=a", "127.0.0.2=b", "127.0.0.3=b", port=greeter.port))
        async with balanced_channel(cluster.client(), "web", choice=ByKey()) as channel:
            who = channel.unary_unary("/Greeter/Who")
            await ready(channel)

            async def answers(*metadata: tuple[str, str]) -> set[bytes]:
                return {await who(b"", timeout=PATIENCE_S, metadata=metadata) for _ in range(5)}

            assert await answers(("podium-shard", "a")) == {b"127.0.0.1"}
            assert len(await answers(("podium-key", "u7"))) == 1
            assert len(await answers(("podium-key", "u7"), ("podium-shard", "b"))) == 1
            with pytest.raises(grpc.aio.AioRpcError, match="no endpoint of shard z is ready"):
                await answers(("podium-shard", "z"))


async def ready(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await channel.channel_ready()
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
