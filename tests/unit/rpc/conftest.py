"""A cluster's certificates, a scripted handler, and a server that serves it over real mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.api.errors import Forbidden
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from tests.kit.unserved import Unserved

HOST = "127.0.0.1"


class ScriptedHandler(Unserved):
    """A ClusterHandler whose answers are set by the test."""

    def __init__(self) -> None:
        self.callers: list[str] = []
        self.on_get: Callable[[wire.GetRequest], Awaitable[wire.GetResponse | bytes]] | None = None
        self.batches: list[wire.WatchBatch] = []
        self.after_batches: Exception | None = None
        self.sent = 0
        self.watch_closed = asyncio.Event()
        self.blocked = asyncio.Event()

    async def get(self, identity: Identity, request: wire.GetRequest) -> wire.GetResponse | bytes:
        self.callers.append(str(identity))
        return wire.GetResponse(revision=1) if self.on_get is None else await self.on_get(request)

    async def list(self, identity: Identity, request: wire.ListRequest) -> wire.ListResponse | bytes:
        return wire.ListResponse()

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        try:
            for batch in self.batches:
                yield batch.SerializeToString()
                self.sent += 1
            if self.after_batches is not None:
                raise self.after_batches
            self.blocked.set()
            await asyncio.Event().wait()
        finally:
            self.watch_closed.set()

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse | bytes:
        return wire.WriteResponse()

    async def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncIterator[wire.HeartbeatResponse]:
        async for _ in requests:
            yield wire.HeartbeatResponse()

    async def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncIterator[wire.HeartbeatBatch]:
        yield wire.HeartbeatBatch(store_id="s")


class Authority:
    """Makes credentials; `allow` and `denied` steer what the server's rule says."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self.directory = directory
        self.cluster = cluster
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str, type[Message] | None]] = []
        make_ca(directory / "ca", cluster)

    def issue(self, identity: str, *hosts: str, lifetime_s: float = 3600.0) -> Credentials:
        name = identity.replace(":", "-")
        return issue(
            self.directory / "ca",
            self.directory / name,
            Identity.parse(identity),
            hosts=hosts,
            lifetime_s=lifetime_s,
        )

    def authorize(self, identity: Identity, method: str, message: Message | None) -> None:
        self.asked.append((str(identity), method, type(message) if message is not None else None))
        if str(identity) in self.denied:
            raise Forbidden(f"{identity} may not call {method}")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki", "demo")


@pytest.fixture
def handler() -> ScriptedHandler:
    return ScriptedHandler()


@pytest.fixture
async def server(authority: Authority, handler: ScriptedHandler) -> AsyncIterator[RpcServer]:
    server = RpcServer(f"{HOST}:0", authority.issue("master", HOST), [cluster_service(handler)], authority.authorize)
    yield server
    await server.stop(0.1)


@pytest.fixture
async def address(server: RpcServer) -> str:
    return await server.start()
