"""Which fields of objects nobody may see, and what is shown in their place.

`SECRET_FIELDS` says for every kind which of its fields are values that must not be shown where the past of an object is
told (history, diff, undo, trace). `hide` puts a word in their place that is the same for the same value of the same
field, so that a change still shows as one. The word cannot be turned back, and guesses cannot be checked, without the
key, which is the master's and dies with it.

    {"kind": "Secret", "data": {"password": "aHVudGVyMg=="}}
    {"kind": "Secret", "data": {"password": "hidden+5f1c08a3b"}}

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from cluster.api.diff import LAST_APPLIED
from cluster.api.json import object_from_json, object_to_json
from cluster.api.kinds import AnyObject, kind_of

SECRET_FIELDS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "Pod": (),
    "Node": (),
    "ReplicationController": (),
    "Service": (),
    "Endpoints": (),
    "Event": (),
    "Namespace": (),
    "Lease": (),
    "ConfigMap": (),
    "PriorityClass": (),
    "PodDisruptionBudget": (),
    "ServiceAccount": (),
    "Fault": (),
    "CustomResourceDefinition": (),
    "CustomObject": (),
    "Secret": (("data",), ("stringData",), ("metadata", "annotations", LAST_APPLIED)),
}
"""Kind -> paths of its fields whose values are secret, down to every value below. Every kind has a row; of one without
a row, everything but the metadata is hidden. Environment variables are not secret: they are shown by `get` as well."""

HIDDEN = "hidden+"
"""What every word begins with that stands for a hidden value. With nine digits after it, it is also valid base64, so
that a field of bytes can hold it."""


def hide(kind: str, data: dict[str, Any], key: bytes) -> dict[str, Any]:
    """An object of a kind, as JSON, with words in the place of secret values. Returns `data` itself if it has none.

    `key`: some 16 random bytes that are never shown. The same key gives the same word for the same value of the same
    field of the same object (its uid), and for nothing else.
    """
    paths = SECRET_FIELDS.get(kind)
    if paths is None:
        paths = [(name,) for name in data if name not in ("apiVersion", "kind", "metadata")]
        paths.append(("metadata", "annotations", LAST_APPLIED))
    if not paths:
        return data
    uid = str(data.get("metadata", {}).get("uid", ""))

    def word(path: str, value: Any) -> str:
        content = json.dumps([uid, path, value], sort_keys=True).encode()
        return HIDDEN + blake2b(content, key=key, digest_size=5).hexdigest()[:9]

    shown: Any = data
    for path in paths:
        shown = _replace(shown, path, "", word)
    return dict(shown)


def _replace(value: Any, path: Sequence[str], walked: str, word: Callable[[str, Any], str]) -> Any:
    if path:
        if not isinstance(value, dict) or path[0] not in value:
            return value
        inner = _replace(value[path[0]], path[1:], f"{walked}/{path[0]}", word)
        return {**value, path[0]: inner}
    if isinstance(value, dict):
        return {name: _replace(inner, (), f"{walked}/{name}", word) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replace(inner, (), f"{walked}/{place}", word) for place, inner in enumerate(value)]
    return word(walked, value)


def hide_object(obj: AnyObject, key: bytes) -> AnyObject:
    """The object with words in the place of secret values; the very object if it has none."""
    kind = kind_of(obj).name
    if SECRET_FIELDS.get(kind) == ():
        return obj
    return object_from_json(hide(kind, object_to_json(obj, exact=True), key))
