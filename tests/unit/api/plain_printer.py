"""Messages as JSON's values in the plainest way: the reference that the compiled printers are held against."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cluster.api.json_print import is_inline, map_entry
from cluster.api.times import format_micro_time, format_time, format_time_exactly
from cluster.pb.v1 import core_pb2 as core


def plainly(message: Message, exact: bool = False) -> Any:
    """See `cluster.api.json.to_json`."""
    match message:
        case core.Time() | core.MicroTime() if not message.ListFields():
            return None
        case core.Time() | core.MicroTime() if exact and message.HasField("nanos"):
            return format_time_exactly(message.seconds, message.nanos)
        case core.MicroTime() if not exact:
            return format_micro_time(message.seconds, message.nanos)
        case core.Time() | core.MicroTime():
            return format_time(message.seconds)
        case core.Quantity():
            return message.string or "0"
        case core.IntOrString():
            return message.strVal if message.type == 1 else message.intVal
        case core.FieldsV1():
            return json.loads(message.Raw or b"{}")
        case core.RawJson():
            return json.loads(message.Raw or b"null")
    printed: dict[str, Any] = {}
    for field, value in message.ListFields():
        entry = map_entry(field)
        if entry is not None:
            of_value = entry.fields_by_name["value"]
            printed[field.name] = {key: _value(of_value, value[key], exact) for key in sorted(value)}
        elif field.is_repeated:
            printed[field.name] = [_value(field, item, exact) for item in value]
        elif is_inline(field):
            printed.update(_value(field, value, exact))
        else:
            printed[field.name] = _value(field, value, exact)
    return printed


def _value(field: FieldDescriptor, value: Any, exact: bool) -> Any:
    if field.message_type is not None:
        return plainly(value, exact)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return base64.b64encode(value).decode() if field.type == FieldDescriptor.TYPE_BYTES else value
