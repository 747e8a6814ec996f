"""What rules cost: in Kubernetes' units as Kubernetes reckons it, and in time: no object holds the writer up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.cel.objects import BUDGET, Node, broken, compile_rules
from cluster.api.cel.sizes import Found, most, smallest
from cluster.api.raw_json import pack
from cluster.api.structural import RULES
from tests.unit.api.cel.rules import EITHER, NUMBER, TEXT, WHOLE, Schema, by_key, fields, form, many, told, with_rules

Made = Callable[[int | None], Schema]
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = fields(required=TEXT, optional=TEXT) | {"required": ["required"]}
NO_TURNS = "no further validation rules will be run due to call cost exceeds limit"
NO_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


def limited(schema: Schema, word: str, limit: int | None) -> Schema:
    return schema if limit is None else {**schema, word: limit}


def listed(items: Schema, rule: str) -> Made:
    return lambda limit: limited(with_rules(many(items), rule), "maxItems", limit)


def keyed(values: Schema, rule: str) -> Made:
    return lambda limit: limited(with_rules(by_key(values), rule), "maxProperties", limit)


def text(rule: str, **words: Any) -> Made:
    return lambda limit: limited(with_rules({**TEXT, **words}, rule), "maxLength", limit)


def texts(rule: str) -> Made:
    return lambda limit: limited(with_rules(many(limited(TEXT, "maxLength", limit)), rule), "maxItems", limit)


def several(rule: str) -> Made:
    return lambda limit: with_rules(
        fields(
            str=limited(TEXT, "maxLength", limit),
            separator=limited(TEXT, "maxLength", limit),
            before={**TEXT, "maxLength": 2},
            after={**TEXT, "maxLength": 4},
        ),
        rule,
    )


def nested(limit: int | None) -> Schema:
    inner = limited(by_key(OBJECT), "maxProperties", limit)
    return limited(with_rules(many(inner), 'self.all(x, x["y"].required == "z")'), "maxItems", limit)


@pytest.mark.parametrize(
    ("made", "unlimited", "limit", "cost"),
    [
        (listed(NUMBER, "self.all(x, true)"), 4718591, 10, 32),
        (listed(TEXT, "self.all(x, true)"), 3145727, 20, 62),
        (listed(FLAG, "self.all(x, true)"), 1887437, 5, 17),
        (listed(many(NUMBER), "self.all(x, true)"), 3145727, 100, 302),
        (keyed(NUMBER, "self.all(x, true)"), 1348169, 10, 32),
        (keyed(TEXT, "self.all(x, true)"), 1179647, 3, 11),
        (keyed(OBJECT, "self.all(x, true)"), 428963, 20, 62),
        (keyed(many(NUMBER), "self.all(x, true)"), 1179647, 25, 77),
        (listed(EITHER, "self.all(x, true)"), 4718591, 10, 32),
        (listed(form("duration"), "self.all(x, true)"), 2359295, 5, 17),
        (listed(form("date"), "self.all(x, true)"), 725936, 15, 47),
        (listed(form("date-time"), "self.all(x, true)"), 428963, 25, 77),
        (listed(NUMBER, "self.all(x, x == 0.0)"), 6291454, 3 * 1024 * 2048, 25165826),
        (listed(NUMBER, "self.all(x, self.all(y, true))"), None, 10, 352),
        (listed(NUMBER, "self.all(x, self.all(y, self.all(z, true)))"), None, 10, 3552),
        (listed(by_key(NUMBER), "self.all(x, x.y == 25.2)"), 6291452, 12, 74),
        (nested, 7340027, 10, 72),
        (listed(NUMBER, "self[1] == 0.0"), 2, 5000, 2),
        (listed(TEXT, "self[1] == self[1]"), 314577, 8, 314577),
        (listed(EITHER, "self[0] == 5"), 3, 10, 3),
        (listed(form("duration"), "self[0].getHours() == 2"), 4, 525, 4),
        (keyed(NUMBER, 'self["x"] == 0.0'), 2, 0, 2),
        (keyed(form("date-time"), 'self["a"] == self["b"]'), 8, 7, 8),
        (keyed(WHOLE, "oldSelf.size() == self.size()"), 5, 10, 5),
        (text("self.contains('test')"), 314574, 10, 5),
        (text("self.startsWith('test')"), 2, 15, 2),
        (text('size(self + "hello") > size("hello")'), 314578, 4, 7),
        (text('self.matches("x")'), 314574, 50, 22),
        (text('"".matches("(((((((((())))))))))[0-9]")'), 7, 10, 7),
        (text('self.matches("")'), 1, 100, 1),
        (text('self == "x"'), 2, 0, 1),
        (text('self == b"x"', format="byte"), 2, 0, 1),
        (text("self.find('[0-9]+') == ''"), 629147, 10, 11),
        (text("self.lowerAscii() == 'lower!'"), 314575, 10, 6),
        (text("self.contains('A')", enum=["A", "B", "LongValue"]), 2, 1000, 401),
        (texts("self.join(' ') == 'aa bb'"), 329853068905, 10, 43),
        (texts("self.isSorted() == true"), 329854432052, 10, 52),
        (several("self.str.split(self.separator) == []"), 629160, 10, 22),
        (several("self.str.replace(self.before, self.after) == 'fifteen letters'"), 629154, 4, 12),
    ],
)
def test_the_cost_is_what_kubernetes_reckons(made: Made, unlimited: int | None, limit: int, cost: int) -> None:
    for schema, expected in ((made(None), unlimited), (made(limit), cost)):
        node = compile_rules(schema, is_object=False)
        assert node is not None
        assert node.place is not None
        expression = node.place.rules[0].expression
        assert expression is not None
        assert expected is None or expression.declared_cost == expected


def test_how_small_and_how_large_values_are() -> None:
    assert [smallest(one) for one in (TEXT, WHOLE, FLAG, EITHER, form("date"), many(TEXT), OBJECT)] == [
        *(2, 1, 4, 1, 12, 2),
        2 + len("required") + 2 + 4,
    ]
    assert most({**TEXT, "maxLength": 5}) == 20
    assert most({**form("byte"), "maxLength": 5}) == 5
    assert most({**TEXT, "enum": ["a", "bcd"]}) == 3
    assert (most(WHOLE), most(form("date-time")), most(many(WHOLE, maxItems=3))) == (0, 32, 3)


# --- time

INTS = list(range(9_000))
LONG = "a" * 1_400_000
IN_SET = {"x-kubernetes-list-type": "set"}
WORST: dict[str, tuple[Schema, Any]] = {
    "a loop of all turns": (with_rules(many(WHOLE), "self.all(a, a >= 0)"), INTS),
    "a list of 300,000": (with_rules(many(WHOLE), "self.all(a, a >= 0)"), list(range(300_000))),
    "a map() of many": (with_rules(many(WHOLE), "self.map(a, a + 1).size() > 0"), INTS),
    "a map() of as many as may be": (with_rules(many(WHOLE), "self.map(a, a + 1).size() > 0"), INTS[:1500]),
    "loops in loops": (with_rules(many(WHOLE), "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"), INTS),
    "in, in a loop": (with_rules(many(WHOLE), "self.all(a, a in self)"), INTS),
    "sets": (with_rules(many(WHOLE), "sets.equivalent(self, self)"), INTS),
    "sets without order": (with_rules(many(WHOLE, **IN_SET), "self.all(a, self == self)"), INTS[:900]),
    "equality in a loop": (with_rules(many(WHOLE), "self.all(a, self == self)"), INTS[:900]),
    "a pattern that remembers nothing": (with_rules(TEXT, "self.matches('((a{0,30}){0,30})b')"), LONG),
    "a pattern on a long text": (with_rules(TEXT, "self.matches('(a|b)*c[^d]{20}e')"), LONG),
    "a pattern in a loop": (
        with_rules(fields(l=many(WHOLE), t=TEXT), "self.l.all(a, !self.t.matches('(a?){50}[^b]c'))"),
        {"l": INTS, "t": LONG[:10_000]},
    ),
    "patterns from the object": (
        with_rules(fields(l=many(WHOLE), p=TEXT), "self.l.all(i, !'x'.matches(self.p + string(i)))"),
        {"l": INTS, "p": r"((\pL){200}|a)"},
    ),
    "a text that doubles": (
        with_rules(TEXT, "[[[[self].map(a, a + a)[0]].map(a, a + a)[0]].map(a, a + a)[0]].map(a, a + a)[0] != ''"),
        LONG,
    ),
    "a list that doubles": (
        with_rules(many(WHOLE), "[[[[self].map(a, a + a)[0]].map(a, a + a)[0]].map(a, a + a)[0]].size() > 0"),
        list(range(50_000)),
    ),
    "split and join": (with_rules(TEXT, "self.split('').join('--').size() > 0"), LONG),
    "replace": (with_rules(TEXT, "self.replace('a', 'bbbb').replace('b', 'cccc').size() > 0"), LONG),
    "format": (with_rules(TEXT, "'%s%s%s%s'.format([self, self, self, self]).size() > 0"), LONG),
    "size in a loop": (
        with_rules(fields(l=many(WHOLE), t=TEXT), "self.l.all(a, self.t.size() > 0)"),
        {"l": INTS, "t": LONG},
    ),
    "a sum in a loop": (with_rules(many(WHOLE), "self.all(a, self.sum() > 0)"), INTS),
    "transformMap": (
        with_rules(by_key(WHOLE), "self.transformMap(k, v, v).size() > 0"),
        {str(one): one for one in INTS},
    ),
    "addresses, URLs, versions, formats": (
        with_rules(
            TEXT,
            "isIP(self) || isCIDR(self) || isURL(self) || isSemver(self) || isQuantity(self) "
            "|| format.dns1123Subdomain().validate(self).hasValue()",
        ),
        "a." * 700_000,
    ),
    "a rule for each of 300,000": (many(with_rules(WHOLE, "self >= 0")), list(range(300_000))),
    "a rule for each of 100,000 objects": (
        many(with_rules(fields(a=WHOLE), "self.a >= 0", "self.a < 100001")),
        [{"a": one} for one in range(100_000)],
    ),
}  # fmt: skip


def deep(rule: str, levels: int) -> tuple[Schema, Any]:
    schema: Schema = with_rules(fields(d=many(WHOLE)), "self.d[0] == 0")
    value: Any = {"d": list(range(200_000))}
    for _ in range(levels):
        schema, value = with_rules(fields(n=schema), rule), {"n": value}
    return schema, value


WORST["each of 50 levels compared"] = deep("self == self", 50)
WORST["each of 50 levels looked at"] = deep("has(self.n)", 50)


@pytest.mark.parametrize("name", WORST)
def test_no_object_holds_the_writer_up(name: str) -> None:
    """The budget is half a second; a slow machine that does other things gets six times as much."""
    schema, value = WORST[name]
    node = compile_rules(schema, is_object=False)
    assert node is not None
    began = time.process_time()
    broken(node, value)
    assert time.process_time() - began < 6 * BUDGET / 1e7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a loop of all turns", None),
        ("a map() of as many as may be", None),
        ("a list of 300,000", NO_BUDGET),
        ("a map() of many", NO_BUDGET),
        ("in, in a loop", NO_BUDGET),
        ("a rule for each of 300,000", NO_BUDGET),
        ("each of 50 levels compared", NO_BUDGET),
        (
            "loops in loops",
            f"{NO_TURNS} for rule: self.all(a, self.all(b, self.all(c, a + b + c >= 0)))",
        ),
    ],
)
def test_who_asks_for_too_much_is_told(name: str, message: str | None) -> None:
    schema, value = WORST[name]
    problems = told(schema, value)
    assert len(problems) == (message is not None)
    assert message is None or problems[-1].endswith(message)


def test_what_a_rule_does_not_look_at_costs_nothing() -> None:
    big = {"a": 1, "rest": {f"k{number}": "x" * 100 for number in range(12_000)}}
    schema = fields(spec=with_rules(fields(a=WHOLE, rest=by_key(TEXT)), *["self.a == 1"] * 100))
    assert len(pack(big)) > 1_000_000
    assert told(schema, {"spec": big}) == []


def test_30_000_evaluations_are_not_too_many() -> None:
    schema = many(with_rules(fields(a=WHOLE), "self.a >= 0"))
    assert told(schema, [{"a": one} for one in range(20_000)]) == []


# --- what is known of sizes

values = st.recursive(
    st.integers(-5, 5) | st.text("ab", max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=12,
)
COMPARING = with_rules(
    {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {
        "l": many(TEXT), "m": by_key(many(WHOLE)), "t": TEXT, "o": fields(x=WHOLE, y=TEXT)}},
    "self == oldSelf",
    "self.l.all(a, a in oldSelf.l || self.l.exists(b, b + a == self.t))",
    "self.m.all(k, self.m[k].all(v, v > 0) && k.matches('^a+$'))",
    "self.l.map(a, a + self.t).filter(a, a != self.o.y).join(self.t).size() > self.o.x",
)  # fmt: skip
ANY = st.fixed_dictionaries(
    {
        "l": st.lists(st.text("ab", max_size=9), max_size=9),
        "m": st.dictionaries(st.text("ab", max_size=4), st.lists(st.integers(-3, 3), max_size=5), max_size=5),
        "t": st.text("ab", max_size=20),
        "o": st.fixed_dictionaries({"x": st.integers(0, 9), "y": st.text("ab", max_size=9)}),
    },
    optional={"unknown": values},
)


def compiled() -> Node:
    node = compile_rules(COMPARING, is_object=False)
    assert node is not None
    return node


NODE = compiled()


@given(ANY, ANY)
@settings(max_examples=150)
def test_who_looks_closer_never_finds_more_work(value: dict[str, Any], old: dict[str, Any]) -> None:
    assert NODE.place is not None
    sizes = Found(NODE.place.schema, value, old)
    size_bytes = len(pack(value)) + len(pack(old))
    for rule in NODE.place.rules:
        assert rule.expression is not None
        found = rule.expression.work_found(sizes)
        assert 0 < found <= rule.expression.work(size_bytes) <= rule.expression.work(1 << 22)


@given(ANY)
@settings(max_examples=100)
def test_sizes_that_are_found_are_those_that_one_would_count(value: dict[str, Any]) -> None:
    sizes = Found(COMPARING, value)
    assert sizes.size(("self", "l")) == len(value["l"])
    assert sizes.size(("self", "l", "@items")) == max(map(len, value["l"]), default=0)
    assert sizes.size(("self", "m", "@values")) == max(map(len, value["m"].values()), default=0)
    assert sizes.size(("self", "m", "@keys")) == max(map(len, value["m"]), default=0)
    assert sizes.size(("self", "o", "y")) == len(value["o"]["y"])
    assert sizes.size(None) >= len(value)
    assert RULES in COMPARING
