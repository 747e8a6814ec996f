"""What objects break of rules in CEL: Kubernetes' examples, and what each type of a schema is for a rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.structural import RULES
from tests.unit.api.cel.rules import (
    EITHER,
    NUMBER,
    TEXT,
    WHOLE,
    Schema,
    by_key,
    fields,
    form,
    many,
    problem_of,
    told,
    with_rules,
)

SET = {"x-kubernetes-list-type": "set"}
MAP = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
SIGNATURE = "call arguments did not match a supported operator, function or macro signature"
PRESERVED = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

EXAMPLES: list[tuple[str, Schema, Any, Any]] = [
    (
        "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
        fields(minReplicas=WHOLE, replicas=WHOLE, maxReplicas=WHOLE),
        {"minReplicas": 1, "replicas": 2, "maxReplicas": 3},
        {"minReplicas": 1, "replicas": 5, "maxReplicas": 3},
    ),
    ("'Available' in self.counts", fields(counts=by_key(WHOLE)), {"counts": {"Available": 1}}, {"counts": {}}),
    (
        "(self.list1.size() == 0) != (self.list2.size() == 0)",
        fields(list1=many(TEXT), list2=many(TEXT)),
        {"list1": [], "list2": ["a"]},
        {"list1": ["a"], "list2": ["a"]},
    ),
    (
        "self.env.filter(e, e.name == 'MY_ENV').all(e, e.value.matches('^[a-zA-Z]*$'))",
        fields(env=many(fields(name=TEXT, value=TEXT), **MAP)),
        {"env": [{"name": "MY_ENV", "value": "abc"}, {"name": "x", "value": "1"}]},
        {"env": [{"name": "MY_ENV", "value": "a1"}]},
    ),
    (
        "has(self.expired) && self.created + self.ttl < self.expired",
        fields(expired=form("date-time"), created=form("date-time"), ttl=form("duration")),
        {"created": "2026-01-01T00:00:00Z", "ttl": "1h30m", "expired": "2026-01-01T01:30:01Z"},
        {"created": "2026-01-01T00:00:00Z", "ttl": "1h30m", "expired": "2026-01-01T01:30:00Z"},
    ),
    ("self.health.startsWith('ok')", fields(health=TEXT), {"health": "ok: fine"}, {"health": "not ok"}),
    (
        "self.widgets.exists(w, w.key == 'x' && w.foo < 10)",
        fields(widgets=many(fields(key=TEXT, foo=WHOLE))),
        {"widgets": [{"key": "x", "foo": 9}]},
        {"widgets": [{"key": "x", "foo": 10}, {"key": "y", "foo": 1}]},
    ),
    ("type(self.x) == string ? self.x == '99%' : self.x == 42", fields(x=EITHER), {"x": "99%"}, {"x": 41}),
    ("self.set1.all(e, !(e in self.set2))", fields(set1=many(TEXT), set2=many(TEXT)), {"set1": ["a"], "set2": []},
     {"set1": ["a"], "set2": ["b", "a"]}),
    (
        "self.names.size() == self.details.size() && self.names.all(n, n in self.details)",
        fields(names=many(TEXT, **SET), details=by_key(TEXT)),
        {"names": ["a"], "details": {"a": "x"}},
        {"names": ["a"], "details": {"b": "x"}},
    ),
    ("self.details.all(key, key.matches('^[a-z]*$'))", fields(details=by_key(TEXT)), {"details": {"a": "1"}},
     {"details": {"1": "a"}}),
    ("self.details.all(k, self.details[k].matches('^[a-z]*$'))", fields(details=by_key(TEXT)), {"details": {"1": "a"}},
     {"details": {"a": "1"}}),
    ("self.items.isSorted()", fields(items=many(TEXT)), {"items": ["a", "b"]}, {"items": ["b", "a"]}),
    ("self.items.map(x, x.weight).sum() == 1.0", fields(items=many(fields(weight=NUMBER))),
     {"items": [{"weight": 0.5}, {"weight": 0.5}]}, {"items": [{"weight": 1}, {"weight": 1}]}),
    ("self.low.map(x, x.p).max() < self.high.map(x, x.p).min()",
     fields(low=many(fields(p=WHOLE)), high=many(fields(p=WHOLE))),
     {"low": [{"p": 1}], "high": [{"p": 2}]}, {"low": [{"p": 2}], "high": [{"p": 2}]}),
    ("self.names.indexOf('first') == 1", fields(names=many(TEXT)), {"names": ["a", "first"]}, {"names": ["first"]}),
    ("self.s.find('[0-9]+') == '123'", fields(s=TEXT), {"s": "abc 123"}, {"s": "abc 12"}),
    ("self.s.findAll('[0-9]+').map(x, int(x)).sum() < 100", fields(s=TEXT), {"s": "1, 2, 3, 4"}, {"s": "99, 1"}),
    ("url(self.u).getHost() == 'example.com:80'", fields(u=TEXT), {"u": "https://example.com:80/"},
     {"u": "https://example.com/"}),
    ("quantity(self.q).isGreaterThan(quantity('100Mi'))", fields(q=TEXT), {"q": "150Mi"}, {"q": "100Mi"}),
    ("quantity(self.q).add(20).sub(quantity('100k')) == quantity('20')", fields(q=TEXT), {"q": "100k"}, {"q": "1"}),
    ("cidr('192.168.0.0/24').containsIP(ip(self.a))", fields(a=TEXT), {"a": "192.168.0.1"}, {"a": "192.168.1.1"}),
    ("!format.dns1123Label().validate(self.n).hasValue()", fields(n=TEXT), {"n": "my-name"}, {"n": "My_Name"}),
    ("semver(self.v).isLessThan(semver('1.10.0'))", fields(v=TEXT), {"v": "1.9.0-rc.1"}, {"v": "1.10.0"}),
    ("self.?x.orValue('none') == 'none'", fields(x=TEXT), {}, {"x": "some"}),
    ("self.m.exists(k, v, k == 'a' && v > 1)", fields(m=by_key(WHOLE)), {"m": {"a": 2}}, {"m": {"a": 1, "b": 2}}),
    ("self.m.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}", fields(m=by_key(WHOLE)), {"m": {"a": 1, "b": 2}},
     {"m": {"a": 1}}),
    ("self.l.transformList(i, v, i + v) == [1, 3]", fields(l=many(WHOLE)), {"l": [1, 2]}, {"l": [1]}),
    ("sets.contains(self.l, ['a', 'b'])", fields(l=many(TEXT)), {"l": ["b", "c", "a"]}, {"l": ["b"]}),
    ("self.s.split(',').join('-') == 'a-b' && self.s.charAt(0) == 'a' && self.s.upperAscii() == 'A,B'",
     fields(s=TEXT), {"s": "a,b"}, {"s": "a;b"}),
    ("'%s is %d'.format([self.s, self.n]) == 'a is 1'", fields(s=TEXT, n=WHOLE), {"s": "a", "n": 1},
     {"s": "a", "n": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "schema", "good", "bad"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_an_example(rule: str, schema: Schema, good: Any, bad: Any) -> None:
    assert told(with_rules(schema, rule), good) == []
    assert told(with_rules(schema, rule), bad) == [f'<nil>: Invalid value: "object": failed rule: {rule}']


@pytest.mark.parametrize(
    ("schema", "value", "rule"),
    [
        (WHOLE, 3, "self == 3 && type(self.x) == int"),
        (NUMBER, 3, "self.x == 3.0 && type(self.x) == double"),
        (form("byte"), "aGk=", "self.x == b'hi' && self.x.size() == 2"),
        (form("date"), "2026-02-03", "self.x.getDayOfMonth() == 2 && self.x == timestamp('2026-02-03T00:00:00Z')"),
        (form("date-time"), "2026-02-03T04:05:06.5Z", "self.x.getMinutes() == 5 && self.x.getMilliseconds() == 500"),
        (form("duration"), "3 days", "self.x == duration('72h') && self.x.getHours() == 72"),
        (form("duration"), "-1.5s", "self.x == duration('-1500ms')"),
        (many(form("duration")), ["1s", "2s"], "self.x.sum() == duration('3s') && self.x.max() == duration('2s')"),
        ({"type": "boolean"}, True, "self.x"),
        ({"type": "integer", "nullable": True}, None, "self.x == null && has(self.x)"),
        ({"type": "string", "nullable": True}, "abc", "self.x != null && self.x.size() == 3"),
        (many(many(WHOLE)), [[1], [2]], "self.x.all(y, y.all(z, z > 0)) && self.x[1][0] == 2"),
        (by_key(many(TEXT)), {"a": ["b"]}, "self.x['a'][0] == 'b' && self.x.a.size() == 1"),
        (by_key(by_key(WHOLE)), {"a": {"b": 1}}, "self.x.a.b == 1"),
        ({**PRESERVED, "properties": {"y": WHOLE}}, {"y": 1, "z": [None, {"q": 1.5}]}, "self.x.y == 1"),
        (
            {**PRESERVED, "x-kubernetes-embedded-resource": True},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}}},
            "self.x.kind == 'Pod' && self.x.apiVersion == 'v1' && self.x.metadata.name == 'a'",
        ),
    ],
)
def test_what_a_type_of_the_schema_is_for_a_rule(schema: Schema, value: Any, rule: str) -> None:
    assert told(with_rules(fields(x=schema), rule.replace("self == 3", "self.x == 3")), {"x": value}) == []


def test_properties_by_their_escaped_names() -> None:
    properties = {
        "a-b": WHOLE,
        "if": WHOLE,
        "a__b": WHOLE,
        "a.b": WHOLE,
        "a/b": WHOLE,
        "namespace": WHOLE,
        "x y": WHOLE,
    }
    rule = "self.a__dash__b + self.__if__ + self.a__underscores__b + self.a__dot__b + self.a__slash__b == 15"
    schema = with_rules(fields(**properties), f"{rule} && self.__namespace__ == 6", "self == oldSelf")
    value = {"a-b": 1, "if": 2, "a__b": 3, "a.b": 4, "a/b": 5, "namespace": 6, "x y": 7}
    assert told(schema, value, value) == []
    assert told(schema, {**value, "x y": 8}, value) == ['<nil>: Invalid value: "object": failed rule: self == oldSelf']


def test_names_that_differ_in_case_and_underscores() -> None:
    schema = with_rules(fields(a_b=by_key(WHOLE), aB=by_key(WHOLE), ab=WHOLE, AB=WHOLE), "self.a_b == self.aB")
    assert told(schema, {"a_b": {"x": 1}, "aB": {"x": 1}}) == []


def test_the_root_of_an_object() -> None:
    rule = "self.metadata.name == 'a' && self.kind == 'Widget' && self.apiVersion.startsWith('example.com/')"
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "labels": {"x": "y"}}}
    schema = with_rules(fields(spec=WHOLE), rule, "!has(self.metadata.generateName)")
    assert told(schema, widget, is_object=True) == []
    assert told(schema, {**widget, "kind": "Gadget"}, is_object=True) == [
        f'<nil>: Invalid value: "object": failed rule: {rule}'
    ]
    assert "undefined field 'labels'" in problem_of(
        schema | {"x-kubernetes-embedded-resource": True}, "has(self.labels)"
    )


# --- where rules are, and how they are told


def test_rules_at_every_level_with_their_paths() -> None:
    schema = fields(
        spec=with_rules(
            fields(
                size=with_rules(WHOLE, "self > 1"),
                names=many(with_rules(TEXT, "self != 'x'")),
                limits=by_key(with_rules(WHOLE, "self < 5")),
                parts=many(fields(count=with_rules(WHOLE, "self > 0"))),
                maybe={**with_rules(WHOLE, "false"), "nullable": True},
            ),
            "self.size < 10",
        )
    )
    bad = {"size": 1, "names": ["a", "x"], "limits": {"a.b": 5}, "parts": [{"count": 0}], "maybe": None}
    assert told(schema, {"spec": bad}) == [
        'spec.size: Invalid value: "integer": failed rule: self > 1',
        "spec.names[1]: Invalid value: \"string\": failed rule: self != 'x'",
        'spec.limits[a.b]: Invalid value: "integer": failed rule: self < 5',
        'spec.parts[0].count: Invalid value: "integer": failed rule: self > 0',
    ]
    assert told(schema, {"spec": {"size": 10}}) == ['spec: Invalid value: "object": failed rule: self.size < 10']
    assert told(schema, {"spec": None}) == []


def test_rules_of_alternatives_that_all_hold() -> None:
    schema = fields(x=WHOLE) | {
        "allOf": [{"properties": {"x": with_rules({}, "self > 1")}}, with_rules({}, "self.x > 2")]
    }
    assert told(schema, {"x": 1}) == [
        'x: Invalid value: "integer": failed rule: self > 1',
        '<nil>: Invalid value: "object": failed rule: self.x > 2',
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"message": " too small "}, 'spec: Invalid value: "object": too small'),
        ({"messageExpression": "'x is ' + string(self.x)"}, 'spec: Invalid value: "object": x is 1'),
        ({"messageExpression": "'a\\nb'", "message": "plain"}, 'spec: Invalid value: "object": plain'),
        ({"messageExpression": "''", "message": "plain"}, 'spec: Invalid value: "object": plain'),
        ({"messageExpression": "string(1 / (self.x - 1))"}, 'spec: Invalid value: "object": failed rule: self.x > 5'),
        ({"reason": "FieldValueForbidden", "message": "no"}, "spec: Forbidden: no"),
        ({"reason": "FieldValueRequired", "message": "more"}, "spec: Required value: more"),
        ({"reason": "FieldValueDuplicate", "message": "twice"}, 'spec: Duplicate value: "object"'),
        ({"fieldPath": ".x", "message": "no"}, 'spec.x: Invalid value: "object": no'),
    ],
)
def test_what_is_told(words: dict[str, Any], expected: str) -> None:
    schema = fields(spec=with_rules(fields(x=WHOLE), {"rule": "self.x > 5", **words}))
    assert told(schema, {"spec": {"x": 1}}) == [expected]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("self.y > 1", "no such key: y evaluating rule: self.y > 1"),
        ("self.l[3] == 1", "index out of bounds: 3 evaluating rule: self.l[3] == 1"),
        ("1 / self.zero == 1", "division by zero evaluating rule: 1 / self.zero == 1"),
        ("self.e < 5", f"'no such overload': {SIGNATURE} for rule: self.e < 5"),
        ("quantity('x' + self.e).sign() == 1", None),
        ("self.e", "it is no bool evaluating rule: self.e"),
        ("self.e == 'x' ? dyn(optional.none()) : dyn(true)", None),
        ("'a'.matches('(' + self.e)", None),
    ],
)
def test_a_rule_that_cannot_be_evaluated_fails_the_object(rule: str, why: str | None) -> None:
    schema = with_rules(fields(y=WHOLE, l=many(WHOLE), zero=WHOLE, e=EITHER), rule)
    (problem,) = told(schema, {"l": [1], "zero": 0, "e": "x"})
    assert problem.startswith('<nil>: Invalid value: "object": ')
    assert problem.endswith(f" evaluating rule: {rule}" if why is None else why)


# --- what was there before


def test_a_transition_rule_runs_when_there_was_something() -> None:
    schema = fields(spec=fields(x=with_rules(WHOLE, "self == oldSelf"), y=WHOLE))
    assert told(schema, {"spec": {"x": 1}}) == []
    assert told(schema, {"spec": {"x": 1}}, {"spec": {"y": 1}}) == []
    assert told(schema, {"spec": {"y": 1}}, {"spec": {"x": 1}}) == []
    assert told(schema, {"spec": {"x": 1}}, {"spec": {"x": 1}}) == []
    assert told(schema, {"spec": {"x": 2}}, {"spec": {"x": 1}}) == [
        'spec.x: Invalid value: "integer": failed rule: self == oldSelf'
    ]


def test_items_are_told_apart_by_their_keys() -> None:
    schema = fields(l=many(fields(name=TEXT, v=with_rules(WHOLE, "self >= oldSelf")), **MAP))
    old = {"l": [{"name": "a", "v": 5}, {"name": "b", "v": 1}]}
    assert told(schema, {"l": [{"name": "b", "v": 2}, {"name": "c", "v": 0}, {"name": "a", "v": 5}]}, old) == []
    assert told(schema, {"l": [{"name": "b", "v": 2}, {"name": "a", "v": 4}]}, old) == [
        'l[1].v: Invalid value: "integer": failed rule: self >= oldSelf'
    ]
    maps = fields(m=by_key(with_rules(WHOLE, "self >= oldSelf")))
    assert told(maps, {"m": {"a": 1, "b": 1}}, {"m": {"a": 2}}) == [
        'm[a]: Invalid value: "integer": failed rule: self >= oldSelf'
    ]


def test_what_was_there_before_may_be_nothing() -> None:
    rule = {"rule": "oldSelf.hasValue() ? self.x >= oldSelf.value().x : self.x == 1", "optionalOldSelf": True}
    schema = with_rules(fields(x=WHOLE), rule)
    assert told(schema, {"x": 1}) == []
    assert len(told(schema, {"x": 2})) == 1
    assert told(schema, {"x": 2}, {"x": 1}) == []
    assert len(told(schema, {"x": 0}, {"x": 1})) == 1
    either = with_rules(fields(x=WHOLE), {"rule": "oldSelf.orValue(self).x == self.x", "optionalOldSelf": True})
    assert told(either, {"x": 3}) == []
    assert len(told(either, {"x": 3}, {"x": 0})) == 1


# --- lists that are sets or maps


@given(st.lists(st.integers(0, 20), unique=True, max_size=6), st.randoms())
@settings(max_examples=60)
def test_sets_have_no_order(items: list[int], dice: Any) -> None:
    mixed = list(items)
    dice.shuffle(mixed)
    rules = ("self == oldSelf", "!(self.s != oldSelf.s)", "(self.s + oldSelf.s).size() == self.s.size()")
    assert told(with_rules(fields(s=many(WHOLE, **SET)), *rules), {"s": mixed}, {"s": items}) == []
    ordered = told(with_rules(fields(s=many(WHOLE)), "self.s == oldSelf.s"), {"s": mixed}, {"s": items})
    assert (ordered == []) == (mixed == items)
    assert told(with_rules(fields(s=many(WHOLE, **SET)), "self == oldSelf"), {"s": [*mixed, 99]}, {"s": items}) != []


def test_maps_are_joined_by_their_keys() -> None:
    schema = fields(l=many(fields(name=TEXT, v=WHOLE), **MAP))
    one, two = [{"name": "a", "v": 1}, {"name": "b", "v": 1}], [{"name": "b", "v": 2}, {"name": "c", "v": 3}]
    rule = "(self.l + oldSelf.l).map(x, x.name + string(x.v)) == ['a1', 'b2', 'c3']"
    assert told(with_rules(schema, rule), {"l": one}, {"l": two}) == []
    nested = with_rules(fields(l=many(fields(name=TEXT, v=many(TEXT, **SET)), **MAP)), "self == oldSelf")
    assert (
        told(
            nested,
            {"l": [{"name": "b", "v": ["x", "y"]}, {"name": "a", "v": []}]},
            {"l": [{"name": "a", "v": []}, {"name": "b", "v": ["y", "x"]}]},
        )
        == []
    )
    assert len(told(nested, {"l": [{"name": "a", "v": ["x"]}]}, {"l": [{"name": "a", "v": ["y"]}]})) == 1


def test_unknown_fields_that_are_kept_count_where_objects_are_compared() -> None:
    schema = with_rules({**PRESERVED, "properties": {"y": WHOLE}}, "self == oldSelf")
    assert told(schema, {"y": 1, "z": {"a": 1}}, {"y": 1, "z": {"a": 1}}) == []
    assert len(told(schema, {"y": 1, "z": {"a": 1}}, {"y": 1, "z": {"a": 2}})) == 1


def test_a_variable_of_a_loop_may_be_called_self() -> None:
    assert told(with_rules(fields(x=WHOLE), "[self].exists(self, self.x == 1)"), {"x": 1}) == []


def test_no_more_problems_than_are_told() -> None:
    schema = fields(l=many(with_rules(WHOLE, "self > 0")))
    assert len(told(schema, {"l": [0] * 500})) == 100
    assert RULES not in schema
