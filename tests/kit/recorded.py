"""What clients asked and were told, and what the log says in the end: the evidence that both checkers judge.

An operation is a call over one object, or a list over all of them, with the times between which it must have happened.
Values are unique: whoever reads one knows which write made it. There are three ways in which an operation can end:

    OK        it happened, at `revision`: for a write the one it made, for a read the one at which it read
    REFUSED   it did not happen, for a reason that was true at some revision of the call, up to `revision` (0: it does
              not say up to which), or that has nothing to do with the object
    UNKNOWN   no answer (Unavailable, DeadlineExceeded): it may have happened at any time since, or happen yet

Pure: recording is done by history_recorder.py, judging by linearizability.py (by revisions, fast) and
search_checker.py (by real time and values alone, slow, believing no revision).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

NEVER = math.inf
"""When an operation without an answer has returned."""


class Verb(Enum):
    """What was asked."""

    GET = "get"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class End(Enum):
    """See the head of this file."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Refusal(Enum):
    """Why a write, or a get, was refused. OTHER says nothing about the object (a full queue, a full disk)."""

    NOT_FOUND = "NotFound"
    ALREADY_EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Held:
    """An object as a reader saw it, or as the log has it."""

    version: int
    """Its resourceVersion: the revision that made it what it is."""
    value: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client. Times are seconds of one clock for all clients."""

    client: int
    verb: Verb
    key: str
    """Empty: LIST."""
    called_s: float
    returned_s: float
    """NEVER: it has not been answered."""
    end: End
    value: str = ""
    """CREATE, UPDATE: what was to be written. No other operation has the same."""
    expected: Held | None = None
    """UPDATE, DELETE: only if this is what is there (compared by version)."""
    refusal: Refusal | None = None
    revision: int = 0
    """See the head of this file."""
    read: Held | None = None
    """GET that was OK: what was there; None: nothing."""
    listed: Mapping[str, Held] | None = None
    """LIST that was OK: everything that was there, by key."""
    store_id: str = ""

    @property
    def writes(self) -> bool:
        """It is not a read."""
        return self.verb in (Verb.CREATE, Verb.UPDATE, Verb.DELETE)


class Step(Enum):
    """What an entry of the log did; the names of a watch's events."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, as the log tells it in the end."""

    revision: int
    step: Step
    key: str
    value: str
    """Of a deletion: the last one."""


STEPS = {Verb.CREATE: Step.ADDED, Verb.UPDATE: Step.MODIFIED, Verb.DELETE: Step.DELETED}


class NotLinearizable(AssertionError):
    """A history that no correct store can have produced; the message is the story."""


@dataclass(slots=True)
class Replay:
    """What there was at each revision, by the log alone."""

    head: int = 0
    _revisions: dict[str, list[int]] = field(default_factory=dict)
    _held: dict[str, list[Held | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, log: Iterable[Entry]) -> Replay:
        """Raises NotLinearizable if the log contradicts itself."""
        replay = cls()
        for entry in log:
            before = replay.at(entry.key, entry.revision)
            if entry.revision < replay.head:
                raise NotLinearizable(f"the log goes back: {entry} comes after revision {replay.head}")
            if replay._revisions.get(entry.key, [0])[-1] == entry.revision:
                raise NotLinearizable(f"the log changes one object twice in one revision: {entry}")
            if (entry.step is Step.ADDED) != (before is None):
                raise NotLinearizable(f"the log contradicts itself: {entry}, where there was {before}")
            if entry.step is Step.DELETED and before is not None and before.value != entry.value:
                raise NotLinearizable(f"the log deletes what was not there: {entry}, where there was {before}")
            replay.head = entry.revision
            replay._revisions.setdefault(entry.key, []).append(entry.revision)
            after = None if entry.step is Step.DELETED else Held(entry.revision, entry.value)
            replay._held.setdefault(entry.key, []).append(after)
        return replay

    def at(self, key: str, revision: int) -> Held | None:
        """What was there as of a revision."""
        place = bisect_right(self._revisions.get(key, ()), revision)
        return self._held[key][place - 1] if place else None

    def all_at(self, revision: int) -> dict[str, Held]:
        """Everything that was there as of a revision, by key."""
        found = ((key, self.at(key, revision)) for key in self._revisions)
        return {key: held for key, held in found if held is not None}

    def between(self, key: str, first: int, last: int) -> Sequence[Held | None]:
        """All that was there at some revision from `first` to `last`."""
        revisions = self._revisions.get(key, [])
        begin, end = bisect_right(revisions, first), bisect_right(revisions, last)
        return [self._held[key][begin - 1] if begin else None, *self._held.get(key, [])[begin:end]]


def justifies(held: Held | None, operation: Operation) -> bool:
    """Whether a refusal is right, given what there was."""
    match operation.refusal:
        case Refusal.NOT_FOUND:
            return held is None
        case Refusal.ALREADY_EXISTS:
            return held is not None
        case Refusal.CONFLICT:
            expected = operation.expected
            return held is not None and expected is not None and held.version != expected.version
        case _:
            return True


def accepts(held: Held | None, operation: Operation) -> bool:
    """Whether a write is right to happen, given what there was."""
    if operation.verb is Verb.CREATE:
        return held is None
    if held is None:
        return False
    return operation.expected is None or held.version == operation.expected.version
