"""Schemas in protobuf, read back by somebody who knows only the wire."""

from __future__ import annotations

import json
from typing import Any

from cluster.api.raw_pb import delimited, varint
from cluster.kubernetes import gnostic, openapi
from cluster.kubernetes.catalog import OWN


def fields(data: bytes) -> list[tuple[int, bytes]]:
    """The fields of a message of which all are bytes."""
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        assert key & 7 == 2
        length = varint()
        found.append((key >> 3, data[at : at + length]))
        at += length
    assert at == len(data)
    return found


def named(data: bytes) -> dict[str, bytes]:
    """NamedSchema ..., by name."""
    return {dict(fields(item))[1].decode(): dict(fields(item))[2] for number, item in fields(data) if number == 1}


def test_numbers_of_any_size() -> None:
    assert varint(0) == b"\0"
    assert varint(300) == b"\xac\x02"
    long = gnostic.text(1, "x" * 1000)
    assert fields(long) == [(1, b"x" * 1000)]


def test_a_schema() -> None:
    schema: dict[str, Any] = {
        "description": "What it is.",
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "integer", "format": "int32"},
            "b": {"description": "Another.", "allOf": [{"$ref": "#/definitions/B"}]},
            "c": {"type": "array", "items": {"$ref": "#/definitions/B"}, "x-kubernetes-list-type": "atomic"},
            "d": {"type": "object", "additionalProperties": {"type": "string"}},
            "e": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "A"}],
    }
    (read,) = named(gnostic.definitions({"A": schema})).values()
    whole = dict(fields(read))
    assert whole[4] == b"What it is."
    assert whole[19] == b"a"
    assert fields(whole[22]) == [(1, b"object")]
    extension = dict(fields(whole[31]))
    assert extension[1] == b"x-kubernetes-group-version-kind"
    assert json.loads(dict(fields(extension[2]))[2]) == [{"group": "", "version": "v1", "kind": "A"}]
    properties = {name: dict(fields(each)) for name, each in named(whole[25]).items()}
    assert properties["a"] == {2: b"int32", 22: gnostic.text(1, "integer")}
    assert properties["b"] == {1: b"#/definitions/B", 4: b"Another."}
    assert properties["c"][23] == delimited(1, gnostic.text(1, "#/definitions/B"))
    assert properties["d"][21] == delimited(1, delimited(22, gnostic.text(1, "string")))
    assert properties["e"] == {2: b"int-or-string", 22: gnostic.text(1, "string")}


def test_whether_there_may_be_others() -> None:
    (read,) = named(gnostic.definitions({"A": {"type": "object", "additionalProperties": True}})).values()
    assert dict(fields(read))[21] == b"\x10\x01"


def test_the_document_says_the_same_as_in_json() -> None:
    document = dict(
        fields(openapi.document(["v2"], "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", OWN)[0])
    )
    in_json = json.loads(openapi.document(["v2"], "application/json", OWN)[0])
    read = named(document[9])
    assert read.keys() == in_json["definitions"].keys()
    for name, schema in in_json["definitions"].items():
        whole = dict(fields(read[name]))
        assert named(whole.get(25, b"")).keys() == schema.get("properties", {}).keys(), name
    paths = [dict(fields(item)) for number, item in fields(document[8]) if number == 2]
    assert {path[1].decode() for path in paths} <= in_json["paths"].keys()
    assert all(number == 8 for path in paths for number, _ in fields(path[2])), "each is a patch"
