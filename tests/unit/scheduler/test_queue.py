"""Whose turn it is, on virtual time."""

from __future__ import annotations

import pytest

from cluster.api.meta import key_of
from cluster.scheduler.assumed import Assumed, AssumedPod
from cluster.scheduler.facts import placed_pod
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.queue import ClusterEvent, SchedulingQueue, State, Waiting
from tests.unit.scheduler.build import make_pod

CLASSES = PodClasses()
RESOURCES = frozenset({"Resources"})


def waiting(name: str, *, priority: int = 0, created_s: float = 0.0, cpu: str = "1") -> Waiting:
    pod = make_pod(name, {"cpu": cpu})
    return Waiting(key_of(pod), placed_pod(pod, CLASSES.of(pod)), priority, created_s)


@pytest.fixture
def queue() -> SchedulingQueue:
    return SchedulingQueue(backoff_initial_s=1.0, backoff_max_s=10.0, unschedulable_flush_s=60.0)


def names(popped: list[Waiting]) -> list[str]:
    return [each.key.name for each in popped]


def fits(pod_class: PodClass) -> frozenset[str] | None:
    return None


def does_not_fit(pod_class: PodClass) -> frozenset[str] | None:
    return RESOURCES


def test_highest_priority_first_then_oldest_then_first_come(queue: SchedulingQueue) -> None:
    for pod in (
        waiting("young", created_s=9),
        waiting("old", created_s=1),
        waiting("old-too", created_s=1),
        waiting("important", priority=5, created_s=10),
    ):
        queue.add(pod)
    assert names(queue.pop(1)) == ["important"]
    assert names(queue.pop(10)) == ["old", "old-too", "young"]
    assert queue.pop(10) == []
    assert queue.counts()[State.DECIDING] == 4


def test_a_removed_pod_is_never_popped(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    assert queue.remove(pod.uid)
    assert not queue.remove(pod.uid)
    assert queue.pop(10) == []
    queue.add(pod)
    assert names(queue.pop(10)) == ["a"]
    assert len(queue) == 1


def test_news_of_a_waiting_pod_changes_its_description_and_not_its_place(queue: SchedulingQueue) -> None:
    first, second = waiting("a"), waiting("b")
    queue.add(first)
    queue.add(second)
    queue.add(waiting("a", created_s=5))
    assert names(queue.pop(10)) == ["a", "b"]


def test_failed_bindings_back_off_and_double_up_to_the_limit(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    now_s, waits = 0.0, []
    for _ in range(6):
        [popped] = queue.pop(1)
        queue.failed(popped.uid, now_s)
        assert queue.state(pod.uid) is State.BACKOFF
        due_s = queue.next_due_s()
        assert due_s is not None
        waits.append(due_s - now_s)
        queue.flush(due_s - 0.001)
        assert queue.pop(1) == []
        now_s = due_s
        queue.flush(now_s)
    assert waits == [1, 2, 4, 8, 10, 10]


def test_what_did_not_fit_waits_for_an_event_that_its_filters_care_about(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.refused(pod.uid, RESOURCES, 0.0)
    assert queue.state(pod.uid) is State.UNSCHEDULABLE
    assert queue.move(ClusterEvent.NODE_TAINTS.value, fits, 5.0) == 0
    assert queue.move(ClusterEvent.POD_GONE.value, does_not_fit, 5.0) == 0, "relevant, but not enough"
    assert queue.move(ClusterEvent.POD_GONE.value, fits, 5.0) == 1
    assert names(queue.pop(1)) == ["a"]


def test_an_event_during_the_back_off_does_not_cut_it_short(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.refused(pod.uid, RESOURCES, 0.0)
    queue.move(ClusterEvent.NODE_ADDED.value, fits, 0.5)
    assert queue.state(pod.uid) is State.BACKOFF
    assert queue.next_due_s() == 1.0
    queue.flush(1.0)
    assert names(queue.pop(1)) == ["a"]


def test_what_refuses_it_now_counts_and_not_what_did_at_the_attempt(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.refused(pod.uid, frozenset({"TaintToleration"}), 0.0)
    # The taint went, but by then the node was full:
    assert queue.move(ClusterEvent.NODE_TAINTS.value, does_not_fit, 5.0) == 0
    assert queue.move(ClusterEvent.POD_GONE.value, fits, 6.0) == 1


def test_without_any_node_only_a_new_one_helps(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.refused(pod.uid, frozenset(), 0.0)
    assert queue.move(ClusterEvent.POD_GONE.value, fits, 5.0) == 0
    assert queue.move(ClusterEvent.NODE_ADDED.value, fits, 5.0) == 1


def test_after_a_minute_it_is_tried_again_anyway(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.refused(pod.uid, RESOURCES, 7.0)
    assert queue.next_due_s() == 67.0
    queue.flush(66.9)
    assert queue.pop(1) == []
    queue.flush(67.0)
    assert names(queue.pop(1)) == ["a"]


def test_answers_for_pods_that_are_gone_are_ignored(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    queue.pop(1)
    queue.remove(pod.uid)
    queue.refused(pod.uid, RESOURCES, 0.0)
    queue.failed(pod.uid, 0.0)
    assert len(queue) == 0
    assert queue.next_due_s() is None


def test_pods_of_one_class_are_asked_about_once(queue: SchedulingQueue) -> None:
    for i in range(100):
        queue.add(waiting(f"small-{i}", cpu="1"))
        queue.add(waiting(f"big-{i}", cpu="100"))
    for pod in queue.pop(1000):
        queue.refused(pod.uid, RESOURCES, 0.0)
    asked: list[PodClass] = []

    def refusing(pod_class: PodClass) -> frozenset[str] | None:
        asked.append(pod_class)
        return None if dict(pod_class.shape.requests)["cpu"] == 1000 else RESOURCES

    assert queue.move(ClusterEvent.POD_GONE.value, refusing, 100.0) == 100
    assert len(asked) == 2
    assert all(name.startswith("small") for name in names(queue.pop(1000)))


# -- assumed pods


def test_an_assumed_pod_is_confirmed_forgotten_or_expires() -> None:
    assumed = Assumed(ttl_s=30.0)
    pods = [AssumedPod(f"uid-{i}", key_of(make_pod(f"p{i}")), "n1") for i in range(4)]
    for pod in pods:
        assumed.assume(pod)
    assert assumed.expired(1e9) == [], "a write under way does not expire"
    assumed.bound("uid-0", 10.0)
    assumed.bound("uid-1", 11.0)
    assert assumed.confirm("uid-0") == pods[0]
    assert assumed.confirm("uid-0") is None
    assert assumed.forget("uid-2") == pods[2]
    assert assumed.next_expiry_s() == 41.0
    assert assumed.expired(40.9) == []
    assert assumed.expired(41.0) == [pods[1]]
    assert len(assumed) == 1
    assert "uid-3" in assumed


def test_the_watch_may_be_faster_than_the_answer_to_the_write() -> None:
    assumed = Assumed(ttl_s=30.0)
    assumed.assume(AssumedPod("uid", key_of(make_pod("p")), "n1"))
    assumed.confirm("uid")
    assumed.bound("uid", 0.0)
    assert len(assumed) == 0


def test_assuming_twice_tells_its_story() -> None:
    assumed = Assumed(ttl_s=30.0)
    assumed.assume(AssumedPod("uid", key_of(make_pod("p")), "n1"))
    with pytest.raises(ValueError, match=r"p \(uid\) is assumed already, on n1; now on n2"):
        assumed.assume(AssumedPod("uid", key_of(make_pod("p")), "n2"))
