"""Bytes of answers, put together from bytes that exist already.

An object is printed once, when it is written. Everything that carries it afterwards (a list, a watch event for a
hundred readers, the answer to the write) wraps these bytes in protobuf's own framing, tag and length, instead of
parsing and printing them again: that is most of what makes a watch cheap in Python. The layouts are those of
cluster.proto; the tests parse what is made here with the generated classes.

Knows field numbers, and nothing of what objects mean.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.kinds import KINDS
from cluster.api.raw_pb import delimited, tag, varint
from cluster.pb.v1 import cluster_pb2 as wire

ADDED = int(wire.WatchEvent.ADDED)
MODIFIED = int(wire.WatchEvent.MODIFIED)
DELETED = int(wire.WatchEvent.DELETED)
BOOKMARK = int(wire.WatchEvent.BOOKMARK)
INITIAL_STATE_END = int(wire.WatchEvent.INITIAL_STATE_END)


_OBJECT_TAG: dict[str, bytes] = {
    kind.name: tag(wire.Object.DESCRIPTOR.fields_by_name[kind.field].number, 2) for kind in KINDS
}


def envelope_head(kind: str, data: bytes) -> bytes:
    """What stands before an object's bytes in a wire.Object."""
    return _OBJECT_TAG[kind] + varint(len(data))


def object_field(field: int, kind: str, data: bytes) -> bytes:
    """A field of type wire.Object that holds one object."""
    size = len(data)
    head = _OBJECT_TAG[kind] + varint(size)
    return b"".join((varint(field << 3 | 2), varint(len(head) + size), head, data))


def event(event_type: int, revision: int, kind: str = "", data: bytes | None = None) -> bytes:
    """One `events` entry of a WatchBatch: joined entries are a batch."""
    body = b"\x08" + varint(event_type) + b"\x10" + varint(revision)
    if data is None:
        return b"\x0a" + varint(len(body)) + body
    # The object is copied once, into the whole.
    size = len(data)
    head = _OBJECT_TAG[kind] + varint(size)
    body += b"\x1a" + varint(len(head) + size) + head
    return b"".join((b"\x0a", varint(len(body) + size), body, data))


def result(before: bytes, kind: str, data: bytes, after: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """One `results` entry of a WriteResponse in pieces to be joined: fields, the object, more fields."""
    size = len(data)
    head = _OBJECT_TAG[kind] + varint(size)
    before += b"\x12" + varint(len(head) + size) + head
    return b"\x0a" + varint(len(before) + size + len(after)) + before, data, after


def batch_store_id(store_id: str) -> bytes:
    """The `store_id` of a WatchBatch, to be joined to the entries of a stream's first batch."""
    return delimited(2, store_id.encode())


def list_response(
    items: Iterable[tuple[str, bytes]], revision: int, store_id: str, continue_token: str = "", remaining: int = 0
) -> bytes:
    """A ListResponse over objects given as (kind, bytes)."""
    parts: list[bytes] = []
    for kind, data in items:
        head = envelope_head(kind, data)
        parts += (b"\x0a", varint(len(head) + len(data)), head, data)
    parts += (b"\x10", varint(revision))
    if continue_token:
        parts.append(delimited(3, continue_token.encode()))
        if remaining:
            parts += (b"\x20", varint(remaining))
    parts.append(delimited(5, store_id.encode()))
    return b"".join(parts)
