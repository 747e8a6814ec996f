"""Pods that wait together: lots, of which any pod will do, and parties, which go all or not at all.

    Lot      pods of one class, profile and priority. They get the same answer, so one refusal is the answer for all
             of them until something happens that may help: ten thousand pods that fit nowhere are one question.
    Party    a gang (pods of one group), or a single pod that others make room for. Its turn is that of its oldest
             member, with the priority of its least important one.

    lot.fresh      those that had no turn yet, or whose binding failed; each gets its turn in the order of age
    lot.refused    those that fitted nowhere; not in line while the lot is closed

Here are the containers; who may go when is `cluster.scheduler.queue`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from cluster.api.meta import Key
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Refusal
from cluster.scheduler.podclass import PodClass


class GangKey(NamedTuple):
    """A group of pods (spec.podGroup) of a namespace."""

    namespace: str
    name: str


class LotKey(NamedTuple):
    """Pods that have this in common get the same answer."""

    pod_class: PodClass
    profile: str
    """By which profile they are placed: spec.schedulerName."""
    priority: int = 0
    preempts: bool = True
    """Others may have to make room for them."""


class State(Enum):
    """Where a pod is in the queue."""

    ACTIVE = auto()
    DECIDING = auto()
    BACKOFF = auto()
    UNSCHEDULABLE = auto()
    GATHERING = auto()
    NOMINATED = auto()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that wants a node."""

    key: Key
    pod: PlacedPod
    """As it will count once it is placed."""
    lot: LotKey
    created_s: float
    gang: GangKey | None = None

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return self.pod.uid


class Turn(NamedTuple):
    """When a turn comes: highest priority first, then oldest, then who came first. The smaller, the sooner."""

    rank: int
    """The priority, negated."""
    created_s: float
    order: int


@dataclass(slots=True, eq=False)
class Entry:
    """A pod in the queue."""

    waiting: Waiting
    order: int
    turn: Turn = field(init=False)
    state: State = State.ACTIVE
    """Of its own; while a party speaks for it, only whether it is DECIDING."""
    party: Party | None = None
    """What speaks for it; None: its lot."""
    failures: int = 0
    """Bindings that failed in a row."""
    ticket: int = 0
    """Of its place in a line; a place with an older ticket is void."""

    def __post_init__(self) -> None:
        self.describe(self.waiting)

    def describe(self, waiting: Waiting) -> None:
        """There is news of the pod."""
        self.waiting = waiting
        self.turn = Turn(-waiting.lot.priority, waiting.created_s, self.order)


class Line:
    """Entries in the order of their turns. Who leaves is struck out when it would be its turn."""

    __slots__ = ("_heap", "size")

    def __init__(self) -> None:
        self._heap: list[tuple[Turn, int, Entry]] = []
        self.size = 0

    def put(self, entry: Entry, ticket: int) -> None:
        """The entry stands here from now on, and nowhere else."""
        entry.ticket = ticket
        self.size += 1
        heapq.heappush(self._heap, (entry.turn, ticket, entry))

    def leave(self, entry: Entry) -> None:
        """The entry does not stand here any more."""
        entry.ticket = 0
        self.size -= 1
        if len(self._heap) > 2 * self.size + 64:  # mostly struck out
            self._heap = [place for place in self._heap if place[1] == place[2].ticket]
            heapq.heapify(self._heap)

    def head(self) -> Entry | None:
        """The first of them."""
        heap = self._heap
        while heap and heap[0][1] != heap[0][2].ticket:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def all(self) -> list[Entry]:
        """All of them, in no order."""
        return [entry for _, ticket, entry in self._heap if entry.ticket == ticket]


@dataclass(slots=True, eq=False)
class Unit:
    """What is in line for a turn."""

    in_line: Turn | None = None
    """Where; None: it is not."""
    ticket: int = 0
    filters: frozenset[str] | None = None
    """Those of the last refusal; None: it was not refused."""
    dirty: bool = False
    """Something has happened since that may help."""
    checked_s: float = 0.0
    """When it was last known that nothing fits."""

    def turn(self) -> Turn | None:
        """When it is its turn; None: nobody of it is in line."""
        raise NotImplementedError


@dataclass(slots=True, eq=False, kw_only=True)
class Lot(Unit):
    """Pods that get the same answer."""

    key: LotKey
    size: int = 0
    """How many pods are of it, wherever they stand."""
    fresh: Line = field(default_factory=Line)
    refused: Line = field(default_factory=Line)
    nominated: dict[str, Party] = field(default_factory=dict)
    """Those that others make room for, by uid, oldest nomination first."""
    standing: Refusal | None = None
    """What any of them is told, while the lot is not dirty."""
    round: int = 0
    """In which round of decisions that was found out."""
    told: str = ""
    """What all that were refused have been told, and when."""
    told_s: float = 0.0
    closed: bool = False
    """Those that were refused are not in line."""

    def turn(self) -> Turn | None:
        """When it is its turn; None: nobody of it is in line."""
        head = self.head()
        return None if head is None else head.turn

    def head(self) -> Entry | None:
        """Whose turn is next."""
        fresh = self.fresh.head()
        refused = None if self.closed else self.refused.head()
        if fresh is None or refused is None:
            return fresh or refused
        return fresh if fresh.turn < refused.turn else refused


@dataclass(slots=True, eq=False, kw_only=True)
class Party(Unit):
    """Pods that go together."""

    gang: GangKey | None
    """None: a single pod that others make room for."""
    members: dict[str, Entry] = field(default_factory=dict)
    """All that wait, by uid; while the group runs, their lots speak for them."""
    need: int = 1
    """So many of them have to be placed at once; 0: the group runs."""
    deciding: int = 0
    """How many of the members are being decided about."""
    state: State = State.GATHERING
    attempts: int = 0
    """Turns that came to nothing in a row."""
    retry_at_s: float = 0.0

    @property
    def is_complete(self) -> bool:
        """As many wait as have to go together."""
        return len(self.members) - self.deciding >= self.need

    def turn(self) -> Turn | None:
        """When it is its turn: never sooner than its least important member."""
        turns = [entry.turn for entry in self.members.values()]
        if not turns:
            return None
        return Turn(max(turn.rank for turn in turns), *min(turn[1:] for turn in turns))


class UnitLine:
    """Units in the order of their turns; each stands in it once. Tickets are given by `tickets`, no number twice."""

    def __init__(self, tickets: Callable[[], int]) -> None:
        self._heap: list[tuple[Turn, int, Unit]] = []
        self._next_ticket = tickets

    def offer(self, unit: Unit) -> None:
        """The unit stands where its turn is, if somebody of it is in line."""
        turn = unit.turn()
        if turn is not None and turn != unit.in_line:
            unit.in_line, unit.ticket = turn, self._next_ticket()
            heapq.heappush(self._heap, (turn, unit.ticket, unit))

    def leave(self, unit: Unit) -> None:
        """The unit stands in it no more."""
        unit.in_line, unit.ticket = None, 0

    def first(self) -> Unit | None:
        """Whose turn is first; it stays."""
        while self._heap:
            turn, ticket, unit = self._heap[0]
            if unit.ticket == ticket:
                if unit.turn() == turn:
                    return unit
                self.leave(unit)  # its head is gone: its turn is a later one now
                self.offer(unit)
            else:
                heapq.heappop(self._heap)
        return None


Look = Callable[[Lot], Refusal | None]
"""What a pod of the lot would be told now; None: it would find a place (or make one)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Pods whose turn it is; each must be answered with `refused`, `nominated`, `failed` or `remove`."""

    waiting: list[Waiting]
    """In the order of their turns."""
    standing: Refusal | None = None
    """Their answer, without being looked at: nothing has happened since that may have changed it."""
    together: bool = False
    """All or nothing: a gang, or one pod that others made room for."""
    gang: GangKey | None = None
    need: int = 1
    """Of a gang: so many have to be placed."""
