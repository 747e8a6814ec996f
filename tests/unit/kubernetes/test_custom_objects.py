"""Objects of kinds that users define, over HTTP: every verb, every form, and the end of a kind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cluster.pb.v1 import core_pb2 as core
from tests.kit.customs import definition, established, version, widget
from tests.unit.kubernetes.conftest import Api, Reply

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
METADATA = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
MERGE = {"Content-Type": "application/merge-patch+json"}


async def served(api: Api, path: str = WIDGETS, code: int = 200) -> None:
    """Returns when the path is served, or is not."""
    for _ in range(500):
        if (await api.get(path)).code == code:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} is never answered with {code}")


@pytest.fixture
async def widgets(api: Api) -> Api:
    """The definition is there, with an old version."""
    old = version("v1beta1", storage=False, deprecated=True)
    api.cluster.put(established(version("v1"), old))
    await served(api)
    return api


async def create(api: Api, name: str = "one", path: str = WIDGETS, **spec: Any) -> Reply:
    return await api.ask("POST", path, widget(name, **spec))


async def patch(api: Api, path: str, body: Any, media: str = "merge-patch+json") -> Reply:
    data = json.dumps(body).encode()
    return await api.ask("PATCH", f"{WIDGETS}/{path}", data, headers={"Content-Type": f"application/{media}"})


async def test_one_is_written_and_read(widgets: Api) -> None:
    reply = await create(widgets, color="red")
    assert (reply.code, reply.body["kind"], reply.body["apiVersion"]) == (201, "Widget", "example.com/v1")
    found = await widgets.get(f"{WIDGETS}/one")
    assert found.body == reply.body
    assert found.body["spec"] == {"size": 3, "color": "red"}
    stored = widgets.cluster.objects(core.CustomObject)
    assert [(each.resource, each.metadata.name) for each in stored] == [("widgets.example.com", "one")]
    again = await create(widgets)
    assert (again.code, again.body["details"]) == (409, {"name": "one", "group": "example.com", "kind": "widgets"})
    missing = await widgets.get(f"{WIDGETS}/two")
    assert (missing.code, missing.body["message"]) == (404, 'widgets.example.com "two" not found')


async def test_null_is_nothing_where_the_schema_does_not_allow_it(widgets: Api) -> None:
    reply = await create(widgets, color="red", tags=None)
    assert (reply.code, reply.body["spec"]) == (201, {"size": 3, "color": "red"}), "so say programs in Go"
    reply.body["spec"]["tags"] = None
    again = await widgets.ask("PUT", f"{WIDGETS}/one?fieldValidation=Strict", reply.body)
    assert (again.code, again.body["spec"]) == (200, {"size": 3, "color": "red"})


async def test_lists_are_of_one_kind(widgets: Api) -> None:
    widgets.cluster.put(established(plural="gadgets", number=1))
    await served(widgets, WIDGETS.replace("widgets", "gadgets"))
    for name in ("b", "a"):
        await create(widgets, name)
    other = {**widget("g"), "kind": "Gadget"}
    assert (await widgets.ask("POST", WIDGETS.replace("widgets", "gadgets"), other)).code == 201
    for path in (WIDGETS, "/apis/example.com/v1/widgets"):
        found = (await widgets.get(path)).body
        assert (found["kind"], found["apiVersion"]) == ("WidgetList", "example.com/v1")
        assert [each["metadata"]["name"] for each in found["items"]] == ["a", "b"]
    chosen = (await widgets.get(f"{WIDGETS}?fieldSelector=metadata.name%3Da")).body["items"]
    assert [each["metadata"]["name"] for each in chosen] == ["a"]
    refused = await widgets.get(f"{WIDGETS}?fieldSelector=spec.size%3D3")
    assert (refused.code, refused.body["message"]) == (400, "field label not supported: spec.size")


async def test_every_form(widgets: Api) -> None:
    await create(widgets)
    table = (await widgets.get(WIDGETS, headers=TABLE)).body
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Size", "Phase", "Since", "Ports", "Age"]
    assert table["rows"][0]["cells"][:3] == ["one", 3, None]
    (item,) = (await widgets.get(WIDGETS, headers=METADATA)).body["items"]
    assert set(item) == {"kind", "apiVersion", "metadata"}


async def test_an_old_version_says_that_it_is_old(widgets: Api) -> None:
    await create(widgets)
    old = WIDGETS.replace("v1", "v1beta1")
    warning = '299 - "example.com/v1beta1 Widget is deprecated"'
    for reply in (
        await widgets.get(old),
        await widgets.get(f"{old}/one"),
        await widgets.get(f"{old}?watch=1&timeoutSeconds=1"),
        await widgets.ask("POST", old, widget("two", version="v1beta1")),
    ):
        assert reply.code < 300
        assert reply.headers.getall("Warning") == [warning]
    assert (await widgets.get(f"{old}/two")).body["apiVersion"] == "example.com/v1beta1"
    assert (await widgets.get(f"{WIDGETS}/two")).body["apiVersion"] == "example.com/v1"
    assert "Warning" not in (await widgets.get(WIDGETS)).headers


async def test_defaults_that_come_later_are_read_of_what_is_stored(widgets: Api) -> None:
    await create(widgets, color="red")
    for _ in range(2):  # the second time it was kept
        assert (await widgets.get(f"{WIDGETS}/one")).body["spec"] == {"size": 3, "color": "red"}
    assert (await widgets.get(f"{WIDGETS}/one/scale")).code == 500, "it says nothing of replicas"
    later, old = version("v1"), version("v1beta1", storage=False)
    spec = later["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["replicas"]["default"], spec["tags"]["default"] = 2, ["new"]
    widgets.cluster.put(established(later, old, number=8))
    for path in (WIDGETS, WIDGETS.replace("v1", "v1beta1")):
        async with asyncio.timeout(20):
            while "replicas" not in (found := await widgets.get(f"{path}/one")).body["spec"]:
                await asyncio.sleep(0.01)
        assert found.body["spec"] == {"size": 3, "color": "red", "replicas": 2, "tags": ["new"]}, path
        assert (await widgets.get(path)).body["items"][0]["spec"] == found.body["spec"]
    assert (await widgets.get(f"{WIDGETS}/one/scale")).body["spec"] == {"replicas": 2}
    (stored,) = widgets.cluster.objects(core.CustomObject)
    assert json.loads(stored.content) == {"spec": {"size": 3, "color": "red"}}, "nothing was written"
    async with widgets.stream(f"{WIDGETS}?watch=1&timeoutSeconds=1") as response:
        assert json.loads(await response.content.readline())["object"]["spec"]["replicas"] == 2
    grown = await patch(widgets, "one", [{"op": "test", "path": "/spec/replicas", "value": 2}], "json-patch+json")
    assert grown.code == 200, grown.body


async def test_patches(widgets: Api) -> None:
    await create(widgets, tags=["x"])
    assert (await patch(widgets, "one", {"spec": {"size": 4, "tags": None}})).body["spec"] == {
        "size": 4,
        "color": "blue",
    }
    replaced = await patch(widgets, "one", [{"op": "replace", "path": "/spec/size", "value": 5}], "json-patch+json")
    assert replaced.body["spec"] == {"size": 5, "color": "blue"}
    refused = await patch(widgets, "one", {"spec": {"size": 6}}, "strategic-merge-patch+json")
    assert (refused.code, refused.reason) == (415, "UnsupportedMediaType")
    assert "application/apply-patch+yaml" in refused.body["message"]
    assert "strategic" not in refused.body["message"]


async def test_parts_are_applied_and_noted(widgets: Api) -> None:
    async def apply(name: str, part: str, body: Any, words: str = "") -> Reply:
        return await patch(widgets, f"one{part}?fieldManager={name}{words}", body, "apply-patch+yaml")

    def managers(reply: Reply) -> dict[tuple[str, ...], Any]:
        return {
            (each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"]
            for each in reply.body["metadata"]["managedFields"]
        }

    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "one"}, "spec": {"replicas": 4}}
    assert (await apply("one", "", widget(replicas=2))).code == 201
    refused = await apply("two", "/scale", scale)
    assert (refused.code, refused.body["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    assert (await apply("two", "/scale", scale, "&force=true")).body["spec"] == {"replicas": 4}
    status = await apply("three", "/status", {**widget(size=9), "status": {"phase": "New"}})
    assert (status.body["spec"]["size"], status.body["status"]) == (3, {"phase": "New"})
    renamed = await patch(widgets, "one?fieldManager=four", {"spec": {"limits": {"cpu": 1}}})
    assert managers(renamed) == {
        ("one", "Apply", ""): {"f:spec": {"f:size": {}}},
        ("two", "Apply", "scale"): {"f:spec": {"f:replicas": {}}},
        ("three", "Apply", "status"): {"f:status": {"f:phase": {}}},
        ("four", "Update", ""): {"f:spec": {"f:limits": {"f:cpu": {}}}},
    }
    assert {each["apiVersion"] for each in renamed.body["metadata"]["managedFields"]} == {"example.com/v1"}


async def test_server_side_apply(widgets: Api) -> None:
    async def apply(name: str, words: str = "", **spec: Any) -> Reply:
        return await patch(widgets, f"one?fieldManager={name}{words}", widget(**spec), "apply-patch+yaml")

    assert (await apply("a", ports=[{"port": 1}])).code == 201
    both = await apply("b", ports=[{"port": 2}])
    assert [each["port"] for each in both.body["spec"]["ports"]] == [2, 1]
    conflict = await apply("b", size=9)
    assert (conflict.code, conflict.body["details"]["causes"][0]["field"]) == (409, ".spec.size")
    forced = await apply("b", "&force=true", size=9)
    assert forced.body["spec"] == {"size": 9, "color": "blue", "ports": [{"port": 1, "protocol": "TCP"}]}
    assert [each["manager"] for each in forced.body["metadata"]["managedFields"]] == ["a", "b"]
    unknown = await apply("b", "&force=true&fieldValidation=Strict", sise=9)
    assert (unknown.code, unknown.reason) == (400, "BadRequest")


async def test_what_nobody_knows(widgets: Api) -> None:
    strict = await create(widgets, path=f"{WIDGETS}?fieldValidation=Strict", sise=1, ports=[{"port": 1, "x": 2}])
    assert strict.code == 400
    assert strict.body["message"] == (
        'Widget in version "v1" cannot be handled as a Widget: strict decoding error: '
        'unknown field "spec.sise", unknown field "spec.ports[0].x"'
    )
    warned = await create(widgets, path=f"{WIDGETS}?fieldValidation=Warn", sise=1, free={"any": 1})
    assert warned.headers.getall("Warning") == ['299 - "unknown field \\"spec.sise\\""']
    assert warned.body["spec"] == {"size": 3, "color": "blue", "free": {"any": 1}}
    ignored = await create(widgets, "two", path=f"{WIDGETS}?fieldValidation=Ignore", sise=1)
    assert (ignored.code, "Warning" in ignored.headers) == (201, False)
    assert ignored.body["spec"] == {"size": 3, "color": "blue"}


async def test_what_no_schema_has(api: Api) -> None:
    posted = definition(plural="gadgets")
    posted["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["typo"] = True
    path = "spec.versions[0].schema.openAPIV3Schema.properties[spec].typo"
    strict = await api.ask("POST", f"{CRDS}?fieldValidation=Strict&dryRun=All", posted)
    assert (strict.code, path in strict.body["message"]) == (400, True)
    warned = await api.ask("POST", f"{CRDS}?dryRun=All", posted)
    assert (warned.code, warned.headers["Warning"]) == (201, f'299 - "unknown field \\"{path}\\""')
    assert "typo" not in warned.body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


async def test_what_is_invalid_says_where(widgets: Api) -> None:
    await create(widgets)
    refused = await widgets.ask("PUT", f"{WIDGETS}/one", widget())
    assert refused.body["details"] == {
        "name": "one",
        "group": "example.com",
        "kind": "Widget",
        "causes": [
            {
                "reason": "FieldValueInvalid",
                "message": "must be specified for an update",
                "field": "metadata.resourceVersion",
            }
        ],
    }


async def test_scale(widgets: Api) -> None:
    await create(widgets, replicas=1)
    shown = (await widgets.get(f"{WIDGETS}/one/scale")).body
    assert (shown["kind"], shown["spec"], shown["status"]) == ("Scale", {"replicas": 1}, {"replicas": 0})
    scaled = await patch(widgets, "one/scale", {"spec": {"replicas": 3}})
    assert (scaled.code, scaled.body["spec"]) == (200, {"replicas": 3})
    put = await widgets.ask("PUT", f"{WIDGETS}/one/scale", {**scaled.body, "spec": {"replicas": 4}})
    assert (put.code, (await widgets.get(f"{WIDGETS}/one")).body["spec"]["replicas"]) == (200, 4)
    stale = await widgets.ask("PUT", f"{WIDGETS}/one/scale", {**scaled.body, "spec": {"replicas": 5}})
    assert (stale.code, stale.reason) == (409, "Conflict")
    await create(widgets, "divided", replicas=4 / 2)
    assert (await widgets.get(f"{WIDGETS}/divided/scale")).body["spec"] == {"replicas": 2}
    await create(widgets, "bare")
    bare = await widgets.get(f"{WIDGETS}/bare/scale")
    assert (bare.code, bare.body["message"]) == (500, 'the spec replicas field ".spec.replicas" does not exist')


async def test_updates_name_the_version_that_they_are_of(widgets: Api) -> None:
    made = (await create(widgets)).body
    assert (await widgets.ask("PUT", f"{WIDGETS}/one", widget())).code == 422
    made["spec"]["size"] = 8
    assert (await widgets.ask("PUT", f"{WIDGETS}/one", made)).body["spec"]["size"] == 8
    assert (await widgets.ask("PUT", f"{WIDGETS}/one", made)).code == 409


async def test_they_are_deleted_one_by_one_and_together(widgets: Api) -> None:
    for name in ("a", "b", "c"):
        await create(widgets, name)
    gone = (await widgets.ask("DELETE", f"{WIDGETS}/a")).body
    assert (gone["status"], gone["details"]["kind"], gone["details"]["group"]) == ("Success", "widgets", "example.com")
    assert (await widgets.ask("DELETE", f"{WIDGETS}/b?dryRun=All")).code == 200
    assert len((await widgets.get(WIDGETS)).body["items"]) == 2
    assert (await widgets.ask("DELETE", WIDGETS)).code == 200
    assert (await widgets.get(WIDGETS)).body["items"] == []


async def lines(response: Any, count: int) -> list[Any]:
    return [json.loads(await response.content.readline()) for _ in range(count)]


async def test_a_watch_of_a_kind_ends_with_it(widgets: Api) -> None:
    await create(widgets)
    async with widgets.stream(f"{WIDGETS}?watch=1") as response:
        ((first,), _) = await lines(response, 1), await create(widgets, "two")
        (second,) = await lines(response, 1)
        assert [(each["type"], each["object"]["metadata"]["name"]) for each in (first, second)] == [
            ("ADDED", "one"),
            ("ADDED", "two"),
        ]
        assert second["object"]["apiVersion"] == "example.com/v1"
        (crd,) = widgets.cluster.objects(core.CustomResourceDefinition)
        widgets.cluster.remove(crd)
        async with asyncio.timeout(20):
            assert await response.content.read() == b""
    await served(widgets, code=404)
    assert (await widgets.get("/apis/example.com")).code == 404


async def test_a_watch_ends_when_the_definition_changes_and_not_while_it_goes(widgets: Api) -> None:
    await create(widgets)
    async with widgets.stream(f"{WIDGETS}?watch=1", headers=TABLE) as response:
        (first,) = await lines(response, 1)
        assert len(first["object"]["columnDefinitions"]) == 6
        going = established(version("v1"), version("v1beta1", storage=False, deprecated=True), number=50)
        going.metadata.deletionTimestamp.seconds = 1
        widgets.cluster.put(going)
        reading = asyncio.ensure_future(response.content.readline())
        await create_refused(widgets)
        assert not reading.done(), "what becomes of the last objects is told"
        narrow = established(version("v1", additionalPrinterColumns=[]), number=51)
        widgets.cluster.put(narrow)
        async with asyncio.timeout(20):
            assert await reading == b""
    table = (await widgets.get(WIDGETS, headers=TABLE)).body
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Age"]


async def create_refused(api: Api) -> None:
    """Returns when nothing new is taken."""
    for _ in range(500):
        if (await create(api, "late")).code == 405:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("new objects are taken all the time")


async def test_a_definition_that_is_posted_is_served_when_it_is_answered(api: Api) -> None:
    posted = definition()
    posted["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    api.cluster.on_write = lambda actor, operations: None
    waiting = asyncio.ensure_future(api.ask("POST", CRDS, posted))
    while not (crds := api.cluster.objects(core.CustomResourceDefinition)):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not waiting.done(), "nobody has accepted its names yet"
    accepted = core.CustomResourceDefinition()
    accepted.CopyFrom(crds[0])
    accepted.status.conditions.add(type="Established", status="True")
    api.cluster.put(accepted)
    assert (await waiting).code == 201
    assert (await create(api)).code == 201
    assert (await api.ask("DELETE", f"{CRDS}/widgets.example.com")).code == 200
    assert (await api.get(WIDGETS)).code == 404


async def test_what_is_being_deleted_takes_nothing_new(widgets: Api) -> None:
    going = established(version("v1"), number=99)
    going.metadata.deletionTimestamp.seconds = 1
    widgets.cluster.put(going)
    await served(widgets, WIDGETS.replace("v1", "v1beta1"), code=404)
    refused = await create(widgets)
    assert (refused.code, refused.reason) == (405, "MethodNotAllowed")
    assert refused.body["message"] == "create not allowed while custom resource definition is terminating"
    assert (await widgets.get(WIDGETS)).code == 200


async def test_documents_have_tags(widgets: Api) -> None:
    for path in ("/apis", "/openapi/v3", "/openapi/v3/apis/example.com/v1", "/openapi/v2"):
        first = await widgets.get(path)
        tag = first.headers["ETag"]
        assert (await widgets.get(path, headers={"If-None-Match": f'"x", {tag}'})).code == 304


async def test_before_definitions_are_known_only_podiums_own_kinds_are_served(api: Api) -> None:
    keeper = api.server._keeper
    keeper._synced.clear()
    assert (await api.get("/api/v1/pods")).code == 200
    asking = asyncio.ensure_future(api.get("/apis"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    keeper._synced.set()
    assert (await asking).code == 200
