"""What `plan` and `what-if` foretell, held against what then happens; and that the foretelling changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.api.conditions import get_condition
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import sleeper

REQUESTS = "resources: {requests: {cpu: %s}}"


def revision(cluster: Cluster) -> int:
    async def read(client: ClusterClient) -> int:
        return (await client.list(core.Node)).revision

    found: int = cluster.run(read)
    return found


def foretold(cluster: Cluster, *arguments: str, code: int = 0, stdin: str = "") -> dict[str, Any]:
    """The report. Waits for a run during which nothing was written by anybody: if the command itself wrote, there
    would be none."""
    reports: list[dict[str, Any]] = []

    def quiet() -> object:
        before = revision(cluster)
        done = cluster.podium(*arguments, "-o", "json", check=False, stdin=stdin)
        assert done.returncode == code, done.stdout + done.stderr
        reports.append(json.loads(done.stdout))
        return before == reports[-1]["revision"] and before == revision(cluster)

    cluster.wait_until(quiet, f"a run of {arguments[0]} while the cluster is quiet", timeout_s=60.0)
    return reports[-1]


@pytest.mark.podium(nodes=3)
def test_a_node_fails_as_it_was_foretold(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(sleeper("web", 6))
    cluster.apply(sleeper("api", 3))
    cluster.wait("rc/web", ready=6)
    cluster.wait("rc/api", ready=3)
    there = {pod.metadata.name: pod.spec.nodeName for pod in cluster.pods()}
    doomed = {name for name, node in there.items() if node == "node-2"}
    assert len(doomed) == 3

    report = foretold(cluster, "what-if", "node/node-2", "--down")
    assert (report["ending"], report["fits"], report["pending"]) == ("quiet", True, [])
    assert {removed["pod"] for removed in report["removed"]} == doomed
    assert {removed["why"] for removed in report["removed"]} == {"evicted"}
    assert {placed["replaces"] for placed in report["placed"]} == doomed
    assert {placed["node"] for placed in report["placed"]} == {"node-1", "node-3"}
    assert {pod.metadata.name: pod.spec.nodeName for pod in cluster.pods()} == there, "nothing has happened"

    cluster.kill_node("node-2")
    cluster.wait_until(lambda: doomed.isdisjoint(pod.metadata.name for pod in cluster.pods()), "they are evicted")
    cluster.wait("rc/web", ready=6)
    cluster.wait("rc/api", ready=3)
    now = {pod.metadata.name: pod.spec.nodeName for pod in cluster.pods()}
    assert {name: node for name, node in now.items() if name in there} == {
        name: node for name, node in there.items() if name not in doomed
    }, "the others have stayed"
    assert all(pod.status.phase == "Running" for pod in cluster.pods())
    loads = Counter(now.values())
    expected = Counter(node for name, node in there.items() if name not in doomed)
    expected.update(placed["node"] for placed in report["placed"])
    assert sorted(loads.values()) == sorted(expected.values()), "spread as it was foretold"

    again = cluster.podium("what-if", "node-2", "--down", check=False)
    assert again.returncode == 1
    assert "node/node-2 is down already (Ready=Unknown)" in again.stderr


@pytest.mark.podium(nodes=2, options=("--node-cpu", "2"))
def test_a_plan_comes_true(podium_cluster: Cluster, tmp_path: Path) -> None:
    cluster = podium_cluster
    cluster.apply(sleeper("web", 2, extra=REQUESTS % "500m"))
    cluster.wait("rc/web", ready=2)
    file = tmp_path / "web.yaml"
    file.write_text(sleeper("web", 4, extra=REQUESTS % "500m") + "---\n" + sleeper("big", 2, extra=REQUESTS % "1800m"))

    report = foretold(cluster, "plan", "-f", str(file), code=5)
    assert [(each["name"], each["verb"]) for each in report["applied"]] == [("web", "configured"), ("big", "created")]
    assert "spec.replicas: 2 -> 4" in report["applied"][0]["differences"]
    assert [placed["owner"] for placed in report["placed"]] == ["ReplicationController/web"] * 2
    assert [pending["owner"] for pending in report["pending"]] == ["ReplicationController/big"] * 2
    text = cluster.podium("plan", "-f", str(file), check=False).stdout
    assert "pending: 2" in text
    assert "0/2 nodes are available: 2 Insufficient cpu." in text
    assert len(cluster.pods()) == 2

    cluster.podium("apply", "-f", str(file))
    cluster.wait("rc/web", ready=4)

    def messages() -> list[str]:
        found = [get_condition(pod.status, "PodScheduled") for pod in cluster.pods("app=big")]
        return [condition.message for condition in found if condition is not None and condition.status == "False"]

    cluster.wait_until(lambda: len(messages()) == 2, "both are refused")
    assert messages() == [pending["message"] for pending in report["pending"]]

    refused = cluster.podium("plan", "-f", "-", "-n", "nowhere", check=False, stdin=sleeper("web", 1))
    assert refused.returncode == 1
    assert 'replicationcontroller/nowhere/web refused: -:1: namespaces "nowhere" not found' in refused.stdout

    more = foretold(cluster, "what-if", "--add-nodes", "2", "--like", "node-1")
    assert more["fits"]
    assert {placed["node"] for placed in more["placed"]} == {"node-1-new-1", "node-1-new-2"}
    assert all(placed["wasPending"] for placed in more["placed"])
