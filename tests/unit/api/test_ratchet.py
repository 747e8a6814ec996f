"""What was wrong before and does not change is not told again."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api import ratchet
from cluster.api.ratchet import Ratchet, key_of, same
from cluster.api.schema_rules import FEW_BYTES, Rules

WORD = {"type": "string", "maxLength": 3}
PORTS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port"],
    "items": {"type": "object", "properties": {"port": {"type": "integer"}, "name": WORD}, "required": ["port"]},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "image": WORD,
        "size": {"type": "integer", "maximum": 9},
        "ports": PORTS,
        "words": {"type": "array", "items": WORD},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": WORD},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": WORD, "b": WORD}},
    },
}
LONG, OTHER = "too long", "also too long"
RULES = Rules(SCHEMA)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"image": LONG}, {"image": LONG, "size": 3}, []),
        ({"image": LONG}, {"image": OTHER}, ["image"]),
        ({"image": LONG}, {"image": LONG, "size": 10}, ["size"]),
        ({}, {"image": LONG}, ["image"]),
        ({"size": True}, {"size": True, "image": "a"}, []),
        ({"size": 1}, {"size": True}, ["size"]),
        (
            {"ports": [{"port": 80, "name": LONG}]},
            {"ports": [{"port": 90, "name": LONG}, {"port": 80, "name": LONG}]},
            ["ports[0].name"],
        ),
        ({"words": [LONG]}, {"words": [LONG], "size": 3}, []),
        ({"words": [LONG]}, {"words": [LONG, "a"]}, ["words[0]"]),
        ({"tags": ["a", "a"]}, {"tags": ["a", "a"], "size": 3}, []),
        ({"tags": ["a", "b"]}, {"tags": ["a", "a"]}, ["tags[1]"]),
        ({"labels": {"a": LONG}}, {"labels": {"a": LONG, "b": LONG}}, ["labels.b"]),
        ({"whole": {"a": LONG}}, {"whole": {"a": LONG}, "size": 3}, []),
        ({"whole": {"a": LONG}}, {"whole": {"a": LONG, "b": "c"}}, ["whole.a"]),
        ({"labels": "none"}, {"labels": {"a": LONG}}, ["labels.a"]),
        ({"ports": "none"}, {"ports": ["none"]}, ["ports[0]"]),
    ],
)
def test_only_what_is_new_is_told(old: Any, new: Any, told: list[str]) -> None:
    assert [problem.path for problem in RULES.problems(new, old)] == told


def test_of_a_large_object_the_first_problem_is_told_whether_it_is_new_or_not() -> None:
    old = {"image": LONG, "labels": {str(number): "abc" for number in range(FEW_BYTES // 10)}}
    assert [problem.path for problem in RULES.problems({**old, "size": 10}, old)] in (["image"], ["size"])


def test_json_that_python_takes_for_the_same() -> None:
    assert same({"a": [1, None]}, {"a": [1, None]})
    assert not any(same(one, other) for one, other in ((1, True), (1, 1.0), ([0], [False]), ({}, None)))
    assert Ratchet([1], [1], {}).is_as_before([0]), "what is around it is as it was"
    assert not Ratchet("text", "other", {}).is_as_before(["a"]), "there is nothing at that place"


def test_a_list_is_looked_through_once_however_much_is_wrong_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    count, keys = 500, []

    def counted(schema: Any, item: Any) -> bytes:
        keys.append(item)
        return key_of(schema, item)

    monkeypatch.setattr(ratchet, "key_of", counted)
    ports = [{"port": number, "name": LONG} for number in range(count)]
    assert RULES.problems({"ports": ports[::-1], "size": 3}, {"ports": ports}) == []
    assert len(keys) == 2 * count, "each item once as it was, and once as it is"
