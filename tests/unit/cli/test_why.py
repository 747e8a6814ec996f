"""What `podium why` prints: the filters that refuse, what they compared, and the scores that make a difference."""

from __future__ import annotations

from cluster.cli.why import _text
from cluster.scheduler.explain import explain
from tests.unit.scheduler.build import make_node, make_pod, near_to

ZONE = "topology.kubernetes.io/zone"
NODES = [make_node("node-1", labels={ZONE: "a"}), make_node("node-2", labels={ZONE: "b"})]


def test_of_a_pod_that_fits_nowhere_the_filters_that_refuse_are_shown() -> None:
    pod = near_to(make_pod("web", {"cpu": "3"}), ZONE, {"app": "db"})
    database = make_pod("db", {"cpu": "2"}, node="node-2", labels={"app": "db"})
    assert _text(pod, explain(pod, NODES, [database]), "now").splitlines() == [
        ("pod/web is pending: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod affinity rules."),
        "smallest change: asks cpu 3, free is 2 on node-2: lower the request by 1 or free 1 there",
        "computed from now",
        "",
        "NODE     FITS   InterPodAffinity   Resources",
        "node-1   no     NO                 ok",
        "node-2   no     ok                 NO",
        "",
        "compared:",
        "  node-1: Resources: cpu: asks 3, free 4 of 4, pods: asks 1, free 110 of 110",
        f"  node-1: InterPodAffinity: wants pods with app=db near: none in {ZONE}=a",
        "  node-2: Resources: cpu: asks 3, free 2 of 4",
        f"  node-2: InterPodAffinity: wants pods with app=db near: 1 in {ZONE}=b",
    ]


def test_of_a_pod_that_is_placed_the_scores_are_shown_that_any_node_gets() -> None:
    pod = make_pod("web", {"cpu": "1"}, node="node-1")
    lines = _text(pod, explain(pod, NODES, []), "now").splitlines()
    assert lines[0] == (
        "pod/web is on node-1: node-1, node-2 were equally good, and it had the fewest pods or the lowest draw"
    )
    assert lines[3:6] == ["NODE     FITS", "node-1   yes", "node-2   yes"]
    assert lines[-3].split() == ["NODE", "TOTAL", "LeastAllocated", "BalancedAllocation", "TaintToleration"]
