"""What the schema of a definition does to an object: fields that it does not know go, defaults come in. Pure.

A structural schema (Kubernetes': every value has a type, and what may stand where does not depend on other values) says
three things, which are carried out in this order, in place, on an object as JSON:

    prune       fields that the schema does not name are taken out, unless they are to be kept
                (x-kubernetes-preserve-unknown-fields, or additionalProperties); so is null where it is not allowed and
                no default takes its place, which is how programs in Go say that there is nothing; and a whole number
                that is written 3.0, as programs in Python do, becomes 3 where the schema wants whole numbers
    default     what is absent, or null where null is not allowed, gets its default
    validate    `cluster.api.schema_rules` compiles the schema, and says what is wrong

At the root of an object, apiVersion, kind and metadata are everybody's: neither pruned nor defaulted. The same holds
within a value that is an object of its own (x-kubernetes-embedded-resource).

    schema   {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                  "size": {"type": "integer", "default": 1}}}}}
    object   {"kind": "Widget", "spec": {"colour": "red"}}
    prune    ["spec.colour"]        default    {"kind": "Widget", "spec": {"size": 1}}

The depth of the stack is that of the schema or of the object, and both are limited where they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeAlias

Json: TypeAlias = Any
Schema: TypeAlias = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
LIST_MAP_KEYS = "x-kubernetes-list-map-keys"
RULES = "x-kubernetes-validations"
OF_EVERY_OBJECT = frozenset({"apiVersion", "kind", "metadata"})
MAX_PRUNED = 100
"""Paths that are told; everything that is unknown is taken out all the same."""


def prune(value: Json, schema: Schema, *, is_object: bool = True) -> list[str]:
    """Takes out what the schema does not know, in place; returns the paths of that, as far as they are told. Of a
    null that goes nothing is told: its field is known, and taken to be absent.

    `is_object`: the value is a whole object, of which apiVersion, kind and metadata are not the schema's business.
    """
    pruned: list[str] = []
    _prune(value, schema, is_object, "", pruned)
    return pruned


def _prune(value: Json, schema: Schema, is_object: bool, path: str, pruned: list[str]) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                if item.__class__ is dict or item.__class__ is list:
                    _prune(item, items, bool(items.get(EMBEDDED)), f"{path}[{index}]", pruned)
                elif item.__class__ is float:
                    value[index] = _whole(item, items)
        return
    if not isinstance(value, dict):
        return
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    keeps = bool(schema.get(PRESERVE)) or others is True
    for key in list(value):
        if is_object and key in OF_EVERY_OBJECT:
            continue
        inner = properties.get(key)
        if inner is None:
            if isinstance(others, dict):
                inner = others
            elif keeps:
                continue
            else:
                del value[key]
                if len(pruned) < MAX_PRUNED:
                    pruned.append(f"{path}.{key}" if path else key)
                continue
        item = value[key]
        if item.__class__ is dict or item.__class__ is list:
            _prune(item, inner, bool(inner.get(EMBEDDED)), f"{path}.{key}" if path else key, pruned)
        elif item is None and not inner.get("nullable") and inner.get("default") is None:
            del value[key]
        elif item.__class__ is float:
            value[key] = _whole(item, inner)


def _whole(value: float, schema: Schema) -> float | int:
    """A number as its schema wants it: 3.0 is 3 where only whole numbers may stand. Whoever reads such a field as an
    integer, as Go does and a scale, could make nothing of 3.0."""
    wants = schema.get("type") == "integer" or bool(schema.get(INT_OR_STRING))
    return int(value) if wants and value.is_integer() and -(2.0**63) <= value < 2.0**63 else value


def default(value: Json, schema: Schema, *, is_object: bool = True) -> bool:
    """Puts defaults where nothing is, or null where the schema does not allow it; in place. Returns whether it did:
    twice is as once."""
    changed = False
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for item in value:
                if item.__class__ is dict or item.__class__ is list:
                    changed |= default(item, items, is_object=bool(items.get(EMBEDDED)))
        return changed
    if not isinstance(value, dict):
        return False
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, inner in properties.items():
        if is_object and key in OF_EVERY_OBJECT:
            continue
        if "default" in inner and value.get(key) is None and (key not in value or not inner.get("nullable")):
            value[key] = deepcopy(inner["default"])
            changed = True
    for key, item in value.items():
        if item.__class__ is dict or item.__class__ is list:
            inner = properties.get(key, others)
            if isinstance(inner, dict) and not (is_object and key in OF_EVERY_OBJECT):
                changed |= default(item, inner, is_object=bool(inner.get(EMBEDDED)))
    return changed


def only_defaults(schema: Schema) -> Schema | None:
    """The part of a schema that `default` goes by; None: it has no defaults."""
    found = {key: schema[key] for key in ("default", "nullable", EMBEDDED) if key in schema}
    properties, others, items = (schema.get(name) for name in ("properties", "additionalProperties", "items"))
    inside = {key: part for key, inner in (properties or {}).items() if (part := only_defaults(inner)) is not None}
    if isinstance(others, dict) and (part := only_defaults(others)) is not None:
        inside = {**{key: {} for key in properties or {}}, **inside}  # the others are still the others
        found["additionalProperties"] = part
    if isinstance(items, dict) and (part := only_defaults(items)) is not None:
        found["items"] = part
    if inside:
        found["properties"] = inside
    return found if "default" in found or inside or "additionalProperties" in found or "items" in found else None


def has_rules(schema: Any) -> bool:
    """There are rules in CEL in a schema, which are the authors' own (`cluster.api.cel`)."""
    if not isinstance(schema, dict):
        return False
    if schema.get(RULES):
        return True
    inner = [schema.get("items"), schema.get("additionalProperties"), *(schema.get("allOf") or ())]
    return any(has_rules(one) for one in (*inner, *(schema.get("properties") or {}).values()))


def subschemas(schema: Schema, path: str = "") -> list[tuple[str, Schema]]:
    """The schema and all in it that are for parts of the value, with the paths of those: "", "spec",
    "spec.ports[*].name", "spec.labels.*". What stands in allOf, anyOf, oneOf and not is no part."""
    found = [(path, schema)]
    for key, inner in (schema.get("properties") or {}).items():
        if isinstance(inner, dict):
            found += subschemas(inner, f"{path}.{key}" if path else key)
    items, others = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        found += subschemas(items, f"{path}[*]")
    if isinstance(others, dict):
        found += subschemas(others, f"{path}.*" if path else "*")
    return found


def asked_of(schema: Schema, values: Sequence[Json]) -> Schema:
    """What of a schema is asked of these values: without the schemas of parts that none of them has. It takes time as
    the values are large, and not as the schema is."""
    if not values:
        return {}
    asked = dict(schema)
    parts: dict[str, list[Json]] = {}
    for value in values:
        if isinstance(value, dict):
            for key, part in value.items():
                parts.setdefault(key, []).append(part)
    properties, others, items = (schema.get(name) for name in ("properties", "additionalProperties", "items"))
    if isinstance(properties, dict):
        asked["properties"] = {
            key: asked_of(properties[key], found) for key, found in parts.items() if key in properties
        }
    if isinstance(others, dict):
        beside = [part for key, found in parts.items() if key not in (properties or {}) for part in found]
        asked["additionalProperties"] = asked_of(others, beside)
    if isinstance(items, dict):
        asked["items"] = asked_of(items, [item for value in values if isinstance(value, list) for item in value])
        of_items = items.get("properties") or {}
        keys = {key: of_items[key] for key in schema.get(LIST_MAP_KEYS) or () if key in of_items}
        if keys:  # their defaults tell items apart
            asked["items"] = {**asked["items"], "properties": {**keys, **asked["items"].get("properties", {})}}
    return asked
