"""Whose turn it is, on virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.meta import key_of
from cluster.scheduler.assumed import Assumed, AssumedPod
from cluster.scheduler.facts import placed_pod
from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import GangKey, Look, Lot, LotKey, Run, State, Waiting
from cluster.scheduler.podclass import PodClasses
from cluster.scheduler.queue import SchedulingQueue
from cluster.scheduler.refused import ClusterEvent
from tests.unit.scheduler.build import make_pod

CLASSES = PodClasses()
NO_ROOM = Refusal("no room", frozenset({"Resources"}))
TAINTED = Refusal("tainted", frozenset({"TaintToleration"}))
GANG = GangKey("default", "gang")


def waiting(
    name: str,
    *,
    priority: int = 0,
    created_s: float = 0.0,
    cpu: str = "1",
    gang: GangKey | None = None,
    profile: str = "default-scheduler",
) -> Waiting:
    pod = make_pod(name, {"cpu": cpu})
    pod_class = CLASSES.of(pod)
    return Waiting(key_of(pod), placed_pod(pod, pod_class), LotKey(pod_class, profile, priority), created_s, gang)


@pytest.fixture
def queue() -> SchedulingQueue:
    return SchedulingQueue(backoff_initial_s=1.0, backoff_max_s=10.0, unschedulable_flush_s=60.0)


def names(run: Run | None) -> list[str]:
    return [] if run is None else [each.key.name for each in run.waiting]


def fits(lot: Lot) -> Refusal | None:
    return None


def does_not_fit(lot: Lot) -> Refusal | None:
    return NO_ROOM


def pop(queue: SchedulingQueue, limit: int = 100, look: Look = does_not_fit, now_s: float = 0.0) -> list[str]:
    return names(queue.pop(limit, look, now_s))


def dirty(queue: SchedulingQueue) -> bool:
    return queue.has_dirty


def pop_all(queue: SchedulingQueue) -> list[list[str]]:
    runs = []
    while run := pop(queue):
        runs.append(run)
    return runs


# -- turns


def test_highest_priority_first_then_oldest_then_first_come(queue: SchedulingQueue) -> None:
    for pod in (
        waiting("young", created_s=9),
        waiting("old", created_s=1),
        waiting("old-too", created_s=1),
        waiting("important", priority=5, created_s=10),
    ):
        queue.add(pod)
    assert pop(queue, 1) == ["important"]
    assert pop(queue) == ["old", "old-too", "young"]
    assert pop(queue) == []
    assert queue.counts()[State.DECIDING] == 4


def test_a_run_ends_where_it_is_the_turn_of_another_class(queue: SchedulingQueue) -> None:
    for name, cpu in (("a1", "1"), ("a2", "1"), ("b1", "2"), ("a3", "1"), ("b2", "2"), ("b3", "2")):
        queue.add(waiting(name, cpu=cpu))
    assert pop_all(queue) == [["a1", "a2"], ["b1"], ["a3"], ["b2", "b3"]]


def test_a_run_goes_past_a_lot_whose_answer_stands_and_not_past_one_that_may_be_helped(queue: SchedulingQueue) -> None:
    for name, cpu in (("b1", "2"), ("a1", "1"), ("b2", "2"), ("a2", "1"), ("b3", "2"), ("a3", "1"), ("c1", "3")):
        queue.add(waiting(name, cpu=cpu))
    assert pop(queue) == ["b1"]
    queue.refused(["uid-default-b1"], NO_ROOM, 0.0)
    assert pop(queue) == ["a1", "a2", "a3"], "b2 and b3 are told the same as b1, whenever that is"
    queue.add(waiting("a4"))
    queue.help(ClusterEvent.POD_GONE.value)
    assert pop_all(queue) == [["b2", "b3"], ["c1"], ["a4"]]


def test_priorities_and_profiles_are_lots_of_their_own(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    queue.add(waiting("b", priority=1))
    queue.add(waiting("c", profile="binpack"))
    queue.add(waiting("d"))
    assert pop_all(queue) == [["b"], ["a"], ["c"], ["d"]]


def test_a_run_is_no_longer_than_asked_for(queue: SchedulingQueue) -> None:
    for i in range(5):
        queue.add(waiting(f"p{i}"))
    assert [pop(queue, 2), pop(queue, 2), pop(queue, 2), pop(queue, 2)] == [["p0", "p1"], ["p2", "p3"], ["p4"], []]


def test_a_removed_pod_is_never_popped(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    assert queue.remove(pod.uid)
    assert not queue.remove(pod.uid)
    assert pop(queue) == []
    queue.add(pod)
    assert pop(queue) == ["a"]
    assert len(queue) == 1


def test_news_of_a_waiting_pod_changes_its_description_and_not_its_place(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    queue.add(waiting("b"))
    queue.add(waiting("a", cpu="2"))
    queue.add(waiting("c", cpu="2"))
    assert pop_all(queue) == [["a"], ["b"], ["c"]]


def test_many_removed_pods_leave_nothing_behind(queue: SchedulingQueue) -> None:
    for round_ in range(50):
        pods = [waiting(f"p{round_}-{i}", cpu=str(i % 7 + 1)) for i in range(20)]
        for pod in pods:
            queue.add(pod)
        for pod in pods:
            queue.remove(pod.uid)
    assert not queue.has_active
    assert (len(queue), len(queue._at.lots), len(queue._at.line._heap)) == (0, 0, 0)


# -- failed bindings


def test_failed_bindings_back_off_and_double_up_to_the_limit(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    now_s, waits = 0.0, []
    for _ in range(6):
        assert pop(queue) == ["a"]
        queue.failed([pod.uid], now_s)
        assert queue.state(pod.uid) is State.BACKOFF
        due_s = queue.next_due_s()
        assert due_s is not None
        waits.append(due_s - now_s)
        queue.flush(due_s - 0.001)
        assert pop(queue) == []
        now_s = due_s
        queue.flush(now_s)
    assert waits == [1, 2, 4, 8, 10, 10]


# -- refused lots


def refuse(queue: SchedulingQueue, refusal: Refusal = NO_ROOM, now_s: float = 0.0) -> None:
    while run := queue.pop(1000, does_not_fit, now_s):
        queue.refused([each.uid for each in run.waiting], refusal, now_s)


def test_what_did_not_fit_waits_for_an_event_that_its_filters_care_about(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    refuse(queue)
    assert queue.state(pod.uid) is State.UNSCHEDULABLE
    queue.help(ClusterEvent.NODE_TAINTS.value)
    assert not dirty(queue)
    queue.help(ClusterEvent.POD_GONE.value)
    assert dirty(queue)
    assert queue.recheck(does_not_fit, 5.0, 10) == 1
    assert (dirty(queue), queue.state(pod.uid)) == (False, State.UNSCHEDULABLE), "relevant, but not enough"
    queue.help(ClusterEvent.POD_GONE.value)
    queue.recheck(fits, 5.0, 10)
    assert queue.state(pod.uid) is State.ACTIVE
    assert pop(queue) == ["a"]


def test_what_refuses_it_now_counts_and_not_what_did_at_the_attempt(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    refuse(queue, TAINTED)
    queue.help(ClusterEvent.NODE_TAINTS.value)
    queue.recheck(does_not_fit, 5.0, 10)  # the taint went, but by then the node was full
    queue.help(ClusterEvent.NODE_TAINTS.value)
    assert not dirty(queue)
    queue.help(ClusterEvent.POD_GONE.value)
    assert dirty(queue)


def test_without_any_node_only_a_new_one_helps(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    refuse(queue, Refusal("no nodes", frozenset()))
    queue.help(ClusterEvent.POD_GONE.value)
    assert not dirty(queue)
    queue.help(ClusterEvent.NODE_ADDED.value)
    assert dirty(queue)


def test_what_a_plug_in_refused_anything_may_help(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    refuse(queue, Refusal("the plug-in says no", frozenset({"away-from-crowds"})))
    queue.help(ClusterEvent.NODE_LABELS.value)
    assert dirty(queue)


def test_after_a_minute_it_is_looked_at_again_anyway(queue: SchedulingQueue) -> None:
    queue.add(waiting("a"))
    refuse(queue, now_s=7.0)
    assert queue.next_due_s() == 67.0
    queue.flush(66.9)
    assert not dirty(queue)
    queue.flush(67.0)
    assert dirty(queue)
    queue.recheck(does_not_fit, 67.0, 10)
    assert queue.next_due_s() == 127.0


def test_answers_for_pods_that_are_gone_are_ignored(queue: SchedulingQueue) -> None:
    pod = waiting("a")
    queue.add(pod)
    pop(queue)
    queue.remove(pod.uid)
    queue.refused([pod.uid], NO_ROOM, 0.0)
    queue.failed([pod.uid], 0.0)
    queue.nominated([pod.uid], NO_ROOM, 0.0)
    assert len(queue) == 0
    assert queue.next_due_s() is None


def test_one_refusal_is_the_answer_for_all_of_a_lot(queue: SchedulingQueue) -> None:
    for i in range(100):
        queue.add(waiting(f"p{i}"))
    run = queue.pop(1, fits, 0.0)
    assert run is not None
    assert run.standing is None
    queue.refused([run.waiting[0].uid], NO_ROOM, 0.0)
    run = queue.pop(1000, fits, 0.0)
    assert run is not None
    assert (len(run.waiting), run.standing) == (99, NO_ROOM)
    queue.refused([each.uid for each in run.waiting], NO_ROOM, 0.0)
    queue.add(waiting("late"))
    run = queue.pop(1000, fits, 0.0)
    assert run is not None
    assert (names(run), run.standing) == (["late"], NO_ROOM)


def test_a_dirty_lot_has_no_standing_answer_and_its_oldest_go_first(queue: SchedulingQueue) -> None:
    queue.add(waiting("old", created_s=1))
    refuse(queue)
    queue.add(waiting("new", created_s=2))
    queue.help(ClusterEvent.POD_GONE.value)
    run = queue.pop(10, fits, 0.0)
    assert run is not None
    assert (names(run), run.standing) == (["old", "new"], None)


def test_lots_are_looked_at_one_by_one_dirty_longest_first(queue: SchedulingQueue) -> None:
    for cpu in ("1", "2", "3"):
        for i in range(50):
            queue.add(waiting(f"p{cpu}-{i}", cpu=cpu))
    refuse(queue)
    looked: list[int] = []

    def look(lot: Lot) -> Refusal | None:
        looked.append(dict(lot.key.pod_class.shape.requests)["cpu"])
        return NO_ROOM

    queue.help(ClusterEvent.POD_GONE.value)
    queue.help(ClusterEvent.POD_GONE.value)
    assert queue.recheck(look, 1.0, 2) == 2
    queue.help(ClusterEvent.POD_GONE.value)
    assert queue.recheck(look, 1.0, 100) == 3
    assert looked == [1000, 2000, 3000, 1000, 2000]


# -- nominated pods


def nominate(queue: SchedulingQueue, name: str = "a") -> Waiting:
    pod = waiting(name)
    queue.add(pod)
    pop(queue, 1)
    queue.nominated([pod.uid], NO_ROOM, 0.0)
    return pod


def test_a_nominated_pod_waits_until_the_others_are_gone_and_then_goes_alone(queue: SchedulingQueue) -> None:
    pod = nominate(queue)
    assert queue.state(pod.uid) is State.NOMINATED
    assert pop(queue) == []
    queue.add(waiting("b"))
    queue.ready(pod.uid)
    run = queue.pop(10, does_not_fit, 0.0)
    assert run is not None
    assert (names(run), run.together, run.gang) == (["a"], True, None)
    queue.nominated([pod.uid], NO_ROOM, 0.0)
    assert queue.state(pod.uid) is State.NOMINATED
    assert pop(queue) == ["b"]


def test_a_nominated_pod_is_tried_when_its_lot_fits_somewhere(queue: SchedulingQueue) -> None:
    first, second = nominate(queue, "a"), nominate(queue, "b")
    queue.help(ClusterEvent.POD_GONE.value)
    queue.recheck(fits, 0.0, 10)
    assert (queue.state(first.uid), queue.state(second.uid)) == (State.ACTIVE, State.NOMINATED)


def test_a_pod_that_loses_its_nomination_waits_like_any_other(queue: SchedulingQueue) -> None:
    pod = nominate(queue)
    queue.renounce(pod.uid)
    run = queue.pop(10, does_not_fit, 0.0)
    assert run is not None
    assert (names(run), run.together) == (["a"], False)


# -- gangs


def test_a_gang_has_its_turn_when_it_is_complete_and_then_all_at_once(queue: SchedulingQueue) -> None:
    for i in range(2):
        queue.add(waiting(f"g{i}", gang=GANG), need=3)
    assert [queue.state(pod.uid) for pod in queue.waiting_of(GANG)] == [State.GATHERING] * 2
    assert pop(queue) == []
    queue.add(waiting("g2", cpu="2", gang=GANG), need=3)
    run = queue.pop(1, does_not_fit, 0.0)
    assert run is not None
    assert (names(run), run.together, run.gang, run.need) == (["g0", "g1", "g2"], True, GANG, 3)


def test_a_gang_is_as_old_as_its_oldest_and_as_important_as_its_least_important(queue: SchedulingQueue) -> None:
    queue.add(waiting("g0", created_s=5, priority=9, gang=GANG), need=2)
    queue.add(waiting("g1", created_s=7, priority=3, gang=GANG), need=2)
    queue.add(waiting("a", created_s=9, priority=5))
    queue.add(waiting("b", created_s=4, priority=3))
    queue.add(waiting("c", created_s=6, priority=3))
    assert pop_all(queue) == [["a"], ["b"], ["g0", "g1"], ["c"]]


def test_members_beyond_what_is_needed_go_for_themselves_once_the_gang_runs(queue: SchedulingQueue) -> None:
    for i in range(3):
        queue.add(waiting(f"g{i}", gang=GANG), need=2)
    run = queue.pop(10, does_not_fit, 0.0)
    assert run is not None
    assert queue.set_need(GANG, 0) == []
    queue.refused([run.waiting[2].uid], NO_ROOM, 0.0)
    assert queue.state(run.waiting[2].uid) is State.UNSCHEDULABLE
    queue.add(waiting("g3", gang=GANG), need=0)
    again = queue.pop(10, does_not_fit, 0.0)
    assert again is not None
    assert (names(again), again.standing, again.together) == (["g3"], NO_ROOM, False)


def test_a_gang_whose_binding_failed_backs_off_as_a_whole(queue: SchedulingQueue) -> None:
    pods = [waiting(f"g{i}", gang=GANG) for i in range(2)]
    for pod in pods:
        queue.add(pod, need=2)
    pop(queue)
    queue.set_need(GANG, 0)  # they are assumed
    queue.set_need(GANG, 2)  # and then not
    queue.failed([pod.uid for pod in pods], 10.0)
    assert [queue.state(pod.uid) for pod in pods] == [State.BACKOFF] * 2
    queue.flush(10.9)
    assert pop(queue) == []
    queue.flush(11.0)
    assert pop(queue) == ["g0", "g1"]


def test_a_gang_that_did_not_fit_is_tried_again_after_an_event_and_its_back_off(queue: SchedulingQueue) -> None:
    for i in range(2):
        queue.add(waiting(f"g{i}", gang=GANG), need=2)
    refuse(queue)
    queue.help(ClusterEvent.POD_GONE.value)
    queue.recheck(does_not_fit, 0.5, 10)
    assert queue.state(queue.waiting_of(GANG)[0].uid) is State.BACKOFF
    queue.flush(1.0)
    assert pop(queue) == ["g0", "g1"]
    queue.refused([pod.uid for pod in queue.waiting_of(GANG)], NO_ROOM, 1.0)
    queue.help(ClusterEvent.POD_GONE.value)
    queue.recheck(does_not_fit, 9.0, 10)
    assert pop(queue) == ["g0", "g1"], "the back-off was over"


def test_another_member_gives_a_gang_another_chance(queue: SchedulingQueue) -> None:
    for i in range(2):
        queue.add(waiting(f"g{i}", gang=GANG), need=2)
    refuse(queue)
    assert not dirty(queue)
    queue.add(waiting("g2", cpu="500m", gang=GANG))
    assert dirty(queue)


def test_a_gang_that_lost_members_gathers_again(queue: SchedulingQueue) -> None:
    pods = [waiting(f"g{i}", gang=GANG) for i in range(2)]
    for pod in pods:
        queue.add(pod, need=2)
    queue.remove(pods[0].uid)
    assert queue.state(pods[1].uid) is State.GATHERING
    assert pop(queue) == []
    queue.add(pods[0])
    assert pop(queue) == ["g1", "g0"]
    queue.remove(pods[0].uid)
    queue.remove(pods[1].uid)
    assert (len(queue), len(queue._at.gangs), len(queue._at.lots)) == (0, 0, 0)


# -- the same as one by one


@dataclass
class Scene:
    """Room for so many cpus, on which pods are placed in the order of their turns."""

    free: int
    placed: list[str] = field(default_factory=list)

    def decide(self, pod: Waiting) -> bool:
        asked = dict(pod.pod.pod_class.shape.requests)["cpu"] // 1000
        if asked > self.free:
            return False
        self.free -= asked
        self.placed.append(pod.key.name)
        return True


PODS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 3)), max_size=12)


@settings(max_examples=60)
@given(st.lists(st.tuples(PODS, st.integers(0, 8)), min_size=1, max_size=5), st.integers(1, 5))
def test_runs_are_the_same_as_one_by_one(steps: list[tuple[list[tuple[int, int, int]], int]], limit: int) -> None:
    """Pods come and room comes; after each step everybody is tried in the order of turns, whatever lot he is of."""
    queue = SchedulingQueue(backoff_initial_s=1.0, backoff_max_s=10.0, unschedulable_flush_s=60.0)
    ours, plain = Scene(0), Scene(0)
    left: list[tuple[tuple[int, int, int], Waiting]] = []
    number = 0
    for pods, room in steps:
        for cpu, priority, created_s in pods:
            number += 1
            pod = waiting(f"p{number}", cpu=str(cpu), priority=priority, created_s=created_s)
            queue.add(pod)
            left.append(((-priority, created_s, number), pod))
        ours.free += room
        plain.free += room
        left.sort(key=lambda entry: entry[0])
        left = [entry for entry in left if not plain.decide(entry[1])]

        def look(lot: Lot) -> Refusal | None:
            asked = dict(lot.key.pod_class.shape.requests)["cpu"] // 1000
            return NO_ROOM if asked > ours.free else None

        if room:
            queue.help(ClusterEvent.POD_GONE.value)
            queue.recheck(look, 0.0, 1000)
        while run := queue.pop(limit, look, 0.0):
            if run.standing is not None:
                queue.refused([each.uid for each in run.waiting], run.standing, 0.0)
                continue
            for index, each in enumerate(run.waiting):
                if not ours.decide(each):
                    queue.refused([other.uid for other in run.waiting[index:]], NO_ROOM, 0.0)
                    break
                queue.remove(each.uid)
        assert ours.placed == plain.placed
        assert len(queue) == len(left)


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
