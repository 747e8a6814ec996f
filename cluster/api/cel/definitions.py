"""What is wrong with the rules in the schema of a definition, in Kubernetes' words.

First how they are written: a rule is there, messages have one line, a field path leads somewhere. If all of that is
well, they are compiled; then what they cost at most is looked at, each and all together, and whether what was there
before can be known where a rule asks for it. At last, defaults must keep the rules.

Kubernetes' limits for the cost are 10 million for a rule and 100 million for a schema. A rule within a list counts as
often as the list has items, by maxItems; if nothing says how many there are, as often as fits into a request. The
number of rules is ours: to compile one takes a millisecond, and one writer waits. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf
from typing import Any

from cluster.api.cel.compiling import Rule
from cluster.api.cel.objects import Node, Run, compile_rules
from cluster.api.cel.walk import times
from cluster.api.json_parse import describe
from cluster.api.problems import Report
from cluster.api.ratchet import MAP_TYPE
from cluster.api.structural import LIST_TYPE, RULES, Schema

MAX_RULE_COST, MAX_SCHEMA_COST = 10_000_000, 100_000_000
MAX_RULES, MAX_RULES_BYTES = 500, 64 * 1024
"""Of a definition, over all of its versions."""
_KEYS = {**dict.fromkeys(("rule", "message", "messageExpression", "reason", "fieldPath"), str), "optionalOldSelf": bool}
"""All that a rule can say."""
_MAX_MESSAGE_LENGTH = 2048
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_token = re.compile(r"\.([^.\[\]']+)|\['((?:[^'\\]|\\.)*)'\]")
_escaped = re.compile(r"\\(.)")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}
_SEVERAL = ("allOf", "anyOf", "oneOf")


def misshapen(rule: Any) -> Iterator[tuple[str, str]]:
    """What makes a rule none at all: where in it, and why."""
    if not isinstance(rule, dict):
        yield "", f"must be an object, not {describe(rule)}"
        return
    for key, value in rule.items():
        if key not in _KEYS:
            yield f".{key}", "unknown field"
        elif value is not None and not isinstance(value, _KEYS[key]):
            wanted = "true or false" if _KEYS[key] is bool else "a string"
            yield f".{key}", f"must be {wanted}, not {describe(value)}"


def drop_unknown(rule: Any) -> list[str]:
    """Takes out of a rule, in place, what no rule has, and returns the keys of that."""
    unknown = [key for key in rule if key not in _KEYS] if isinstance(rule, dict) else []
    for key in unknown:
        del rule[key]
    return unknown


def rules_in(schema: Any) -> Iterator[dict[str, Any]]:
    """All rules of a schema, wherever they stand in it and whatever else it is."""
    if isinstance(schema, list):
        for inner in schema:
            yield from rules_in(inner)
    elif isinstance(schema, dict):
        found = schema.get(RULES)
        yield from (rule for rule in (found if isinstance(found, list) else ()) if isinstance(rule, dict))
        for inner in schema.values():
            yield from rules_in(inner)


def _given(schema: Any, path: str) -> Iterator[tuple[str, Schema]]:
    """All schemas in a schema that have rules, and their paths."""
    if not isinstance(schema, dict):
        return
    if schema.get(RULES):
        yield path, schema
    for name, inner in (schema.get("properties") or {}).items():
        yield from _given(inner, f"{path}.properties[{name}]")
    for word in ("items", "additionalProperties", "not"):
        yield from _given(schema.get(word), f"{path}.{word}")
    for word in _SEVERAL:
        for index, inner in enumerate(schema.get(word) or ()):
            yield from _given(inner, f"{path}.{word}[{index}]")


def validate_rules(report: Report, path: str, schema: Schema) -> None:
    """Checks the rules of a schema that is fine otherwise; `path` leads to it."""
    before = len(report.errors)
    for where, inner in _given(schema, path):
        if re.search(r"\.(?:anyOf|oneOf)\[|\.not(?:\.|$)", where[len(path) :]):
            report.forbidden(f"{where}.{RULES}", "must be empty to be structural")
            continue
        for index, rule in enumerate(inner[RULES]):
            _form(report, f"{where}.{RULES}[{index}]", rule, schema, where[len(path) :])
    if len(report.errors) > before:
        return
    node = compile_rules(schema)
    if node is None:
        return
    check = _Check(report)
    check.look(node, path, path, 1, "")
    check.total(path)
    if len(report.errors) == before:
        run = Run()
        _defaults(run, node, path)
        for problem in run.errors:
            report.add(problem.path, problem.message, problem.reason)


def _form(report: Report, path: str, rule: dict[str, Any], schema: Schema, where: str) -> None:
    """How a rule is written."""
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    if not text:
        report.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        report.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif len(message) > _MAX_MESSAGE_LENGTH:
        why = f"message must have a maximum length of {_MAX_MESSAGE_LENGTH} characters"
        report.invalid(f"{path}.message", f"{message[:10]}...", why)
    elif _lines(message.strip()):
        report.invalid(f"{path}.message", message, "message must not contain line breaks")
    elif _lines(text) and not message.strip():
        report.required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        report.required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        report.not_supported(f"{path}.reason", reason, _REASONS)
    field = rule.get("fieldPath") or ""
    if not field:
        return
    if not field.strip():
        report.invalid(f"{path}.fieldPath", field, "fieldPath must be non-empty if specified")
    elif _lines(field):
        report.invalid(f"{path}.fieldPath", field, "fieldPath must not contain line breaks")
    elif problem := _path_problem(field, _at(schema, where)):
        report.invalid(f"{path}.fieldPath", field, f"fieldPath must be a valid path: {problem}")


def _lines(text: str) -> bool:
    return "\n" in text or "\r" in text


def _at(schema: Schema, where: str) -> Schema:
    """The schema of the value that the rules at a path are about: what is in allOf is about what is around it."""
    place = schema
    for found in re.finditer(r"\.properties\[([^\]]*)\](?=\.|$)|\.(items|additionalProperties)(?=\.|$)", where):
        inner = (place.get("properties") or {}).get(found[1]) if found[1] is not None else place.get(found[2])
        if not isinstance(inner, dict):
            return {}
        place = inner
    return place


def _path_problem(text: str, schema: Schema) -> str:
    """Why a path leads nowhere: .spec.labels['a.b']; "": it leads to a field."""
    at = 0
    while at < len(text):
        found = _token.match(text, at)
        if found is None:
            return f"expected [ or . but got: {text[at:]}"
        if found[2] is not None and any(one not in _ESCAPES for one in _escaped.findall(found[2])):
            return f"invalid string literal: invalid escape char in {found[0]}"
        name = found[1] if found[1] is not None else _escaped.sub(lambda one: _ESCAPES[one[1]], found[2])
        properties, others = schema.get("properties"), schema.get("additionalProperties")
        inner = properties.get(name) if properties else others
        if not isinstance(inner, dict):
            return "does not refer to a valid field"
        schema, at = inner, found.end()
    return ""


class _Check:
    """Goes through compiled rules; remembers what they cost."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._costs: list[tuple[float, str]] = []

    def look(self, node: Node, path: str, around: str, often: float, uncorrelatable: str) -> None:
        """`around`: the path of the schema that the rules are about; `often`: how many such values there can be, inf:
        nobody says; `uncorrelatable`: within which schema nobody knows what was there before."""
        place = node.place
        for index, rule in enumerate(place.rules if place is not None else ()):
            assert place is not None
            many = often if often < inf else place.most_often
            self._rule(rule, f"{path}.{RULES}[{index}]", many, uncorrelatable)
        for part in node.all_of:
            self.look(part, f"{path}.allOf[{part.index}]", around, often, uncorrelatable)
        schema = node.schema
        unordered = uncorrelatable or (around if schema.get(MAP_TYPE) == "atomic" else "")
        for name, inner in node.properties.items():
            step = f".properties[{name}]"
            self.look(inner, path + step, around + step, often, unordered)
        if node.others is not None:
            many = times(often, schema.get("maxProperties", inf))
            step = ".additionalProperties"
            self.look(node.others, path + step, around + step, many, unordered)
        if node.items is not None:
            many = times(often, schema.get("maxItems", inf))
            unordered = uncorrelatable or (around if schema.get(LIST_TYPE) != "map" else "")
            self.look(node.items, f"{path}.items", f"{around}.items", many, unordered)

    def _rule(self, rule: Rule, path: str, often: float, uncorrelatable: str) -> None:
        if rule.problem:
            self._report.invalid(f"{path}.rule", rule.text, rule.problem)
        if rule.message_problem:
            why = rule.message_problem.replace("cel expression", "messageExpression")
            self._report.invalid(f"{path}.messageExpression", rule.text, why)
        if rule.message_expression is not None:
            cost = rule.message_expression.declared_cost
            self._dear(f"{path}.messageExpression", "estimated messageExpression cost", cost, MAX_RULE_COST)
            self._costs.append((cost, f"{path}.messageExpression"))
        if rule.expression is None:
            return
        cost = times(rule.expression.declared_cost, often)
        self._dear(f"{path}.rule", "estimated rule cost", cost, MAX_RULE_COST)
        self._costs.append((cost, f"{path}.rule"))
        asks = rule.expression.uses_old_self
        if asks and uncorrelatable:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelatable}"
            self._report.invalid(f"{path}.rule", rule.text, why)
        if rule.optional and not asks:
            self._report.invalid(f"{path}.optionalOldSelf", True, "may not be set unless oldSelf is used in rule")

    def total(self, path: str) -> None:
        """All rules together."""
        if not self._dear(path, _TOTAL, sum(cost for cost, _ in self._costs), MAX_SCHEMA_COST):
            return
        for cost, where in sorted(self._costs, reverse=True)[:4]:
            if cost * 100 > MAX_SCHEMA_COST:
                why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
                self._report.forbidden(where, why)

    def _dear(self, path: str, what: str, cost: float, limit: int) -> bool:
        if cost <= limit:
            return False
        factor = cost / limit
        shown = "more than 100x" if factor > 100 else f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"
        advice = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and"
        self._report.forbidden(path, f"{what} exceeds budget by factor of {shown} ({advice} strings are declared)")
        return True


_TOTAL = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"


def _defaults(run: Run, node: Node, path: str) -> None:
    """Each default keeps the rules."""
    run.look(node, node.schema.get("default"), None, f"{path}.default")
    for name, inner in node.properties.items():
        _defaults(run, inner, f"{path}.properties[{name}]")
    for word, found in (("items", node.items), ("additionalProperties", node.others)):
        if found is not None:
            _defaults(run, found, f"{path}.{word}")
