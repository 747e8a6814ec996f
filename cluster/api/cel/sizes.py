"""How large values can be: by the schema, and those of one object.

A place in a value is a path from `self` or `oldSelf`, as a rule walks it: ("self", "ports", "@items", "name"). Of a
text the size is in characters, of a list or map it is how many entries it has.

    Declared    by maxItems, maxProperties, maxLength and enum; else as much as fits into a request: Kubernetes'
                numbers, so that what Kubernetes accepts is accepted
    Capped      the same, of an object of not more than so many bytes
    Found       those of an object that is there, looked at once

Beside the size there is the weight: what it takes to go through all that is there, in units of `cost.py`. Pure.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

from cluster.api.cel.names import escape
from cluster.api.cel.types import seen
from cluster.api.structural import INT_OR_STRING, Json, Schema

MAX_REQUEST_BYTES = 3 * 1024 * 1024
"""Kubernetes'; ours are smaller."""
_FORMATS = {"duration": 32, "date": 12, "date-time": 32}
"""The longest text of a format."""
_SMALLEST = {"boolean": 4, "integer": 1, "number": 1, "string": 2}
"""Bytes in JSON."""
_SMALLEST_STRINGS = {"duration": 3, "date": 12, "date-time": 21}
ITEMS, KEYS, VALUES = "@items", "@keys", "@values"
NODE_WEIGHT, LETTER_WEIGHT = 4.0, 0.02

Path = tuple[str, ...]


class Sizes(Protocol):
    """See above."""

    def size(self, path: Path | None) -> float:
        """The largest that can be there; None: nobody knows where it comes from."""
        ...

    def is_unknown(self, path: Path | None) -> bool:
        """Nothing is known of what is there."""
        ...

    def weight(self, path: Path | None) -> float:
        """What it takes to go through it."""
        ...


def smallest(schema: Schema) -> int:
    """Bytes that a value takes at least."""
    schema = seen(schema)
    if schema.get(INT_OR_STRING):
        return 1
    kind = schema.get("type")
    if kind != "object" or isinstance(schema.get("additionalProperties"), dict):
        form = schema.get("format") or ""
        return _SMALLEST_STRINGS.get(form, 2) if kind == "string" else _SMALLEST.get(kind or "", 2)
    needed = schema.get("required") or ()
    properties = schema.get("properties") or {}
    return 2 + sum(
        len(name) + smallest(inner) + 4
        for name, inner in properties.items()
        if name in needed and inner.get("default") is None
    )


def most(schema: Schema) -> int:
    """How large a value can be: entries, or characters."""
    kind = schema.get("type")
    if schema.get(INT_OR_STRING) or kind == "string":
        form = schema.get("format")
        if form in _FORMATS and not schema.get(INT_OR_STRING):
            return _FORMATS[form]
        length = schema.get("maxLength")
        if length is not None:
            return int(length) * (1 if form == "byte" else 4)
        if schema.get("enum"):
            return max((len(one.encode()) for one in schema["enum"] if isinstance(one, str)), default=0)
        return MAX_REQUEST_BYTES - 2
    for word, limit, extra in (("items", "maxItems", 1), ("additionalProperties", "maxProperties", 6)):
        inner = schema.get(word)
        if isinstance(inner, dict):
            bound = schema.get(limit)
            return int(bound) if bound is not None else (MAX_REQUEST_BYTES - 2) // (smallest(inner) + extra)
    return 0


def _step(schema: Schema, step: str) -> Schema | None:
    """The schema of what a step of a path leads to; None: nothing is known of it."""
    inner: Any
    if step == ITEMS:
        inner = schema.get("items")
    elif step == VALUES:
        inner = schema.get("additionalProperties")
    else:
        properties = schema.get("properties") or {}
        inner = next((found for name, found in properties.items() if escape(name) == step), None)
    return seen(inner) if isinstance(inner, dict) else None


class Declared:
    """By the schema of `self`."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._known: dict[Path, Schema | None] = {}

    def at(self, path: Path | None) -> Schema | None:
        """The schema of the place; None: there is none."""
        if path is None:
            return None
        if len(path) <= 1:
            return self._schema
        if path not in self._known:
            around = self.at(path[:-1])
            self._known[path] = _step(around, path[-1]) if around is not None and path[-1] != KEYS else None
        return self._known[path]

    def size(self, path: Path | None) -> float:
        if path is not None and path[-1] == KEYS:
            return 0
        schema = self.at(path)
        return inf if schema is None else most(schema)

    def is_unknown(self, path: Path | None) -> bool:
        return path is None or (path[-1] != KEYS and self.at(path) is None)

    def weight(self, path: Path | None) -> float:
        return inf


class Capped:
    """Of an object that takes so many bytes as JSON."""

    def __init__(self, declared: Declared, size_bytes: int) -> None:
        self._declared = declared
        self._size_bytes = size_bytes

    def size(self, path: Path | None) -> float:
        known = self._size_bytes if path is not None and path[-1] == KEYS else self._declared.size(path)
        return min(known, self._size_bytes)

    def is_unknown(self, path: Path | None) -> bool:
        return self._declared.is_unknown(path)

    def weight(self, path: Path | None) -> float:
        return self._size_bytes * NODE_WEIGHT / 2


class Found:
    """Of values that are there: `self`, and `oldSelf` if there is one."""

    def __init__(self, schema: Schema, *values: Json) -> None:
        self._declared = Declared(schema)
        self._sizes: dict[Path, int] = {}
        self._weights: dict[Path, float] = {}
        self._largest = 1
        self._all = sum(self._look(value, schema, ()) for value in values)

    def size(self, path: Path | None) -> float:
        found = None if path is None else self._sizes.get(path[1:])
        if found is not None:
            return found
        # Who knows how one gets to what the schema does not know: dyn(self).anything.
        return self._largest if self._declared.is_unknown(path) else 0

    def is_unknown(self, path: Path | None) -> bool:
        return path is None

    def weight(self, path: Path | None) -> float:
        found = None if path is None else self._weights.get(path[1:])
        if found is not None:
            return found
        return self._all if self._declared.is_unknown(path) else NODE_WEIGHT

    def _look(self, value: Json, schema: Schema | None, path: Path) -> float:
        weight, size = NODE_WEIGHT, 0
        if isinstance(value, str):
            size = len(value)
            weight += size * LETTER_WEIGHT
        elif isinstance(value, list):
            size = len(value)
            items = _step(schema, ITEMS) if schema is not None else None
            for item in value:
                weight += self._look(item, items, (*path, ITEMS))
        elif isinstance(value, dict):
            weight += self._entries(value, schema, path)
            size = len(value)
        self._largest = max(self._largest, size)
        self._sizes[path] = max(self._sizes.get(path, 0), size)
        self._weights[path] = max(self._weights.get(path, 0.0), weight)
        return weight

    def _entries(self, value: dict[str, Json], schema: Schema | None, path: Path) -> float:
        weight = 0.0
        others = schema.get("additionalProperties") if schema is not None else None
        properties = (schema.get("properties") or {}) if schema is not None else {}
        longest = max(map(len, value), default=0)
        keys = (*path, KEYS)
        self._sizes[keys] = max(self._sizes.get(keys, 0), longest)
        for key, item in value.items():
            if key in properties:
                weight += self._look(item, seen(properties[key]), (*path, escape(key) or key))
            else:
                inner = seen(others) if isinstance(others, dict) else None
                weight += self._look(item, inner, (*path, VALUES)) + len(key) * LETTER_WEIGHT
        return weight
