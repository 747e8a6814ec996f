"""The scheduler against a cluster in memory, on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.conditions import get_condition
from cluster.api.errors import Conflict, Forbidden, Overloaded, Unavailable
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.actor import Scheduler, build_scheduler
from cluster.scheduler.configuration import load_settings
from cluster.scheduler.dimensions import ZONE_LABEL as ZONE
from cluster.scheduler.explain import explain
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.scheduler.build import make_node, make_pod, make_service


@dataclass
class Rig:
    """A cluster, its time, and a scheduler that runs."""

    clock: VirtualClock
    cluster: MemoryCluster
    scheduler: Scheduler

    def node_of(self, name: str) -> str:
        pod = self.cluster.find(core.Pod, name)
        assert pod is not None
        return pod.spec.nodeName

    def placed(self) -> Counter[str]:
        return Counter(pod.spec.nodeName for pod in self.cluster.objects(core.Pod))

    def events(self, reason: str) -> list[core.Event]:
        return [event for event in self.cluster.objects(core.Event) if event.reason == reason]

    def binds(self) -> list[list[wire.BindOperation]]:
        """The binding writes, in order."""
        return [
            [operation.bind for operation in operations]
            for _, operations in self.cluster.writes
            if operations and operations[0].HasField("bind")
        ]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    clock = VirtualClock()
    cluster = MemoryCluster(clock=clock, rng=random.Random(1))
    tasks = Tasks("test")
    scheduler = Scheduler(cluster.client("scheduler"), load_settings(PROFILES["kubernetes"]), clock, random.Random(2))
    await scheduler.start()
    tasks.spawn(scheduler.run(), name="scheduler")
    yield Rig(clock, cluster, scheduler)
    await tasks.cancel_all()
    await scheduler.stop()
    await scheduler.stop()


async def test_a_pod_is_bound_and_the_event_carries_the_revision_of_the_binding(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    created = rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(1)
    pod = rig.cluster.find(core.Pod, "web")
    assert pod is not None
    assert pod.spec.nodeName == "node-1"
    assert pod.metadata.cause.revision == int(created.metadata.resourceVersion)
    [event] = rig.events("Scheduled")
    assert event.message == "Successfully assigned default/web to node-1"
    assert event.involvedObject.resourceVersion == pod.metadata.resourceVersion
    assert event.source.component == "default-scheduler"
    assert len(rig.scheduler.world.assumed) == 0


async def test_a_crowd_is_bound_in_few_writes_and_spread(rig: Rig) -> None:
    for i in range(10):
        rig.cluster.put(make_node(f"node-{i}"))
    rig.cluster.put(make_service("web", {"app": "web"}))
    for i in range(500):
        rig.cluster.put(make_pod(f"web-{i}", {"cpu": "10m"}, labels={"app": "web"}))
    await rig.clock.run_for(1)
    assert set(rig.placed().values()) == {50}
    assert len(rig.binds()) <= 5
    assert all(bind.preconditions.uid for write in rig.binds() for bind in write)


async def test_each_decision_can_be_replayed_from_the_state_before_its_binding(rig: Rig) -> None:
    for i in range(4):
        rig.cluster.put(make_node(f"node-{i}", {"cpu": str(2 + i)}, labels={ZONE: f"zone-{i % 2}"}))
    rig.cluster.put(make_service("web", {"app": "web"}))
    for i in range(40):
        rig.cluster.put(make_pod(f"web-{i}", {"cpu": f"{100 + i}m"}, labels={"app": "web"} if i % 3 else {}))
        if i % 10 == 0:
            await rig.clock.run_for(0.1)
    await rig.clock.run_for(1)
    client = rig.cluster.client()
    scheduled = rig.events("Scheduled")
    assert len(scheduled) == 40
    for event in scheduled:
        before = int(event.involvedObject.resourceVersion) - 1
        nodes = (await client.list(core.Node, revision=before)).items
        pods = (await client.list(core.Pod, revision=before)).items
        services = (await client.list(core.Service, revision=before)).items
        [pod] = [pod for pod in pods if pod.metadata.uid == event.involvedObject.uid]
        assert pod.spec.nodeName == ""
        assert rig.node_of(pod.metadata.name) in explain(pod, nodes, pods, services=services).best


async def test_what_does_not_fit_says_so_once_and_is_bound_when_there_is_room(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"cpu": "1"}))
    big = rig.cluster.put(make_pod("big", {"cpu": "800m"}))
    await rig.clock.run_for(1)
    rig.cluster.put(make_pod("late", {"cpu": "800m"}))
    await rig.clock.run_for(1)
    late = rig.cluster.find(core.Pod, "late")
    assert late is not None
    condition = get_condition(late.status, "PodScheduled")
    assert condition is not None
    message = "0/1 nodes are available: 1 Insufficient cpu."
    assert (condition.status, condition.reason, condition.message) == ("False", "Unschedulable", message)
    [event] = rig.events("FailedScheduling")
    assert (event.type, event.message, event.count) == ("Warning", message, 1)
    version = late.metadata.resourceVersion
    await rig.clock.run_for(59)
    again = rig.cluster.find(core.Pod, "late")
    assert again is not None
    assert again.metadata.resourceVersion == version, "nothing changed, nothing is written"
    await rig.clock.run_for(90)
    [event] = rig.events("FailedScheduling")
    assert event.count >= 2, "but it is still counted up now and then"
    rig.cluster.remove(big)
    await rig.clock.run_for(11)
    assert rig.node_of("late") == "node-1"


async def test_only_pods_of_the_default_scheduler_that_have_no_node(rig: Rig) -> None:
    other = make_pod("other")
    other.spec.schedulerName = "mine"
    leaving = make_pod("leaving")
    leaving.metadata.deletionTimestamp.seconds = 1
    finished = make_pod("finished")
    finished.status.phase = "Failed"
    for pod in (other, leaving, finished, make_pod("placed", node="elsewhere")):
        rig.cluster.put(pod)
    rig.cluster.put(make_node("node-1"))
    await rig.clock.run_for(1)
    assert rig.binds() == []


async def test_a_node_that_is_being_deleted_gets_nothing(rig: Rig) -> None:
    leaving = make_node("node-1")
    leaving.metadata.deletionTimestamp.seconds = 1
    rig.cluster.put(leaving)
    rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(1)
    assert rig.node_of("web") == ""
    [event] = rig.events("FailedScheduling")
    assert event.message == "no nodes available to schedule pods"
    rig.cluster.put(make_node("node-2"))
    await rig.clock.run_for(2)
    assert rig.node_of("web") == "node-2"


async def test_a_conflict_frees_the_room_and_the_pod_gets_another_chance(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"pods": "1"}))
    refusals = iter([Conflict("not now")])

    def refuse_once(actor: str, operations: Sequence[wire.Operation]) -> None:
        if operations[0].HasField("bind") and (error := next(refusals, None)):
            raise error

    rig.cluster.on_write = refuse_once
    rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(0.5)
    assert rig.node_of("web") == ""
    assert len(rig.scheduler.world.assumed) == 0
    await rig.clock.run_for(1.5)
    assert rig.node_of("web") == "node-1"


@pytest.mark.parametrize("error", [Unavailable("gone"), Overloaded("later")])
async def test_a_master_that_is_away_or_busy_is_asked_again(rig: Rig, error: Exception) -> None:
    rig.cluster.put(make_node("node-1", {"pods": "5"}))
    until_s = rig.clock.monotonic() + 3

    def refuse(actor: str, operations: Sequence[wire.Operation]) -> None:
        if operations[0].HasField("bind") and rig.clock.monotonic() < until_s:
            raise error

    rig.cluster.on_write = refuse
    for i in range(5):
        rig.cluster.put(make_pod(f"web-{i}"))
    await rig.clock.run_for(2.9)
    assert rig.placed() == {"": 5}
    await rig.clock.run_for(15)
    assert rig.placed() == {"node-1": 5}


async def test_bound_by_a_write_whose_answer_was_lost(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    lost = iter([True])

    def bind_and_lose_the_answer(actor: str, operations: Sequence[wire.Operation]) -> None:
        if operations[0].HasField("bind") and next(lost, False):
            rig.cluster.on_write = None
            pod = rig.cluster.find(core.Pod, "web")
            assert pod is not None
            bound = core.Pod()
            bound.CopyFrom(pod)
            bound.spec.nodeName = "node-1"
            rig.cluster.put(bound)
            raise Unavailable("the connection is gone")

    rig.cluster.on_write = bind_and_lose_the_answer
    rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(40)
    assert rig.node_of("web") == "node-1"
    world = rig.scheduler.world
    assert (len(world.assumed), len(world.queue)) == (0, 0)
    assert world.snapshot.node_of("uid-default-web") == "node-1"


async def test_a_binding_that_the_watch_does_not_show_in_time_expires_and_nothing_breaks(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"pods": "1"}))
    rig.cluster.on_write = lambda actor, operations: rig.cluster.hold_watches()
    rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(2)
    world = rig.scheduler.world
    assert rig.node_of("web") == "node-1"
    assert len(world.assumed) == 1
    await rig.clock.run_for(27)
    assert len(world.assumed) == 1, "thirty seconds are not over"
    rig.cluster.on_write = None
    await rig.clock.run_for(10)
    rig.cluster.release_watches()
    await rig.clock.run_for(20)
    assert (rig.node_of("web"), world.snapshot.node_of("uid-default-web")) == ("node-1", "node-1")
    assert (len(world.assumed), len(world.queue)) == (0, 0)


async def test_the_watches_break_and_nothing_is_placed_twice(rig: Rig) -> None:
    for i in range(3):
        rig.cluster.put(make_node(f"node-{i}", {"pods": "10"}))
    for i in range(30):
        rig.cluster.put(make_pod(f"web-{i}"))
        if i % 7 == 0:
            rig.cluster.break_watches()
            await asyncio.sleep(0)
    await rig.clock.run_for(60)
    assert rig.placed() == {"node-0": 10, "node-1": 10, "node-2": 10}


async def test_an_image_needs_a_node_that_announces_a_runtime(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    rig.cluster.put(make_pod("web", image="nginx"))
    rig.cluster.put(make_pod("plain", image="host"))
    await rig.clock.run_for(1)
    assert (rig.node_of("web"), rig.node_of("plain")) == ("", "node-1")
    [event] = rig.events("FailedScheduling")
    assert event.message == "0/1 nodes are available: 1 node(s) had no runtime for images."
    rig.cluster.put(make_node("node-2", labels={"podium.dev/image-runtime": "true"}))
    await rig.clock.run_for(2)
    assert rig.node_of("web") == "node-2"


async def test_pods_that_never_fit_do_not_hold_up_the_others(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    for i in range(300):
        rig.cluster.put(make_pod(f"never-{i}", {"cpu": "1000"}))
    rig.cluster.put(make_pod("web"))
    await rig.clock.run_for(1)
    assert rig.node_of("web") == "node-1"


# -- making room


def low(name: str, node: str = "node-1") -> core.Pod:
    pod = make_pod(name, {"cpu": "1"}, node=node)
    pod.spec.terminationGracePeriodSeconds = 5
    pod.status.phase = "Running"
    return pod


async def test_a_pod_that_has_to_go_hears_why_and_goes_gracefully_and_the_other_takes_its_place(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"cpu": "1"}))
    rig.cluster.put(low("low"))
    rig.cluster.put(make_pod("vip", {"cpu": "1"}, priority=5))
    await rig.clock.run_for(1)
    victim, vip = rig.cluster.find(core.Pod, "low"), rig.cluster.find(core.Pod, "vip")
    assert victim is not None
    assert vip is not None
    assert victim.metadata.deletionGracePeriodSeconds == 5
    condition = get_condition(victim.status, "DisruptionTarget")
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == (
        "True",
        "PreemptionByScheduler",
        "default-scheduler: preempting to accommodate a higher priority pod",
    )
    [event] = rig.events("Preempted")
    assert (event.type, event.message) == ("Normal", "Preempted by default/vip on node node-1")
    assert (event.involvedObject.name, vip.status.nominatedNodeName) == ("low", "node-1")
    await rig.clock.run_for(1)
    assert len(rig.events("Preempted")) == 1
    rig.cluster.remove(victim)
    await rig.clock.run_for(1)
    assert rig.node_of("vip") == "node-1"


async def test_a_status_that_has_changed_meanwhile_is_kept_and_the_condition_comes_after_all(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"cpu": "1"}))
    rig.cluster.put(low("low"))
    await rig.clock.run_for(1)
    rig.cluster.hold_watches()
    changed = low("low")
    changed.status.message = "new"
    rig.cluster.put(changed)
    rig.scheduler.world.pod_changed(None, make_pod("vip", {"cpu": "1"}, priority=5))
    rig.scheduler._wake.set()
    await rig.clock.run_for(1)
    victim = rig.cluster.find(core.Pod, "low")
    assert victim is not None
    assert victim.status.message == "new"
    assert get_condition(victim.status, "DisruptionTarget") is not None
    assert victim.metadata.HasField("deletionTimestamp")


async def test_who_could_not_be_told_to_go_stays_and_it_is_tried_again(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"cpu": "1"}))
    rig.cluster.put(low("low"))
    refusals = iter([Forbidden("not you"), Unavailable("gone"), Unavailable("gone")])

    def refuse(actor: str, operations: Sequence[wire.Operation]) -> None:
        if any(operation.HasField("delete") for operation in operations) and (error := next(refusals, None)):
            raise error

    rig.cluster.on_write = refuse
    rig.cluster.put(make_pod("vip", {"cpu": "1"}, priority=5))
    await rig.clock.run_for(5)
    victim = rig.cluster.find(core.Pod, "low")
    assert victim is not None
    assert victim.metadata.HasField("deletionTimestamp")
    assert next(refusals, None) is None


async def test_a_nomination_that_is_over_is_taken_out_of_the_status(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1", {"cpu": "1"}))
    victim = rig.cluster.put(low("low"))
    rig.cluster.put(make_pod("vip", {"cpu": "1"}, priority=5))
    await rig.clock.run_for(1)
    rig.cluster.put(make_pod("king", {"cpu": "1"}, priority=9))
    await rig.clock.run_for(1)
    nominated = {pod.metadata.name: pod.status.nominatedNodeName for pod in rig.cluster.objects(core.Pod)}
    assert nominated == {"king": "node-1", "low": "", "vip": ""}
    rig.cluster.remove(victim)
    await rig.clock.run_for(1)
    assert (rig.node_of("king"), rig.node_of("vip")) == ("node-1", "")


# -- groups


def gang(count: int) -> list[core.Pod]:
    return [make_pod(f"g-{i}", {"cpu": "1"}, group=("g", count)) for i in range(count)]


async def test_a_group_is_bound_by_one_atomic_write(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    for pod in gang(3):
        rig.cluster.put(pod)
    await rig.clock.run_for(1)
    assert [len(write) for write in rig.binds()] == [3]
    revisions = {pod.metadata.resourceVersion for pod in rig.cluster.objects(core.Pod)}
    assert len(revisions) == 1, "all of them at one revision"


async def test_if_one_of_a_group_cannot_be_bound_none_is(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    members = gang(3)
    for pod in members:
        rig.cluster.put(pod)
    lost = iter([True])

    def take_one_away(actor: str, operations: Sequence[wire.Operation]) -> None:
        if operations[0].HasField("bind") and next(lost, False):
            rig.cluster.remove(members[1])

    rig.cluster.on_write = take_one_away
    await rig.clock.run_for(5)
    assert rig.placed() == {"": 2}
    assert len(rig.scheduler.world.assumed) == 0
    rig.cluster.put(make_pod("g-1", {"cpu": "1"}, group=("g", 3)))
    await rig.clock.run_for(5)
    assert rig.placed() == {"node-1": 3}


# -- other schedulers


async def test_a_pod_that_names_a_scheduler_that_nobody_is_hears_which_there_are(rig: Rig) -> None:
    rig.cluster.put(make_node("node-1"))
    rig.cluster.put(make_pod("lost", scheduler="defualt-scheduler"))
    spoken = make_pod("theirs", scheduler="theirs")
    spoken.status.conditions.add(type="PodScheduled", status="False", reason="Unschedulable", message="no")
    rig.cluster.put(spoken)
    await rig.clock.run_for(29)
    assert rig.events("FailedScheduling") == []
    await rig.clock.run_for(5)
    [event] = rig.events("FailedScheduling")
    assert (event.involvedObject.name, event.message) == (
        "lost",
        'no scheduler named "defualt-scheduler" runs here, those that do are binpack, default-scheduler',
    )
    assert rig.binds() == []


async def test_it_is_made_by_the_specification_for_a_supervisor() -> None:
    clock = VirtualClock()
    client = MemoryCluster(clock=clock).client("scheduler")
    [spec] = build_scheduler(client, PROFILES["laptop"], clock, random.Random(1))
    first, second = spec.make(), spec.make()
    assert first is not second
    await first.start()
    await first.stop()
    await second.stop()
