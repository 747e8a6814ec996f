"""The rule checker: is a recorded history linearizable, judged by the revisions that the store itself named?

Finding an order is what makes checking linearizability hard; a store that numbers its changes has already told us the
order, and it only remains to ask whether it keeps its word. So this takes O(n log n), for any number of clients:

1. An acknowledged write is in the final log, at the revision it was told, with what it wrote; no revision was told to
   two writes.
2. What is in the log was written: by an acknowledged write, or by one without an answer, once. A refused write is not.
3. A read at revision r shows what replaying the log up to r shows. Lists too, as a whole.
4. Real time: if a had returned before b was called, then revision(a) <= revision(b), and less if b writes.
5. A write was accepted as it had to be with what was there one revision before; a refusal was right at some revision of
   its call (the one that it names is the store's when it answered, so the newest that may have been looked at).

All operations come from one store (by store_id). The log has every change of the keys in question from revision `begun`
on, and the objects that were there before as its first entries.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from tests.kit.recorded import (
    STEPS,
    End,
    Entry,
    NotLinearizable,
    Operation,
    Replay,
    Step,
    Verb,
    accepts,
    justifies,
)


def check_rules(operations: Iterable[Operation], log: Sequence[Entry], begun: int = 0) -> None:
    """Raises NotLinearizable with the rule that was broken, and by what."""
    operations = sorted(operations, key=lambda operation: operation.called_s)
    replay = Replay.of(log)
    _one_store(operations)
    by_revision = _acknowledged_is_in_the_log(operations, log)
    settled = _log_was_written(operations, [entry for entry in log if entry.revision > begun], by_revision)
    _reads_are_replays(operations, replay)
    window = _real_time(operations, settled, replay.head)
    _accepted_and_refused_rightly(operations, settled, window, replay)


def _one_store(operations: Sequence[Operation]) -> None:
    stores = {operation.store_id for operation in operations if operation.store_id}
    if len(stores) > 1:
        raise NotLinearizable(f"operations come from several stores: {sorted(stores)}")


def _acknowledged_is_in_the_log(operations: Sequence[Operation], log: Sequence[Entry]) -> dict[int, Operation]:
    """Rule 1. Returns the acknowledged writes by revision."""
    entries: dict[int, list[Entry]] = {}
    for entry in log:
        entries.setdefault(entry.revision, []).append(entry)
    told: dict[int, Operation] = {}
    for operation in operations:
        if not operation.writes or operation.end is not End.OK:
            continue
        other = told.setdefault(operation.revision, operation)
        if other is not operation:
            raise NotLinearizable(f"rule 1: one revision was told to two writes: {other} and {operation}")
        found = [entry for entry in entries.get(operation.revision, ()) if entry.key == operation.key]
        if not found:
            raise NotLinearizable(f"rule 1: an acknowledged write is not in the log: {operation}")
        (entry,) = found
        same_value = operation.verb is Verb.DELETE or entry.value == operation.value
        if entry.step is not STEPS[operation.verb] or not same_value:
            raise NotLinearizable(f"rule 1: the log has {entry}, but acknowledged was {operation}")
    return told


def _log_was_written(
    operations: Sequence[Operation], log: Sequence[Entry], by_revision: dict[int, Operation]
) -> dict[int, int]:
    """Rule 2. Returns revisions of unanswered creates and updates that the log shows to have happened, by id()."""
    writers = {op.value: op for op in operations if op.verb in (Verb.CREATE, Verb.UPDATE)}
    unanswered_deletes: dict[str, list[float]] = {}
    for operation in operations:
        if operation.verb is Verb.DELETE and operation.end is End.UNKNOWN:
            unanswered_deletes.setdefault(operation.key, []).append(operation.called_s)
    settled: dict[int, int] = {}
    for entry in log:
        told = by_revision.get(entry.revision)
        if told is not None and told.key == entry.key:
            continue
        if entry.step is Step.DELETED:
            waiting = unanswered_deletes.get(entry.key)
            if not waiting:
                raise NotLinearizable(f"rule 2: nobody deleted this, or was told so: {entry}")
            waiting.pop()
            continue
        writer = writers.get(entry.value)
        if writer is None:
            raise NotLinearizable(f"rule 2: nobody wrote this: {entry}")
        if writer.key != entry.key or STEPS[writer.verb] is not entry.step:
            raise NotLinearizable(f"rule 2: the log has {entry}, but written was {writer}")
        if writer.end is not End.UNKNOWN:
            raise NotLinearizable(f"rule 2: it was told otherwise, and is in the log: {entry}, {writer}")
        if id(writer) in settled:
            raise NotLinearizable(f"rule 2: it happened twice: {writer}, and again {entry}")
        settled[id(writer)] = entry.revision
    return settled


def _reads_are_replays(operations: Sequence[Operation], replay: Replay) -> None:
    """Rule 3."""
    for operation in operations:
        if operation.writes or operation.end is not End.OK:
            continue
        if operation.verb is Verb.LIST:
            wanted, found = replay.all_at(operation.revision), dict(operation.listed or {})
            if wanted != found:
                extra = {key: (wanted.get(key), found.get(key)) for key in wanted.keys() | found.keys()}
                wrong = {key: pair for key, pair in extra.items() if pair[0] != pair[1]}
                raise NotLinearizable(f"rule 3: a list at {operation.revision} differs from the log in {wrong}")
        elif replay.at(operation.key, operation.revision) != operation.read:
            there = replay.at(operation.key, operation.revision)
            raise NotLinearizable(f"rule 3: {operation} reads what was not there: the log has {there}")


Window = tuple[list[float], list[int], list[float], list[int]]


def _real_time(operations: Sequence[Operation], settled: dict[int, int], head: int) -> Window:
    """Rule 4. Returns what is needed to bound the revision of others by real time.

    That is: times of return in order with the highest revision up to each, and times of call in order with the lowest
    revision from each on.
    """
    placed = [(op, settled.get(id(op), op.revision if op.end is not End.UNKNOWN else 0)) for op in operations]
    placed = [(op, revision) for op, revision in placed if revision]
    returned = sorted(((op.returned_s, revision, op) for op, revision in placed), key=lambda row: row[0])
    times, highest = [], []
    top: tuple[int, Operation | None] = (0, None)
    whose = []
    for time_s, revision, op in returned:
        if revision > top[0]:
            top = (revision, op)
        times.append(time_s)
        highest.append(top[0])
        whose.append(top[1])
    for op, revision in placed:
        before = bisect_left(times, op.called_s)
        if not before:
            continue
        known = highest[before - 1]
        if revision < known or (revision == known and op.writes and op.end is not End.REFUSED):
            raise NotLinearizable(
                f"rule 4: revision {known} was known when this was called, which happened at {revision}: {op}; "
                f"known by {whose[before - 1]}"
            )
    called, lowest = [], []
    low = max(head, top[0])
    for op, revision in reversed(placed):
        low = min(low, revision - 1 if op.writes and op.end is not End.REFUSED else revision)
        called.append(op.called_s)
        lowest.append(low)
    return times, highest, called[::-1], lowest[::-1]


def _accepted_and_refused_rightly(
    operations: Sequence[Operation], settled: dict[int, int], window: Window, replay: Replay
) -> None:
    """Rule 5."""
    times, highest, called, lowest = window
    for op in operations:
        revision = settled.get(id(op), op.revision)
        if op.writes and op.end is not End.REFUSED and revision:
            before = replay.at(op.key, revision - 1)
            if not accepts(before, op):
                raise NotLinearizable(f"rule 5: it could not be accepted, there was {before}: {op}")
        elif op.end is End.REFUSED:
            place = bisect_left(times, op.called_s)
            first = highest[place - 1] if place else 0
            place = bisect_left(called, math.nextafter(op.returned_s, math.inf))
            last = lowest[place] if place < len(lowest) else replay.head
            could_be = replay.between(op.key, first, min(last, revision) if revision else last)
            if not any(justifies(held, op) for held in could_be):
                raise NotLinearizable(f"rule 5: it was refused, though there were {could_be}: {op}")
