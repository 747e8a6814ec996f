"""Objects of kinds that users define, as JSON: metadata by our own descriptor, everything else as it is.

    CustomObject(resource="widgets.example.com", apiVersion="example.com/v1", kind="Widget",
                 metadata.name="blue", content={"spec":{"size":3}}, status={"ready":true})

    {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "blue"},
     "spec": {"size": 3}, "status": {"ready": true}}

apiVersion, kind, metadata and status have fields of their own; what stands beside them is the content. Which definition
the object belongs to is not in the JSON: who reads it knows. What the definition asks for is looked at elsewhere
(`cluster.api.structural`); here it only has to be JSON, and JSON's limits hold. Pure.
"""

from __future__ import annotations

from typing import Any

from cluster.api.json_parse import Problems, describe, free_json, note, parser
from cluster.api.json_print import printer
from cluster.api.raw_json import pack, unpack
from cluster.pb.v1 import core_pb2 as core

APART = ("apiVersion", "kind", "metadata", "status")
"""What is not in the content."""


def custom_to_json(obj: core.CustomObject, exact: bool = False) -> dict[str, Any]:
    """The object as whoever wrote it sees it."""
    data: dict[str, Any] = {"apiVersion": obj.apiVersion, "kind": obj.kind}
    if obj.HasField("metadata"):
        data["metadata"] = printer(core.ObjectMeta.DESCRIPTOR, exact)(obj.metadata)
    data |= custom_content(obj)
    if obj.HasField("status"):
        data["status"] = custom_status(obj)
    return data


def custom_arguments(data: dict[str, Any], resource: str, problems: Problems) -> dict[str, Any]:
    """The arguments of the message's constructor; what is wrong is added to `problems`."""
    arguments: dict[str, Any] = {"resource": resource}
    for name in ("apiVersion", "kind"):
        value = data.get(name)
        if isinstance(value, str):
            arguments[name] = value
        elif value is not None:
            note(problems, (None, name), f"must be a string, not {describe(value)}")
    if data.get("metadata") is not None:
        arguments["metadata"] = parser(core.ObjectMeta.DESCRIPTOR)(data["metadata"], (None, "metadata"), problems)
    content = {key: value for key, value in data.items() if key not in APART}
    if content:
        arguments["content"] = free_json(content, None, problems)
    if data.get("status") is not None:
        arguments["status"] = free_json(data["status"], (None, "status"), problems)
    return arguments


def custom_content(obj: core.CustomObject) -> dict[str, Any]:
    """What stands beside apiVersion, kind, metadata and status. Raises ValueError if it is no JSON object, or holds one
    of these."""
    content = unpack(obj.content) if obj.content else {}
    if not isinstance(content, dict):
        raise ValueError("the content is no JSON object")
    if not content.keys().isdisjoint(APART):
        raise ValueError(f"the content has one of {', '.join(APART)}, which stand beside it")
    return content


def custom_status(obj: core.CustomObject) -> Any:
    """The status; None: it has none. Raises ValueError if it is no JSON."""
    return unpack(obj.status) if obj.status else None


def custom_conditions(obj: core.CustomObject) -> list[tuple[str, str]]:
    """Types and statuses of the conditions in its status, as far as it has any."""
    status = custom_status(obj)
    found = status.get("conditions") if isinstance(status, dict) else None
    if not isinstance(found, list):
        return []
    return [(str(each.get("type")), str(each.get("status"))) for each in found if isinstance(each, dict)]


def set_content(obj: core.CustomObject, data: dict[str, Any]) -> None:
    """Puts what stands in `data` beside apiVersion, kind and metadata into the object, in the form in which it is kept:
    equal values are equal bytes."""
    content = {key: value for key, value in data.items() if key not in APART}
    if content:
        obj.content = pack(content)
    else:
        obj.ClearField("content")
    set_status(obj, data.get("status"))


def set_status(obj: core.CustomObject, status: Any) -> None:
    """The same for the status alone; None: it has none."""
    if status is None:
        obj.ClearField("status")
    else:
        obj.status = pack(status)
