"""Which definition manifests and words mean."""

from __future__ import annotations

import json
import random

import pytest

from cluster.api.errors import Invalid, Unavailable
from cluster.api.json import object_to_json
from cluster.api.kinds import BY_NAME
from cluster.api.manifest import read_manifests
from cluster.api.meta import key_of
from cluster.cli.session import defined_targets, known_targets, named, narrowed
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
    assert narrowed(kind, "") == f"resource={WIDGETS}"
    assert narrowed(kind, "metadata.name=a") == f"resource={WIDGETS},metadata.name=a"
    assert named(kind, f"{WIDGETS}/blue") == "widget.example.com/blue"


async def test_our_own_kinds_come_first(client: MemoryClient) -> None:
    assert known_targets(["service/a"]) == [(BY_NAME["Service"], "a")]
    found = await defined_targets(client, ["services.serving.example.com", "a", "b"])
    assert [(kind.plural, name) for kind, name in found] == [
        ("services.serving.example.com", "services.serving.example.com/a"),
        ("services.serving.example.com", "services.serving.example.com/b"),
    ]
    mixed = await defined_targets(client, ["service/a", "wd/b", "ring/c"])
    assert [(kind.plural, name) for kind, name in mixed] == [
        ("services", "a"),
        (WIDGETS, f"{WIDGETS}/b"),
        ("rings.example.com", "rings.example.com/c"),
    ]
    assert [kind.plural for kind, _ in await defined_targets(client, ["all,wd"])] == [
        "pods",
        "replicationcontrollers",
        "services",
        WIDGETS,
    ]


async def test_a_word_that_means_nothing(client: MemoryClient) -> None:
    assert known_targets(["gizmos"]) is None
    with pytest.raises(Invalid, match='there is no kind "gizmos"'):
        await defined_targets(client, ["wd,gizmos"])
