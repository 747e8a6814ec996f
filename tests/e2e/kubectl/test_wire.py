"""What kubectl and others send and get on the wire: protobuf, tokens, certificates."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from cluster.testing import Cluster
from tests.kit.kubectl import Kubectl

EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "seen.1"},
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "seen"},
    "type": "Normal",
    "reason": "Odd",
    "message": "it was",
    "lastTimestamp": "2026-01-01T00:00:00Z",
}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "read"}}


def test_a_token_is_as_good_as_a_certificate(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    config = tmp_path / "token"
    config.write_text(cluster.podium("kubeconfig", "--token", "--lifetime", "10m").stdout)
    kubectl.expect(f"--kubeconfig {config} get nodes", "node-1 +Ready")
    config.write_text(config.read_text().replace("token: ", "token: x"))
    kubectl.expect(f"--kubeconfig {config} get nodes", "(?i)unauthorized|must be logged in", code=1)


def test_a_node_may_do_what_a_node_may_and_no_more(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    """The same rights as over gRPC: they are those of the certificate that is shown."""
    pki = cluster.directory / "pki"

    def answer(identity: str, path: str, method: str = "GET") -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(pki / "admin" / "ca.crt"))
        if identity:
            context.load_cert_chain(pki / identity / "tls.crt", pki / identity / "tls.key")
        server = yaml.safe_load(kubectl.config.read_text())["clusters"][0]["cluster"]["server"]
        request = urllib.request.Request(server + path, method=method)
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    secrets = "/api/v1/namespaces/default/secrets"
    assert answer("admin", secrets)[0] == 200
    for identity in ("node-node-1", "proxy", "scheduler"):
        code, said = answer(identity, secrets)
        assert (code, json.loads(said)["reason"]) == (403, "Forbidden"), identity
    assert answer("node-node-1", "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1")[0] == 200
    assert answer("node-node-1", "/api/v1/nodes")[0] == 403
    assert answer("node-node-1", "/api/v1/nodes/node-2", "DELETE")[0] == 403
    assert answer("node-node-1", "/api/v1/pods?watch=1&timeoutSeconds=1")[0] == 403
    assert answer("", secrets)[0] == 401
    for identity in ("master", "kubernetes"):
        code, said = answer(identity, secrets)
        assert code == 403, f"{identity}: {said}"


def test_what_is_read_in_yaml_is_what_was_written(cluster: Cluster, kubectl: Kubectl) -> None:
    """By Go's reader of YAML, too, which takes other words for numbers than Python's does."""
    data = {"mask": "022", "limit": "1e5", "flag": "y", "script": "#!/bin/sh\n  exec true\n", "mac": "12:30:45"}
    kubectl.expect("create -f -", "created", stdin=json.dumps({**CONFIG, "data": data}))
    pki = cluster.directory / "pki" / "admin"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "tls.crt", pki / "tls.key")
    server = yaml.safe_load(kubectl.config.read_text())["clusters"][0]["cluster"]["server"]
    path, accept = "/api/v1/namespaces/default/configmaps/read", {"Accept": "application/yaml"}
    with urllib.request.urlopen(urllib.request.Request(server + path, headers=accept), context=context) as response:
        text = response.read().decode()
    kubectl.expect("delete configmap read", "deleted")
    kubectl.expect("create -f -", "created", stdin=text)
    assert json.loads(kubectl.run("get", "configmap", "read", "-o", "json").out)["data"] == data


TYPED = {
    "describe node": 4,
    "-n typed describe pods": 2,
    "-n typed describe rc web": 3,
    "-n typed describe svc web": 3,
    "-n typed describe configmap settings": 1,
    "-n typed describe secret password": 1,
    "-n typed describe serviceaccount robot": 1,
    "-n typed describe pdb budget": 1,
    "-n typed describe endpoints web": 1,
    "-n typed create configmap settings --from-literal=a=b": 1,
    "-n typed create secret generic password --from-literal=a=b": 1,
    "-n typed create serviceaccount robot": 1,
    "-n typed create pdb budget --selector=app=web --min-available=1": 1,
    "create namespace typed": 1,
    "auth can-i get pods": 1,
    "auth whoami": 1,
    "top nodes": 2,
    "-n typed top pods": 1,
    "cordon node-2": 0,
    "drain node-2 --delete-emptydir-data --timeout=30s": 1,
    "uncordon node-2": 0,
}
"""Commands that ask for protobuf, and how many answers in it they get at least."""


def test_typed_commands_are_answered_in_protobuf(kubectl: Kubectl) -> None:
    if "v1.2" in kubectl.run("version", "--client").out:
        pytest.skip("this kubectl asks for JSON alone")
    order = sorted(TYPED, key=lambda command: ("create namespace" not in command, "create" not in command))
    for number, command in enumerate(order):
        output = kubectl.run(*command.split(), "-v=8")
        assert output.code == 0, output.err
        responses = re.findall(r'"Response" .*?headers=<(.*?)\n >', output.err, re.DOTALL)
        in_protobuf = [each for each in responses if "Content-Type: application/vnd.kubernetes.protobuf" in each]
        assert len(in_protobuf) >= TYPED[command], f"{command}\n{output.err}"
        if number == 0:
            kubectl.expect("-n typed apply -f web.yaml", "created")
            kubectl.expect("-n typed wait --for=condition=Ready pod -l app=web --timeout=20s", "condition met")
    missing = kubectl.run("-n", "typed", "create", "configmap", "settings")
    assert missing.err == 'error: failed to create configmap: configmaps "settings" already exists\n'
    kubectl.expect("delete namespace typed", "deleted")


def test_events_are_watched_in_protobuf(kubectl: Kubectl) -> None:
    with kubectl.running("events", "--watch", "-v=8") as watching:
        said = ""
        for line in watching.said:
            said += line
            if "Content-Type: application/vnd.kubernetes.protobuf;stream=watch" in line:
                kubectl.expect("create -f -", "created", stdin=json.dumps(EVENT))
            if re.match(r"\S+ +Normal +Odd +Pod/seen +it was", line):
                break
        else:
            raise AssertionError(f"the event was not told:\n{said}")
