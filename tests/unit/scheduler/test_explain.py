"""What people are told: the table, the scores, and the smallest change."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.explain import explain
from cluster.scheduler.telling import format_amount
from tests.unit.scheduler.build import host_port, make_node, make_pod, make_service

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


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [("cpu", 1500, "1500m"), ("cpu", 2000, "2"), ("memory", 64 << 20, "64Mi"), ("gpu", 3, "3")],
)
def test_amounts_as_people_write_them(resource: str, amount: int, text: str) -> None:
    assert format_amount(resource, amount) == text
