"""Kinds that users define, with the clients of Kubernetes in Python, and with an operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.testing import Cluster
from tests.kit.customs import definition, widget
from tests.kit.kubectl import Kubectl


@pytest.fixture
def config(widgets: Kubectl) -> Path:
    return widgets.config


def test_the_official_client(config: Path) -> None:
    client = pytest.importorskip("kubernetes.client")
    dynamic = pytest.importorskip("kubernetes.dynamic")
    from kubernetes import watch
    from kubernetes.config import new_client_from_config

    connection = new_client_from_config(str(config))
    try:
        extensions = client.ApiextensionsV1Api(connection)
        (crd,) = extensions.list_custom_resource_definition().items
        assert (crd.metadata.name, crd.spec.names.kind) == ("widgets.example.com", "Widget")
        assert {each.type: each.status for each in crd.status.conditions}["Established"] == "True"
        api = client.CustomObjectsApi(connection)
        place = ("example.com", "v1", "default", "widgets")
        assert api.create_namespaced_custom_object(*place, widget("py"))["spec"] == {"size": 3, "color": "blue"}
        events = watch.Watch().stream(api.list_namespaced_custom_object, *place, timeout_seconds=20)
        assert next(events)["object"]["metadata"]["name"] == "py"
        patched = api.patch_namespaced_custom_object(*place, "py", {"spec": {"size": 4}})
        assert patched["spec"]["size"] == 4
        status = {"status": {"phase": "Ready", "replicas": 1}}
        api.patch_namespaced_custom_object_status(*place, "py", status)
        found = api.get_namespaced_custom_object(*place, "py")
        assert (found["spec"]["size"], found["status"]["phase"]) == (4, "Ready")
        found["spec"]["replicas"] = 2
        api.replace_namespaced_custom_object(*place, "py", found)
        with pytest.raises(client.ApiException) as refused:
            api.replace_namespaced_custom_object(*place, "py", found)
        assert refused.value.status == 409
        assert api.get_namespaced_custom_object_scale(*place, "py")["spec"]["replicas"] == 2
        api.patch_namespaced_custom_object_scale(*place, "py", {"spec": {"replicas": 5}})
        assert len(api.list_cluster_custom_object("example.com", "v1", "widgets")["items"]) == 1
        kinds = dynamic.DynamicClient(connection)
        widgets = kinds.resources.get(api_version="example.com/v1", kind="Widget")
        assert [each.spec.replicas for each in widgets.get(namespace="default").items] == [5]
        applied = widgets.server_side_apply(
            body=widget("ssa"), name="ssa", namespace="default", field_manager="py", force_conflicts=True
        )
        assert [each.manager for each in applied.metadata.managedFields] == ["py"]
        api.delete_namespaced_custom_object(*place, "py")
        api.delete_collection_namespaced_custom_object(*place)
        assert api.list_namespaced_custom_object(*place)["items"] == []
        with pytest.raises(client.ApiException) as refused:
            api.get_namespaced_custom_object(*place, "py")
        assert refused.value.status == 404
    finally:
        connection.close()


def test_kr8s(config: Path) -> None:
    kr8s = pytest.importorskip("kr8s")
    objects = pytest.importorskip("kr8s.objects")
    api = kr8s.api(kubeconfig=str(config))
    kind = objects.new_class("Widget", "example.com/v1", namespaced=True, scalable=True, asyncio=False)
    found = kind({**widget("kr", replicas=1)}, api=api)
    found.create()
    found.scale(3)
    found.label({"x": "y"})
    assert [(each.name, each.spec.replicas) for each in api.get("widgets.example.com", label_selector="x=y")] == [
        ("kr", 3)
    ]
    found.delete()
    found.wait("delete", timeout=20)


def test_lightkube(config: Path) -> None:
    lightkube = pytest.importorskip("lightkube")
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.types import PatchType

    client = lightkube.Client(config=lightkube.KubeConfig.from_file(str(config)), field_manager="lk")
    kind = create_namespaced_resource("example.com", "v1", "Widget", "widgets")
    client.create(kind(metadata={"name": "lk", "namespace": "default"}, spec={"size": 1}))
    found = client.get(kind, "lk", namespace="default")
    assert found.spec == {"size": 1, "color": "blue"}
    client.patch(kind.Status, "lk", {"status": {"phase": "Up"}}, namespace="default", patch_type=PatchType.MERGE)
    client.apply(kind(metadata={"name": "lk", "namespace": "default"}, spec={"size": 2}), force=True)
    for event, each in client.watch(kind, namespace="default"):
        assert (event, each.spec["size"], each.status) == ("ADDED", 2, {"phase": "Up"})
        break
    client.delete(kind, "lk", namespace="default")
    assert list(client.list(kind, namespace="default")) == []


OPERATOR = """
import kopf

@kopf.on.create('example.com', 'v1', 'widgets')
def created(spec, patch, **_):
    patch.status['phase'] = f"made of {spec['color']}"
    return {'size': spec['size']}

@kopf.on.update('example.com', 'v1', 'widgets', field='spec.size')
def changed(old, new, patch, **_):
    patch.status['phase'] = f"grown from {old} to {new}"

@kopf.on.delete('example.com', 'v1', 'widgets')
def deleted(name, **_):
    open('deleted', 'w').write(name)

@kopf.timer('example.com', 'v1', 'widgets', interval=0.2)
def beat(status, patch, **_):
    patch.status['replicas'] = status.get('replicas', 0) + 1
"""


PEERING = definition(
    {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        },
    },
    plural="kopfpeerings",
    group="kopf.dev",
    names={"plural": "kopfpeerings", "kind": "KopfPeering"},
)


def test_an_operator(cluster: Cluster, widgets: Kubectl, tmp_path: Path) -> None:
    """Run as its users run it, with the object by which operators of a kind know of each other."""
    pytest.importorskip("kopf")
    (tmp_path / "operator.py").write_text(OPERATOR)
    peering = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "default"}}
    for name, content in (("crd", PEERING), ("peering", peering)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        widgets.expect(f"apply -f {tmp_path}/{name}.yaml", "created")
    operator = subprocess.Popen(
        [sys.executable, "-m", "kopf", "run", "--peering=default", "-n", "default", "operator.py"],
        env={**os.environ, "KUBECONFIG": str(widgets.config)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def read(path: str) -> str:
        return widgets.run("get", "widget", "one", "-o", f"jsonpath={{{path}}}").out

    try:
        widgets.expect("apply -f one.yaml", "created")
        cluster.wait_until(lambda: read(".status.phase") == "made of blue", "the operator has made it")
        assert read(".metadata.finalizers") == '["kopf.zalando.org/KopfFinalizerMarker"]'
        peers = widgets.expect("get kopfpeering default -o jsonpath={.status}", r"\w").out
        assert len(json.loads(peers)) == 1, "the operator has said that it is there"
        cluster.wait_until(lambda: int(read(".status.replicas") or 0) >= 3, "the timer has run three times")
        widgets.expect('patch widget one --type=merge -p \'{"spec":{"size":4}}\'', "patched")
        cluster.wait_until(lambda: read(".status.phase") == "grown from 3 to 4", "the operator has seen it grow")
        widgets.expect("delete widget one --timeout=20s", "deleted")
        assert (tmp_path / "deleted").read_text() == "one"
    finally:
        operator.terminate()
        said, _ = operator.communicate(timeout=20)
        print(said)
        widgets.expect("delete crd kopfpeerings.kopf.dev --timeout=20s", "deleted")
    assert "Traceback" not in said
