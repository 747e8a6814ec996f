"""A backup as bytes: everything that a store kept as of one revision, whichever engine kept it.

    magic, format                     8 + 2 bytes
    frame: header                     JSON: which store, as of which revision, on what its chain stands
    frame: records  ...               each record by its canonical bytes (chain.py), in the order of the log
    frame: requests ...               writes of the last minutes that must not happen twice
    frame: end                        how many there were, and the chain at the end

A frame is its kind, the length of its payload, the payload, and a digest over these and the digest of the frame before
(of the first one: over the magic). So a bit that was flipped, a frame that is missing, is there twice or has changed
places, or one of another backup shows where it stands; an end that was cut off, or bytes after it, show at the end. On
top of that the records must add up to the base and the chain, as they do in a store.

Whoever reads takes nothing for good before the end has come (`Reading.end`). Writing and reading hold one frame at a
time, however large the backup is. Like the chain, this finds damage; it is no signature.

Pure.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from cluster.store import chain
from cluster.store.chain import HASH_BYTES, Base, Sums
from cluster.store.interface import Request
from cluster.store.version import Record

MAGIC = b"PodiumBk"
FORMAT = 1
FRAME_BYTES = 256 * 1024
"""A frame is closed when it has about so many."""
MOST_BYTES = 64 * 1024 * 1024
"""No frame has more: one record is no larger than a call may be."""

_START = struct.Struct("<8sH")
_FRAME = struct.Struct("<cI")
_COUNT = struct.Struct("<I")
_RECORD = struct.Struct("<II")
_REQUEST = struct.Struct("<QdHI")
_END = struct.Struct(f"<QQQ{HASH_BYTES}s")
_HEADER, _RECORDS, _REQUESTS, _LAST = b"H", b"R", b"Q", b"E"
_ORDER = {b"": _HEADER, _HEADER: _RECORDS + _REQUESTS + _LAST, _RECORDS: _RECORDS + _REQUESTS + _LAST}
_ORDER |= {_REQUESTS: _REQUESTS + _LAST, _LAST: b""}


class BadBackup(ValueError):
    """This is no backup, a damaged one, or one of a newer Podium. The message is for the user."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself, before anything else."""

    store_id: str
    cluster: str
    """The cluster's name; empty: it had none."""
    revision: int
    """Everything up to this revision is in it, and nothing after."""
    base: Base
    time_s: float
    """Wall time at which it was begun, seconds since 1970."""
    engine: str
    """Where the store was: sqlite, etcd or memory."""
    podium: str = ""
    """The version that made it."""
    service_cidr: str = ""
    """Addresses of services in that cluster ..."""
    pod_cidr_base: str = ""
    """... and where those of pods began: objects have some of both."""

    def encode(self) -> bytes:
        base = self.base
        document = {
            "store_id": self.store_id,
            "cluster": self.cluster,
            "revision": self.revision,
            "compacted": base.compacted,
            "chain": base.chain.hex(),
            "count": base.count,
            "total": f"{base.total:x}",
            "time_s": self.time_s,
            "engine": self.engine,
            "podium": self.podium,
            "service_cidr": self.service_cidr,
            "pod_cidr_base": self.pod_cidr_base,
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Header:
        """Raises ValueError, KeyError or TypeError."""
        fields = json.loads(payload)
        words = ("store_id", "cluster", "engine", "podium", "service_cidr", "pod_cidr_base")
        base = Base(
            int(fields["compacted"]), bytes.fromhex(fields["chain"]), int(fields["count"]), int(fields["total"], 16)
        )
        return cls(
            **{word: str(fields[word]) for word in words},
            revision=int(fields["revision"]),
            base=base,
            time_s=float(fields["time_s"]),
        )


class Writing:
    """Makes the bytes of a backup, piece by piece: `begin`, `records` in order, `requests`, `end`."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._sums = Sums(header.base)
        self._requests = 0
        self._digest = _beginning()

    def begin(self) -> bytes:
        """What everything else follows."""
        return _START.pack(MAGIC, FORMAT) + self._frame(_HEADER, self._header.encode())

    def records(self, records: Sequence[Record]) -> Iterator[bytes]:
        """The next records, as frames. Raises ValueError if they do not follow on those before."""
        self._sums.add(records)
        return self._frames(_RECORDS, map(_encode_record, records))

    def requests(self, requests: Sequence[Request]) -> Iterator[bytes]:
        """The next requests, as frames."""
        self._requests += len(requests)
        return self._frames(_REQUESTS, map(_encode_request, requests))

    def end(self) -> bytes:
        """Raises ValueError if something is missing."""
        sums = self._sums
        sums.finish(self._header.revision)
        return self._frame(_LAST, _END.pack(sums.records, self._requests, sums.revision, sums.chain))

    def _frames(self, kind: bytes, items: Iterator[bytes]) -> Iterator[bytes]:
        pieces: list[bytes] = []
        size = 0
        for item in items:
            if pieces and size + len(item) > FRAME_BYTES:
                yield self._frame(kind, b"".join((_COUNT.pack(len(pieces)), *pieces)))
                pieces, size = [], 0
            pieces.append(item)
            size += len(item)
        if pieces:
            yield self._frame(kind, b"".join((_COUNT.pack(len(pieces)), *pieces)))

    def _frame(self, kind: bytes, payload: bytes) -> bytes:
        head = _FRAME.pack(kind, len(payload))
        self._digest = _digest(self._digest, head, payload)
        return head + payload + self._digest


@dataclass(frozen=True, slots=True)
class Records:
    """Some records, each with its digest and the chain after it."""

    records: Sequence[Record]
    links: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class End:
    """The backup is whole."""

    records: int
    requests: int
    chain: bytes
    """Of the log, at the backup's revision."""


Part = Header | Records | Sequence[Request] | End


class Reading:
    """Takes the bytes of a backup as they come, and gives what is in them, verified up to there."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self.end: End | None = None
        """Once it has come: the backup is whole, and all that was given is good."""
        self._buffer = bytearray()
        self._digest = _beginning()
        self._started = False
        self._sums = Sums(Base())
        self._requests = 0
        self._before = b""

    def feed(self, data: bytes) -> Iterator[Part]:
        """What is complete with these bytes, in order; to be taken to its end. Raises BadBackup."""
        buffer = self._buffer
        buffer += data
        if not self._started:
            if len(buffer) < _START.size:
                if not MAGIC.startswith(bytes(buffer[: len(MAGIC)])):
                    raise BadBackup("this is no backup of Podium")
                return
            magic, number = _START.unpack_from(buffer)
            if magic != MAGIC:
                raise BadBackup("this is no backup of Podium")
            if number != FORMAT:
                raise BadBackup(
                    f"this backup has format {number}, and this Podium knows format {FORMAT}: it was made by a newer "
                    "one, or is damaged"
                )
            del buffer[: _START.size]
            self._started = True
        at = 0
        try:
            while len(buffer) - at >= _FRAME.size:
                kind, length = _FRAME.unpack_from(buffer, at)
                if self.end is not None:
                    break
                if kind not in _ORDER[self._before] or length > MOST_BYTES:
                    raise self._damaged("a piece has no known form")
                stop = at + _FRAME.size + length
                if len(buffer) < stop + HASH_BYTES:
                    break
                head, payload = bytes(buffer[at : at + _FRAME.size]), bytes(buffer[at + _FRAME.size : stop])
                made = _digest(self._digest, head, payload)
                if made != buffer[stop : stop + HASH_BYTES]:
                    raise self._damaged("its bytes are not those that were written")
                self._digest, self._before = made, kind
                at = stop + HASH_BYTES
                try:
                    part = self._part(kind, payload)
                except (ValueError, KeyError, TypeError, struct.error) as error:
                    raise self._damaged(str(error)) from error
                yield part
        finally:
            del buffer[:at]
        if self.end is not None and buffer:
            raise self._damaged("there are bytes after its end")

    def finish(self) -> End:
        """There are no more bytes. Raises BadBackup if the end is missing."""
        if self.end is None:
            if not self._started:
                raise BadBackup("this is no backup of Podium: it is too short")
            raise self._damaged("its end is missing; it was not written completely, or was cut off")
        return self.end

    def _part(self, kind: bytes, payload: bytes) -> Part:
        if kind == _HEADER:
            self.header = Header.decode(payload)
            self._sums = Sums(self.header.base)
            return self.header
        if kind == _RECORDS:
            records = _decode_records(payload)
            return Records(records, self._sums.add(records))
        if kind == _REQUESTS:
            requests = _decode_requests(payload)
            self._requests += len(requests)
            return requests
        sums, header = self._sums, self.header
        assert header is not None, "_ORDER lets nothing come before it"
        count, requests_count, revision, last = _END.unpack(payload)
        sums.finish(header.revision)
        if (count, requests_count, revision, last) != (sums.records, self._requests, sums.revision, sums.chain):
            raise ValueError("what is in it is not what its end says")
        self.end = End(count, requests_count, last)
        return self.end

    def _damaged(self, why: str) -> BadBackup:
        where = f" after revision {self._sums.revision}" if self.header is not None else ""
        return BadBackup(f"this backup is damaged{where}: {why}")


def _beginning() -> bytes:
    return blake2b(_START.pack(MAGIC, FORMAT), digest_size=HASH_BYTES).digest()


def _digest(before: bytes, head: bytes, payload: bytes) -> bytes:
    found = blake2b(before + head, digest_size=HASH_BYTES)
    found.update(payload)
    return found.digest()


def _encode_record(record: Record) -> bytes:
    written = chain.canonical(record)
    texts = sum(len(text.encode()) for text in (record.kind, record.namespace, record.name, record.node))
    return _RECORD.pack(len(written), texts) + written


def _decode_records(payload: bytes) -> list[Record]:
    (count,) = _COUNT.unpack_from(payload)
    at, records = _COUNT.size, []
    for _ in range(count):
        length, texts = _RECORD.unpack_from(payload, at)
        at += _RECORD.size
        if at + length > len(payload):
            raise ValueError("a record is longer than its piece")
        records.append(chain.parse(payload[at : at + length], texts))
        at += length
    if at != len(payload):
        raise ValueError("a piece is longer than its records")
    return records


def _encode_request(request: Request) -> bytes:
    name = request.request_id.encode()
    head = _REQUEST.pack(request.revision, request.time_s, len(name), len(request.outcome))
    return head + name + request.outcome


def _decode_requests(payload: bytes) -> list[Request]:
    (count,) = _COUNT.unpack_from(payload)
    at, requests = _COUNT.size, []
    for _ in range(count):
        revision, time_s, names, outcomes = _REQUEST.unpack_from(payload, at)
        at += _REQUEST.size
        name, outcome = payload[at : at + names], payload[at + names : at + names + outcomes]
        at += names + outcomes
        requests.append(Request(name.decode(), revision, time_s, outcome))
    if at != len(payload):
        raise ValueError("a piece is longer than its requests")
    return requests
