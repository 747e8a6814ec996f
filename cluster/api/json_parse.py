"""From JSON's values to messages: a plan per message type, compiled from its descriptor once.

The inverse of `cluster.api.json_print`. Reading walks the JSON object and builds plain dictionaries, which the
message's constructor then takes in one go: that is the fast way into protobuf. null is the same as absent. Types are
strict: "3" is not a number, true is not 1; a quantity is read from a number too, and becomes canonical.

A problem is noted with its path, and reading goes on, so that all problems are reported at once; the path is a chain of
(parent, step) and costs nothing until it is needed. It knows nothing of kinds, files or defaults.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from cluster.api.errors import FieldError
from cluster.api.json_print import is_inline, map_entry
from cluster.api.json_special import Special, special
from cluster.api.quantities import canonical
from cluster.api.raw_json import misfit, pack
from cluster.api.times import parse_time

MAX_PROBLEMS = 100
"""Collected at most; more would only bury the first ones."""
NOT_CARRIED_OUT = "is a field of Kubernetes that Podium does not carry out"

Where: TypeAlias = tuple[Any, str | int] | None
"""Where a value stands: (the same of the value around it, field name or index); None is the outermost."""
Problems: TypeAlias = list[FieldError]
Parse: TypeAlias = Callable[[Any, Where, Problems], Any]
"""Reads one value (never None). What it returns is of no use once it has added to the problems."""


class Lenient(list[FieldError]):
    """Problems, for a reader who goes on without the fields that no message has, and takes a text that is null in a map
    for an empty one: these do not count as problems."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[FieldError] = []
        """Fields that nobody knows."""
        self.not_carried_out: list[tuple[str, Any]] = []
        """Fields of Kubernetes that Podium does not carry out: their paths, and what they say."""


_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def path_of(where: Where, prefix: str = "") -> str:
    """Such as spec.containers[0].name; a key of a map stands in brackets."""
    steps = []
    while where is not None:
        where, step = where
        steps.append(step)
    path = prefix
    for step in reversed(steps):
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.startswith("["):
            path += step
        else:
            path += f".{step}" if path else step
    return path


def describe(value: Any) -> str:
    """What kind of value that is, for a person who wrote something else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "the boolean " + ("true" if value else "false")
    if isinstance(value, int | float):
        return f"the number {value!r:.40}" if abs(value) < 1e40 else "a huge number"
    if isinstance(value, str):
        return f'the string "{value[:40]}"'
    return "a list" if isinstance(value, list) else "an object"


def note(problems: Problems, where: Where, message: str, reason: str = "FieldValueInvalid") -> None:
    """Adds a problem, up to the limit."""
    if len(problems) < MAX_PROBLEMS:
        problems.append(FieldError(path_of(where), message, reason))


class _Field(NamedTuple):
    name: str
    expected: type | None
    """A value of exactly this type is taken as it is."""
    parse: Parse
    into: str
    """The inline field of the message around it that holds this one; mostly ""."""


class MessageParser:
    """Reads JSON objects into constructor arguments of one message type."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._fields: dict[str, _Field] | None = None
        self._reserved: frozenset[str] = frozenset()

    def _compile(self) -> dict[str, _Field]:
        fields: dict[str, _Field] = {}
        reserved = set(_reserved_names(self._descriptor))
        for field in self._descriptor.fields:
            if is_inline(field) and field.message_type is not None:
                reserved.update(_reserved_names(field.message_type))
                for inner in field.message_type.fields:
                    fields[inner.name] = _field_parser(inner, into=field.name)
            else:
                fields[field.name] = _field_parser(field)
        self._fields, self._reserved = fields, frozenset(reserved)
        return fields

    def __call__(self, data: Any, where: Where, problems: Problems) -> dict[str, Any]:
        """The constructor's arguments; what is wrong is added to `problems`."""
        fields = self._fields or self._compile()
        out: dict[str, Any] = {}
        if not isinstance(data, dict):
            note(problems, where, f"must be an object, not {describe(data)}")
            return out
        for key, value in data.items():
            field = fields.get(key)
            if field is None:
                self._unknown(key, value, where, problems)
                continue
            if value is None:
                continue
            name, expected, parse, into = field
            if type(value) is not expected:
                value = parse(value, (where, name), problems)
            if into:
                out.setdefault(into, {})[name] = value
            else:
                out[name] = value
        return out

    def _unknown(self, key: Any, value: Any, where: Where, problems: Problems) -> None:
        if key in self._reserved:
            # Empty asks for nothing: `resources: {}`, `loadBalancer: {}`, as Kubernetes' own tools print it.
            if value in (None, {}, []):
                return
            if isinstance(problems, Lenient):
                problems.not_carried_out.append((path_of((where, key)), value))
            else:
                note(problems, (where, key), NOT_CARRIED_OUT, "FieldValueForbidden")
            return
        text = str(key)[:80]
        hint = _similar(text, [*(self._fields or ()), *self._reserved])
        note(
            problems.unknown if isinstance(problems, Lenient) else problems,
            (where, text),
            f'unknown field; did you mean "{hint}"?' if hint else "unknown field",
        )


@cache
def parser(descriptor: Descriptor) -> Parse:
    """The function that reads a value of this message type; for its constructor, or for that of a message around it."""
    found = special(descriptor)
    return MessageParser(descriptor) if found is None else _SPECIAL[found]


def _field_parser(field: FieldDescriptor, into: str = "") -> _Field:
    entry = map_entry(field)
    if entry is not None:
        return _Field(field.name, None, _map_parser(*_value_parser(entry.fields_by_name["value"])), into)
    expected, parse = _value_parser(field)
    if field.is_repeated:
        return _Field(field.name, None, _list_parser(expected, parse), into)
    return _Field(field.name, expected, parse, into)


def _value_parser(field: FieldDescriptor) -> tuple[type | None, Parse]:
    """The type that needs no conversion, and the function for everything else."""
    if field.message_type is not None:
        return None, parser(field.message_type)
    if field.enum_type is not None:
        return None, _enum_parser({name: value.number for name, value in field.enum_type.values_by_name.items()})
    if field.type == FieldDescriptor.TYPE_BYTES:
        return None, _parse_bytes
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return str, _wrong_type("a string", "; put it in quotes")
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return bool, _wrong_type("true or false")
    if field.cpp_type in _INTEGERS:
        return None, _integer_parser(*_INTEGERS[field.cpp_type])
    return float, _parse_float


def _wrong_type(wanted: str, advice: str = "") -> Parse:
    def parse(value: Any, where: Where, problems: Problems) -> None:
        cure = advice if isinstance(value, bool | int | float) else ""
        note(problems, where, f"must be {wanted}, not {describe(value)}{cure}")

    return parse


def _integer_parser(low: int, high: int) -> Parse:
    def parse(value: Any, where: Where, problems: Problems) -> int:
        if type(value) is not int:
            note(problems, where, f"must be a whole number, not {describe(value)}")
        elif low <= value <= high:
            return value
        else:
            note(problems, where, f"must be between {low} and {high}, inclusive")
        return 0

    return parse


def _parse_float(value: Any, where: Where, problems: Problems) -> float:
    if type(value) is int and abs(value) < 2**1023:
        return float(value)
    note(problems, where, f"must be a number, not {describe(value)}")
    return 0.0


def _parse_bytes(value: Any, where: Where, problems: Problems) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)  # as Go reads it
        except (binascii.Error, ValueError):
            pass
    note(problems, where, f"must be a string in base64, not {describe(value)}")
    return b""


def _enum_parser(numbers: dict[str, int]) -> Parse:
    def parse(value: Any, where: Where, problems: Problems) -> int:
        if isinstance(value, str) and value in numbers:
            return numbers[value]
        known = ", ".join(numbers)
        note(problems, where, f"must be one of {known}, not {describe(value)}", "FieldValueNotSupported")
        return 0

    return parse


def _list_parser(expected: type | None, parse: Parse) -> Parse:
    def parse_list(value: Any, where: Where, problems: Problems) -> list[Any]:
        if not isinstance(value, list):
            note(problems, where, f"must be a list, not {describe(value)}")
            return []
        items = []
        for index, item in enumerate(value):
            if type(item) is not expected:
                if item is None:
                    note(problems, (where, index), "must not be null")
                    continue
                item = parse(item, (where, index), problems)
            items.append(item)
        return items

    return parse_list


def _map_parser(expected: type | None, parse: Parse) -> Parse:
    empty: str | bytes | None = "" if expected is str else b"" if parse is _parse_bytes else None

    def parse_map(value: Any, where: Where, problems: Problems) -> dict[str, Any]:
        if not isinstance(value, dict):
            note(problems, where, f"must be an object, not {describe(value)}")
            return {}
        items = {}
        for key, item in value.items():
            if type(key) is not str:
                note(problems, (where, f"[{key!s:.80}]"), f"the key must be a string, not {describe(key)}")
                continue
            if type(item) is not expected:
                if item is None:
                    if isinstance(problems, Lenient) and empty is not None:
                        items[key] = empty  # "key:" in YAML, which Go reads so
                        continue
                    note(problems, (where, f"[{key[:80]}]"), "must not be null")
                    continue
                item = parse(item, (where, f"[{key[:80]}]"), problems)
            items[key] = item
        return items

    return parse_map


def _parse_time(value: Any, where: Where, problems: Problems) -> dict[str, int]:
    if not isinstance(value, str):
        note(problems, where, f"must be a time as a string, not {describe(value)}")
        return {}
    try:
        seconds, nanos = parse_time(value)
    except ValueError as error:
        note(problems, where, str(error))
        return {}
    return {"seconds": seconds} if nanos is None else {"seconds": seconds, "nanos": nanos}


def _parse_quantity(value: Any, where: Where, problems: Problems) -> dict[str, str]:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        note(problems, where, f"must be a quantity, not {describe(value)}")
        return {}
    try:
        return {"string": canonical(value if type(value) is str else repr(value))}
    except ValueError as error:
        note(problems, where, str(error))
        return {}


def _parse_int_or_string(value: Any, where: Where, problems: Problems) -> dict[str, Any]:
    if isinstance(value, str):
        return {"type": 1, "strVal": value}
    if type(value) is int and -(2**31) <= value < 2**31:
        return {"type": 0, "intVal": value}
    note(problems, where, f"must be a whole number of 32 bits or a string, not {describe(value)}")
    return {}


def _parse_fields(value: Any, where: Where, problems: Problems) -> dict[str, bytes]:
    if not isinstance(value, dict):
        note(problems, where, f"must be an object, not {describe(value)}")
        return {}
    return {"Raw": json.dumps(value, separators=(",", ":"), sort_keys=True).encode()} if value else {}


def _parse_raw(value: Any, where: Where, problems: Problems) -> dict[str, bytes]:
    return {"Raw": free_json(value, where, problems)}


_SPECIAL: dict[Special, Parse] = {
    Special.TIME: _parse_time,
    Special.MICRO_TIME: _parse_time,
    Special.QUANTITY: _parse_quantity,
    Special.INT_OR_STRING: _parse_int_or_string,
    Special.FIELDS: _parse_fields,
    Special.RAW: _parse_raw,
}


def free_json(value: Any, where: Where, problems: Problems) -> bytes:
    """A value of any kind, as it is kept."""
    found = misfit(value)
    if found is None:
        return pack(value)
    steps, message = found
    for step in steps:
        where = (where, step)
    note(problems, where, message)
    return b""


def _reserved_names(descriptor: Descriptor) -> list[str]:
    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    return list(proto.reserved_name)


def _similar(text: str, names: list[str]) -> str:
    """The name that was probably meant, or ""."""
    lower = text.lower()
    for name in names:
        if name.lower() == lower:
            return name
    from difflib import get_close_matches  # only when something is wrong: it takes a while to import

    matches = get_close_matches(text, names, n=1, cutoff=0.7)
    return matches[0] if matches else ""
