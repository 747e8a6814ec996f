"""Each filter by a table, and the sentences in Kubernetes' words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.facts import facts_of, placed_pod
from cluster.scheduler.filters import FILTERS, Scope, feasible, refusal
from cluster.scheduler.podclass import PodClasses, class_of
from cluster.scheduler.shape import TaintTuple, Tolerated, tolerates
from cluster.scheduler.snapshot import ALL_ROWS, Snapshot
from tests.unit.scheduler.build import host_port, make_node, make_pod


def snapshot_of(nodes: Sequence[core.Node], pods: Sequence[core.Pod] = ()) -> Snapshot:
    snapshot = Snapshot(2)
    for node in nodes:
        snapshot.set_node(node.metadata.name, facts_of(node))
    for pod in pods:
        snapshot.place(placed_pod(pod), pod.spec.nodeName)
    return snapshot


def passing(name: str, snapshot: Snapshot, pod: core.Pod) -> set[str]:
    """The live nodes that one filter lets pass."""
    [each] = [each for each in FILTERS if each.name == name]
    mask = each.passes(snapshot, class_of(pod), ALL_ROWS)
    return {snapshot.names[row] for row in mask.nonzero()[0] if snapshot.alive[row]}


def tolerate(key: str = "", value: str = "", effect: str = "", operator: str = "Equal") -> core.Toleration:
    return core.Toleration(key=key, operator=operator, value=value, effect=effect)


def test_the_order_is_that_of_kubernetes() -> None:
    assert [each.name for each in FILTERS] == [
        "NodeUnschedulable",
        "NodeName",
        "TaintToleration",
        "NodeAffinity",
        "ImageRuntime",
        "HostPorts",
        "Resources",
        "DataDirectories",
        "PodTopologySpread",
        "InterPodAffinity",
    ]
    assert [each.name for each in FILTERS if each.scope is Scope.LOAD] == ["HostPorts", "Resources"]
    assert all(each.scope is Scope.NODE for each in FILTERS[:5])


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], {"open"}),
        ([tolerate("node.kubernetes.io/unschedulable", operator="Exists")], {"open", "cordoned"}),
        ([tolerate(operator="Exists")], {"open", "cordoned"}),
        ([tolerate("node.kubernetes.io/unschedulable", effect="NoExecute", operator="Exists")], {"open"}),
    ],
)
def test_a_cordoned_node_takes_only_pods_that_tolerate_it(
    tolerations: list[core.Toleration], expected: set[str]
) -> None:
    snapshot = snapshot_of([make_node("open"), make_node("cordoned", unschedulable=True)])
    assert passing("NodeUnschedulable", snapshot, make_pod("p", tolerations=tolerations)) == expected


def test_a_node_asked_for_by_name_is_the_only_one() -> None:
    snapshot = snapshot_of([make_node("a"), make_node("b")])
    assert passing("NodeName", snapshot, make_pod("p", node="b")) == {"b"}
    assert passing("NodeName", snapshot, make_pod("p", node="elsewhere")) == set()
    assert passing("NodeName", snapshot, make_pod("p")) == {"a", "b"}


@pytest.mark.parametrize(
    ("toleration", "taint", "expected"),
    [
        (Tolerated("k", "Equal", "v", ""), TaintTuple("k", "v", "NoSchedule"), True),
        (Tolerated("k", "Equal", "v", "NoSchedule"), TaintTuple("k", "v", "NoSchedule"), True),
        (Tolerated("k", "Equal", "v", "NoExecute"), TaintTuple("k", "v", "NoSchedule"), False),
        (Tolerated("k", "Equal", "w", ""), TaintTuple("k", "v", "NoSchedule"), False),
        (Tolerated("j", "Equal", "v", ""), TaintTuple("k", "v", "NoSchedule"), False),
        (Tolerated("k", "Exists", "", ""), TaintTuple("k", "v", "NoSchedule"), True),
        (Tolerated("", "Exists", "", ""), TaintTuple("k", "v", "NoExecute"), True),
        (Tolerated("", "Exists", "", "NoSchedule"), TaintTuple("k", "v", "NoExecute"), False),
        (Tolerated("", "Equal", "", ""), TaintTuple("k", "", "NoSchedule"), False),
    ],
)
def test_toleration(toleration: Tolerated, taint: TaintTuple, expected: bool) -> None:
    assert tolerates((toleration,), taint) is expected


def test_taints_refuse_unless_tolerated_and_prefer_no_schedule_never_does() -> None:
    snapshot = snapshot_of(
        [
            make_node("clean"),
            make_node("preferring", taints=[("k", "v", "PreferNoSchedule")]),
            make_node("gpu", taints=[("gpu", "yes", "NoSchedule")]),
            make_node("down", taints=[("node.kubernetes.io/not-ready", "", "NoExecute")]),
            make_node("both", taints=[("gpu", "yes", "NoSchedule"), ("x", "", "NoExecute")]),
        ]
    )
    assert passing("TaintToleration", snapshot, make_pod("p")) == {"clean", "preferring"}
    with_gpu = make_pod("p", tolerations=[tolerate("gpu", "yes")])
    assert passing("TaintToleration", snapshot, with_gpu) == {"clean", "preferring", "gpu"}
    everything = make_pod("p", tolerations=[tolerate(operator="Exists")])
    assert len(passing("TaintToleration", snapshot, everything)) == 5


def test_all_labels_of_the_selector_must_match() -> None:
    snapshot = snapshot_of(
        [make_node("ssd", labels={"disk": "ssd"}), make_node("both", labels={"disk": "ssd", "os": "x"}), make_node("c")]
    )
    assert passing("NodeAffinity", snapshot, make_pod("p", selector={"disk": "ssd"})) == {"ssd", "both"}
    assert passing("NodeAffinity", snapshot, make_pod("p", selector={"disk": "ssd", "os": "x"})) == {"both"}
    assert passing("NodeAffinity", snapshot, make_pod("p", selector={"disk": "tape"})) == set()
    assert passing("NodeAffinity", snapshot, make_pod("p", selector={"unheard": "of"})) == set()


@pytest.mark.parametrize(("image", "expected"), [("", {"a", "b"}), ("host", {"a", "b"}), ("nginx:1", {"b"})])
def test_an_image_needs_a_runtime(image: str, expected: set[str]) -> None:
    snapshot = snapshot_of([make_node("a"), make_node("b", labels={"podium.dev/image-runtime": "true"})])
    assert passing("ImageRuntime", snapshot, make_pod("p", image=image)) == expected


@pytest.mark.parametrize(
    ("used", "wanted", "free"),
    [
        (host_port(80), host_port(80), False),
        (host_port(80), host_port(81), True),
        (host_port(80), host_port(80, "UDP"), True),
        (host_port(80, ip="127.0.0.1"), host_port(80, ip="127.0.0.2"), True),
        (host_port(80, ip="127.0.0.1"), host_port(80, ip="127.0.0.1"), False),
        (host_port(80, ip="127.0.0.1"), host_port(80), False),
        (host_port(80), host_port(80, ip="127.0.0.1"), False),
    ],
)
def test_host_ports(used: core.ContainerPort, wanted: core.ContainerPort, free: bool) -> None:
    user = make_pod("user", node="a", ports=[used])
    snapshot = snapshot_of([make_node("a"), make_node("b")], [user])
    expected = {"a", "b"} if free else {"b"}
    assert passing("HostPorts", snapshot, make_pod("p", ports=[wanted])) == expected
    snapshot.remove(user.metadata.uid)
    assert passing("HostPorts", snapshot, make_pod("p", ports=[wanted])) == {"a", "b"}


@pytest.mark.parametrize(
    ("requests", "fits"),
    [
        ({}, True),
        ({"cpu": "1"}, True),
        ({"cpu": "1001m"}, False),
        ({"memory": "4Gi"}, True),
        ({"memory": "4294967297"}, False),
        ({"gpu": "1"}, True),
        ({"gpu": "2"}, False),
        ({"gpu": "0", "unheard-of": "0"}, True),
        ({"unheard-of": "1"}, False),
        ({"cpu": "1Ei"}, False),
    ],
)
def test_resources(requests: dict[str, str], fits: bool) -> None:
    busy = make_pod("busy", {"cpu": "3", "memory": "4Gi", "gpu": "1"}, node="a")
    snapshot = snapshot_of([make_node("a", {"gpu": "2"})], [busy])
    assert bool(passing("Resources", snapshot, make_pod("p", requests))) is fits


def test_the_number_of_pods_is_a_resource() -> None:
    snapshot = snapshot_of([make_node("a", {"pods": "1"})], [make_pod("one", node="a")])
    assert refusal(snapshot, class_of(make_pod("two"))).message == "0/1 nodes are available: 1 Too many pods."


def test_an_overdrawn_resource_keeps_away_only_those_who_ask_for_it() -> None:
    snapshot = snapshot_of([make_node("a", {"cpu": "1"})], [make_pod("big", {"cpu": "2"}, node="a")])
    assert passing("Resources", snapshot, make_pod("p", {"memory": "1Gi"})) == {"a"}


@pytest.mark.parametrize(
    ("nodes", "pod", "message", "refusing"),
    [
        ([], make_pod("p"), "no nodes available to schedule pods", set()),
        (
            [
                make_node("a", {"cpu": "1"}),
                make_node("b", {"cpu": "1500m"}),
                make_node("c", {"cpu": "8"}, labels={"disk": "hdd"}),
            ],
            make_pod("p", {"cpu": "2"}, selector={}),
            "",
            set(),
        ),
        (
            [
                make_node("a", {"cpu": "1"}, labels={"disk": "ssd"}),
                make_node("b", {"cpu": "1"}, labels={"disk": "ssd"}),
                make_node("c", {"cpu": "8"}),
            ],
            make_pod("p", {"cpu": "2"}, selector={"disk": "ssd"}),
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 Insufficient cpu.",
            {"NodeAffinity", "Resources"},
        ),
        (
            [make_node("a", {"cpu": "1", "memory": "1Gi"}), make_node("b", {"cpu": "1"})],
            make_pod("p", {"cpu": "2", "memory": "2Gi", "gpu": "1"}),
            "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu, 2 Insufficient gpu.",
            {"Resources"},
        ),
        (
            [
                make_node("a", unschedulable=True),
                make_node("b", taints=[("node.kubernetes.io/not-ready", "", "NoExecute"), ("x", "", "NoSchedule")]),
                make_node("c", taints=[("x", "y", "NoSchedule")]),
                make_node("d", taints=[("x", "y", "NoSchedule")]),
            ],
            make_pod("p"),
            (
                "0/4 nodes are available: 1 node(s) had taint {node.kubernetes.io/not-ready: }, that the pod didn't"
                " tolerate, 1 node(s) were unschedulable, 2 node(s) had taint {x: y}, that the pod didn't tolerate."
            ),
            {"NodeUnschedulable", "TaintToleration"},
        ),
        (
            [make_node("a"), make_node("b")],
            make_pod("p", image="nginx"),
            "0/2 nodes are available: 2 node(s) had no runtime for images.",
            {"ImageRuntime"},
        ),
        (
            [make_node("a")],
            make_pod("p", node="b"),
            "0/1 nodes are available: 1 node(s) didn't match the requested hostname.",
            {"NodeName"},
        ),
        (
            [make_node(f"n{i}") for i in range(10)],
            make_pod("p", {"cpu": "100"}),
            "0/10 nodes are available: 10 Insufficient cpu.",
            {"Resources"},
        ),
    ],
)
def test_the_sentence(nodes: list[core.Node], pod: core.Pod, message: str, refusing: set[str]) -> None:
    snapshot, pod_class = snapshot_of(nodes), class_of(pod)
    if not message:
        assert feasible(snapshot, pod_class).any()
        return
    assert not feasible(snapshot, pod_class).any()
    said = refusal(snapshot, pod_class)
    assert (said.message, set(said.filters)) == (message, refusing)


def test_busy_host_ports_are_said_so() -> None:
    snapshot = snapshot_of([make_node("a")], [make_pod("user", node="a", ports=[host_port(80)])])
    said = refusal(snapshot, class_of(make_pod("p", ports=[host_port(80)])))
    expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    assert said.message == expected


def test_equal_pods_are_of_the_identical_class() -> None:
    classes = PodClasses(limit=2)
    one, two = make_pod("one", {"cpu": "1"}), make_pod("two", {"cpu": "1000m"})
    assert classes.of(one) is classes.of(one)
    assert classes.of(one) is classes.of(two)
    placed = make_pod("three", {"cpu": "1"}, node="n1")
    assert classes.of(placed, placed=True) is classes.of(one, placed=False)
    assert classes.of(placed).shape.node_name == "n1"
    assert classes.of(placed, placed=True).shape.node_name == ""
    assert classes.of(make_pod("one", {"cpu": "1"}, labels={"app": "x"})) is not classes.of(one)
    assert classes.of(make_pod("one", {"cpu": "1"}, namespace="other")).shape is classes.of(one).shape


def test_pods_and_nodes_may_be_heard_of_in_either_order() -> None:
    early = make_pod("early", {"cpu": "3", "gpu": "1"}, node="late")
    snapshot = snapshot_of([], [early])
    assert snapshot.node_count == 0
    assert not feasible(snapshot, class_of(make_pod("p"))).any()
    snapshot.set_node("late", facts_of(make_node("late", {"gpu": "1"})))
    row = snapshot.row_of("late")
    assert row is not None
    assert snapshot.requested[row, snapshot.columns["gpu"]] == 1
    assert passing("Resources", snapshot, make_pod("p", {"cpu": "2"})) == set()
    snapshot.remove_node("late")
    snapshot.set_node("late", facts_of(make_node("late")))
    assert passing("Resources", snapshot, make_pod("p", {"cpu": "2"})) == set(), "its pod was not forgotten"
    snapshot.remove_node("late")
    snapshot.remove(early.metadata.uid)
    assert "late" not in snapshot.names


def test_a_crowd_of_enormous_requests_does_not_overflow() -> None:
    huge = [make_pod(f"p{i}", {"memory": "7Ei", "cpu": "1E"}, node="a") for i in range(500)]
    snapshot = snapshot_of([make_node("a", {"memory": "7Ei"})], huge)
    assert (snapshot.requested >= 0).all()
    assert passing("Resources", snapshot, make_pod("p", {"memory": "1"})) == set()
