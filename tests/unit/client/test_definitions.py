"""Which definition manifests and words mean."""

from __future__ import annotations

import json
import random

import pytest

from cluster.api.errors import Invalid, Unavailable
from cluster.api.json import object_to_json
from cluster.api.manifest import read_manifests
from cluster.api.meta import key_of
from cluster.client.definitions import find_definitions, kinds_of_words
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster
from tests.kit.widgets import WIDGETS, definition, widget

POD = (
    '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, '
    '"spec": {"containers": [{"name": "c", "command": ["a"]}]}}'
)
RING = '{"apiVersion": "example.com/v1", "kind": "Ring", "metadata": {"name": "one"}, "spec": {"size": 1}}'


@pytest.fixture
def client() -> MemoryClient:
    cluster = MemoryCluster(clock=VirtualClock(), rng=random.Random(1))
    cluster.put(definition(shortNames=["wd"], singular="widget"))
    cluster.put(definition("rings", "Ring", scope="Cluster", singular="ring"))
    cluster.put(definition("services", "Service", group="serving.example.com", singular="service"))
    return cluster.client("test")


def text(*objects: core.CustomObject | core.CustomResourceDefinition | str) -> str:
    return "\n---\n".join(one if isinstance(one, str) else json.dumps(object_to_json(one)) for one in objects)


async def test_manifests_get_their_definition_and_its_namespace(client: MemoryClient) -> None:
    service = widget(namespace="", resource="services.serving.example.com", kind="Service")
    manifests = read_manifests(text(widget(namespace=""), RING, POD, service), "a.yaml")
    found = await find_definitions(client, manifests, "team")
    assert [str(key_of(each.object)) for each in found] == [
        f"CustomObject/team/{WIDGETS}/blue",
        "CustomObject/rings.example.com/one",
        "Pod/p",
        "CustomObject/team/services.serving.example.com/blue",
    ]
    assert [each.line for each in found] == [each.line for each in manifests]


async def test_a_definition_that_comes_along_goes_first_and_counts(client: MemoryClient) -> None:
    gadget = widget(namespace="other", resource="gadgets.example.com", kind="Gadget")
    manifests = read_manifests(text(POD, gadget, definition("gadgets", "Gadget")), "a.yaml")
    found = await find_definitions(client, manifests, "team")
    assert [str(key_of(each.object)) for each in found] == [
        "CustomResourceDefinition/gadgets.example.com",
        "Pod/p",
        "CustomObject/other/gadgets.example.com/blue",
    ]


async def test_what_nobody_defined_and_what_no_schema_knows_is_told_with_its_line(client: MemoryClient) -> None:
    strange = widget(kind="Gadget")
    wrong = widget(spec={"size": 1, "bogus": 1, "parts": [{"name": "a", "x": 1}]})
    with pytest.raises(Invalid) as caught:
        await find_definitions(client, read_manifests(text(strange, widget(version="v9"), wrong), "a.yaml"), "team")
    assert [str(cause) for cause in caught.value.causes] == [
        'a.yaml:1: kind: no matches for kind "Gadget" in version "example.com/v1": nobody has defined it',
        'a.yaml:3: kind: no matches for kind "Widget" in version "example.com/v9": nobody has defined it',
        "a.yaml:5: spec.bogus: unknown field",
        "a.yaml:5: spec.parts[0].x: unknown field",
    ]


async def test_without_such_manifests_nobody_is_asked() -> None:
    cluster = MemoryCluster(clock=VirtualClock(), rng=random.Random(1))
    cluster.fail_next(Unavailable("asked"))
    manifests = read_manifests(POD, "a.yaml")
    assert await find_definitions(cluster.client("test"), manifests, "team") == manifests


@pytest.mark.parametrize("word", ["widgets", "widget", "wd", "Widget", WIDGETS, "widget.example.com"])
async def test_words(client: MemoryClient, word: str) -> None:
    rows = await kinds_of_words(client, [word, "nothing"])
    assert list(rows) == [word]
    kind = rows[word]
    assert (kind.plural, kind.field, kind.namespaced) == (WIDGETS, "widget.example.com", True)
