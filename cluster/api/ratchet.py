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

from cluster.api.raw_json import pack
from cluster.api.structural import LIST_MAP_KEYS, LIST_TYPE, Json, Schema

MAP_TYPE = "x-kubernetes-map-type"


def same(value: Json, old: Json) -> bool:
    """Both are the same JSON: 1 is no true, and no 1.0."""
    return bool(value == old) and pack(value) == pack(old)


def is_as_before(value: Json, old: Json, schema: Schema, path: Sequence[str | int]) -> bool:
    """What stands at a path within a value, or something around it, is what it was in the value that is replaced."""
    for step in path:
        if same(value, old):
            return True
        if isinstance(value, list) and isinstance(step, int):
            item = value[step]
            found = before_by_keys(schema, old).get(key_of(schema, item), ())
            inner = schema.get("items")
        elif isinstance(value, dict) and isinstance(step, str):
            item = value[step]
            follows = isinstance(old, dict) and step in old and schema.get(MAP_TYPE) != "atomic"
            found = (old[step],) if follows else ()
            inner = (schema.get("properties") or {}).get(step, schema.get("additionalProperties"))
        else:
            return False
        if not found:
            return False
        value, (old,), schema = item, found, inner if isinstance(inner, dict) else {}
    return same(value, old)


def before_by_keys(schema: Schema, old: Json) -> dict[bytes, tuple[Json]]:
    """The items of a list that is a map, by what tells them apart; nothing of another list."""
    if schema.get(LIST_TYPE) != "map" or not isinstance(old, list):
        return {}
    return {key_of(schema, item): (item,) for item in old}


def key_of(schema: Schema, item: Json) -> bytes:
    """What tells an item of such a list apart from the others."""
    keys = schema.get(LIST_MAP_KEYS) or ()
    return pack([item.get(key) for key in keys] if isinstance(item, dict) else item)
