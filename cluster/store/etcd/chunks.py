"""How records become values in etcd, and back: one append is one chunk, or several if it is large.

    chunk     header: version, first and last revision, chain before and after, number of records
              records: numbers and lengths, then texts and data
              checksum of all that

A chunk holds complete revisions only. An append that does not fit into one transaction becomes several chunks. They
belong to the log only once the last is there, which is written together with the head. So an append is all or nothing,
however large it is:

    append 5..9, too large      log/6 {5,6}      log/8 {7,8}      log/9 {9} + head 9
    the leader dies here                                    ^ the next leader removes log/6 and log/8: the head says 4

Requests have a key of their own beside their chunk (same transaction), for they are forgotten at another pace.

The chain binds each chunk to the one before it: whoever reads on knows whether something is missing, repeated, or
belongs to another log, without trusting who delivered it.

Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.store import chain as chains
from cluster.store.chain import HASH_BYTES
from cluster.store.etcd.values import Damaged, checksum
from cluster.store.interface import Request, TooLarge
from cluster.store.version import Record

PART_BYTES = 1024 * 1024
"""A part is closed before it grows beyond this, if it has more than one revision."""
LIMIT_BYTES = 1_400_000
"""No part is larger: etcd refuses requests above 1.5 MiB, and there are keys, head and guards beside it."""

_VERSION = 1
_CHECK_BYTES = 16
_HEADER = struct.Struct(f"<BQQI{HASH_BYTES}s{HASH_BYTES}s")
_RECORD = struct.Struct("<QQdIHHHHIB")
_REQUEST = struct.Struct("<QdHI")
_COUNT = struct.Struct("<BI")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the log."""

    first: int
    """Of its revisions when it was written ..."""
    last: int
    """... and the last; the key is named by it."""
    before: bytes
    """The chain before its first record."""
    after: bytes
    """The chain after its last."""
    records: Sequence[Record]
    """In order. Of a rewritten chunk: what is left."""

    def encode(self) -> bytes:
        header = _HEADER.pack(_VERSION, self.first, self.last, len(self.records), self.before, self.after)
        body = b"".join([header, *map(_encode_record, self.records)])
        return body + checksum(body, _CHECK_BYTES)

    @classmethod
    def decode(cls, value: bytes) -> Chunk:
        """Verifies the checksum. Raises Damaged."""
        end = len(value) - _CHECK_BYTES
        if end < _HEADER.size or value[0] != _VERSION:
            raise Damaged(f"a chunk of the log has an unknown form ({len(value)} bytes)")
        if checksum(value[:end], _CHECK_BYTES) != value[end:]:
            raise Damaged("a chunk of the log is damaged: its checksum does not match")
        _, first, last, count, before, after = _HEADER.unpack_from(value)
        records = _decode_records(value, _HEADER.size, end, count)
        return cls(first, last, before, after, records)

    def verify(self, before: bytes) -> list[bytes]:
        """Digests of the records. Raises Damaged unless they follow on that chain, and lead to `after`."""
        if self.before != before:
            raise Damaged(f"revisions {self.first} to {self.last} do not follow on what is before them")
        links = chains.link(before, self.records)
        if (links[-1][1] if links else before) != self.after:
            raise Damaged(f"revisions {self.first} to {self.last} are not what was written: the chain is broken")
        return [digest for digest, _ in links]

    def cut(self, revision: int) -> tuple[Chunk, Chunk]:
        """The chunk up to a revision within it, and from there on."""
        front = [record for record in self.records if record.revision <= revision]
        back = [record for record in self.records if record.revision > revision]
        links = chains.link(self.before, front)
        chain = links[-1][1] if links else self.before
        return replace(self, last=revision, after=chain, records=front), replace(
            self, first=revision + 1, before=chain, records=back
        )

    def with_only(self, records: Sequence[Record]) -> Chunk:
        """What a compaction leaves of the chunk."""
        return replace(self, records=records)


@dataclass(frozen=True, slots=True)
class Part:
    """What is written together: a chunk, and the requests that made its revisions. As values of etcd."""

    chunk: Chunk
    value: bytes
    requests: bytes
    """Empty: there are none."""


def split(
    records: Sequence[Record],
    requests: Sequence[Request],
    chain: bytes,
    part_bytes: int = PART_BYTES,
    limit_bytes: int = LIMIT_BYTES,
) -> list[Part]:
    """The parts of one append, in order.

    `records` follow on a log that ends with `chain`, and are not empty; each request goes with its revision. Raises
    TooLarge, in words, if a single revision does not fit into a part.
    """
    asked: dict[int, list[Request]] = {}
    for request in requests:
        asked.setdefault(request.revision, []).append(request)
    parts: list[tuple[list[Record], list[Request]]] = []
    size = 0
    for revision in _revisions(records):
        of_revision = asked.pop(revision[0].revision, [])
        length = sum(map(_size, revision)) + sum(map(_request_size, of_revision))
        if length > limit_bytes:
            raise TooLarge(
                f"one atomic write with {len(revision)} changes takes {length:,} bytes in the log; with its store in "
                f"etcd this cluster takes {limit_bytes:,} at once: write less in one piece"
            )
        if not parts or size + length > part_bytes:
            parts.append(([], []))
            size = 0
        parts[-1][0].extend(revision)
        parts[-1][1].extend(of_revision)
        size += length
    assert not asked, f"requests of revisions that are not appended: {asked!r}"
    made: list[Part] = []
    for part, of_part in parts:
        after = chains.link(chain, part)[-1][1]
        chunk = Chunk(part[0].revision, part[-1].revision, chain, after, part)
        made.append(Part(chunk, chunk.encode(), encode_requests(of_part) if of_part else b""))
        chain = after
    return made


def _revisions(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Records of one revision at a time."""
    start = 0
    for index in range(1, len(records) + 1):
        if index == len(records) or records[index].revision != records[start].revision:
            yield records[start:index]
            start = index


def _size(record: Record) -> int:
    texts = len(record.kind) + len(record.namespace) + len(record.name) + len(record.node)
    # A character may take up to four bytes; names are ASCII, and then this is exact.
    return _RECORD.size + (texts if record.name.isascii() else 4 * texts) + len(record.data)


def _encode_record(record: Record) -> bytes:
    revision, position, kind, namespace, name, previous, deleted, node, time_s, data = record
    k, s, n, o = kind.encode(), namespace.encode(), name.encode(), node.encode()
    head = _RECORD.pack(revision, previous, time_s, position, len(k), len(s), len(n), len(o), len(data), deleted)
    return b"".join((head, k, s, n, o, data))


def _decode_records(value: bytes, at: int, end: int, count: int) -> list[Record]:
    records: list[Record] = []
    unpack, size = _RECORD.unpack_from, _RECORD.size
    try:
        for _ in range(count):
            revision, previous, time_s, position, k, s, n, o, d, deleted = unpack(value, at)
            a = at + size
            b = a + k
            c = b + s
            e = c + n
            f = e + o
            at = f + d
            records.append(
                Record(
                    revision,
                    position,
                    value[a:b].decode(),
                    value[b:c].decode(),
                    value[c:e].decode(),
                    previous,
                    deleted == 1,
                    value[e:f].decode(),
                    time_s,
                    value[f:at],
                )
            )
    except (struct.error, UnicodeDecodeError) as error:
        raise Damaged("a chunk of the log is damaged: its records do not parse") from error
    if at != end:
        raise Damaged("a chunk of the log is damaged: its length does not match its records")
    return records


def _request_size(request: Request) -> int:
    return _REQUEST.size + len(request.request_id.encode()) + len(request.outcome)


def encode_requests(requests: Sequence[Request]) -> bytes:
    """Requests of one part, in order of revisions."""
    parts = [_COUNT.pack(_VERSION, len(requests))]
    for request_id, revision, time_s, outcome in requests:
        name = request_id.encode()
        parts += (_REQUEST.pack(revision, time_s, len(name), len(outcome)), name, outcome)
    body = b"".join(parts)
    return body + checksum(body, _CHECK_BYTES)


def decode_requests(value: bytes) -> list[Request]:
    """Raises Damaged."""
    body, check = value[:-_CHECK_BYTES], value[-_CHECK_BYTES:]
    if len(body) < _COUNT.size or checksum(body, _CHECK_BYTES) != check:
        raise Damaged("the requests of an append are damaged: their checksum does not match")
    _, count = _COUNT.unpack_from(body)
    at, requests = _COUNT.size, []
    for _ in range(count):
        revision, time_s, n, o = _REQUEST.unpack_from(body, at)
        at += _REQUEST.size
        requests.append(Request(body[at : at + n].decode(), revision, time_s, body[at + n : at + n + o]))
        at += n + o
    return requests
