"""From messages to JSON's values: a plan per message type, compiled from its descriptor once.

Protobuf's own JSON mapping is neither Kubernetes' nor fast (int64 as strings, quantities as objects), so this is ours.
A descriptor becomes a dictionary from field to a small function; printing walks `ListFields`, so it touches only what
is set. Differences from plain messages, all by type or by option:

    Time            "2026-03-01T12:00:00Z"; an empty one is null
    MicroTime       "2026-03-01T12:00:00.000000Z"; an empty one is null
    Quantity        "100m"
    IntOrString     8080 or "http"
    (inline)        its fields appear among those of the message around it
    FieldsV1        the JSON that it holds
    RawJson         the same, and that may be any value
    bytes           base64
    map             keys in order
The way back is `cluster.api.json_parse`; the words for objects are in `cluster.api.json`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from cluster.api.json_special import Special, special
from cluster.api.raw_json import unpack
from cluster.api.times import format_micro_time, format_time, format_time_exactly
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import options_pb2

Print: TypeAlias = Callable[[Any], Any]


class Printers:
    """The printers of all message types, made alike."""

    def __init__(self, exact: bool = False, *, instead: Mapping[Any, Callable[[Print], Print]] | None = None):
        """`exact`: times to the nanosecond. `instead`: by descriptor, what is made of the printers of some types."""
        self._exact = exact
        self._instead = instead or {}
        self._made: dict[Descriptor, Print] = {}

    def of(self, descriptor: Any) -> Print:
        """The function that turns messages of this descriptor into JSON's values."""
        found = self._made.get(descriptor)
        if found is None:
            made = self._special(descriptor) or self._message_printer(descriptor)
            change = self._instead.get(descriptor)
            found = self._made[descriptor] = change(made) if change is not None else made
        return found

    def _special(self, descriptor: Descriptor) -> Print | None:
        found = special(descriptor)
        return None if found is None else _SPECIAL[found][self._exact]

    def _message_printer(self, descriptor: Descriptor) -> Print:
        # Keyed by the descriptors themselves: to ask each for its number would take as long as all the rest.
        plan: dict[FieldDescriptor, tuple[str, Print | None]] = {}

        def print_message(message: Any) -> dict[str, Any]:
            if not plan:  # built on first use: a message type may contain itself
                plan.update((field, self._field_printer(field)) for field in descriptor.fields)
            out: dict[str, Any] = {}
            for field, value in message.ListFields():
                name, convert = plan[field]
                if convert is None:
                    out[name] = value
                elif name:
                    out[name] = convert(value)
                else:
                    out.update(convert(value))
            return out

        return print_message

    def _field_printer(self, field: FieldDescriptor) -> tuple[str, Print | None]:
        """The field's name ("" for an inline one) and how to print its value (None: as it is)."""
        entry = map_entry(field)
        if entry is not None:
            return field.name, _map_printer(self._value_printer(entry.fields_by_name["value"]))
        convert = self._value_printer(field)
        if field.is_repeated:
            return field.name, _whole if convert is None else lambda values: [convert(value) for value in values]
        return "" if is_inline(field) else field.name, convert

    def _value_printer(self, field: FieldDescriptor) -> Print | None:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return lambda value: base64.b64encode(value).decode("ascii")
        if field.enum_type is not None:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return lambda value: names.get(value, value)
        return None


_SECONDS, _EXACT = Printers(), Printers(exact=True)


def printer(descriptor: Any, exact: bool) -> Print:
    """The function that turns messages of this descriptor into JSON's values. `exact`: times to the nanosecond."""
    return (_EXACT if exact else _SECONDS).of(descriptor)


def _map_printer(convert: Print | None) -> Print:
    if convert is None:
        return lambda value: {key: value[key] for key in sorted(value)}
    if convert is _print_quantity:  # without a call for each: most maps of messages are of quantities
        return lambda value: {key: value[key].string or "0" for key in sorted(value)}
    return lambda value: {key: convert(value[key]) for key in sorted(value)}


_whole: Print = itemgetter(slice(None))
"""A repeated field of scalars as a list: half as long as list()."""


def _print_time(value: core.Time | core.MicroTime) -> str | None:
    seconds = value.seconds
    return format_time(seconds) if seconds or value.ListFields() else None


def _print_micro_time(value: core.MicroTime) -> str | None:
    return format_micro_time(value.seconds, value.nanos) if value.ListFields() else None


def _print_time_exactly(value: core.Time | core.MicroTime) -> str | None:
    if value.HasField("nanos"):
        return format_time_exactly(value.seconds, value.nanos)
    return _print_time(value)


def _print_quantity(value: core.Quantity) -> str:
    return value.string or "0"


def _print_int_or_string(value: core.IntOrString) -> int | str:
    return value.strVal if value.type == 1 else value.intVal


def _print_fields(value: core.FieldsV1) -> Any:
    try:
        return json.loads(value.Raw) if value.Raw else {}
    except ValueError:
        return {}  # of no use to anybody


def _print_raw(value: core.RawJson) -> Any:
    try:
        return unpack(value.Raw) if value.Raw else None
    except ValueError:
        return None  # the master refuses to store it


_SPECIAL: dict[Special, tuple[Print, Print]] = {
    Special.TIME: (_print_time, _print_time_exactly),
    Special.MICRO_TIME: (_print_micro_time, _print_time_exactly),
    Special.QUANTITY: (_print_quantity, _print_quantity),
    Special.INT_OR_STRING: (_print_int_or_string, _print_int_or_string),
    Special.FIELDS: (_print_fields, _print_fields),
    Special.RAW: (_print_raw, _print_raw),
}
"""As Kubernetes prints them, and exactly."""


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of a map's entries, or None if the field is no map."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def is_inline(field: FieldDescriptor) -> bool:
    options: Any = field.GetOptions()
    return bool(options.Extensions[options_pb2.inline])
