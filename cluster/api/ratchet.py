"""What of an object was so before it was written: of that nobody is told that it is wrong.

A definition may become stricter while there are objects that it would refuse by now. They may stay, and what does not
change in them is not looked at again; otherwise their controllers could write neither status nor label, and users would
have to mend all of an object to change a part of it. Kubernetes calls this ratcheting.

    schema    spec.image: pattern ^registry/        spec.ports: a list that is a map by its port
    old       {"image": "web", "ports": [{"port": 80, "name": "H"}]}
    new       {"image": "web", "ports": [{"port": 90}, {"port": 80, "name": "H"}], "size": 3}

The image is as it was, and so is the name of port 80, which is found by its keys. In a list that is no such map, and in
an object that is atomic, no part is known to be the same as before; it stays unnoticed only if all of it does. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cluster.api.raw_json import pack
from cluster.api.structural import LIST_MAP_KEYS, LIST_TYPE, Json, Schema

MAP_TYPE = "x-kubernetes-map-type"


def same(value: Json, old: Json) -> bool:
    """Both are the same JSON: 1 is no true, and no 1.0."""
    return bool(value == old) and pack(value) == pack(old)


class Ratchet:
    """A value beside the one that it replaces. There may be thousands of errors in it: what was looked at for one of
    them is remembered for the others, so that all together take no longer than a few looks at the whole."""

    def __init__(self, value: Json, old: Json, schema: Schema) -> None:
        self._root = _Place(value, old, schema)

    def is_as_before(self, path: Sequence[str | int]) -> bool:
        """What stands at a path within the value, or something around it, is what it was before."""
        place: _Place | None = self._root
        for step in path:
            if place is None or place.is_same:
                break
            place = place.at(step)
        return place is not None and place.is_same


class _Place:
    """A part of the value, and what it was."""

    def __init__(self, value: Json, old: Json, schema: Schema) -> None:
        self._value, self._old, self._schema = value, old, schema
        self._parts: dict[str | int, _Place | None] = {}

    @cached_property
    def is_same(self) -> bool:
        return same(self._value, self._old)

    @cached_property
    def _before(self) -> dict[bytes, tuple[Json]]:
        return before_by_keys(self._schema, self._old)

    def at(self, step: str | int) -> _Place | None:
        """A part of it; None if it is not known what that was before."""
        if step not in self._parts:
            self._parts[step] = self._part(step)
        return self._parts[step]

    def _part(self, step: str | int) -> _Place | None:
        value, old, schema = self._value, self._old, self._schema
        if isinstance(value, list) and isinstance(step, int):
            item = value[step]
            found = self._before.get(key_of(schema, item), ())
            inner = schema.get("items")
        elif isinstance(value, dict) and isinstance(step, str):
            item = value[step]
            follows = isinstance(old, dict) and step in old and schema.get(MAP_TYPE) != "atomic"
            found = (old[step],) if follows else ()
            inner = (schema.get("properties") or {}).get(step, schema.get("additionalProperties"))
        else:
            return None
        return _Place(item, *found, inner if isinstance(inner, dict) else {}) if found else None


def before_by_keys(schema: Schema, old: Json) -> dict[bytes, tuple[Json]]:
    """The items of a list that is a map, by what tells them apart; nothing of another list."""
    if schema.get(LIST_TYPE) != "map" or not isinstance(old, list):
        return {}
    return {key_of(schema, item): (item,) for item in old}


def key_of(schema: Schema, item: Json) -> bytes:
    """What tells an item of such a list apart from the others."""
    keys = schema.get(LIST_MAP_KEYS) or ()
    return pack([item.get(key) for key in keys] if isinstance(item, dict) else item)
