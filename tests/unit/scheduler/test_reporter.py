"""What is said of pods that wait, and that it stands back while others are bound."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest

from cluster.api.conditions import get_condition
from cluster.api.meta import from_time
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import reporter as reporter_module
from cluster.scheduler.reporter import WRITE_BATCH, Reporter
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.scheduler.build import make_pod


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.busy = False
        self.reporter = Reporter(
            self.cluster.client("scheduler"), self.clock, repeat_event_s=60.0, hold_s=lambda: 1.0 if self.busy else 0.0
        )

    def pods(self, count: int) -> list[core.Pod]:
        return [self.cluster.put(make_pod(f"p{i}")) for i in range(count)]

    def writes(self, kind: str) -> list[int]:
        """How many operations of that kind each write had that has any."""
        return [
            len(operations)
            for _, operations in self.cluster.writes
            if operations and operations[0].WhichOneof("operation") == kind
        ]

    def stored(self, name: str) -> core.Pod:
        pod = self.cluster.find(core.Pod, name)
        assert pod is not None
        return pod


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.reporter.start()
    yield scene
    await scene.reporter.stop()


async def test_while_pods_wait_to_be_bound_reports_are_written_one_batch_at_a_time(scene: Scene) -> None:
    pods = scene.pods(250)
    scene.busy = True
    for pod in pods:
        scene.reporter.unschedulable(pod, "no room")
    await scene.clock.run_for(0.9)
    assert scene.cluster.writes == []
    await scene.clock.run_for(0.5)
    assert scene.writes("update_status") == [WRITE_BATCH]
    scene.busy = False
    await scene.clock.run_for(2.0)
    assert scene.writes("update_status") == [WRITE_BATCH, WRITE_BATCH, 50]
    assert sum(scene.writes("create")) == 250
    assert scene.reporter.dropped == 0


async def test_a_full_table_drops_the_oldest_and_counts_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "PENDING_LIMIT", 10)
    for pod in scene.pods(15):
        scene.reporter.unschedulable(pod, "no room")
    await scene.clock.run_for(1.0)
    assert scene.reporter.dropped == 5
    assert not scene.stored("p4").status.conditions
    assert scene.stored("p5").status.conditions


async def test_who_is_bound_before_it_was_written_needs_no_condition(scene: Scene) -> None:
    [pod] = scene.pods(1)
    scene.busy = True
    scene.reporter.unschedulable(pod, "no room")
    await scene.clock.run_for(0.1)
    scene.reporter.scheduled(pod, "n1", scene.clock.wall())
    await scene.clock.run_for(2.0)
    assert scene.writes("update_status") == []


async def test_a_binding_is_told_as_of_the_moment_when_it_was_sent(scene: Scene) -> None:
    [pod] = scene.pods(1)
    sent_at_s = scene.clock.wall()
    await scene.clock.run_for(3.0)
    scene.reporter.scheduled(pod, "n1", sent_at_s)
    await scene.clock.run_for(2.0)
    (event,) = scene.cluster.objects(core.Event)
    assert (event.reason, from_time(event.lastTimestamp)) == ("Scheduled", int(sent_at_s))


async def test_where_a_pod_is_nominated_stands_in_its_status_with_and_without_words(scene: Scene) -> None:
    [pod] = scene.pods(1)
    scene.reporter.unschedulable(pod, "no room", "n1")
    await scene.clock.run_for(1.0)
    stored = scene.stored("p0")
    condition = get_condition(stored.status, "PodScheduled")
    assert condition is not None
    assert (stored.status.nominatedNodeName, condition.message) == ("n1", "no room")
    scene.reporter.unschedulable(stored, "no room", "n1")
    scene.reporter.unschedulable(stored, "", "n1")
    await scene.clock.run_for(1.0)
    assert scene.writes("update_status") == [1]
    scene.reporter.unschedulable(stored, "", "")
    await scene.clock.run_for(1.0)
    stored = scene.stored("p0")
    assert (stored.status.nominatedNodeName, stored.status.conditions[0].message) == ("", "no room")
    assert len(scene.cluster.objects(core.Event)) == 1


async def test_two_words_before_the_write_become_one_and_a_newer_pod_is_what_is_written_over(scene: Scene) -> None:
    [pod] = scene.pods(1)
    scene.busy = True
    scene.reporter.unschedulable(pod, "no room", "n1")
    scene.reporter.unschedulable(pod, "", "")
    changed = core.Pod()
    changed.CopyFrom(pod)
    changed.status.message = "new"
    changed = scene.cluster.put(changed)
    scene.reporter.unschedulable(changed, "no room at all")
    await scene.clock.run_for(3.0)
    stored = scene.stored("p0")
    assert (stored.status.message, stored.status.conditions[0].message) == ("new", "no room at all")
    assert scene.writes("update_status") == [1]


async def test_a_refused_write_is_counted_and_what_comes_later_is_written(scene: Scene) -> None:
    from cluster.api.errors import Overloaded

    first, second = scene.pods(2)
    refused: list[Sequence[wire.Operation]] = []

    def refuse_once(actor: str, operations: Sequence[wire.Operation]) -> None:
        if operations[0].HasField("update_status") and not refused:
            refused.append(operations)
            raise Overloaded("later")

    scene.cluster.on_write = refuse_once
    scene.reporter.unschedulable(first, "no room")
    await scene.clock.run_for(0.5)
    scene.reporter.unschedulable(second, "no room")
    await scene.clock.run_for(3.0)
    assert scene.reporter.dropped == 1
    assert scene.stored("p1").status.conditions
