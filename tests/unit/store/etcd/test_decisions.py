"""Compaction and election, without an etcd."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.store import chain as chains
from cluster.store.chain import GENESIS
from cluster.store.etcd.chunks import Chunk, split
from cluster.store.etcd.compaction import Edit, plan, replaced, transactions
from cluster.store.etcd.election import Holder, Move, Tenure, lost, next_move
from cluster.store.etcd.values import Head
from cluster.store.version import Record


def log_of(*appends: list[tuple[str, bool]]) -> tuple[dict[int, Chunk], Head]:
    """One chunk per append, one revision per (name, deleted)."""
    chunks: dict[int, Chunk] = {}
    last: dict[str, int] = {}
    chain, revision = GENESIS, 0
    for append in appends:
        records = []
        for name, deleted in append:
            revision += 1
            records.append(Record(revision, 0, "Pod", "d", name, last.get(name, 0), deleted, "", 0.0, b"x"))
            if deleted:
                last.pop(name, None)
            else:
                last[name] = revision
        (part,) = split(records, [], chain)
        chain = part.chunk.after
        chunks[part.chunk.last] = part.chunk
    return chunks, Head(revision, chain)


def carry_out(chunks: dict[int, Chunk], edits: list[Edit]) -> dict[int, Chunk]:
    after = dict(chunks)
    for edit in edits:
        if edit.rest is not None:
            after[edit.rest[0]] = Chunk.decode(edit.rest[1])
        if edit.value is None:
            after.pop(edit.last, None)
        elif edit.value:
            after[edit.last] = Chunk.decode(edit.value)
    return after


def names(chunks: dict[int, Chunk]) -> dict[int, list[str]]:
    return {last: [record.name for record in chunk.records] for last, chunk in sorted(chunks.items())}


def check(chunks: dict[int, Chunk], head: Head) -> None:
    """What a reader checks, and that the sum is right."""
    swept = [record for last, chunk in chunks.items() if last <= head.swept for record in chunk.records]
    assert len(swept) == head.count
    assert chains.add(0, map(chains.digest, swept)) == head.total
    chain = head.chain_swept
    for last, chunk in sorted(chunks.items()):
        if last > head.swept:
            chunk.verify(chain)
            chain = chunk.after
    assert chain == head.chain


def fold(chunks: dict[int, Chunk], until: int) -> dict[str, int]:
    state: dict[str, int] = {}
    for _, chunk in sorted(chunks.items()):
        for record in chunk.records:
            if record.revision > until:
                continue
            if record.deleted:
                state.pop(record.name, None)
            else:
                state[record.name] = record.revision
    return state


def test_the_example_of_the_docstring() -> None:
    a, b, gone_b = ("a", False), ("b", False), ("b", True)
    chunks, head = log_of([a], [b], [a], [gone_b], [a])
    head = replace(head, compacted=4)
    edits = plan(head, [], [chunks[last] for last in (1, 2, 3, 4)])
    assert [(edit.last, edit.value) for edit in edits] == [(1, None), (2, None), (3, b""), (4, None)]
    left = carry_out(chunks, edits)
    assert names(left) == {3: ["a"], 5: ["a"]}
    assert edits[-1].head.swept == 4
    check(left, edits[-1].head)


def test_what_was_swept_before_is_looked_up_by_what_replaced_it() -> None:
    a, b, gone_b = ("a", False), ("b", False), ("b", True)
    chunks, head = log_of([a, b], [("c", False)], [gone_b, a], [a])
    head = plan(replace(head, compacted=3), [], [chunks[2], chunks[3]])[-1].head
    fresh = [chunks[5]]
    assert replaced(fresh, head.swept) == [1, 2]
    edits = plan(replace(head, compacted=5), [chunks[2]], fresh)
    left = carry_out(chunks, edits)
    assert names(left) == {3: ["c"], 5: ["a"], 6: ["a"]}
    check(left, edits[-1].head)


@settings(max_examples=150)
@given(st.data())
def test_no_crash_resurrects_or_loses(data: st.DataObject) -> None:
    """Random logs, swept piece by piece, with a crash after any transaction: the log is whole and folds to the same."""
    appends: list[list[tuple[str, bool]]] = []
    alive: set[str] = set()
    for _ in range(data.draw(st.integers(2, 14))):
        append: list[tuple[str, bool]] = []
        for _ in range(data.draw(st.integers(1, 3))):
            name = data.draw(st.sampled_from("abc"))
            deleted = name in alive and data.draw(st.booleans())
            (alive.discard if deleted else alive.add)(name)
            append.append((name, deleted))
        appends.append(append)
    chunks, head = log_of(*appends)
    whole = dict(chunks)
    while head.swept < head.revision:
        target = data.draw(st.integers(max(head.compacted, head.swept + 1), head.revision))
        head = replace(head, compacted=target)
        fresh = [chunk for last, chunk in sorted(chunks.items()) if head.swept < last <= target]
        rest = None
        if not fresh or data.draw(st.booleans()):
            for chunk in chunks.values():
                if chunk.first <= target < chunk.last:
                    front, rest = chunk.cut(target)
                    fresh.append(front)
        else:
            fresh = fresh[: data.draw(st.integers(1, len(fresh)))]
        if not fresh:
            continue
        needed = replaced(fresh, head.swept)
        older = {min((x for x in chunks if x >= n), default=0) for n in needed}
        edits = plan(head, [chunks[x] for x in older if 0 < x <= head.swept], fresh, rest)
        for group in transactions(edits, max_edits=data.draw(st.integers(1, 4))):
            chunks, head = carry_out(chunks, group), group[-1].head
            check(chunks, head)
            for revision in range(head.compacted, head.revision + 1):
                assert fold(chunks, revision) == fold(whole, revision)
            if data.draw(st.booleans()):
                break  # a crash: the next sweep begins with what is there
    state = fold(whole, head.revision)
    assert {name: r.revision for c in chunks.values() for r in c.records for name in [r.name]} == state, "rests"


def test_transactions_are_small() -> None:
    edits = [Edit(n, bytes(300), Head()) for n in range(10)]
    assert [len(group) for group in transactions(edits, max_edits=4, max_bytes=1000)] == [3, 3, 3, 1]
    assert [len(group) for group in transactions(edits, max_edits=2, max_bytes=1000)] == [2] * 5
    assert list(transactions([])) == []


@pytest.mark.parametrize(
    ("holder", "lease", "past", "move"),
    [
        (None, 0, [], Move.CLAIM),
        (None, 7, [3], Move.CLAIM),
        (Holder(5, 7, "a"), 7, [], Move.LEAD),
        (Holder(5, 7, "a"), 0, [5], Move.REMOVE),
        (Holder(5, 7, "a"), 8, [4], Move.WAIT),
        (Holder(5, 0, "a"), 0, [], Move.WAIT),
    ],
)
def test_what_a_candidate_does(holder: Holder | None, lease: int, past: list[int], move: Move) -> None:
    assert next_move(holder, lease, past) is move


def test_a_leader_steps_down_before_another_can_be_elected() -> None:
    tenure = Tenure(5, 7, ttl_s=3.0, confirmed_s=100.0)
    assert tenure.renew_every_s == 1.0
    assert tenure.verdict(101.9) == ""
    assert "no renewal of the lease was confirmed for 2.0 s" in tenure.verdict(102.0)
    assert tenure.verdict(4000.0), "a process that was suspended"


def test_how_a_leader_learns_that_it_is_none() -> None:
    assert lost(Holder(5, 7, "a"), 5) == ""
    assert "nobody leads" in lost(None, 5)
    assert "another leads: b:1" in lost(Holder(6, 7, "b:1"), 5)
