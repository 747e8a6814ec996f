"""Nodes of a process against an in-memory cluster: registered, beating, repaired, removed; and pods from end to end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.api import hollow
from cluster.api.conditions import is_node_ready, is_pod_ready, set_condition
from cluster.api.errors import Forbidden, Unavailable
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.interface import OperationOutcome, WriteOutcome
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.fleet import Fleet
from node_agent.hollow.pod import HollowPod
from node_agent.hollow.registry import TakenName
from node_agent.hollow.settings import HollowSettings
from node_agent.node_object import Machine
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster
from tests.unit.node_agent.kit import make_pod

MACHINE = Machine(2, 1 << 33, 1 << 36, "machine", "boot", "6.0", "Linux", "amd64")


class World:
    """A cluster and hollow nodes, in virtual time."""

    def __init__(self, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.admin = self.cluster.client()
        self.fleet = self.make_fleet(**settings)

    def make_fleet(self, **settings: Any) -> Fleet:
        made = HollowSettings(
            **{
                "master": "",
                "listen": "127.7.0.250:4711",
                "credentials": Path("/nowhere"),
                "profile": PROFILES["test"],
                "prefix": "h",
                "count": 3,
                **settings,
            }
        )
        client = self.cluster.client(f"hollow:{made.prefix}")
        return Fleet(made, client, MACHINE, clock=self.clock, rng=random.Random(2))

    @property
    def nodes(self) -> dict[str, core.Node]:
        return {node.metadata.name: node for node in self.cluster.objects(core.Node)}

    def pod(self, name: str = "web") -> core.Pod | None:
        return self.cluster.find(core.Pod, name)

    def phases(self) -> dict[str, str]:
        return {pod.metadata.name: pod.status.phase for pod in self.cluster.objects(core.Pod)}

    async def create(self, *pods: core.Pod) -> None:
        """Makes pods, and binds them to the node that each names."""
        nodes = [pod.spec.nodeName for pod in pods]
        for pod in pods:
            pod.spec.ClearField("nodeName")
        writes = [operations.create(pod) for pod in pods]
        writes += [operations.bind(key_of(pod), node) for pod, node in zip(pods, nodes, strict=True)]
        for outcome in (await self.admin.write(writes)).outcomes:
            outcome.unwrap()

    async def settle(self, seconds: float = 0.1) -> None:
        await self.clock.run_for(seconds)

    def written_by(self, actor: str) -> list[list[wire.Operation]]:
        return [operations for who, operations in self.cluster.writes if who == actor]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.fleet.start()
    yield world
    await world.fleet.stop()


async def test_nodes_register_as_real_ones_do() -> None:
    world = World(
        count=4,
        zones=2,
        racks=4,
        labels={"disk": "ssd"},
        taints=(core.Taint(key="played", value="yes", effect="NoSchedule"),),
        cpu="16",
        resources={"gpu": "2"},
    )
    await world.fleet.start()
    assert list(world.nodes) == ["h-1", "h-2", "h-3", "h-4"]
    node = world.nodes["h-3"]
    assert is_node_ready(node)
    assert {
        type: node.metadata.labels[type] for type in ("disk", "podium.dev/rack", "topology.kubernetes.io/zone")
    } == {
        "disk": "ssd",
        "podium.dev/rack": "rack-3",
        "topology.kubernetes.io/zone": "zone-1",
    }
    assert node.metadata.labels["kubernetes.io/hostname"] == "h-3"
    assert node.metadata.labels["podium.dev/security-profile-sandbox"] == "true"
    assert hollow.prefix_of(node) == "h"
    assert {name: quantity.string for name, quantity in node.status.allocatable.items()} == {
        "cpu": "16",
        "memory": "32Gi",
        "pods": "110",
        "ephemeral-storage": "100Gi",
        "gpu": "2",
    }
    assert ("played", "yes", "NoSchedule") in [(t.key, t.value, t.effect) for t in node.spec.taints]
    assert [address.address for address in node.status.addresses] == ["127.7.0.250", "h-3"]
    assert node.status.daemonEndpoints.kubeletEndpoint.Port == 4711
    assert node.status.nodeInfo.containerRuntimeVersion.startswith("hollow://")
    assert node.status.isolation.enforcement == "none"
    assert len(world.written_by("hollow:h")) == 1, "in one write"
    await world.fleet.stop()


async def test_they_beat_together(world: World) -> None:
    await world.settle(1.0)
    sequences = {name: beat.sequence for name, beat in world.cluster.heartbeats.items()}
    assert set(sequences) == {"h-1", "h-2", "h-3"}
    assert len(set(sequences.values())) == 1
    assert set(sequences.values()) <= {5, 6}


async def test_pods_run_end_and_go(world: World) -> None:
    await world.create(*(make_pod(f"p{number}", node=f"h-{number % 3 + 1}") for number in range(6)))
    await world.settle()
    assert set(world.phases().values()) == {"Running"}
    assert all(is_pod_ready(pod) for pod in world.cluster.objects(core.Pod))
    reports = world.written_by("hollow:h")[1:]
    assert [len(operations) for operations in reports] == [6], "all reports of a tick in one write"
    await world.admin.write([operations.delete(Key("Pod", "default", "p0"))])
    await world.settle()
    assert "p0" not in world.phases()
    status, removal = world.written_by("hollow:h")[-1]
    assert status.update_status.object.pod.status.containerStatuses[0].state.terminated.exitCode == 143
    assert removal.delete.preconditions.uid
    assert removal.delete.grace_period_seconds == 0


async def test_starts_take_their_time_and_the_same_each_time() -> None:
    times: list[list[float]] = []
    for _ in range(2):
        world = World(start_delay_s=(1.0, 3.0), seed=7)
        await world.fleet.start()
        begun = world.clock.wall()
        await world.create(*(make_pod(f"p{number}", node="h-1") for number in range(5)))
        await world.settle(0.5)
        assert set(world.phases().values()) == {"Pending"}
        await world.settle(4.0)
        assert set(world.phases().values()) == {"Running"}
        started = [pod.status.containerStatuses[0].state.running.startedAt for pod in world.cluster.objects(core.Pod)]
        times.append([each.seconds + each.nanos / 1e9 - begun for each in started])
        await world.fleet.stop()
    assert times[0] == times[1]
    assert len(set(times[0])) == 5
    assert all(1.0 <= time <= 3.1 for time in times[0])


async def test_events_are_for_what_went_wrong_unless_all_are_wanted() -> None:
    for wanted in (False, True):
        world = World(events=wanted)
        await world.fleet.start()
        good, bad = make_pod("good", node="h-1"), make_pod("bad", node="h-1")
        bad.spec.nodeSelector["no"] = "where"
        await world.create(good, bad)
        await world.settle(1.0)
        reasons = {event.reason for event in world.cluster.objects(core.Event)}
        assert reasons == ({"NodeAffinity", "Started"} if wanted else {"NodeAffinity"})
        await world.fleet.stop()


async def test_a_node_that_was_called_dead_says_that_it_is_ready(world: World) -> None:
    dead = core.Node()
    dead.CopyFrom(world.nodes["h-2"])
    set_condition(dead.status, "Ready", "Unknown", world.clock.wall())
    world.cluster.put(dead)
    await world.settle(1.0)
    assert is_node_ready(world.nodes["h-2"])


async def test_a_node_that_was_deleted_registers_again(world: World) -> None:
    uid = world.nodes["h-2"].metadata.uid
    await world.admin.write([operations.delete(Key("Node", "", "h-2"))])
    await world.settle(1.0)
    assert world.nodes["h-2"].metadata.uid != uid
    assert is_node_ready(world.nodes["h-2"])
    await world.create(make_pod(node="h-2"))
    await world.settle()
    assert world.phases() == {"web": "Running"}


async def test_without_the_master_it_waits_and_goes_on_where_it_was() -> None:
    world = World(count=450)
    world.cluster.fail_next(Unavailable("not yet"), times=4)
    starting = asyncio.ensure_future(world.fleet.start())
    await world.settle(5.0)
    assert starting.done()
    assert len(world.nodes) == 450
    world.cluster.break_watches()
    world.cluster.fail_next(Unavailable("away"), times=3)
    await world.settle(10.0)
    await world.create(make_pod(node="h-400"))
    await world.settle(5.0)
    assert world.phases() == {"web": "Running"}
    await world.fleet.stop()


async def test_reports_that_did_not_arrive_are_sent_again(world: World) -> None:
    await world.create(make_pod(node="h-1"))
    world.cluster.fail_next(Unavailable("away"), times=3)
    await world.settle(5.0)
    assert world.phases() == {"web": "Running"}


async def test_a_stop_removes_the_nodes_and_says_what_it_leaves(world: World) -> None:
    await world.create(make_pod(node="h-1"), make_pod("other", node="h-2"))
    await world.settle()
    await world.fleet.stop()
    await world.fleet.stop()
    assert world.nodes == {}
    assert (world.fleet.nodes_left, world.fleet.pod_count) == (0, 2)


async def test_nodes_that_are_to_be_kept_are_kept_and_played_on() -> None:
    world = World(keep=True)
    await world.fleet.start()
    job = make_pod("job", node="h-1", policy="Never")
    job.metadata.annotations[hollow.RUN_SECONDS] = "60"
    await world.create(make_pod(node="h-1"), job)
    await world.settle(10.0)
    await world.fleet.stop()
    assert (len(world.nodes), world.fleet.nodes_left) == (3, 3)
    before = {pod.metadata.name: pod.status for pod in world.cluster.objects(core.Pod)}
    world.fleet = world.make_fleet(labels={"podium.dev/rack": "rack-9"})
    await world.fleet.start()
    await world.settle(10.0)
    assert {pod.metadata.name: pod.status for pod in world.cluster.objects(core.Pod)} == before
    assert world.nodes["h-1"].metadata.labels["podium.dev/rack"] == "rack-9"
    await world.settle(50.0)
    assert world.phases() == {"web": "Running", "job": "Succeeded"}
    await world.fleet.stop()


async def test_left_without_its_parent_it_leaves_everything(world: World) -> None:
    world.fleet.leave_nodes()
    await world.fleet.stop()
    assert len(world.nodes) == 3


async def test_a_name_that_is_taken_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.cluster.put(core.Node(metadata=core.ObjectMeta(name="h-2")))
    client = world.fleet.client

    async def write(operations: Sequence[wire.Operation], **others: Any) -> WriteOutcome:
        """By the master's rules: see tests/unit/master/test_authorization.py."""
        written = await MemoryClient.write(client, operations, **others)  # type: ignore[arg-type]
        no = OperationOutcome(Forbidden("hollow:h may not patch nodes"), None)
        return WriteOutcome(
            [
                no if operation.patch.name == "h-2" else outcome
                for operation, outcome in zip(operations, written.outcomes, strict=True)
            ],
            written.revision,
        )

    monkeypatch.setattr(client, "write", write)
    with pytest.raises(TakenName, match=r'node "h-2" is there and is not to be played.*--prefix'):
        await world.fleet.start()
    await world.fleet.stop()


async def test_dependencies_are_waited_for(world: World) -> None:
    pod = make_pod(node="h-1")
    pod.spec.dependsOn.append("service/db")
    await world.create(pod)
    await world.settle(2.0)
    assert world.phases() == {"web": "Pending"}
    endpoints = core.Endpoints(metadata=core.ObjectMeta(name="db", namespace="default"))
    endpoints.subsets.add().addresses.add(ip="127.7.16.1")
    world.cluster.put(endpoints)
    await world.settle(2.0)
    assert world.phases() == {"web": "Running"}


async def test_a_bug_about_one_pod_does_not_hold_up_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_plain(pod: HollowPod, now: float, now_s: float) -> None:
        if pod.name == "a":
            raise RuntimeError("a bug")
        pod.started_mono_s, pod.started_s = now, now_s

    monkeypatch.setattr(HollowPod, "run_plain", run_plain)
    world.fleet.settings = world.make_fleet(start_delay_s=(1.0, 1.0)).settings
    await world.create(make_pod("a", node="h-1"), make_pod("b", node="h-1"))
    await world.settle(3.0)
    assert world.phases() == {"a": "Pending", "b": "Running"}


async def test_pods_that_must_not_run_unseen_end_when_the_master_is_away(world: World) -> None:
    pod = make_pod(node="h-1")
    pod.spec.stopAfterDisconnectSeconds = 3
    await world.create(pod, make_pod("other", node="h-1"))
    await world.settle()
    world.cluster.fail_next(Unavailable("away"), times=200)
    await world.settle(5.0)
    world.cluster._failures.clear()
    await world.settle(5.0)
    assert world.phases() == {"web": "Failed", "other": "Running"}
    assert world.pod() is not None
    assert key_of(world.pod() or core.Pod()).name == "web"
