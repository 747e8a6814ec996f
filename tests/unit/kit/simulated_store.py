"""A register store of one screen, several clients whose calls overlap, and the bugs that a store can have.

Each call begins, happens at one moment between, and returns; which of these comes next is drawn. So what comes out is
linearizable by construction, unless a bug was planted, which then happens once, at the first occasion where it shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tests.kit.recorded import NEVER, STEPS, End, Entry, Held, Operation, Refusal, Replay, Verb

KEYS = ("a", "b", "c")


class Bug(Enum):
    """What goes wrong, once."""

    STALE_READ = "a read shows what was overwritten before it was called, and says so"
    STALE_READ_IN_DISGUISE = "a read shows what was overwritten, and claims to be new"
    LOST_WRITE = "an acknowledged write leaves no trace"
    DUPLICATED_REVISION = "two writes are told the same revision"
    REORDERED_ACKNOWLEDGEMENT = "a write comes before another one that had returned before it was called"
    DIRTY_READ = "a read shows what was refused"
    RESURRECTED_KEY = "a read shows what was deleted"
    OLD_VERSION_ACCEPTED = "a write is accepted though its precondition does not hold"
    REFUSED_AND_DONE = "a write is refused, and happens"
    DONE_TWICE = "a write without an answer happens twice"
    REFUSED_WITHOUT_REASON = "a write is refused, though everything was fine"
    OTHER_STORE = "an answer comes from another store"


@dataclass(slots=True)
class _Call:
    operation: Operation
    happened: bool = False
    answered: bool = True


class SimulatedStore:
    """Runs `clients` for a number of steps; afterwards `operations` and `log` are the evidence."""

    def __init__(self, rng: random.Random, clients: int = 4, bug: Bug | None = None) -> None:
        self.operations: list[Operation] = []
        self.log: list[Entry] = []
        self.planted = False
        self._rng = rng
        self._bug = bug
        self._now = 0.0
        self._revision = 0
        self._known = 0
        """The newest revision that a client has been told."""
        self._state: dict[str, Held] = {}
        self._values = 0
        self._refused_values: list[tuple[str, str]] = []
        self._seen: dict[str, Held] = {}
        self._calls: dict[int, _Call | None] = dict.fromkeys(range(clients))

    def run(self, steps: int) -> None:
        """That many beginnings, happenings and returns; then everything returns."""
        for _ in range(steps):
            self._step(self._rng.choice(list(self._calls)))
        for client, call in self._calls.items():
            while call is not None and self._calls[client] is not None:
                self._step(client)
        if self._bug is Bug.REORDERED_ACKNOWLEDGEMENT:
            self._reorder()

    def _step(self, client: int) -> None:
        self._now += 1
        call = self._calls[client]
        if call is None:
            self._calls[client] = _Call(self._asked(client))
        elif not call.happened:
            known_at_call = max(
                (o.revision for o in self.operations if o.returned_s < call.operation.called_s), default=0
            )
            call.operation = self._happen(call.operation, known_at_call)
            call.happened = True
        else:
            self._calls[client] = None
            self.operations.append(self._returned(call.operation))

    def _asked(self, client: int) -> Operation:
        verb = self._rng.choices(list(Verb), [4, 1, 3, 4, 2])[0]
        key = "" if verb is Verb.LIST else self._rng.choice(KEYS)
        value, expected = "", None
        if verb in (Verb.CREATE, Verb.UPDATE):
            self._values += 1
            value = f"v{self._values}"
        if verb in (Verb.UPDATE, Verb.DELETE) and self._rng.random() < 0.6:
            expected = self._seen.get(key)
        return Operation(client, verb, key, self._now, NEVER, End.UNKNOWN, value, expected, store_id="one")

    def _returned(self, operation: Operation) -> Operation:
        if operation.end is End.UNKNOWN:
            return operation
        if operation.writes and operation.end is End.OK and self._rng.random() < 0.12 and not self._keeps(operation):
            return replace(operation, end=End.UNKNOWN, revision=0)
        self._known = max(self._known, operation.revision)
        if operation.read is not None:
            self._seen[operation.key] = operation.read
        elif operation.writes and operation.end is End.OK and operation.value:
            self._seen[operation.key] = Held(operation.revision, operation.value)
        return replace(operation, returned_s=self._now)

    def _keeps(self, operation: Operation) -> bool:
        """The planted one must be answered, or nobody could tell."""
        return self.planted and operation is self._kept

    _kept: Operation | None = None

    # --- what happens, rightly or not

    def _happen(self, op: Operation, known: int) -> Operation:
        if self._bug is not None and not self.planted:
            plant = _PLANTS.get(self._bug)
            wrong = plant(self, op, known) if plant is not None else None
            if wrong is not None:
                self.planted, self._kept = True, wrong
                return wrong
        return self._rightly(op)

    def _rightly(self, op: Operation) -> Operation:
        held = self._state.get(op.key)
        if op.verb is Verb.LIST:
            return replace(op, end=End.OK, revision=self._revision, listed=dict(self._state))
        if op.verb is Verb.GET:
            return replace(op, end=End.OK, revision=self._revision, read=held)
        refusal = None
        if op.verb is Verb.CREATE:
            refusal = Refusal.ALREADY_EXISTS if held is not None else None
        elif held is None:
            refusal = Refusal.NOT_FOUND
        elif op.expected is not None and op.expected.version != held.version:
            refusal = Refusal.CONFLICT
        if refusal is not None:
            if op.value:
                self._refused_values.append((op.key, op.value))
            told = self._revision if self._rng.random() < 0.5 else 0
            return replace(op, end=End.REFUSED, refusal=refusal, revision=told)
        self._write(op)
        return replace(op, end=End.OK, revision=self._revision)

    def _write(self, op: Operation) -> None:
        self._revision += 1
        last = self._state.pop(op.key, None)
        value = op.value or (last.value if last is not None else "")
        self.log.append(Entry(self._revision, STEPS[op.verb], op.key, value))
        if op.verb is not Verb.DELETE:
            self._state[op.key] = Held(self._revision, op.value)

    def _stale(self, op: Operation, known: int) -> Operation | None:
        if op.verb is not Verb.GET:
            return None
        replay = Replay.of(self.log)
        old = [r for r in range(known) if replay.at(op.key, r) != replay.at(op.key, known)]
        old = [r for r in old if replay.at(op.key, r) is not None and replay.at(op.key, r) != self._state.get(op.key)]
        if not old:
            return None
        revision = self._rng.choice(old)
        claimed = revision if self._bug is Bug.STALE_READ else self._revision
        return replace(op, end=End.OK, revision=claimed, read=replay.at(op.key, revision))

    def _lost(self, op: Operation, known: int) -> Operation | None:
        right = self._could_write(op)
        return replace(op, end=End.OK, revision=self._revision + 1) if right else None

    def _duplicated(self, op: Operation, known: int) -> Operation | None:
        told = [o.revision for o in self.operations if o.writes and o.end is End.OK]
        if not self._could_write(op) or not told:
            return None
        self._write(op)
        return replace(op, end=End.OK, revision=told[-1])

    def _dirty(self, op: Operation, known: int) -> Operation | None:
        values = [value for key, value in self._refused_values if key == op.key]
        if op.verb is not Verb.GET or not values:
            return None
        return replace(op, end=End.OK, revision=self._revision, read=Held(self._revision, values[-1]))

    def _resurrected(self, op: Operation, known: int) -> Operation | None:
        seen = self._seen.get(op.key)
        if op.verb is not Verb.GET or seen is None or op.key in self._state:
            return None
        return replace(op, end=End.OK, revision=self._revision, read=seen)

    def _old_version(self, op: Operation, known: int) -> Operation | None:
        held = self._state.get(op.key)
        if op.expected is None or held is None or op.expected.version == held.version:
            return None
        self._write(op)
        return replace(op, end=End.OK, revision=self._revision)

    def _refused_and_done(self, op: Operation, known: int) -> Operation | None:
        if not self._could_write(op) or not op.value:
            return None
        self._write(op)
        return replace(op, end=End.REFUSED, refusal=Refusal.OTHER)

    def _twice(self, op: Operation, known: int) -> Operation | None:
        if not self._could_write(op) or op.verb is not Verb.UPDATE or op.expected is not None:
            return None
        self._write(op)
        self._write(op)
        return op

    def _refused(self, op: Operation, known: int) -> Operation | None:
        if op.verb is not Verb.UPDATE or op.key not in self._state:
            return None
        replay = Replay.of(self.log)
        if any(held is None for held in replay.between(op.key, known, self._revision)):
            return None
        return replace(op, end=End.REFUSED, refusal=Refusal.NOT_FOUND, revision=self._revision)

    def _other_store(self, op: Operation, known: int) -> Operation | None:
        return replace(self._rightly(op), store_id="another") if self.operations else None

    def _could_write(self, op: Operation) -> bool:
        held = self._state.get(op.key)
        if not op.writes or (op.verb is Verb.CREATE) != (held is None):
            return False
        return op.expected is None or held is None or op.expected.version == held.version

    def _reorder(self) -> None:
        """Swaps two neighbours of the log of different objects, and what their writers were told."""
        told = {o.revision: o for o in self.operations if o.writes and o.end is End.OK}
        for place, (one, two) in enumerate(zip(self.log, self.log[1:], strict=False)):
            a, b = told.get(one.revision), told.get(two.revision)
            if a is None or b is None or one.key == two.key or not a.returned_s < b.called_s:
                continue
            self.log[place : place + 2] = [replace(two, revision=one.revision), replace(one, revision=two.revision)]
            swap = {id(a): two.revision, id(b): one.revision}
            self.operations = [replace(o, revision=swap.get(id(o), o.revision)) for o in self.operations]
            self.planted = True
            return


_PLANTS: dict[Bug, Callable[[SimulatedStore, Operation, int], Operation | None]] = {
    Bug.STALE_READ: SimulatedStore._stale,
    Bug.STALE_READ_IN_DISGUISE: SimulatedStore._stale,
    Bug.LOST_WRITE: SimulatedStore._lost,
    Bug.DUPLICATED_REVISION: SimulatedStore._duplicated,
    Bug.DIRTY_READ: SimulatedStore._dirty,
    Bug.RESURRECTED_KEY: SimulatedStore._resurrected,
    Bug.OLD_VERSION_ACCEPTED: SimulatedStore._old_version,
    Bug.REFUSED_AND_DONE: SimulatedStore._refused_and_done,
    Bug.DONE_TWICE: SimulatedStore._twice,
    Bug.REFUSED_WITHOUT_REASON: SimulatedStore._refused,
    Bug.OTHER_STORE: SimulatedStore._other_store,
}
