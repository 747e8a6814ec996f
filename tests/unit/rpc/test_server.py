"""The server over real connections: who is refused, what is carried, how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.actor.clock import SystemClock
from cluster.api.errors import (
    ApiError,
    Conflict,
    DeadlineExceeded,
    Expired,
    FieldError,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc import servicer
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity, issue
from cluster.rpc.server import COMMON_METHODS, RpcServer
from cluster.rpc.servicer import cluster_service
from cluster.rpc.stream import ResponseStream
from cluster.rpc.stub import ClusterStub
from tests.kit.clock import VirtualClock
from tests.unit.rpc.conftest import HOST, Authority, ScriptedHandler

TIMEOUT_S = 20.0


class _Past(SystemClock):
    def wall(self) -> float:
        return super().wall() - 7200


async def _get(address: str, credentials: Credentials) -> wire.GetResponse:
    channels = Channels(address, credentials)
    try:
        return await ClusterStub(channels).get(wire.GetRequest(kind="Pod", name="a"), TIMEOUT_S)
    finally:
        await channels.close()


@pytest.fixture
async def channels(address: str, authority: Authority) -> AsyncIterator[Channels]:
    channels = Channels(address, authority.issue("admin"))
    yield channels
    await channels.close()


@pytest.fixture
def stub(channels: Channels) -> ClusterStub:
    return ClusterStub(channels)


# --- Who is refused


async def test_the_caller_is_who_the_certificate_says(
    address: str, authority: Authority, handler: ScriptedHandler
) -> None:
    await _get(address, authority.issue("admin"))
    await _get(address, authority.issue("node:node-1"))
    assert handler.callers == ["admin", "node:node-1"]
    assert ("node:node-1", "/cluster.pb.v1.Cluster/Get", wire.GetRequest) in authority.asked


async def test_without_a_certificate_nobody_gets_in(address: str, authority: Authority) -> None:
    tls = grpc.ssl_channel_credentials(root_certificates=authority.issue("admin").ca)
    async with grpc.aio.secure_channel(address, tls) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_tls_nobody_gets_in(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_authority_with_the_same_names_is_still_another_one(
    address: str, authority: Authority, handler: ScriptedHandler, tmp_path: Path
) -> None:
    ours = authority.issue("admin")
    rogue = Authority(tmp_path / "rogue", "demo").issue("admin")
    with pytest.raises(Unavailable):
        await _get(address, Credentials(ours.ca, rogue.certificate, rogue.key))
    assert handler.callers == []


async def test_a_client_does_not_talk_to_a_server_of_another_authority(
    address: str, handler: ScriptedHandler, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable):
        await _get(address, Authority(tmp_path / "rogue", "demo").issue("admin"))
    assert handler.callers == []


async def test_a_certificate_for_calling_only_cannot_serve(authority: Authority, handler: ScriptedHandler) -> None:
    impostor = RpcServer(f"{HOST}:0", authority.issue("node:bad"), [cluster_service(handler)], authority.authorize)
    address = await impostor.start()
    with pytest.raises(Unavailable):
        await _get(address, authority.issue("admin"))
    await impostor.stop(0)


async def test_an_expired_certificate_is_refused(address: str, authority: Authority) -> None:
    expired = issue(
        authority.directory / "ca", authority.directory / "old", Identity("admin"), lifetime_s=3600, clock=_Past()
    )
    with pytest.raises(Unavailable):
        await _get(address, expired)


async def test_a_clock_that_was_set_back_by_a_time_zone_locks_nobody_out(address: str, authority: Authority) -> None:
    """As if the certificate had been made 14 hours from now."""
    later = VirtualClock(wall_s=SystemClock().wall() + 14 * 3600)
    early = issue(authority.directory / "ca", authority.directory / "early", Identity("admin"), clock=later)
    await _get(address, early)


async def test_a_certificate_of_another_cluster_is_refused(authority: Authority, handler: ScriptedHandler) -> None:
    other = RpcServer(f"{HOST}:0", authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    address = await other.start()
    # Signed by the right authority, but for another cluster: as if one authority served two.
    strange = _issue_with_uri(authority, "spiffe://elsewhere/admin")
    with pytest.raises(Unauthenticated, match='cluster "elsewhere"'):
        await _get(address, strange)
    with pytest.raises(Unauthenticated):
        await _get(address, _issue_with_uri(authority, "spiffe://demo/janitor"))
    with pytest.raises(Unauthenticated, match="names no identity"):
        await _get(address, _issue_with_uri(authority, "https://demo/admin"))
    assert handler.callers == []
    await other.stop(0)


def _issue_with_uri(authority: Authority, uri: str) -> Credentials:
    class Fake(Identity):
        def uri(self, cluster: str) -> str:
            return uri

    return issue(authority.directory / "ca", authority.directory / "fake", Fake("admin"))


async def test_what_no_rule_allows_is_forbidden_for_every_method(address: str, authority: Authority) -> None:
    authority.denied.add("proxy")
    channels = Channels(address, authority.issue("proxy"))
    stub = ClusterStub(channels)
    with pytest.raises(Forbidden, match="proxy may not call /cluster"):
        await stub.get(wire.GetRequest(), TIMEOUT_S)
    with pytest.raises(Forbidden):
        await stub.watch(wire.WatchRequest()).next(TIMEOUT_S)
    for call in (
        health_pb2_grpc.HealthStub(channels.unary).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S),
        reflection_pb2_grpc.ServerReflectionStub(channels.unary)
        .ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=TIMEOUT_S)
        .read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await channels.close()
    assert {method for _, method, _ in authority.asked} <= {*COMMON_METHODS, *_cluster_methods()}


def _cluster_methods() -> set[str]:
    service = wire.DESCRIPTOR.services_by_name["Cluster"]
    return {f"/{service.full_name}/{method.name}" for method in service.methods}


def test_every_method_of_every_service_is_listed(authority: Authority, handler: ScriptedHandler) -> None:
    server = RpcServer(f"{HOST}:0", authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    assert set(server.methods) == _cluster_methods() | set(COMMON_METHODS)


# --- Health and reflection


async def test_health_says_serving_for_the_server_and_each_service(channels: Channels, server: RpcServer) -> None:
    health = health_pb2_grpc.HealthStub(channels.unary)
    for name in ("", "cluster.pb.v1.Cluster"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    stopping = asyncio.ensure_future(server.stop(1.0))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await stopping


async def test_reflection_tells_the_services_and_their_files(channels: Channels) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channels.unary)
    call = stub.ServerReflectionInfo(timeout=TIMEOUT_S)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert {"cluster.pb.v1.Cluster", "grpc.health.v1.Health"} <= names
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="cluster.pb.v1.Cluster"))
    files = (await call.read()).file_descriptor_response.file_descriptor_proto
    assert any(FileDescriptorProto.FromString(file).name == "cluster/pb/v1/cluster.proto" for file in files)
    await call.done_writing()


# --- What is carried


async def test_errors_arrive_as_they_were_raised(stub: ClusterStub, handler: ScriptedHandler) -> None:
    raised: list[ApiError] = [
        NotFound('pods "ä" not found'),
        NotFound(""),
        Conflict("a" * 700),
        Invalid("bad", causes=[FieldError("spec.replicas", "must not be negative")]),
        Overloaded("busy", retry_after_s=3),
    ]
    for error in raised:

        async def fail(request: wire.GetRequest, error: ApiError = error) -> bytes:
            raise error

        handler.on_get = fail
        with pytest.raises(type(error)) as caught:
            await stub.get(wire.GetRequest(), TIMEOUT_S)
        assert caught.value.message == error.message
        assert caught.value.causes == error.causes
        assert caught.value.retry_after_s == error.retry_after_s


async def test_the_longest_error_still_arrives(stub: ClusterStub, handler: ScriptedHandler) -> None:
    async def fail(request: wire.GetRequest) -> bytes:
        raise Invalid("語" * 10_000, causes=[FieldError("x" * 100, "語" * 100) for _ in range(100)])

    handler.on_get = fail
    with pytest.raises(Invalid) as caught:
        await stub.get(wire.GetRequest(), TIMEOUT_S)
    assert caught.value.message == "語" * 700
    assert caught.value.causes[-1].message.endswith(" more")


async def test_a_bug_in_a_handler_is_an_internal_error_and_tells_no_secrets(
    stub: ClusterStub, handler: ScriptedHandler
) -> None:
    async def fail(request: wire.GetRequest) -> bytes:
        raise ValueError("password=hunter2")

    handler.on_get = fail
    with pytest.raises(Internal) as caught:
        await stub.get(wire.GetRequest(), TIMEOUT_S)
    assert "hunter2" not in str(caught.value)


async def test_bytes_are_sent_as_they_are(stub: ClusterStub, handler: ScriptedHandler) -> None:
    async def answer(request: wire.GetRequest) -> bytes:
        return wire.GetResponse(revision=77).SerializeToString()

    handler.on_get = answer
    assert (await stub.get(wire.GetRequest(), TIMEOUT_S)).revision == 77


def test_two_encoded_batches_end_to_end_are_one() -> None:
    first = wire.WatchBatch(events=[wire.WatchEvent(revision=1)], store_id="s")
    second = wire.WatchBatch(events=[wire.WatchEvent(revision=2)])

    joined = wire.WatchBatch.FromString(first.SerializeToString() + second.SerializeToString())
    assert [event.revision for event in joined.events] == [1, 2]
    assert joined.store_id == "s"


async def test_a_call_without_an_answer_ends_at_its_deadline(stub: ClusterStub, handler: ScriptedHandler) -> None:
    async def hang(request: wire.GetRequest) -> bytes:
        await asyncio.Event().wait()
        return b""

    handler.on_get = hang
    with pytest.raises(DeadlineExceeded, match="did not answer in the time"):
        await stub.get(wire.GetRequest(), 0.05)


async def test_closing_the_client_ends_its_calls_with_unavailable(
    channels: Channels, stub: ClusterStub, handler: ScriptedHandler
) -> None:
    arrived = asyncio.Event()

    async def hang(request: wire.GetRequest) -> bytes:
        arrived.set()
        await asyncio.Event().wait()
        return b""

    handler.on_get = hang
    call = asyncio.ensure_future(stub.get(wire.GetRequest(), TIMEOUT_S))
    await arrived.wait()
    await channels.close()
    with pytest.raises(Unavailable):
        await call
    with pytest.raises(Unavailable):
        await stub.get(wire.GetRequest(), TIMEOUT_S)


async def test_a_request_that_is_too_large_is_refused(stub: ClusterStub) -> None:
    with pytest.raises(Overloaded):
        await stub.get(wire.GetRequest(name="x" * (5 * 1024 * 1024)), TIMEOUT_S)


# --- Streams


async def test_a_stream_delivers_in_order_and_then_its_error(stub: ClusterStub, handler: ScriptedHandler) -> None:
    handler.batches = [wire.WatchBatch(events=[wire.WatchEvent(revision=n)]) for n in range(100)]
    handler.after_batches = Expired("too old")
    stream = stub.watch(wire.WatchRequest())
    found = []
    for _ in range(100):
        batch = await stream.next(TIMEOUT_S)
        assert batch is not None
        found.append(batch.events[0].revision)
    assert found == list(range(100))
    with pytest.raises(Expired, match="too old"):
        await stream.next(TIMEOUT_S)
    with pytest.raises(Expired):
        await stream.next(TIMEOUT_S)
    await stream.close()


async def test_leaving_a_stream_closes_the_handler(stub: ClusterStub, handler: ScriptedHandler) -> None:
    handler.batches = [wire.WatchBatch(store_id="s")]
    stream = stub.watch(wire.WatchRequest())
    await stream.next(TIMEOUT_S)
    await stream.close()
    async with asyncio.timeout(TIMEOUT_S):
        await handler.watch_closed.wait()


async def test_silence_is_noticed_and_the_call_goes_on(stub: ClusterStub, handler: ScriptedHandler) -> None:
    stream = stub.watch(wire.WatchRequest())
    with pytest.raises(Unavailable, match="heard nothing"):
        await stream.next(0.02)
    handler.blocked.clear()
    assert not handler.watch_closed.is_set()
    await stream.close()


async def test_a_reader_that_stalls_holds_the_server_back(stub: ClusterStub, handler: ScriptedHandler) -> None:
    big = wire.WatchBatch(store_id="x" * 100_000)
    handler.batches = [big] * 1000
    stream = stub.watch(wire.WatchRequest())
    assert await stream.next(TIMEOUT_S) is not None
    before = -1
    while handler.sent != before:
        # Until the server makes no more progress.
        before = handler.sent
        await asyncio.sleep(0.1)
    assert handler.sent < 100
    await stream.close()
    async with asyncio.timeout(TIMEOUT_S):
        await handler.watch_closed.wait()


async def test_a_watcher_that_takes_nothing_is_closed_in_the_end(
    authority: Authority, handler: ScriptedHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "WATCH_WRITE_TIMEOUT_S", 0.05)
    handler.batches = [wire.WatchBatch(store_id="x" * 100_000)] * 1000
    server = RpcServer(f"{HOST}:0", authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    channels = Channels(await server.start(), authority.issue("admin"))
    stream = ClusterStub(channels).watch(wire.WatchRequest())
    async with asyncio.timeout(TIMEOUT_S):
        await handler.watch_closed.wait()
    with pytest.raises(Expired, match="taken nothing"):
        await _read_to_the_end(stream)
    await stream.close()
    await channels.close()
    await server.stop(0.1)


async def _read_to_the_end(stream: ResponseStream[wire.WatchBatch]) -> None:
    while await stream.next(TIMEOUT_S) is not None:
        pass


# --- Start and stop


async def test_a_port_that_is_taken_is_an_error(address: str, authority: Authority, handler: ScriptedHandler) -> None:
    second = RpcServer(address, authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    with pytest.raises(OSError, match="cannot listen"):
        await second.start()


async def test_stop_ends_streams_with_a_last_word_and_lets_calls_finish(
    stub: ClusterStub, handler: ScriptedHandler, server: RpcServer
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: wire.GetRequest) -> wire.GetResponse:
        arrived.set()
        await go_on.wait()
        return wire.GetResponse(revision=5)

    handler.on_get = slow
    handler.batches = [wire.WatchBatch(store_id="s")]
    stream = stub.watch(wire.WatchRequest())
    await stream.next(TIMEOUT_S)
    call = asyncio.ensure_future(stub.get(wire.GetRequest(), TIMEOUT_S))
    await arrived.wait()
    stopping = asyncio.ensure_future(server.stop(TIMEOUT_S))
    with pytest.raises(Unavailable, match="stopping"):
        await stream.next(TIMEOUT_S)
    assert handler.watch_closed.is_set()
    go_on.set()
    assert (await call).revision == 5
    await stopping
    await server.stop()
    await stream.close()


async def test_a_client_finds_a_restarted_server_again(
    stub: ClusterStub, handler: ScriptedHandler, server: RpcServer, address: str, authority: Authority
) -> None:
    await stub.get(wire.GetRequest(), TIMEOUT_S)
    await server.stop(0)
    with pytest.raises(Unavailable):
        await stub.get(wire.GetRequest(), TIMEOUT_S)
    second = RpcServer(address, authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    assert await second.start() == address
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await stub.get(wire.GetRequest(), TIMEOUT_S)
                break
            except Unavailable:
                await asyncio.sleep(0.02)
    await second.stop(0)
