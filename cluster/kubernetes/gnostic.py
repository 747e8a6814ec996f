"""Schemas in the protobuf form of OpenAPI 2 (gnostic's openapi.v2): what kubectl before 1.27 explains and checks by.

Only what our schemas are made of is written, by hand: there are a handful of fields, and nobody here reads it. OpenAPI
2 knows no `oneOf`: a number or a text is a text there, of the format that says so, and what is said of a reference
stands beside it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from cluster.api.raw_pb import delimited, tag, varint


def text(number: int, content: str) -> bytes:
    return delimited(number, content.encode())


def extension(number: int, name: str, yaml: str) -> bytes:
    """NamedAny: a vendor extension, whose value is YAML."""
    return delimited(number, text(1, name) + delimited(2, text(2, yaml)))


def definitions(schemas: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Definitions: schemas by name."""
    return b"".join(_named(name, schema) for name, schema in schemas.items())


def _named(name: str, schema: Mapping[str, Any]) -> bytes:
    """An additional_properties of Definitions or Properties: NamedSchema."""
    return delimited(1, text(1, name) + delimited(2, _schema(schema)))


def _schema(found: Mapping[str, Any]) -> bytes:
    out = b""
    reference = found.get("$ref") or next((each["$ref"] for each in found.get("allOf", ()) if "$ref" in each), "")
    if reference:
        out += text(1, reference)
    if format_ := found.get("format"):
        out += text(2, format_)
    if description := found.get("description"):
        out += text(4, description)
    out += b"".join(text(19, name) for name in found.get("required", ()))
    values = found.get("additionalProperties")
    if isinstance(values, bool):
        out += delimited(21, tag(2, 0) + varint(values))
    elif values is not None:
        out += delimited(21, delimited(1, _schema(values)))
    if type_ := found.get("type") or ("string" if "oneOf" in found else ""):
        out += delimited(22, text(1, type_))
    if (items := found.get("items")) is not None:
        out += delimited(23, delimited(1, _schema(items)))
    if properties := found.get("properties"):
        out += delimited(25, b"".join(_named(name, schema) for name, schema in properties.items()))
    for name, value in found.items():
        if name.startswith("x-"):
            out += extension(31, name, orjson.dumps(value).decode() + "\n")
    return out
