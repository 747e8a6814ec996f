"""Runs of a class, refusals that are kept, and the rule for ties, by small examples."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import cycle as cycle_module
from cluster.scheduler import filters
from cluster.scheduler import ties as ties_module
from cluster.scheduler.cycle import Cycle, Placement
from cluster.scheduler.facts import PlacedPod, facts_of, placed_pod
from cluster.scheduler.filters import Filter, Refusal
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.rules import Rules
from cluster.scheduler.settings import MAX_WEIGHT, Weights
from cluster.scheduler.snapshot import ALL_ROWS, Snapshot
from cluster.scheduler.ties import TieBreak, draw
from tests.unit.scheduler.build import away_from, host_port, make_node, make_pod, near_to, spread_over

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
SEED = 5


class Rig:
    """A cycle over a few nodes."""

    def __init__(self, nodes: int = 4, weights: Weights | None = None) -> None:
        self.snapshot = Snapshot(2)
        for i in range(nodes):
            self.node(make_node(f"n{i}", labels={ZONE: f"z{i % 2}"}))
        self.cycle = Cycle(self.snapshot, weights or Weights(), random.Random(SEED))
        self.classes = PodClasses()
        self.count = 0

    def node(self, node: core.Node) -> None:
        self.snapshot.set_node(node.metadata.name, facts_of(node))

    def stamp(self, template: core.Pod) -> PlacedPod:
        self.count += 1
        pod = core.Pod()
        pod.CopyFrom(template)
        pod.metadata.uid = f"uid-{self.count}"
        return placed_pod(pod, self.classes.of(pod, placed=True))

    def run(self, template: core.Pod, count: int) -> list[Placement | Refusal]:
        pods = [self.stamp(template) for _ in range(count)]
        return self.cycle.decide_many(pods[0].pod_class, pods)

    def nodes_of(self, template: core.Pod, count: int) -> list[str]:
        """Where the pods of a run went; "" for those that went nowhere."""
        return [each.node if isinstance(each, Placement) else "" for each in self.run(template, count)]


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was refused by asking all filters about all nodes."""
    asked: list[object] = []
    original = filters.refusal

    def counting(snapshot: Snapshot, pod_class: PodClass, which: tuple[Filter, ...]) -> Refusal:
        asked.append(pod_class)
        return original(snapshot, pod_class, which)

    monkeypatch.setattr(filters, "refusal", counting)
    return asked


def test_a_refusal_is_reckoned_once_and_kept_until_something_may_help(refusals: list[object]) -> None:
    rig = Rig()
    huge, small = make_pod("huge", {"cpu": "100"}), make_pod("small", {"cpu": "10m"})
    for _ in range(50):
        assert rig.nodes_of(huge, 2) == ["", ""]
        assert rig.nodes_of(small, 1) != [""]
    assert len(refusals) == 1
    assert rig.cycle.refusal_of(rig.stamp(huge).pod_class) is not None
    assert len(refusals) == 1
    rig.snapshot.remove("uid-3")
    assert rig.nodes_of(huge, 1) == [""]
    assert len(refusals) == 2, "a pod has gone"
    rig.node(make_node("large", {"cpu": "200"}))
    assert rig.nodes_of(huge, 3) == ["large", "large", ""]
    assert len(refusals) == 3


def test_a_refusal_is_forgotten_when_a_pod_comes_that_it_wants_to_be_near(refusals: list[object]) -> None:
    rig = Rig()
    clinging = near_to(make_pod("p"), ZONE, {"app": "db"})
    assert rig.nodes_of(clinging, 2) == ["", ""]
    rig.nodes_of(make_pod("other"), 1)
    assert rig.nodes_of(clinging, 1) == [""]
    assert len(refusals) == 1
    [home] = rig.nodes_of(make_pod("db", labels={"app": "db"}), 1)
    zone = {"n0", "n2"} if home in ("n0", "n2") else {"n1", "n3"}
    assert set(rig.nodes_of(clinging, 4)) == zone


def test_a_refusal_is_forgotten_when_the_emptiest_zone_fills_up(refusals: list[object]) -> None:
    rig = Rig(2)
    rig.node(make_node("n1", labels={ZONE: "z1"}, unschedulable=True))
    even = spread_over(make_pod("p", labels={"app": "x"}), ZONE, {"app": "x"}, 1)
    assert rig.nodes_of(even, 3) == ["n0", "", ""]
    assert len(refusals) == 1
    rig.snapshot.place(placed_pod(make_pod("x", node="n1", labels={"app": "x"})), "n1")
    assert rig.nodes_of(even, 2) == ["n0", ""]


def test_a_run_whose_pods_bring_data_stays_together() -> None:
    rig = Rig()
    pod = make_pod("p")
    pod.spec.volumes.add(name="db").volumeSource.dataDirectory.name = "db"
    assert len(set(rig.nodes_of(pod, 5))) == 1
    assert rig.snapshot.versions.directories == 1


def test_a_run_that_takes_a_host_port_gets_one_node_each() -> None:
    rig = Rig()
    pod = make_pod("p", ports=[host_port(80)])
    assert sorted(rig.nodes_of(pod, 6)) == ["", "", "n0", "n1", "n2", "n3"]


def test_a_run_that_wants_to_be_apart_gets_one_node_or_one_zone_each() -> None:
    pod = make_pod("p", labels={"app": "x"})
    assert sorted(Rig().nodes_of(away_from(pod, HOST, {"app": "x"}), 6)) == ["", "", "n0", "n1", "n2", "n3"]
    assert len(set(Rig().nodes_of(away_from(pod, ZONE, {"app": "x"}), 3)) - {""}) == 2


def test_the_first_of_a_run_decides_where_the_others_are_near() -> None:
    pod = near_to(make_pod("p", labels={"app": "x"}), ZONE, {"app": "x"})
    places = set(Rig().nodes_of(pod, 20))
    assert places in ({"n0", "n2"}, {"n1", "n3"})


def test_a_term_that_spoke_against_a_class_and_now_keeps_it_away_is_heeded() -> None:
    """The same words as preferred anti-affinity of one pod, and then as required anti-affinity of another."""
    rig = Rig(nodes=3)
    database = make_pod("db", labels={"app": "db"})
    dislikes = make_pod("dislikes")
    liked = dislikes.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1)
    liked.podAffinityTerm.topologyKey = HOST
    liked.podAffinityTerm.labelSelector.matchLabels["app"] = "db"
    rig.snapshot.place(rig.stamp(dislikes), "n2")
    assert "" not in rig.nodes_of(database, 8)
    rig.snapshot.place(rig.stamp(away_from(make_pod("hates"), HOST, {"app": "db"})), "n0")
    assert set(rig.nodes_of(database, 8)) <= {"n1", "n2"}


def test_equal_nodes_fill_evenly() -> None:
    rig = Rig(8)
    for _ in range(4):  # what a single pod adds is less than a percent: the scores stay equal
        places = rig.nodes_of(make_pod("p", {"cpu": "1m", "memory": "1Mi"}), 8)
        assert Counter(places) == {f"n{i}": 1 for i in range(8)}
        assert places == sorted(places, key=lambda name: draw(rig.cycle.seed, name))


def test_nodes_are_filled_one_after_the_other_by_weights_that_pack() -> None:
    rig = Rig(4, Weights(least_allocated=0, balanced_allocation=0, binpack=1))
    places = rig.nodes_of(make_pod("p", {"cpu": "1", "memory": "2Gi"}), 16)
    assert places == [name for name in dict.fromkeys(places) for _ in range(4)]
    small = Rig(4, Weights(least_allocated=0, balanced_allocation=0, binpack=1))
    assert len(set(small.nodes_of(make_pod("p", {"cpu": "1m", "memory": "1Mi"}), 16))) == 1


@pytest.mark.parametrize("packs", [False, True])
def test_the_key_of_a_row_is_the_same_alone_and_among_many(packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties_module, "MAX_CROWD", 3)
    rig = Rig(6)
    for i in range(6):
        for n in range(i):
            rig.snapshot.place(placed_pod(make_pod(f"p{i}{n}", node=f"n{i}")), f"n{i}")
    ties = TieBreak(1, packs=packs)
    keys = ties.keys(rig.snapshot, ALL_ROWS).tolist()
    for row, name in enumerate(rig.snapshot.names):
        assert keys[row] == ties.key(rig.snapshot, row, int(name[1:]) if name else 0)
        assert ties.rows(rig.snapshot)[ties.ranks(rig.snapshot)[row]] == row
    names = [rig.snapshot.names[row] for row in sorted(range(len(keys)), key=keys.__getitem__)]
    ordered = [name for name in names if name]
    assert (ordered[-1] if packs else ordered[0]) == "n0", "the one without pods; all with three or more are equal"
    crowded = ordered[:3] if packs else ordered[-3:]
    assert crowded == sorted(["n3", "n4", "n5"], key=lambda name: draw(1, name))


def test_ranks_are_those_of_the_snapshot_that_is_asked_about() -> None:
    ties, one, other = TieBreak(1, packs=False), Rig(4).snapshot, Rig(6).snapshot
    for snapshot in (one, other, one):
        names = sorted((name for name in snapshot.names if name), key=lambda name: draw(1, name))
        ranks = ties.ranks(snapshot)
        assert sorted(names, key=lambda name: int(ranks[snapshot.row_of(name) or 0])) == names


@pytest.mark.parametrize("weight", [-1, MAX_WEIGHT + 1])
def test_a_weight_that_makes_no_sense_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match=f"the weight spread is {weight}; it must be from 0 to {MAX_WEIGHT}"):
        Weights(spread=weight)


def test_weights_that_are_too_great_in_sum_are_refused() -> None:
    rules = Rules(Weights(*[MAX_WEIGHT] * 8), 0)
    score = rules.scores[0][0]
    with pytest.raises(ValueError, match="in sum"):
        Rules(Weights(), 0, more_scores=[(score, MAX_WEIGHT)] * 50)


def test_views_that_were_dropped_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_module, "VIEWS_LIMIT", 1)
    monkeypatch.setattr(cycle_module, "ANSWERS_LIMIT", 1)
    few, many = Rig(), Rig()
    one, other = make_pod("one", {"cpu": "500m"}), make_pod("other", {"memory": "1Gi"}, labels={"app": "x"})
    alternating = [few.nodes_of(pod, 1)[0] for _ in range(8) for pod in (one, other)]
    monkeypatch.setattr(cycle_module, "VIEWS_LIMIT", 8)
    monkeypatch.setattr(cycle_module, "ANSWERS_LIMIT", 8)
    assert [many.nodes_of(pod, 1)[0] for _ in range(8) for pod in (one, other)] == alternating
