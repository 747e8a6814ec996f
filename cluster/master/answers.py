"""Answers of the master as bytes: objects that were encoded when they were written are framed, not encoded again.

Pure; the layouts are those of cluster.proto, and the tests parse them with the generated classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.api.raw_pb import delimited, varint
from cluster.master.operations import Outcome
from cluster.rpc.outcome import to_status
from cluster.store.encoding import object_field, result
from cluster.store.version import Version

SUCCESS = delimited(1, to_status(None).SerializeToString())
UNCHANGED = b"\x18\x01"


def write_response(outcomes: Sequence[Outcome], revision: int, store_id: str) -> bytes:
    """A WriteResponse: a result per operation, and the revision that the write made, or found."""
    parts: list[bytes] = []
    for outcome in outcomes:
        version = outcome.version
        if version is None:
            parts.append(delimited(1, delimited(1, to_status(outcome.error).SerializeToString())))
        else:
            parts += result(SUCCESS, version.key.kind, version.data, UNCHANGED if outcome.unchanged else b"")
    parts += (b"\x10", varint(revision), delimited(3, store_id.encode()))
    return b"".join(parts)


def get_response(version: Version, revision: int, store_id: str) -> bytes:
    """A GetResponse."""
    head = object_field(1, version.key.kind, version.data)
    return b"".join((head, b"\x10", varint(revision), delimited(3, store_id.encode())))
