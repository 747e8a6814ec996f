"""Which pods had better be elsewhere."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.picture import Picture
from cluster.scheduler.rebalance import Limits, Move, Plan, plan
from cluster.scheduler.settings import Weights
from tests.unit.scheduler.build import make_controller, make_node, make_pod

WEB = {"app": "web"}


def replica(number: int, node: str, *, cpu: str = "500m", **more: object) -> core.Pod:
    pod = make_pod(f"web-{number}", {"cpu": cpu, "memory": "1Gi"}, node=node, labels=WEB, owner_uid="web", **more)  # type: ignore[arg-type]
    pod.status.phase = "Running"
    return pod


def planned(
    nodes: list[core.Node],
    pods: list[core.Pod],
    budgets: list[core.PodDisruptionBudget] | None = None,
    limits: Limits | None = None,
) -> Plan:
    picture = Picture(nodes, pods, controllers=[make_controller("web", WEB)])
    return plan(picture, budgets or [], Weights(), limits)


def after(pods: list[core.Pod], moves: tuple[Move, ...]) -> Counter[str]:
    """How many pods each node has when all is done."""
    where = {pod.metadata.uid: pod.spec.nodeName for pod in pods}
    for move in moves:
        assert where[move.uid] == move.source
        where[move.uid] = move.target
    return Counter(where.values())


def budget(allowed: int) -> core.PodDisruptionBudget:
    made = core.PodDisruptionBudget()
    made.metadata.name, made.metadata.namespace = "web", "default"
    made.spec.selector.matchLabels["app"] = "web"
    made.status.disruptionsAllowed = allowed
    return made


def test_a_node_that_was_added_gets_its_share() -> None:
    nodes = [make_node(f"n{n}") for n in range(3)]
    pods = [replica(number, f"n{number % 2}") for number in range(6)]
    found = planned(nodes, pods)
    assert after(pods, found.moves) == {"n0": 2, "n1": 2, "n2": 2}
    assert {move.target for move in found.moves} == {"n2"}
    assert all(move.gain >= 50 and move.why == f"better by {move.gain}" for move in found.moves)
    assert found.moves[0].owner == Key("ReplicationController", "default", "web")


def test_what_is_even_stays_as_it_is() -> None:
    nodes = [make_node(f"n{n}") for n in range(3)]
    assert planned(nodes, [replica(number, f"n{number % 3}") for number in range(7)]).moves == ()


def test_pods_that_break_a_rule_go_first_wherever_they_fit() -> None:
    tainted = make_node("n0", taints=[("dedicated", "db", "NoSchedule")])
    nodes = [tainted, make_node("n1", labels={"disk": "ssd"}), make_node("n2", labels={"disk": "hdd"})]
    pods = [replica(1, "n0"), replica(3, "n2", selector={"disk": "ssd"})]
    found = planned(nodes, pods, limits=Limits(min_gain=1000))
    assert [(move.key.name, move.source, move.why, move.gain) for move in found.moves] == [
        ("web-1", "n0", "breaks TaintToleration", 0),
        ("web-3", "n2", "breaks NodeAffinity", 0),
    ]
    assert found.moves[1].target == "n1", "the only one that it fits on"


def test_what_breaks_a_rule_and_fits_nowhere_stays() -> None:
    nodes = [make_node("n0", taints=[("a", "", "NoSchedule")]), make_node("n1", {"cpu": "100m"})]
    assert planned(nodes, [replica(1, "n0")]).moves == ()


def test_who_is_left_alone_and_why() -> None:
    nodes = [make_node("n0"), make_node("n1")]
    alone = make_pod("alone", {"cpu": "3"}, node="n0")
    alone.status.phase = "Running"
    keeper = replica(1, "n0")
    keeper.spec.volumes.add(name="cache").volumeSource.emptyDir.SetInParent()
    critical = replica(2, "n0")
    critical.spec.priority = 2_000_000_000
    foreign = replica(3, "n0")
    foreign.spec.schedulerName = "mine"
    ending = replica(4, "n0")
    ending.metadata.deletionTimestamp.seconds = 1
    pods = [alone, keeper, critical, foreign, ending]
    assert {key.name: why for key, why in planned(nodes, pods).held} == {
        "alone": "no controller would replace it",
        "web-1": "volume cache keeps data on its node",
        "web-2": "it is critical to the system",
        "web-3": "it is placed by mine",
    }
    assert [m.key.name for m in planned(nodes, pods, limits=Limits(with_data=True)).moves] == ["web-1"]


def test_a_budget_that_allows_none_holds_its_pods() -> None:
    nodes, pods = [make_node("n0"), make_node("n1")], [replica(number, "n0") for number in range(4)]
    held = planned(nodes, pods, [budget(0)])
    assert held.moves == ()
    assert {why for _, why in held.held} == {"disruption budget web allows none to go now"}
    assert len(planned(nodes, pods, [budget(1)]).moves) == 2


def test_limits_are_kept() -> None:
    nodes, pods = [make_node("n0"), make_node("n1")], [replica(number, "n0") for number in range(6)]
    assert len(planned(nodes, pods).moves) == 3
    assert len(planned(nodes, pods, limits=Limits(max_moves=1)).moves) == 1
    assert planned(nodes, pods, limits=Limits(min_gain=1000)).moves == ()
    assert planned(nodes, pods, limits=Limits(namespace="other")).moves == ()


@settings(max_examples=60)
@given(places=st.lists(st.integers(0, 3), min_size=1, max_size=16), allowed=st.integers(0, 2))
def test_a_plan_never_overbooks_moves_nobody_twice_and_ends_in_rest(places: list[int], allowed: int) -> None:
    nodes = [make_node(f"n{n}", {"cpu": "4", "pods": "6"}) for n in range(4)]
    pods = [replica(number, f"n{place}") for number, place in enumerate(places)]
    found = planned(nodes, pods, [budget(allowed)] if allowed < 2 else [])
    assert len({move.uid for move in found.moves}) == len(found.moves)
    load = after(pods, found.moves)
    before = Counter(f"n{place}" for place in places)
    assert all(count <= max(6, before[name]) for name, count in load.items())
    for move in found.moves:
        pod = next(pod for pod in pods if pod.metadata.uid == move.uid)
        pod.spec.nodeName = move.target
    again = planned(nodes, pods, [budget(allowed)] if allowed < 2 else [])
    assert again.moves == (), "what was moved is where it should be"
