from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from cluster.store.chain import GENESIS, Base, Finding, Verifier, add, canonical, digest, link, step, subtract
from cluster.store.version import Record

texts = st.text(max_size=6)
records = st.builds(
    Record,
    revision=st.integers(0, 2**50),
    position=st.integers(0, 4095),
    kind=texts,
    namespace=texts,
    name=texts,
    previous=st.integers(0, 2**50),
    deleted=st.booleans(),
    node=texts,
    time_s=st.floats(0, 1e11),
    data=st.binary(max_size=20),
)


def record(revision: int, name: str = "a", position: int = 0, data: bytes = b"x") -> Record:
    return Record(revision, position, "Pod", "default", name, 0, False, "", 1.0 * revision, data)


def log(count: int) -> list[tuple[Record, bytes, bytes]]:
    made = [record(n, f"p{n}") for n in range(1, count + 1)]
    return [(r, *linked) for r, linked in zip(made, link(GENESIS, made), strict=True)]


def findings(rows: list[tuple[Record, bytes, bytes]], base: Base | None = None) -> list[Finding]:
    found: list[Finding] = []
    verifier = Verifier(base or Base(), found.append)
    verifier.feed(rows[: len(rows) // 2])
    verifier.feed(rows[len(rows) // 2 :])
    verifier.finish()
    return found


@given(one=records, other=records)
def test_two_records_have_the_same_bytes_only_if_they_are_the_same(one: Record, other: Record) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


def test_texts_that_run_into_each_other_are_told_apart() -> None:
    one = record(1)._replace(kind="Pod", namespace="a", name="bc")
    assert digest(one) != digest(one._replace(namespace="ab", name="c"))
    assert digest(one) != digest(one._replace(name="b", node="c"))
    assert digest(one) != digest(one._replace(name="b", data=b"cx"))


@given(made=st.lists(records, max_size=8))
def test_linking_piece_by_piece_is_linking_at_once(made: list[Record]) -> None:
    whole = link(GENESIS, made)
    first = link(GENESIS, made[:3])
    assert whole == first + link(first[-1][1] if first else GENESIS, made[3:])
    assert all(d == digest(r) for r, (d, _) in zip(made, whole, strict=True))
    if made:
        before = whole[-2][1] if len(whole) > 1 else GENESIS
        assert whole[-1][1] == step(before, whole[-1][0])


@given(digests=st.lists(st.binary(min_size=32, max_size=32), max_size=5), more=st.binary(min_size=32, max_size=32))
def test_the_sum_does_not_mind_the_order_and_can_be_taken_back(digests: list[bytes], more: bytes) -> None:
    assert add(0, digests) == add(0, digests[::-1])
    assert subtract(add(add(0, digests), [more]), [more]) == add(0, digests)


def test_a_log_that_was_not_touched_verifies() -> None:
    rows = log(6)
    assert findings(rows) == []
    base = Base(4, rows[3][2], 1, add(0, [rows[1][1]]))
    assert findings([rows[1], *rows[4:]], base) == []
    assert findings([], Base(9, GENESIS, 0, 0)) == []


def test_every_kind_of_change_is_found_and_named() -> None:
    rows = log(6)
    changed = (rows[2][0]._replace(data=b"y"), *rows[2][1:])
    (bytes_, chain) = findings([*rows[:2], changed, *rows[3:]])
    assert str(bytes_) == "revision 3, Pod default/p3: its bytes are not those that were written"
    assert chain.where == "revision 3, Pod default/p3"
    forged = (changed[0], digest(changed[0]), rows[2][2])
    assert [f.what[:19] for f in findings([*rows[:2], forged, *rows[3:]])] == ["the chain is broken"]
    (missing, _) = findings([*rows[:2], *rows[3:]])
    assert str(missing) == "after revision 2: changes are missing before revision 4, Pod default/p4"
    assert findings([*rows[:3], rows[2], *rows[3:]])[0].what == "it is change 0, after change 0"
    assert findings([rows[1], rows[0], *rows[2:]])[0].where == "after revision 0"
    broken = (rows[2][0]._replace(previous=-1), *rows[2][1:])
    assert findings([*rows[:2], broken, *rows[3:]])[0].what.startswith("it is no record")


def test_what_is_left_of_the_compacted_part_is_all_of_it_and_nothing_else() -> None:
    rows = log(6)
    base = Base(4, rows[3][2], 2, add(0, [rows[0][1], rows[1][1]]))
    assert findings([rows[0], rows[1], *rows[4:]], base) == []
    (fewer,) = findings([rows[0], *rows[4:]], base)
    assert str(fewer) == "up to revision 4, the compacted part: there are 1 records, and should be 2"
    (other,) = findings([rows[0], rows[2], *rows[4:]], base)
    assert other.what == "records are not those that were kept"
    assert findings([rows[0], rows[1], *rows[4:]], replace(base, chain=GENESIS))[0].what.startswith("the chain")


def test_revisions_of_several_changes() -> None:
    made = [record(1, "a"), record(2, "a", 0), record(2, "b", 1), record(2, "c", 2), record(3)]
    rows = [(r, *linked) for r, linked in zip(made, link(GENESIS, made), strict=True)]
    assert findings(rows) == []
    assert findings([*rows[:2], *rows[3:]])[0].what == "it is change 2, after change 0"
