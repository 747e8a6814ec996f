from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.store.chain import GENESIS, step
from cluster.store.etcd.chunks import Chunk, decode_requests, encode_requests, split
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.values import Damaged, Head, StoreMark
from cluster.store.interface import Request, TooLarge
from cluster.store.version import Record

KEYS = Keys("/podium/demo/")
CHAIN = step(GENESIS, b"x")


def record(revision: int, name: str = "a", *, position: int = 0, previous: int = 0, size: int = 3) -> Record:
    return Record(revision, position, "Pod", "default", name, previous, False, "n1", float(revision), bytes(size))


def test_keys_of_the_log_sort_as_its_revisions_do() -> None:
    keys = [KEYS.chunk(revision) for revision in (0, 1, 15, 16, 255, 256, 1 << 40)]
    assert keys == sorted(keys)
    assert [KEYS.last_of(key) for key in keys] == [0, 1, 15, 16, 255, 256, 1 << 40]


def test_ranges_hold_what_they_say() -> None:
    everything = [KEYS.head, KEYS.leader, KEYS.chunk(7), KEYS.chunk(8), KEYS.requests(8), KEYS.store]

    def within(bounds: tuple[bytes, bytes]) -> list[bytes]:
        return [key for key in everything if bounds[0] <= key < bounds[1]]

    assert within(KEYS.all) == everything
    assert within(KEYS.watched) == everything[:-1]
    assert within(KEYS.front) == [KEYS.head, KEYS.leader]
    assert within(KEYS.chunks()) == [KEYS.chunk(7), KEYS.chunk(8)]
    assert within(KEYS.chunks(8)) == [KEYS.chunk(8)]
    assert within(KEYS.chunks(0, 7)) == [KEYS.chunk(7)]
    assert within(KEYS.all_requests(8, 8)) == [KEYS.requests(8)]


@pytest.mark.parametrize("prefix", ["", "podium/", "/podium"])
def test_a_prefix_has_its_slashes(prefix: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        Keys(prefix)


@pytest.mark.parametrize("name", ["head", "log/12", "other/0000000000000001", "log/zzzzzzzzzzzzzzzz"])
def test_other_keys_name_no_revision(name: str) -> None:
    with pytest.raises(ValueError):
        KEYS.last_of(f"/podium/demo/{name}".encode())


def test_a_head_comes_back() -> None:
    head = Head(9, CHAIN, 5, 4, GENESIS, 3, (1 << 256) - 1)
    assert Head.decode(head.encode()) == head


def test_each_flipped_bit_of_a_head_shows() -> None:
    value = Head(9, CHAIN, 5, 4, GENESIS, 3, 77).encode()
    for index in range(len(value)):
        with pytest.raises(Damaged):
            Head.decode(value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :])


def test_the_mark_of_a_store_comes_back_and_names_another_cluster() -> None:
    mark = StoreMark("0b5e", 0xABCDEF0123456789)
    assert StoreMark.decode(mark.encode()) == mark
    assert mark.incarnation(0xABCDEF0123456789) == "0b5e"
    assert mark.incarnation(0x1122334455667788) == "0b5e+55667788"


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"hello", "not the mark"), (b"[1]", "not the mark"), (b'{"format": 3}', "format 3"), (b"{}", "not the mark")],
)
def test_the_mark_of_something_else_is_refused(value: bytes, message: str) -> None:
    with pytest.raises(Damaged, match=message):
        StoreMark.decode(value)


texts = st.text(max_size=8)
records_of_one_revision = st.lists(
    st.tuples(texts, texts, texts, st.booleans(), texts, st.floats(allow_nan=False), st.binary(max_size=40)),
    min_size=1,
    max_size=3,
)


@given(st.lists(records_of_one_revision, min_size=1, max_size=12), st.integers(1, 400))
def test_what_is_split_joins_again(log: list[list[tuple[str, str, str, bool, str, float, bytes]]], part: int) -> None:
    records = [
        Record(revision, position, kind, namespace, name, revision // 2, deleted, node, time_s, data)
        for revision, rows in enumerate(log, start=4)
        for position, (kind, namespace, name, deleted, node, time_s, data) in enumerate(rows)
    ]
    requests = [Request(f"r{revision}", revision, 1.0, b"out") for revision in range(4, 4 + len(log), 2)]
    parts = split(records, requests, CHAIN, part_bytes=part)
    chunks = [Chunk.decode(made.value) for made in parts]
    assert chunks == [made.chunk for made in parts]
    assert [found for chunk in chunks for found in chunk.records] == records
    assert [r for made in parts if made.requests for r in decode_requests(made.requests)] == requests
    chain, first = CHAIN, 4
    for made, chunk in zip(parts, chunks, strict=True):
        assert chunk.first == first == chunk.records[0].revision
        assert chunk.last == chunk.records[-1].revision
        assert all(chunk.first <= r.revision <= chunk.last for r in decode_requests(made.requests or NO_REQUESTS))
        chunk.verify(chain)
        chain, first = chunk.after, chunk.last + 1


NO_REQUESTS = encode_requests([])


def test_a_revision_is_never_split() -> None:
    records = [record(revision, position=position) for revision in (1, 2) for position in range(10)]
    parts = split(records, [], GENESIS, part_bytes=100)
    assert [(made.chunk.first, made.chunk.last, len(made.chunk.records)) for made in parts] == [(1, 1, 10), (2, 2, 10)]


def test_a_revision_that_is_too_large_is_refused_in_words() -> None:
    with pytest.raises(TooLarge, match="write less in one piece"):
        split([record(1, size=700_000), record(1, position=1, size=700_000)], [], GENESIS)
    with pytest.raises(TooLarge):
        split([record(1, size=700_000)], [Request("r", 1, 1.0, bytes(700_000))], GENESIS)
    assert len(split([record(1, size=700_000), record(2, size=700_000)], [], GENESIS)) == 2


def test_each_flipped_bit_of_a_chunk_shows() -> None:
    (made,) = split([record(1), record(2, "b")], [], GENESIS)
    for index in range(len(made.value)):
        with pytest.raises(Damaged):
            Chunk.decode(made.value[:index] + bytes([made.value[index] ^ 1]) + made.value[index + 1 :])
    for length in range(len(made.value)):
        with pytest.raises(Damaged):
            Chunk.decode(made.value[:length])


def test_a_chunk_of_another_log_does_not_follow() -> None:
    (made,) = split([record(1)], [], GENESIS)
    with pytest.raises(Damaged, match="do not follow"):
        made.chunk.verify(CHAIN)
    changed = Chunk(1, 1, GENESIS, made.chunk.after, [record(1, "b")])
    with pytest.raises(Damaged, match="chain is broken"):
        changed.verify(GENESIS)


def test_damaged_requests_show() -> None:
    value = encode_requests([Request("admin/1", 3, 5.0, b"answer")])
    assert decode_requests(value) == [Request("admin/1", 3, 5.0, b"answer")]
    for index in range(len(value)):
        with pytest.raises(Damaged):
            decode_requests(value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :])
