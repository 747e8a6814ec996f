"""What a structural schema says of types, as descriptors of protobuf: CEL's compiler takes those.

    {"type": "object", "properties": {"size": {"type": "integer"},        message Object { optional int64 size = 1;
                                      "tags": {"type": "array", ...}}}                     repeated string tags = 2; }

No message of these types is ever made: rules are evaluated on plain values. The types are Kubernetes': a number is a
double, a string is bytes, a timestamp or a duration if its format says so, and an object knows the properties that the
schema names and no others. Int-or-string has no type until it is evaluated. What allows null may be compared with it.

What protobuf cannot say is looked at when a rule is evaluated: what is in a list of lists, or in a map of lists or of
maps. A value of which the schema says nothing (x-kubernetes-preserve-unknown-fields without a type) is no field at all,
as in Kubernetes. Pure.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from cluster.api.cel.names import escape
from cluster.api.structural import EMBEDDED, INT_OR_STRING, Schema

PACKAGE = "schema"
_F = FieldDescriptorProto
_KNOWN = (duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_LIST, _MAP, _ANY = "google.protobuf.ListValue", "google.protobuf.Struct", "google.protobuf.Value"
_SCALARS = {
    "string": (_F.TYPE_STRING, "google.protobuf.StringValue"),
    "bytes": (_F.TYPE_BYTES, "google.protobuf.BytesValue"),
    "bool": (_F.TYPE_BOOL, "google.protobuf.BoolValue"),
    "int": (_F.TYPE_INT64, "google.protobuf.Int64Value"),
    "double": (_F.TYPE_DOUBLE, "google.protobuf.DoubleValue"),
}
_STRINGS = {
    "byte": "bytes",
    "duration": "google.protobuf.Duration",
    "date": "google.protobuf.Timestamp",
    "date-time": "google.protobuf.Timestamp",
}
_PLAIN = {"boolean": "bool", "integer": "int", "number": "double"}
_TEXT: Schema = {"type": "string"}
METADATA: Schema = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}
"""What rules see of the metadata of an object."""


def whole_object(schema: Schema) -> Schema:
    """The schema of an object, with what every object has and rules see."""
    known = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": METADATA}
    return {**schema, "type": "object", "properties": {**(schema.get("properties") or {}), **known}}


def seen(schema: Schema, is_object: bool | None = None) -> Schema:
    """A schema, with what rules see of a whole object if it is one's. `is_object`: None: it says so itself."""
    return whole_object(schema) if (schema.get(EMBEDDED) if is_object is None else is_object) else schema


class Types:
    """The types of one schema."""

    def __init__(self) -> None:
        self._file = FileDescriptorProto(name="schema.proto", package=PACKAGE, syntax="proto2")
        self._file.dependency.extend(str(module.DESCRIPTOR.name) for module in _KNOWN)
        self._names: dict[int, str] = {}
        self._schemas: list[Schema] = []
        """Kept, for names are by identity."""

    def name(self, schema: Schema, *, is_object: bool | None = None) -> str | None:
        """The type of a value, as CEL writes it: "int", "list<string>", "map<string,schema.Spec1>"; None: it has none
        that rules can see. All that will be asked for must have been by the time that `pool` is called."""
        schema = seen(schema, is_object)
        if schema.get(INT_OR_STRING):
            return "dyn"
        kind = schema.get("type")
        if kind == "array":
            inner = self.name(schema["items"]) if isinstance(schema.get("items"), dict) else None
            return f"list<{inner}>" if inner is not None else None
        if kind == "object":
            others = schema.get("additionalProperties")
            if isinstance(others, dict):
                inner = self.name(others)
                return f"map<string,{inner}>" if inner is not None else None
            return self._message(schema)
        if kind == "string":
            return _STRINGS.get(schema.get("format") or "", "string")
        return _PLAIN.get(kind or "")

    def pool(self) -> DescriptorPool:
        """The descriptors of all messages that were named so far."""
        pool = DescriptorPool()
        for module in _KNOWN:
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(self._file.SerializeToString())
        return pool

    def _message(self, schema: Schema, hint: str = "Object") -> str:
        known = self._names.get(id(schema))
        if known is not None:
            return known
        message = self._file.message_type.add(name=f"{hint}{len(self._schemas)}")
        message.options.deprecated_legacy_json_field_conflicts = True  # a_b beside aB: nobody makes JSON of it
        self._schemas.append(schema)
        name = self._names[id(schema)] = f"{PACKAGE}.{message.name}"
        for key, inner in (schema.get("properties") or {}).items():
            called = escape(key)
            if called is not None:
                self._field(message, called, inner)
        return name

    def _field(self, message: DescriptorProto, called: str, schema: Schema) -> None:
        """Adds the field of a property, if rules see it."""
        schema = seen(schema)
        kind, label = schema.get("type"), _F.LABEL_OPTIONAL
        if kind == "object" and not isinstance(schema.get("additionalProperties"), dict):
            self._add(message, called, label, self._message(schema, _hint(called)))
            return
        name = self.name(schema)
        if name is None:
            return
        if name.startswith("list<"):
            inner = seen(schema["items"])
            self._add(message, called, _F.LABEL_REPEATED, self._within(inner, called))
        elif name.startswith("map<"):
            inner = seen(schema["additionalProperties"])
            entry_name = f"{_camel(called)}Entry"
            if any(other.name == entry_name for other in message.nested_type):
                self._add(message, called, label, _MAP)  # a_b beside aB: protobuf cannot have both
                return
            entry = message.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            self._add(entry, "key", label, "string")
            self._add(entry, "value", label, self._within(inner, called))
            self._add(message, called, _F.LABEL_REPEATED, f"{PACKAGE}.{message.name}.{entry.name}")
        else:
            nullable = schema.get("nullable") and name in _SCALARS
            self._add(message, called, label, _SCALARS[name][1] if nullable else name)

    def _within(self, schema: Schema, called: str) -> str:
        """The type of what is in a list or a map, as far as protobuf can say it there."""
        if schema.get("type") == "object" and not isinstance(schema.get("additionalProperties"), dict):
            return self._message(schema, _hint(called))
        name = self.name(schema) or "dyn"
        return _LIST if name.startswith("list<") else _MAP if name.startswith("map<") else name

    @staticmethod
    def _add(message: DescriptorProto, called: str, label: Any, name: str) -> None:
        field = message.field.add(name=called, json_name=called, number=_number(message), label=label)
        if name in _SCALARS:
            field.type = _SCALARS[name][0]
        else:
            field.type = _F.TYPE_MESSAGE
            field.type_name = f".{_ANY if name == 'dyn' else name}"


def _number(message: DescriptorProto) -> int:
    """The next number of a field; 19000 to 19999 are protobuf's own."""
    count = len(message.field) + 1
    return count if count < 19_000 else count + 1_000


def _hint(called: str) -> str:
    """What the type of a property is called, so that a message of the compiler can be read."""
    return re.sub(r"\W", "", called)[:60].capitalize() or "Object"


def _camel(called: str) -> str:
    """The name that protobuf wants for the entries of a map field: foo_bar has FooBarEntry."""
    return "".join(part[:1].upper() + part[1:] for part in called.split("_"))
