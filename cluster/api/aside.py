"""Fields of Kubernetes that Podium does not carry out, put aside with the object that they were written in.

Manifests that people have say more than Podium does: `hostNetwork`, `imagePullSecrets`, `fsGroup`. Podium's own
commands refuse them; Kubernetes' REST API takes them, warns, and shows them again to whoever reads the object there, so
that nothing is lost on the way from one tool to the next. They stand in an annotation, as JSON, by their paths:

    podium.dev/not-carried-out: {"spec.containers[name=\"main\"].imagePullPolicy":"Always","spec.hostNetwork":true}

So they are there for everyone to see. The items of a list that have a key (`list_keys.py`) are told apart by it, others
by their index; so whoever removes a container, or changes the order, without knowing of this, takes away no more than
what was put aside for it: a path that leads nowhere is passed over. What asks for nothing (`hostNetwork: false`) is
kept as well, but is not worth a warning. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias, cast

from google.protobuf.descriptor import Descriptor

from cluster.api.errors import Invalid
from cluster.api.json import object_to_json
from cluster.api.json_parse import NOT_CARRIED_OUT
from cluster.api.kinds import AnyObject
from cluster.api.list_keys import Found, field_named, merge_key, message_of
from cluster.api.raw_json import MAX_DEPTH, misfit
from cluster.pb.v1 import core_pb2 as core

ANNOTATION = "podium.dev/not-carried-out"
MAX_BYTES = 64 * 1024
"""Of what is put aside for one object."""

_STATUS = "status."
_Step: TypeAlias = str | int | tuple[str, Any]
"""A field's name; an item's index, or its key with what that is."""
_STEP = re.compile(r'\.?([^.\[\]]+)|\[(\d{1,9})\]|\[(\w+)=("(?:[^"\\]|\\.)*"|-?\d{1,19})\]')
_SERVER_OWNED = ("metadata.selfLink", "metadata.clusterName")
"""Kubernetes' server writes these itself; a client that sends them back asks for nothing."""
_QUIET: dict[str, tuple[Any, ...]] = {
    "dnsPolicy": ("ClusterFirst",),
    "imagePullPolicy": ("IfNotPresent",),
    "serviceAccountName": ("default",),
    "serviceAccount": ("default",),
    "ipFamilyPolicy": ("SingleStack",),
    "ipFamilies": (["IPv4"],),
    "externalTrafficPolicy": ("Cluster",),
    "internalTrafficPolicy": ("Cluster",),
    "allocateLoadBalancerNodePorts": (True,),
    "phase": ("Active",),
}
"""By the field's name: values that are what happens anyway."""


def plain(obj: AnyObject, *, exact: bool = False) -> dict[str, Any]:
    """An object as Kubernetes shows it: as JSON, with what is aside where it was written. `exact`: see `to_json`."""
    data = object_to_json(obj, exact=exact)
    if ANNOTATION in obj.metadata.annotations and not isinstance(obj, core.CustomObject):
        restore(data)
    return data


def keep(obj: AnyObject, found: Iterable[tuple[str, Any]], before: Mapping[str, Any] | None = None) -> list[str]:
    """Puts these fields (path, value) aside with the object, instead of what was aside before. Returns warnings, but
    not of what was there `before`, as `kept` says. Raises Invalid if it is too much, or no JSON.
    """
    known = before or {}
    given = {path: value for path, value in found if path not in _SERVER_OWNED}
    by_key = _by_key(obj, given)
    fields = {by_key[path]: value for path, value in given.items()}
    if not fields:
        if ANNOTATION in obj.metadata.annotations:
            del obj.metadata.annotations[ANNOTATION]
        return []
    _put(obj, fields)
    return [
        f"{path}: {NOT_CARRIED_OUT}"
        for path, value in given.items()
        if not _asks_for_nothing(path, value) and known.get(by_key[path]) != value
    ]


def _by_key(obj: AnyObject, paths: Iterable[str]) -> dict[str, str]:
    """For each path, in which items have their index: the same, in which those that have a key are named by it."""
    found = {path: path for path in paths}
    data: Any = None
    for path in found:
        if "[" in path:
            data = data or object_to_json(obj)
            found[path] = _keyed(path, data, cast(Descriptor, obj.DESCRIPTOR))
    return found


def _keyed(path: str, data: Any, descriptor: Descriptor) -> str:
    text, place, message, field = "", data, cast("Descriptor | None", descriptor), cast(Found, None)
    for name, index, *_ in _STEP.findall(path):
        if name:
            text += f".{name}" if text else name
            field = field_named(message, name)
            message = message_of(field)
            place = place.get(name) if isinstance(place, dict) else None
            continue
        place = place[int(index)] if isinstance(place, list) and int(index) < len(place) else None
        key = merge_key(field[0], field[1].name) if field is not None else None
        value = place.get(key) if key is not None and isinstance(place, dict) else None
        text += f"[{key}={json.dumps(value)}]" if isinstance(value, str | int) else f"[{index}]"
    return text


def _put(obj: AnyObject, fields: Mapping[str, Any]) -> None:
    if found := misfit(dict(fields)):
        raise Invalid(f"{'.'.join(map(str, found[0]))}: {found[1]}")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(text) > MAX_BYTES:
        raise Invalid(f"fields that Podium does not carry out take {len(text)} characters; the most is {MAX_BYTES}")
    obj.metadata.annotations[ANNOTATION] = text


def take_status(obj: AnyObject, source: AnyObject) -> None:
    """What is aside of the object's status is from now on what is aside of `source`'s; of the rest, all stays as it is.
    Raises Invalid if it is too much, or no JSON."""
    if not (has_aside(obj) or has_aside(source)):
        return
    fields = {path: value for path, value in kept(obj).items() if not path.startswith(_STATUS)}
    fields |= {path: value for path, value in kept(source).items() if path.startswith(_STATUS)}
    if fields:
        _put(obj, fields)
    elif has_aside(obj):
        del obj.metadata.annotations[ANNOTATION]


def has_aside(obj: AnyObject) -> bool:
    """Whether it says what is aside, be it nothing."""
    return ANNOTATION in obj.metadata.annotations


def kept(obj: AnyObject) -> dict[str, Any]:
    """What is aside with an object: values by their paths."""
    return _parsed(obj.metadata.annotations[ANNOTATION]) if ANNOTATION in obj.metadata.annotations else {}


def restore(data: dict[str, Any]) -> None:
    """Puts what was aside back where it was written, in an object as JSON, and takes the annotation away."""
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return
    annotations = metadata.get("annotations")
    if not isinstance(annotations, dict) or ANNOTATION not in annotations:
        return
    text = annotations.pop(ANNOTATION)
    if not annotations:
        del metadata["annotations"]
    for path, value in _parsed(text).items():
        _place(data, path, value)


def _parsed(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # somebody has written there: it means nothing
    return fields if isinstance(fields, dict) and misfit(fields) is None else {}


def _place(data: dict[str, Any], path: str, value: Any) -> None:
    try:
        steps: list[_Step] = [
            name or (int(index) if index else (key, json.loads(text))) for name, index, key, text in _STEP.findall(path)
        ]
    except ValueError:
        return
    if not 0 < len(steps) <= MAX_DEPTH or not isinstance(steps[-1], str):
        return
    place: Any = data
    for step, following in pairwise(steps):
        if not isinstance(step, str):
            place = _item(place, step)
            if place is None:
                return
        elif not isinstance(place, dict):
            return
        elif step in place:
            place = place[step]
        elif isinstance(following, str):
            place = place.setdefault(step, {})  # it held nothing else
        else:
            return
    if isinstance(place, dict):
        place.setdefault(steps[-1], value)


def _item(items: Any, step: int | tuple[str, Any]) -> Any:
    """An item of a list, by its index or by its key; None: there is none."""
    if not isinstance(items, list):
        return None
    if isinstance(step, int):
        return items[step] if step < len(items) else None
    key, value = step
    return next((item for item in items if isinstance(item, dict) and item.get(key) == value), None)


def _asks_for_nothing(path: str, value: Any) -> bool:
    name = path.rpartition(".")[2]
    return value in (False, "", 0) or any(value == quiet for quiet in _QUIET.get(name, ()))
