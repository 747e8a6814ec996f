"""kubectl, unmodified, on a real cluster, where a command and its output do not tell all: what goes on meanwhile, what
is typed into it, what somebody else does."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import yaml

from cluster.testing import Cluster
from tests.e2e.kubectl.stories import WEB
from tests.kit.kubectl import Kubectl


def test_input_goes_to_a_command_and_files_are_copied(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.expect("apply -f pod.yaml", "created")
    kubectl.expect("wait --for=condition=Ready pod/lone --timeout=20s", "condition met")
    kubectl.expect("exec -i lone -c main -- cat", r"\Ahello there\Z", stdin="hello there")
    there = tmp_path / "there"
    (kubectl.directory / "here").write_text("content\n" * 10_000)
    kubectl.expect(f"cp here lone:{there} -c main", "")
    assert there.read_text() == "content\n" * 10_000
    kubectl.expect(f"cp lone:{there} back -c main", "")
    assert (kubectl.directory / "back").read_text() == there.read_text()
    kubectl.expect("delete pod lone --now", "deleted")


def test_changes_are_watched(kubectl: Kubectl) -> None:
    with kubectl.running(
        "get", "configmaps", "-w", "--no-headers", "-o", "custom-columns=N:.metadata.name"
    ) as watching:
        seen = ""
        for number in range(3):
            kubectl.expect(f"create configmap watched-{number} --from-literal=a=b", "created")
        while "watched-2" not in seen and (line := watching.said.readline()):
            seen += line
        assert [f"watched-{number}" in seen for number in range(3)] == [True] * 3
    kubectl.expect("delete configmap watched-0 watched-1 watched-2", "deleted")


def test_a_port_is_forwarded(cluster: Cluster, kubectl: Kubectl) -> None:
    program = (
        "import http.server, os\n"
        "address = os.environ['POD_IP'], 8080\n"
        "http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    container = {
        "name": "main",
        "command": [sys.executable, "-c", program],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"containerPort": 8080}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "http"}, "spec": {"containers": [container]}}
    (kubectl.directory / "http.json").write_text(json.dumps(pod))
    kubectl.expect("apply -f http.json", "created")
    kubectl.expect("wait --for=condition=Ready pod/http --timeout=20s", "condition met")
    with kubectl.running("port-forward", "pod/http", ":8080", "--address", "127.0.0.1") as forwarding:
        port = int(forwarding.said.readline().partition(":")[2].partition(" ")[0])
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                assert b"Directory listing" in response.read()
    kubectl.expect("delete pod http --now", "deleted")


def test_a_node_is_drained(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.expect("apply -f web.yaml", "created")
    cluster.wait("rc/web", ready=2)
    kubectl.expect("drain node-1 --ignore-daemonsets --force --timeout=30s", "node/node-1 drained")
    cluster.wait("rc/web", ready=2)
    assert {pod.spec.nodeName for pod in cluster.list("pod") if pod.metadata.labels.get("app") == "web"} == {"node-2"}
    kubectl.expect("uncordon node-1", "uncordoned")
    kubectl.expect("delete -f web.yaml", "deleted")


def test_an_editor_changes_an_object(kubectl: Kubectl) -> None:
    kubectl.expect("create configmap edited --from-literal=a=before", "created")
    editor = kubectl.directory / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/before/after/ "$1"\n')
    editor.chmod(0o700)
    environment = {"KUBE_EDITOR": str(editor)}
    output = kubectl.run("edit", "configmap", "edited", environment=environment)
    assert "configmap/edited edited" in output.out, output
    kubectl.expect("get configmap edited -o jsonpath={.data.a}", "^after$")
    kubectl.expect("delete configmap edited", "deleted")


def test_the_process_comes_back_when_it_was_killed(cluster: Cluster, kubectl: Kubectl) -> None:
    cluster.kill_process("kubernetes")
    cluster.wait_until(lambda: kubectl.run("get", "nodes").code == 0, "kubectl works again")
    said = json.loads(kubectl.expect("get nodes -o json", "node-1").out)
    assert len(said["items"]) == 2


def test_whoever_changes_what_was_applied_is_in_the_way(cluster: Cluster, kubectl: Kubectl) -> None:
    web = yaml.safe_load(WEB)["items"][0]
    web["metadata"]["name"] = "owned"
    wanted = json.dumps(web)
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=wanted)
    cluster.podium("scale", "rc/owned", "--replicas", "3")
    cluster.podium("label", "rc/owned", "app=else", "--overwrite")
    told = kubectl.expect("apply --server-side -f -", "Apply failed with 2 conflicts", code=1, stdin=wanted).err
    assert 'conflicts with "podium" using v1:\n- .metadata.labels.app\n- .spec.replicas' in told
    kubectl.expect("apply --server-side --force-conflicts -f -", "serverside-applied", stdin=wanted)
    kubectl.expect("scale rc owned --replicas=4", "scaled")
    told = kubectl.expect("apply --server-side -f -", "Apply failed with 1 conflict", code=1, stdin=wanted).err
    assert 'conflict with "kubectl" with subresource "scale" using v1: .spec.replicas' in told
    del web["spec"]["replicas"]
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=json.dumps(web))
    kubectl.expect("get rc owned -o jsonpath={.spec.replicas}", "^4$")
    shown = kubectl.expect("get rc owned -o json --show-managed-fields", '"managedFields"').out
    managers = {
        (each["manager"], each["operation"], each.get("subresource", ""))
        for each in json.loads(shown)["metadata"]["managedFields"]
    }
    assert managers == {("kubectl", "Apply", ""), ("kubectl", "Update", "scale"), ("controllers", "Update", "status")}
    status = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "owned"}}
    status["status"] = {"conditions": [{"type": "Odd", "status": "True"}]}
    command = "apply --server-side --subresource=status --field-manager=robot -f -"
    kubectl.expect(command, "serverside-applied", stdin=json.dumps(status))
    kubectl.expect("get rc owned -o jsonpath={.status.conditions[0].type}", "^Odd$")
    kubectl.expect("delete rc owned", "deleted")


def test_what_kubectl_has_applied_itself_it_can_apply_by_the_server(kubectl: Kubectl) -> None:
    def settings(**data: str) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "moved"}, "data": data})

    kubectl.expect("apply -f -", "created", stdin=settings(a="1", b="1"))
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=settings(a="2", b="2", c="2"))
    kubectl.expect("apply -f -", "configured", stdin=settings(a="3", b="3"))
    kubectl.expect("get configmap moved -o jsonpath={.data}", '^{"a":"3","b":"3"}$')
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=settings(a="4", b="4"))
    other = "apply --server-side --field-manager=other -f -"
    kubectl.expect(other, 'conflicts with "kubectl"', code=1, stdin=settings(a="5", b="5"))
    kubectl.expect("delete configmap moved", "deleted")
