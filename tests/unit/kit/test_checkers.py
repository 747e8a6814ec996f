"""The checkers are checked: correct histories pass both, and each planted bug is caught.

The rule checker must catch every bug wherever it is planted in a drawn history. The search checker believes no
revision, so it need not (an unanswered write may explain much): for it, each bug that values and times alone can show
is played in a few lines.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from tests.kit.linearizability import check_rules
from tests.kit.recorded import NEVER, End, Entry, Held, NotLinearizable, Operation, Refusal, Step, Verb
from tests.kit.search_checker import GaveUp, check_by_search, settle
from tests.unit.kit.simulated_store import Bug, SimulatedStore

SEEDS = st.integers(0, 2**32)


@settings(max_examples=150)
@given(seed=SEEDS, clients=st.integers(1, 6), steps=st.integers(0, 250))
def test_correct_histories_pass_both_checkers(seed: int, clients: int, steps: int) -> None:
    store = SimulatedStore(random.Random(seed), clients)
    store.run(steps)
    check_rules(store.operations, store.log)
    check_by_search(store.operations)
    check_by_search(settle(store.operations, store.log))


@pytest.mark.parametrize("bug", Bug, ids=lambda bug: bug.name)
def test_the_rule_checker_catches_every_bug_wherever_it_is(bug: Bug) -> None:
    caught = 0

    @settings(max_examples=40)
    @given(seed=SEEDS, clients=st.integers(2, 6))
    def plant(seed: int, clients: int) -> None:
        nonlocal caught
        store = SimulatedStore(random.Random(seed), clients, bug)
        store.run(200)
        assume(store.planted)
        with pytest.raises(NotLinearizable):
            check_rules(store.operations, store.log)
        caught += 1

    plant()
    assert caught >= 20, "the bug was hardly ever planted: this test would test nothing"


# --- by hand: (client, called, returned, ...) on one object

A, B, C = "a", "b", "c"


def create(when: tuple[float, float], value: str, revision: int = 0, client: int = 1, key: str = "k") -> Operation:
    return _write(Verb.CREATE, when, value, revision, client, key)


def update(
    when: tuple[float, float], value: str, revision: int = 0, client: int = 1, expected: Held | None = None
) -> Operation:
    return _write(Verb.UPDATE, when, value, revision, client, "k", expected)


def delete(when: tuple[float, float], revision: int = 0, client: int = 1, expected: Held | None = None) -> Operation:
    return _write(Verb.DELETE, when, "", revision, client, "k", expected)


def _write(
    verb: Verb,
    when: tuple[float, float],
    value: str,
    revision: int,
    client: int,
    key: str,
    expected: Held | None = None,
) -> Operation:
    end = End.UNKNOWN if when[1] == NEVER else End.OK
    return Operation(client, verb, key, *when, end, value, expected, revision=revision)


def read(when: tuple[float, float], held: Held | None, revision: int, client: int = 2) -> Operation:
    return Operation(client, Verb.GET, "k", *when, End.OK, revision=revision, read=held)


def refused(operation: Operation, why: Refusal) -> Operation:
    return Operation(
        operation.client,
        operation.verb,
        operation.key,
        operation.called_s,
        operation.returned_s,
        End.REFUSED,
        operation.value,
        operation.expected,
        refusal=why,
    )


def log(*steps: tuple[int, Step, str]) -> list[Entry]:
    return [Entry(revision, step, "k", value) for revision, step, value in steps]


ADDED, MODIFIED, DELETED = Step.ADDED, Step.MODIFIED, Step.DELETED
BOTH = {
    "stale read": (
        [create((0, 1), A, 1), update((2, 3), B, 2), read((4, 5), Held(1, A), 1)],
        log((1, ADDED, A), (2, MODIFIED, B)),
    ),
    "reads that go back": (
        [create((0, 1), A, 1), update((2, 9), B, 2), read((3, 4), Held(2, B), 2), read((5, 6), Held(1, A), 1)],
        log((1, ADDED, A), (2, MODIFIED, B)),
    ),
    "lost write": (
        [create((0, 1), A, 1), update((2, 3), B, 2), read((4, 5), Held(1, A), 2)],
        log((1, ADDED, A)),
    ),
    "reordered acknowledgement": (
        [create((0, 1), A, 1), update((2, 3), B, 3), update((4, 5), C, 2), read((6, 7), Held(3, B), 3)],
        log((1, ADDED, A), (2, MODIFIED, C), (3, MODIFIED, B)),
    ),
    "dirty read": (
        [
            create((0, 1), A, 1),
            refused(update((2, 3), B, expected=Held(7, "older")), Refusal.CONFLICT),
            read((4, 5), Held(2, B), 2),
        ],
        log((1, ADDED, A)),
    ),
    "resurrected key": (
        [create((0, 1), A, 1), delete((2, 3), 2), read((4, 5), Held(1, A), 2)],
        log((1, ADDED, A), (2, DELETED, A)),
    ),
    "resurrected by an update": (
        [create((0, 1), A, 1), delete((2, 3), 2), update((4, 5), B, 3)],
        log((1, ADDED, A), (2, DELETED, A), (3, MODIFIED, B)),
    ),
    "old version accepted": (
        [create((0, 1), A, 1), update((2, 3), B, 2), update((4, 5), C, 3, expected=Held(1, A))],
        log((1, ADDED, A), (2, MODIFIED, B), (3, MODIFIED, C)),
    ),
    "created twice": (
        [create((0, 1), A, 1), create((2, 3), B, 2)],
        log((1, ADDED, A), (2, ADDED, B)),
    ),
    "refused without reason": (
        [create((0, 1), A, 1), refused(update((2, 3), B), Refusal.NOT_FOUND)],
        log((1, ADDED, A)),
    ),
    "a write without an answer that was seen before it was asked for": (
        [create((0, 1), A, 1), read((2, 3), Held(2, B), 2), update((4, NEVER), B)],
        log((1, ADDED, A), (2, MODIFIED, B)),
    ),
}


@pytest.mark.parametrize("story", BOTH)
def test_both_checkers_catch_it(story: str) -> None:
    operations, entries = BOTH[story]
    with pytest.raises(NotLinearizable):
        check_rules(operations, entries)
    with pytest.raises(NotLinearizable):
        check_by_search(operations)


def test_a_duplicated_revision_is_caught_by_the_rules_alone() -> None:
    operations = [create((0, 1), A, 1), update((2, 3), B, 1)]
    with pytest.raises(NotLinearizable, match="rule 1"):
        check_rules(operations, log((1, ADDED, A), (2, MODIFIED, B)))
    check_by_search(operations)


def test_an_order_over_two_objects_is_caught_by_the_rules_alone() -> None:
    """What the search judges object by object is fine for each."""
    operations = [create((0, 1), A, 2, key="k"), create((2, 3), B, 1, key="other")]
    entries = [Entry(1, ADDED, "other", B), Entry(2, ADDED, "k", A)]
    with pytest.raises(NotLinearizable, match="rule 4"):
        check_rules(operations, entries)
    check_by_search(operations)


def test_a_list_shows_one_revision() -> None:
    operations = [
        create((0, 1), A, 1, key="k"),
        create((2, 3), B, 2, key="other"),
        Operation(3, Verb.LIST, "", 4, 5, End.OK, revision=2, listed={"other": Held(2, B)}),
    ]
    entries = [Entry(1, ADDED, "k", A), Entry(2, ADDED, "other", B)]
    for check in (lambda: check_rules(operations, entries), lambda: check_by_search(operations)):
        with pytest.raises(NotLinearizable):
            check()


def _fine(operations: Iterable[Operation], entries: list[Entry]) -> None:
    operations = list(operations)
    check_rules(operations, entries)
    check_by_search(operations)


def test_a_write_without_an_answer_may_happen_late_or_never() -> None:
    begin = [create((0, 1), A, 1), update((2, NEVER), B)]
    _fine([*begin, read((3, 4), Held(1, A), 1)], log((1, ADDED, A)))
    late = [read((3, 4), Held(1, A), 1), read((5, 6), Held(2, B), 2)]
    _fine([*begin, *late], log((1, ADDED, A), (2, MODIFIED, B)))


def test_overlapping_writes_may_come_in_either_order() -> None:
    for first, second, values in ((2, 3, (B, C)), (3, 2, (C, B))):
        operations = [create((0, 1), A, 1), update((2, 5), B, first), update((3, 4), C, second, client=3)]
        entries = log((1, ADDED, A), (2, MODIFIED, values[0]), (3, MODIFIED, values[1]))
        _fine([*operations, read((6, 7), Held(3, values[1]), 3)], entries)


def test_a_refusal_may_be_older_than_the_revision_of_its_answer() -> None:
    """Judged between create and delete, answered after both."""
    refusal = refused(create((1.5, 9), B, client=3), Refusal.ALREADY_EXISTS)
    operations = [create((0, 1), A, 1), delete((2, 3), 2), refusal]
    _fine(operations, log((1, ADDED, A), (2, DELETED, A)))
    with pytest.raises(NotLinearizable):
        check_rules(
            [*operations[:2], refused(create((4, 9), B), Refusal.ALREADY_EXISTS)], log((1, ADDED, A), (2, DELETED, A))
        )


def test_what_was_there_before_is_part_of_the_log() -> None:
    entries = log((5, ADDED, A), (9, MODIFIED, B))
    operations = [read((0, 1), Held(5, A), 7), update((2, 3), B, 9, expected=Held(5, A))]
    check_rules(operations, entries, begun=7)
    check_by_search(operations, initial={"k": A})
    with pytest.raises(NotLinearizable, match="nobody wrote"):
        check_rules(operations, entries)


def test_the_search_says_so_when_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.kit.search_checker.MOST_STATES", 100)
    operations = [create((0, 1), A, 1)]
    operations += [update((2, NEVER), f"v{n}") for n in range(12)]
    with pytest.raises(GaveUp):
        check_by_search([*operations, read((3, 4), Held(9, "nobody wrote it"), 9)])


def test_the_log_settles_what_was_not_answered() -> None:
    """What it does not have did not happen; what it has happened before somebody saw it, or what came after it."""
    lost, seen, buried = update((2, NEVER), "lost"), update((2, NEVER), "seen"), update((2, NEVER), "buried")
    ended = [delete((when, NEVER), expected=Held(4, B)) for when in (9, 10, 40)]
    operations = [create((0, 1), A, 1), lost, seen, buried, *ended, delete((41, NEVER), expected=Held(2, "seen"))]
    operations += [read((3, 5), Held(2, "seen"), 2), update((6, 8), B, 4), create((9, 12), C, 6, client=3)]
    entries = log((1, ADDED, A), (2, MODIFIED, "seen"), (3, MODIFIED, "buried"), (4, MODIFIED, B), (5, DELETED, B))
    entries += log((6, ADDED, C))
    settled = settle(operations, entries)
    assert {op.value or op.verb.value: op.returned_s for op in settled} == {
        A: 1,
        "seen": 5,
        "buried": 8,
        B: 8,
        "delete": 12,
        C: 12,
        "get": 5,
    }
    assert [op.called_s for op in settled if op.verb is Verb.DELETE] == [9]
    check_by_search(settled)
    anyone = delete((3, NEVER))
    settled = settle([*operations, anyone], entries)
    assert [op.called_s for op in settled if op.verb is Verb.DELETE] == [9, 10, 3]
    check_by_search(settled)


def test_a_long_history_of_eight_clients_is_judged_by_both() -> None:
    store = SimulatedStore(random.Random(8), clients=8)
    store.run(6000)
    check_rules(store.operations, store.log)
    assert check_by_search(store.operations) >= len(store.operations) / 2
