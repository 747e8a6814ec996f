"""Filters that look at pods elsewhere: spreading, affinity, data directories; each by a small cluster and in words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.facts import facts_of, placed_pod
from cluster.scheduler.filters import FILTERS, refusal
from cluster.scheduler.podclass import class_of
from cluster.scheduler.snapshot import ALL_ROWS, Snapshot
from tests.unit.scheduler.build import away_from, make_node, make_pod, near_to, spread_over

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
NODES = [
    make_node("a1", labels={ZONE: "a"}),
    make_node("a2", labels={ZONE: "a"}),
    make_node("b1", labels={ZONE: "b"}),
    make_node("c1", labels={ZONE: "c"}),
    make_node("no-zone"),
]


def snapshot_of(pods: Sequence[core.Pod], nodes: Sequence[core.Node] = NODES) -> Snapshot:
    snapshot = Snapshot(2)
    for node in nodes:
        snapshot.set_node(node.metadata.name, facts_of(node))
    for pod in pods:
        snapshot.place(placed_pod(pod), pod.spec.nodeName)
    return snapshot


def passing(snapshot: Snapshot, pod: core.Pod) -> set[str]:
    """The nodes that all filters let pass."""
    pod_class = class_of(pod)
    names = {name for name in snapshot.names if name}
    for each in FILTERS:
        mask = each.passes(snapshot, pod_class, ALL_ROWS)
        names -= {name for row, name in enumerate(snapshot.names) if name and not mask[row]}
    return names


def web(name: str, node: str = "", **more: str) -> core.Pod:
    return make_pod(name, node=node, labels={"app": "web", **more})


def leaving(pod: core.Pod) -> core.Pod:
    pod.metadata.deletionTimestamp.seconds = 1
    return pod


# -- spreading


@pytest.mark.parametrize(
    ("there", "skew", "expected"),
    [
        ([], 1, {"a1", "a2", "b1", "c1"}),
        (["a1"], 1, {"b1", "c1"}),
        (["a1"], 2, {"a1", "a2", "b1", "c1"}),
        (["a1", "b1"], 1, {"c1"}),
        (["a1", "b1", "c1"], 1, {"a1", "a2", "b1", "c1"}),
        (["no-zone", "no-zone"], 1, {"a1", "a2", "b1", "c1"}),
    ],
)
def test_no_zone_gets_ahead_of_the_emptiest(there: list[str], skew: int, expected: set[str]) -> None:
    pods = [web(f"w{i}", node) for i, node in enumerate(there)]
    pod = spread_over(web("p"), ZONE, {"app": "web"}, skew)
    assert passing(snapshot_of(pods), pod) == expected


def test_a_pod_that_the_constraint_does_not_mean_adds_nothing_to_a_zone() -> None:
    pods = [web("w1", "a1"), web("w2", "b1")]
    other = spread_over(make_pod("p", labels={"app": "db"}), ZONE, {"app": "web"}, 1)
    assert passing(snapshot_of(pods), other) == {"a1", "a2", "b1", "c1"}


def test_pods_of_other_namespaces_and_pods_on_their_way_out_do_not_count_in_spreading() -> None:
    pods = [leaving(web("w1", "a1")), make_pod("w2", namespace="other", node="a1", labels={"app": "web"})]
    assert "a1" in passing(snapshot_of(pods), spread_over(web("p"), ZONE, {"app": "web"}, 1))


@pytest.mark.parametrize(("domains", "expected"), [(3, {"a1", "a2", "c1"}), (4, set())])
def test_while_there_are_too_few_domains_the_emptiest_counts_as_empty(domains: int, expected: set[str]) -> None:
    pods = [web("w1", "a1"), web("w2", "b1"), web("w3", "b1"), web("w4", "c1")]
    pod = spread_over(web("p"), ZONE, {"app": "web"}, 1)
    pod.spec.topologySpreadConstraints[0].minDomains = domains
    assert passing(snapshot_of(pods), pod) == expected


@pytest.mark.parametrize(("policy", "expected"), [("", {"a1", "a2", "b1"}), ("Ignore", set())])
def test_nodes_that_the_pod_may_not_go_to_count_unless_they_are_honored(policy: str, expected: set[str]) -> None:
    nodes = [*NODES[:3], make_node("c1", labels={ZONE: "c", "disk": "hdd"})]
    for node in nodes[:3]:
        node.metadata.labels["disk"] = "ssd"
    pods = [web("w1", "a1"), web("w2", "b1")]
    pod = spread_over(make_pod("p", labels={"app": "web"}, selector={"disk": "ssd"}), ZONE, {"app": "web"}, 1)
    pod.spec.topologySpreadConstraints[0].nodeAffinityPolicy = policy
    assert passing(snapshot_of(pods, nodes), pod) == expected  # is zone c, where nobody may go, the emptiest?


@pytest.mark.parametrize(("policy", "expected"), [("", set()), ("Honor", {"a1", "a2", "b1"})])
def test_nodes_with_taints_count_unless_taints_are_honored(policy: str, expected: set[str]) -> None:
    nodes = [*NODES[:3], make_node("c1", labels={ZONE: "c"}, taints=[("x", "", "NoSchedule")])]
    pod = spread_over(web("p"), ZONE, {"app": "web"}, 1)
    pod.spec.topologySpreadConstraints[0].nodeTaintsPolicy = policy
    assert passing(snapshot_of([web("w1", "a1"), web("w2", "b1")], nodes), pod) == expected


# -- affinity


def test_near_means_in_the_same_zone_and_pods_on_their_way_out_are_still_there() -> None:
    pod = near_to(make_pod("p"), ZONE, {"app": "web"})
    assert passing(snapshot_of([web("w", "b1")]), pod) == {"b1"}
    assert passing(snapshot_of([leaving(web("w", "a2"))]), pod) == {"a1", "a2"}
    assert passing(snapshot_of([]), pod) == set()
    assert passing(snapshot_of([web("w", "no-zone")]), pod) == set()


def test_a_pod_must_be_what_all_terms_mean() -> None:
    pod = near_to(near_to(make_pod("p"), ZONE, {"app": "web"}), HOST, {"tier": "fe"})
    assert passing(snapshot_of([web("w", "a1"), make_pod("f", node="a1", labels={"tier": "fe"})]), pod) == set()
    assert passing(snapshot_of([web("w", "a1", tier="fe")]), pod) == {"a1"}


def test_the_first_of_a_group_may_begin_anywhere_with_the_label() -> None:
    itself = near_to(web("p"), ZONE, {"app": "web"})
    assert passing(snapshot_of([]), itself) == {"a1", "a2", "b1", "c1"}
    assert passing(snapshot_of([web("w", "no-zone")]), itself) == {"a1", "a2", "b1", "c1"}
    assert passing(snapshot_of([web("w", "c1")]), itself) == {"c1"}


def test_apart_means_not_in_the_same_zone_and_a_node_without_one_is_in_none() -> None:
    pod = away_from(make_pod("p"), ZONE, {"app": "web"})
    assert passing(snapshot_of([web("w", "a1")]), pod) == {"b1", "c1", "no-zone"}
    assert passing(snapshot_of([leaving(web("w", "a1"))]), pod) == {"b1", "c1", "no-zone"}


def test_pods_keep_others_away_that_do_not_mind_themselves() -> None:
    hermit = away_from(make_pod("hermit", node="a1"), ZONE, {"app": "web"})
    assert passing(snapshot_of([hermit]), web("p")) == {"b1", "c1", "no-zone"}
    assert passing(snapshot_of([hermit]), make_pod("p", labels={"app": "db"})) == {"a1", "a2", "b1", "c1", "no-zone"}


def test_terms_mean_pods_of_the_own_namespace_unless_they_name_others_or_select_them() -> None:
    elsewhere = make_pod("w", namespace="other", node="a1", labels={"app": "web"})
    snapshot = snapshot_of([elsewhere])
    everywhere = {"a1", "a2", "b1", "c1", "no-zone"}
    assert passing(snapshot, away_from(make_pod("p"), HOST, {"app": "web"})) == everywhere
    named, selected, any_of_them = (away_from(make_pod(f"p{i}"), HOST, {"app": "web"}) for i in range(3))
    term = named.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]
    term.namespaces.append("other")
    assert passing(snapshot, named) == everywhere - {"a1"}
    term = selected.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]
    term.namespaceSelector.matchLabels["team"] = "red"
    assert passing(snapshot, selected) == everywhere
    assert snapshot.tallies.namespaces.set("other", {"team": "red"})
    assert passing(snapshot, selected) == everywhere - {"a1"}
    assert not snapshot.tallies.namespaces.set("nobody-asked", {"team": "red"})
    term = any_of_them.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]
    term.namespaceSelector.SetInParent()
    assert passing(snapshot, any_of_them) == everywhere - {"a1"}


# -- node affinity


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], set()),
        ([("disk", "In", ["ssd", "nvme"])], {"one"}),
        ([("disk", "NotIn", ["ssd"])], {"two", "none"}),
        ([("disk", "Exists", [])], {"one", "two"}),
        ([("disk", "DoesNotExist", [])], {"none"}),
        ([("cores", "Gt", ["8"])], {"two"}),
        ([("cores", "Lt", ["9"])], {"one"}),
        ([("cores", "Gt", ["many"])], set()),
        ([("disk", "Exists", []), ("cores", "Gt", ["8"])], {"two"}),
    ],
)
def test_node_affinity(conditions: list[tuple[str, str, list[str]]], expected: set[str]) -> None:
    nodes = [
        make_node("one", labels={"disk": "ssd", "cores": "8"}),
        make_node("two", labels={"disk": "hdd", "cores": "16"}),
        make_node("none", labels={"cores": "many"}),
    ]
    pod = make_pod("p")
    term = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.add()
    for key, operator, values in conditions:
        term.matchExpressions.add(key=key, operator=operator, values=values)
    assert passing(snapshot_of([], nodes), pod) == expected
    other = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.add()
    other.matchFields.add(key="metadata.name", operator="In", values=["none", "gone"])
    assert passing(snapshot_of([], nodes), pod) == expected | {"none"}, "one of the terms is enough"


def test_required_node_affinity_without_a_term_selects_nothing() -> None:
    pod = make_pod("p")
    pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.SetInParent()
    assert passing(snapshot_of([]), pod) == set()


# -- data directories


def using(pod: core.Pod, *directories: str) -> core.Pod:
    for name in directories:
        pod.spec.volumes.add(name=name).volumeSource.dataDirectory.name = name
    return pod


def test_a_pod_goes_where_its_data_lies_or_is_in_use() -> None:
    nodes = [make_node("n1", directories=["default/db", "other/db"]), make_node("n2"), make_node("n3")]
    snapshot = snapshot_of([using(make_pod("u", node="n2"), "logs")], nodes)
    assert passing(snapshot, using(make_pod("p"), "db")) == {"n1"}
    assert passing(snapshot, using(make_pod("p"), "logs")) == {"n2"}
    assert passing(snapshot, using(make_pod("p"), "new")) == {"n1", "n2", "n3"}
    assert passing(snapshot, using(make_pod("p"), "new", "db")) == {"n1"}
    assert passing(snapshot, using(make_pod("p", namespace="other"), "logs")) == {"n1", "n2", "n3"}
    snapshot.remove("uid-default-u")
    assert passing(snapshot, using(make_pod("p"), "logs")) == {"n1", "n2", "n3"}
    snapshot.set_node("n1", facts_of(make_node("n1")))
    assert passing(snapshot, using(make_pod("p"), "db")) == {"n1", "n2", "n3"}


# -- in words


@pytest.mark.parametrize(
    ("pods", "pod", "message", "refusing"),
    [
        (
            [web("w", "a1"), web("v", "b1"), make_pod("full", {"cpu": "4"}, node="c1")],
            spread_over(make_pod("p", {"cpu": "1"}, labels={"app": "web"}), ZONE, {"app": "web"}, 1),
            (
                "0/5 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints"
                " (missing required label), 3 node(s) didn't match pod topology spread constraints."
            ),
            {"Resources", "PodTopologySpread"},
        ),
        (
            [],
            spread_over(web("p"), "no/such-key", {"app": "web"}, 1),
            "0/5 nodes are available: 5 node(s) didn't match pod topology spread constraints (missing required label).",
            {"PodTopologySpread"},
        ),
        (
            [],
            near_to(make_pod("p"), ZONE, {"app": "web"}),
            "0/5 nodes are available: 5 node(s) didn't match pod affinity rules.",
            {"InterPodAffinity"},
        ),
        (
            [web(f"w{node}", node) for node in ("a1", "b1", "c1", "no-zone")],
            away_from(away_from(make_pod("p"), ZONE, {"app": "web"}), HOST, {"app": "web"}),
            "0/5 nodes are available: 5 node(s) didn't match pod anti-affinity rules.",
            {"InterPodAffinity"},
        ),
        (
            [away_from(make_pod(f"h{node}", node=node), HOST, {"app": "web"}) for node in ("a1", "a2", "b1", "c1")],
            make_pod("p", labels={"app": "web"}, selector={ZONE: "a"}),
            (
                "0/5 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules, 3 node(s) didn't"
                " match Pod's node affinity/selector."
            ),
            {"InterPodAffinity", "NodeAffinity"},
        ),
        (
            [using(make_pod("u", node="a1"), "db"), using(make_pod("v", node="b1"), "logs")],
            using(make_pod("p"), "db", "logs"),
            "0/5 nodes are available: 5 node(s) had volume node affinity conflict.",
            {"DataDirectories"},
        ),
        (
            [],
            make_pod("p", {"cpu": "1E", "memory": "7Ei"}),
            "0/5 nodes are available: 5 Insufficient cpu, 5 Insufficient memory.",
            {"Resources"},
        ),
        (
            [],
            make_pod("p", {"ephemeral-storage": "1Gi"}),
            "0/5 nodes are available: 5 Insufficient ephemeral-storage.",
            {"Resources"},
        ),
    ],
)
def test_the_sentence(pods: list[core.Pod], pod: core.Pod, message: str, refusing: set[str]) -> None:
    snapshot = snapshot_of(pods)
    assert not passing(snapshot, pod)
    said = refusal(snapshot, class_of(pod))
    assert (said.message, set(said.filters)) == (message, refusing)


def test_a_pod_that_asks_for_nothing_fits_on_a_node_that_has_nothing_left() -> None:
    node = make_node("n", {"cpu": "1", "memory": "1Gi"})
    full = make_pod("full", {"cpu": "1", "memory": "1Gi"}, node="n")
    assert passing(snapshot_of([full], [node]), make_pod("p", {"cpu": "0", "memory": "0"})) == {"n"}
