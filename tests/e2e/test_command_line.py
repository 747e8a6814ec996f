"""The commands, as users type them, on a running cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import pod, sleeper, web


def test_get_in_all_its_forms(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(web("web", 2), namespace)
    shared_cluster.wait("rc/web", namespace, ready=2)
    space = ("-n", namespace)
    table = shared_cluster.podium("get", "pods", *space).stdout.splitlines()
    assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[1:4] for line in table[1:]] == 2 * [["1/1", "Running", "0"]]
    wide = shared_cluster.podium("get", "po", *space, "-o", "wide").stdout
    assert "node-" in wide
    assert "127." in wide
    names = shared_cluster.podium("get", "rc,svc,pods", "-A", "-o", "name").stdout.split()
    assert "replicationcontroller/web" in names
    assert "service/web" in names
    assert sum(name.startswith("pod/web-") for name in names) == 2
    document = json.loads(shared_cluster.podium("get", "pods", *space, "-o", "json").stdout)
    assert document["kind"] == "List"
    assert {item["kind"] for item in document["items"]} == {"Pod"}
    item = document["items"][0]
    assert item["apiVersion"] == "v1"
    assert item["spec"]["containers"][0]["readinessProbe"]["tcpSocket"] == {"port": 8080}
    assert item["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
    one = json.loads(shared_cluster.podium("get", "rc/web", *space, "-o", "json").stdout)
    assert one["kind"] == "ReplicationController"
    assert one["status"]["readyReplicas"] == 2
    assert "kind: Service" in shared_cluster.podium("get", "svc", "web", *space, "-o", "yaml").stdout
    by_node = [
        shared_cluster.podium("get", "pods", "-A", "--field-selector", f"spec.nodeName={node}", "-o", "name").stdout
        for node in shared_cluster.nodes
    ]
    assert sum(text.count("pod/web-") for text in by_node) == 2
    assert shared_cluster.podium("get", "pods", *space, "-l", "app=nothing").stdout == ""


def test_exit_codes_and_errors(shared_cluster: Cluster, namespace: str) -> None:
    def code(*arguments: str) -> int:
        result = shared_cluster.podium(*arguments, check=False)
        assert result.returncode == 0 or result.stdout == "", "errors do not go to standard output"
        return int(result.returncode)

    assert code("get", "pod", "nobody") == 3
    assert code("get", "gizmos") == 1
    assert code("get") == 2
    assert code("wait", "pod/nobody", "--for", "condition=Ready", "--timeout", "0.2") == 4
    assert code("--cluster", "elsewhere", "get", "pods") == 3
    assert code("scale", "rc/nobody", "--replicas", "2") == 3
    shared_cluster.apply(pod("big", "sleep 100", extra="resources: {requests: {cpu: 5k}}"), namespace)
    shared_cluster.wait_until(lambda: shared_cluster.events("FailedScheduling", "big", namespace), "it is refused")
    assert shared_cluster.podium("why", "pod/big", "-n", namespace, check=False).returncode == 5


def test_logs_of_one_of_several_of_the_run_before_and_followed(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("talker", "for i in 1 2 3; do echo line $i; done; sleep 1000"), namespace)
    shared_cluster.apply(sleeper("many", 2, command="echo hello from $HOSTNAME; exec sleep 1000"), namespace)
    shared_cluster.wait("pod/talker", namespace)
    shared_cluster.wait("rc/many", namespace, ready=2)
    space = ("-n", namespace)
    shared_cluster.wait_until(lambda: "line 3" in shared_cluster.logs("talker", namespace), "the log is written")
    assert shared_cluster.podium("logs", "talker", *space).stdout == "line 1\nline 2\nline 3\n"
    assert shared_cluster.podium("logs", "talker", "--tail", "1", *space).stdout == "line 3\n"
    for each in shared_cluster.pods("app=many", namespace):
        name = each.metadata.name
        shared_cluster.wait_until(lambda name=name: shared_cluster.logs(name, namespace), "it has said hello")  # type: ignore[misc]
    several = shared_cluster.podium("logs", "-l", "app=many", *space).stdout.splitlines()
    assert len(several) == 2
    for line in several:
        prefix, _, rest = line.partition("] ")
        assert rest == f"hello from {prefix[1:]}"
    assert len(shared_cluster.podium("logs", "rc/many", *space).stdout.splitlines()) == 2
    assert shared_cluster.podium("logs", "--previous", "talker", *space, check=False).returncode != 0
    shared_cluster.apply(pod("crasher", "echo about to die; exit 3", restart="Always"), namespace)

    def restarted() -> bool:
        statuses = shared_cluster.get("pod", "crasher", namespace).status.containerStatuses
        return bool(statuses and statuses[0].restartCount >= 1)

    shared_cluster.wait_until(restarted, "it crashed and was restarted")
    assert shared_cluster.logs("crasher", namespace, previous=True) == "about to die\n"
    ended = shared_cluster.get("pod", "crasher", namespace).status.containerStatuses[0].lastState.terminated
    assert ended.exitCode == 3
    assert "about to die" in ended.message


def test_exec_passes_streams_and_exit_codes(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(
        pod("box", "sleep 1000", extra="env: [{name: COLOUR, value: green}, {name: SAY, value: it is $(COLOUR)}]"),
        namespace,
    )
    shared_cluster.wait("pod/box", namespace)
    result = shared_cluster.exec("box", ["sh", "-c", "echo $SAY; echo oops >&2; exit 7"], namespace)
    assert (result.code, result.stdout, result.stderr) == (7, "it is green\n", "oops\n")
    assert (
        shared_cluster.exec("box", ["cat"], namespace, stdin=b"through\nand through\n").stdout
        == "through\nand through\n"
    )
    assert shared_cluster.exec("box", ["sh", "-c", "kill -9 $$"], namespace).code == 137
    environment = dict(
        line.split("=", 1) for line in shared_cluster.exec("box", ["env"], namespace).stdout.splitlines() if "=" in line
    )
    live = shared_cluster.get("pod", "box", namespace)
    assert environment["POD_IP"] == live.status.podIP
    assert environment["HOSTNAME"] == "box"
    assert shared_cluster.exec("box", ["/no/such/program"], namespace).code in (126, 127)


def test_describe_tells_the_story(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(web("web", 1), namespace)
    shared_cluster.wait("rc/web", namespace, ready=1)
    name = shared_cluster.pods("app=web", namespace)[0].metadata.name
    text = shared_cluster.podium("describe", "pod", name, "-n", namespace).stdout
    for part in ("Controlled By:     ReplicationController/web", "Readiness:", "Ready", "Scheduled", "Started"):
        assert part in text, text
    node = shared_cluster.podium("describe", "node", "node-1").stdout
    assert "Pods:" in node
    assert "Usage:             cpu " in node
    service = shared_cluster.podium("describe", "svc/web", "-n", namespace).stdout
    assert "Endpoints:" in service
    assert ":8080" in service
    assert "created" in shared_cluster.podium("describe", "rc", "web", "-n", namespace).stdout


def test_events_labels_and_waiting(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 1), namespace)
    space = ("-n", namespace)
    shared_cluster.podium("wait", "pods", "-l", "app=web", "--for", "condition=Ready", "--timeout", "20s", *space)
    shared_cluster.podium("wait", "rc/web", "--for", "jsonpath={.status.readyReplicas}=1", "--timeout", "20s", *space)
    name = shared_cluster.pods("app=web", namespace)[0].metadata.name
    shared_cluster.wait_until(lambda: shared_cluster.events("Scheduled", name, namespace), "the event is written")
    about = shared_cluster.podium("events", "--for", f"pod/{name}", *space).stdout
    assert f"Successfully assigned {namespace}/{name} to node-" in about
    assert shared_cluster.podium("events", "--types", "Warning", *space).stdout == ""
    assert shared_cluster.podium("label", "pod", name, "tier=fe", *space).stdout.strip() == f"pod/{name} labeled"
    assert shared_cluster.podium("label", "pod", name, "tier=be", *space, check=False).returncode == 1
    shared_cluster.podium("label", "pod", name, "tier=be", "--overwrite", *space)
    assert shared_cluster.get("pod", name, namespace).metadata.labels["tier"] == "be"
    shared_cluster.podium("label", "pod", name, "tier-", *space)
    assert "tier" not in shared_cluster.get("pod", name, namespace).metadata.labels
    shared_cluster.podium("delete", "rc/web", *space)
    shared_cluster.podium("wait", f"pod/{name}", "--for", "delete", "--timeout", "20s", *space)


def test_why_a_pod_is_where_it_is_and_why_it_is_nowhere(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("small", "sleep 1000"), namespace)
    shared_cluster.wait("pod/small", namespace)
    node = shared_cluster.get("pod", "small", namespace).spec.nodeName
    shared_cluster.wait_until(lambda: shared_cluster.events("Scheduled", "small", namespace), "the event is written")
    placed = shared_cluster.podium("why", "pod/small", "-n", namespace).stdout
    assert f"pod/small is on {node}" in placed
    assert "just before the binding" in placed
    shared_cluster.apply(pod("far", "sleep 1000", spec="nodeSelector: {disk: fast}"), namespace)
    shared_cluster.wait_until(lambda: shared_cluster.events("FailedScheduling", "far", namespace), "it is refused")
    event = shared_cluster.events("FailedScheduling", "far", namespace)[0]
    assert event.message.startswith("0/3 nodes are available: 3 node(s) didn't match")
    result = shared_cluster.podium("why", "pod/far", "-n", namespace, check=False)
    assert result.returncode == 5
    assert "smallest change" in result.stdout
    assert "disk" in result.stdout
    document = json.loads(shared_cluster.podium("why", "far", "-n", namespace, "-o", "json", check=False).stdout)
    assert {verdict["node"] for verdict in document["verdicts"]} == set(shared_cluster.nodes)


def test_an_image_needs_a_runtime_that_no_node_has(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("boxed", "sleep 1", extra="image: nginx:1.25"), namespace)
    shared_cluster.apply(pod("plain", "sleep 1000", extra="image: host"), namespace)
    shared_cluster.wait("pod/plain", namespace)
    shared_cluster.wait_until(lambda: shared_cluster.events("FailedScheduling", "boxed", namespace), "it is refused")
    boxed = shared_cluster.get("pod", "boxed", namespace)
    assert boxed.status.phase in ("", "Pending")
    message = next(c.message for c in boxed.status.conditions if c.type == "PodScheduled")
    assert "runtime for images" in message


def test_apply_is_declarative(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(sleeper("web", 1))
    space = ("-n", namespace)
    assert shared_cluster.podium("apply", "-f", str(file), *space).stdout == "replicationcontroller/web created\n"
    assert shared_cluster.podium("apply", "-f", str(file), *space).stdout == "replicationcontroller/web unchanged\n"
    shared_cluster.podium("label", "rc/web", "kept=yes", *space)
    file.write_text(sleeper("web", 2))
    assert "configured" in shared_cluster.podium("apply", "-f", str(file), "--dry-run", *space).stdout
    assert shared_cluster.get("rc", "web", namespace).spec.replicas == 1
    result = shared_cluster.podium("apply", "-f", "-", "--wait", *space, stdin=file.read_text())
    assert "configured" in result.stdout
    live = shared_cluster.get("rc", "web", namespace)
    assert (live.spec.replicas, live.status.readyReplicas) == (2, 2)
    assert live.metadata.labels["kept"] == "yes", "what others set is left alone"
    shared_cluster.podium("delete", "-f", str(file), *space)
    assert shared_cluster.podium("get", "rc/web", *space, check=False).returncode == 3
    file.write_text(file.read_text().replace("{name: web}", "{name: web, namespace: elsewhere}", 1))
    refused = shared_cluster.podium("apply", "-f", str(file), *space, check=False)
    assert refused.returncode == 1
    assert "elsewhere" in refused.stderr


def test_apply_says_what_is_carried_out_otherwise(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(sleeper("web", 1, extra="ports: [{containerPort: 80, hostPort: 18099}]"))
    said = shared_cluster.podium("apply", "-f", str(file), "-n", namespace)
    where = "Warning: replicationcontroller/web: spec.template.spec.containers[0].ports[0].hostPort: "
    assert said.stderr.startswith(f"{where}18099 is reserved for the pod on its node, but not forwarded")
    assert said.stdout == "replicationcontroller/web created\n"
    again = shared_cluster.podium("apply", "-f", str(file), "-n", namespace)
    assert (again.stdout, again.stderr) == ("replicationcontroller/web unchanged\n", "")


def test_url_and_cluster_info(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(web("web", 1), namespace)
    address, port = shared_cluster.address("web", namespace)
    assert shared_cluster.podium("url", "svc/web", "-n", namespace).stdout == f"http://{address}:{port}\n"
    info = shared_cluster.info()
    roles = sorted(process["role"] for process in info["processes"])
    assert roles == ["dns", "manager", "master", *3 * ["node-agent"], "proxy", *3 * ["spawner"], "supervisor"]
    assert all(process["pid"] > 0 and process["state"] == "running" for process in info["processes"])
    assert "podium" in json.loads(shared_cluster.podium("version", "-o", "json").stdout)


@pytest.mark.podium(nodes=2)
def test_cordon_drain_uncordon(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 4))
    podium_cluster.wait("rc/web", ready=4)
    podium_cluster.podium("cordon", "node-1")
    assert "SchedulingDisabled" in podium_cluster.podium("get", "nodes").stdout
    podium_cluster.scale("web", 6)
    podium_cluster.wait("rc/web", ready=6)
    nodes = [pod.spec.nodeName for pod in podium_cluster.pods("app=web")]
    assert nodes.count("node-1") == 2
    podium_cluster.apply(pod("alone", "sleep 1000", spec="nodeName: node-1"))
    podium_cluster.wait("pod/alone")
    refused = podium_cluster.podium("drain", "node-1", check=False)
    assert refused.returncode == 1
    assert "alone" in refused.stderr
    podium_cluster.podium("drain", "node-1", "--force")
    assert podium_cluster.list("pods", "", field_selector="spec.nodeName=node-1") == []
    podium_cluster.wait("rc/web", ready=6)
    podium_cluster.podium("uncordon", "node-1")
    podium_cluster.scale("web", 10)
    podium_cluster.wait("rc/web", ready=10)
    assert "node-1" in {pod.spec.nodeName for pod in podium_cluster.pods("app=web")}


@pytest.mark.podium(nodes=2)
def test_a_drain_keeps_to_disruption_budgets(podium_cluster: Cluster) -> None:
    budget = (
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\n"
        "spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n"
    )
    assert podium_cluster.podium("apply", "-f", "-", stdin=budget).stdout == "poddisruptionbudget/web created\n"
    podium_cluster.apply(sleeper("web", 2))
    podium_cluster.wait("rc/web", ready=2)
    assert sorted(pod.spec.nodeName for pod in podium_cluster.pods("app=web")) == ["node-1", "node-2"]
    _count(podium_cluster, allowed=0)
    table = podium_cluster.podium("get", "pdb").stdout.splitlines()
    assert table[1].split()[:4] == ["web", "2", "N/A", "0"]
    held = podium_cluster.podium("drain", "node-1", "--timeout", "5", check=False)
    assert held.returncode == 4
    assert "The disruption budget web needs 2 healthy pods and has 2 currently" in held.stderr
    assert "--disable-eviction" in held.stderr
    assert all(not pod.metadata.HasField("deletionTimestamp") for pod in podium_cluster.pods("app=web"))
    podium_cluster.patch("pdb", "web", {"spec": {"minAvailable": 1}})
    _count(podium_cluster, allowed=1, desired=1)
    drained = podium_cluster.podium("drain", "node-1")
    assert drained.stdout.splitlines()[-1] == "node/node-1 drained"
    assert podium_cluster.list("pods", "", field_selector="spec.nodeName=node-1") == []
    podium_cluster.wait("rc/web", ready=2)
    podium_cluster.podium("uncordon", "node-1")
    podium_cluster.podium("drain", "node-2", "--disable-eviction")
    assert podium_cluster.list("pods", "", field_selector="spec.nodeName=node-2") == []


def _count(cluster: Cluster, allowed: int, desired: int = 2) -> None:
    """Sees to it that the budget "web" is counted for what it asks now."""

    async def body(client: ClusterClient) -> None:
        budget = await client.get(core.PodDisruptionBudget, "web")
        status = core.PodDisruptionBudgetStatus(
            observedGeneration=budget.metadata.generation,
            disruptionsAllowed=allowed,
            currentHealthy=2,
            desiredHealthy=desired,
            expectedPods=2,
        )
        budget.status.CopyFrom(status)
        budget.metadata.ClearField("resourceVersion")
        (outcome,) = (await client.write([operations.update_status(budget)])).outcomes
        outcome.unwrap()

    cluster.run(body)


def test_a_lease_is_an_object_like_others_but_for_undo(shared_cluster: Cluster, namespace: str) -> None:
    space = ("-n", namespace)
    manifest = (
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: turn}\nspec:\n  holderIdentity: me\n"
        '  leaseDurationSeconds: 15\n  renewTime: "2026-03-01T12:00:07.000250Z"\n'
    )
    assert shared_cluster.podium("apply", "-f", "-", *space, stdin=manifest).stdout == "lease/turn created\n"
    assert shared_cluster.podium("apply", "-f", "-", *space, stdin=manifest).stdout == "lease/turn unchanged\n"
    table = shared_cluster.podium("get", "leases", *space).stdout.splitlines()
    assert table[0].split() == ["NAME", "HOLDER", "AGE"]
    assert table[1].split()[:2] == ["turn", "me"]
    described = shared_cluster.podium("describe", "lease/turn", *space).stdout
    assert "Holder:            me" in described
    assert "Renew Time:        2026-03-01T12:00:07.000250Z" in described
    shown = json.loads(shared_cluster.podium("get", "lease/turn", *space, "-o", "json").stdout)
    assert (shown["apiVersion"], shown["spec"]["renewTime"]) == (
        "coordination.k8s.io/v1",
        "2026-03-01T12:00:07.000250Z",
    )
    changed = manifest.replace("holderIdentity: me", "holderIdentity: you")
    assert "configured" in shared_cluster.podium("apply", "-f", "-", *space, stdin=changed).stdout
    assert "me -> you" in shared_cluster.podium("history", "lease/turn", *space).stdout
    refused = shared_cluster.podium("undo", "lease/turn", *space, check=False)
    assert refused.returncode != 0
    assert f"podium delete lease/turn -n {namespace}" in refused.stderr
    assert "lease/turn deleted" in shared_cluster.podium("delete", "lease/turn", *space).stdout
