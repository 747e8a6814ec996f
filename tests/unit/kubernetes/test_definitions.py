"""From definitions to what is served, and to what is said about it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.definitions import is_established
from cluster.api.errors import BadRequest, Internal, Invalid
from cluster.api.json import custom_from_json
from cluster.client.interface import EventType, WatchEvent
from cluster.kubernetes import discovery, openapi, scales
from cluster.kubernetes.catalog import OWN, Catalog
from cluster.kubernetes.definitions import is_decided, rows_of
from cluster.kubernetes.keeper import Keeper
from cluster.kubernetes.paths import NoSuchPath, parts_of, target_of
from cluster.pb.v1 import core_pb2 as core
from tests.kit.customs import established, version, widget
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.test_discovery import references


def test_a_row_for_each_served_version() -> None:
    unserved = version("v0", storage=False, served=False)
    beta = version(
        "v1beta1", storage=False, subresources={}, additionalPrinterColumns=[], deprecated=True, selectableFields=[]
    )
    crd = established(beta, unserved, version("v1", deprecated=True, deprecationWarning="use gadgets"))
    stable, old = rows_of(crd)
    assert (stable.version, old.version) == ("v1", "v1beta1")
    assert stable.kind.api_version == "example.com/v1"
    assert (stable.plural, stable.kind.field, stable.list_kind, stable.kind.short_names) == (
        *("widgets", "widget", "WidgetList"),
        ("wi",),
    )
    assert [part.name for part in stable.subresources] == ["scale", "status"]
    assert not old.subresources
    assert stable.custom is not None
    assert old.custom is not None
    assert (stable.custom.warning, old.custom.warning) == ("use gadgets", "example.com/v1beta1 Widget is deprecated")
    assert stable.custom.selectable == ("spec.color",)
    assert (stable.shape.apart, old.shape.apart) == (("status",), ())
    assert stable.key("default", "one") == ("CustomObject", "default", "widgets.example.com/one")
    assert stable.selector("", "metadata.name=x") == "resource=widgets.example.com,metadata.name=x"
    assert stable.stored_kind == "CustomObject"
    assert stable.selector("spec.color!=red,metadata.namespace=a").endswith(",spec.color!=red,metadata.namespace=a")
    for wrong in ("spec.size=3", "resource=gadgets.example.com", "spec.color=red,status.phase==x", "nothing"):
        with pytest.raises(BadRequest, match="field label not supported"):
            stable.selector(wrong)


def test_what_is_being_deleted_takes_nothing_new() -> None:
    crd = established()
    crd.metadata.deletionTimestamp.seconds = 1
    (row,) = rows_of(crd)
    assert "create" not in row.verbs
    assert "delete" in row.verbs


def test_when_a_definition_counts() -> None:
    crd = core.CustomResourceDefinition()
    assert not is_established(crd)
    assert not is_decided(crd)
    crd.status.conditions.add(type="NamesAccepted", status="False")
    assert not is_established(crd)
    assert is_decided(crd)
    assert is_established(established())


# --- the catalog, and what is said of it


def catalog(*crds: Any) -> Catalog:
    return Catalog(row for crd in crds or (established(),) for row in rows_of(crd))


def test_paths() -> None:
    found = catalog()
    target = target_of(parts_of("/apis/example.com/v1/namespaces/ns/widgets/one/scale"), found)
    assert (target.resource.kind.name, target.namespace, target.name, target.subresource) == (
        *("Widget", "ns", "one"),
        "scale",
    )
    assert target_of(parts_of("/api/v1/pods"), found).resource is target_of(parts_of("/api/v1/pods"), OWN).resource
    for path in (
        "/apis/example.com/v2/widgets",
        "/apis/example.com/v1/widgets/one",
        "/apis/example.com/v1/namespaces/ns/widgets/one/exec",
        "/apis/podium.dev/v1/customobjects",
    ):
        with pytest.raises(NoSuchPath):
            target_of(parts_of(path), found)
    wide = catalog(established(scope="Cluster"))
    assert target_of(parts_of("/apis/example.com/v1/widgets/one"), wide).name == "one"
    with pytest.raises(NoSuchPath):
        target_of(parts_of("/apis/example.com/v1/namespaces/ns/widgets/one"), wide)


def test_podiums_own_kinds_cannot_be_taken_away() -> None:
    found = catalog(established(group="policy", plural="poddisruptionbudgets"))
    assert found.by_path["policy", "v1", "poddisruptionbudgets"].custom is None
    assert found.group_versions == OWN.group_versions


def test_discovery() -> None:
    found = catalog(established(version("v1beta1", storage=False), version("v1")), established(plural="gadgets"))
    (group,) = [each for each in discovery.api_groups(found)["groups"] if each["name"] == "example.com"]
    assert [each["version"] for each in group["versions"]] == ["v1", "v1beta1"]
    assert group["preferredVersion"]["groupVersion"] == "example.com/v1"
    assert discovery.api_group(found, "example.com") == {"kind": "APIGroup", "apiVersion": "v1", **group}
    assert discovery.api_group(OWN, "example.com") is None
    classic = discovery.api_resources(found, "example.com", "v1")
    assert classic is not None
    assert [each["name"] for each in classic["resources"]] == [
        *("gadgets", "gadgets/scale", "gadgets/status", "widgets", "widgets/scale", "widgets/status")
    ]
    shown = classic["resources"][3]
    assert (shown["shortNames"], shown["categories"], shown["singularName"]) == (["wi"], ["all", "things"], "widget")
    assert shown["verbs"] == ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    whole = discovery.aggregated(found, False, "v2")
    (item,) = [each for each in whole["items"] if each["metadata"].get("name") == "example.com"]
    assert [each["version"] for each in item["versions"]] == ["v1", "v1beta1"]
    gadgets, widgets = item["versions"][0]["resources"]
    assert widgets["responseKind"] == {"group": "example.com", "version": "v1", "kind": "Widget"}
    assert [each["subresource"] for each in gadgets["subresources"]] == ["scale", "status"]
    assert "CustomObject" not in json.dumps(whole)


def test_openapi_has_the_schema_of_the_definition() -> None:
    found = catalog()
    index = json.loads(openapi.document(["v3"], "", found)[0])["paths"]
    name = "apis/example.com/v1"
    document = json.loads(openapi.document(["v3", *name.split("/")], "", found)[0])
    schemas = document["components"]["schemas"]
    assert {each.removeprefix("#/components/schemas/") for each in references(document)} <= set(schemas)
    schema = schemas["com.example.v1.Widget"]
    assert schema["x-kubernetes-group-version-kind"] == [{"group": "example.com", "version": "v1", "kind": "Widget"}]
    assert schema["properties"]["spec"]["properties"]["size"]["description"] == "How big it is."
    assert {"apiVersion", "kind", "metadata", "spec", "status"} == set(schema["properties"])
    patch = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    assert {"fieldValidation", "dryRun"} <= {each["name"] for each in patch["parameters"]}
    other = catalog(established(version("v1", schema={})))
    after = json.loads(openapi.document(["v3"], "", other)[0])["paths"]
    assert index[name] != after[name], "another schema has another hash"
    assert index["api/v1"] == after["api/v1"], "and nothing else changes"
    assert openapi.document(["v3", "api", "v1"], "", found)[0] is openapi.document(["v3", "api", "v1"], "", OWN)[0]
    with pytest.raises(NoSuchPath):
        openapi.document(["v3", "apis", "example.com", "v1"], "", OWN)


def test_the_second_version_of_openapi() -> None:
    spec = {"type": "object", "properties": {"not": {"type": "string", "nullable": True}}, "anyOf": [{"x": 1}]}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    found = catalog(established(version("v1", schema=schema)))
    document = json.loads(openapi.document(["v2"], "", found)[0])
    assert {each.removeprefix("#/definitions/") for each in references(document)} <= set(document["definitions"])
    given = document["definitions"]["com.example.v1.Widget"]["properties"]["spec"]
    assert given == {"type": "object", "properties": {"not": {"type": "string"}}}
    proto, _ = openapi.document(["v2"], openapi.V2_PROTOBUF, found)
    assert b"/apis/example.com/v1/namespaces/{namespace}/widgets/{name}" in proto
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names))


# --- scale


def test_a_scale_by_paths() -> None:
    (row,) = rows_of(established())
    obj = custom_from_json({**widget(replicas=3), "status": {"replicas": 2, "selector": "a=b"}}, "widgets.example.com")
    shown = scales.scale_of(obj, row)
    assert (shown["spec"], shown["status"]) == ({"replicas": 3}, {"replicas": 2, "selector": "a=b"})
    with pytest.raises(Internal, match=r'the spec replicas field "\.spec\.replicas" does not exist'):
        scales.scale_of(custom_from_json(widget(), "widgets.example.com"), row)
    data = widget()
    assert scales.with_replicas(data, row, 5)["spec"] == {"size": 3, "replicas": 5}
    assert data["spec"] == {"size": 3}
    assert scales.with_replicas({"kind": "Widget"}, row, 5)["spec"] == {"replicas": 5}
    with pytest.raises(Invalid, match="not an object"):
        scales.with_replicas({"spec": 3}, row, 5)


# --- the keeper


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(MemoryCluster().client("kubernetes"), SystemClock(), random.Random(1))


def event(type: EventType, crd: core.CustomResourceDefinition) -> WatchEvent[core.CustomResourceDefinition]:
    return WatchEvent(type, int(crd.metadata.resourceVersion), crd)


def test_a_catalog_for_each_change_and_for_nothing_else(keeper: Keeper) -> None:
    told: list[Catalog] = []
    keeper.on_change.append(told.append)
    assert keeper.current is OWN
    keeper.replace([established()], 7)
    assert keeper.is_synced
    assert len(told) == 1
    first = keeper.current
    assert ("example.com", "v1") in first.group_versions
    again = established(number=8)
    again.metadata.labels["a"] = "b"
    keeper.apply([event(EventType.MODIFIED, again)], 8)
    assert keeper.current is first, "nothing that is served has changed"
    keeper.apply([event(EventType.MODIFIED, established(version("v2"), number=9))], 9)
    assert [row.version for row in keeper.current.rows if row.custom] == ["v2"]
    keeper.apply([event(EventType.DELETED, established(number=10))], 10)
    assert keeper.current.rows == OWN.rows
    keeper.replace([established(number=11)], 11)
    keeper.replace([established(number=11)], 11)
    assert len(told) == 4
    unaccepted = established(plural="gadgets", number=12)
    unaccepted.status.conditions[1].status = "False"
    keeper.apply([event(EventType.ADDED, unaccepted)], 12)
    assert len(told) == 4


async def test_who_writes_a_definition_waits_for_what_follows(keeper: Keeper) -> None:
    crd = established(number=7)
    waiting = asyncio.ensure_future(keeper.settled(crd))
    await asyncio.sleep(0)
    keeper.replace([], 6)
    await asyncio.sleep(0)
    assert not waiting.done()
    undecided = established(number=7)
    del undecided.status.conditions[:]
    keeper.apply([event(EventType.ADDED, undecided)], 7)
    await asyncio.sleep(0)
    assert not waiting.done()
    keeper.apply([event(EventType.MODIFIED, established(number=8))], 8)
    await asyncio.wait_for(waiting, 20)
    await keeper.settled(established(number=8))
    gone = asyncio.ensure_future(keeper.settled(established(number=8), deleted=True))
    await asyncio.sleep(0)
    assert not gone.done()
    keeper.apply([event(EventType.DELETED, established(number=9))], 9)
    await asyncio.wait_for(gone, 20)
    await keeper.settled(established(number=8))  # it is gone again: nothing more follows
    await keeper.settled(established(number=100), timeout_s=0.01)  # and who waits in vain does not wait for ever
