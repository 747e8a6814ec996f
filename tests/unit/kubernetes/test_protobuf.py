"""Answers in protobuf: they say what JSON says, by Kubernetes' own numbers."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api import aside
from cluster.api.errors import Conflict, Expired
from cluster.api.json import to_json
from cluster.api.json_print import map_entry
from cluster.api.kinds import Kind
from cluster.kubernetes import protobuf
from cluster.kubernetes.bodies import read_dict
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.kubernetes.resources import RESOURCES, Resource
from cluster.kubernetes.statuses import failure
from cluster.kubernetes.whole import whole
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies
from tests.kit.memory_client import MemoryCluster
from tests.unit.api.messages import messages
from tests.unit.kubernetes.conftest import Api, Reply, manifest, pod

PODS = "/api/v1/namespaces/default/pods"
CONFIGS = "/api/v1/namespaces/default/configmaps"
ACCEPT = {"Accept": f"{PROTOBUF},application/json"}
METADATA = {"Accept": f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
SERVED = [row for row in RESOURCES if row.in_protobuf and row.view is None]


def opened(body: bytes) -> tuple[str, bytes]:
    """What an envelope says that it holds, and that."""
    assert body.startswith(b"k8s\0")
    unknown = bodies.Unknown.FromString(body[4:])
    return f"{unknown.typeMeta.apiVersion} {unknown.typeMeta.kind}", unknown.raw


def read(reply: Reply, cls: type[Message]) -> tuple[str, Any]:
    assert reply.headers["Content-Type"] == PROTOBUF
    assert reply.headers["Vary"] == "Accept"
    kind, raw = opened(reply.body)
    return kind, to_json(cls.FromString(raw))


# --- the numbers


_NAMES = {
    "DeletePreconditions": "Preconditions",
    "WatchFrame": "WatchEvent",
    "SliceEndpoint": "discovery.v1.Endpoint",
    "SlicePort": "discovery.v1.EndpointPort",
    "SliceConditions": "discovery.v1.EndpointConditions",
    "ListHead": "PodList",
    "EndpointPort": "core.v1.EndpointPort",
    "TypeMeta": "runtime.TypeMeta",
    "ReportedEvent": "events.v1.Event",
    "Event": "core.v1.Event",
}
"""Messages that are called otherwise in Kubernetes, or of whose name it has several."""
_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


def table() -> dict[str, dict[int, str]]:
    """Kubernetes' messages, by their names with and without the group: number -> name and type of a field."""
    found: dict[str, dict[int, str]] = {}
    for line in (Path(__file__).parent / "fields.tsv").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, _, text = line.partition("\t")
        fields = {int(number): rest for number, _, rest in (field.partition(" ") for field in text.split("; "))}
        found[name] = found[name.rpartition(".")[2]] = fields
    return found


def type_of(field: FieldDescriptor) -> str:
    entry = map_entry(field)
    if entry is not None:
        return f"map<string, {type_of(entry.fields_by_name['value'])}>"
    name = field.message_type.name if field.message_type is not None else _SCALARS[field.type]
    name = _NAMES.get(name, name).rpartition(".")[2]
    return f"repeated {name}" if field.is_repeated else name


def served() -> Iterator[Descriptor]:
    """Every message that goes out in protobuf, or is read from it."""
    waiting: list[Any] = [whole(kind_name(row.kind)).DESCRIPTOR for row in SERVED]
    waiting += [*bodies.DESCRIPTOR.message_types_by_name.values(), wire.Status.DESCRIPTOR]
    seen = set()
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in seen:
            continue
        seen.add(descriptor.full_name)
        yield descriptor
        for field in descriptor.fields:
            if field.message_type is not None and field.number < 10_000:
                entry = map_entry(field)
                inner = entry.fields_by_name["value"].message_type if entry is not None else field.message_type
                waiting += [inner] if inner is not None else []


def kind_name(kind: Kind) -> str:
    return str(kind.message.DESCRIPTOR.name)


def test_every_field_has_kubernetes_number_name_and_type() -> None:
    known = table()
    wrong, count = [], 0
    for descriptor in served():
        fields = known[_NAMES.get(descriptor.name, descriptor.name)]
        for field in descriptor.fields:
            count += 1
            if field.number < 10_000 and fields.get(field.number) != f"{field.name} {type_of(field)}":
                wrong.append(f"{descriptor.name}: {field.number} {field.name} {type_of(field)}")
    assert not wrong
    assert count > 700


def test_what_is_not_carried_out_is_known_by_its_number() -> None:
    given_up = {
        *("gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder"),
        *("cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk"),
        *("portworxVolume", "scaleIO", "storageos"),
    }
    newest = {
        *("schedulingGroup", "evictionResponders", "fileKeyRef", "protocol", "mode", "bindMountOptions", "defaultUser"),
        *("podPreemptionPolicy", "allocatedResourcesStatus", "extendedResourceClaimStatus", "volumeHealth", "swap"),
        *("nodeAllocatableResourceClaimStatuses", "runningInUserNamespace", "declaredFeatures", "features"),
        *("runtimeHandlers", "user"),
    }
    for row in SERVED:
        waiting: list[Any] = [row.kind.message.DESCRIPTOR]
        seen = set()
        while waiting:
            descriptor = waiting.pop()
            if descriptor.full_name in seen:
                continue
            seen.add(descriptor.full_name)
            said = DescriptorProto()
            descriptor.CopyToProto(said)
            fields = whole(descriptor.name).DESCRIPTOR.fields_by_name if "." not in descriptor.name else {}
            assert set(said.reserved_name) - given_up - newest <= set(fields), descriptor.name
            waiting += [
                field.message_type
                for field in descriptor.fields
                if field.message_type is not None and map_entry(field) is None
            ]


# --- what is said


def path_of(row: Resource, name: str) -> str:
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    return f"{root}/namespaces/default/{row.plural}/{name}" if row.kind.namespaced else f"{root}/{row.plural}/{name}"


_NO_TIME = "1970-01-01T00:00:00Z"
"""As Go's clients write no time at all."""


def without_nothing(data: Any) -> Any:
    """Without what is empty, which protobuf need not tell apart from what is absent."""
    if isinstance(data, dict):
        found = {key: without_nothing(value) for key, value in data.items()}
        return {key: value for key, value in found.items() if value not in ({}, [], None, "", 0, False, _NO_TIME)}
    if isinstance(data, str) and data.endswith(".0Z"):  # no nanoseconds, and 0 of them
        return data.replace(".0Z", "Z")
    return [without_nothing(each) for each in data] if isinstance(data, list) else data


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.kind.name)
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
async def test_protobuf_and_json_say_the_same(api: Api, cluster: MemoryCluster, row: Resource, data: Any) -> None:
    obj = data.draw(messages(row.kind.message))
    obj.metadata.name = "x"
    obj.metadata.uid = ""
    obj.metadata.namespace = "default" if row.kind.namespaced else ""
    obj.metadata.annotations.pop(aside.ANNOTATION, None)
    stored = cluster.put(obj)
    shown = (await api.get(path_of(row, "x"))).body
    kind, said = read(await api.get(path_of(row, "x"), headers=ACCEPT), row.kind.message)
    assert kind == f"{row.kind.api_version} {row.kind.name}"
    assert {"apiVersion": shown["apiVersion"], "kind": shown["kind"], **said} == shown
    # And what is sent back in protobuf is read as if it were JSON.
    sent = protobuf.envelope(row.kind.name, row.kind.api_version, protobuf.raw_of(stored))
    reread = read_dict(PROTOBUF, sent, row.kind.name)
    assert without_nothing(reread) == without_nothing(aside.plain(stored, exact=True))


async def test_what_is_not_carried_out_is_where_json_has_it(api: Api) -> None:
    spec: dict[str, Any] = {
        "hostNetwork": True,
        "imagePullSecrets": [{"name": "s"}],
        "overhead": {"cpu": "1"},
        "securityContext": {"fsGroup": 7, "sysctls": [{"name": "a", "value": "b"}]},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}],
    }
    wanted = manifest(**spec)
    wanted["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    assert (await api.ask("POST", PODS, wanted)).code == 201
    shown = (await api.get(f"{PODS}/web")).body
    _, said = read(await api.get(f"{PODS}/web", headers=ACCEPT), whole("Pod"))
    assert said["spec"] == shown["spec"]
    assert said["spec"]["hostNetwork"] is True
    assert said["metadata"] == shown["metadata"], "the annotation is not to be seen"
    # And it is kept when a client of protobuf writes what it has read.
    body = (await api.get(f"{PODS}/web", headers=ACCEPT)).body
    put = await api.ask("PUT", f"{PODS}/web", body, headers={"Content-Type": PROTOBUF})
    assert put.body["spec"] == shown["spec"]
    assert any("hostNetwork" in text for text in put.headers.getall("Warning"))


async def test_what_protobuf_has_no_field_for_is_not_lost(api: Api, cluster: MemoryCluster) -> None:
    for fields in (
        {"spec.hostNetwork": "yes"},
        {"spec.hostNetwork": True, "spec.volumes[0].gcePersistentDisk": {"pdName": "d"}},
    ):
        odd = pod("odd")
        odd.spec.volumes.add(name="v")
        odd.metadata.annotations[aside.ANNOTATION] = json.dumps(fields)
        cluster.put(odd)
        shown = (await api.get(f"{PODS}/odd")).body
        body = (await api.get(f"{PODS}/odd", headers=ACCEPT)).body
        said = to_json(whole("Pod").FromString(opened(body)[1]))
        assert said["spec"].get("hostNetwork") == (True if fields["spec.hostNetwork"] is True else None)
        assert json.loads(said["metadata"]["annotations"][aside.ANNOTATION]) == fields
        reread = read_dict(PROTOBUF, body, "Pod")
        assert without_nothing(reread["spec"]) == without_nothing(shown["spec"])
        assert reread["metadata"] == shown["metadata"]
    _, said = read(await api.get(f"{PODS}/odd", headers=METADATA), bodies.PartialObjectMetadata)
    assert "annotations" not in said["metadata"]


async def test_lists_are_put_together_from_bytes(api: Api, cluster: MemoryCluster) -> None:
    for number in range(130):
        cluster.put(pod(f"p{number:03}", note="x" * number))
    kind, raw = opened((await api.get(PODS, headers=ACCEPT)).body)
    shown = (await api.get(PODS)).body
    assert kind == "v1 PodList"
    assert to_json(bodies.ListHead.FromString(raw))["metadata"] == shown["metadata"]
    assert [item.metadata.name for item in items_of(raw, core.Pod)] == [f"p{number:03}" for number in range(130)]
    kind, raw = opened((await api.get(f"{PODS}?limit=2", headers=METADATA)).body)
    assert kind == "meta.k8s.io/v1 PartialObjectMetadataList"
    head = bodies.ListHead.FromString(raw).metadata
    assert (head.remainingItemCount, bool(getattr(head, "continue"))) == (128, True)
    assert [item.metadata.name for item in items_of(raw, bodies.PartialObjectMetadata)] == ["p000", "p001"]
    kind, raw = opened((await api.get("/api/v1/nodes", headers=ACCEPT)).body)
    assert (kind, list(items_of(raw, core.Node))) == ("v1 NodeList", [])


def items_of(raw: bytes, cls: type[Message]) -> Iterator[Any]:
    """The fields with the number 2 of a message whose other fields are short."""
    position = 0
    while position < len(raw):
        number, position = raw[position] >> 3, position + 1
        length, shift = 0, 0
        while True:
            byte, position = raw[position], position + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if number == 2:
            yield cls.FromString(raw[position : position + length])
        position += length


async def test_errors_and_outcomes(api: Api) -> None:
    kind, said = read(await api.get(f"{PODS}/none", headers=ACCEPT), wire.Status)
    assert kind == "v1 Status"
    assert said == {key: value for key, value in (await api.get(f"{PODS}/none")).body.items() if key in said}
    assert (said["reason"], said["code"], said["details"]) == ("NotFound", 404, {"name": "none", "kind": "pods"})
    refused = await api.ask("POST", PODS, manifest(restartPolicy="Odd"), headers=ACCEPT)
    _, said = read(refused, wire.Status)
    assert (refused.code, [cause["field"] for cause in said["details"]["causes"]]) == (422, ["spec.restartPolicy"])
    kind, said = read(await api.ask("POST", PODS, manifest(), headers=ACCEPT), core.Pod)
    assert (kind, said["metadata"]["name"]) == ("v1 Pod", "web")
    await api.ask("POST", CONFIGS, {"metadata": {"name": "settings"}})
    kind, said = read(await api.ask("DELETE", f"{CONFIGS}/settings", headers=ACCEPT), wire.Status)
    assert (kind, said["status"]) == ("v1 Status", "Success")
    gone = await api.ask("DELETE", PODS, headers=ACCEPT)
    assert opened(gone.body)[0] == "v1 PodList"


def test_every_detail_of_an_error_has_its_field() -> None:
    error = Conflict("so", retry_after_s=3)
    data = failure(error)
    data["details"] = {"group": "g", "uid": "u", **data["details"]}
    kind, raw = opened(protobuf.values(data))
    assert kind == "v1 Status"
    del data["kind"], data["apiVersion"], data["metadata"]
    assert to_json(wire.Status.FromString(raw)) == data


async def test_parts_of_objects(api: Api, cluster: MemoryCluster) -> None:
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc", namespace="default"))
    rc.spec.replicas = 2
    rc.spec.selector["a"] = "b"
    cluster.put(rc)
    path = "/api/v1/namespaces/default/replicationcontrollers/rc/scale"
    kind, said = read(await api.get(path, headers=ACCEPT), bodies.Scale)
    assert kind == "autoscaling/v1 Scale"
    assert (said["spec"], said["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "a=b"})
    cluster.put(core.Node(metadata=core.ObjectMeta(name="n")))
    cluster.put(pod("p"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    kind, said = read(await api.ask("POST", f"{PODS}/p/binding", binding, headers=ACCEPT), wire.Status)
    assert (kind, said["status"], said["code"]) == ("v1 Status", "Success", 201)
    kind, said = read(await api.ask("POST", f"{PODS}/p/eviction", {}, headers=ACCEPT), wire.Status)
    assert (kind, said["code"]) == ("v1 Status", 201)


async def test_what_is_made_when_somebody_asks(api: Api, cluster: MemoryCluster) -> None:
    endpoints = core.Endpoints(metadata=core.ObjectMeta(name="web", namespace="default"))
    subset = endpoints.subsets.add()
    subset.addresses.add(ip="10.0.0.1", nodeName="n").targetRef.name = "p"
    subset.notReadyAddresses.add(ip="10.0.0.2")
    subset.ports.add(name="http", port=80, protocol="TCP")
    cluster.put(endpoints)
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    kind, said = read(await api.get(f"{path}/web-0", headers=ACCEPT), bodies.EndpointSlice)
    assert kind == "discovery.k8s.io/v1 EndpointSlice"
    shown = (await api.get(f"{path}/web-0")).body
    assert without_nothing(said) == without_nothing(
        {key: shown[key] for key in shown if key not in ("kind", "apiVersion")}
    )
    kind, raw = opened((await api.get(path, headers=ACCEPT)).body)
    assert kind == "discovery.k8s.io/v1 EndpointSliceList"
    assert [item.metadata.name for item in items_of(raw, bodies.EndpointSlice)] == ["web-0"]
    question = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    kind, said = read(await api.ask("POST", path, question, headers=ACCEPT), bodies.SelfSubjectAccessReview)
    assert (kind, said["status"]["allowed"]) == ("authorization.k8s.io/v1 SelfSubjectAccessReview", True)


def test_a_duration_is_a_number_in_protobuf() -> None:
    usage = {"cpu": "5n", "memory": "7Ki"}
    item = {"metadata": {"name": "n"}, "timestamp": "2026-01-01T00:00:00Z", "window": "500ms", "usage": usage}
    listed = {"kind": "NodeMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [item]}
    _, raw = opened(protobuf.values(listed))
    (found,) = items_of(raw, bodies.NodeMetrics)
    assert found.window.duration == 500_000_000
    assert to_json(found)["usage"] == usage


async def test_kinds_that_kubernetes_has_not_are_json_alone(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(core.Fault(metadata=core.ObjectMeta(name="f", namespace="default")))
    path = "/apis/podium.dev/v1/namespaces/default/faults/f"
    assert (await api.get(path, headers=ACCEPT)).body["kind"] == "Fault"
    refused = await api.get(path, headers={"Accept": PROTOBUF})
    assert (refused.code, read(refused, wire.Status)[1]["reason"]) == (406, "NotAcceptable")
    kind, said = read(await api.get(path, headers=METADATA), bodies.PartialObjectMetadata)
    assert (kind, said["metadata"]["name"]) == ("meta.k8s.io/v1 PartialObjectMetadata", "f")
    table_ = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io, " + PROTOBUF}
    assert (await api.get(path, headers=table_)).body["kind"] == "Table"


# --- watches


async def frames(response: Any, count: int) -> list[tuple[str, str, bytes]]:
    """So many events: their types, what they hold, and that."""
    found: list[tuple[str, str, bytes]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            (length,) = struct.unpack(">I", await response.content.readexactly(4))
            frame = bodies.WatchFrame.FromString(await response.content.readexactly(length))
            found.append((frame.type, *opened(frame.object.raw)))
    return found


async def test_a_watch_is_a_row_of_frames(api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = cluster.put(pod("a"))
    words = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    async with api.stream(f"{PODS}?{words}", headers=ACCEPT) as response:
        assert response.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
        first, marked = await frames(response, 2)
        assert (first[:2], core.Pod.FromString(first[2]).metadata.name) == (("ADDED", "v1 Pod"), "a")
        assert marked[:2] == ("BOOKMARK", "v1 Pod")
        meta = core.Pod.FromString(marked[2]).metadata
        assert meta.resourceVersion == stored.metadata.resourceVersion
        assert dict(meta.annotations) == {"k8s.io/initial-events-end": "true"}
        cluster.remove(stored)
        ((word, kind, raw),) = await frames(response, 1)
        assert (word, kind) == ("DELETED", "v1 Pod")
        assert core.Pod.FromString(raw).metadata.resourceVersion == str(cluster.store.revision)


async def test_a_watch_of_metadata(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    async with api.stream(f"{PODS}?watch=1", headers=METADATA) as response:
        ((word, kind, raw),) = await frames(response, 1)
        assert (word, kind) == ("ADDED", "meta.k8s.io/v1 PartialObjectMetadata")
        assert bodies.PartialObjectMetadata.FromString(raw).metadata.name == "a"


def test_the_end_of_a_watch_is_told_in_a_frame_too() -> None:
    frame = protobuf.event("ERROR", protobuf.values(failure(Expired("too old"))))
    assert struct.unpack(">I", frame[:4]) == (len(frame) - 4,)
    event = bodies.WatchFrame.FromString(frame[4:])
    kind, raw = opened(event.object.raw)
    assert (event.type, kind, wire.Status.FromString(raw).code) == ("ERROR", "v1 Status", 410)
