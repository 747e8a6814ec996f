"""What is wrong with definitions of kinds, in Kubernetes' words."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api import validation_schema
from cluster.api.caveats import caveats
from cluster.api.defaults import apply_defaults
from cluster.api.errors import Invalid
from cluster.api.json import object_from_json, object_to_json, read_object
from cluster.api.raw_json import pack
from cluster.api.schema_rules import Rules
from cluster.api.structural import subschemas
from cluster.api.validation import validate, validate_update
from cluster.api.validation_schema import unknown_keys
from cluster.pb.v1 import core_pb2 as core
from tests.kit.widgets import SCHEMA, definition

WHERE = "spec.versions[0].schema.openAPIV3Schema"


def problems(crd: core.CustomResourceDefinition) -> list[str]:
    apply_defaults(crd)
    return [str(problem) for problem in validate(crd)]


def of_schema(schema: Any) -> list[str]:
    """Problems of a schema, without the path that leads to it."""
    crd = definition()
    crd.spec.versions[0].schema.openAPIV3Schema.Raw = pack(schema)
    return [problem.removeprefix(WHERE).removeprefix(".") for problem in problems(crd)]


def field(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}}


def test_a_good_one_gets_its_defaults() -> None:
    crd = definition(shortNames=["wd"], categories=["all"])
    assert problems(crd) == []
    names = crd.spec.names
    assert (names.singular, names.listKind, crd.spec.conversion.strategy) == ("widget", "WidgetList", "None")
    assert object_from_json(object_to_json(crd)) == crd


def change(path: str, value: Any) -> Callable[[core.CustomResourceDefinition], None]:
    """Sets a field of the spec."""

    def apply(crd: core.CustomResourceDefinition) -> None:
        place: Any = crd.spec
        *steps, last = path.split(".")
        for step in steps:
            place = place[int(step)] if step.isdigit() else getattr(place, step)
        setattr(place, last, value)

    return apply


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("group", "", "spec.group: Required value"),
        ("group", "example", 'spec.group: Invalid value: "example": should be a domain with at least one dot'),
        ("group", "policy", "spec.group: Forbidden: policy is a group of the cluster's own kinds"),
        ("group", "podium.dev", "spec.group: Forbidden: podium.dev is a group of the cluster's own kinds"),
        ("group", "x.k8s.io", "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups"),
        (
            "names.plural",
            "gadgets",
            'metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."',
        ),
        ("names.plural", "", "spec.names.plural: Required value"),
        ("names.kind", "", "spec.names.kind: Required value"),
        ("names.kind", "A b", 'spec.names.kind: Invalid value: "A b": may have mixed case, but should otherwise match'),
        (
            "names.listKind",
            "Widget",
            'spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same',
        ),
        ("names.singular", "Widget", 'spec.names.singular: Invalid value: "Widget": a DNS-1035 label must consist'),
        ("scope", "", "spec.scope: Required value"),
        ("scope", "Global", 'spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"'),
        ("preserveUnknownFields", True, "spec.preserveUnknownFields: Invalid value: true: cannot set to true"),
        (
            "conversion.strategy",
            "Webhook",
            'spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None"',
        ),
        (
            "versions.0.storage",
            False,
            'spec.versions: Invalid value: "v1": must have exactly one version marked as storage',
        ),
        ("versions.0.name", "V1", 'spec.versions[0].name: Invalid value: "V1": a DNS-1035 label must consist'),
        ("versions.0.name", "", "spec.versions[0].name: Required value"),
        (
            "versions.0.deprecationWarning",
            "old",
            'spec.versions[0].deprecationWarning: Invalid value: "old": can only be',
        ),
    ],
)
def test_one_problem(path: str, value: Any, expected: str) -> None:
    crd = definition()
    change(path, value)(crd)
    assert any(found.startswith(expected) for found in problems(crd)), problems(crd)


def test_versions() -> None:
    crd = definition(versions=("v1", "v1"))
    assert 'spec.versions: Invalid value: "v1,v1": must contain unique version names' in problems(crd)
    del crd.spec.versions[:]
    assert problems(crd) == ["spec.versions: Required value: must have at least one version"]
    crd = definition()
    crd.spec.versions[0].ClearField("schema")
    assert problems(crd) == [f"{WHERE}: Required value: schemas are required"]
    crd.spec.versions[0].schema.openAPIV3Schema.Raw = b"{"
    assert problems(crd)[0].startswith(f"{WHERE}: Invalid value")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"name": "Size", "type": "integer", "jsonPath": ".spec.size"}, []),
        (
            {
                "name": "Up",
                "type": "string",
                "jsonPath": ".status.conditions[?(@.type=='Up')].status",
                "format": "name",
            },
            [],
        ),
        ({}, ["name: Required value", "type: Required value", "jsonPath: Required value"]),
        ({"name": "S", "type": "size", "jsonPath": ".spec"}, ['type: Unsupported value: "size"']),
        ({"name": "S", "type": "date", "jsonPath": ".spec", "format": "hex"}, ['format: Unsupported value: "hex"']),
        ({"name": "S", "type": "date", "jsonPath": "spec"}, ['jsonPath: Invalid value: "spec": must be a json path']),
    ],
)
def test_columns(column: dict[str, Any], expected: list[str]) -> None:
    crd = definition()
    crd.spec.versions[0].additionalPrinterColumns.add(**column)
    found = [problem.removeprefix("spec.versions[0].additionalPrinterColumns[0].") for problem in problems(crd)]
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


def test_scale() -> None:
    crd = definition()
    scale = crd.spec.versions[0].subresources.scale
    scale.SetInParent()
    where = "spec.versions[0].subresources.scale"
    assert problems(crd) == [f"{where}.specReplicasPath: Required value", f"{where}.statusReplicasPath: Required value"]
    scale.specReplicasPath, scale.statusReplicasPath, scale.labelSelectorPath = ".spec.size", ".status.a.b", ".status.s"
    assert problems(crd) == []
    scale.specReplicasPath, scale.statusReplicasPath = ".status.size", ".status.list[0]"
    assert [found.partition(": ")[2] for found in problems(crd)] == [
        'Invalid value: ".status.size": should be a json path under .spec',
        'Invalid value: ".status.list[0]": must be a simple json path without array notation',
    ]


def test_selectable_fields() -> None:
    crd = definition()
    fields = crd.spec.versions[0].selectableFields
    fields.add(jsonPath=".spec.colour")
    assert problems(crd) == []
    for path in ("", "spec.colour", ".metadata.name", ".spec.parts", ".spec.nothing", ".spec.colour"):
        fields.add(jsonPath=path)
    found = [problem.removeprefix("spec.versions[0].selectableFields") for problem in problems(crd)]
    assert found == [
        "[1].jsonPath: Required value",
        '[2].jsonPath: Invalid value: "spec.colour": must be a simple json path',
        '[3].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata',
        '[4].jsonPath: Invalid value: ".spec.parts": must point to a field of type string, boolean or integer',
        '[5].jsonPath: Invalid value: ".spec.nothing": must point to a field of type string, boolean or integer',
        '[6].jsonPath: Duplicate value: ".spec.colour"',
    ]


KEYED = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, []),
        (SCHEMA, []),
        ({}, ["type: Required value: must not be empty at the root"]),
        ({"type": "string"}, ['type: Invalid value: "string": must be object at the root']),
        ({"type": "object", "nullable": True}, ["nullable: Forbidden: nullable cannot be true at the root"]),
        ({"type": "object", "bogus": 1}, ["bogus: unknown field"]),
        ({"type": 3}, ['type: Invalid value: "the number 3": must be a string']),
        ([], ['Invalid value: "a list": must be a schema object']),
        (field(), ["properties[x].type: Required value: must not be empty for specified object fields"]),
        (field(type="text"), ['properties[x].type: Unsupported value: "text": supported values: "array", "boolean"']),
        (field(type="array"), ["properties[x].items: Required value: must be specified"]),
        (
            field(type="array", items={}),
            ["properties[x].items.type: Required value: must not be empty for specified array"],
        ),
        (
            field(type="array", items=[{"type": "string"}]),
            ["properties[x].items: Forbidden: items must be a schema object"],
        ),
        (field(**{"x-kubernetes-preserve-unknown-fields": True}), []),
        (
            field(**{"x-kubernetes-preserve-unknown-fields": False, "type": "object"}),
            ["properties[x].x-kubernetes-preserve"],
        ),
        (field(**{"x-kubernetes-int-or-string": True}), []),
        (
            field(**{"x-kubernetes-int-or-string": True, "type": "string"}),
            ["properties[x].type: Forbidden: must be empty if"],
        ),
        (
            field(
                **{
                    "x-kubernetes-int-or-string": True,
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                    "pattern": "a",
                }
            ),
            [],
        ),
        (
            field(type="object", additionalProperties=False),
            ["properties[x].additionalProperties: Forbidden: additionalProp"],
        ),
        (
            field(type="object", additionalProperties={"type": "string"}, properties={"a": {"type": "string"}}),
            ["properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
        ),
        (
            field(type="string", pattern="("),
            ['properties[x].pattern: Invalid value: "(": must be a valid regular expression'],
        ),
        (
            field(type="array", items={"type": "string"}, uniqueItems=True),
            ["properties[x].uniqueItems: Forbidden: uniqueItems"],
        ),
        ({"type": "object", "$ref": "#/x"}, ["$ref: Forbidden: $ref is not supported"]),
        ({"type": "object", "definitions": {"a": {}}}, ["definitions: Forbidden: definitions is not supported"]),
        (field(type="integer", multipleOf=0), ["properties[x].multipleOf: Invalid value: 0: must be greater than 0"]),
        (
            field(type="string", maxLength=-1),
            ["properties[x].maxLength: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            field(type="integer", minimum="3"),
            ['properties[x].minimum: Invalid value: "the string "3"": must be a number'],
        ),
        (
            field(type="integer", anyOf=[{"type": "integer"}]),
            ["properties[x].anyOf[0].type: Forbidden: must be empty to be"],
        ),
        (
            field(type="integer", anyOf=[{"minimum": 1}, {"default": 3}]),
            ["properties[x].anyOf[1].default: Forbidden: must be"],
        ),
        ({"type": "object", "anyOf": [{"required": ["x"]}]}, []),
        (
            {"type": "object", "anyOf": [{"properties": {"x": {"minimum": 1}}}]},
            ["properties[x]: Required value: because it is defined in"],
        ),
        (
            field(type="integer", default="a"),
            ['properties[x].default: Invalid value: "string": <nil> in body must be of type'],
        ),
        (
            field(type="object", default={"y": 1}),
            ["properties[x].default: Invalid value: \"{'y': 1}\": must not have unknown"],
        ),
        (
            field(type="object", default={"y": None}, properties={"y": {"type": "string"}}),
            ['properties[x].default.y: Invalid value: "null": y in body must be of type string'],
        ),
        (field(type="integer", default=3), []),
        ({"type": "object", "default": {}}, ["default: Forbidden: must not be set at the root"]),
        (field(**KEYED, items={"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}), []),
        (
            field(**KEYED, items={"type": "object", "properties": {"n": {"type": "string"}}}),
            ["properties[x].items.properties[n].default: Required value: this property is in"],
        ),
        (
            field(**KEYED, items={"type": "object"}),
            ['properties[x].x-kubernetes-list-map-keys: Invalid value: "n": entries must'],
        ),
        (
            field(type="array", items={"type": "string"}, **{"x-kubernetes-list-type": "bag"}),
            ['properties[x].x-kubernetes-list-type: Unsupported value: "bag"'],
        ),
        (
            field(type="string", **{"x-kubernetes-map-type": "atomic"}),
            ['properties[x].type: Invalid value: "string": must be object'],
        ),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}},
            },
            ["properties[metadata]: Forbidden: must not specify anything other than name and generateName"],
        ),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}},
            },
            [],
        ),
        (
            field(type="object", **{"x-kubernetes-embedded-resource": True}),
            ["properties[x].properties: Required value: must"],
        ),
    ],
)
def test_schemas(schema: Any, expected: list[str]) -> None:
    found = of_schema(schema)
    assert len(found) == len(expected), found
    assert all(one.lstrip(": ").startswith(start) for one, start in zip(found, expected, strict=True)), found


keys = st.sampled_from(
    [
        *("type", "properties", "items", "additionalProperties", "required", "enum", "anyOf", "not", "default"),
        *("nullable", "pattern", "minimum", "multipleOf", "format", "x", "spec"),
        *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "array", "string", "(", "map", "int32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(anything)
@settings(max_examples=300)
def test_any_json_is_a_schema_or_refused_as_none(schema: Any) -> None:
    assert isinstance(of_schema(schema), list)


def test_unknown_keys_of_a_schema_can_be_taken_out_instead() -> None:
    schema = {"type": "object", "bogus": 1, "properties": {"bogus": {"type": "string", "title2": "x"}}}
    schema["anyOf"] = [{"minimumm": 1}]
    assert unknown_keys(schema) == ["bogus", "properties[bogus].title2", "anyOf[0].minimumm"]
    assert of_schema(schema) == []


@pytest.mark.parametrize(
    "example", ["9" * 30, "[" * 300 + "]" * 300, "[" * 5000 + "]" * 5000, "NaN", "1e400", r'"\ud800"', "{"]
)
def test_a_schema_holds_what_can_be_shown_again(example: str) -> None:
    crd = definition()
    crd.spec.versions[0].schema.openAPIV3Schema.Raw = b'{"type":"object","example":%s}' % example.encode()
    (problem,) = problems(crd)
    assert problem.startswith(f'{WHERE}: Invalid value: "schema": ')


def test_webhooks_are_a_field_that_is_not_carried_out() -> None:
    data = object_to_json(definition())
    data["spec"]["conversion"] = {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}
    with pytest.raises(
        Invalid, match=r"spec.conversion.webhook: is a field of Kubernetes that Podium does not carry out"
    ):
        object_from_json(data)
    assert [path for path, _ in read_object(data).not_carried_out] == ["spec.conversion.webhook"]


def test_formats_that_ask_for_nothing_are_told_with_their_places() -> None:
    schema = deepcopy(SCHEMA)
    fields = schema["properties"]["spec"]["properties"]
    fields["note"]["format"] = "poem"
    crd = definition(schema=schema)
    assert problems(crd) == []
    assert caveats(crd) == [
        f"{WHERE}: unrecognized formats ask for nothing, at spec.note",
    ]
    assert caveats(definition()) == []


def test_a_column_that_will_not_be_there_is_told() -> None:
    crd = definition()
    crd.spec.versions[0].additionalPrinterColumns.add(name="Size", type="integer", jsonPath=".spec.size")
    crd.spec.versions[0].additionalPrinterColumns.add(name="Odd", type="string", jsonPath=".spec[?(size)]")
    assert problems(crd) == []
    (told,) = caveats(crd)
    where = f"spec.versions[0].additionalPrinterColumns[{len(crd.spec.versions[0].additionalPrinterColumns) - 1}]"
    assert told.startswith(f"{where}.jsonPath: is not understood, and the column is left out: ")


def test_what_an_update_may_not_change() -> None:
    old = definition()
    apply_defaults(old)
    old.status.conditions.add(type="Established", status="True")
    new = definition("widgets", "Gadget", scope="Cluster")
    apply_defaults(new)
    new.spec.group = "other.com"
    assert {str(each).partition(": ")[0] for each in validate_update(new, old)} == {
        "spec.scope",
        "spec.names.kind",
        "spec.group",
    }


def test_stored_versions_stay() -> None:
    crd = definition()
    crd.status.storedVersions.extend(["v1", "v0"])
    assert problems(crd) == ['status.storedVersions[1]: Invalid value: "v0": must appear in spec.versions']
    del crd.status.storedVersions[:]
    crd.status.storedVersions.append("v2")
    assert any("must have the storage version v1" in problem for problem in problems(crd))


def test_the_schema_is_kept_as_it_was_written() -> None:
    data = object_to_json(definition())
    assert data["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == SCHEMA
    assert json.loads(json.dumps(data)) == data


def test_defaults_at_every_level_take_time_as_the_schema_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = 0

    class Counted(Rules):
        def __init__(self, schema: Any, patterns: Any = None) -> None:
            nonlocal compiled
            compiled += len(subschemas(schema))
            super().__init__(schema, patterns)

    monkeypatch.setattr(validation_schema, "Rules", Counted)
    schema: dict[str, Any] = {"type": "integer", "default": 1}
    for level in range(28):
        others = {f"x{level}-{number}": {"type": "string"} for number in range(20)}
        schema = {"type": "object", "default": {}, "properties": {"n": schema, **others}}
    del schema["default"]
    assert of_schema(schema) == []
    assert compiled < 2 * len(subschemas(schema))
