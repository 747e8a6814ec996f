"""Objects of kinds that users define, and free JSON, on their way to JSON and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.custom_json import APART, custom_content
from cluster.api.errors import Invalid
from cluster.api.json import (
    custom_from_json,
    message_from_json,
    object_from_json,
    object_to_json,
    patched,
    read_custom,
    read_json,
    to_json,
)
from cluster.api.meta import Key, called, custom_key, key_of, key_of_path, path_of, reference_to
from cluster.api.owners import owner_reference
from cluster.api.raw_json import LEAST, MAX_DEPTH, MOST, misfit, pack, unpack
from cluster.pb.v1 import core_pb2 as core

DATA: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "blue", "namespace": "team", "labels": {"a": "b"}},
    "data": [1, 1.0, "1", None, True],
    "spec": {"b": {"deep": []}, "a": -(2**63)},
    "status": {"ready": False},
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(LEAST, MOST) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=15,
)


def problems(data: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        custom_from_json(data, "widgets.example.com")
    return [str(cause) for cause in caught.value.causes]


def test_everything_but_metadata_is_as_it_was_written() -> None:
    obj = custom_from_json(DATA, "widgets.example.com")
    assert key_of(obj) == Key("CustomObject", "team", "widgets.example.com/blue")
    assert object_to_json(obj) == DATA
    assert [type(each) for each in object_to_json(obj)["data"]] == [int, float, str, type(None), bool]
    assert list(object_to_json(obj))[:3] == ["apiVersion", "kind", "metadata"]


@given(st.dictionaries(st.text(max_size=8), values, max_size=4), st.none() | values)
@settings(max_examples=200)
def test_any_json_survives(content: dict[str, Any], status: Any) -> None:
    data = {key: value for key, value in content.items() if key not in APART}
    whole = {"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "a"}, **data}
    if status is not None:
        whole["status"] = status
    obj = custom_from_json(read_json(json.dumps(whole)), "ws.e.com")
    shown = object_to_json(obj)
    assert shown == whole
    assert json.dumps(shown, sort_keys=True) == json.dumps(whole, sort_keys=True), "numbers are what they were"
    reordered = dict(reversed(whole.items()))
    assert custom_from_json(reordered, "ws.e.com").SerializeToString(deterministic=True) == obj.SerializeToString(
        deterministic=True
    ), "equal values are equal bytes"


@given(values)
@settings(max_examples=100)
def test_free_json_survives_in_a_message(value: Any) -> None:
    message = message_from_json(core.CustomResourceValidation, {"openAPIV3Schema": value})
    assert to_json(message).get("openAPIV3Schema") == value


def test_null_is_no_status_and_stays_in_the_content() -> None:
    obj = custom_from_json({**DATA, "status": None, "spec": None}, "widgets.example.com")
    assert not obj.HasField("status")
    assert custom_content(obj)["spec"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"spec": {"a": [2**64]}}, "spec.a[0]: must be a whole number of 64 bits"),
        ({"spec": {"a": LEAST - 1}}, "spec.a: must be a whole number of 64 bits"),
        ({"spec": float("inf")}, "spec: must be a number that has an end"),
        ({"spec": {"a": "\ud800"}}, "spec.a: holds half of a surrogate pair"),
        ({"spec": {"\ud800": 1}}, "spec: a key holds half of a surrogate pair"),
        ({"spec": {1: 2}}, "spec: the key 1 must be a string"),
        ({"status": {"at": float("nan")}}, "status.at: must be a number that has an end"),
        ({"kind": 3}, "kind: must be a string, not the number 3"),
        ({"metadata": {"nam": "x"}}, 'metadata.nam: unknown field; did you mean "name"?'),
        ({"metadata": 3}, "metadata: must be an object, not the number 3"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_path(change: dict[str, Any], expected: str) -> None:
    assert problems({**DATA, **change}) == [expected]


def test_depth_has_a_limit() -> None:
    deep: Any = "end"
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    assert problems({**DATA, "spec": deep}) == [f"spec: it is nested more than {MAX_DEPTH} levels deep"]
    assert misfit([[]]) is None


def test_unknown_metadata_is_told_to_who_wants_to_go_on() -> None:
    reading = read_custom({**DATA, "metadata": {"name": "a", "nam": 1}}, "widgets.example.com")
    assert [each.path for each in reading.unknown] == ["metadata.nam"]
    assert reading.object.metadata.name == "a"


def test_a_merge_patch_changes_what_it_names() -> None:
    obj = custom_from_json(DATA, "widgets.example.com")
    changed = patched(obj, {"spec": {"b": None, "c": 1.5}, "status": None, "metadata": {"labels": {"x": "y"}}})
    assert object_to_json(changed) == {
        **{key: value for key, value in DATA.items() if key != "status"},
        "metadata": {"name": "blue", "namespace": "team", "labels": {"a": "b", "x": "y"}},
        "spec": {"a": -(2**63), "c": 1.5},
    }
    assert changed.resource == "widgets.example.com"


def test_references_name_their_kind_and_not_how_they_are_kept() -> None:
    obj = custom_from_json(DATA, "widgets.example.com")
    about, owner = reference_to(obj), owner_reference(obj)
    assert (about.apiVersion, about.kind, about.namespace, about.name) == ("example.com/v1", "Widget", "team", "blue")
    assert (owner.apiVersion, owner.kind, owner.name) == ("example.com/v1", "Widget", "blue")
    key = key_of(obj)
    assert path_of(key) == "customobjects/team/widgets.example.com/blue"
    assert key_of_path(path_of(key)) == key
    outside = custom_key("rings.example.com", "", "one")
    assert key_of_path(path_of(outside)) == outside
    assert key_of_path("customobjects/a") is None
    assert called(key) == 'widgets.example.com "blue"'


def test_how_they_are_kept_is_no_kind_to_write() -> None:
    with pytest.raises(Invalid, match='kind "CustomObject" is not known'):
        object_from_json({"apiVersion": "podium.dev/v1", "kind": "CustomObject", "metadata": {"name": "a"}})


@pytest.mark.parametrize(
    "content", [b"[]", b"1", b'{"kind":"X"}', b'{"metadata":{}}', b'{"status":1}', b'{"apiVersion":1}']
)
def test_content_that_is_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="the content"):
        custom_content(core.CustomObject(content=content))


@given(values)
@settings(max_examples=100)
def test_packing_is_a_round_trip(value: Any) -> None:
    assert misfit(value) is None
    assert unpack(pack(value)) == value
    assert pack(unpack(pack(value))) == pack(value)
