"""Preemption as a story: who is sent away, who waits for that, whose place is whose meanwhile."""

from __future__ import annotations

import random

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.lots import State
from cluster.scheduler.records import Nominated
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.world import World
from tests.unit.scheduler.build import host_port, make_node, make_pod
from tests.unit.scheduler.play import Play


@pytest.fixture
def play() -> Play:
    return Play(World(SchedulerSettings(), random.Random(1)))


def full(play: Play, nodes: int, priority: int = 0) -> None:
    """Nodes with a cpu each, and a pod that takes it."""
    play.nodes(nodes, {"cpu": "1"})
    for i in range(nodes):
        play.add(make_pod(f"low-{i}", {"cpu": "1"}, node=f"n{i}", priority=priority, labels={"app": "low"}))


def budget(name: str, allowed: int, app: str = "low") -> core.PodDisruptionBudget:
    made = core.PodDisruptionBudget()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.selector.matchLabels["app"] = app
    made.status.disruptionsAllowed = allowed
    return made


def test_others_make_room_and_the_pod_takes_it_when_they_are_gone(play: Play) -> None:
    full(play, 2)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    decisions = play.decide()
    assert (play.evicted, decisions.bindings, play.state("vip")) == (["low-0"], [], State.NOMINATED)
    assert play.nominated["vip"] == "n0"
    assert play.told["vip"] == (
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 1 pod(s) of lower priority make room on n0."
    )
    [eviction] = decisions.evictions
    assert (eviction.node, eviction.preemptor.name, eviction.profile) == ("n0", "vip", "default-scheduler")
    record = play.world.records.latest("uid-default-vip")
    assert record is not None
    assert isinstance(record.outcome, Nominated)
    assert record.outcome.victims == ("default/low-0",)
    play.settle()
    assert play.state("vip") is State.NOMINATED
    play.change("low-0", going=True)
    play.settle()
    assert (play.state("vip"), play.evicted) == (State.NOMINATED, ["low-0"]), "not again while it is on its way"
    play.gone("low-0")
    play.settle()
    assert play.placed()["vip"] == "n0"


def test_the_place_is_held_against_pods_that_are_no_more_important(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    play.gone("low-0")
    play.add(make_pod("like", {"cpu": "1"}, priority=5, created_s=-9), make_pod("low", {"cpu": "1"}))
    play.settle()
    assert play.placed() == {"vip": "n0"}
    assert play.told["low"] == "0/1 nodes are available: 1 Insufficient cpu."


def test_a_more_important_pod_takes_it_and_the_nomination_is_cleared(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    play.gone("low-0")
    play.add(make_pod("king", {"cpu": "1"}, priority=9))
    decisions = play.decide()
    assert [binding.waiting.key.name for binding in decisions.bindings] == ["king"]
    play.world.pod_changed(play.pods["king"], bound(play.pods["king"], "n0"))
    play.settle()
    assert (play.state("vip"), play.nominated["vip"]) == (State.UNSCHEDULABLE, "")


def bound(pod: core.Pod, node: str) -> core.Pod:
    new = core.Pod()
    new.CopyFrom(pod)
    new.spec.nodeName = node
    return new


def test_a_more_important_one_that_needs_room_too_takes_over_the_victims(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    play.add(make_pod("king", {"cpu": "1"}, priority=9))
    play.decide()
    assert play.evicted == ["low-0"], "it is going already"
    assert (play.nominated["king"], play.nominated["vip"]) == ("n0", "")
    play.gone("low-0")
    play.settle()
    assert play.placed() == {"king": "n0"}


def test_many_of_a_kind_send_away_one_each_and_no_more(play: Play) -> None:
    full(play, 10)
    play.add(*(make_pod(f"vip-{i}", {"cpu": "1"}, priority=5) for i in range(6)))
    decisions = play.decide()
    assert len(decisions.evictions) == 6
    assert len(set(play.evicted)) == 6
    play.gone(*play.evicted)
    play.settle()
    assert sum(name.startswith("vip") for name in play.placed()) == 6


def test_never_means_never_and_says_so(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5, policy="Never"))
    play.settle()
    assert play.evicted == []
    assert play.told["vip"] == (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    )


def test_where_nobody_can_make_room_it_says_why(play: Play) -> None:
    full(play, 2)
    play.world.node_changed(None, make_node("tainted", taints=[("for", "db", "NoSchedule")]))
    play.add(make_pod("huge", {"cpu": "2"}, priority=5))
    play.settle()
    assert play.told["huge"] == (
        "0/3 nodes are available: 1 node(s) had taint {for: db}, that the pod didn't tolerate, 2 Insufficient cpu. "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )


def test_a_place_that_turns_up_elsewhere_is_taken(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    play.world.node_changed(None, make_node("n9", {"cpu": "1"}))
    play.settle()
    assert play.placed()["vip"] == "n9"
    play.add(make_pod("next", {"cpu": "1"}, priority=1))
    play.gone("low-0")
    play.settle()
    assert play.placed()["next"] == "n0", "nobody holds that place any more"


def test_a_node_that_goes_takes_the_nomination_with_it(play: Play) -> None:
    full(play, 2)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    play.world.node_changed(make_node("n0"), None)
    play.settle()
    assert play.placed()["vip"] == "n1"
    assert play.evicted == ["low-0", "low-1"]


def test_a_victim_that_could_not_be_told_is_spared_and_another_way_is_looked_for(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    [eviction] = play.decide().evictions
    play.world.spared([eviction.victim.uid])
    assert play.state("vip") is State.ACTIVE
    play.decide()
    assert play.evicted == ["low-0", "low-0"]


def test_a_preemptor_that_is_deleted_gives_its_place_back(play: Play) -> None:
    full(play, 1)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5), make_pod("low", {"cpu": "1"}))
    play.decide()
    play.gone("vip")
    play.gone("low-0")
    play.settle()
    assert play.placed() == {"low": "n0"}
    assert len(play.world.nominations) == 0


def test_after_a_restart_the_room_that_was_made_is_found_without_sending_away_more(play: Play) -> None:
    full(play, 2)
    leaving = bound(play.pods["low-1"], "n1")
    leaving.metadata.deletionTimestamp.seconds = 1
    play.world.pod_changed(None, leaving)
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    assert (play.evicted, play.nominated["vip"]) == ([], "n1")
    assert play.told["vip"].endswith("preemption: pods that are going make room on n1.")
    play.gone("low-1")
    play.settle()
    assert play.placed()["vip"] == "n1"


def test_budgets_turn_the_choice_and_are_gone_beyond_only_if_nothing_else_helps(play: Play) -> None:
    full(play, 3)
    play.add(make_pod("other", {"cpu": "1"}, node="n9", priority=4))
    play.world.node_changed(None, make_node("n9", {"cpu": "1"}))
    play.world.budget_changed(None, budget("low", 1))
    play.add(*(make_pod(f"vip-{i}", {"cpu": "1"}, priority=5) for i in range(4)))
    play.decide()
    assert play.evicted == ["low-0", "other", "low-1", "low-2"], "one is allowed, others only if need be"


def test_news_of_a_budget_count_at_once(play: Play) -> None:
    full(play, 2)
    play.world.budget_changed(None, budget("low", 0))
    play.add(make_pod("other", {"cpu": "1"}, node="n9", priority=4))
    play.world.node_changed(None, make_node("n9", {"cpu": "1"}))
    play.add(make_pod("vip", {"cpu": "1"}, priority=5))
    play.decide()
    assert play.evicted == ["other"]
    play.world.budget_changed(None, budget("low", 2))
    play.add(make_pod("vip-2", {"cpu": "1"}, priority=5))
    play.decide()
    assert play.evicted == ["other", "low-0"]
    play.world.budget_changed(budget("low", 2), None)


def test_pods_that_others_want_to_be_apart_from_make_room_too(play: Play) -> None:
    play.nodes(1)
    low = make_pod("low", {"cpu": "1"}, node="n0", labels={"app": "low"})
    term = low.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add()
    term.topologyKey = "kubernetes.io/hostname"
    term.labelSelector.matchLabels["app"] = "vip"
    play.add(low, make_pod("friend", {"cpu": "1"}, node="n0"))
    play.add(make_pod("vip", {"cpu": "1"}, priority=5, labels={"app": "vip"}))
    play.settle()
    assert play.evicted == ["low"]
    assert play.placed() == {"friend": "n0", "vip": "n0"}


@pytest.mark.parametrize(("db", "evicted"), [(9, ["x-n0"]), (1, [])])
def test_one_that_wants_to_be_near_others_sends_none_away_where_those_would_have_to_go(
    play: Play, db: int, evicted: list[str]
) -> None:
    """Kubernetes' rule: without all pods of lower priority it has to fit, also without those that it wants near."""
    play.nodes(2, {"cpu": "2"})
    for node in ("n0", "n1"):
        play.add(make_pod(f"db-{node}", {"cpu": "1"}, node=node, labels={"app": "db"}, priority=db))
        play.add(make_pod(f"x-{node}", {"cpu": "1"}, node=node, priority=2))
    vip = make_pod("vip", {"cpu": "1"}, priority=5)
    term = vip.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add()
    term.topologyKey = "kubernetes.io/hostname"
    term.labelSelector.matchLabels["app"] = "db"
    play.add(vip)
    before = play.books()
    play.decide()
    assert play.evicted == evicted
    play.world.spared([f"uid-default-{name}" for name in evicted])
    assert play.books()[:4] == before[:4], "what was tried has left nothing behind"


def test_a_port_is_made_free(play: Play) -> None:
    play.nodes(1)
    play.add(make_pod("low", node="n0", ports=[host_port(80)]), make_pod("friend", node="n0"))
    play.add(make_pod("vip", priority=5, ports=[host_port(80)]))
    play.settle()
    assert (play.evicted, play.placed()["vip"]) == (["low"], "n0")


# -- groups


def gang(count: int, priority: int = 5, **more: object) -> list[core.Pod]:
    return [make_pod(f"g-{i}", {"cpu": "1"}, priority=priority, group=("g", count), **more) for i in range(count)]  # type: ignore[arg-type]


def test_a_group_makes_room_as_a_whole(play: Play) -> None:
    full(play, 3)
    play.world.node_changed(None, make_node("free", {"cpu": "1"}))
    play.add(*gang(3))
    decisions = play.decide()
    assert (len(play.evicted), decisions.gangs) == (2, [])
    assert sorted(play.nominated[f"g-{i}"] for i in range(3)) == ["free", "n0", "n1"]
    play.add(make_pod("late", {"cpu": "1"}))
    play.settle()
    assert "late" not in play.placed(), "the free node is held for the group, too"
    play.gone("low-0")
    play.settle()
    assert not any(name.startswith("g-") for name in play.placed())
    play.gone("low-1")
    play.settle()
    assert sorted(play.placed()[f"g-{i}"] for i in range(3)) == ["free", "n0", "n1"]


def test_or_not_at_all(play: Play) -> None:
    full(play, 2)
    play.add(make_pod("high", {"cpu": "1"}, node="n2", priority=9))
    play.world.node_changed(None, make_node("n2", {"cpu": "1"}))
    before = play.books()
    play.add(*gang(3))
    play.decide()
    assert (play.evicted, len(play.world.nominations)) == ([], 0)
    assert play.books()[:4] == before[:4]
    play.gone("high")
    play.now_s = 20.0
    play.settle()
    assert len(play.evicted) == 2
    assert sum(name.startswith("g-") for name in play.placed()) == 3


def test_the_least_important_member_says_how_important_a_group_is(play: Play) -> None:
    full(play, 2, priority=3)
    members = gang(2)
    members[1] = make_pod("g-1", {"cpu": "1"}, priority=2, group=("g", 2))
    play.add(*members)
    play.settle()
    assert play.evicted == []


def test_a_member_that_goes_makes_the_others_places_void(play: Play) -> None:
    full(play, 2)
    play.add(*gang(2))
    play.decide()
    assert len(play.world.nominations) == 2
    play.gone("g-1")
    assert (len(play.world.nominations), play.state("g-0")) == (0, State.GATHERING)
    play.add(make_pod("late", {"cpu": "1"}))
    play.gone("low-0", "low-1")
    play.settle()
    assert "late" in play.placed()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_nothing_is_lost_or_counted_twice(seed: int) -> None:
    """Pods of many priorities come and go, alone and in groups; in the end the books are those of what is there."""
    rng = random.Random(seed)
    play = Play(World(SchedulerSettings(), random.Random(seed)))
    play.nodes(4, {"cpu": "4", "pods": "6"})
    for number in range(60):
        kind = rng.random()
        if kind < 0.15:
            size = rng.randrange(2, 4)
            priority = rng.randrange(4)
            play.add(*(
                make_pod(f"g{number}-{i}", {"cpu": "1"}, priority=priority, group=(f"g{number}", size))
                for i in range(size)
            ))  # fmt: skip
        elif kind < 0.8:
            cpu = str(rng.randrange(1, 4))
            policy = "Never" if rng.random() < 0.1 else ""
            play.add(make_pod(f"p{number}", {"cpu": cpu}, priority=rng.randrange(4), policy=policy))
        elif play.pods:
            play.gone(rng.choice(sorted(play.pods)))
        if rng.random() < 0.3:
            play.now_s += rng.choice([0.0, 1.0, 20.0])
        if rng.random() < 0.5:
            play.settle(limit=rng.randrange(1, 20))
    play.now_s += 100.0
    play.settle()
    again = Play(World(SchedulerSettings(), random.Random(seed)))
    again.nodes(4, {"cpu": "4", "pods": "6"})
    for pod in play.pods.values():
        if pod.spec.nodeName:
            again.add(pod)
    nominations = play.world.nominations
    assert len(nominations) == 0, "all victims are gone, so everybody has found a place or given it up"
    assert play.books()[0] == again.books()[0]
    assert set(play.world.snapshot._pods) == set(again.world.snapshot._pods)
    waiting = {pod.metadata.uid for pod in play.pods.values() if not pod.spec.nodeName}
    assert {uid for uid in waiting if uid in play.world.queue} == waiting
    assert len(play.world.queue) == len(waiting)
