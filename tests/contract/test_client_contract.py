"""The contract of `ClusterClient` holds for the fake in tests and for the real master, each behind gRPC and in this
process."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.actor.clock import SystemClock
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import ClusterClient
from cluster.master.server import Master, build
from cluster.master.settings import MasterSettings
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from cluster.simulation.client import LocalClient
from cluster.store.memory import MemoryJournal
from tests.contract.client_kit import ClusterClientFactory
from tests.contract.client_listening import by_listening
from tests.contract.client_suite import ClientContract
from tests.contract.client_watches import WatchContract
from tests.kit.memory_client import MemoryCluster
from tests.kit.memory_handler import MemoryHandler
from tests.kit.watch_recorder import WatchRecorder

HOST = "127.0.0.1"


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_ca(directory / "ca", "contract")
    issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
    for name in ("admin", "controllers"):
        issue(directory / "ca", directory / name, Identity(name))
    return directory


@asynccontextmanager
async def _clients(make: Callable[[str], ClusterClient]) -> AsyncIterator[ClusterClientFactory]:
    async with AsyncExitStack() as stack:

        def factory(identity: str) -> ClusterClient:
            client = make(identity)
            stack.push_async_callback(client.close)
            return client

        yield factory


class TestMemory(ClientContract):
    @pytest.fixture
    async def cluster_client_factory(self) -> AsyncIterator[ClusterClientFactory]:
        cluster = MemoryCluster(rng=random.Random(1))
        async with _clients(cluster.client) as factory:
            yield factory


class ListeningContract(WatchContract):
    """The contract of watches, for `ClusterClient.listen`."""

    @pytest.fixture
    async def client(self, cluster_client_factory: ClusterClientFactory) -> AsyncIterator[ClusterClient]:
        recorder = WatchRecorder(cluster_client_factory("admin"))
        yield recorder.client
        await recorder.check()


class TestMemoryByListening(ListeningContract):
    @pytest.fixture
    async def cluster_client_factory(self) -> AsyncIterator[ClusterClientFactory]:
        cluster = MemoryCluster(rng=random.Random(1))
        async with _clients(lambda name: by_listening(cluster.client(name))) as factory:
            yield factory


class TestMemoryOverGrpc(ClientContract):
    @pytest.fixture
    async def cluster_client_factory(self, pki: Path) -> AsyncIterator[ClusterClientFactory]:
        handler = MemoryHandler(MemoryCluster(rng=random.Random(1)))
        server = RpcServer(f"{HOST}:0", Credentials.load(pki / "master"), [cluster_service(handler)], _allow)
        address = await server.start()
        async with _clients(lambda name: GrpcClusterClient(address, Credentials.load(pki / name))) as factory:
            yield factory
        await server.stop(0.1)


class TestMaster(ClientContract):
    @pytest.fixture
    async def cluster_client_factory(self, pki: Path, tmp_path: Path) -> AsyncIterator[ClusterClientFactory]:
        async with (
            _master(pki, tmp_path) as address,
            _clients(lambda name: GrpcClusterClient(address, Credentials.load(pki / name))) as factory,
        ):
            yield factory


class TestMasterByListening(ListeningContract):
    @pytest.fixture
    async def cluster_client_factory(self, pki: Path, tmp_path: Path) -> AsyncIterator[ClusterClientFactory]:
        async with (
            _master(pki, tmp_path) as address,
            _clients(lambda name: by_listening(GrpcClusterClient(address, Credentials.load(pki / name)))) as factory,
        ):
            yield factory


@asynccontextmanager
async def _master(pki: Path, directory: Path) -> AsyncIterator[str]:
    bound: list[str] = []
    settings = MasterSettings(
        listen=f"{HOST}:0", dir=directory / "store", credentials=pki / "master", profile="test", stop_grace_s=0.1
    )
    supervisor = build(settings, on_bound=bound.append)
    await supervisor.start()
    yield bound[0]
    await supervisor.stop()


class TestLocal(ClientContract):
    @pytest.fixture
    async def cluster_client_factory(self) -> AsyncIterator[ClusterClientFactory]:
        async with _local_clients(lambda client: client) as factory:
            yield factory


class TestLocalByListening(ListeningContract):
    @pytest.fixture
    async def cluster_client_factory(self) -> AsyncIterator[ClusterClientFactory]:
        async with _local_clients(by_listening) as factory:
            yield factory


@asynccontextmanager
async def _local_clients(as_asked: Callable[[ClusterClient], ClusterClient]) -> AsyncIterator[ClusterClientFactory]:
    clock, failures = SystemClock(), list[BaseException]()
    settings = MasterSettings("127.0.0.1:0", Path("unused"), Path("unused"), profile="test")
    master = Master(settings, MemoryJournal("store"), clock=clock, rng=random.Random(1), on_failure=failures.append)
    await master.start()
    async with _clients(lambda name: as_asked(LocalClient(master.api, Identity.parse(name), clock))) as factory:
        yield factory
    await master.stop()
    assert not failures


def _allow(identity: Identity, method: str, message: Message | None) -> None:
    """Who may do what is the master's business, and tested there."""
