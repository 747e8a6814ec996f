"""Events as events.k8s.io/v1 has them: the same objects, with other names."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.meta import to_time
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.kubernetes.views import selector
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, Reply
from tests.unit.kubernetes.test_bodies import enveloped

NEW = "/apis/events.k8s.io/v1/namespaces/default/events"
OLD = "/api/v1/namespaces/default/events"
ROW = OWN.by_path["events.k8s.io", "v1", "events"]


def reported(**more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "web.1", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.678901Z",
        "reportingController": "example.com/robot",
        "reportingInstance": "robot-1",
        "action": "Look",
        "reason": "Looked",
        "type": "Normal",
        "regarding": {"kind": "Pod", "name": "web", "namespace": "default"},
        "note": "all is well",
        **more,
    }


async def apply(api: Api, manager: str, wanted: dict[str, Any], path: str = NEW, **parameters: str) -> Reply:
    return await api.ask(
        "PATCH",
        f"{path}/web.1",
        wanted,
        params={"fieldManager": manager, **parameters},
        headers={"Content-Type": "application/apply-patch+yaml"},
    )


def put(cluster: MemoryCluster, name: str, about: str = "web") -> None:
    event = core.Event(
        metadata=core.ObjectMeta(name=name, namespace="default"),
        involvedObject=core.ObjectReference(kind="Pod", name=about, namespace="default"),
        message="it came",
        source=core.EventSource(component="kubelet", host="node-1"),
        firstTimestamp=to_time(100),
        lastTimestamp=to_time(200),
        count=3,
        reason="Came",
        type="Normal",
    )
    cluster.put(event)


async def test_what_was_stored_in_the_old_way_is_read_in_the_new(api: Api, cluster: MemoryCluster) -> None:
    put(cluster, "a")
    reply = await api.get(f"{NEW}/a")
    assert reply.body["apiVersion"] == "events.k8s.io/v1"
    assert reply.body["kind"] == "Event"
    assert reply.body["note"] == "it came"
    assert reply.body["regarding"]["name"] == "web"
    assert reply.body["deprecatedCount"] == 3
    assert reply.body["deprecatedSource"] == {"component": "kubelet", "host": "node-1"}
    assert reply.body["deprecatedLastTimestamp"] == "1970-01-01T00:03:20Z"
    assert not {"message", "involvedObject", "source", "count", "lastTimestamp"} & reply.body.keys()
    listed = (await api.get(NEW)).body
    assert (listed["kind"], listed["apiVersion"]) == ("EventList", "events.k8s.io/v1")
    assert [item["note"] for item in listed["items"]] == ["it came"]


async def test_what_is_written_in_the_new_way_is_read_in_the_old(api: Api) -> None:
    made = await api.ask("POST", NEW, reported(series={"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}))
    assert made.code == 201, made.body
    assert made.body["note"] == "all is well"
    old = (await api.get(f"{OLD}/web.1")).body
    assert old["apiVersion"] == "v1"
    assert old["involvedObject"]["name"] == "web"
    assert (old["message"], old["reportingComponent"], old["action"]) == ("all is well", "example.com/robot", "Look")
    assert old["eventTime"] == "2026-01-02T03:04:05.678901Z"
    assert old["series"]["count"] == 2
    patched = await api.ask(
        "PATCH", f"{NEW}/web.1", {"note": "better"}, headers={"Content-Type": "application/merge-patch+json"}
    )
    assert (patched.code, patched.body["note"]) == (200, "better"), patched.body
    replaced = await api.ask("PUT", f"{NEW}/web.1", reported(note="best"))
    assert (replaced.code, replaced.body["note"]) == (200, "best"), replaced.body
    assert (await api.get(f"{OLD}/web.1")).body["message"] == "best"
    assert (await api.ask("DELETE", f"{NEW}/web.1")).code == 200
    assert (await api.get(f"{NEW}/web.1")).body["message"] == 'events.events.k8s.io "web.1" not found'


async def test_an_event_of_any_type_is_kept_and_the_new_way_has_two_types(api: Api) -> None:
    """kopf writes events of the types Error and Fatal."""
    event = {
        "metadata": {"name": "kopf.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "type": "Error",
    }
    made = await api.ask("POST", OLD, event)
    assert (made.code, made.body["type"]) == (201, "Error"), made.body
    refused = await api.ask("POST", NEW, reported(type="Error"))
    assert refused.code == 422, refused.body
    assert refused.body["message"] == (
        'Event "web.1" is invalid: type: Unsupported value: "Error": supported values: "Normal", "Warning"'
    )


async def test_protobuf_of_the_new_way(api: Api) -> None:
    event = bodies.ReportedEvent(
        metadata=core.ObjectMeta(name="p", namespace="default"),
        reportingController="example.com/robot",
        reportingInstance="robot-1",
        action="Look",
        reason="Looked",
        type="Normal",
        regarding=core.ObjectReference(kind="Pod", name="web", namespace="default"),
        note="by wire",
    )
    event.eventTime.seconds = 5
    body = enveloped("Event", event, "events.k8s.io/v1")
    reply = await api.ask("POST", NEW, body, headers={"Content-Type": PROTOBUF})
    assert reply.code == 201, reply.body
    assert (await api.get(f"{OLD}/p")).body["message"] == "by wire"


async def test_what_is_missing_or_of_the_other_way_is_refused(api: Api) -> None:
    bad = {key: value for key, value in reported().items() if key not in ("eventTime", "action")}
    reply = await api.ask("POST", NEW, bad)
    assert (reply.code, reply.reason) == (422, "Invalid")
    assert reply.body["message"] == 'Event "web.1" is invalid: [eventTime: Required value, action: Required value]'
    assert [cause["field"] for cause in reply.body["details"]["causes"]] == ["eventTime", "action"]
    reply = await api.ask("POST", f"{NEW}?fieldValidation=Strict", reported(message="old", nte="x"))
    assert (reply.code, reply.reason) == (400, "BadRequest")
    assert 'unknown field "message", unknown field "nte"' in reply.body["message"]
    reply = await api.ask("POST", NEW, reported(apiVersion="v1"))
    assert reply.code == 400
    reply = await apply(api, "one", {key: value for key, value in reported().items() if key != "action"})
    assert (reply.code, reply.body["message"]) == (422, 'Event "web.1" is invalid: action: Required value')


async def test_it_is_applied_by_the_server(api: Api) -> None:
    assert (await apply(api, "one", reported())).code == 201
    (entry,) = (await api.get(f"{NEW}/web.1")).body["metadata"]["managedFields"]
    assert (entry["manager"], entry["apiVersion"]) == ("one", "events.k8s.io/v1")
    assert {"f:note", "f:regarding", "f:reportingController"} <= entry["fieldsV1"].keys()
    (old,) = (await api.get(f"{OLD}/web.1")).body["metadata"]["managedFields"]
    assert old["apiVersion"] == "v1"
    assert {"f:message", "f:involvedObject", "f:reportingComponent"} <= old["fieldsV1"].keys()

    named = {key: reported()[key] for key in ("apiVersion", "kind", "metadata")}
    reply = await apply(api, "two", {**named, "note": "better"})
    assert (reply.code, reply.body["message"]) == (409, 'Apply failed with 1 conflict: conflict with "one": .note')
    older = {**named, "apiVersion": "v1", "message": "better"}
    reply = await apply(api, "two", older, OLD)
    assert (reply.code, reply.body["message"]) == (409, 'Apply failed with 1 conflict: conflict with "one": .message')
    assert (await apply(api, "two", older, OLD, force="true")).code == 200

    without = {key: value for key, value in reported().items() if key not in ("note", "regarding")}
    reply = await apply(api, "one", without)
    assert reply.code == 200
    assert reply.body["note"] == "better", "it is the other one's"
    assert "regarding" not in reply.body, "nobody wants it any more"


async def test_what_managed_fields_say_is_written_as_it_is_read(api: Api) -> None:
    assert (await apply(api, "one", reported())).code == 201
    read = (await api.get(f"{NEW}/web.1")).body
    replaced = await api.ask("PUT", f"{NEW}/web.1?fieldManager=two", {**read, "type": "Warning"})
    assert replaced.code == 200, replaced.body
    one, two = replaced.body["metadata"]["managedFields"]
    assert (one["manager"], one["fieldsV1"].keys()) == (
        "one",
        read["metadata"]["managedFields"][0]["fieldsV1"].keys() - {"f:type"},
    )
    assert (two["manager"], two["apiVersion"], two["fieldsV1"]) == ("two", "events.k8s.io/v1", {"f:type": {}})


async def test_selectors_watches_and_tables(api: Api, cluster: MemoryCluster) -> None:
    put(cluster, "a")
    put(cluster, "b", about="other")
    listed = (await api.get(f"{NEW}?fieldSelector=regarding.name%3Dother%2Ctype%3DNormal")).body
    assert [item["metadata"]["name"] for item in listed["items"]] == ["b"]
    listed = (await api.get(f"{OLD}?fieldSelector=source%3Dkubelet%2CinvolvedObject.name!%3Dother")).body
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    assert (await api.get(f"{NEW}?fieldSelector=nonsense%3D1")).code == 400
    async with api.stream(f"{NEW}?watch=1&fieldSelector=regarding.name%3Dother&timeoutSeconds=1") as response:
        lines = (await response.text()).splitlines()
    assert len(lines) == 1
    assert '"note":"it came"' in lines[0]
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = (await api.get(f"{NEW}?includeObject=Object", headers=headers)).body
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names[:4] == ["Last Seen", "Type", "Reason", "Object"]
    assert table["rows"][0]["object"]["note"] == "it came"


async def test_it_is_discovered_and_explained(api: Api) -> None:
    found = (await api.get("/apis/events.k8s.io/v1")).body["resources"]
    assert [(each["name"], each["kind"]) for each in found] == [("events", "Event")]
    schemas = (await api.get("/openapi/v3/apis/events.k8s.io/v1")).body["components"]["schemas"]
    (event,) = (s for s in schemas.values() if "x-kubernetes-group-version-kind" in s)
    assert event["x-kubernetes-group-version-kind"] == [{"group": "events.k8s.io", "version": "v1", "kind": "Event"}]
    assert {"regarding", "note", "series", "deprecatedCount"} <= event["properties"].keys()
    core_schemas = (await api.get("/openapi/v3/api/v1")).body["components"]["schemas"]
    assert "io.k8s.api.core.v1.Event" in core_schemas


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("regarding.name=a", "involvedObject.name=a"),
        ("regarding.name!=a,reason=x", "involvedObject.name!=a,reason=x"),
        ("reportingController=a.b/c", "reportingComponent=a.b/c"),
        ("metadata.name=web.17", "metadata.name=web.17"),
    ],
)
def test_selectors_are_renamed(given: str, kept: str) -> None:
    assert selector(ROW, given) == kept
