"""Hollow nodes against a real master: what they need they may, over the wire and by their certificate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.actor.clock import SystemClock
from cluster.actor.supervisor import Supervisor
from cluster.api import hollow
from cluster.api.conditions import is_node_ready, is_pod_ready
from cluster.api.errors import Forbidden
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.config.profiles import PROFILES
from cluster.master.server import build
from cluster.master.settings import MasterSettings
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity, issue, make_ca
from node_agent.hollow.fleet import Fleet
from node_agent.hollow.registry import TakenName
from node_agent.hollow.settings import HollowSettings
from node_agent.node_object import Machine
from tests.kit.ports import free_port
from tests.unit.node_agent.kit import make_pod

HOST = "127.0.0.1"
LIMIT_S = 20.0


class Cluster:
    """A master in this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_ca(directory / "ca", "hollow")
        issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        self._address = f"{HOST}:{free_port(HOST)}"  # its next life is found there, too
        self._clients: list[GrpcClusterClient] = []
        self._fleets: list[Fleet] = []
        self._supervisor: Supervisor | None = None

    async def start(self) -> None:
        settings = MasterSettings(
            listen=self._address,
            dir=self.directory / "store",
            credentials=self.directory / "master",
            profile="test",
            stop_grace_s=0.1,
        )
        self._supervisor = build(settings)
        await self._supervisor.start()

    async def stop_master(self) -> None:
        assert self._supervisor is not None
        await self._supervisor.stop()

    async def stop(self) -> None:
        for fleet in self._fleets:
            await fleet.stop()
        for client in self._clients:
            await client.close()
        await self.stop_master()

    def client(self, identity: str = "admin") -> GrpcClusterClient:
        credentials = issue(self.directory / "ca", self.directory / identity, Identity.parse(identity))
        self._clients.append(GrpcClusterClient(self._address, credentials))
        return self._clients[-1]

    def fleet(self, count: int, prefix: str = "h", **settings: Any) -> Fleet:
        made = HollowSettings(
            master=self._address,
            listen=f"{HOST}:4711",
            credentials=self.directory,
            profile=PROFILES["test"],
            prefix=prefix,
            count=count,
            **settings,
        )
        machine = Machine.read(self.directory)
        fleet = Fleet(made, self.client(f"hollow:{prefix}"), machine, clock=SystemClock(), rng=random.Random(1))
        self._fleets.append(fleet)
        return fleet


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


async def until(client: GrpcClusterClient, kind: type[Any], condition: Callable[[list[Any]], bool]) -> list[Any]:
    """The objects of a kind, once they are so."""
    items: list[Any] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            while not condition(items := (await client.list(kind)).items):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it did not come so far: {items[:2]}") from None
    return items


async def put_pods(client: GrpcClusterClient, count: int, nodes: int) -> list[core.Pod]:
    pods = [make_pod(f"p{number}", node="") for number in range(count)]
    writes = [operations.create(pod) for pod in pods]
    writes += [operations.bind(key_of(pod), f"h-{number % nodes + 1}") for number, pod in enumerate(pods)]
    for outcome in (await client.write(writes)).outcomes:
        outcome.unwrap()
    return pods


async def test_nodes_and_pods_from_end_to_end(cluster: Cluster) -> None:
    admin, fleet = cluster.client(), cluster.fleet(30)
    await fleet.start()
    nodes = await until(admin, core.Node, lambda nodes: len(nodes) == 30)
    assert all(is_node_ready(node) and hollow.prefix_of(node) == "h" for node in nodes)
    assert len({node.spec.podCIDR for node in nodes}) == 30
    pods = await put_pods(admin, 120, 30)
    running = await until(admin, core.Pod, lambda pods: all(is_pod_ready(pod) for pod in pods))
    assert len({pod.status.podIP for pod in running}) == 120
    assert {pod.metadata.actor for pod in running} == {"hollow:h"}
    await admin.write([operations.delete(key_of(pod)) for pod in pods])
    await until(admin, core.Pod, lambda pods: not pods)
    await admin.write([operations.delete(Key("Node", "", "h-7"))])
    await until(admin, core.Node, lambda nodes: len(nodes) == 30 and all(map(is_node_ready, nodes)))
    await fleet.stop()
    assert fleet.nodes_left == 0
    assert (await admin.list(core.Node)).items == []


async def test_a_master_that_comes_back_finds_them_as_they_were(cluster: Cluster) -> None:
    fleet = cluster.fleet(10)
    await fleet.start()
    await put_pods(cluster.client(), 10, 10)
    await cluster.stop_master()
    await cluster.start()
    admin = cluster.client()
    await until(admin, core.Pod, lambda pods: all(is_pod_ready(pod) for pod in pods))
    await admin.write([operations.delete(Key("Pod", "default", "p3"))])
    await until(admin, core.Pod, lambda pods: len(pods) == 9)


async def test_a_node_of_such_a_name_that_is_no_hollow_one_is_left_alone(cluster: Cluster) -> None:
    admin = cluster.client()
    await admin.write([operations.create(core.Node(metadata=core.ObjectMeta(name="h-2")))])
    fleet = cluster.fleet(3)
    with pytest.raises(TakenName, match=r'node "h-2" is there and is not to be played: .*Choose another --prefix'):
        await fleet.start()
    before = await admin.get(core.Node, "h-2")
    await fleet.stop()
    assert await admin.get(core.Node, "h-2") == before
    assert len((await admin.list(core.Node)).items) == 1


async def test_two_prefixes_side_by_side(cluster: Cluster) -> None:
    admin = cluster.client()
    fleets = [cluster.fleet(2, prefix) for prefix in ("h", "h-x", "g")]
    for fleet in fleets:
        await fleet.start()
    nodes = await until(admin, core.Node, lambda nodes: len(nodes) == 6)
    assert {hollow.prefix_of(node) for node in nodes} == {"h", "h-x", "g"}
    (outcome,) = (await fleets[0].client.write([operations.delete(Key("Node", "", "h-x-1"), uid="x")])).outcomes
    assert isinstance(outcome.error, Forbidden), "its name begins with h-, too"
    await fleets[0].stop()
    left = (await admin.list(core.Node)).items
    assert {hollow.prefix_of(node) for node in left} == {"h-x", "g"}
