"""Bodies in JSON, YAML and protobuf say the same."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest
from cluster.kubernetes.bodies import read_body, read_dict
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.kubernetes.statuses import Refused
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies


def enveloped(kind: str, message: Message, api_version: str = "v1") -> bytes:
    envelope = bodies.Unknown(
        typeMeta=bodies.TypeMeta(apiVersion=api_version, kind=kind), raw=message.SerializeToString()
    )
    return b"k8s\0" + envelope.SerializeToString()


def from_protobuf(kind: str, message: Message) -> dict[str, Any]:
    return read_dict(PROTOBUF, enveloped(kind, message), kind)


def test_without_a_type_it_is_json() -> None:
    assert read_body("", b'{"kind":"Pod"}', "Pod") == {"kind": "Pod"}
    assert read_body("application/json; charset=utf-8", b"[1]", "Pod") == [1]


def test_yaml() -> None:
    assert read_body("application/yaml", b"kind: Pod\nspec: {replicas: 1}\n", "Pod") == {
        "kind": "Pod",
        "spec": {"replicas": 1},
    }


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b""),
        ("application/json", b"{"),
        ("application/json", b'{"a":1,"a":2}'),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":NaN}'),
        ("application/yaml", b"a: b: c"),
        ("application/yaml", b"a: 1\n---\nb: 2"),
        ("application/yaml", b"a: 1\na: 2"),
        ("application/yaml", b"\xff"),
        (PROTOBUF, b"{}"),
        (PROTOBUF, b"k8s\0\xff\xff"),
        (PROTOBUF, enveloped("Pod", core.Pod())[:-1] + b"\xff\xff"),
    ],
)
def test_what_does_not_parse(media: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_body(media, body, "Pod")


def test_what_is_not_read() -> None:
    for media, body in (("text/plain", b""), (PROTOBUF, enveloped("Deployment", core.Pod()))):
        with pytest.raises(Refused) as refused:
            read_body(media, body, "Deployment")
        assert refused.value.code == 415


def test_a_body_that_is_no_object() -> None:
    with pytest.raises(BadRequest, match="must be an object, not a list"):
        read_dict("", b"[]", "Pod")


def test_protobuf_says_what_json_would() -> None:
    service = core.Service(metadata=core.ObjectMeta(name="web", labels={"a": "b"}))
    service.spec.ports.add(port=80, targetPort=core.IntOrString(type=1, strVal="http"))
    assert from_protobuf("Service", service) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}]},
    }


def test_what_go_writes_for_unset_fields_says_nothing() -> None:
    service = core.Service(
        metadata=core.ObjectMeta(name="web", generateName="", namespace="", uid="", generation=0),
        spec=core.ServiceSpec(type="", clusterIP="", sessionAffinity=""),
        status=core.ServiceStatus(),
    )
    service.metadata.creationTimestamp.SetInParent()
    service.spec.ports.add(name="", port=80, targetPort=core.IntOrString(type=0, intVal=0))
    assert from_protobuf("Service", service) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]},
    }


def test_but_zero_where_go_has_a_pointer() -> None:
    rc = core.ReplicationController(spec=core.ReplicationControllerSpec(replicas=0, minReadySeconds=0))
    pod = rc.spec.template.spec
    pod.securityContext.runAsUser = 0
    pod.volumes.add(name="v").volumeSource.emptyDir.SetInParent()
    found = from_protobuf("ReplicationController", rc)
    assert found["spec"]["replicas"] == 0
    assert "minReadySeconds" not in found["spec"]
    assert found["spec"]["template"]["spec"] == {
        "securityContext": {"runAsUser": 0},
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    budget = core.PodDisruptionBudget()
    budget.spec.maxUnavailable.intVal = 0
    budget.spec.selector.SetInParent()
    assert from_protobuf("PodDisruptionBudget", budget)["spec"] == {"maxUnavailable": 0, "selector": {}}


def test_fields_that_are_not_carried_out_are_read_as_well() -> None:
    spec = core.PodSpec(restartPolicy="Always").SerializeToString()
    account, host_network = 9 << 3 | 2, 11 << 3
    unset = core.Pod(spec=core.PodSpec.FromString(spec + bytes([account, 0, host_network, 0])))
    assert from_protobuf("Pod", unset)["spec"] == {"restartPolicy": "Always"}
    said = core.Pod(spec=core.PodSpec.FromString(spec + bytes([account, 3]) + b"odd" + bytes([host_network, 1])))
    assert from_protobuf("Pod", said)["spec"] == {
        "restartPolicy": "Always",
        "serviceAccount": "odd",
        "hostNetwork": True,
    }


def test_fields_that_nobody_knows_are_refused_unless_they_say_nothing() -> None:
    odd = 100 << 3
    key = bytes([odd & 0x7F | 0x80, odd >> 7])
    assert from_protobuf("Pod", core.Pod(spec=core.PodSpec.FromString(key + b"\0"))) == {
        "apiVersion": "v1",
        "kind": "Pod",
    }
    with pytest.raises(BadRequest, match=r"Pod\.spec: field number 100"):
        from_protobuf("Pod", core.Pod(spec=core.PodSpec.FromString(key + b"\1")))


@given(st.binary(max_size=200), st.sampled_from(("application/json", "application/yaml", PROTOBUF)))
def test_whatever_is_sent_is_read_or_refused(body: bytes, media: str) -> None:
    for content in (body, b"k8s\0" + body):
        with suppress(BadRequest, Refused):
            read_body(media, content, "Pod")
