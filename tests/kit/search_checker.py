"""The search checker: is there any order of the operations, within real time, that a register would have followed?

Wing and Gong's search with Lowe's memory of what was tried, as Porcupine has it: of the operations that may come next
(nobody else had returned before they were called) take one that fits the state, go on, and come back if it leads
nowhere. It believes no revision: only times and values. So it cross-checks the rule checker, which believes them.

    client 1   |--- create x ---|          |-- read: y --|
    client 2          |------ update y ------?             an answer that never came: may happen until the end

Writes without an answer are what makes a search long: each may come anywhere. So `settle` asks the final log about them
first. What is not there has not happened; what is there has happened by the time that somebody saw it, or what came
after it. That drops no order that the log allows.

Linearizability is local (Herlihy, Wing): a history is linearizable if the part of each object is; a list counts as one
read of each object here. Exponential at worst: keep it to about 8 clients, and a few thousand operations, per object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.kit.recorded import NEVER, End, Entry, NotLinearizable, Operation, Refusal, Step, Verb

MOST_STATES = 2_000_000


class GaveUp(Exception):
    """Too many states were tried: nothing is known."""


def check_by_search(operations: Iterable[Operation], initial: dict[str, str] | None = None) -> int:
    """Raises NotLinearizable naming the object; GaveUp. `initial`: values at the beginning, by key. Returns how many
    states were tried."""
    by_key: dict[str, list[_Step]] = {}
    operations = list(operations)
    keys = {op.key for op in operations if op.key} | (initial or {}).keys()
    for op in operations:
        for key in keys if op.verb is Verb.LIST else (op.key,):
            if (step := _step(op, key)) is not None:
                by_key.setdefault(key, []).append(step)
    tried = 0
    for key, steps in sorted(by_key.items()):
        tried += _search(key, steps, (initial or {}).get(key))
    return tried


def settle(operations: Iterable[Operation], log: Sequence[Entry]) -> list[Operation]:
    """The same operations, with what the log knows about those that were not answered."""
    operations = list(operations)
    seen_s = _seen_by(operations)
    answered = {op.revision: op for op in operations if op.writes and op.end is End.OK}
    unanswered = [op for op in operations if op.writes and op.end is End.UNKNOWN]
    by_value = {op.value: op for op in unanswered if op.value}
    # Backwards: by when a change had happened is by when the next one of its object had.
    bounds: list[float] = []
    bound_s: dict[str, float] = {}
    for entry in reversed(log):
        writer = answered.get(entry.revision)
        known_s = min(bound_s.get(entry.key, NEVER), writer.returned_s if writer is not None else NEVER)
        if entry.step is not Step.DELETED:
            known_s = min(known_s, seen_s.get(entry.value, NEVER))
        bound_s[entry.key] = known_s
        bounds.append(known_s)
    # Which of several unanswered deletions it was is left open, unless they are alike but for when they were called.
    happened: dict[int, float] = {}
    versions: dict[str, int] = {}
    open_ = {id(op): op for op in unanswered if op.verb is Verb.DELETE and op.expected is None}
    for entry, known_s in zip(log, reversed(bounds), strict=True):
        if entry.revision not in answered and entry.step is not Step.DELETED and entry.value in by_value:
            happened[id(by_value[entry.value])] = known_s
        if entry.revision not in answered and entry.step is Step.DELETED:
            meant = [
                op for op in unanswered if _means(op, entry.key, versions.get(entry.key, 0)) and op.called_s <= known_s
            ]
            if any(op.key == entry.key and op.called_s <= known_s for op in open_.values() if op.expected is None):
                open_.update((id(op), op) for op in meant)
            elif meant:
                happened[id(min(meant, key=lambda op: op.called_s))] = known_s
        versions[entry.key] = entry.revision
    settled = [op for op in operations if not op.writes or op.end is not End.UNKNOWN]
    for op in unanswered:
        by_s = happened.get(id(op), NEVER)
        if by_s < NEVER:
            settled.append(replace(op, end=End.OK, returned_s=by_s))
        elif id(op) in happened or id(op) in open_:
            settled.append(op)
    return settled


def _means(op: Operation, key: str, version: int) -> bool:
    """It is a deletion of this version and no other."""
    return op.verb is Verb.DELETE and op.key == key and op.expected is not None and op.expected.version == version


def _seen_by(operations: Iterable[Operation]) -> dict[str, float]:
    """When the first reader of each value had returned, or the first writer who knew of it."""
    seen_s: dict[str, float] = {}
    for op in operations:
        if op.end is End.OK and not op.writes:
            for held in (op.listed or {}).values() if op.listed is not None else [op.read]:
                if held is not None:
                    seen_s[held.value] = min(seen_s.get(held.value, NEVER), op.returned_s)
        elif op.expected is not None:
            seen_s[op.expected.value] = min(seen_s.get(op.expected.value, NEVER), op.called_s)
    return seen_s


@dataclass(slots=True)
class _Step:
    """One operation on one object."""

    called_s: float
    returned_s: float
    verb: Verb
    value: str | None
    """What is written; of a read: what was read, None for nothing."""
    expected: str | None
    refusal: Refusal | None
    unknown: bool
    source: Operation

    def apply(self, state: str | None) -> tuple[bool, str | None]:
        """Whether it may happen in that state, and the state after it."""
        if self.refusal is not None:
            match self.refusal:
                case Refusal.NOT_FOUND:
                    return state is None, state
                case Refusal.ALREADY_EXISTS:
                    return state is not None, state
                case _:
                    return state is not None and state != self.expected, state
        if self.verb is Verb.GET:
            return state == self.value, state
        if self.verb is Verb.CREATE:
            return state is None, self.value
        fits = state is not None and (self.expected is None or state == self.expected)
        return fits, self.value if self.verb is Verb.UPDATE else None


def _step(op: Operation, key: str) -> _Step | None:
    """None: it says nothing about this object."""
    if (op.end is End.UNKNOWN and not op.writes) or op.refusal is Refusal.OTHER:
        return None
    value: str | None = op.value or None
    verb = op.verb
    if verb is Verb.LIST:
        held = (op.listed or {}).get(key)
        verb, value = Verb.GET, held.value if held is not None else None
    elif verb is Verb.GET:
        value = op.read.value if op.read is not None else None
    expected = op.expected.value if op.expected is not None else None
    unknown = op.end is End.UNKNOWN
    return _Step(op.called_s, op.returned_s, verb, value, expected, op.refusal, unknown, op)


class _Node:
    """A call or a return, in the order of time: a list from which pairs are lifted and put back."""

    __slots__ = ("after", "before", "number", "partner", "step")

    def __init__(self, number: int, step: _Step | None) -> None:
        self.number = number
        self.step = step
        """None: a return."""
        self.partner: _Node | None = None
        self.before: _Node | None = None
        self.after: _Node | None = None

    def lift(self) -> None:
        for node in (self, self.partner):
            if node is not None:
                assert node.before is not None
                node.before.after = node.after
                if node.after is not None:
                    node.after.before = node.before

    def put_back(self) -> None:
        for node in (self.partner, self):
            if node is not None:
                assert node.before is not None
                node.before.after = node
                if node.after is not None:
                    node.after.before = node


def _nodes(steps: Sequence[_Step]) -> _Node:
    """The head of the list. What was not answered has no return: it may wait for ever."""
    moments: list[tuple[float, int, _Node]] = []
    for number, step in enumerate(steps):
        call = _Node(number, step)
        moments.append((step.called_s, 0, call))
        if not step.unknown:
            call.partner = _Node(number, None)
            moments.append((step.returned_s, 1, call.partner))
    moments.sort(key=lambda moment: moment[:2])
    head = previous = _Node(-1, None)
    for _, _, node in moments:
        previous.after, node.before = node, previous
        previous = node
    return head


def _search(key: str, steps: Sequence[_Step], state: str | None) -> int:
    head = _nodes(steps)
    left = sum(not step.unknown for step in steps)
    done = 0  # a bit for each operation that has its place
    taken: list[tuple[_Node, str | None]] = []
    tried: set[tuple[int, str | None]] = set()
    deepest: tuple[int, _Step | None] = (-1, None)
    node = head.after
    while left:
        if node is not None and node.step is not None:
            fits, after = node.step.apply(state)
            mark = (done | 1 << node.number, after)
            if fits and mark not in tried:
                tried.add(mark)
                if len(tried) > MOST_STATES:
                    raise GaveUp(f"{key}: more than {MOST_STATES} states, with {len(steps)} operations")
                taken.append((node, state))
                state, done = after, mark[0]
                left -= not node.step.unknown
                node.lift()
                node = head.after
            else:
                node = node.after
            continue
        # Somebody returned here, and had no place before.
        if node is not None and len(taken) > deepest[0]:
            deepest = (len(taken), steps[node.number])
        if not taken:
            stuck = deepest[1].source if deepest[1] is not None else None
            raise NotLinearizable(
                f"{key}: no order explains {len(steps)} operations; the furthest one stops at {stuck}"
            )
        node, state = taken.pop()
        assert node.step is not None
        done ^= 1 << node.number
        left += not node.step.unknown
        node.put_back()
        node = node.after
    return len(tried)
