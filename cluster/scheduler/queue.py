"""The pods that wait for a node: whose turn it is, and who had better wait.

    state           leaves it when
    ACTIVE          popped: highest priority first, then oldest
    DECIDING        placed (done), or nothing fitted (refused), or the binding failed (failed)
    BACKOFF         its back-off is over: after a failed binding, or after an event that may help came early
    UNSCHEDULABLE   an event came that may help: one that a refusing filter cares about, and the pod's class now
                    fits somewhere; or a minute has passed

Kubernetes' scheduling queue, with one sharpening: pods of one class are moved together, and only if a node would take
the first of them, so ten thousand pods that never fit cost the others next to nothing. No clock, no lock, no I/O. It
has no limit of its own: it holds pods that exist in the cluster, and the master limits those.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from cluster.api.meta import Key
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.podclass import PodClass


class ClusterEvent(Enum):
    """Something that may help a pod which did not fit; the value names the filters that may think again."""

    NODE_ADDED = frozenset({"*"})
    NODE_ALLOCATABLE = frozenset({"Resources"})
    NODE_LABELS = frozenset({"NodeAffinity", "ImageRuntime", "PodTopologySpread", "InterPodAffinity"})
    NODE_TAINTS = frozenset({"TaintToleration", "PodTopologySpread"})
    NODE_SCHEDULABLE = frozenset({"NodeUnschedulable"})
    NODE_DIRECTORIES = frozenset({"DataDirectories"})
    POD_ADDED = frozenset({"DataDirectories", "PodTopologySpread", "InterPodAffinity"})
    POD_CHANGED = frozenset({"PodTopologySpread", "InterPodAffinity"})
    """Its labels are others, or it is on its way out."""
    POD_GONE = frozenset({"Resources", "HostPorts", "DataDirectories", "PodTopologySpread", "InterPodAffinity"})
    """Or its node is: then it counts for nobody any more."""
    NAMESPACE_LABELS = frozenset({"InterPodAffinity"})


class State(Enum):
    """Where a pod is in the queue."""

    ACTIVE = auto()
    DECIDING = auto()
    BACKOFF = auto()
    UNSCHEDULABLE = auto()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that wants a node."""

    key: Key
    pod: PlacedPod
    """As it will count once it is placed."""
    priority: int
    created_s: float

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return self.pod.uid


@dataclass(slots=True, eq=False)
class _Entry:
    waiting: Waiting
    order: int
    state: State = State.ACTIVE
    attempts: int = 0
    retry_at_s: float = 0.0
    """When its back-off is over."""
    tried_at_s: float = 0.0
    ticket: int = 0
    """Of its place in a heap; a place with an older ticket is void."""


@dataclass(slots=True, eq=False)
class _Refused:
    """The pods of one class that fit nowhere, and the filters that refuse them, as far as known."""

    filters: frozenset[str]
    entries: dict[str, _Entry] = field(default_factory=dict)
    """In the order of their refusal."""


class SchedulingQueue:
    """Pods by uid, each in one state."""

    def __init__(self, *, backoff_initial_s: float, backoff_max_s: float, unschedulable_flush_s: float) -> None:
        self._backoff_initial_s = backoff_initial_s
        self._backoff_max_s = backoff_max_s
        self._flush_s = unschedulable_flush_s
        self._entries: dict[str, _Entry] = {}
        self._active: list[tuple[int, float, int, int, str]] = []
        self._backoff: list[tuple[float, int, str]] = []
        self._refused: dict[PodClass, _Refused] = {}
        self._arrivals = 0
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def state(self, uid: str) -> State | None:
        """Where a pod is; None if it does not wait."""
        entry = self._entries.get(uid)
        return None if entry is None else entry.state

    def counts(self) -> dict[State, int]:
        """How many pods are in each state."""
        counts = dict.fromkeys(State, 0)
        for entry in self._entries.values():
            counts[entry.state] += 1
        return counts

    def add(self, waiting: Waiting) -> None:
        """A pod wants a node. If it waits already, its description is renewed and its place is kept."""
        entry = self._entries.get(waiting.uid)
        if entry is not None:
            if entry.state is State.UNSCHEDULABLE and entry.waiting.pod.pod_class is not waiting.pod.pod_class:
                self._leave_refused(entry)
                entry.waiting = waiting
                self._activate(entry)
            entry.waiting = waiting
            return
        self._arrivals += 1
        entry = self._entries[waiting.uid] = _Entry(waiting, self._arrivals)
        self._activate(entry)

    def remove(self, uid: str) -> bool:
        """A pod wants no node any more: it has one, or it is gone. False if it did not wait."""
        entry = self._entries.pop(uid, None)
        if entry is None:
            return False
        if entry.state is State.UNSCHEDULABLE:
            self._leave_refused(entry)
        return True

    def pop(self, limit: int) -> list[Waiting]:
        """The pods whose turn it is, at most so many; each must be answered with `refused`, `failed` or `remove`."""
        popped: list[Waiting] = []
        while self._active and len(popped) < limit:
            *_, ticket, uid = heapq.heappop(self._active)
            entry = self._entries.get(uid)
            if entry is None or entry.ticket != ticket or entry.state is not State.ACTIVE:
                continue
            entry.state = State.DECIDING
            entry.attempts += 1
            popped.append(entry.waiting)
        return popped

    def refused(self, uid: str, filters: frozenset[str], now_s: float) -> None:
        """Nothing fitted; these filters refused nodes (none: there are no nodes)."""
        entry = self._entries.get(uid)
        if entry is None or entry.state is not State.DECIDING:
            return
        entry.state = State.UNSCHEDULABLE
        entry.tried_at_s = now_s
        entry.retry_at_s = now_s + self._backoff_s(entry.attempts)
        group = self._refused.setdefault(entry.waiting.pod.pod_class, _Refused(filters))
        group.filters = filters
        group.entries[uid] = entry

    def failed(self, uid: str, now_s: float) -> None:
        """A node was found, but the binding failed: again after the back-off."""
        entry = self._entries.get(uid)
        if entry is None or entry.state is not State.DECIDING:
            return
        entry.retry_at_s = now_s + self._backoff_s(entry.attempts)
        self._wait(entry)

    def move(self, helped: frozenset[str], refusing: Callable[[PodClass], frozenset[str] | None], now_s: float) -> int:
        """Something happened that may help pods refused by these filters ("*": all). Returns how many were moved.

        `refusing` says which filters refuse a class now, or None if it fits somewhere. What it says is kept, because
        the filter that is in the way now may be another one than at the last attempt.
        """
        moved = 0
        for pod_class, group in list(self._refused.items()):
            if "*" not in helped and not group.filters & helped:
                continue
            filters = refusing(pod_class)
            if filters is not None:
                group.filters = filters
                continue
            for entry in list(group.entries.values()):
                self._leave_refused(entry)
                self._retry(entry, now_s)
                moved += 1
        return moved

    def flush(self, now_s: float) -> None:
        """Lets those go on whose time has come; call it at `next_due_s` or before `pop`."""
        while self._backoff and self._backoff[0][0] <= now_s:
            _, ticket, uid = heapq.heappop(self._backoff)
            entry = self._entries.get(uid)
            if entry is not None and entry.ticket == ticket and entry.state is State.BACKOFF:
                self._activate(entry)
        for group in list(self._refused.values()):
            for entry in list(group.entries.values()):
                if entry.tried_at_s + self._flush_s > now_s:
                    break  # in the order of their refusal
                self._leave_refused(entry)
                self._retry(entry, now_s)

    def next_due_s(self) -> float | None:
        """When `flush` next has something to do; None: not before another call changes that."""
        due = [next(iter(g.entries.values())).tried_at_s + self._flush_s for g in self._refused.values()]
        if self._backoff:
            due.append(self._backoff[0][0])
        return min(due, default=None)

    @property
    def has_active(self) -> bool:
        """Whether `pop` may have something (places of removed pods count until they are popped)."""
        return bool(self._active)

    def _backoff_s(self, attempts: int) -> float:
        doublings = min(attempts - 1, 32)
        return min(self._backoff_initial_s * 2.0**doublings, self._backoff_max_s)

    def _retry(self, entry: _Entry, now_s: float) -> None:
        if entry.retry_at_s > now_s:
            self._wait(entry)
        else:
            self._activate(entry)

    def _activate(self, entry: _Entry) -> None:
        self._tickets += 1
        entry.state, entry.ticket = State.ACTIVE, self._tickets
        waiting = entry.waiting
        heapq.heappush(self._active, (-waiting.priority, waiting.created_s, entry.order, entry.ticket, waiting.uid))

    def _wait(self, entry: _Entry) -> None:
        self._tickets += 1
        entry.state, entry.ticket = State.BACKOFF, self._tickets
        heapq.heappush(self._backoff, (entry.retry_at_s, entry.ticket, entry.waiting.uid))

    def _leave_refused(self, entry: _Entry) -> None:
        pod_class = entry.waiting.pod.pod_class
        group = self._refused[pod_class]
        del group.entries[entry.waiting.uid]
        if not group.entries:
            del self._refused[pod_class]
