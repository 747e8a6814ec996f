"""The two small values of a log in etcd: where it ends (`Head`), and which store it is (`StoreMark`).

The head is written with each append, in the same transaction, so what it says is so: a chunk beyond it is not part of
the log (yet). It carries what is needed to hold every served byte against what was written:

    log     a1 b2 a3 b4' a5 ...  (b4': a deletion)      compacted 4, swept 2 so far, then 4

    swept 2     chunks up to 2 were rewritten: of them b2 is left. total = digest(b2); chain_swept = chain after 2
    swept 4     of chunks up to 4, a3 is left. total = digest(a3); chain_swept = chain after 4

What is swept is vouched for by a sum of digests (the order does not matter, and taking one away is cheap), all after it
by the chain, which starts at `chain_swept` and must end at `chain`. `compacted` is a promise and is made first;
`swept` follows piece by piece.

Pure.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from hashlib import blake2b

from cluster.store.chain import GENESIS, HASH_BYTES

FORMAT = 1
"""Of everything below the prefix. A store of a greater one is refused."""
_MOVED = 2
"""Of the mark of a store whose log lies in a folder: a Podium that knows none shall not look for it elsewhere."""

_CHECK_BYTES = 8
_HEAD = struct.Struct(f"<BQQQQ{HASH_BYTES}s{HASH_BYTES}s{HASH_BYTES}s")


class Damaged(ValueError):
    """A value is not what was once written. The message says which and how."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends, and what of its beginning is forgotten."""

    revision: int = 0
    """The newest."""
    chain: bytes = GENESIS
    """After the newest record."""
    compacted: int = 0
    """Changes up to this revision are no longer served one by one."""
    swept: int = 0
    """Chunks up to this revision hold only what is left of the compacted beginning; all after it are as written."""
    chain_swept: bytes = GENESIS
    """The chain after revision `swept`."""
    count: int = 0
    """Records in chunks up to `swept` ..."""
    total: int = 0
    """... and the sum of their digests."""

    def encode(self) -> bytes:
        body = _HEAD.pack(
            FORMAT,
            self.revision,
            self.compacted,
            self.swept,
            self.count,
            self.chain,
            self.chain_swept,
            self.total.to_bytes(HASH_BYTES, "little"),
        )
        return body + checksum(body, _CHECK_BYTES)

    @classmethod
    def decode(cls, value: bytes) -> Head:
        """Raises Damaged."""
        body, check = value[:-_CHECK_BYTES], value[-_CHECK_BYTES:]
        if len(body) != _HEAD.size or body[0] != FORMAT:
            raise Damaged(f"the head of the log has an unknown form ({len(value)} bytes)")
        if checksum(body, _CHECK_BYTES) != check:
            raise Damaged("the head of the log is damaged: its checksum does not match")
        _, revision, compacted, swept, count, chain, chain_swept, total = _HEAD.unpack(body)
        return cls(revision, chain, compacted, swept, chain_swept, count, int.from_bytes(total, "little"))


@dataclass(frozen=True, slots=True)
class StoreMark:
    """Which store this is, and where its log lies. Written once, and by each restore."""

    store_id: str
    etcd_cluster_id: int
    """The id that etcd's cluster had then. A snapshot of etcd that is restored gets another one."""
    folder: str = ""
    """See Keys."""

    def encode(self) -> bytes:
        fields: dict[str, str | int] = {"format": FORMAT, "store_id": self.store_id}
        fields["etcd_cluster_id"] = f"{self.etcd_cluster_id:x}"
        if self.folder:
            fields |= {"format": _MOVED, "folder": self.folder}
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, value: bytes) -> StoreMark:
        """Raises Damaged; for a format that this program does not know, the message says so."""
        try:
            fields = json.loads(value)
            found = int(fields["format"])
            if found in (FORMAT, _MOVED):
                folder = str(fields["folder"]) if found == _MOVED else ""
                return cls(str(fields["store_id"]), int(fields["etcd_cluster_id"], 16), folder)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"it is not the mark of a store of Podium: {value[:60]!r}") from error
        raise Damaged(f"it was written in format {found}; this Podium knows format {_MOVED}")

    def incarnation(self, etcd_cluster_id: int) -> str:
        """The store id to tell clients: with a suffix if etcd was restored from a snapshot as another cluster."""
        if etcd_cluster_id == self.etcd_cluster_id:
            return self.store_id
        return f"{self.store_id}+{etcd_cluster_id & 0xFFFFFFFF:08x}"


def checksum(body: bytes, size: int) -> bytes:
    """Finds flipped bytes; no signature."""
    return blake2b(body, digest_size=size).digest()
