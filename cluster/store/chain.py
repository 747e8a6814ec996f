"""What makes a changed byte of the log show: a digest of each record, and a chain over the digests.

    digest_n = blake2b(canonical(record_n))         says what the record is
    chain_n  = blake2b(chain_{n-1} + digest_n)      says what the log is, from its first record to this one

Two logs with the same chain at a revision are the same up to there, so a single value (in the high-water mark, in a
backup, between masters) vouches for everything before it. Compaction takes records out of the middle; what is left of
the compacted beginning is vouched for by the sum of its digests (modulo 2**256: the order does not matter, and adding
and taking away are cheap), and the chain goes on from the value that it had at the compacted revision:

    put a 1, put b 2, put a 3, delete b 4, put a 5      chain c1 c2 c3 c4 c5
    compacted to 4       kept: a 3, a 5                 Base(compacted 4, chain c4, count 1, total digest(a 3)); c5

This finds damage: flipped bytes, rows that are lost, old or of another store. It is no signature: somebody who can
write the file can compute the chain, too.

Pure. Every journal and every backup uses these functions, so that a log keeps its chain wherever it goes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from cluster.store.interface import Request
from cluster.store.version import Record

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
"""The chain before the first record."""

_MODULUS = 1 << 8 * HASH_BYTES
_HEAD = struct.Struct("<QQdHHHHHB")
_REQUEST = struct.Struct("<QdH")
_pack = _HEAD.pack


def canonical(record: Record) -> bytes:
    """All fields of a record, such that two records that differ have different bytes.

    Numbers, the lengths of the texts (in characters) and `deleted`, little-endian; the texts in UTF-8; the data.
    """
    return _head(record) + record.data


def parse(canonical: bytes, text_bytes: int) -> Record:
    """The record whose canonical bytes these are; its texts take `text_bytes`. Raises ValueError if they are none."""
    try:
        revision, previous, time_s, position, kind, namespace, name, node, deleted = _HEAD.unpack_from(canonical)
        end = _HEAD.size + text_bytes
        text = canonical[_HEAD.size : end].decode()
    except struct.error as error:
        raise ValueError(f"it is no record: {error}") from error
    if len(text) != kind + namespace + name + node or end > len(canonical) or deleted > 1:
        raise ValueError("it is no record: its lengths do not fit")
    a, b, c = kind, kind + namespace, kind + namespace + name
    data = canonical[end:]
    return Record(revision, position, text[:a], text[a:b], text[b:c], previous, deleted == 1, text[c:], time_s, data)


def digest(record: Record) -> bytes:
    """blake2b of the canonical bytes."""
    found = blake2b(_head(record), digest_size=HASH_BYTES)
    found.update(record.data)  # the longest part is not copied
    return found.digest()


def step(chain: bytes, digest: bytes) -> bytes:
    """The chain after one more record."""
    return blake2b(chain + digest, digest_size=HASH_BYTES).digest()


def link(chain: bytes, records: Iterable[Record]) -> list[tuple[bytes, bytes]]:
    """The digest of each record and the chain after it, beginning with the chain before the first."""
    links: list[tuple[bytes, bytes]] = []
    for record in records:
        found = digest(record)
        chain = step(chain, found)
        links.append((found, chain))
    return links


def add(total: int, digests: Iterable[bytes]) -> int:
    """The sum of digests with more of them."""
    return (total + sum(int.from_bytes(digest, "little") for digest in digests)) % _MODULUS


def subtract(total: int, digests: Iterable[bytes]) -> int:
    """The sum of digests without some of them."""
    return (total - sum(int.from_bytes(digest, "little") for digest in digests)) % _MODULUS


def request_digest(request: Request) -> bytes:
    """Like `digest`, of a request. Requests have a chain of their own."""
    head = _REQUEST.pack(request.revision, request.time_s, len(request.request_id))
    return blake2b(head + request.request_id.encode() + request.outcome, digest_size=HASH_BYTES).digest()


def _head(record: Record) -> bytes:
    revision, position, kind, namespace, name, previous, deleted, node, time_s, _ = record
    return (
        _pack(revision, previous, time_s, position, len(kind), len(namespace), len(name), len(node), deleted)
        + f"{kind}{namespace}{name}{node}".encode()
    )


@dataclass(frozen=True, slots=True)
class Base:
    """What a log stands on: its compacted beginning, in one line."""

    compacted: int = 0
    """Revision up to which changes are not kept one by one."""
    chain: bytes = GENESIS
    """As of then."""
    count: int = 0
    """Records that are left of it ..."""
    total: int = 0
    """... and the sum of their digests."""


class Finding(NamedTuple):
    """Something that is not as it was written."""

    where: str
    """ "revision 17, Pod default/web-1"; "after revision 20"."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Verifier:
    """Holds a log against what is kept about it, record by record, in order, while it is read.

    What `feed` and `finish` are not told of (a `report` that was never called) is exactly what was once written after
    `base`, up to `revision`; whether it is all that was ever written, a high-water mark must say.
    """

    def __init__(self, base: Base, report: Callable[[Finding], None]) -> None:
        """`report` is called for each finding; it may raise."""
        self._base = base
        self._report = report
        self._count = 0
        self._total = 0
        self._position = -1
        self.revision = base.compacted
        """Of the newest record, or what is compacted."""
        self.chain = base.chain
        """As of then."""
        self.records = 0
        """How many were fed."""

    def feed(self, rows: Sequence[tuple[Record, bytes, bytes]]) -> None:
        """The next records, each with the digest and the chain that are kept with it."""
        chain, revision, position = self.chain, self.revision, self._position
        compacted = self._base.compacted
        self.records += len(rows)
        for record, kept_digest, kept_chain in rows:
            number, place, kind, namespace, name, previous, deleted, node, time_s, data = record
            # `digest` and `step`, spelled out: this is most of what a start costs.
            try:
                found = blake2b(
                    _pack(number, previous, time_s, place, len(kind), len(namespace), len(name), len(node), deleted)
                    + f"{kind}{namespace}{name}{node}".encode(),
                    digest_size=32,
                )
                found.update(data)
            except (struct.error, TypeError, ValueError) as error:
                self._report(Finding(place_of(record), f"it is no record: {error}"))
                found = blake2b(digest_size=32)
            made = found.digest()
            if made != kept_digest:
                self._report(Finding(place_of(record), "its bytes are not those that were written"))
            if number <= compacted:
                self._count += 1
                self._total += int.from_bytes(made, "little")
                continue
            if number == revision:
                if place != position + 1:
                    self._report(Finding(place_of(record), f"it is change {place}, after change {position}"))
            elif number != revision + 1 or place != 0:
                self._report(Finding(f"after revision {revision}", f"changes are missing before {place_of(record)}"))
            revision, position = number, place
            chain = blake2b(chain + made, digest_size=32).digest()
            if chain != kept_chain:
                self._report(Finding(place_of(record), "the chain is broken: this or what is before it was changed"))
                chain = kept_chain
        self.chain, self.revision, self._position = chain, revision, position

    def finish(self) -> None:
        """There are no more records."""
        base = self._base
        if self._count != base.count:
            what = f"there are {self._count} records, and should be {base.count}"
        elif self._total % _MODULUS != base.total:
            what = "records are not those that were kept"
        else:
            return
        self._report(Finding(f"up to revision {base.compacted}, the compacted part", what))


class Sums:
    """The digests and chains of a log while it is copied, and whether it is in order.

    Unlike `Verifier` it is told nothing about single records: what it says in the end is held against the whole.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self._count = self._total = 0
        self._position = -1
        self.revision = base.compacted
        """Of the newest record, or what is compacted."""
        self.chain = base.chain
        """As of then."""
        self.records = 0
        """How many were added."""

    def add(self, records: Sequence[Record]) -> list[tuple[bytes, bytes]]:
        """The digest of each of the next records, and the chain after it (for what is compacted: the base's).

        Raises ValueError if one of them does not follow.
        """
        links: list[tuple[bytes, bytes]] = []
        compacted = self._base.compacted
        for record in records:
            made = digest(record)
            number, place = record.revision, record.position
            if number <= compacted:
                self._count += 1
                self._total += int.from_bytes(made, "little")
                links.append((made, self.chain))
                continue
            follows = (self.revision, self._position + 1) if number == self.revision else (self.revision + 1, 0)
            if (number, place) != follows:
                raise ValueError(f"change {place} of {place_of(record)} does not follow on revision {self.revision}")
            self.revision, self._position = number, place
            self.chain = step(self.chain, made)
            links.append((made, self.chain))
        self.records += len(records)
        return links

    def finish(self, revision: int) -> None:
        """There are no more. Raises ValueError if something is missing."""
        base = self._base
        if (self._count, self._total % _MODULUS) != (base.count, base.total):
            raise ValueError(f"what is left of revisions up to {base.compacted} is not what was kept of them")
        if self.revision != revision:
            raise ValueError(f"it ends at revision {self.revision} and should end at {revision}")


def place_of(record: Record) -> str:
    """ "revision 17, Pod default/web-1"."""
    name = f"{record.namespace}/{record.name}" if record.namespace else record.name
    return f"revision {record.revision}, {record.kind} {name}"
