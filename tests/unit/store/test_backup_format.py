"""A backup's bytes: what was written is read back, and whatever is done to them shows before the end is believed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.store import backup_format, chain
from cluster.store.backup_format import BadBackup, End, Header, Reading, Records, Writing
from cluster.store.chain import GENESIS, Base, Sums
from cluster.store.interface import Request
from cluster.store.version import Record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def log(revisions: int, compacted: int = 0, size: int = 20) -> list[Record]:
    """A log of which the beginning was compacted; every third revision has two changes."""
    records = []
    for revision in range(1, revisions + 1):
        if revision <= compacted and revision % 2:
            continue
        for position in range(2 if revision % 3 == 0 else 1):
            name = f"p{revision}-{position}"
            data = b"%d." % revision * size
            records.append(Record(revision, position, "Pod", "ns", name, 0, False, "n", float(revision), data))
    return records


def header_of(records: Sequence[Record], compacted: int = 0) -> Header:
    left = [record for record in records if record.revision <= compacted]
    base = Base(compacted, GENESIS, len(left), chain.add(0, map(chain.digest, left)))
    revision = records[-1].revision if records else compacted
    return Header("a-store", "demo", revision, base, 12.5, "sqlite", "0.1", "127.9.0.0/20", "127.9.16.0")


def written(header: Header, records: Sequence[Record], requests: Sequence[Request] = ()) -> bytes:
    writing = Writing(header)
    return b"".join([writing.begin(), *writing.records(records), *writing.requests(requests), writing.end()])


def read(pieces: Iterable[bytes]) -> tuple[Header, list[Record], list[Request], End]:
    """Raises BadBackup."""
    reading = Reading()
    records: list[Record] = []
    requests: list[Request] = []
    for piece in pieces:
        for part in reading.feed(piece):
            if isinstance(part, Records):
                records += part.records
                assert [digest for digest, _ in part.links] == [chain.digest(record) for record in part.records]
            elif isinstance(part, list):
                requests += part
    end = reading.finish()
    assert reading.header is not None
    return reading.header, records, requests, end


RECORDS = log(30, compacted=10)
REQUESTS = [Request(f"admin/{n}", n, float(n), b"answer %d" % n) for n in range(20, 30)]
HEADER = header_of(RECORDS, 10)
BACKUP = written(HEADER, RECORDS, REQUESTS)


@pytest.mark.parametrize("size", [1, 7, 1000, len(BACKUP)])
def test_what_was_written_is_read_however_it_comes(size: int) -> None:
    pieces = [BACKUP[at : at + size] for at in range(0, len(BACKUP), size)]
    header, records, requests, end = read(pieces)
    assert (header, records, requests) == (HEADER, RECORDS, REQUESTS)
    assert (end.records, end.requests) == (len(RECORDS), len(REQUESTS))
    after = [record for record in RECORDS if record.revision > 10]
    assert end.chain == chain.link(GENESIS, after)[-1][1]


def test_an_empty_store() -> None:
    header, records, requests, end = read([written(header_of([]), [])])
    assert (header.revision, records, requests, end.records) == (0, [], [], 0)


@given(
    st.lists(st.tuples(texts, texts, texts, texts, st.booleans(), st.binary(max_size=50), st.floats(allow_nan=False)))
)
@settings(max_examples=60)
def test_every_field_comes_back(fields: list[tuple[str, str, str, str, bool, bytes, float]]) -> None:
    records = [
        Record(n, 0, kind, space, name, n - 1, deleted, node, time_s, data)
        for n, (kind, space, name, node, deleted, data, time_s) in enumerate(fields, 1)
    ]
    assert read([written(header_of(records), records)])[1] == records


@given(st.integers(0, len(BACKUP) * 8 - 1))
@settings(max_examples=400)
def test_no_flipped_bit_is_missed(bit: int) -> None:
    changed = bytearray(BACKUP)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadBackup):
        read([bytes(changed)])


@given(st.integers(0, len(BACKUP) - 1))
@settings(max_examples=200)
def test_no_cut_is_missed(length: int) -> None:
    with pytest.raises(BadBackup):
        read([BACKUP[:length]])


@given(st.binary(min_size=1, max_size=100), st.booleans())
def test_nothing_after_the_end_is_missed(more: bytes, apart: bool) -> None:
    with pytest.raises(BadBackup, match="after its end"):
        read([BACKUP, more] if apart else [BACKUP + more])


def frames(backup: bytes) -> list[bytes]:
    """The beginning, and each frame."""
    found, at = [backup[:10]], 10
    while at < len(backup):
        end = at + 5 + int.from_bytes(backup[at + 1 : at + 5], "little") + 32
        found.append(backup[at:end])
        at = end
    return found


@given(st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_no_piece_that_changed_places_is_missed(rng: random.Random) -> None:
    pieces = frames(LONG)
    first, second = sorted(rng.sample(range(1, len(pieces)), 2))
    how = rng.randrange(3)
    if how == 0:
        pieces[first], pieces[second] = pieces[second], pieces[first]
    elif how == 1:
        del pieces[first]
    else:
        pieces.insert(second, pieces[first])
    with pytest.raises(BadBackup):
        read([b"".join(pieces)])


def test_a_piece_of_another_backup_is_not_taken() -> None:
    other = frames(written(header_of(RECORDS, 10), [*RECORDS[:-1], RECORDS[-1]._replace(data=b"other")]))
    pieces = frames(written(HEADER, RECORDS))
    with pytest.raises(BadBackup, match="not those that were written"):
        read([b"".join([*pieces[:-1], other[-1]])])


LONG = written(header_of(log(60, size=20_000)), log(60, size=20_000), REQUESTS)


def test_a_large_backup_is_many_pieces_and_none_of_them_is_large() -> None:
    pieces = frames(LONG)
    assert len(pieces) > 10
    assert max(map(len, pieces)) < backup_format.FRAME_BYTES + 100
    assert len(read([LONG])[1]) == 80


def test_a_newer_format_is_refused_in_words() -> None:
    newer = BACKUP[:8] + (2).to_bytes(2, "little") + BACKUP[10:]
    with pytest.raises(BadBackup, match="format 2, and this Podium knows format 1"):
        read([newer])


@pytest.mark.parametrize("other", [b"", b"Podium", b"SQLite format 3\0" + bytes(100), b"x"])
def test_what_is_no_backup_is_called_so(other: bytes) -> None:
    with pytest.raises(BadBackup, match="no backup of Podium"):
        read([other])


def test_records_that_do_not_add_up_are_not_written() -> None:
    middle = next(n for n, record in enumerate(RECORDS) if record.revision == 20)
    for wrong in (RECORDS[:-2], RECORDS[1:], [*RECORDS[:middle], *RECORDS[middle + 1 :]], [*RECORDS, RECORDS[-1]]):
        with pytest.raises(ValueError):
            written(HEADER, wrong)


def test_records_that_do_not_add_up_are_not_read() -> None:
    """The digests of the pieces are right, but what is in them is not the log of that base."""
    header = replace(header_of(log(12), 4), base=Base(4, GENESIS, 7, 1))
    forger = Writing(header)
    forger._sums = Sums(header_of(log(12), 4).base)
    forged = [forger.begin(), *forger.records(log(12)), forger.end()]
    with pytest.raises(BadBackup, match="what is left of revisions up to 4"):
        read(forged)
