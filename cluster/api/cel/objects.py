"""What an object breaks of the rules in its schema, in Kubernetes' words and order.

    each place of the object that the schema has rules for, from the outside in; nothing is asked of null
    a rule that looks at oldSelf runs only if there is a value before: the same field, or the item of a list that is a
        map with the same keys; with optionalOldSelf it runs anyway
    a rule that cannot be evaluated fails the object

All rules together have a budget, in tenths of a microsecond. Each evaluation is paid before it happens, with what it
can cost at most: known from the size of the value, or, where that does not say enough, from how large the lists and
texts in it are. When the budget is used up, the object is refused. Pure: the same object costs the same at all times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.api.cel.compiling import Expression, Place, Rule, compiled, evaluating
from cluster.api.cel.rewriting import HAS_OLD_SELF, OLD_SELF, SELF
from cluster.api.cel.sizes import Found
from cluster.api.cel.types import Room
from cluster.api.cel.values import convert, nodes
from cluster.api.errors import FieldError
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.ratchet import MAP_TYPE, before_by_keys, key_of, same
from cluster.api.raw_json import pack
from cluster.api.structural import EMBEDDED, RULES, Json, Schema, has_rules

BUDGET = 5_000_000
"""Of an object: half a second, for the one writer waits."""
_EVALUATION, _NODE, _BYTE = 150, 35, 0.05
"""What an evaluation takes whatever it does, what each value takes that is made ready for it, and what it takes to know
how large one is."""
_SMALL, _CERTAIN = 2_000, 50_000
"""Work that is not looked at closer by the size of the value, and not by what is in it."""
_MAX_MESSAGE_BYTES = 5 * 1024
_NO_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
T = TypeVar("T", bool, str)


@dataclass(slots=True)
class Node:
    """A part of a schema that has rules, or parts with rules."""

    schema: Schema
    place: Place | None = None
    properties: dict[str, Node] = field(default_factory=dict)
    items: Node | None = None
    others: Node | None = None
    all_of: list[Node] = field(default_factory=list)
    kind: str = ""
    """What its values are called in messages."""
    index: int = 0
    """Of a part of allOf: which one it is."""


def compile_rules(schema: Schema, *, is_object: bool = True) -> Node | None:
    """The rules of a schema, compiled; None: it has none."""
    if not has_rules(schema):
        return None
    return _compile(schema, schema, is_object, Room())


def _compile(schema: Schema, source: Schema, is_object: bool, room: Room) -> Node | None:
    """`source`: the schema, or a part of its allOf, whose rules are about the same value."""
    node = Node(schema, kind=schema.get("type") or "")
    if source.get(RULES):
        node.place = compiled(source[RULES], schema, room, is_object=is_object)
    for name, inner in (source.get("properties") or {}).items():
        node_schema = (schema.get("properties") or {}).get(name)
        if isinstance(node_schema, dict) and (found := _inner(node_schema, inner, room)):
            node.properties[name] = found
    for word in ("items", "additionalProperties"):
        if isinstance(source.get(word), dict) and isinstance(schema.get(word), dict):
            found = _inner(schema[word], source[word], room)
            if word == "items":
                node.items = found
            else:
                node.others = found
    for index, part in enumerate(source.get("allOf") or ()):
        if found := _compile(schema, part, is_object, room):
            found.index = index
            node.all_of.append(found)
    return node if any((node.place, node.properties, node.items, node.others, node.all_of)) else None


def _inner(schema: Schema, source: Schema, room: Room) -> Node | None:
    return _compile(schema, source, bool(schema.get(EMBEDDED)), room)


def broken(node: Node, value: Json, old: Json = None, path: str = "") -> list[FieldError]:
    """What a valid value breaks; `old`: what it replaces, None: nothing."""
    run = Run()
    run.look(node, value, old, path)
    return run.errors


class Run:
    """Goes through values; all of them share one budget."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._left: float = BUDGET
        self._over = False
        """No rule runs any more."""

    def look(self, node: Node, value: Json, old: Json, path: str) -> None:
        """Adds what a value breaks to the errors. As `broken`."""
        if value is None or self._over:
            return
        if node.place is not None:
            self._rules(node, node.place, value, old, path)
        for part in node.all_of:
            self.look(part, value, old, path)
        if isinstance(value, dict):
            self._entries(node, value, old, path)
        elif isinstance(value, list) and node.items is not None:
            before = before_by_keys(node.schema, old)
            for index, item in enumerate(value):
                (known,) = before.get(key_of(node.schema, item), (None,)) if before else (None,)
                self.look(node.items, item, known, f"{path}[{index}]")

    def _entries(self, node: Node, value: Mapping[str, Json], old: Json, path: str) -> None:
        correlates = isinstance(old, dict) and node.schema.get(MAP_TYPE) != "atomic"
        if node.others is not None:
            for key, item in value.items():
                self.look(node.others, item, old.get(key) if correlates else None, f"{path}[{key}]")
        for name, inner in node.properties.items():
            if name in value:
                known = old.get(name) if correlates else None
                self.look(inner, value[name], known, f"{path}.{name}" if path else name)

    def _rules(self, node: Node, place: Place, value: Json, old: Json, path: str) -> None:
        there = [rule for rule in place.rules if self._runs(rule, old)]
        visit = _Visit(place, value, old)
        if there and not self._pays(_NODE * visit.needs(int(self._left) // _NODE + 1)):
            self._fail(path, node, _NO_BUDGET)
            self._over = True
        for rule in there:
            if self._over:
                return
            if rule.expression is None:
                self._fail(path, node, f"rule compile error: {rule.problem}")
            else:
                self._rule(node, visit, rule, rule.expression, path)

    @staticmethod
    def _runs(rule: Rule, old: Json) -> bool:
        return old is not None or rule.optional or rule.expression is None or not rule.expression.uses_old_self

    def _rule(self, node: Node, visit: _Visit, rule: Rule, expression: Expression, path: str) -> None:
        if not self._pays(visit.price(expression)):
            self._fail(path, node, _NO_BUDGET)
            self._over = True
            return
        try:
            holds, why = visit.evaluate(expression, bool)
        except RuntimeError as error:
            if "budget exceeded" not in str(error):
                holds, why = None, _error(str(error))
            else:
                what = "no further validation rules will be run due to call cost exceeds limit for rule"
                self._fail(path, node, f"'operation cancelled: actual cost limit exceeded': {what}: {rule.shown}")
                self._over = True
                return
        compares = rule.optional or expression.uses_old_self
        if holds is True or (visit.is_as_before and not compares):
            return  # what is broken already, and does not change, may stay
        if holds is None:
            self._fail(path, node, _not_evaluated(why, rule))
            return
        message = self._message(visit, rule) or rule.message.strip() or f"failed rule: {rule.text.strip()}"
        where = f"{path}{rule.field_path}" if path else rule.field_path.removeprefix(".")
        self._fail(where, node, message, rule.reason)

    def _message(self, visit: _Visit, rule: Rule) -> str:
        """What the rule's own expression says of the value; "": nothing that could be told."""
        if rule.message_expression is None or not self._pays(visit.price(rule.message_expression)):
            return ""
        try:
            found, _ = visit.evaluate(rule.message_expression, str)
        except RuntimeError:
            return ""
        text = (found or "").strip()
        return "" if "\n" in text or len(text.encode()) > _MAX_MESSAGE_BYTES else text

    def _pays(self, price: float) -> bool:
        if price > self._left:
            return False
        self._left -= price
        return True

    def _fail(self, path: str, node: Node, message: str, reason: str = "") -> None:
        shown = {
            "FieldValueForbidden": f"Forbidden: {message}",
            "FieldValueRequired": f"Required value: {message}",
            "FieldValueDuplicate": f'Duplicate value: "{node.kind}"',
        }.get(reason, f'Invalid value: "{node.kind}": {message}')
        self.errors.append(FieldError(path or "<nil>", shown, reason or "FieldValueInvalid"))
        if len(self.errors) >= MAX_PROBLEMS:
            self._over = True


class _Visit:
    """One value, made ready for the rules of its place: once, when the first of them runs."""

    def __init__(self, place: Place, value: Json, old: Json) -> None:
        self._place = place
        self._value = value
        self._old = old
        self._activation: Any = None
        self._size_bytes = 0
        self._sizes: Found | None = None

    @property
    def is_as_before(self) -> bool:
        """The value is the one that it replaces."""
        return self._old is not None and same(self._value, self._old)

    def needs(self, limit: int) -> int:
        """How many values are to be made ready before anything is evaluated; more than `limit` are not counted."""
        needed = self._place.needed
        count = nodes(self._value, needed[SELF], limit)
        return count if self._old is None else count + nodes(self._old, needed[OLD_SELF], limit)

    def price(self, expression: Expression) -> float:
        """What an evaluation takes at most, with what is to be done before it."""
        price = float(_EVALUATION)
        work = expression.work(1 << 22)
        if work <= _SMALL:
            return price + work
        if not self._size_bytes:
            self._size_bytes = len(pack(self._value)) + (len(pack(self._old)) if self._old is not None else 0)
            price += self._size_bytes * _BYTE
        work = expression.work(self._size_bytes)
        if work <= _CERTAIN:
            return price + work
        if self._sizes is None:
            olds = [] if self._old is None else [self._old]
            self._sizes = Found(self._place.schema, self._value, *olds)
            price += self._size_bytes
        return price + min(work, expression.work_found(self._sizes))

    def _ready(self) -> dict[str, Any]:
        data: dict[str, Any] = {HAS_OLD_SELF: self._old is not None}
        needed = self._place.needed
        data[SELF] = convert(self._value, self._place.schema, needed[SELF], is_object=False)
        if self._old is not None:
            data[OLD_SELF] = convert(self._old, self._place.schema, needed[OLD_SELF], is_object=False)
        return data

    def evaluate(self, expression: Expression, wanted: type[T]) -> tuple[T | None, str]:
        """What comes of it; None: nothing of that type, and why. Raises RuntimeError."""
        from cel_expr_python import cel

        if self._activation is None:
            self._activation = evaluating().Activation(self._ready())
        found = expression.program.eval(self._activation)
        kind = found.type()
        if kind == (cel.Type.BOOL if wanted is bool else cel.Type.STRING):
            return found.value(), ""
        if kind == cel.Type.ERROR:
            try:
                return None, _error(str(found.value()))
            except (TypeError, ValueError, OverflowError):
                pass  # an optional value, which Python has none of, says that it is an error
        return None, f"it is no {'bool' if wanted is bool else 'string'}"


def _error(text: str) -> str:
    """What the library says of an evaluation that failed, as Kubernetes' does."""
    text = text.partition(": ")[2] if text.partition(": ")[0].isupper() else text
    text = text.removesuffix("]").rpartition(" [")[0] if text.endswith("]") and " [" in text else text
    for ours, theirs in _ERRORS:
        if text.startswith(ours):
            what = text.removeprefix(ours).split(" size=")[0].strip(' "')
            return theirs + what if theirs.endswith(": ") else theirs
    return text


_ERRORS = (
    ("Key not found in map : ", "no such key: "),
    ("no_such_field : ", "no such key: "),
    ("No matching overloads found", "no such overload"),
    ("divide by zero", "division by zero"),
    ("modulus by zero", "modulus by zero"),
    ("Index error: index=", "index out of bounds: "),
    ("index out of bounds: ", "index out of bounds: "),
)


def _not_evaluated(why: str, rule: Rule) -> str:
    if why.startswith("no such overload"):
        what = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{why}': {what}: {rule.shown}"
    return f"{why} evaluating rule: {rule.shown}"
