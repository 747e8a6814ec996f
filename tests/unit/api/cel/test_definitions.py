"""What is wrong with the rules of a definition, in Kubernetes' words."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.caveats import caveats
from cluster.api.cel.definitions import MAX_RULES, MAX_RULES_BYTES
from cluster.api.cel.types import MAX_FIELDS
from cluster.api.defaults import apply_defaults
from cluster.api.raw_json import pack
from cluster.api.structural import RULES
from cluster.api.validation import validate
from cluster.api.validation_schema import unknown_keys
from tests.kit.widgets import definition
from tests.unit.api.cel.rules import TEXT, WHOLE, Schema, by_key, fields, many, problem_of, with_rules

WHERE = "spec.versions[0].schema.openAPIV3Schema"
REASONS = ", ".join(f'"FieldValue{one}"' for one in ("Duplicate", "Forbidden", "Invalid", "Required"))
WORDS = "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared"
ADVICE = f"(try simplifying the rule, or {WORDS})"
SPEC = f"{WHERE}.properties[spec].{RULES}[0]"


def wrong(schema: Schema) -> list[str]:
    crd = definition()
    crd.spec.versions[0].schema.openAPIV3Schema.Raw = pack(schema)
    del crd.spec.versions[0].selectableFields[:]
    apply_defaults(crd)
    return [str(problem) for problem in validate(crd)]


def of_rule(rule: Any, **properties: Schema) -> list[str]:
    spec = fields(x=WHOLE, s=TEXT, m=by_key(fields(y=WHOLE)), **properties)
    return wrong(fields(spec={**spec, RULES: [rule]}))


def test_rules_that_are_fine() -> None:
    assert of_rule({"rule": "self.x > 1"}) == []
    assert of_rule({"rule": "self.x > 1 &&\nself.x < 3", "message": "between", "reason": "FieldValueForbidden"}) == []
    assert of_rule({"rule": "self == oldSelf", "messageExpression": "'was ' + string(oldSelf.x)"}) == []
    assert of_rule({"rule": "!oldSelf.hasValue() || self.x == 1", "optionalOldSelf": True}) == []
    crd = definition(schema=fields(spec=with_rules(fields(x=WHOLE), "self.x > 1")))
    assert caveats(crd) == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, ".rule: Required value: rule is not specified"),
        ({"rule": "  "}, ".rule: Required value: rule is not specified"),
        ({"rule": "true", "message": " "}, '.message: Invalid value: " ": message must be non-empty if specified'),
        ({"rule": "true", "message": "a\nb"}, '.message: Invalid value: "a\nb": message must not contain line breaks'),
        (
            {"rule": "true", "message": "a" * 2049},
            '.message: Invalid value: "aaaaaaaaaa...": message must have a maximum length of 2048 characters',
        ),
        ({"rule": "true\n"}, ""),
        (
            {"rule": "true &&\ntrue"},
            ".message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            {"rule": "true", "messageExpression": " "},
            ".messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            {"rule": "true", "reason": "Why"},
            f'.reason: Unsupported value: "Why": supported values: {REASONS}',
        ),
        ({"rule": "true", "fieldPath": ".x"}, ""),
        ({"rule": "true", "fieldPath": ".m.a.y"}, ""),
        ({"rule": "true", "fieldPath": ".m['a.b'].y"}, ""),
        (
            {"rule": "true", "fieldPath": " "},
            '.fieldPath: Invalid value: " ": fieldPath must be non-empty if specified',
        ),
        (
            {"rule": "true", "fieldPath": ".nope"},
            '.fieldPath: Invalid value: ".nope": fieldPath must be a valid path: does not refer to a valid field',
        ),
        (
            {"rule": "true", "fieldPath": "x"},
            '.fieldPath: Invalid value: "x": fieldPath must be a valid path: expected [ or . but got: x',
        ),
        ({"rule": 3}, ".rule: must be a string, not the number 3"),
        ({"rule": "true", "rules": "x"}, ".rules: unknown field"),
        ({"rule": "true", "optionalOldSelf": "yes"}, ".optionalOldSelf: must be true or false, not "),
        ("true", ": must be an object, not "),
    ],
)
def test_how_a_rule_is_written(rule: Any, expected: str) -> None:
    problems = of_rule(rule)
    if not expected:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problems[0].startswith(f"{SPEC}{expected}"), problems


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("self.nope == 1", "compilation failed: ERROR: <input>:1:5: undefined field 'nope' not found in struct"),
        ("has(self.nope)", "compilation failed: ERROR: <input>:1:4: undefined field 'nope'"),
        ("self.m.all(k, self.m[k].z == 1)", "compilation failed: ERROR: <input>:1:24: undefined field 'z'"),
        ("self.x == 'a'", "compilation failed: ERROR: <input>:1:8: found no matching overload for '_==_'"),
        ("self.x", "cel expression must evaluate to a bool"),
        ("optional.of(true)", "cel expression must evaluate to a bool"),
        ("null", "cel expression must evaluate to a bool"),
        ("self.x >", "compilation failed: ERROR: <input>:1:9: Syntax error"),
        ("self.s.sorted()", "compilation failed: ERROR: <input>:1:14: undeclared reference to 'sorted'"),
        ("math.ceil(1.5) == 2.0", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'math'"),
        ("lists.range(3) == [0]", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'lists'"),
        ("object.x == 1", "compilation failed: ERROR: <input>:1:7: undeclared reference to 'object.x'"),
        (
            "quantity('1').major() == 1",
            "compilation failed: ERROR: <input>:1:20: found no matching overload for 'major'",
        ),
        ("schema.Object0{x: 1} == self", "compilation failed: undeclared reference to 'schema.Object0'"),
        ("self.s.matches('(')", "compilation failed: invalid regular expression: missing ): ("),
        (r"self.s.matches('((\\pL{30}){30})')", "compilation failed: "),
        ("duration('soon') == duration('1s')", "compilation failed: invalid duration literal 'soon'"),
        ("timestamp('today') == timestamp('x')", "compilation failed: invalid timestamp literal 'today'"),
        ("!oldSelf.hasValue()", "compilation failed: ERROR: <input>:1:18: found no matching overload for 'hasValue'"),
        ("(" * 40 + "true" + ")" * 40, "compilation failed: expression recursion limit exceeded: 32"),
    ],
)
def test_a_rule_that_is_none(rule: str, expected: str) -> None:
    (problem,) = of_rule({"rule": rule})
    shown = rule if len(rule) <= 120 else f"{rule[:117]}..."
    assert problem.startswith(f'{SPEC}.rule: Invalid value: "{shown}": {expected}')


def test_a_message_must_be_a_text() -> None:
    (problem,) = of_rule({"rule": "true", "messageExpression": "self.x"})
    assert problem.startswith(f"{SPEC}.messageExpression: Invalid value: ")
    assert problem.endswith("messageExpression must evaluate to a string")
    (problem,) = of_rule({"rule": "true", "messageExpression": "self.nope"})
    assert "undefined field 'nope'" in problem


def test_rules_where_nobody_knows_what_is_there() -> None:
    schema = fields(x={"x-kubernetes-preserve-unknown-fields": True, RULES: [{"rule": "true"}]})
    (problem,) = wrong(schema)
    assert "rules are not supported where the schema does not say what is there" in problem
    assert "undefined field 'x'" in problem_of(schema, "has(self.x)")


@pytest.mark.parametrize("word", ["anyOf", "oneOf", "not"])
def test_alternatives_have_no_rules(word: str) -> None:
    inner = with_rules({}, "self.x > 1")
    schema = fields(spec=fields(x=WHOLE) | {word: inner if word == "not" else [inner]})
    step = word if word == "not" else f"{word}[0]"
    assert wrong(schema) == [f"{WHERE}.properties[spec].{step}.{RULES}: Forbidden: must be empty to be structural"]
    assert wrong(fields(spec=fields(x=WHOLE) | {"allOf": [inner]})) == []
    (problem,) = wrong(fields(spec=fields(x=WHOLE) | {"allOf": [with_rules({}, "self.y > 1")]}))
    assert problem.startswith(f"{WHERE}.properties[spec].allOf[0].{RULES}[0].rule: Invalid value: ")


def test_unknown_keys_of_rules_can_be_taken_out_instead() -> None:
    schema = fields(x=with_rules(WHOLE, {"rule": "self > 1", "rules": "x"})) | {RULES: [{"bogus": 1}, 3]}
    assert unknown_keys(schema) == [f"{RULES}[0].bogus", f"properties[x].{RULES}[0].rules"]


# --- what was there before


@pytest.mark.parametrize(
    ("schema", "within"),
    [
        (many(with_rules(WHOLE, "self == oldSelf")), ".properties[x]"),
        (many(with_rules(WHOLE, "self == oldSelf"), **{"x-kubernetes-list-type": "set"}), ".properties[x]"),
        (many(fields(y=many(with_rules(TEXT, "oldSelf == ''"))), maxItems=3), ".properties[x]"),
        (fields(y=with_rules(WHOLE, "self == oldSelf")) | {"x-kubernetes-map-type": "atomic"}, ".properties[x]"),
        (by_key(many(with_rules(WHOLE, "self > oldSelf"))), ".properties[x].additionalProperties"),
    ],
)
def test_transition_rules_where_nobody_knows_what_was_there(schema: Schema, within: str) -> None:
    (problem,) = wrong(fields(x=schema))
    why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {WHERE}{within}"
    assert problem.endswith(why)


def test_transition_rules_where_it_is_known() -> None:
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    item = fields(name=TEXT, v=with_rules(WHOLE, "self == oldSelf")) | {"required": ["name"]}
    assert wrong(fields(x=many(item, **keys), m=by_key(with_rules(WHOLE, "self == oldSelf")))) == []
    assert wrong(fields(x=with_rules(many(WHOLE, maxItems=5), "self.all(a, a in oldSelf)"))) == []
    assert of_rule({"rule": "self.x == 1", "optionalOldSelf": True}) == [
        f"{SPEC}.optionalOldSelf: Invalid value: true: may not be set unless oldSelf is used in rule"
    ]


# --- what rules cost


def test_a_rule_that_may_cost_too_much() -> None:
    loops = "self.all(a, self.all(b, a == b || a != b))"
    rule = f"{WHERE}.properties[x].{RULES}[0].rule"
    total = f"{RULES} estimated rule cost total for entire OpenAPIv3 schema"
    why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    assert wrong(fields(x=with_rules(many(WHOLE), loops))) == [
        f"{rule}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {ADVICE}",
        f"{WHERE}: Forbidden: {total} exceeds budget by factor of more than 100x {ADVICE}",
        f"{rule}: Forbidden: {why}",
    ]
    assert wrong(fields(x=with_rules(many(WHOLE, maxItems=1000), loops))) == []
    (problem,) = wrong(fields(x=with_rules(many(WHOLE, maxItems=1500), loops)))
    assert "exceeds budget by factor of 1.6x" in problem


def test_a_rule_counts_as_often_as_there_may_be_values() -> None:
    item = with_rules(TEXT, "self.contains('x')")
    (problem,) = wrong(fields(x=many(item, maxItems=33)))
    assert "estimated rule cost exceeds budget by factor of 1.038094x" in problem
    assert wrong(fields(x=many(item, maxItems=31))) == []
    assert wrong(fields(x=many(with_rules(WHOLE, "self > 0")))) == []
    (problem, *_) = wrong(fields(x=many(many(with_rules(WHOLE, "self in [1, 2, 3]")))))
    assert "estimated rule cost exceeds budget" in problem


def test_all_rules_together_may_cost_too_much() -> None:
    dear = {
        f"x{number}": with_rules(many(WHOLE, maxItems=1000), "self.all(a, self.exists(b, b == a))")
        for number in range(20)
    }
    (total, *contributed) = wrong(fields(**dear))
    assert total.startswith(f"{WHERE}: Forbidden: x-kubernetes-validations estimated rule cost total")
    assert len(contributed) == 4
    assert all("contributed to estimated rule cost total" in problem for problem in contributed)


def test_the_number_of_rules_is_limited() -> None:
    def of(count: int, rule: str = "true", versions: tuple[str, ...] = ("v1",)) -> list[str]:
        crd = definition(versions=versions)
        for version in crd.spec.versions:
            version.schema.openAPIV3Schema.Raw = pack(fields(x=with_rules(WHOLE, *[rule] * count)))
        apply_defaults(crd)
        return [str(problem) for problem in validate(crd)]

    assert of(20) == []
    why = f"must have at most {MAX_RULES} expressions in {RULES}"
    assert of(MAX_RULES + 1) == [f"spec.versions: Invalid value: {MAX_RULES + 1}: {why}"]
    assert of(MAX_RULES // 2 + 1, versions=("v1", "v2")) == [f"spec.versions: Invalid value: {MAX_RULES + 2}: {why}"]
    (problem,) = of(1, "self > 1" + " " * MAX_RULES_BYTES)
    assert problem.endswith(f"must have at most {MAX_RULES_BYTES} bytes in {RULES}")


def test_the_fields_that_rules_can_look_into_are_limited() -> None:
    """Without it, a definition of 8 KiB took 16 s: each of 25 levels had the types of all that is below."""
    names = [chr(ord("a") + number) for number in range(17)]
    schema = fields(x=WHOLE)
    for _ in range(3):
        schema = fields(**dict.fromkeys(names, schema))
    for _ in range(25):
        schema = with_rules(fields(n=schema), f"has(self.n) && {names}.size() > 0")
    began = time.process_time()
    problems = wrong(schema)
    assert any(f"rules of a schema can look into at most {MAX_FIELDS} fields" in problem for problem in problems)
    assert time.process_time() - began < 20


# --- defaults


def test_defaults_keep_the_rules() -> None:
    x = with_rules(WHOLE, "self > 1")
    assert wrong(fields(spec=fields(x={**x, "default": 2}))) == []
    assert wrong(fields(spec=fields(x={**x, "default": 1}))) == [
        f'{WHERE}.properties[spec].properties[x].default: Invalid value: "integer": failed rule: self > 1'
    ]
    assert wrong(fields(spec=fields(x=x) | {"default": {"x": 0}})) == [
        f'{WHERE}.properties[spec].default.x: Invalid value: "integer": failed rule: self > 1'
    ]


# --- anything at all

words = st.sampled_from(
    ["self", "oldSelf", ".x", ".s", "==", "1", "'a'", "(", ")", "[", "]", ".all(", "a", ",", "&&", "||", "!", "?", ":",
     "+", "matches", "has(", "{", "}", "in", " ", "optional.of(", ".hasValue()", "quantity(", "\n", "\x00", "é"]
)  # fmt: skip


@given(st.lists(words, max_size=12).map("".join) | st.text(max_size=30))
@settings(max_examples=150)
def test_any_text_is_a_rule_or_refused_as_none(text: str) -> None:
    for problem in of_rule({"rule": text, "message": "m"}):
        assert problem.startswith((SPEC, WHERE))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "true", "self > 1", "FieldValueInvalid", ".x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rule", "message", "reason", "fieldPath", "optionalOldSelf", "?"]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
@settings(max_examples=200)
def test_any_json_are_rules_or_refused_as_none(rules: Any) -> None:
    schema = fields(spec=fields(x=WHOLE) | {RULES: rules})
    assert isinstance(wrong(deepcopy(schema)), list)
    unknown_keys(schema)
    assert json.dumps(schema)
