"""The scheduler's picture and its decisions: priorities, gates, groups, profiles, memory; without any I/O."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.cycle import Placement
from cluster.scheduler.deciding import DECISIONS_PER_LOOK
from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import State
from cluster.scheduler.profiles import resolve
from cluster.scheduler.records import Nominated, Records, Stamp
from cluster.scheduler.settings import ProfileSettings, SchedulerSettings
from cluster.scheduler.world import World
from tests.unit.scheduler.build import make_node, make_pod
from tests.unit.scheduler.play import Play


@pytest.fixture
def play() -> Play:
    return Play(World(SchedulerSettings(), random.Random(1)))


# -- priorities


def test_the_more_important_pod_gets_the_room(play: Play) -> None:
    play.nodes(1, {"pods": "2"})
    play.add(make_pod("old", created_s=1), make_pod("vip", created_s=9, priority=5), make_pod("older", created_s=0))
    play.settle()
    assert play.order == ["vip", "older"]
    assert play.told["old"] == "0/1 nodes are available: 1 Too many pods."


# -- gates


def test_gated_pods_are_not_there_until_the_last_gate_goes(play: Play) -> None:
    play.nodes(1)
    for i in range(1000):
        play.add(make_pod(f"gated-{i}", gates=["a"]))
    assert (len(play.world.queue), play.world.has_work(0.0)) == (0, False)
    play.change("gated-7", gates="none")
    play.settle()
    assert play.placed() == {"gated-7": "n0"}
    play.gone("gated-8")
    assert len(play.world.queue) == 0


# -- groups


def gang(name: str, count: int, least: int, cpu: str = "1", **more: object) -> list[core.Pod]:
    return [make_pod(f"{name}-{i}", {"cpu": cpu}, group=(name, least), **more) for i in range(count)]  # type: ignore[arg-type]


def test_a_group_waits_until_it_is_complete_and_is_bound_in_one_write(play: Play) -> None:
    play.nodes(2)
    members = gang("g", 4, 4)
    play.add(*members[:3])
    play.settle()
    assert (play.placed(), play.state("g-0")) == ({}, State.GATHERING)
    play.add(members[3])
    decisions = play.decide()
    assert decisions.bindings == []
    assert [len(each) for each in decisions.gangs] == [4]


def test_all_or_nothing_and_nothing_is_left_of_the_trial(play: Play) -> None:
    play.nodes(2, {"cpu": "2"})
    play.add(make_pod("other", {"cpu": "1"}, labels={"app": "x"}))
    play.settle()
    before = play.books()
    play.add(*gang("g", 4, 4))
    decisions = play.decide()
    assert (decisions.gangs, decisions.bindings) == ([], [])
    assert play.books() == before
    words = "pod group g: 4 of its members cannot be placed together: 0/2 nodes are available: 2 Insufficient cpu."
    assert {play.told[f"g-{i}"] for i in range(4)} == {words}
    play.gone("other")
    play.now_s = 20.0
    play.settle()
    assert Counter(play.placed().values()) == {"n0": 2, "n1": 2}


def test_members_of_different_kinds_go_together(play: Play) -> None:
    play.nodes(2, {"cpu": "4"})
    play.add(*gang("g", 2, 3, "3"))
    play.add(make_pod("g-x", {"cpu": "3"}, labels={"role": "x"}, group=("g", 3)))
    play.settle()
    assert play.placed() == {}
    play.world.node_changed(None, make_node("n2"))
    play.now_s = 20.0
    play.settle()
    assert set(play.placed()) == {"g-0", "g-1", "g-x"}


def test_what_is_beyond_the_needed_number_is_placed_as_far_as_there_is_room(play: Play) -> None:
    play.nodes(1, {"cpu": "3"})
    play.add(*gang("g", 5, 2))
    play.settle()
    assert set(play.placed()) == {"g-0", "g-1", "g-2"}
    assert play.told["g-3"] == "0/1 nodes are available: 1 Insufficient cpu."
    play.gone("g-0")
    play.settle()
    assert set(play.placed()) == {"g-1", "g-2", "g-3"}


def test_later_members_go_for_themselves_while_the_group_runs(play: Play) -> None:
    play.nodes(1, {"cpu": "4"})
    play.add(*gang("g", 3, 2)[:2])
    play.settle()
    play.change("g-0", phase="Succeeded")
    play.add(gang("g", 3, 2)[2])
    play.settle()
    assert set(play.placed()) == {"g-0", "g-1", "g-2"}
    play.change("g-1", phase="Failed")
    play.change("g-2", phase="Failed")
    play.add(make_pod("g-3", {"cpu": "1"}, group=("g", 3)))
    play.settle()
    assert play.state("g-3") is State.GATHERING, "one has done its part, two more are needed"


def test_two_groups_never_hold_half_of_what_each_needs(play: Play) -> None:
    """Members come in turns, and there is room for one of the groups only: one runs, the other holds nothing."""
    play.nodes(2, {"cpu": "2"})
    one, two = gang("one", 4, 4), gang("two", 4, 4)
    for a, b in zip(one, two, strict=True):
        play.add(a, b)
        play.settle()
    assert sorted(play.placed()) == [f"one-{i}" for i in range(4)]
    play.gone(*[f"one-{i}" for i in range(4)])
    play.now_s = 20.0
    play.settle()
    assert sorted(play.placed()) == [f"two-{i}" for i in range(4)]


@pytest.mark.parametrize("seed", range(20))
def test_many_groups_get_through_one_after_the_other(play: Play, seed: int) -> None:
    """Whatever order their members come in, and however they end: every group runs in the end."""
    rng = random.Random(seed)
    play.nodes(3, {"cpu": "2"})
    sizes = {f"g{i}": rng.randrange(2, 7) for i in range(8)}
    members = [pod for name, size in sizes.items() for pod in gang(name, size, size)]
    rng.shuffle(members)
    finished: set[str] = set()
    while len(finished) < len(sizes):
        if members:
            play.add(members.pop())
        play.settle()
        running = Counter(name.split("-")[0] for name in play.placed())
        assert all(count == sizes[name] for name, count in running.items()), "a group runs as a whole, or not at all"
        if running and (not members or rng.random() < 0.3):
            done = rng.choice(sorted(running))
            finished.add(done)
            play.gone(*[f"{done}-{i}" for i in range(sizes[done])])
        play.now_s += 11.0
    assert play.placed() == {}


def test_a_group_whose_binding_failed_is_tried_again_as_a_whole(play: Play) -> None:
    play.nodes(1, {"cpu": "2"})
    before = play.books()
    play.add(*gang("g", 2, 2))
    [members] = play.decide().gangs
    play.world.unbound([binding.waiting.uid for binding in members], 0.0)
    assert play.books() == before
    assert play.state("g-0") is State.BACKOFF
    play.now_s = 1.0
    play.settle()
    assert set(play.placed()) == {"g-0", "g-1"}


def test_members_say_that_others_are_missing_after_the_time_they_name(play: Play) -> None:
    play.nodes(1)
    play.add(*gang("g", 2, 3))
    play.settle()
    assert play.world.next_due_s() == 60.0
    play.now_s = 59.0
    assert not play.world.has_work(play.now_s)
    play.now_s = 60.0
    play.decide()
    assert play.told == {"g-0": "pod group g has 2 of 3 members", "g-1": "pod group g has 2 of 3 members"}
    play.add(gang("g", 3, 3)[2])
    play.settle()
    assert len(play.placed()) == 3
    play.now_s = 200.0
    play.settle()
    assert play.world.next_due_s() is None


def test_more_than_can_be_bound_at_once_is_said_so(play: Play) -> None:
    play.nodes(30)
    for pod in gang("g", 2001, 2001, "1m"):
        play.add(pod)
    play.settle()
    assert play.told["g-0"] == "pod group g: 2001 pods cannot be bound at once, the most is 2000"


# -- profiles


def test_the_default_spreads_and_binpack_fills_up() -> None:
    play = Play(World(SchedulerSettings(), random.Random(1)))
    play.nodes(3)
    for name in ("default-scheduler", "binpack"):
        play.add(*(make_pod(f"{name}-{i}", {"cpu": "1", "memory": "1Gi"}, scheduler=name) for i in range(3)))
        play.settle()
        nodes = Counter(play.placed().values())
        assert sorted(nodes.values()) == ([1, 1, 1] if name == "default-scheduler" else [3])
        play.gone(*list(play.pods))


# Shapes of requests (cpu in thousandths, memory in Mi) with their shares, as published of machines that are rented out
# (Azure's traces: few cpus and up to 8 GB for each) and of small services.
RENTED = [
    ((1000, 1792), 17), ((1000, 2048), 10), ((2000, 4096), 16), ((2000, 8192), 12), ((2000, 3584), 10),
    ((4000, 8192), 12), ((4000, 16384), 8), ((4000, 7168), 5), ((8000, 16384), 4), ((8000, 28672), 3),
]  # fmt: skip
SERVICES = [
    ((100, 128), 30),
    ((250, 256), 20),
    ((250, 1024), 10),
    ((500, 512), 15),
    ((500, 2048), 10),
    ((1000, 4096), 4),
]


def best_fit_decreasing(pods: list[tuple[int, int]], cpu: int, memory: int) -> int:
    """How many nodes it takes, largest pods first, each where the least is left."""
    free: list[tuple[int, int]] = []
    for asks in sorted(pods, key=lambda pod: -max(pod[0] / cpu, pod[1] / memory)):
        left = [
            ((c - asks[0]) / cpu + (m - asks[1]) / memory, i)
            for i, (c, m) in enumerate(free)
            if c >= asks[0] and m >= asks[1]
        ]
        if left:
            _, i = min(left)
            free[i] = (free[i][0] - asks[0], free[i][1] - asks[1])
        else:
            free.append((cpu - asks[0], memory - asks[1]))
    return len(free)


@pytest.mark.parametrize(("mix", "cpu", "memory"), [(RENTED, 32_000, 131_072), (SERVICES, 16_000, 32_768)])
def test_binpack_uses_no_more_nodes_than_best_fit_decreasing(
    play: Play, mix: list[tuple[tuple[int, int], int]], cpu: int, memory: int
) -> None:
    """By 3 %, though it has to take the pods in the order in which they come."""
    rng = random.Random(5)
    pods = rng.choices([asks for asks, _ in mix], [share for _, share in mix], k=800)
    play.nodes(120, {"cpu": f"{cpu}m", "memory": f"{memory}Mi", "pods": "1000"})
    for i, (asks_cpu, asks_memory) in enumerate(pods):
        asks = {"cpu": f"{asks_cpu}m", "memory": f"{asks_memory}Mi"}
        play.add(make_pod(f"p{i}", asks, scheduler="binpack", created_s=float(i)))
    play.settle()
    assert len(play.placed()) == len(pods)
    assert len(set(play.placed().values())) <= 1.03 * best_fit_decreasing(pods, cpu, memory)


def test_a_pod_of_an_unknown_scheduler_waits_and_it_is_said_once_after_a_while(play: Play) -> None:
    play.nodes(1)
    play.add(make_pod("mine", scheduler="mine"), make_pod("taken", scheduler="theirs"))
    play.settle()
    assert (len(play.world.queue), play.world.next_due_s()) == (0, 30.0)
    play.change("taken", node="n0")
    play.now_s = 30.0
    [stranger] = play.decide().strangers
    assert (stranger.key.name, stranger.scheduler) == ("mine", "mine")
    assert not play.world.has_work(1000.0)


# -- plug-ins


def refuse_all(pod: object, nodes: object) -> np.ndarray:
    return np.zeros(len(nodes), np.bool_)  # type: ignore[arg-type]


def fail(pod: object, nodes: object) -> np.ndarray:
    raise ZeroDivisionError("division by zero")


def world_with(**profile: object) -> Play:
    functions = {"refuse": refuse_all, "fail": fail}
    settings = {"mine": ProfileSettings(**profile)}  # type: ignore[arg-type]
    return Play(World(SchedulerSettings(), random.Random(1), resolve(settings, functions.__getitem__)))


def test_a_filter_of_a_plug_in_keeps_pods_of_its_profile_away_and_no_others() -> None:
    play = world_with(filters=("refuse",))
    play.nodes(2)
    play.add(make_pod("a", scheduler="mine"), make_pod("b"))
    play.settle()
    assert set(play.placed()) == {"b"}
    assert play.told["a"] == "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [refuse]."


def test_a_filter_that_fails_lets_nobody_in_until_it_works_again() -> None:
    play = world_with(filters=("fail",))
    play.nodes(1)
    play.add(make_pod("a", scheduler="mine"))
    play.settle()
    assert play.told["a"] == (
        "0/1 nodes are available: 1 node(s) couldn't be judged by plugin [fail], ZeroDivisionError: division by zero."
    )
    [plugin] = play.world.profiles["mine"].plugins
    plugin.function = lambda pod, nodes: np.ones(len(nodes), np.bool_)
    play.now_s = 61.0
    play.settle()
    assert play.placed() == {"a": "n0"}
    assert plugin.failures == 1


def test_a_score_that_fails_counts_nothing_and_pods_go_on() -> None:
    play = world_with(weights={"fail": 5})
    play.nodes(2)
    play.add(*(make_pod(f"p{i}", scheduler="mine") for i in range(10)))
    assert play.decide().broken == ["plug-in fail of profile mine is cut out: ZeroDivisionError: division by zero"]
    assert play.decide().broken == []
    play.gone(*list(play.pods))
    play.add(*(make_pod(f"p{i}", scheduler="mine") for i in range(10)))
    play.settle()
    assert Counter(play.placed().values()) == {"n0": 5, "n1": 5}
    assert play.world.profiles["mine"].plugins[0].failures == 1


# -- those that never fit


def test_ten_thousand_that_never_fit_are_one_question() -> None:
    """What is decided about, and looked at again, does not grow with those that never fit."""
    work = {}
    for hopeless in (0, 10_000):
        play = Play(World(SchedulerSettings(decisions_kept=0), random.Random(1)))
        play.nodes(20, {"pods": "1000"})
        never = [make_pod("never", {"cpu": "1000"}) for _ in range(1)]
        for i in range(hopeless):
            pod = core.Pod()
            pod.CopyFrom(never[0])
            pod.metadata.name = pod.metadata.uid = f"never-{i}"
            pod.metadata.creationTimestamp.seconds = i % 100
            play.add(pod)
        for i in range(1000):
            play.add(make_pod(f"good-{i}", {"cpu": "10m"}, created_s=i % 100))
        decider = play.world._decider
        play.settle(limit=250)
        assert sum(name.startswith("good") for name in play.placed()) == 1000
        for i in range(20):  # every pod that leaves may help
            play.gone(f"good-{i}")
            play.settle(limit=250)
        work[hopeless] = decider.decided + decider.looks
    assert work[10_000] - work[0] <= work[0] // 10


def test_many_different_ones_that_never_fit_are_looked_at_in_turns() -> None:
    play = Play(World(SchedulerSettings(), random.Random(1)))
    play.nodes(5, {"pods": "1000"})
    for i in range(300):
        play.add(make_pod(f"never-{i}", {"cpu": str(1000 + i)}))
    play.settle()
    decider = play.world._decider
    decided, looks = decider.decided, decider.looks
    for i in range(1000):
        play.add(make_pod(f"good-{i}", {"cpu": "1m"}))
    play.add(make_pod("goes"))
    play.settle(limit=100)
    play.gone("goes")  # which may help all of them
    for i in range(1000):
        play.add(make_pod(f"more-{i}", {"cpu": "1m"}))
    while play.world.queue.has_active:
        play.decide(100)
    assert decider.decided - decided == 2001
    assert decider.looks - looks <= 2001 // DECISIONS_PER_LOOK + 12
    play.settle()
    assert decider.looks - looks >= 300, "when there is nothing else to do, all are looked at"


def test_the_oldest_of_those_that_wait_get_the_room_that_turns_up(play: Play) -> None:
    play.nodes(1, {"pods": "1"})
    play.add(*(make_pod(f"p{i}", created_s=float(i)) for i in range(20)))
    play.settle()
    for _ in range(19):
        [name] = play.placed()
        play.add(make_pod(f"late-{name}", created_s=100.0))
        play.gone(name)
        play.settle()
    assert play.order == [f"p{i}" for i in range(20)]


def test_contradictory_wishes_have_clear_reasons(play: Play) -> None:
    play.nodes(3)
    play.add(
        make_pod("nowhere", selector={"kubernetes.io/hostname": "n9"}),
        make_pod("huge", {"cpu": "4611686018427387903"}),
        make_pod("zero", {"cpu": "0", "memory": "0"}),
        make_pod("unknown", {"example.com/thing": "1"}),
    )
    play.settle()
    assert set(play.placed()) == {"zero"}
    assert play.told == {
        "nowhere": "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        "huge": "0/3 nodes are available: 3 Insufficient cpu.",
        "unknown": "0/3 nodes are available: 3 Insufficient example.com/thing.",
    }


def test_those_that_still_wait_are_told_again_once_a_minute_if_something_has_changed(play: Play) -> None:
    play.nodes(1, {"cpu": "1"})
    play.add(make_pod("big", {"cpu": "2"}))
    play.settle()
    assert play.told == {"big": "0/1 nodes are available: 1 Insufficient cpu."}
    play.world.node_changed(None, make_node("n1", {"cpu": "1"}))
    play.told.clear()
    play.settle()
    assert play.told == {}
    play.now_s = 61.0
    play.settle()
    assert play.told == {"big": "0/2 nodes are available: 2 Insufficient cpu."}


# -- memory


def test_decisions_are_remembered_with_all_that_a_replay_needs(play: Play) -> None:
    play.nodes(2, {"cpu": "1"})
    play.add(make_pod("a", {"cpu": "1"}), make_pod("b", {"cpu": "1"}), make_pod("c", {"cpu": "1"}))
    play.world.decide(1000, 0.0, Stamp(17, 1000.5))
    records = play.world.records
    first = records.latest("uid-default-a")
    last = records.latest("uid-default-c")
    assert first is not None
    assert last is not None
    assert (first.key.name, first.stamp, first.number, last.number) == ("a", Stamp(17, 1000.5), 1, 3)
    assert isinstance(first.outcome, Placement)
    assert (first.outcome.feasible, first.outcome.ties, first.lot.profile) == (2, 2, "default-scheduler")
    assert isinstance(last.outcome, Refusal)
    assert last.outcome.filters == {"Resources"}
    assert first.class_number == last.class_number
    assert [each.key.name for each in records.since(2)] == ["b", "c"]
    assert records.latest("nobody") is None


def test_the_ring_is_bounded_in_decisions_and_in_bytes() -> None:
    play = Play(World(SchedulerSettings(decisions_kept=100), random.Random(1)))
    play.nodes(1, {"pods": "10000"})
    play.add(*(make_pod(f"p{i}") for i in range(1000)))
    while play.world.has_work(0.0):
        play.decide(30)
    records = play.world.records
    assert len(records) <= 130
    assert records.made == 1000
    assert records.latest("uid-default-p0") is None
    assert records.latest("uid-default-p999") is not None
    assert len(records._latest) == len(records)
    small = Records(10**6, bytes_limit=100_000)
    waiting = [play.world.queue.get("uid-default-p999") for _ in range(10)]
    assert waiting[0] is not None
    for _ in range(1000):
        small.add(Stamp(), [waiting[0]] * 10, Refusal("x" * 1000, frozenset()))
    assert len(small) <= 250
    nothing = Records(0)
    nothing.add(Stamp(), [waiting[0]], Nominated("n1", (), Refusal("", frozenset())))
    assert (len(nothing), nothing.made) == (0, 1)
