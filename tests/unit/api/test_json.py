"""The converter: Kubernetes' JSON to the letter, nothing lost on the way, every problem with its path."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.errors import BadRequest, Invalid
from cluster.api.json import (
    merge_patch,
    message_from_json,
    object_from_json,
    object_to_json,
    patched,
    read_json,
    read_object,
    to_json,
)
from cluster.api.kinds import KINDS, Kind
from cluster.api.meta import to_time
from cluster.pb.v1 import agent_pb2, cluster_pb2, core_pb2
from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.messages import messages
from tests.unit.api.plain_printer import plainly

OF_OUR_OWN = [kind for kind in KINDS if kind.name != "CustomObject"]
"""What JSON says of the others is in test_custom_json.py."""

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "default",
        "generation": 3,
        "creationTimestamp": "2026-03-01T12:00:00Z",
        "labels": {"app": "guestbook", "tier": "fe"},
    },
    "spec": {
        "containers": [
            {
                "name": "main",
                "command": ["python3", "-m", "http.server"],
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5},
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
            }
        ],
        "tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    },
    "status": {"phase": "Running"},
}


def problems_of(data: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        object_from_json(data)
    assert caught.value.causes
    return [str(cause) for cause in caught.value.causes]


def pod_with(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}


def test_a_pod_there_and_back() -> None:
    pod = object_from_json(POD)
    assert isinstance(pod, core.Pod)
    assert pod.metadata.generation == 3
    assert pod.spec.containers[0].livenessProbe.handler.tcpSocket.port.strVal == "http"
    assert pod.spec.containers[0].readinessProbe.handler.httpGet.port.intVal == 8080
    assert object_to_json(pod) == POD


LEASE: dict[str, Any] = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "podium-scheduler", "namespace": "kube-system"},
    "spec": {
        "holderIdentity": "a_1",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-03-01T12:00:00.000000Z",
        "renewTime": "2026-03-01T12:00:07.000250Z",
        "leaseTransitions": 2,
    },
}


def test_a_lease_there_and_back_with_times_of_six_digits() -> None:
    lease = object_from_json(LEASE)
    assert isinstance(lease, core.Lease)
    assert lease.spec.renewTime.nanos == 250_000
    assert object_to_json(lease) == LEASE
    lease.spec.renewTime.nanos = 250_999
    assert object_to_json(lease) == LEASE, "what is finer is cut off, as Kubernetes does"
    lease.spec.renewTime.Clear()
    assert object_to_json(lease)["spec"]["renewTime"] is None


def test_a_lease_is_of_another_group() -> None:
    assert problems_of({**LEASE, "apiVersion": "v1"}) == [
        'apiVersion: must be coordination.k8s.io/v1 for a Lease, not the string "v1"'
    ]
    assert problems_of({**LEASE, "spec": {"strategy": "OldestEmulationVersion"}}) == [
        "spec.strategy: is a field of Kubernetes that Podium does not carry out"
    ]


def test_the_order_is_kubernetes() -> None:
    printed = object_to_json(object_from_json(dict(reversed(POD.items()))))
    assert list(printed) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert list(printed["metadata"]) == ["name", "namespace", "generation", "creationTimestamp", "labels"]


@pytest.mark.parametrize("kind", OF_OUR_OWN, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_every_kind_survives_the_round_trip_through_json_text(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(messages(kind.message))
    text = json.dumps(object_to_json(obj))
    assert object_from_json(read_json(text)) == obj


@pytest.mark.parametrize("kind", OF_OUR_OWN, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_an_exact_print_keeps_every_digit_of_a_time(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(messages(kind.message, exact_times=True))
    assert object_from_json(object_to_json(obj, exact=True)) == obj


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_printers_print_what_the_plain_walk_prints_in_the_same_order(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(messages(kind.message, exact_times=True))
    for exact in (False, True):
        assert json.dumps(to_json(obj, exact=exact)) == json.dumps(plainly(obj, exact))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metadata", "spec", "name", "labels", "containers", "ports", "x"]), inner)
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=150)
def test_any_json_is_read_or_refused_as_invalid(value: Any) -> None:
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": value, "spec": value}
    try:
        object_from_json(data)
    except Invalid:
        assert problems_of(data)


def test_every_message_of_the_protocol_has_a_plan() -> None:
    for file in (core_pb2, cluster_pb2, agent_pb2):
        for name in file.DESCRIPTOR.message_types_by_name:
            cls = getattr(file, name)
            to_json(cls())
            if cls not in (core.Time, core.MicroTime, core.Quantity, core.IntOrString, core.FieldsV1, core.RawJson):
                assert message_from_json(cls, {}) == cls()


def test_a_message_of_the_wire_with_bytes_and_enums() -> None:
    patch = cluster_pb2.PatchOperation(kind="Pod", merge_patch=b"\x00\xff")
    assert to_json(patch) == {"kind": "Pod", "merge_patch": "AP8="}
    assert message_from_json(cluster_pb2.PatchOperation, to_json(patch)) == patch
    event = cluster_pb2.WatchEvent(type=cluster_pb2.WatchEvent.ADDED, revision=2**53 + 1)
    assert to_json(event) == {"type": "ADDED", "revision": 2**53 + 1}
    assert message_from_json(cluster_pb2.WatchEvent, to_json(event)) == event


def test_null_is_the_same_as_absent() -> None:
    pod = object_from_json(pod_with(containers=None, nodeName=None) | {"status": {}})
    assert isinstance(pod, core.Pod)
    assert not pod.spec.HasField("nodeName")
    assert pod.HasField("status")
    assert object_to_json(core.Pod(metadata=core.ObjectMeta(creationTimestamp=core.Time())))["metadata"] == {
        "creationTimestamp": None
    }


def test_quantities_are_canonical_and_may_be_numbers() -> None:
    resources = message_from_json(core.ResourceRequirements, {"limits": {"cpu": 1.5, "memory": "1024Ki", "gpu": 2}})
    assert to_json(resources) == {"limits": {"cpu": "1500m", "gpu": "2", "memory": "1Mi"}}


def test_times_of_any_zone_are_utc() -> None:
    event = message_from_json(core.Event, {"lastTimestamp": "2026-03-01T13:00:00.5+01:00"})
    assert event.lastTimestamp == core.Time(seconds=1772366400, nanos=500_000_000)
    assert to_json(event) == {"lastTimestamp": "2026-03-01T12:00:00Z"}
    assert to_json(event, exact=True) == {"lastTimestamp": "2026-03-01T12:00:00.5Z"}


def test_podiums_own_fields_are_printed_too() -> None:
    meta = core.ObjectMeta(name="a", actor="admin", cause=core.Cause(revision=7, reason="scale-up"))
    assert to_json(meta) == {"name": "a", "actor": "admin", "cause": {"revision": 7, "reason": "scale-up"}}


def test_all_problems_are_reported_at_once() -> None:
    container = {
        "Image": "x",
        "ports": [{"containerPort": "80"}, {"hostPort": True}, None, 7],
        "resources": {"limits": {"cpu": "1x", "memory": True}},
        "livenessProbe": {"httpGet": {"port": 1.5}, "failureThreshold": 2**31},
    }
    data = pod_with(containers=[container], imagePullSecrets=[{"name": "v"}], nodeName=3, hostPID=True)
    data["metadata"] = {"nam": "x", "labels": {"a": 1, "b": None}, "creationTimestamp": "yesterday", "finalizers": "f"}
    assert problems_of(data) == [
        'metadata.nam: unknown field; did you mean "name"?',
        "metadata.labels[a]: must be a string, not the number 1; put it in quotes",
        "metadata.labels[b]: must not be null",
        'metadata.creationTimestamp: "yesterday" is not a time like 2026-03-01T12:00:00Z (RFC 3339)',
        'metadata.finalizers: must be a list, not the string "f"',
        'spec.containers[0].Image: unknown field; did you mean "image"?',
        'spec.containers[0].ports[0].containerPort: must be a whole number, not the string "80"',
        "spec.containers[0].ports[1].hostPort: must be a whole number, not the boolean true",
        "spec.containers[0].ports[2]: must not be null",
        "spec.containers[0].ports[3]: must be an object, not the number 7",
        (
            'spec.containers[0].resources.limits[cpu]: "1x" is not a quantity: a number with an optional suffix'
            " (n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or e3), such as 100m, 1.5 or 64Mi"
        ),
        "spec.containers[0].resources.limits[memory]: must be a quantity, not the boolean true",
        (
            "spec.containers[0].livenessProbe.httpGet.port: must be a whole number of 32 bits or a string,"
            " not the number 1.5"
        ),
        "spec.containers[0].livenessProbe.failureThreshold: must be between -2147483648 and 2147483647, inclusive",
        "spec.imagePullSecrets: is a field of Kubernetes that Podium does not carry out",
        "spec.nodeName: must be a string, not the number 3; put it in quotes",
        "spec.hostPID: is a field of Kubernetes that Podium does not carry out",
    ]


def test_what_is_reserved_in_an_inline_message_counts_too_and_empty_asks_for_nothing() -> None:
    assert problems_of(pod_with(volumes=[{"name": "data", "nfs": {"server": "a", "path": "/"}}])) == [
        "spec.volumes[0].nfs: is a field of Kubernetes that Podium does not carry out"
    ]
    object_from_json(pod_with(containers=[{"name": "a", "resources": {}, "volumeDevices": []}], overhead={}))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "kind: is required, such as Pod"),
        ({"kind": 3}, "kind: is required, such as Pod"),
        ({"kind": "Pod"}, "apiVersion: must be v1 for a Pod, not nothing"),
        ({"kind": "Pod", "apiVersion": "v2"}, 'apiVersion: must be v1 for a Pod, not the string "v2"'),
        (
            {"kind": "Deployment", "apiVersion": "apps/v1"},
            (
                'kind: kind "Deployment" is not known (what keeps a number of pods here is a ReplicationController); '
                "known are Pod, Node, ReplicationController, Service, Endpoints, Event, Namespace, Lease, ConfigMap, "
                "Secret, PriorityClass, PodDisruptionBudget, ServiceAccount, Fault, CustomResourceDefinition"
            ),
        ),
        (
            {"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"env": [{"value": "\ud800"}]}]}},
            "spec.containers[0].env[0].value: holds half of a surrogate pair",
        ),
    ],
)
def test_one_problem(data: Any, problem: str) -> None:
    assert problems_of(data) == [problem]


def test_something_else_than_an_object_is_invalid() -> None:
    values: list[Any] = [None, [], "x", 1]
    for value in values:
        with pytest.raises(Invalid, match="an object is expected"):
            object_from_json(value)


def test_the_number_of_problems_has_a_limit() -> None:
    assert len(problems_of(pod_with(**{f"x{number}": 1 for number in range(1000)}))) == 100


def test_a_path_can_be_put_in_front() -> None:
    with pytest.raises(Invalid) as caught:
        message_from_json(core.PodSpec, {"x": 1, "containers": 1}, "template.spec")
    assert [cause.path for cause in caught.value.causes] == ["template.spec.x", "template.spec.containers"]


# The examples of RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    before = deepcopy((target, patch))
    assert merge_patch(target, patch) == result
    assert (target, patch) == before


def test_a_patch_leaves_the_rest_alone_to_the_nanosecond() -> None:
    pod = object_from_json(POD)
    assert isinstance(pod, core.Pod)
    pod.status.startTime.CopyFrom(to_time(1772366400.25))
    changed = patched(pod, {"metadata": {"labels": {"tier": None, "x": "y"}}})
    expected = deepcopy(pod)
    del expected.metadata.labels["tier"]
    expected.metadata.labels["x"] = "y"
    assert changed == expected
    assert patched(pod, {}) == pod


def test_a_patch_cannot_make_nonsense() -> None:
    pod = core.Pod(metadata=core.ObjectMeta(name="a"))
    with pytest.raises(Invalid, match="unknown field"):
        patched(pod, {"sepc": {}})
    with pytest.raises(Invalid, match="cannot change the kind"):
        patched(pod, {"kind": "Node"})
    with pytest.raises(Invalid, match="an object is expected"):
        patched(pod, ["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"x":[{"b":1,"b":1}]}',
        '{"a":NaN}',
        "-Infinity",
        "{",
        b"\xff",
        "[" * 65 + "]" * 65,
        "[" * 100000,
        "9" * 5000,
    ],
)
def test_strict_json_refuses(text: str | bytes) -> None:
    with pytest.raises(BadRequest):
        read_json(text)


def test_keys_that_come_twice_are_named_and_the_last_one_counts() -> None:
    doubled: list[str] = []
    text = '{"a":{"x":1,"x":2},"b":[0,{"c":{"d":1,"e":2,"d":3}}],"a":{"y":4},"b.c":{"z":1,"z":1,"z":5}}'
    assert read_json(text, doubled) == {"a": {"y": 4}, "b": [0, {"c": {"d": 3, "e": 2}}], "b.c": {"z": 5}}
    assert doubled == ["a", "b[1].c.d", "b.c.z"], "what did not count is not there to be named"
    assert read_json('{"a":1}', doubled) == {"a": 1}
    assert len(doubled) == 3


def test_many_keys_that_come_twice_are_read_and_a_few_of_them_named() -> None:
    doubled: list[str] = []
    text = "{" + ",".join(f'"k{number % 50_000}":1' for number in range(100_000)) + "}"
    assert len(read_json(text, doubled)) == 50_000
    assert doubled == [f"k{number}" for number in range(100)]


def test_strict_json_reads() -> None:
    assert read_json(b'{"a": [1, 2.5, "\\ud83d\\ude00", null, true]}') == {"a": [1, 2.5, "😀", None, True]}
    assert read_json("[" * 64 + "]" * 64)


def test_an_empty_patch_changes_no_byte_of_what_the_master_stores() -> None:
    pod = object_from_json(POD)
    pod.metadata.creationTimestamp.CopyFrom(to_time(1772366400.0))  # sets nanos to 0, which is not unset
    assert patched(pod, {}).SerializeToString(deterministic=True) == pod.SerializeToString(deterministic=True)


def test_a_lenient_reader_takes_null_for_an_empty_text_in_maps() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": None}}}
    config |= {"data": {"EMPTY": None, "full": "x"}, "binaryData": {"none": None}}
    read = read_object(config).object
    assert isinstance(read, core.ConfigMap)
    assert (dict(read.metadata.labels), dict(read.data)) == ({"a": ""}, {"EMPTY": "", "full": "x"})
    assert dict(read.binaryData) == {"none": b""}
    with pytest.raises(Invalid, match=r"data\[EMPTY\]: must not be null"):
        object_from_json(config)


def test_base64_may_be_broken_into_lines() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "aGVs\nbG8=\r\n"}}
    read = object_from_json(secret)
    assert isinstance(read, core.Secret)
    assert dict(read.data) == {"k": b"hello"}
