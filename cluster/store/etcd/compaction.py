"""Which chunks are rewritten, and in which order, when the beginning of the log is forgotten.

A record may go when a newer one of its object is within the compacted part; a deletion within it may go, too, but never
before what it deleted: or a crash between the two would bring the object back. So the oldest chunk is rewritten first:

    chunks      1 {a1}   2 {b2}   3 {a3: after a1}   4 {b4: deleted, after b2}   5 {a5: after a3}     compacted 4

    edit 1      chunk 1 is removed      a1 is replaced by a3
    edit 2      chunk 2 is removed      b2 was deleted by b4, which is still there
    edit 3      chunk 3 stays           a5 is beyond the compacted part: a3 is how it shows a
    edit 4      chunk 4 is removed      nothing is left that b4 deletes

Each record names the revision that it replaced, so what has to go is known from the chunks that are swept now: the
older ones that hold it are looked up one by one, the beginning of the log is never read as a whole. Edits are carried
out in order, several in one transaction, each transaction with the head as it is after them: a crash between two leaves
a log that is whole, and the next sweep goes on from `head.swept`.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.store import chain
from cluster.store.etcd.chunks import Chunk
from cluster.store.etcd.values import Head
from cluster.store.version import Record

MAX_EDITS = 50
"""In one transaction; etcd takes 128 operations."""
MAX_BYTES = 1_000_000
"""Of new values in one transaction."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One chunk's fate."""

    last: int
    """It is named by this."""
    value: bytes | None
    """Its new encoding; empty: it stays as it is; None: it is removed."""
    head: Head
    """The head once this edit and all before it are done."""
    rest: tuple[int, bytes] | None = None
    """It was cut out of this chunk, which becomes this at the same moment."""


def replaced(fresh: Iterable[Chunk], swept: int) -> list[int]:
    """Revisions up to `swept` of which a record is replaced in `fresh`, sorted: the chunks that hold them change."""
    return sorted({r.previous for chunk in fresh for r in chunk.records if 0 < r.previous <= swept})


def plan(head: Head, older: Iterable[Chunk], fresh: Sequence[Chunk], rest: Chunk | None = None) -> list[Edit]:
    """What to do, in order.

    `fresh`: the next chunks after `head.swept`, none beyond `head.compacted`. `older`: swept chunks, among them all
    that hold a revision of `replaced`. `rest`: the last of `fresh` was cut out of a chunk that is beyond, this is left.
    """
    gone = {_id(record, record.previous) for chunk in fresh for record in chunk.records if record.previous}
    gone |= {_id(record, record.revision) for chunk in fresh for record in chunk.records if record.deleted}
    edits: list[Edit] = []
    for chunk in sorted(older, key=lambda chunk: chunk.last):
        dropped = [record for record in chunk.records if _id(record, record.revision) in gone]
        if dropped:
            total = chain.subtract(head.total, map(chain.digest, dropped))
            head = replace(head, count=head.count - len(dropped), total=total)
            edits.append(Edit(chunk.last, _left(chunk, gone), head))
    for chunk in fresh:
        assert chunk.last <= head.compacted, f"chunk {chunk.last} is beyond what is compacted, {head.compacted}"
        kept = [record for record in chunk.records if _id(record, record.revision) not in gone]
        head = replace(
            head,
            swept=chunk.last,
            chain_swept=chunk.after,
            count=head.count + len(kept),
            total=chain.add(head.total, map(chain.digest, kept)),
        )
        if rest is not None and chunk is fresh[-1]:
            value = chunk.with_only(kept).encode() if kept else None
            edits.append(Edit(chunk.last, value, head, (rest.last, rest.encode())))
        else:
            edits.append(Edit(chunk.last, _left(chunk, gone), head))
    return edits


def transactions(edits: Sequence[Edit], max_edits: int = MAX_EDITS, max_bytes: int = MAX_BYTES) -> Iterator[list[Edit]]:
    """The edits in groups that fit into one transaction each."""
    group: list[Edit] = []
    size = 0
    for edit in edits:
        length = len(edit.value or b"") + (len(edit.rest[1]) if edit.rest is not None else 0)
        if group and (len(group) == max_edits or size + length > max_bytes):
            yield group
            group, size = [], 0
        group.append(edit)
        size += length
    if group:
        yield group


def _left(chunk: Chunk, gone: set[tuple[int, str, str, str]]) -> bytes | None:
    kept = [record for record in chunk.records if _id(record, record.revision) not in gone]
    if not kept:
        return None
    return b"" if len(kept) == len(chunk.records) else chunk.with_only(kept).encode()


def _id(record: Record, revision: int) -> tuple[int, str, str, str]:
    return revision, record.kind, record.namespace, record.name
