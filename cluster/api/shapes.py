"""What is known of a place in an object: which lists are maps in disguise, and what is one thing whatever is in it.

    shape = OfMessage(Pod)                        shape.under("spec").under("containers").keys == ("name",)
    shape = OfSchema(schema of a definition)      the same, as x-kubernetes-list-type and its kin say

Server-side apply, and who answers for which fields, go by it. Of Podium's own kinds the descriptors say which message
stands where, and what the keys of a list are is Kubernetes' to say: it stands here, and in `list_keys.py`. Of kinds
that users define, the schema says all of it. Where nothing is known, objects are taken apart and lists are not, as in
Kubernetes. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cluster.api.json_print import map_entry
from cluster.api.list_keys import field_named, merge_key, merges_values
from cluster.pb.v1 import core_pb2 as core

_SEVERAL_KEYS = {
    ("Container", "ports"): ("containerPort", "protocol"),
    ("ServiceSpec", "ports"): ("port", "protocol"),
    ("PodSpec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
}
_DEFAULTS = {"protocol": "TCP"}
_ATOMIC_FIELDS = frozenset(
    (
        *(("PodSpec", "nodeSelector"), ("ServiceSpec", "selector"), ("ReplicationControllerSpec", "selector")),
        *(("PodStatus", "podIPs"), ("NodeStatus", "addresses")),
    )
)
_ATOMIC_MESSAGES = frozenset(
    (
        *("LabelSelector", "NodeSelector", "NodeSelectorTerm", "ObjectReference", "LocalObjectReference", "FieldsV1"),
        *("ConfigMapKeySelector", "ObjectFieldSelector", "ResourceFieldSelector", "SecretKeySelector", "Quantity"),
        *("IntOrString", "Time", "MicroTime", "RawJson"),
    )
)


class Shape(Protocol):
    """See above."""

    @property
    def is_atomic(self) -> bool:
        """It is one thing, whatever is in it."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Of a list: the keys by which its items are told apart; none: it is no such list."""
        ...

    @property
    def is_set(self) -> bool:
        """It is a list of values in which none is twice."""
        ...

    @property
    def apart(self) -> tuple[str, ...]:
        """Of a whole object: its fields that are not written with the rest of it."""
        ...

    def default_of(self, key: str) -> Any:
        """What a key is when an item leaves it out."""
        ...

    def has(self, name: str) -> bool:
        """Whether the object, or the items of the list, have a field that is called so; a key of a map is none."""
        ...

    def under(self, name: str) -> Shape:
        """What is known of a field, of the object that is there or of the items of the list that is there."""
        ...


class OfMessage:
    """The shape of a field as a descriptor says; of a whole object, if there is no field."""

    def __init__(self, message: Descriptor | None, field: tuple[str, FieldDescriptor] | None = None) -> None:
        """`message`: what the field, or each of its items, is made of; None: it is a map, or no message."""
        self._message = message
        self._field = field
        self._where = (field[0], field[1].name) if field is not None else ("", "")

    @property
    def is_atomic(self) -> bool:
        if self._field is None:
            return False
        kind = self._field[1].message_type
        return self._where in _ATOMIC_FIELDS or (kind is not None and kind.name in _ATOMIC_MESSAGES)

    @property
    def keys(self) -> tuple[str, ...]:
        if self._field is None or self.is_atomic:
            return ()
        several = _SEVERAL_KEYS.get(self._where)
        if several is not None:
            return several
        key = merge_key(*self._where)
        return (key,) if key is not None else ()

    @property
    def is_set(self) -> bool:
        return self._field is not None and merges_values(*self._where)

    @property
    def apart(self) -> tuple[str, ...]:
        return ("status",)

    def default_of(self, key: str) -> Any:
        return _DEFAULTS.get(key)

    def has(self, name: str) -> bool:
        return field_named(self._message, name) is not None

    def under(self, name: str) -> Shape:
        found = field_named(self._message, name)
        if found is None:
            return UNKNOWN
        return OfMessage(None if map_entry(found[1]) is not None else found[1].message_type, found)


UNKNOWN = OfMessage(None)
"""A place of which nothing is known."""
METADATA = OfMessage(cast(Descriptor, core.ObjectMeta.DESCRIPTOR))


class OfSchema:
    """The shape of a value as a structural schema says."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    @property
    def is_atomic(self) -> bool:
        return self._schema.get("x-kubernetes-map-type") == "atomic"

    @property
    def keys(self) -> tuple[str, ...]:
        if self._schema.get("x-kubernetes-list-type") != "map":
            return ()
        return tuple(self._schema.get("x-kubernetes-list-map-keys") or ())

    @property
    def is_set(self) -> bool:
        return self._schema.get("x-kubernetes-list-type") == "set"

    @property
    def apart(self) -> tuple[str, ...]:
        return ()

    def default_of(self, key: str) -> Any:
        properties = (self._schema.get("items") or {}).get("properties") or {}
        return (properties.get(key) or {}).get("default")

    def has(self, name: str) -> bool:
        return name in self._properties()

    def under(self, name: str) -> Shape:
        found = self._properties().get(name)
        if found is None:
            found = self._around().get("additionalProperties")
        return OfSchema(found) if isinstance(found, dict) else UNKNOWN

    def _around(self) -> Mapping[str, Any]:
        """The schema of the object, or of the items of the list."""
        items = self._schema.get("items")
        return items if isinstance(items, dict) else self._schema

    def _properties(self) -> Mapping[str, Any]:
        return self._around().get("properties") or {}


class OfCustom(OfSchema):
    """The shape of a whole object of a kind that users define."""

    def __init__(self, schema: Mapping[str, Any], *, status_apart: bool) -> None:
        super().__init__(schema)
        self._apart = ("status",) if status_apart else ()

    @property
    def apart(self) -> tuple[str, ...]:
        return self._apart

    def under(self, name: str) -> Shape:
        return METADATA if name == "metadata" else super().under(name)


def shape_of(obj: Message) -> Shape:
    """That of an object of Podium's own kinds."""
    return OfMessage(cast(Descriptor, obj.DESCRIPTOR))
