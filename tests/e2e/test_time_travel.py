"""The past of a real cluster: what became of objects, what caused it, and bringing it back."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from cluster.api.conditions import is_pod_ready
from cluster.testing import Cluster
from tests.e2e.test_any_client import Reflected, channel, info  # noqa: F401  (fixtures)
from tests.e2e.test_watching import watching
from tests.e2e.workloads import sleeper, web


class Shell:
    """The command, in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def __call__(self, *arguments: str, check: bool = True) -> Any:
        return self._cluster.podium(*arguments, "-n", self._namespace, check=check)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json").stdout)

    def rows(self, *arguments: str) -> list[list[str]]:
        """The cells of a table, without its headings."""
        return [re.split(r"\s{2,}", line) for line in self(*arguments).stdout.splitlines()[1:]]


@pytest.fixture
def podium(shared_cluster: Cluster, namespace: str) -> Shell:
    return Shell(shared_cluster, namespace)


def revision_of(cluster: Cluster, kind: str, name: str, namespace: str) -> int:
    return int(cluster.get(kind, name, namespace).metadata.resourceVersion)


def running(cluster: Cluster, namespace: str, count: int) -> None:
    """Waits until so many pods of the controller are ready, and no others are left."""

    def is_so() -> bool:
        pods = cluster.pods("app=web", namespace)
        return len(pods) == count and all(is_pod_ready(pod) for pod in pods)

    cluster.wait_until(is_so, f"{count} pods are ready")


@pytest.fixture
def scaled(shared_cluster: Cluster, namespace: str) -> int:
    """A controller that was applied with two replicas and scaled to three; the revision of the apply."""
    shared_cluster.apply(sleeper("web", 2), namespace)
    applied = revision_of(shared_cluster, "rc", "web", namespace)
    running(shared_cluster, namespace, 2)
    shared_cluster.podium("scale", "rc/web", "--replicas", "3", "-n", namespace)
    running(shared_cluster, namespace, 3)
    return applied


def test_history_says_who_why_and_what(podium: Shell, scaled: int) -> None:
    table = podium.rows("history", "rc/web")
    assert [row[2:] for row in table] == [
        ["admin", "scale", "spec.replicas: 2 -> 3"],
        ["admin", "apply", "created"],
    ]
    assert int(table[1][0]) <= scaled
    everything = podium.json("history", "rc/web", "--all")
    assert len(everything["entries"]) > 2
    assert {entry["actor"] for entry in everything["entries"]} == {"admin", "controllers"}
    status = next(entry for entry in everything["entries"] if entry["actor"] == "controllers")
    assert all(change["path"].startswith("status.") for change in status["changes"])
    assert [row[0] for row in podium.rows("history", "rc/web", "--limit", "1")] == [table[0][0]]
    assert "only the newest 1 are shown" in podium("history", "rc/web", "--limit", "1").stderr
    assert [row[0] for row in podium.rows("history", "rc/web", "--since", table[1][0])] == [table[0][0]]
    assert "2024" < podium.rows("history", "rc/web", "-o", "wide")[0][1] < "3000"
    podium("delete", "rc/web")
    assert podium.rows("history", "rc/web")[0][2:] == ["admin", "delete", "deleted"]
    missing = podium("history", "rc/nobody", check=False)
    assert missing.returncode == 3
    assert "nothing of it is kept" in missing.stderr


def test_the_past_can_be_looked_at(shared_cluster: Cluster, namespace: str, podium: Shell, scaled: int) -> None:
    def replicas(*moment: str) -> list[str]:
        return [row[1] for row in podium.rows("get", "rc/web", *moment)]

    assert replicas() == ["3"]
    assert replicas("--at", str(scaled)) == ["2"]
    document = podium.json("get", "rc/web", "--at", str(scaled))
    assert (document["spec"]["replicas"], document["metadata"]["resourceVersion"]) == (2, str(scaled))
    changed = podium.json("history", "rc/web")["entries"][0]
    assert replicas("--at", str(changed["revision"])) == ["3"]
    assert replicas("--at", changed["time"]) == ["3"]
    made = podium.json("history", "rc/web")["entries"][1]
    assert replicas("--at", made["time"]) == ["2"]
    assert len(podium.rows("get", "pods", "--at", changed["time"])) == 2, "the third came after"
    assert "2 desired" in podium("describe", "rc/web", "--at", str(scaled)).stdout
    before = podium("get", "rc/web", "--at", str(made["revision"] - 1), check=False)
    assert before.returncode == 3
    to_come = podium("get", "rc/web", "--at", "1000000000", check=False)
    assert to_come.returncode == 1
    assert "has not happened" in to_come.stderr
    ancient = podium("get", "rc/web", "--at", "2001-01-01", check=False)
    assert ancient.returncode != 0
    assert ancient.stderr.startswith("error: ")
    assert podium("get", "rc/web", "--at", "soon", check=False).returncode == 2


def test_two_moments_are_compared(podium: Shell, scaled: int) -> None:
    different = podium("diff", "rc/web", "--from", str(scaled), check=False)
    assert different.returncode == 1
    lines = different.stdout.splitlines()
    assert lines[0] == f"--- replicationcontroller/web at revision {scaled}"
    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")] == [
        "-  replicas: 2",
        "+  replicas: 3",
    ]
    fields = podium("diff", "rc/web", "--from", str(scaled), "-o", "json", check=False)
    assert json.loads(fields.stdout) == [{"path": "spec.replicas", "old": 2, "new": 3}]
    with_status = podium("diff", "rc/web", "--from", str(scaled), "--all", "-o", "fields", check=False).stdout
    assert re.search(r"^status.readyReplicas: .* -> 3$", with_status, re.MULTILINE)
    same = podium("diff", "rc/web", "--from", str(scaled), "--to", str(scaled))
    assert (same.returncode, same.stdout) == (0, "")
    assert podium("diff", "rc/nobody", "--from", str(scaled), check=False).returncode == 3
    assert podium("diff", "rc/web", "--from", "1000000000", check=False).returncode == 2
    podium("delete", "rc/web")
    gone = podium("diff", "rc/web", "--from", str(scaled), check=False)
    assert gone.returncode == 1
    assert "(it was deleted)" in gone.stdout.splitlines()[1]


def test_undo_of_a_scale_brings_the_pods_back(
    shared_cluster: Cluster, namespace: str, podium: Shell, scaled: int
) -> None:
    podium("scale", "rc/web", "--replicas", "0")
    running(shared_cluster, namespace, 0)
    tried = podium("undo", "rc/web", "--dry-run").stdout
    assert tried.startswith("replicationcontroller/web is as it was at revision ")
    assert "  spec.replicas: 0 -> 3" in tried
    assert shared_cluster.get("rc", "web", namespace).spec.replicas == 0
    podium("undo", "rc/web")
    running(shared_cluster, namespace, 3)
    podium("undo", "rc/web")  # undoes the undo
    running(shared_cluster, namespace, 0)
    podium("undo", "rc/web", "--to", str(scaled))
    running(shared_cluster, namespace, 2)
    assert [row[3] for row in podium.rows("history", "rc/web")][:2] == [
        f"undo (rc/web at {scaled})",
        podium.rows("history", "rc/web")[1][3],
    ]
    nothing = podium("undo", "rc/web", "--to", str(revision_of(shared_cluster, "rc", "web", namespace)))
    assert "unchanged" in nothing.stdout


def test_undo_of_a_deletion_and_apply_after_it(
    shared_cluster: Cluster, namespace: str, podium: Shell, scaled: int
) -> None:
    podium("delete", "rc/web")
    shared_cluster.wait_until(lambda: not shared_cluster.pods("app=web", namespace), "the pods are gone, too")
    assert "made again" in podium("undo", "rc/web").stdout
    running(shared_cluster, namespace, 3)
    shared_cluster.apply(sleeper("web", 2), namespace)  # knows what was applied before the deletion
    assert shared_cluster.get("rc", "web", namespace).spec.replicas == 2


def test_what_cannot_be_undone_says_what_to_do(shared_cluster: Cluster, namespace: str, podium: Shell) -> None:
    shared_cluster.apply(sleeper("web", 1), namespace)
    running(shared_cluster, namespace, 1)
    refused = podium("undo", "rc/web", check=False)
    assert refused.returncode == 1
    assert "there is nothing to undo. To remove it: podium delete replicationcontroller/web" in refused.stderr


def test_trace_from_apply_to_ready(shared_cluster: Cluster, namespace: str, podium: Shell) -> None:
    shared_cluster.apply(web("web", 1), namespace)
    running(shared_cluster, namespace, 1)
    (pod,) = shared_cluster.pods("app=web", namespace)
    name = pod.metadata.name
    traced = podium.json("trace", f"pod/{name}")
    words = [step["step"] for step in traced["steps"]]
    assert words == ["Applied", "Created", "Scheduled", "Started", "Ready"], traced
    assert [step["actor"] for step in traced["steps"]] == [
        "admin",
        "controllers",
        "scheduler",
        f"node:{pod.spec.nodeName}",
        f"node:{pod.spec.nodeName}",
    ]
    applied, created, scheduled, *_ = traced["steps"]
    assert applied["object"] == f"replicationcontrollers/{namespace}/web"
    assert created["cause"] == {"revision": applied["revision"], "object": applied["object"], "reason": "scale"}
    assert scheduled["message"] == f"bound to {pod.spec.nodeName}"
    assert [step["time"] for step in traced["steps"]] == sorted(step["time"] for step in traced["steps"])
    assert traced["gap"] == ""
    text = podium("trace", name).stdout.splitlines()
    assert text[2].split() == ["REVISION", "AT", "TOOK", "STEP", "OBJECT", "WHO", "WHAT"]
    assert re.fullmatch(r"\S+ from Applied to Ready", text[-1])
    shared_cluster.wait("svc/web", namespace, ready=1)
    service = podium.json("trace", "svc/web")
    assert [step["step"] for step in service["steps"]][:1] == ["Applied"]
    assert service["steps"][-1]["step"] == "Endpoints"
    assert service["steps"][-1]["cause"]["object"] == f"pods/{namespace}/{name}"
    controller = podium.json("trace", "rc/web")
    assert [step["step"] for step in controller["steps"]] == ["Applied", "Ready"]


def test_trace_of_a_pod_says_what_ended_it_and_what_it_replaced(
    shared_cluster: Cluster, namespace: str, podium: Shell
) -> None:
    shared_cluster.apply(sleeper("web", 1), namespace)
    running(shared_cluster, namespace, 1)
    (pod,) = shared_cluster.pods("app=web", namespace)
    name, node = pod.metadata.name, pod.spec.nodeName
    taint = {"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}}
    shared_cluster.patch("node", node, taint, "")
    try:
        shared_cluster.wait_until(lambda: name not in names(shared_cluster, namespace), "the pod is gone")
        running(shared_cluster, namespace, 1)
        traced = podium.json("trace", f"pod/{name}")["steps"]
        ended = [step for step in traced if step["step"] in ("Tainted", "Deleting", "Deleted")]
        assert [(step["object"], step["step"]) for step in ended] == [
            (f"nodes/{node}", "Tainted"),
            (f"pods/{namespace}/{name}", "Deleting"),
            (f"pods/{namespace}/{name}", "Deleted"),
        ], traced
        assert ended[0]["message"] == "broken:NoExecute"
        assert ended[1]["cause"]["reason"] == "taint-eviction"
        (replacement,) = names(shared_cluster, namespace)
        chain = [(step["object"], step["step"]) for step in podium.json("trace", f"pod/{replacement}")["steps"]]
        assert chain[:3] == [
            (f"nodes/{node}", "Tainted"),
            (f"pods/{namespace}/{name}", "Deleting"),
            (f"pods/{namespace}/{replacement}", "Created"),
        ]
    finally:
        shared_cluster.patch("node", node, {"spec": {"taints": None}}, "")


def names(cluster: Cluster, namespace: str) -> list[str]:
    return [pod.metadata.name for pod in cluster.pods("app=web", namespace)]


def test_watching_from_a_revision_of_the_past(
    shared_cluster: Cluster, namespace: str, podium: Shell, scaled: int
) -> None:
    arguments = ("get", "rc/web", "-n", namespace, "-w", "--from", str(scaled - 1), "-o", "json")
    with watching(shared_cluster, *arguments) as look:
        look.wait_for('"readyReplicas": 3')
        text = look.text
    decoder, seen = json.JSONDecoder(), []
    while text.strip():
        try:
            document, end = decoder.raw_decode(text.lstrip())
        except ValueError:
            break  # it was still printing that one
        seen.append(document)
        text = text.lstrip()[end:]
    revisions = [int(document["metadata"]["resourceVersion"]) for document in seen]
    assert revisions[0] == scaled
    assert revisions == sorted(set(revisions))
    assert (seen[0]["spec"]["replicas"], seen[-1]["spec"]["replicas"]) == (2, 3)
    refused = podium("get", "pods", "-w", "--from", "1000000000", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: cannot watch from revision 1000000000")


def test_a_plain_grpc_client_travels_too(
    channel: Any,  # noqa: F811
    namespace: str,
    scaled: int,
) -> None:
    cluster = Reflected(channel, "cluster.pb.v1.Cluster")
    target = {"kind": "ReplicationController", "namespace": namespace, "name": "web"}
    history = cluster.call("History", {**target, "without_status": True})
    assert [[change.path for change in entry.changes] for entry in history.entries] == [["spec.replicas"], []]
    assert history.entries[1].object.replicationcontroller.spec.replicas == 2
    then = cluster.call("Get", {**target, "revision": scaled})
    assert then.object.replicationcontroller.spec.replicas == 2
    undone = cluster.call("Undo", {**target, "request_id": "by-hand-1"})
    assert undone.result.object.replicationcontroller.spec.replicas == 2
    assert undone.result.object.replicationcontroller.metadata.cause.reason == "undo"
    again = cluster.call("Undo", {**target, "request_id": "by-hand-1"})
    assert (again.revision, again.to_revision) == (undone.revision, undone.to_revision), "it happens once"
    pods = cluster.call("List", {"kind": "Pod", "namespace": namespace})
    traced = cluster.call("Trace", {"kind": "Pod", "namespace": namespace, "name": pods.items[0].pod.metadata.name})
    assert [step.step for step in traced.steps][1:3] == ["Created", "Scheduled"]


@pytest.mark.podium(
    nodes=1,
    environment={
        "PODIUM_MASTER_HISTORY_REVISIONS": "5",
        "PODIUM_MASTER_HISTORY_SLACK": "1",
        "PODIUM_MASTER_COMPACT_INTERVAL_S": "0.1",
        "PODIUM_MASTER_RING_CHANGES": "5",
    },
)
def test_where_the_past_ends_it_is_said(podium_cluster: Cluster) -> None:
    podium = Shell(podium_cluster, "default")
    podium_cluster.apply(sleeper("web", 1))
    applied = revision_of(podium_cluster, "rc", "web", "default")
    running(podium_cluster, "default", 1)
    # They are written after what they tell of, and would push out what follows.
    for reason in ("SuccessfulCreate", "Scheduled", "Started"):
        podium_cluster.wait_until(lambda reason=reason: podium_cluster.events(reason), f"{reason} is told")  # type: ignore[misc]
    begun_s = time.time()
    for count in range(8):
        podium_cluster.patch("rc", "web", {"metadata": {"labels": {"n": str(count)}}})

    def is_forgotten() -> bool:
        return "history begins at revision" in podium("history", "rc/web").stderr

    podium_cluster.wait_until(is_forgotten, "the beginning is forgotten")
    table = podium.rows("history", "rc/web")
    assert table[0][-1] == "metadata.labels.n: 6 -> 7".replace("6", '"6"').replace("7", '"7"')
    assert table[-1][-1] == "(what was before is no longer kept)"
    for arguments in (
        ("get", "rc/web", "--at", str(applied)),
        ("get", "rc/web", "--at", f"{time.time() - begun_s + 60:.0f}s"),
        ("get", "rc", "-w", "--from", str(applied)),
        ("diff", "rc/web", "--from", str(applied)),
        ("undo", "rc/web", "--to", str(applied)),
    ):
        refused = podium(*arguments, check=False)
        assert refused.returncode in (1, 2), arguments
        assert re.search(r"no longer kept|history begins at revision \d+", refused.stderr), (arguments, refused.stderr)
    (pod,) = names(podium_cluster, "default")
    traced = podium.json("trace", f"pod/{pod}")
    assert [step["step"] for step in traced["steps"]] == ["Created", "Scheduled", "Started", "Ready"]
    assert "the history begins at revision" in traced["gap"]
