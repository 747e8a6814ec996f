"""Clients of Kubernetes in Python, unmodified, on a real cluster: the official one, kr8s, lightkube, an operator."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "py", "namespace": "default", "labels": {"app": "py"}},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "command": ["sh", "-c", "echo hello; exec sleep 1000"]}],
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory, nodes=1) as found:
        yield found


@pytest.fixture(scope="module")
def config(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "kubeconfig"
    path.write_text(cluster.podium("kubeconfig").stdout)
    return path


def test_the_official_client(cluster: Cluster, config: Path) -> None:
    client = pytest.importorskip("kubernetes.client")
    dynamic = pytest.importorskip("kubernetes.dynamic")
    from kubernetes import watch
    from kubernetes.config import new_client_from_config
    from kubernetes.stream import stream

    connection = new_client_from_config(str(config))
    api = client.CoreV1Api(connection)
    assert [node.metadata.name for node in api.list_node().items] == ["node-1"]
    assert api.create_namespaced_pod("default", POD).status.phase == "Pending"
    watching = watch.Watch()
    for event in watching.stream(api.list_namespaced_pod, "default", timeout_seconds=20, label_selector="app=py"):
        if event["object"].status.phase == "Running":
            watching.stop()
    found = api.read_namespaced_pod("py", "default")
    assert found.status.phase == "Running"
    assert found.spec.containers[0].command[0] == "sh"
    cluster.wait("pod/py")  # afterwards nobody else writes it between a read and a replace
    cluster.wait_until(lambda: "hello" in cluster.logs("py"), "it has said so")
    assert api.patch_namespaced_pod("py", "default", {"metadata": {"labels": {"a": "b"}}}).metadata.labels["a"] == "b"
    assert api.replace_namespaced_pod("py", "default", api.read_namespaced_pod("py", "default")).metadata.name == "py"
    said = stream(
        api.connect_get_namespaced_pod_exec,
        "py",
        "default",
        command=["echo", "x"],
        stdout=True,
        stderr=True,
        stdin=False,
    )
    assert said == "x\n"
    assert "hello" in api.read_namespaced_pod_log("py", "default")
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"a": "b"})
    assert api.create_namespaced_secret("default", secret).data == {"a": "Yg=="}
    api.delete_namespaced_secret("s", "default")
    with pytest.raises(client.ApiException) as refused:
        api.read_namespaced_secret("s", "default")
    assert refused.value.status == 404
    kinds = dynamic.DynamicClient(connection)
    pods = kinds.resources.get(api_version="v1", kind="Pod")
    assert [pod.metadata.name for pod in pods.get(namespace="default").items] == ["py"]
    api.delete_namespaced_pod("py", "default")
    connection.close()


def test_kr8s(cluster: Cluster, config: Path) -> None:
    kr8s = pytest.importorskip("kr8s")
    objects = pytest.importorskip("kr8s.objects")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that it does not support the server's version
        api = kr8s.api(kubeconfig=str(config))
    assert [node.name for node in api.get("nodes")] == ["node-1"]
    pod = objects.Pod({**POD, "metadata": {**POD["metadata"], "name": "kr"}}, api=api)
    pod.create()
    pod.wait("condition=Ready", timeout=20)
    pod.label({"x": "y"})
    assert cluster.get("pod", "kr").metadata.labels["x"] == "y"
    cluster.wait_until(lambda: "hello" in cluster.logs("kr"), "it has said so")
    assert "hello" in list(pod.logs())
    assert pod.exec(["echo", "there"]).stdout == b"there\n"
    pod.delete()
    pod.wait("delete", timeout=20)


def test_lightkube(config: Path) -> None:
    lightkube = pytest.importorskip("lightkube")
    core = pytest.importorskip("lightkube.resources.core_v1")
    from lightkube.models.meta_v1 import ObjectMeta

    client = lightkube.Client(config=lightkube.KubeConfig.from_file(str(config)))
    meta = ObjectMeta(name="lk", namespace="default")
    client.create(core.ConfigMap(metadata=meta, data={"a": "b"}))
    assert client.patch(core.ConfigMap, "lk", {"data": {"c": "d"}}, namespace="default").data == {"a": "b", "c": "d"}
    for event, found in client.watch(core.ConfigMap, namespace="default"):
        assert (event, found.metadata.name) == ("ADDED", "lk")
        break
    client.delete(core.ConfigMap, "lk", namespace="default")
    assert [found.metadata.name for found in client.list(core.ConfigMap, namespace="default")] == []


def test_an_operator(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    pytest.importorskip("kopf")
    program = tmp_path / "operator.py"
    program.write_text(
        "import kopf\n"
        "@kopf.on.create('configmaps', labels={'greet': kopf.PRESENT})\n"
        "def created(patch, **_):\n"
        "    patch.metadata.annotations['greeting'] = 'hello'\n"
        "@kopf.on.delete('configmaps', labels={'greet': kopf.PRESENT})\n"
        "def deleted(name, **_):\n"
        "    open('deleted', 'w').write(name)\n"
    )
    operator = subprocess.Popen(
        [sys.executable, "-m", "kopf", "run", "--standalone", "-n", "default", str(program)],
        env={**os.environ, "KUBECONFIG": str(config)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: greeted, labels: {greet: x}}, data: {a: b}}")
        cluster.wait_until(
            lambda: cluster.get("configmap", "greeted").metadata.annotations.get("greeting") == "hello",
            "the operator has greeted",
        )
        assert list(cluster.get("configmap", "greeted").metadata.finalizers) == ["kopf.zalando.org/KopfFinalizerMarker"]
        cluster.delete("configmap", "greeted")
        cluster.wait_until(lambda: (tmp_path / "deleted").exists(), "the operator has seen it go")
        assert (tmp_path / "deleted").read_text() == "greeted"
    finally:
        operator.terminate()
        said, _ = operator.communicate(timeout=60)
        print(said)
