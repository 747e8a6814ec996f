"""Events: counted, summarised, filtered (pure), and written in batches without holding anyone up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import Forbidden, Unavailable
from cluster.api.meta import from_time
from cluster.client.event_correlator import COMBINED, SIMILAR_LIMIT, SPAM_BURST, Correlated, EventCorrelator
from cluster.client.events import BATCH_LIMIT, EventRecorder
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster


def about(name: str = "web", uid: str = "u1") -> core.ObjectReference:
    return core.ObjectReference(kind="Pod", namespace="default", name=name, uid=uid)


def observe(
    correlator: EventCorrelator, message: str, now_s: float = 0.0, *, name: str = "web", reason: str = "BackOff"
) -> Correlated | None:
    return correlator.observe(about(name), "Warning", reason, message, now_s=now_s, suffix=f"{message}-{now_s:g}")


# --- What becomes of an event


def test_the_same_again_is_counted() -> None:
    correlator = EventCorrelator("agent", "node-1")
    first = observe(correlator, "m", 10.0)
    again = observe(correlator, "m", 20.5)
    assert first is not None
    assert again is not None
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.event.count, again.event.count) == (1, 2)
    assert first.event.metadata.name == again.event.metadata.name == "web.m-10"
    assert from_time(again.event.firstTimestamp) == 10.0
    assert from_time(again.event.lastTimestamp) == 20.5
    assert again.event.source == core.EventSource(component="agent", host="node-1")
    assert again.event.reportingComponent == "agent"


def test_many_that_are_alike_become_one() -> None:
    correlator = EventCorrelator("agent")
    found = [observe(correlator, f"m{n}", float(n)) for n in range(SIMILAR_LIMIT + 3)]
    assert all(one is not None and one.is_new for one in found[: SIMILAR_LIMIT + 1])
    combined = found[SIMILAR_LIMIT:]
    assert [one.event.message for one in combined if one] == [f"{COMBINED}m{n}" for n in range(10, 13)]
    assert [one.event.count for one in combined if one] == [1, 2, 3]
    assert len({one.event.metadata.name for one in combined if one}) == 1
    # Other reasons, and other objects, are told apart.
    other = observe(correlator, "m0", 20.0, reason="Unhealthy")
    assert other is not None
    assert other.event.message == "m0"
    # After ten quiet minutes the counting starts afresh.
    fresh = observe(correlator, "m99", 20000.0)
    assert fresh is not None
    assert fresh.event.message == "m99"


def test_who_makes_too_much_noise_is_muted_and_heard_again_later() -> None:
    correlator = EventCorrelator("agent")
    found = [observe(correlator, "m", float(n)) for n in range(SPAM_BURST + 5)]
    assert sum(one is not None for one in found) == SPAM_BURST
    assert correlator.dropped == 5
    assert observe(correlator, "m", 30.0, name="quiet") is not None
    assert observe(correlator, "m", 331.0) is not None
    assert observe(correlator, "m", 332.0) is None


def test_a_clock_that_goes_back_does_no_harm() -> None:
    correlator = EventCorrelator("agent")
    assert observe(correlator, "m", 1000.0) is not None
    assert observe(correlator, "m", 0.0) is not None


def test_memory_is_bounded_and_forgetting_means_one_more_event() -> None:
    correlator = EventCorrelator("agent", max_entries=10)
    for n in range(100):
        observe(correlator, "m", 1.0, name=f"pod-{n}")
    again = observe(correlator, "m", 2.0, name="pod-0")
    assert again is not None
    assert again.is_new


def test_names_and_messages_are_cut_to_what_is_allowed() -> None:
    correlator = EventCorrelator("agent")
    found = correlator.observe(about("x" * 253), "Normal", "R", "m" * 5000, now_s=0.0, suffix="0123456789abcdef")
    assert found is not None
    assert len(found.event.metadata.name) <= 253
    assert found.event.metadata.name.endswith(".0123456789abcdef")
    assert len(found.event.message) == 1024


def test_events_about_nodes_live_in_default() -> None:
    correlator = EventCorrelator("agent")
    found = correlator.observe(
        core.ObjectReference(kind="Node", name="node-1"), "Normal", "NodeReady", "m", now_s=0.0, suffix="0"
    )
    assert found is not None
    assert found.event.metadata.namespace == "default"
    assert found.event.involvedObject.namespace == ""


# --- Writing them


class Scene:
    def __init__(self, limit: int = 1000) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.recorder = EventRecorder(
            self.cluster.client("agent"), "agent", "node-1", clock=self.clock, rng=random.Random(2), limit=limit
        )

    def event(self, message: str = "m", name: str = "web") -> None:
        self.recorder.event(about(name), "Normal", "Started", message)

    def stored(self) -> list[tuple[str, int]]:
        return [(event.message, event.count) for event in self.cluster.objects(core.Event)]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.recorder.start()
    yield scene
    await scene.recorder.stop()


async def test_events_are_written_together_a_moment_later(scene: Scene) -> None:
    for n in range(3):
        scene.event(f"m{n}", f"pod-{n}")
    await scene.clock.run_for(0.04)
    assert scene.cluster.writes == []
    await scene.clock.run_for(0.02)
    assert len(scene.cluster.writes) == 1
    assert sorted(scene.stored()) == [("m0", 1), ("m1", 1), ("m2", 1)]
    (name,) = [event.metadata.name for event in scene.cluster.objects(core.Event) if event.message == "m1"]
    assert name.startswith("pod-1.")
    assert len(name) == len("pod-1.") + 22


async def test_a_list_has_the_events_of_an_object_in_the_order_in_which_they_happened(scene: Scene) -> None:
    messages = [f"m{n}" for n in range(SIMILAR_LIMIT)]
    for message in messages:
        scene.event(message)
        await scene.clock.run_for(0.001)
    await scene.clock.run_for(0.1)
    stored = sorted(scene.cluster.objects(core.Event), key=lambda event: event.metadata.name)
    assert [event.message for event in stored] == messages


async def test_repeats_before_the_write_are_one_write_and_after_it_a_count(scene: Scene) -> None:
    for _ in range(3):
        scene.event()
    await scene.clock.run_for(0.1)
    assert scene.stored() == [("m", 3)]
    scene.event()
    await scene.clock.run_for(0.1)
    assert scene.stored() == [("m", 4)]
    assert [len(operations) for _, operations in scene.cluster.writes] == [1, 1]


async def test_a_write_has_a_limit(scene: Scene) -> None:
    for n in range(BATCH_LIMIT + 1):
        scene.event("m", f"pod-{n}")
    await scene.clock.run_for(0.1)
    assert [len(operations) for _, operations in scene.cluster.writes] == [BATCH_LIMIT, 1]


async def test_whoever_has_better_to_do_holds_batches_back() -> None:
    scene, busy = Scene(), True
    scene.recorder = EventRecorder(
        scene.cluster.client("agent"),
        "agent",
        clock=scene.clock,
        limit=2 * BATCH_LIMIT + 50,
        hold_s=lambda: 1.0 if busy else 0.0,
    )
    await scene.recorder.start()
    for n in range(3 * BATCH_LIMIT):
        scene.event("m", f"pod-{n}")
    await scene.clock.run_for(0.5)
    assert scene.cluster.writes == []
    await scene.clock.run_for(1.0)
    assert [len(operations) for _, operations in scene.cluster.writes] == [BATCH_LIMIT]
    busy = False
    await scene.clock.run_for(1.0)
    assert sum(len(operations) for _, operations in scene.cluster.writes) == 2 * BATCH_LIMIT + 50
    assert scene.recorder.dropped == BATCH_LIMIT - 50, "the oldest, and they are counted"
    await scene.recorder.stop()


async def test_a_master_that_is_away_is_waited_for(scene: Scene) -> None:
    scene.cluster.fail_next(Unavailable("down"), times=4)
    scene.event()
    await scene.clock.run_for(1.0)
    assert scene.stored() == []
    scene.event()
    await scene.clock.run_for(5.0)
    assert scene.stored() == [("m", 2)]
    assert scene.recorder.dropped == 0


async def test_a_write_whose_answer_was_lost_makes_no_second_event(scene: Scene) -> None:
    real = scene.cluster.store.write

    def lose_the_answer(*args: object, **kwargs: object) -> object:
        real(*args, **kwargs)  # type: ignore[arg-type]
        scene.cluster.store.write = real  # type: ignore[method-assign]
        raise Unavailable("the connection broke")

    scene.cluster.store.write = lose_the_answer  # type: ignore[method-assign, assignment]
    scene.event()
    await scene.clock.run_for(2.0)
    assert scene.stored() == [("m", 1)]
    scene.event()
    await scene.clock.run_for(2.0)
    assert scene.stored() == [("m", 2)]


async def test_an_event_that_has_expired_is_made_again(scene: Scene) -> None:
    scene.event()
    await scene.clock.run_for(0.1)
    scene.cluster.remove(scene.cluster.objects(core.Event)[0])
    scene.event()
    await scene.clock.run_for(0.1)
    assert scene.stored() == [("m", 2)]


async def test_what_the_master_refuses_is_dropped_and_counted(scene: Scene) -> None:
    scene.cluster.fail_next(Forbidden("no rule"))
    scene.event()
    await scene.clock.run_for(0.1)
    assert scene.recorder.dropped == 1
    scene.event("other")
    await scene.clock.run_for(0.1)
    assert scene.stored() == [("other", 1)]


async def test_a_full_table_drops_the_oldest_and_counts() -> None:
    scene = Scene(limit=3)
    for n in range(5):
        scene.event("m", f"pod-{n}")
    assert scene.recorder.dropped == 2
    await scene.recorder.start()
    await scene.clock.run_for(0.1)
    names = sorted(event.involvedObject.name for event in scene.cluster.objects(core.Event))
    assert names == ["pod-2", "pod-3", "pod-4"]
    await scene.recorder.stop()


async def test_stopping_writes_what_is_pending() -> None:
    scene = Scene()
    await scene.recorder.start()
    scene.event()
    await scene.recorder.stop()
    assert scene.stored() == [("m", 1)]
    await scene.recorder.stop()


async def test_stopping_without_a_master_ends_and_counts() -> None:
    scene = Scene()
    scene.cluster.fail_next(Unavailable("down"), times=10)
    scene.event()
    await scene.recorder.stop()
    assert scene.recorder.dropped == 1


async def test_an_object_is_taken_as_well_as_a_reference(scene: Scene) -> None:
    stored = scene.cluster.put(core.Node(metadata=core.ObjectMeta(name="node-1")))
    scene.recorder.event(stored, "Normal", "NodeReady", "is ready")
    await scene.clock.run_for(0.1)
    (event,) = scene.cluster.objects(core.Event)
    assert event.involvedObject == core.ObjectReference(
        kind="Node", namespace="", name="node-1", uid=stored.metadata.uid, apiVersion="v1", resourceVersion="1"
    )
