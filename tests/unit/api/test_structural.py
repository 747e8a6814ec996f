"""What a schema takes out of an object and puts into it, and what it says is wrong."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.patterns import MAX_PATTERN_BYTES
from cluster.api.schema_rules import FEW_BYTES, MAX_INSTRUCTIONS, Patterns, Rules
from cluster.api.structural import MAX_PRUNED, asked_of, default, only_defaults, prune, subschemas
from tests.kit.widgets import SCHEMA

OBJECT = {"type": "object"}


def spec(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def wrong(schema: dict[str, Any], value: Any) -> list[str]:
    return [str(problem) for problem in Rules(schema).problems(value)]


def wrong_at(field: dict[str, Any], value: Any) -> list[str]:
    return wrong({"type": "object", "properties": {"x": field}}, {"x": value})


# --- pruning


@pytest.mark.parametrize(
    ("schema", "value", "kept", "pruned"),
    [
        (spec(), {"spec": {"a": 1}, "b": 2}, {"spec": {}}, ["spec.a", "b"]),
        (spec(), {"apiVersion": "x", "kind": "y", "metadata": {"z": 1}}, None, []),
        (
            spec(kind=OBJECT),
            {"spec": {"kind": {"a": 1}, "metadata": 1}},
            {"spec": {"kind": {}}},
            ["spec.kind.a", "spec.metadata"],
        ),
        (
            spec(l={"type": "array", "items": OBJECT}),
            {"spec": {"l": [{"a": 1}, 3]}},
            {"spec": {"l": [{}, 3]}},
            ["spec.l[0].a"],
        ),
        (
            spec(
                m={
                    "type": "object",
                    "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}},
                }
            ),
            {"spec": {"m": {"k": {"a": "", "b": 1}}}},
            {"spec": {"m": {"k": {"a": ""}}}},
            ["spec.m.k.b"],
        ),
        (spec(m={"type": "object", "additionalProperties": True}), {"spec": {"m": {"k": {"b": 1}}}}, None, []),
        (
            spec(p={"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"q": OBJECT}}),
            {"spec": {"p": {"free": {"a": 1}, "q": {"a": 1}}}},
            {"spec": {"p": {"free": {"a": 1}, "q": {}}}},
            ["spec.p.q.a"],
        ),
        (
            spec(e={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": OBJECT}}),
            {"spec": {"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"a": 1}, "x": 1}}},
            {"spec": {"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"a": 1}}}},
            ["spec.e.x"],
        ),
        (spec(), [1], None, []),
        (
            spec(
                s={"type": "string"},
                n={"type": "string", "nullable": True},
                d={"type": "string", "default": "x"},
                l={"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                m={"type": "object", "additionalProperties": {"type": "integer"}},
                p={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            ),
            {
                "spec": {
                    **dict.fromkeys("snd"),
                    "l": [{"a": None}, None],
                    "m": {"a": None, "b": 1},
                    "p": {"a": None},
                },
                "status": None,
            },
            {"spec": {"n": None, "d": None, "l": [{}, None], "m": {"b": 1}, "p": {"a": None}}},
            ["status"],
        ),
    ],
)
def test_what_is_unknown_goes(schema: dict[str, Any], value: Any, kept: Any, pruned: list[str]) -> None:
    expected = deepcopy(value) if kept is None else kept
    assert prune(value, schema) == pruned
    assert value == expected


def test_whole_numbers_are_whole_where_the_schema_wants_them() -> None:
    number, port = {"type": "number"}, {"x-kubernetes-int-or-string": True}
    schema = spec(i={"type": "integer"}, p=port, n=number, l={"type": "array", "items": {"type": "integer"}})
    value = {"spec": {"i": 3.0, "p": 80.0, "n": 3.0, "l": [1.0, 1.5, 1e300]}}
    assert prune(value, schema) == []
    assert json.dumps(value["spec"]) == '{"i": 3, "p": 80, "n": 3.0, "l": [1, 1.5, 1e+300]}'


def test_of_very_many_unknown_fields_some_are_told_and_all_go() -> None:
    value = {f"f{number}": 1 for number in range(MAX_PRUNED + 50)}
    assert len(prune(value, OBJECT)) == MAX_PRUNED
    assert value == {}


# --- defaults


def test_defaults_come_where_nothing_is() -> None:
    schema = spec(
        a={"type": "integer", "default": 1},
        n={"type": "string", "nullable": True, "default": "x"},
        o={"type": "object", "default": {}, "properties": {"deep": {"type": "boolean", "default": True}}},
        l={"type": "array", "items": {"type": "object", "properties": {"c": {"type": "integer", "default": 2}}}},
    )
    value: dict[str, Any] = {"spec": {"a": None, "n": None, "l": [{}, {"c": 5}]}}
    default(value, schema)
    assert value == {"spec": {"a": 1, "n": None, "o": {"deep": True}, "l": [{"c": 2}, {"c": 5}]}}
    absent: dict[str, Any] = {}
    default(absent, schema)
    assert absent == {}, "nothing is made for what is not there"


def test_a_default_is_nobodys_but_the_objects() -> None:
    schema = spec(o={"type": "object", "default": {"a": []}, "x-kubernetes-preserve-unknown-fields": True})
    one: dict[str, Any] = {"spec": {}}
    default(one, schema)
    one["spec"]["o"]["a"].append(1)
    two: dict[str, Any] = {"spec": {}}
    default(two, schema)
    assert two == {"spec": {"o": {"a": []}}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.floats(-5, 20) | st.sampled_from(["", "a", "red", "x1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "status", "size", "colour", "parts", "name", "count", "free", "labels", "ready", "?"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(json_values)
@settings(max_examples=300)
def test_a_second_time_changes_nothing(value: Any) -> None:
    prune(value, SCHEMA)
    default(value, SCHEMA)
    again = deepcopy(value)
    assert prune(again, SCHEMA) == []
    default(again, SCHEMA)
    assert again == value
    rules = Rules(SCHEMA)
    assert [str(each) for each in rules.problems(value)] == [str(each) for each in rules.problems(again)]


# --- rules


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ({"type": "integer"}, "1", 'x: Invalid value: "string": x in body must be of type integer: "string"'),
        ({"type": "integer"}, 1.0, None),
        ({"type": "integer"}, 1.5, 'x: Invalid value: "number": x in body must be of type integer: "number"'),
        ({"type": "integer"}, True, 'x: Invalid value: "boolean": x in body must be of type integer: "boolean"'),
        ({"type": "number"}, 1, None),
        ({"type": "string"}, None, 'x: Invalid value: "null": x in body must be of type string: "null"'),
        ({"type": "string", "nullable": True}, None, None),
        (
            {"type": "string", "nullable": True, "minLength": 2},
            "a",
            'x: Invalid value: "a": x in body should be at least 2 chars long',
        ),
        (
            {"type": "string", "nullable": True, "enum": ["a"]},
            None,
            'x: Unsupported value: null: supported values: "a"',
        ),
        ({"x-kubernetes-int-or-string": True}, 1, None),
        ({"x-kubernetes-int-or-string": True}, "1", None),
        (
            {"x-kubernetes-int-or-string": True},
            1.5,
            'x: Invalid value: "number": x in body must be of type integer,string: "number"',
        ),
        ({"type": "integer", "minimum": 3}, 2, "x: Invalid value: 2: x in body should be greater than or equal to 3"),
        (
            {"type": "integer", "minimum": 3, "exclusiveMinimum": True},
            3,
            "x: Invalid value: 3: x in body should be greater than 3",
        ),
        ({"type": "integer", "maximum": 3, "exclusiveMaximum": False}, 3, None),
        (
            {"type": "integer", "maximum": 3, "exclusiveMaximum": True},
            3,
            "x: Invalid value: 3: x in body should be less than 3",
        ),
        ({"type": "number", "multipleOf": 0.5}, 1.25, "x: Invalid value: 1.25: x in body should be a multiple of 0.5"),
        (
            {"type": "integer", "format": "int32"},
            2**31,
            "x: Invalid value: 2147483648: x in body should be less than or equal to 2147483647",
        ),
        ({"type": "string", "maxLength": 2}, "äöü", "x: Too long: may not be more than 2 bytes"),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'x: Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "string", "pattern": "^a+$"}, "b", "x: Invalid value: \"b\": x in body should match '^a+$'"),
        ({"type": "string", "pattern": "(?i)A[[:digit:]]"}, "xa1", None),
        (
            {"type": "string", "format": "ipv4"},
            "1.2.3",
            'x: Invalid value: "1.2.3": x in body must be of type ipv4: "1.2.3"',
        ),
        ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00Z", None),
        (
            {"type": "string", "format": "date-time"},
            "yesterday",
            'x: Invalid value: "yesterday": x in body must be of type date-time: "yesterday"',
        ),
        ({"type": "string", "format": "of-my-own"}, "anything", None),
        (
            {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
            [1, 2],
            "x: Too many: 2: must have at most 1 items",
        ),
        (
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            [],
            "x: Invalid value: []: x in body should have at least 1 items",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
            {"a": "", "b": ""},
            "x: Too many: 2: must have at most 1 items",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            {},
            "x: Invalid value: {}: x in body should have at least 1 properties",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"k": 1},
            'x.k: Invalid value: "integer": x.k in body must be of type string: "integer"',
        ),
        ({"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}}, {}, "x.y: Required value"),
        (
            {"type": "integer", "not": {"minimum": 3}},
            4,
            'x: Invalid value: "integer": "x" must not validate the schema (not)',
        ),
        (
            {"type": "integer", "anyOf": [{"minimum": 3}, {"maximum": 1}]},
            2,
            'x: Invalid value: "integer": "x" must validate at least one schema (anyOf)',
        ),
        (
            {"type": "integer", "oneOf": [{"minimum": 3}, {"minimum": 4}]},
            5,
            'x: Invalid value: "integer": "x" must validate one and only one schema (oneOf)',
        ),
        (
            {"type": "integer", "allOf": [{"minimum": 3}]},
            2,
            "x: Invalid value: 2: x in body should be greater than or equal to 3",
        ),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ["a", "b", "a"],
            'x[2]: Duplicate value: "a"',
        ),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["p", "q"],
                "items": {
                    "type": "object",
                    "properties": {"p": {"type": "string"}, "q": {"type": "string", "default": "T"}},
                },
            },
            [{"p": "a"}, {"p": "a", "q": "T"}, {"p": "a", "q": "U"}],
            'x[1]: Duplicate value: {"p":"a","q":"T"}',
        ),
    ],
)
def test_one_rule(field: dict[str, Any], value: Any, expected: str | None) -> None:
    assert wrong_at(field, value) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("ipv4", "127.0.0.1", "1.2.3.4.5"),
        ("ipv6", "::1", "127.0.0.1"),
        ("cidr", "10.0.0.1/8", "10.0.0.1"),
        ("mac", "00:1a:2B:3c:4d:5e", "00:1a"),
        ("uuid", "a8098c1a-f86e-11da-bd1a-00112444be1e", "a8098c1a"),
        ("uuid4", "025b0d74-00a2-4048-bf57-227c5111bb34", "a8098c1a-f86e-11da-bd1a-00112444be1e"),
        ("byte", "aGVsbG8=", "not base64!"),
        ("date", "2026-02-28", "2026-02-30"),
        ("datetime", "2026-01-01T00:00:00Z", "today"),
        ("duration", "1h15m30.5s", "soon"),
        ("duration", "3 days", "3"),
        ("duration", "90 minutes 5s", "10mn"),
        ("duration", "2hr30min", "1 parsec"),
        ("email", "a@example.com", "a@"),
        ("hostname", "a.example.com", "-a-"),
        ("uri", "https://example.com/a", "no uri"),
        ("hexcolor", "#FF00aa", "#FF"),
        ("rgbcolor", "rgb(1, 2,3)", "rgb(1)"),
        ("isbn", "978-0-321-75104-1", "12"),
        ("creditcard", "4111111111111111", "4111"),
        ("ssn", "111-22-3333", "1"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
    ],
)
def test_formats(form: str, good: str, bad: str) -> None:
    assert wrong_at({"type": "string", "format": form}, good) == []
    assert len(wrong_at({"type": "string", "format": form}, bad)) == 1
    assert wrong_at({"type": "string", "format": "password"}, bad) == []


def test_an_embedded_object_says_what_it_is() -> None:
    embedded = {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "x-kubernetes-preserve-unknown-fields": True,
    }
    schema = spec(one=embedded, many={"type": "array", "items": embedded})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}}, "spec": {"x": 1}}
    assert wrong(schema, {"spec": {"one": pod, "many": [pod, {**pod, "metadata": None}]}}) == []
    assert wrong(schema, {"spec": {"one": {"kind": 3}, "many": [pod, {**pod, "metadata": {"nam": 1}}]}}) == [
        "spec.one.apiVersion: Required value: must not be empty",
        "spec.one.kind: Invalid value: 3: must be a string",
        'spec.many[1].metadata.nam: unknown field; did you mean "name"?',
    ]
    assert wrong(schema, {"spec": {"one": {**pod, "metadata": 3}}}) == [
        "spec.one.metadata: must be an object, not the number 3"
    ]


def test_all_problems_are_told_at_once() -> None:
    bad = {
        "spec": {"size": 0, "colour": "pink", "parts": [{"name": "A"}, {}], "labels": {"a": 1}},
        "status": {"ready": 1},
    }
    assert sorted(problem.path for problem in Rules(SCHEMA).problems(bad)) == [
        "spec.colour",
        "spec.labels.a",
        "spec.parts[0].name",
        "spec.parts[1].name",
        "spec.size",
        "status.ready",
    ]


def test_of_a_huge_object_the_first_problem_is_told_and_soon() -> None:
    rules = Rules(spec(l={"type": "array", "items": {"type": "integer", "maximum": 1}}))
    many = {"spec": {"l": [5] * 300_000}}
    assert len(json.dumps(many)) > FEW_BYTES
    began = time.process_time()
    assert len(rules.problems(many)) == 1
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("text", ["(a+)+$", "(a|a)*b", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_no_pattern_takes_longer_than_its_text_is_long(text: str) -> None:
    began = time.process_time()
    assert not Patterns().compile(text)("a" * 200_000 + "!")
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "text", ["(", "a{2000}", "(?=a)", r"(a)\1", "((a{1,1000}){1,1000}){1,1000}", "x" * (MAX_PATTERN_BYTES + 1)]
)
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Patterns().compile(text)


@pytest.mark.parametrize("text", [r"\pL{{20}}{}", r"(\pL|\pN|\pS){{20}}{}"])
def test_the_patterns_of_a_schema_have_a_limit_together(text: str) -> None:
    patterns, refused = Patterns(), 0
    for number in range(2_000):  # without it, that takes the best part of a minute
        try:
            patterns.compile(text.format(number))
        except ValueError as error:
            refused += f"more than {MAX_INSTRUCTIONS} instructions" in str(error)
    assert refused > 1_000
    again = Patterns()
    for _ in range(2_000):
        again.compile(r"\pL{20}")  # one that stands in many places counts once


def test_patterns_and_texts_that_go_badly_together_are_refused_before_they_hold_anybody_up() -> None:
    slow = "((a{0,30}){0,30})b"
    schema = {"type": "object", "properties": {"a": {"type": "string", "allOf": [{"pattern": slow}] * 3}}}
    rules = Rules(schema)
    for text in ("a" * 1_000_000, "a" * 30_000):  # each alone would take some 60 s, and 3 s
        (problem,) = rules.problems({"a": text})
        assert (problem.path, "give the patterns fewer instructions" in problem.message) == ("", True)
    assert rules.problems({"a": "ab" * 100}) == [], "the next object has its own steps"
    assert all("should match" in problem.message for problem in rules.problems({"a": "aa"}))
    assert rules.problems({"a": "aa"})
    plain = Rules({"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-z0-9.-]*$"}})
    assert plain.problems({str(number): "a.b-c" * 100 for number in range(2_500)}) == []


def test_the_parts_of_a_schema() -> None:
    found = dict(subschemas(SCHEMA))
    assert set(found) >= {"", "spec", "spec.parts[*].name", "spec.labels.*", "status.ready"}
    assert found["spec.size"]["minimum"] == 1


# --- against a second reading of the rules


scalars = st.sampled_from(["string", "integer", "number", "boolean"])


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    kind = draw(st.sampled_from(["object", "array"]) | scalars) if depth else draw(scalars)
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema["nullable"] = True
    if kind == "object":
        names = draw(st.lists(st.sampled_from(["spec", "size", "name", "count"]), max_size=3, unique=True))
        schema["properties"] = {name: draw(schemas(depth=depth - 1)) for name in names}
        schema["required"] = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    elif kind == "array":
        schema["items"] = draw(schemas(depth=depth - 1))
        schema["maxItems"] = draw(st.integers(0, 3))
    elif kind in ("integer", "number"):
        schema["minimum"] = draw(st.integers(-5, 10))
        schema["exclusiveMinimum"] = draw(st.booleans())
    elif kind == "string":
        schema["maxLength"] = draw(st.integers(0, 3))
    return schema


def takes(schema: dict[str, Any], value: Any) -> bool:
    """The same rules once more, as plainly as one can write them."""
    kind = schema["type"]
    if value is None:
        return bool(schema.get("nullable"))
    if kind == "object":
        return (
            isinstance(value, dict)
            and all(name in value for name in schema["required"])
            and all(takes(inner, value[name]) for name, inner in schema["properties"].items() if name in value)
        )
    if kind == "array":
        return (
            isinstance(value, list)
            and len(value) <= schema["maxItems"]
            and all(takes(schema["items"], v) for v in value)
        )
    if kind == "string":
        return isinstance(value, str) and len(value) <= schema["maxLength"]
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind == "integer" and value != int(value)):
        return False
    return bool(value > schema["minimum"] if schema["exclusiveMinimum"] else value >= schema["minimum"])


@given(schemas(), json_values)
@settings(max_examples=400)
def test_the_rules_are_those_that_one_would_write_down(schema: dict[str, Any], value: Any) -> None:
    assert (not Rules(schema).problems(value)) == takes(schema, value)


@given(schemas(), json_values)
@settings(max_examples=400)
def test_what_is_asked_of_a_value_is_all_that_counts_for_it(schema: dict[str, Any], value: Any) -> None:
    assert Rules(asked_of(schema, [value])).problems(value) == Rules(schema).problems(value)


def test_of_a_schema_a_value_is_asked_what_it_has() -> None:
    port = {"type": "integer", "maximum": 9}
    schema = spec(
        size=port,
        ports={
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "properties": {"port": {"default": 1, **port}, "a": port, "b": port}},
        },
        labels={"type": "object", "additionalProperties": {"type": "object", "properties": {"c": port, "d": port}}},
    )
    value = {"spec": {"ports": [{"a": 1}, {"a": 20}], "labels": {"x": {"c": 20}}}}
    asked = dict(subschemas(asked_of(schema, [value])))
    assert set(asked) == {
        *("", "spec", "spec.ports", "spec.ports[*]", "spec.ports[*].port", "spec.ports[*].a"),
        *("spec.labels", "spec.labels.*", "spec.labels.*.c"),
    }
    assert wrong(asked[""], value) == wrong(schema, value)
    assert any("Duplicate value" in problem for problem in wrong(schema, value)), "by the default of their key"


@st.composite
def defaulting(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "nullable": draw(st.booleans())}
    if draw(st.booleans()):
        schema["x-kubernetes-embedded-resource"] = True
    if draw(st.booleans()):
        schema["default"] = draw(json_values)
    if depth and draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["spec", "size", "name", "kind"]), max_size=3, unique=True))
        schema["properties"] = {name: draw(defaulting(depth=depth - 1)) for name in names}
    for key in ("items", "additionalProperties"):
        if depth and draw(st.booleans()):
            schema[key] = draw(defaulting(depth=depth - 1))
    return schema


@given(defaulting(), json_values)
@settings(max_examples=400)
def test_defaults_need_only_a_part_of_the_schema(schema: dict[str, Any], value: Any) -> None:
    by_all, by_part, part = deepcopy(value), deepcopy(value), only_defaults(schema)
    changed = default(by_all, schema)
    assert changed is (repr(by_all) != repr(value)), "it says whether it changed anything"
    assert changed is (part is not None and default(by_part, part))
    assert repr(by_part) == repr(by_all)


def test_of_a_schema_without_defaults_nothing_is_needed() -> None:
    assert only_defaults(spec(a={"type": "integer"}, b={"type": "array", "items": OBJECT})) is None
    kept = only_defaults(spec(a={"type": "integer", "default": 1, "minimum": 0}, b=OBJECT))
    assert kept == {"properties": {"spec": {"properties": {"a": {"default": 1}}}}}
