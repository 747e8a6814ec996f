"""What the gRPC client adds to the contract suite: silence, restarts of the server, answers from another version."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.api.errors import Internal, Unavailable
from cluster.client import grpc_client
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.client.interface import EventType
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from tests.kit.memory_client import MemoryCluster
from tests.kit.memory_handler import MemoryHandler

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class Scene:
    def __init__(self, directory: Path) -> None:
        make_ca(directory / "ca", "demo")
        self.master = issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        self.admin: Credentials = issue(directory / "ca", directory / "admin", Identity("admin"))
        self.cluster = MemoryCluster(rng=random.Random(1))
        self.handler = MemoryHandler(self.cluster)
        self.address = f"{HOST}:0"

    async def start(self) -> None:
        self.server = RpcServer(self.address, self.master, [cluster_service(self.handler)], _allow)
        self.address = await self.server.start()

    def put(self, name: str) -> None:
        self.cluster.put(core.Pod(metadata=core.ObjectMeta(name=name)))


def _allow(identity: Identity, method: str, message: Message | None) -> None:
    pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.server.stop(0.1)


@pytest.fixture
async def client(scene: Scene) -> AsyncIterator[GrpcClusterClient]:
    client = GrpcClusterClient(scene.address, scene.admin)
    yield client
    await client.close()


async def test_a_mirror_survives_restarts_of_the_server_without_reading_all_again(
    scene: Scene, client: GrpcClusterClient
) -> None:
    informer = Informer(client, core.Pod)
    told: list[str] = []
    informer.add_handler(lambda old, new: told.append(new.metadata.name if new is not None else "gone"))
    await informer.start()
    await informer.wait_synced(PATIENCE_S)
    for number in range(3):
        await scene.server.stop(0)
        scene.put(f"p-{number}")
        await scene.start()
        await until(lambda: scene.cluster.store.revision == informer.revision)
    assert told == ["p-0", "p-1", "p-2"]
    assert informer.relists == 1
    await informer.stop()


async def test_a_rebuilt_cluster_behind_the_same_address_is_noticed(scene: Scene, client: GrpcClusterClient) -> None:
    informer = Informer(client, core.Pod)
    scene.put("old")
    await informer.start()
    await informer.wait_synced(PATIENCE_S)
    scene.cluster.replace_store()
    for name in ("new-1", "new-2"):
        scene.put(name)
    await until(lambda: sorted(pod.metadata.name for pod in informer.indexer.list()) == ["new-1", "new-2"])
    assert informer.relists == 2
    await informer.stop()


async def test_a_silent_watch_is_broken(
    scene: Scene, client: GrpcClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_client, "SILENCE_S", 0.05)
    async with client.watch(core.Pod) as batches:
        with pytest.raises(Unavailable, match="heard nothing"):
            await anext(batches)


async def test_events_of_an_unknown_type_are_passed_over(scene: Scene, client: GrpcClusterClient) -> None:
    async def watch(identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        # Type 77, and then a bookmark.
        strange = wire.WatchBatch(events=[wire.WatchEvent(revision=1)]).SerializeToString()
        yield strange.replace(b"\x0a\x02\x10\x01", b"\x0a\x04\x08\x4d\x10\x01")
        yield wire.WatchBatch(
            events=[wire.WatchEvent(type=wire.WatchEvent.BOOKMARK, revision=2)], store_id="s"
        ).SerializeToString()

    await scene.server.stop(0)
    scene.handler.watch = watch  # type: ignore[method-assign]
    await scene.start()
    async with client.watch(core.Pod) as stream, asyncio.timeout(PATIENCE_S):
        found: list[tuple[EventType, int]] = []
        while not found:
            found = [(event.type, event.revision) for event in await anext(stream)]
    assert found == [(EventType.BOOKMARK, 2)]


async def test_an_answer_that_does_not_fit_the_question_is_an_internal_error(
    scene: Scene, client: GrpcClusterClient
) -> None:
    async def write(identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse:
        return wire.WriteResponse(results=[wire.OperationResult()])

    await scene.server.stop(0)
    scene.handler.write = write  # type: ignore[method-assign]
    await scene.start()
    with pytest.raises(Internal, match="0 operations were answered with 1 results"):
        await client.write([])
