"""What people are told: the table, the scores, and the smallest change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.explain import Check, explain
from cluster.scheduler.filters import FILTERS, Filter, Scope
from cluster.scheduler.rules import Rules
from cluster.scheduler.scoring import Score, weighted
from cluster.scheduler.settings import Weights
from cluster.scheduler.telling import TELL, TELLERS, format_amount
from cluster.scheduler.ties import draw
from tests.unit.scheduler.build import away_from, host_port, make_node, make_pod, make_service, near_to, spread_over

BUSY = [make_pod(f"busy-{i}", {"cpu": "2500m", "gpu": "1"}, node=f"node-{i}") for i in (1, 2, 3)]
CORDON_TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
UNREACHABLE = [("node.kubernetes.io/unreachable", "", effect) for effect in ("NoSchedule", "NoExecute")]


@pytest.mark.parametrize(
    ("pod", "nodes", "advice"),
    [
        (
            make_pod("p", {"cpu": "2"}),
            [make_node("node-1"), make_node("node-2", {"cpu": "4"}), make_node("node-3", {"cpu": "3"})],
            "asks cpu 2, most free is 1500m on node-1: lower the request by 500m or free 500m there",
        ),
        (
            make_pod("p", {"cpu": "20"}),
            [make_node("node-1"), make_node("node-2", {"cpu": "6"})],
            "asks cpu 20, most free is 3500m on node-2: lower the request by 16500m (even empty it has 6)",
        ),
        (
            make_pod("p", {"cpu": "2", "memory": "10Gi"}),
            [make_node("node-1"), make_node("node-2", {"memory": "16Gi"})],
            "asks cpu 2, most free is 1500m on node-2: lower the request by 500m or free 500m there",
        ),
        (
            make_pod("p", {"gpu": "1"}),
            [make_node("node-1")],
            "asks gpu 1, and no node has any: add a node with gpu",
        ),
        (
            make_pod("p", {"gpu": "2"}),
            [make_node("node-1", {"gpu": "2"})],
            "asks gpu 2, most free is 1 on node-1: lower the request by 1 or free 1 there",
        ),
        (
            make_pod("p"),
            [make_node("node-1", {"pods": "1"})],
            "node-1 has its 1 pods: let one of them go, or add a node",
        ),
        (
            make_pod("p", selector={"disk": "ssd"}),
            [make_node("node-1", labels={"disk": "hdd"})],
            "node-1 lacks the labels disk=ssd: label it, or ask for less in spec.nodeSelector",
        ),
        (
            make_pod("p"),
            [
                make_node("node-1", taints=[("gpu", "yes", "NoSchedule")]),
                make_node("node-2", unschedulable=True, taints=[CORDON_TAINT]),
            ],
            "node-2 is cordoned: uncordon it",
        ),
        (
            make_pod("p"),
            [make_node("node-1", taints=[("gpu", "yes", "NoSchedule")])],
            "does not tolerate gpu=yes:NoSchedule of node-1: add a toleration or take the taint away",
        ),
        (
            make_pod("p"),
            [
                make_node(
                    "node-1", taints=[("node.kubernetes.io/unreachable", "", e) for e in ("NoSchedule", "NoExecute")]
                )
            ],
            "node-1 is unreachable: bring it back",
        ),
        (
            make_pod("p", image="nginx"),
            [make_node("node-1")],
            (
                "names an image and no node has a runtime for images: leave the image out, or write image: host, to run"
                " the command from the machine's own file system"
            ),
        ),
        (
            make_pod("p", {"cpu": "2"}, selector={"disk": "ssd"}),
            [make_node("node-1")],
            (
                "node-1 lacks the labels disk=ssd: label it, or ask for less in spec.nodeSelector; and asks cpu 2, most"
                " free is 1500m on node-1: lower the request by 500m or free 500m there"
            ),
        ),
        (make_pod("p"), [], "there are no nodes: add one"),
    ],
)
def test_the_smallest_change(pod: core.Pod, nodes: Sequence[core.Node], advice: str) -> None:
    explanation = explain(pod, nodes, BUSY)
    assert explanation.message
    assert explanation.advice == advice


def test_a_busy_host_port() -> None:
    user = make_pod("user", node="node-1", ports=[host_port(80)])
    explanation = explain(make_pod("p", ports=[host_port(80)]), [make_node("node-1")], [user])
    assert explanation.advice == "host port TCP 80 is taken on node-1: free it or ask for another"


def test_freeing_what_the_advice_names_lets_the_pod_in() -> None:
    pod, node = make_pod("p", {"cpu": "2", "memory": "5Gi"}), make_node("node-1")
    busy = make_pod("busy", {"cpu": "2500m", "memory": "4Gi"}, node="node-1")
    assert explain(pod, [node], [busy]).advice == (
        "asks cpu 2, most free is 1500m on node-1: lower the request by 500m or free 500m there; and"
        " asks memory 5Gi, most free is 4Gi on node-1: lower the request by 1Gi or free 1Gi there"
    )
    less = make_pod("busy", {"cpu": "2", "memory": "3Gi"}, node="node-1")
    assert explain(pod, [node], [less]).best == ("node-1",)
    asks_less = make_pod("p", {"cpu": "1500m", "memory": "4Gi"})
    assert explain(asks_less, [node], [busy]).best == ("node-1",)


def test_the_table_has_every_filter_of_every_node_with_the_numbers() -> None:
    nodes = [
        make_node("node-1", {"cpu": "2"}, unschedulable=True),
        make_node("node-2", labels={"disk": "ssd"}, taints=[("a", "b", "NoSchedule")]),
    ]
    pod = make_pod("p", {"cpu": "3"}, selector={"disk": "ssd"})
    first, second = explain(pod, nodes, BUSY).verdicts
    assert [(check.filter, check.passed, check.detail) for check in first.checks] == [
        ("NodeUnschedulable", False, "cordoned"),
        ("NodeName", True, "asks for no node by name"),
        ("TaintToleration", True, "no taints"),
        ("NodeAffinity", False, "wants disk=ssd, has no disk"),
        ("ImageRuntime", True, "needs no image"),
        ("HostPorts", True, "no host ports"),
        ("Resources", False, "cpu: asks 3, free -500m of 2"),
        ("DataDirectories", True, "uses no data directory"),
        ("PodTopologySpread", True, "no hard constraints"),
        ("InterPodAffinity", True, "minds no pods, and none there minds it"),
    ]
    assert second.checks[2].detail == "does not tolerate a=b:NoSchedule"
    assert second.checks[3].detail == "has disk=ssd"
    assert second.checks[6].detail == "cpu: asks 3, free 1500m of 4"


def test_the_scores_of_nodes_that_fit_best_first() -> None:
    pod = make_pod("p", {"cpu": "100m", "memory": "64Mi"}, labels={"app": "x"}, node="node-1")
    mate = make_pod("mate", node="node-1", labels={"app": "x"})
    nodes = [make_node("node-1"), make_node("node-2"), make_node("node-3", unschedulable=True)]
    explanation = explain(pod, nodes, [mate, pod], services=[make_service("s", {"app": "x"})])
    assert explanation.assigned_to == "node-1"
    assert explanation.best == ("node-2",)
    assert explanation.message == explanation.advice == ""
    assert [(verdict.node, verdict.fits) for verdict in explanation.verdicts] == [
        ("node-2", True),
        ("node-1", True),
        ("node-3", False),
    ]
    best, second, _ = explanation.verdicts
    assert [(s.name, s.weight, s.value, s.detail) for s in best.scores] == [
        ("LeastAllocated", 1, 98, "cpu 2%, memory 1% in use with it"),
        ("BalancedAllocation", 1, 98, "cpu 2%, memory 1% in use with it"),
        ("TaintToleration", 1, 100, ""),
        ("NodeAffinity", 2, 0, "prefers no node"),
        ("Spread", 2, 100, "0 of its group there"),
        ("InterPodAffinity", 2, 0, "no pods near speak for it"),
    ]
    assert best.total == 98 + 98 + 100 + 200
    assert second.scores[4].detail == "1 of its group there", "the pod itself does not stand in its own way"


def test_nodes_on_their_way_out_and_finished_pods_do_not_count() -> None:
    leaving = make_node("node-1")
    leaving.metadata.deletionTimestamp.seconds = 1
    done = make_pod("done", {"cpu": "4"}, node="node-2")
    done.status.phase = "Succeeded"
    explanation = explain(make_pod("p", {"cpu": "4"}), [leaving, make_node("node-2")], [done])
    assert explanation.best == ("node-2",)
    assert len(explanation.verdicts) == 1


ZONE = "topology.kubernetes.io/zone"
ZONED = [make_node(f"{zone}1", labels={ZONE: zone}) for zone in "ab"] + [make_node("no-zone")]


def web(name: str, node: str = "") -> core.Pod:
    return make_pod(name, node=node, labels={"app": "web"})


def using(pod: core.Pod, directory: str) -> core.Pod:
    pod.spec.volumes.add(name=directory).volumeSource.dataDirectory.name = directory
    return pod


def wanting_nodes(*conditions: tuple[str, str, Sequence[str]]) -> core.Pod:
    pod = make_pod("p")
    term = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.add()
    for key, operator, values in conditions:
        term.matchExpressions.add(key=key, operator=operator, values=values)
    return pod


@pytest.mark.parametrize(
    ("pod", "others", "details", "advice"),
    [
        (
            spread_over(web("p"), ZONE, {"app": "web"}, 1),
            [web("w1", "a1"), web("w2", "b1"), web("w3", "b1"), web("w4", "b1")],
            {
                "b1": f"{ZONE}=b: 4 with it, 1 in the emptiest: ahead by 3, at most 1",
                "no-zone": f"has no {ZONE}",
            },
            "",
        ),
        (
            spread_over(make_pod("p", labels={"app": "web"}, selector={ZONE: "b"}), ZONE, {"app": "web"}, 1),
            [web("w1", "b1"), web("w2", "b1")],
            {"b1": f"{ZONE}=b: 3 with it, 2 in the emptiest: ahead by 1, at most 1"},
            "",
        ),
        (
            spread_over(web("p"), "podium.dev/row", {"app": "web"}, 1),
            [],
            {"a1": "has no podium.dev/row"},
            "spreads over podium.dev/row, and no node has such a label: label the nodes, or spread over another one",
        ),
        (
            near_to(make_pod("p"), ZONE, {"app": "web"}),
            [],
            {
                "a1": f"wants pods with app=web near: none in {ZONE}=a",
                "no-zone": f"wants pods with app=web near by {ZONE}, and has no such label",
            },
            "wants pods with app=web near, and there are none: start one, or ask for less in spec.affinity",
        ),
        (
            near_to(make_pod("p"), "podium.dev/row", {"app": "web"}),
            [web("w", "a1")],
            {"a1": "wants pods with app=web near by podium.dev/row, and has no such label"},
            (
                "wants pods with app=web near by podium.dev/row, and no node has such a label: label the nodes, or"
                " choose another topologyKey"
            ),
        ),
        (
            near_to(make_pod("p", selector={ZONE: "a"}), ZONE, {"app": "web"}),
            [web("w", "b1")],
            {
                "a1": f"wants pods with app=web near: none in {ZONE}=a",
                "b1": f"wants pods with app=web near: 1 in {ZONE}=b",
            },
            f"b1 lacks the labels {ZONE}=a: label it, or ask for less in spec.nodeSelector",
        ),
        (
            near_to(web("p"), ZONE, {"app": "web"}),
            [],
            {"a1": "wants pods with app=web near: is the first of them"},
            "",
        ),
        (
            away_from(make_pod("p", selector={ZONE: "a"}), ZONE, {"app": "web"}),
            [web("w1", "a1"), web("w2", "a1")],
            {
                "a1": f"wants no pods with app=web near: 2 in {ZONE}=a",
                "b1": f"wants no pods with app=web near: none in {ZONE}=b",
            },
            (
                f"wants no pods with app=web near, and {ZONE}=a of a1 has 2: let them go, or ask for less in"
                " spec.affinity.podAntiAffinity"
            ),
        ),
        (
            make_pod("p", labels={"app": "web"}, selector={ZONE: "a"}),
            [away_from(make_pod("hermit", node="a1"), ZONE, {"app": "web"})],
            {"a1": f"1 pod wants no pods with app=web in {ZONE}=a", "b1": "minds no pods, and none there minds it"},
            f"1 pod wants no pods with app=web in {ZONE}=a of a1: let them go, or add a node elsewhere",
        ),
        (
            using(make_pod("p", selector={ZONE: "a"}), "db"),
            [using(make_pod("u", node="b1"), "db")],
            {"a1": "default/db lies on b1", "b1": "default/db lies here"},
            f"b1 lacks the labels {ZONE}=a: label it, or ask for less in spec.nodeSelector",
        ),
        (
            wanting_nodes(("disk", "In", ["ssd", "nvme"]), ("cores", "Gt", ["8"])),
            [],
            {"a1": "wants disk in (ssd,nvme) and cores>8, has no disk, no cores"},
            (
                "a1 does not meet disk in (ssd,nvme) and cores>8: label it so, or ask for less in"
                " spec.affinity.nodeAffinity"
            ),
        ),
    ],
)
def test_what_pods_elsewhere_have_to_do_with_it(
    pod: core.Pod, others: list[core.Pod], details: dict[str, str], advice: str
) -> None:
    explanation = explain(pod, ZONED, others)
    assert explanation.advice == advice
    said = {verdict.node: [check.detail for check in verdict.checks] for verdict in explanation.verdicts}
    for node, detail in details.items():
        assert detail in said[node]


def test_scores_say_what_they_compared() -> None:
    pod = spread_over(web("p"), ZONE, {"app": "web"}, 1, hard=False)
    affinity = pod.spec.affinity
    liked = affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=5)
    liked.preference.matchExpressions.add(key=ZONE, operator="In", values=["a"])
    near = affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=7)
    near.podAffinityTerm.topologyKey = ZONE
    near.podAffinityTerm.labelSelector.matchLabels["app"] = "web"
    nodes = [*ZONED, make_node("c1", labels={ZONE: "c"}, taints=[("x", "", "PreferNoSchedule")])]
    explanation = explain(pod, nodes, [web("w", "b1")])
    told = {
        verdict.node: {score.name: (score.value, score.detail) for score in verdict.scores}
        for verdict in explanation.verdicts
    }
    assert told["a1"]["NodeAffinity"] == (100, "liked by 5 of 5")
    assert told["b1"]["NodeAffinity"] == (0, "liked by 0 of 5")
    assert told["b1"]["Spread"] == (0, f"1 in its {ZONE}")
    assert told["no-zone"]["Spread"] == (0, "lacks a label that it spreads over")
    assert told["b1"]["InterPodAffinity"] == (100, "pods near speak +7 for it")
    assert told["a1"]["InterPodAffinity"] == (0, "no pods near speak for it")
    assert told["c1"]["TaintToleration"] == (0, "does not tolerate 1 taint that would rather not")


def test_every_filter_and_every_score_is_told_of() -> None:
    assert set(TELLERS) == {each.name for each in FILTERS}
    everything = Weights(*[1] * len(fields(Weights)))
    assert set(TELL) == {score.name for score, _ in weighted(everything)}


def test_plug_ins_are_told_of_in_their_own_words_and_the_seed_says_who_is_first() -> None:
    picky = Filter(
        "Picky",
        Scope.NODE,
        lambda snapshot, pod_class, rows: np.array(snapshot.names, np.object_)[rows] != "a1",
        lambda snapshot, pod_class, rows: Counter({"it is picky": len(rows)}),
    )
    fancy = Score("Fancy", Scope.NODE, lambda snapshot, pod_class, rows: np.full(len(rows), 200, np.int64))
    for seed in range(4):
        rules = Rules(Weights(), seed, more_filters=[picky], more_scores=[(fancy, 2)])
        explanation = explain(make_pod("p"), ZONED, [], rules=rules)
        assert explanation.best == tuple(sorted(("b1", "no-zone"), key=lambda name: draw(seed, name)))
        refused = next(verdict for verdict in explanation.verdicts if verdict.node == "a1")
        assert refused.checks[-1] == Check("Picky", False, "it is picky")
        assert explanation.verdicts[0].scores[-1].value == 100, "what is more than the best counts as the best"
    only = explain(make_pod("p"), ZONED[:1], [], rules=rules)
    assert only.message == "0/1 nodes are available: 1 it is picky."
    assert only.advice == "the plug-in Picky refuses a1 (it is picky): ask whoever wrote it"


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [("cpu", 1500, "1500m"), ("cpu", 2000, "2"), ("memory", 64 << 20, "64Mi"), ("gpu", 3, "3")],
)
def test_amounts_as_people_write_them(resource: str, amount: int, text: str) -> None:
    assert format_amount(resource, amount) == text
