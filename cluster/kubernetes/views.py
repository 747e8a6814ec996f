"""Kinds that are served in a second group, with other names for the same fields: there is one store.

    events.k8s.io/v1 Event        v1 Event, as it is kept
    regarding, note               involvedObject, message
    reportingController           reportingComponent
    deprecatedCount ...           count ...

What is read is renamed on its way out, what is written on its way in, and field selectors too. So are the fields in
metadata.managedFields: whoever applies an object by the server finds there what it has applied. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import Message

from cluster.api import aside
from cluster.api.errors import FieldError, Invalid
from cluster.api.json import message_from_json, to_json
from cluster.api.kinds import AnyObject
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core

NAMES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("events.k8s.io", "events"): {
        "involvedObject": "regarding",
        "message": "note",
        "reportingComponent": "reportingController",
        "source": "deprecatedSource",
        "firstTimestamp": "deprecatedFirstTimestamp",
        "lastTimestamp": "deprecatedLastTimestamp",
        "count": "deprecatedCount",
    }
}
"""(group, plural) -> name of a field as it is kept -> as it is called there."""
_SELECTED = {"regarding": "involvedObject", "reportingController": "reportingComponent"}
_TERM = re.compile(rf"(^|,\s*)({'|'.join(_SELECTED)})(?=[.=!])")
_NEEDED = ("eventTime", "reportingController", "reportingInstance", "action", "reason", "type")
_TYPES = ("Normal", "Warning")
"""Of a new event of events.k8s.io."""


def shown(row: Resource, data: dict[str, Any]) -> dict[str, Any]:
    """An object as this row serves it."""
    names = NAMES.get((row.group, row.plural))
    if names is None:
        return data
    renamed = {names.get(key, key): value for key, value in data.items()}
    if "apiVersion" in renamed:
        renamed["apiVersion"] = row.api_version
    return _managed(renamed, names, row.kind.api_version, row.api_version)


def _managed(data: dict[str, Any], names: Mapping[str, str], old: str, new: str) -> dict[str, Any]:
    """With the entries of managedFields that are about the version `old` as they are about `new`. Anything may stand
    there, and what makes no sense stays as it is."""
    metadata = data.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(entries, list):
        return data
    steps = {f"f:{name}": f"f:{other}" for name, other in names.items()}
    renamed = [
        {
            **entry,
            "apiVersion": new,
            "fieldsV1": {steps.get(step, step): inner for step, inner in entry["fieldsV1"].items()},
        }
        if isinstance(entry, dict) and entry.get("apiVersion") == old and isinstance(entry.get("fieldsV1"), dict)
        else entry
        for entry in entries
    ]
    return {**data, "metadata": {**metadata, "managedFields": renamed}}


def plain(obj: AnyObject, row: Resource, *, exact: bool = False, with_defaults: bool = True) -> dict[str, Any]:
    """An object as this row serves it, with what Podium does not carry out where it was written. One of a kind that
    users define is shown in the version of the row, and with the defaults that there are by now, if it `with_defaults`.
    `exact`: times to the nanosecond."""
    if isinstance(obj, core.CustomObject):
        return custom(obj, row, to_json(obj.metadata, exact=exact), with_defaults=with_defaults)[0]
    return shown(row, aside.plain(obj, exact=exact))


def custom(
    obj: core.CustomObject, row: Resource, metadata: dict[str, Any], *, with_defaults: bool = True
) -> tuple[dict[str, Any], bool]:
    """An object of a kind that users define, with these metadata, and whether it holds just what it was stored with.
    That was JSON when it was stored."""
    data = {"apiVersion": row.api_version, "kind": row.kind.name, "metadata": metadata}
    if obj.content:
        data |= orjson.loads(obj.content)
    if obj.status:
        data["status"] = orjson.loads(obj.status)
    return data, not (with_defaults and row.custom is not None and row.custom.defaults.add(data))


def message(row: Resource, data: dict[str, Any]) -> Message:
    """An object as the message that says which fields this row has."""
    if row.view is None:
        raise TypeError(f"{row.qualified} are served as they are kept")
    content = {key: value for key, value in shown(row, data).items() if key not in ("kind", "apiVersion")}
    return message_from_json(row.view, content)


def stored(row: Resource, data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same as it is kept, and fields that have such names only where it is kept."""
    names = NAMES.get((row.group, row.plural))
    if names is None:
        return data, []
    back = {name: kept for kept, name in names.items()}
    renamed = {back.get(key, key): value for key, value in data.items() if key not in names}
    return _managed(renamed, back, row.api_version, row.kind.api_version), sorted(names.keys() & data)


def check_new(row: Resource, data: Mapping[str, Any]) -> None:
    """What this row asks of a new object, besides what is asked of all. Raises Invalid."""
    if (row.group, row.plural) not in NAMES:
        return
    causes = [FieldError(name, "Required value", "FieldValueRequired") for name in _NEEDED if not data.get(name)]
    if (said := data.get("type")) and said not in _TYPES:
        text = f'Unsupported value: "{str(said)[:80]}": supported values: "Normal", "Warning"'
        causes.append(FieldError("type", text, "FieldValueNotSupported"))
    if causes:
        meta = data.get("metadata")
        name = str(meta.get("name", "")) if isinstance(meta, dict) else ""
        text = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
        raise Invalid(f'{row.kind.name} "{name}" is invalid: {text}', causes=causes)


def selector(row: Resource, text: str) -> str:
    """A field selector over what is kept: regarding.name=web asks for involvedObject.name=web."""
    if (row.group, row.plural) not in NAMES:
        return text
    return _TERM.sub(lambda found: found[1] + _SELECTED[found[2]], text)
