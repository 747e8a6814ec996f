"""Schemas with rules, and what becomes of values under them."""

from __future__ import annotations

from typing import Any

from cluster.api.cel.objects import broken, compile_rules
from cluster.api.structural import RULES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
EITHER: Schema = {"x-kubernetes-int-or-string": True}


def many(items: Schema, **words: Any) -> Schema:
    return {"type": "array", "items": items, **words}


def by_key(values: Schema, **words: Any) -> Schema:
    return {"type": "object", "additionalProperties": values, **words}


def fields(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def form(name: str) -> Schema:
    return {"type": "string", "format": name}


def with_rules(schema: Schema, *rules: str | dict[str, Any]) -> Schema:
    return {**schema, RULES: [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]}


def told(schema: Schema, value: Any, old: Any = None, *, is_object: bool = False) -> list[str]:
    """What a value breaks of the rules in a schema."""
    node = compile_rules(schema, is_object=is_object)
    assert node is not None
    return [str(problem) for problem in broken(node, value, old)]


def problem_of(schema: Schema, rule: str, **words: Any) -> str:
    """Why a rule at the top of a schema is none; "": it is one."""
    node = compile_rules(with_rules(schema, {"rule": rule, **words}), is_object=False)
    assert node is not None
    assert node.place is not None
    return node.place.rules[0].problem
