"""What was decided of late: a ring of the last decisions, for those who ask why and for those who replay.

A batch has what the decisions of one run share (revision of the snapshot, profile, class) and refers to what was made
for deciding anyway; so remembering costs a pod a place in a table. With the revision, the order and the number that the
dice showed, a decision can be computed again exactly.

The ring is bounded in decisions and in bytes, as estimated; the oldest batch leaves first, whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.api.meta import Key
from cluster.scheduler.cycle import Placement
from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import LotKey, Waiting

BYTES_LIMIT = 64 * 1024 * 1024
_BATCH_BYTES = 600
_DECISION_BYTES = 400
"""What one takes, with the pod's description that it keeps alive; measured, rounded up."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a round of decisions is based on."""

    revision: int = 0
    """The snapshot was true as of this revision, plus what was decided and not written yet."""
    wall_s: float = 0.0
    """When (seconds since 1970)."""


@dataclass(frozen=True, slots=True)
class Nominated:
    """Nothing fitted, and others make room."""

    node: str
    victims: tuple[str, ...]
    """Names of pods that had to go, as NAMESPACE/NAME."""
    refusal: Refusal


Outcome = Placement | Nominated | Refusal


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about one pod."""

    key: Key
    uid: str
    number: int
    """Decisions are numbered from 1, in the order in which they were made."""
    stamp: Stamp
    lot: LotKey
    class_number: int
    """The same for all pods that are placed alike, as long as the scheduler runs."""
    outcome: Outcome


class _Batch(NamedTuple):
    stamp: Stamp
    class_number: int
    first: int
    """The number of the first decision in it."""
    waiting: Sequence[Waiting]
    outcomes: Sequence[Outcome] | Nominated | Refusal
    """One for each, or one for all."""
    size_bytes: int


class Records:
    """The ring. `limit` 0 remembers nothing."""

    def __init__(self, limit: int, bytes_limit: int = BYTES_LIMIT) -> None:
        self._limit = limit
        self._bytes_limit = bytes_limit
        self._batches: deque[_Batch] = deque()
        self._latest: dict[str, tuple[_Batch, int]] = {}
        self._class_numbers: dict[LotKey, int] = {}
        self._classes = 0
        self._count = 0
        self._bytes = 0
        self.made = 0
        """How many decisions there were."""

    def __len__(self) -> int:
        return self._count

    def add(self, stamp: Stamp, waiting: Sequence[Waiting], outcomes: Sequence[Outcome] | Nominated | Refusal) -> None:
        """Pods of one lot got these answers, one for each or one for all; neither list may change afterwards."""
        first = self.made + 1
        self.made += len(waiting)
        if not waiting or not self._limit:
            return
        size = _BATCH_BYTES + _DECISION_BYTES * len(waiting)
        if isinstance(outcomes, Refusal):
            size += len(outcomes.message)
        batch = _Batch(stamp, self._class_number(waiting[0].lot), first, waiting, outcomes, size)
        self._batches.append(batch)
        latest = self._latest
        for index, each in enumerate(waiting):
            latest[each.pod.uid] = (batch, index)
        self._count += len(waiting)
        self._bytes += size
        while len(self._batches) > 1 and (self._count > self._limit or self._bytes > self._bytes_limit):
            self._forget(self._batches.popleft())

    def latest(self, uid: str) -> Decision | None:
        """The last decision about a pod, if it is still remembered."""
        found = self._latest.get(uid)
        return None if found is None else _decision(*found)

    def since(self, number: int) -> list[Decision]:
        """All that are remembered from that number on, in order."""
        return [
            _decision(batch, index)
            for batch in self._batches
            if batch.first + len(batch.waiting) > number
            for index in range(max(0, number - batch.first), len(batch.waiting))
        ]

    def _class_number(self, lot: LotKey) -> int:
        number = self._class_numbers.get(lot)
        if number is None:
            if len(self._class_numbers) >= max(self._limit, 1):
                self._class_numbers.clear()  # numbers go on: none is given twice
            self._classes += 1
            number = self._class_numbers[lot] = self._classes
        return number

    def _forget(self, batch: _Batch) -> None:
        self._count -= len(batch.waiting)
        self._bytes -= batch.size_bytes
        for each in batch.waiting:
            if self._latest.get(each.pod.uid, (None,))[0] is batch:
                del self._latest[each.pod.uid]


def _decision(batch: _Batch, index: int) -> Decision:
    waiting = batch.waiting[index]
    outcomes = batch.outcomes
    outcome = outcomes if isinstance(outcomes, Nominated | Refusal) else outcomes[index]
    return Decision(
        waiting.key, waiting.uid, batch.first + index, batch.stamp, waiting.lot, batch.class_number, outcome
    )
