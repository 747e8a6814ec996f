"""Objects of kinds that users define: as their definition says."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import aclosing
from typing import Any

import pytest

from cluster.api.errors import AlreadyExists, ApiError, BadRequest, Conflict, Forbidden, Internal, Invalid, NotFound
from cluster.api.json import custom_from_json, object_to_json
from cluster.api.meta import Key, custom_key, key_of
from cluster.client import operations as ops
from cluster.master.customs import Customs
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from tests.kit.widgets import WIDGETS, definition, widget
from tests.unit.master.rig import Rig

ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
BLUE = custom_key(WIDGETS, "default", "blue")


async def make(rig: Rig, obj: core.CustomObject) -> core.CustomObject:
    made = await rig.create(obj)
    assert isinstance(made, core.CustomObject)
    return made


def seen(obj: Any) -> dict[str, Any]:
    """As its user sees it, without what every object gets."""
    data = object_to_json(obj)
    del data["metadata"]
    return data


async def test_an_object_is_pruned_and_gets_its_defaults(rig: Rig) -> None:
    await rig.create(definition())
    made = await make(rig, widget(spec={"size": 2, "weight": 1.0, "bogus": 1, "parts": [{"name": "a", "x": 1}]}))
    assert seen(made) == {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "spec": {"size": 2, "weight": 1.0, "colour": "red", "parts": [{"name": "a", "count": 1}]},
    }
    assert (made.metadata.generation, made.metadata.resourceVersion) == (1, str(rig.revision))
    assert rig.find("CustomObject", f"{WIDGETS}/blue") == made
    with pytest.raises(AlreadyExists, match=r'^widgets.example.com "blue" already exists$'):
        await rig.create(widget())


async def test_what_the_schema_does_not_take_is_refused_with_all_problems(rig: Rig) -> None:
    await rig.create(definition())
    with pytest.raises(Invalid) as caught:
        await rig.create(widget("BLUE", {"size": 11, "colour": "pink", "parts": [{"name": "a"}, {"name": "a"}]}))
    assert caught.value.message.startswith('Widget.example.com "BLUE" is invalid: [')
    assert {(each.path, each.reason) for each in caught.value.causes} == {
        ("metadata.name", "FieldValueInvalid"),
        ("spec.size", "FieldValueInvalid"),
        ("spec.colour", "FieldValueNotSupported"),
        ("spec.parts[1]", "FieldValueDuplicate"),
    }
    assert rig.find("CustomObject", f"{WIDGETS}/BLUE") is None


async def test_what_was_compiled_of_definitions_that_are_gone_is_forgotten(rig: Rig) -> None:
    customs = Customs()
    for number in range(3):
        made = await rig.create(definition(f"kinds{number}"))
        customs.definition(rig.master.store, made.metadata.name)
        await rig.write(ops.delete(key_of(made)))
    assert len(customs._known) == 1


async def test_without_its_definition_there_is_nothing(rig: Rig) -> None:
    operations = [
        ops.create(widget()),
        ops.update(widget()),
        ops.update_status(widget()),
        ops.patch(BLUE, {"spec": {}}),
        ops.delete(BLUE),
    ]
    for found in await rig.try_write(*operations):
        assert isinstance(found, NotFound)
        assert "the server could not find the requested resource" in found.message
    with pytest.raises(NotFound, match="could not find the requested resource"):
        await rig.master.api.get(Identity.parse("admin"), wire.GetRequest(kind="CustomObject", name=f"{WIDGETS}/blue"))


async def test_a_name_says_which_definition_is_meant(rig: Rig) -> None:
    for name in ("blue", "/blue"):
        with pytest.raises(BadRequest, match=r"PLURAL.GROUP/NAME"):
            await rig.write(ops.delete(Key("CustomObject", "default", name)))
    await rig.create(definition())
    with pytest.raises(Invalid, match=r"metadata.name: is required"):
        await rig.write(ops.delete(Key("CustomObject", "default", f"{WIDGETS}/")))


async def test_versions_and_kinds(rig: Rig) -> None:
    crd = definition(versions=("v1", "v2", "v3"))
    crd.spec.versions[2].served = False
    await rig.create(crd)
    made = await make(rig, widget(version="v2"))
    assert made.apiVersion == "example.com/v1"
    with pytest.raises(NotFound, match='served as v1, v2, not as "v3"'):
        await rig.create(widget("b", version="v3"))
    with pytest.raises(NotFound, match="v4"):
        await rig.create(widget("b", version="v4"))
    with pytest.raises(BadRequest, match="the kind"):
        await rig.create(widget("b", kind="Gadget"))
    other = widget("b")
    other.apiVersion = "other.com/v1"
    with pytest.raises(BadRequest, match="the API version"):
        await rig.create(other)


async def test_a_status_that_is_apart(rig: Rig) -> None:
    await rig.create(definition())
    made = await make(rig, widget(status={"ready": True}))
    assert "status" not in seen(made)
    given = widget(spec={"size": 9}, status={"ready": True, "bogus": 1})
    shown = await rig.write(ops.update_status(given))
    assert seen(shown)["spec"] == {"size": 3, "colour": "red"}
    assert seen(shown)["status"] == {"ready": True}
    assert shown.metadata.generation == 1
    changed = await rig.write(ops.update(widget(spec={"size": 4}, status={"ready": False})))
    assert seen(changed)["status"] == {"ready": True}
    assert changed.metadata.generation == 2
    before = rig.revision
    await rig.write(ops.update_status(widget(status={"ready": True})))
    await rig.write(ops.update(widget(spec={"size": 4, "colour": "red"})))
    await rig.write(ops.patch(BLUE, {"spec": {"size": 4, "bogus": 2}}))
    assert rig.revision == before
    with pytest.raises(Invalid, match=r"status.ready"):
        await rig.write(ops.update_status(widget(status={"ready": "yes"})))
    patched = await rig.write(ops.patch(BLUE, {"status": {"phase": "Up"}}, status=True))
    assert seen(patched)["status"] == {"ready": True, "phase": "Up"}
    gone = await rig.write(ops.patch(BLUE, {"status": None}, status=True))
    assert "status" not in seen(gone)


async def test_a_status_in_another_version_leaves_the_rest_alone(rig: Rig) -> None:
    crd = definition(versions=("v1", "v2"))
    narrow = {"type": "object", "properties": {"status": {"type": "object", "properties": {"up": {"type": "boolean"}}}}}
    crd.spec.versions[1].schema.openAPIV3Schema.Raw = json.dumps(narrow).encode()
    await rig.create(crd)
    await make(rig, widget())
    shown = await rig.write(ops.update_status(widget(version="v2", status={"up": True, "ready": True})))
    assert seen(shown) == {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "spec": {"size": 3, "colour": "red"},
        "status": {"up": True},
    }


async def test_a_status_that_is_a_part(rig: Rig) -> None:
    await rig.create(definition(status=False))
    made = await make(rig, widget(status={"ready": True}))
    assert seen(made)["status"] == {"ready": True}
    changed = await rig.write(ops.patch(BLUE, {"status": {"ready": False}}))
    assert changed.metadata.generation == 2
    with pytest.raises(NotFound, match="no status subresource"):
        await rig.write(ops.update_status(widget(status={"ready": True})))


async def test_labels_do_not_count_as_a_generation(rig: Rig) -> None:
    await rig.create(definition())
    await make(rig, widget())
    changed = await rig.write(ops.patch(BLUE, {"metadata": {"labels": {"a": "b"}}}))
    assert changed.metadata.generation == 1
    assert changed.metadata.labels == {"a": "b"}


async def test_namespaces_are_as_the_scope_says(rig: Rig) -> None:
    await rig.create(definition())
    await rig.create(definition("clusters", "Ring", scope="Cluster"))
    made = await make(rig, widget(namespace=""))
    assert made.metadata.namespace == "default"
    ring = await make(rig, widget("one", namespace="", resource="clusters.example.com", kind="Ring"))
    assert ring.metadata.namespace == ""
    assert rig.master.store.get(custom_key("clusters.example.com", "", "one")) is not None
    with pytest.raises(Invalid, match="have no namespace"):
        await rig.create(widget("two", resource="clusters.example.com", kind="Ring"))
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await rig.create(widget(namespace="nowhere"))
    await rig.write(ops.delete(custom_key("clusters.example.com", "", "one")))


async def test_names_are_made_up(rig: Rig) -> None:
    await rig.create(definition())
    given = widget("")
    given.metadata.ClearField("name")
    given.metadata.generateName = "blue-"
    made = await make(rig, given)
    assert made.metadata.name.startswith("blue-")


async def test_conflicts_and_preconditions_are_called_by_their_resource(rig: Rig) -> None:
    await rig.create(definition())
    made = await make(rig, widget())
    stale = widget(spec={"size": 5}, metadata={"resourceVersion": "1"})
    with pytest.raises(Conflict, match=r'cannot be fulfilled on widgets.example.com "blue": the object has been mod'):
        await rig.write(ops.update(stale))
    with pytest.raises(Conflict, match="Precondition failed"):
        await rig.write(ops.delete(BLUE, uid="another"))
    await rig.write(ops.delete(BLUE, uid=made.metadata.uid))
    with pytest.raises(NotFound, match=r'^widgets.example.com "blue" not found$'):
        await rig.write(ops.delete(BLUE))


async def test_finalizers_hold_an_object_and_can_go_whatever_the_schema_says_by_now(rig: Rig) -> None:
    await rig.create(definition())
    await make(rig, widget(metadata={"finalizers": ["example.com/held"]}))
    stricter = definition()
    schema = json.loads(stricter.spec.versions[0].schema.openAPIV3Schema.Raw)
    schema["properties"]["spec"]["properties"]["size"]["minimum"] = 5
    stricter.spec.versions[0].schema.openAPIV3Schema.Raw = json.dumps(schema).encode()
    await rig.write(ops.update(stricter))
    marked = await rig.write(ops.delete(BLUE))
    assert marked.metadata.HasField("deletionTimestamp")
    with pytest.raises(Invalid, match=r"spec.size in body should be greater than or equal to 5"):
        await rig.write(ops.patch(BLUE, {"spec": {"size": 4}}))
    await rig.write(ops.patch(BLUE, {"metadata": {"finalizers": None}}))
    assert rig.find("CustomObject", f"{WIDGETS}/blue") is None


async def test_what_a_stricter_schema_would_refuse_by_now_stays_where_it_does_not_change(rig: Rig) -> None:
    await rig.create(definition())
    await make(rig, widget(spec={"size": 3}))
    stricter = definition()
    schema = json.loads(stricter.spec.versions[0].schema.openAPIV3Schema.Raw)
    fields = schema["properties"]["spec"]["properties"]
    fields["size"]["minimum"], fields["later"] = 5, {"type": "string", "default": "new"}
    stricter.spec.versions[0].schema.openAPIV3Schema.Raw = json.dumps(schema).encode()
    await rig.write(ops.update(stricter))
    await rig.write(ops.patch(BLUE, {"metadata": {"labels": {"a": "b"}}}))
    await rig.write(ops.patch(BLUE, {"spec": {"colour": "green"}}))
    await rig.write(ops.update_status(widget(status={"ready": True})))
    found = seen(rig.find("CustomObject", f"{WIDGETS}/blue"))
    assert found["spec"] == {"size": 3, "colour": "green", "later": "new"}
    assert found["status"] == {"ready": True}
    with pytest.raises(Invalid, match=r"spec.size in body should be greater than or equal to 5"):
        await rig.write(ops.patch(BLUE, {"spec": {"size": 4}}))


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        b'{"metadata":{}}',
        b'{"spec":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"spec":{"size":1e999}}',
        b"\xff",
    ],
)
async def test_content_that_is_none_is_refused(rig: Rig, content: bytes) -> None:
    await rig.create(definition())
    given = widget()
    given.content = content
    (found,) = await rig.try_write(ops.create(given))
    assert isinstance(found, Invalid), found


async def test_a_definition_that_ends_takes_in_nothing_new(rig: Rig) -> None:
    await rig.create(definition())
    await make(rig, widget())
    await rig.write(ops.delete(Key("CustomResourceDefinition", "", WIDGETS)))
    with pytest.raises(Forbidden, match="create not allowed while custom resource definition is terminating"):
        await rig.create(widget("green"))
    await rig.write(ops.update(widget(spec={"size": 4})))


async def test_lists_and_watches_go_by_the_definition(rig: Rig) -> None:
    await rig.create(definition())
    await rig.create(definition("gadgets", "Gadget"))
    await make(rig, widget())
    await make(rig, widget("red"))
    await make(rig, widget(resource="gadgets.example.com", kind="Gadget"))

    async def found(selector: str) -> list[str]:
        request = wire.ListRequest(kind="CustomObject", field_selector=selector)
        answer = wire.ListResponse.FromString(await rig.master.api.list(Identity.parse("admin"), request))
        return [f"{each.customobject.resource}/{each.customobject.metadata.name}" for each in answer.items]

    assert await found(f"resource={WIDGETS}") == [f"{WIDGETS}/blue", f"{WIDGETS}/red"]
    assert await found(f"resource={WIDGETS},metadata.name=red") == [f"{WIDGETS}/red"]
    assert await found("metadata.name=blue") == ["gadgets.example.com/blue", f"{WIDGETS}/blue"]
    assert len(await found("")) == 3


async def test_fields_that_the_definition_names_can_be_selected_by(rig: Rig) -> None:
    crd = definition()
    for path in (".spec.colour", ".spec.size", ".status.ready"):
        crd.spec.versions[0].selectableFields.add(jsonPath=path)
    await rig.create(crd)
    await rig.create(definition("gadgets", "Gadget"))
    await make(rig, widget())
    await make(rig, widget("green", {"size": 4, "colour": "green"}))
    await rig.write(ops.update_status(widget("green", status={"ready": True})))

    async def found(selector: str) -> list[str]:
        request = wire.ListRequest(kind="CustomObject", field_selector=selector)
        answer = wire.ListResponse.FromString(await rig.master.api.list(Identity.parse("admin"), request))
        return [each.customobject.metadata.name for each in answer.items]

    assert await found(f"resource={WIDGETS},spec.colour=green") == ["green"]
    assert await found(f"spec.colour!=green,resource=={WIDGETS}") == ["blue"]
    assert await found(f"resource={WIDGETS},spec.size=3") == ["blue"]
    assert await found(f"resource={WIDGETS},status.ready=true") == ["green"]
    assert await found("resource=nothing.example.com") == []
    for selector in ("spec.colour=red", "resource=gadgets.example.com,spec.colour=red", f"resource={WIDGETS},spec.x=1"):
        with pytest.raises(BadRequest, match="is not supported for CustomObject"):
            await found(selector)


async def test_a_watch_goes_by_the_definition_and_the_name(rig: Rig) -> None:
    await rig.create(definition())
    await rig.create(definition("gadgets", "Gadget"))

    async def told(selector: str, count: int) -> list[tuple[int, str, str]]:
        request = wire.WatchRequest(kind="CustomObject", field_selector=selector, initial_state=True)
        batches = rig.master.api.watch(Identity.parse("admin"), request)
        heard: list[tuple[int, str, str]] = []
        async with aclosing(batches):
            async for batch in batches:
                for event in wire.WatchBatch.FromString(batch).events:
                    obj = event.object.customobject
                    heard.append((event.type, obj.resource.partition(".")[0], obj.metadata.name))
                if len(heard) >= count:
                    return heard
        return heard

    names = ("blue", "red")
    selectors = {
        f"resource={WIDGETS}": ["blue", "red"],
        f"resource={WIDGETS},metadata.name=red": ["red"],
        "metadata.name=red": ["red", "red"],
    }
    tasks = [asyncio.ensure_future(told(selector, 1 + len(expected))) for selector, expected in selectors.items()]
    await asyncio.sleep(0)
    for name in names:
        await make(rig, widget(name))
        await make(rig, widget(name, resource="gadgets.example.com", kind="Gadget"))
    for task, expected in zip(tasks, selectors.values(), strict=True):
        heard = await asyncio.wait_for(task, 20)
        assert sorted(name for kind, _, name in heard if kind == wire.WatchEvent.ADDED) == expected


async def test_what_is_in_no_namespace_is_told_once(rig: Rig) -> None:
    await rig.create(definition("rings", "Ring", scope="Cluster"))

    def ring(**content: Any) -> core.CustomObject:
        return widget("one", namespace="", resource="rings.example.com", kind="Ring", **content)

    request = wire.WatchRequest(kind="CustomObject", field_selector="resource=rings.example.com", initial_state=True)
    heard: list[str] = []
    async with aclosing(rig.master.api.watch(Identity.parse("admin"), request)) as batches:
        async for batch in batches:
            heard += [wire.WatchEvent.Type.Name(event.type) for event in wire.WatchBatch.FromString(batch).events]
            if heard == ["INITIAL_STATE_END"]:
                await make(rig, ring())
                await rig.write(ops.update_status(ring(status={"ready": True})))
                await rig.write(ops.delete(custom_key("rings.example.com", "", "one")))
            if "DELETED" in heard:
                break
    assert heard == ["INITIAL_STATE_END", "ADDED", "MODIFIED", "DELETED"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_written_is_stored_as_the_schema_says_or_refused(rig: Rig, seed: int) -> None:
    dice = random.Random(seed)
    await rig.create(definition())
    await rig.create(definition("frees", "Free", status=False, schema=ANYTHING))
    keys = ("spec", "status", "size", "colour", "parts", "name", "free", "labels", "?", "metadata", "kind")

    def some(depth: int = 0) -> Any:
        what = dice.random()
        if depth > 4 or what < 0.5:
            return dice.choice([None, True, 1, -3, 2**63, 1.5, -0.0, "", "red", "a", "\0é", [], {}])
        if what < 0.7:
            return [some(depth + 1) for _ in range(dice.randrange(4))]
        return {dice.choice(keys): some(depth + 1) for _ in range(dice.randrange(5))}

    for _ in range(500):
        plural, kind = dice.choice([("widgets", "Widget"), ("frees", "Free")])
        obj = core.CustomObject(resource=f"{plural}.example.com", kind=kind, metadata=core.ObjectMeta(name="a"))
        content = some()
        if dice.random() < 0.7:
            content = {"spec": content}
        if dice.random() < 0.8:
            obj.content = json.dumps(content).encode()
        if dice.random() < 0.4:
            obj.status = json.dumps(some()).encode() if dice.random() < 0.8 else dice.randbytes(5)
        key = custom_key(obj.resource, "default", "a")
        patch = ops.patch(key, content if isinstance(content, dict) else {}, status=dice.random() < 0.3)
        operation = dice.choice([ops.create(obj), ops.update(obj), ops.update_status(obj), patch, ops.delete(key)])
        (found,) = await rig.try_write(operation)
        assert not isinstance(found, Internal), (found, operation)
        if isinstance(found, core.CustomObject):
            again = custom_from_json(object_to_json(found, exact=True), found.resource)
            assert (again.content, again.status) == (found.content, found.status), "it is in the form of equal values"


def test_a_master_without_definitions_loads_nothing_for_them() -> None:
    modules = ("jsonschema_rs", "re2", "cel_expr_python", "cluster.pb.cel.checked_pb2")
    code = f"import sys, cluster.master.server; print(not sys.modules.keys().isdisjoint({modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "False\n"


async def test_only_who_may_gets_at_them(rig: Rig) -> None:
    await rig.create(definition())
    for who in ("node:n1", "proxy", "scheduler", "kubernetes"):
        (found,) = await rig.try_write(ops.create(widget()), who=who)
        assert isinstance(found, Forbidden)
        (found,) = await rig.try_write(ops.delete(BLUE), who=who)
        assert isinstance(found, Forbidden)
    api = rig.master.api
    answer = await api.list(Identity.parse("kubernetes"), wire.ListRequest(kind="CustomResourceDefinition"))
    assert len(wire.ListResponse.FromString(answer).items) == 1
    with pytest.raises(ApiError):
        await api.list(Identity.parse("kubernetes"), wire.ListRequest(kind="CustomObject"))


async def test_who_answers_for_which_fields_is_told_by_the_schema(rig: Rig) -> None:
    await rig.create(definition())
    given = widget(spec={"size": 2, "parts": [{"name": "a"}]})
    given.metadata.managedFields.add(manager="one", operation="Apply", fieldsType="FieldsV1")
    given.metadata.managedFields[0].fieldsV1.Raw = b'{"f:spec":{"f:size":{}}}'
    made = await rig.write(ops.by_manager(ops.create(given), "one", applied=True))
    assert isinstance(made, core.CustomObject)
    content = json.loads(made.content)
    content["spec"]["parts"][0]["count"] = 5
    made.content = json.dumps(content).encode()
    changed = await rig.write(ops.update(made))
    found = {each.manager: json.loads(each.fieldsV1.Raw) for each in changed.metadata.managedFields}
    key = 'k:{"name":"a"}'
    assert found == {
        "one": {"f:spec": {"f:size": {}}},
        "podium": {"f:spec": {"f:parts": {key: {"f:count": {}}}}},
    }
    assert isinstance(changed, core.CustomObject)
    changed.status = b'{"phase":"New"}'
    reported = await rig.write(ops.by_manager(ops.update_status(changed), "operator"))
    (mine,) = [each for each in reported.metadata.managedFields if each.manager == "operator"]
    assert (mine.subresource, json.loads(mine.fieldsV1.Raw)) == ("status", {"f:status": {"f:phase": {}}})
    assert (await rig.write(ops.update(reported))) == reported, "nothing has changed"
