"""Which fields an object has, as sets of paths: what server-side apply and managedFields reckon with.

    {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    -> f:metadata f:labels f:a            f:spec f:containers k:{"name":"main"}          (the item itself)
                                          f:spec f:containers k:{"name":"main"} f:name   (and its fields)
                                          f:spec f:containers k:{"name":"main"} f:image

A path is a tuple of such steps: f: a field or a key of a map, k: the item of a list that has these keys, v: a value of
a list that is a set. What is atomic has no steps below it. `managedFields` writes a set as nested objects (FieldsV1),
in which "." stands for the place itself. What a list's keys are, and what is atomic, is what `shapes.py` knows. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from cluster.api.shapes import Shape

Path: TypeAlias = tuple[str, ...]

_NOT_MANAGED = frozenset(
    (
        *(("f:apiVersion",), ("f:kind",), ("f:metadata",)),
        *(
            ("f:metadata", f"f:{name}")
            for name in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink")
        ),
        *(("f:metadata", f"f:{name}") for name in ("managedFields", "actor", "cause", "generateName")),
        *(("f:metadata", f"f:{name}") for name in ("deletionTimestamp", "deletionGracePeriodSeconds")),
    )
)
"""Nobody answers for these but the server."""


def fields_of(data: Mapping[str, Any], shape: Shape) -> frozenset[Path]:
    """The paths of all fields of an object as JSON that somebody can answer for."""
    paths: set[Path] = set()
    for key, value in data.items():
        _collect(value, shape.under(key), (f"f:{key}",), paths)
    return frozenset(path for path in paths if path not in _NOT_MANAGED and path[:2] not in _NOT_MANAGED)


def _collect(value: Any, shape: Shape, path: Path, paths: set[Path]) -> None:
    if isinstance(value, dict) and not shape.is_atomic:
        if not value:
            paths.add(path)
        for key, inner in value.items():
            _collect(inner, shape.under(key), (*path, f"f:{key}"), paths)
        return
    if isinstance(value, list):
        if shape.keys:
            for item in value:
                if isinstance(item, dict):
                    place = (*path, step_of(item, shape))
                    paths.add(place)
                    for key, inner in item.items():
                        _collect(inner, shape.under(key), (*place, f"f:{key}"), paths)
            if value:
                return
        elif shape.is_set:
            paths.update((*path, f"v:{json.dumps(item)}") for item in value)
            if value:
                return
    paths.add(path)


def step_of(item: dict[str, Any], shape: Shape) -> str:
    """The step to an item of a list of that shape: k:{"name":"main"}."""
    chosen = {key: item.get(key, shape.default_of(key)) for key in sorted(shape.keys)}
    return f"k:{json.dumps(chosen, separators=(',', ':'), sort_keys=True)}"


# --- as managedFields write them


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """A set as nested objects."""
    root: dict[str, Any] = {}
    every = set(paths)
    for path in sorted(every):
        place = root
        for step in path:
            place = place.setdefault(step, {})
        if path[-1].startswith("k:"):
            place["."] = {}
    return root


def from_fields_v1(data: Any) -> frozenset[Path]:
    """The set that nested objects write. What makes no sense is passed over."""
    paths: set[Path] = set()
    waiting: list[tuple[Path, Any]] = [((), data)]
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, dict):
            continue
        if path and (not value or "." in value):
            paths.add(path)
        waiting += [((*path, step), inner) for step, inner in value.items() if _is_step(step)]
    return frozenset(paths)


def _is_step(text: str) -> bool:
    """Anybody may write managedFields, so anything may stand there."""
    kind, colon, rest = text.partition(":")
    if kind != "k":
        return bool(colon) and kind in ("f", "v")
    try:
        return isinstance(json.loads(rest), dict)
    except (ValueError, RecursionError):
        return False


def readable(path: Path) -> str:
    """A path as conflicts name it: .spec.containers[name="main"].image."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            pairs = json.loads(rest)
            text += f"[{','.join(f'{key}={json.dumps(value)}' for key, value in pairs.items())}]"
        else:
            text += f"[={rest}]"
    return text
