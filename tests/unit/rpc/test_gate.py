"""Calls that a master hands on, streams that their handlers end, errors that are completed at the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import ApiError, Expired, Forbidden, NotFound
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Identity
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import END_STREAM, FORWARDED, ON_BEHALF_OF, cluster_service
from cluster.rpc.stub import ClusterStub
from tests.unit.rpc.conftest import HOST, Authority, ScriptedHandler
from tests.unit.rpc.test_server import _read_to_the_end

TIMEOUT_S = 20.0


class Listening(ScriptedHandler):
    """Notes who writes, and whether another master said so."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, bool]] = []

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse | bytes:
        self.written.append((str(identity), FORWARDED.get()))
        return wire.WriteResponse(revision=7)


@pytest.fixture
def handler() -> Listening:
    return Listening()


async def write(address: str, authority: Authority, who: str, on_behalf_of: str) -> wire.WriteResponse:
    channels = Channels(address, authority.issue(who))
    try:
        stub = ClusterStub(channels, [(ON_BEHALF_OF, on_behalf_of)])
        return await stub.write(wire.WriteRequest(), TIMEOUT_S)
    finally:
        await channels.close()


async def test_a_master_may_call_on_behalf_of_others(address: str, authority: Authority, handler: Listening) -> None:
    assert (await write(address, authority, "master", "node:n1")).revision == 7
    assert handler.written == [("node:n1", True)]
    assert [who for who, method, _ in authority.asked if method.endswith("/Write")] == ["node:n1"], "its rights count"
    authority.denied.add("node:n1")
    with pytest.raises(Forbidden, match="node:n1 may not call"):
        await write(address, authority, "master", "node:n1")


@pytest.mark.parametrize("who", ["admin", "node:n1", "controllers", "scheduler", "proxy"])
async def test_nobody_else_may(address: str, authority: Authority, handler: Listening, who: str) -> None:
    for whom in ("admin", who, "master"):
        with pytest.raises(Forbidden, match=f"{who} may not call on behalf of others"):
            await write(address, authority, who, whom)
    assert handler.written == []


async def test_on_behalf_of_nobody_is_refused(address: str, authority: Authority, handler: Listening) -> None:
    for whom in ("", "root", "node:", "admin:x"):
        with pytest.raises(Forbidden, match="on behalf of nobody"):
            await write(address, authority, "master", whom)
    assert handler.written == []


async def test_only_what_the_leader_must_do_is_handed_on(address: str, authority: Authority) -> None:
    channels = Channels(address, authority.issue("master"))
    stub = ClusterStub(channels, [(ON_BEHALF_OF, "admin")])
    with pytest.raises(Forbidden, match="Get is not called on behalf of others"):
        await stub.get(wire.GetRequest(kind="Pod", name="a"), TIMEOUT_S)
    await channels.close()


async def test_who_serves_kubernetes_api_calls_for_those_who_call_it(
    address: str, authority: Authority, handler: Listening
) -> None:
    for whom in ("admin", "node:n1", "controllers"):
        assert (await write(address, authority, "kubernetes", whom)).revision == 7
    assert handler.written == [("admin", False), ("node:n1", False), ("controllers", False)], "may be handed on again"
    authority.denied.add("node:n1")
    with pytest.raises(Forbidden, match="node:n1 may not call"):
        await write(address, authority, "kubernetes", "node:n1")


@pytest.mark.parametrize("whom", ["master", "kubernetes"])
async def test_but_never_for_a_master_or_for_itself(
    address: str, authority: Authority, handler: Listening, whom: str
) -> None:
    with pytest.raises(Forbidden, match=f"kubernetes may not call on behalf of {whom}"):
        await write(address, authority, "kubernetes", whom)
    assert handler.written == []


async def test_and_nothing_that_this_api_does_not_need(address: str, authority: Authority) -> None:
    channels = Channels(address, authority.issue("kubernetes"))
    stub = ClusterStub(channels, [(ON_BEHALF_OF, "admin")])
    for call, request in (("Undo", wire.UndoRequest()), ("History", wire.HistoryRequest())):
        with pytest.raises(Forbidden, match=f"{call} is not called on behalf of others"):
            await getattr(stub, call.lower())(request, TIMEOUT_S)
    await channels.close()


class Ending(ScriptedHandler):
    """Ends its streams itself, while a message is on its way."""

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        end = END_STREAM.get()
        assert end is not None
        try:
            while True:
                self.sent += 1
                if self.sent == 500:
                    error = Expired("too slow")
                    error.last_revision = 41
                    asyncio.get_running_loop().call_later(0.05, end, error)
                yield wire.WatchBatch(store_id="x" * 100_000).SerializeToString()
        finally:
            self.watch_closed.set()


async def test_a_handler_ends_its_stream_while_nobody_takes_its_message(authority: Authority) -> None:
    handler = Ending()
    handler.sent = 499
    server = RpcServer(f"{HOST}:0", authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    channels = Channels(await server.start(), authority.issue("admin"))
    stream = ClusterStub(channels).watch(wire.WatchRequest())
    async with asyncio.timeout(TIMEOUT_S):
        await handler.watch_closed.wait()
    with pytest.raises(Expired, match="too slow") as caught:
        await _read_to_the_end(stream)
    assert caught.value.last_revision == 41
    await stream.close()
    await channels.close()
    await server.stop(0.1)


async def test_errors_are_completed_at_the_door(authority: Authority, handler: Listening) -> None:
    def complete(error: ApiError) -> None:
        error.store_id, error.revision = "s-1", 12

    async def missing(request: wire.GetRequest) -> wire.GetResponse:
        raise NotFound("no such pod") if request.name == "a" else ZeroDivisionError

    handler.on_get = missing
    services = [cluster_service(handler)]
    server = RpcServer(f"{HOST}:0", authority.issue("master", HOST), services, authority.authorize, complete)
    channels = Channels(await server.start(), authority.issue("admin"))
    stub = ClusterStub(channels)
    for name in ("a", "b"):
        with pytest.raises(ApiError) as caught:
            await stub.get(wire.GetRequest(kind="Pod", name=name), TIMEOUT_S)
        assert (caught.value.store_id, caught.value.revision) == ("s-1", 12)
    authority.denied.add("admin")
    with pytest.raises(Forbidden) as refused:
        await stub.get(wire.GetRequest(kind="Pod", name="a"), TIMEOUT_S)
    assert refused.value.revision == 12
    await channels.close()
    await server.stop(0.1)
