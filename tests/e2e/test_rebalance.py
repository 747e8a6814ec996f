"""Disruption budgets as they stand, and pods that move to where they had better be."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cluster.api.conditions import is_pod_ready
from cluster.testing import Cluster
from tests.e2e.workloads import sleeper

BUDGET = """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: web}}
"""


def places(cluster: Cluster) -> Counter[str]:
    """How many ready replicas each node has."""
    live = [pod for pod in cluster.pods("app=web") if not pod.metadata.HasField("deletionTimestamp")]
    return Counter(pod.spec.nodeName for pod in live if is_pod_ready(pod))


@pytest.mark.podium(nodes=3)
def test_a_node_that_came_back_gets_its_share_within_the_budget(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.podium("cordon", "node-3")
    cluster.apply(sleeper("web", 6) + "---\n" + BUDGET)
    cluster.wait("rc/web", ready=6)
    cluster.wait_until(
        lambda: cluster.podium("get", "pdb", "web", "--no-headers").stdout.split()[1:4] == ["N/A", "1", "1"],
        "the budget was reckoned",
    )
    assert "no pod had better be elsewhere" in cluster.podium("rebalance").stdout
    cluster.podium("uncordon", "node-3")
    planned = json.loads(cluster.podium("rebalance", "--dry-run", "-o", "json").stdout)
    assert [move["to"] for move in planned["moves"]] == ["node-3", "node-3"]
    assert places(cluster)["node-3"] == 0, "nothing was moved"
    moved = cluster.podium("rebalance")
    assert moved.stderr.count("moved from") == 2
    assert places(cluster) == {"node-1": 2, "node-2": 2, "node-3": 2}
    cluster.podium("delete", "pdb", "web")


@pytest.mark.podium(nodes=1)
def test_a_drain_waits_for_the_budget_and_says_so(podium_cluster: Cluster) -> None:
    """One node: replacements have nowhere to go, so the second pod can never be let go."""
    cluster = podium_cluster
    cluster.apply(sleeper("web", 2) + "---\n" + BUDGET)
    cluster.wait("rc/web", ready=2)
    cluster.wait_until(lambda: cluster.get("pdb", "web").status.disruptionsAllowed == 1, "the budget allows one")
    drained = cluster.podium("drain", "node-1", "--timeout", "8", check=False)
    assert drained.returncode == 4
    assert "The disruption budget web needs 1 healthy pods and has 1 currently" in drained.stderr
    assert len([pod for pod in cluster.pods("app=web") if pod.spec.nodeName]) == 1
    cluster.podium("drain", "node-1", "--disable-eviction")
    assert not [pod for pod in cluster.pods("app=web") if pod.spec.nodeName]
