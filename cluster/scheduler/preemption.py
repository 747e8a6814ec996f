"""Preemption: where pods of lower priority can make room for one that fits nowhere, and at what cost.

    suitable     nodes that the pod might be on if nothing else were there: for the others preemption is no help
    enough       of those, where the room is enough without all pods of lower priority: sums, over all nodes at once
    cost         of those, who really has to go (`cluster.scheduler.victims`): node by node

What was found out about a node is kept until something changes on it, and nodes are kept sorted by cost. So a thousand
pods of one class that all need room cost one look at all nodes, and then each a look at the node that the one before
has taken. Pods that are going already (being deleted, or told to) make room without any cost.

A class that looks beyond the node itself (affinity to pods, spreading) is tried in the snapshot, and on so many nodes
only as Kubernetes tries: a tenth of them, at least a hundred.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np

from cluster.scheduler import filters
from cluster.scheduler.budgets import Budget, Budgets
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Filter, Scope
from cluster.scheduler.filters.load import missing_resources
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.removable import Removable
from cluster.scheduler.shape import ANY_IP, Shape
from cluster.scheduler.snapshot import ALL_ROWS, BoolArray, IntArray, Snapshot, Versions
from cluster.scheduler.victims import Cost, Victims, cost, importance, select

Filters = tuple[Filter, ...]
"""Those of a profile."""

OUTLOOKS_LIMIT = 64
"""So many classes (with a priority) are kept computed; the least recently used one is dropped."""
TRIED_LEAST, TRIED_SHARE = 100, 10
"""Of nodes that have to be tried in the snapshot, at least so many, or one of so many."""

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "preemption: not eligible due to preemptionPolicy=Never."
WAITS = "preemption: not eligible due to a terminating pod on the nominated node."
"""Kubernetes' words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where room is made, and by whom."""

    node: str
    victims: Victims


class Preemption:
    """Finds room for pods that fit nowhere."""

    def __init__(
        self,
        snapshot: Snapshot,
        budgets: Budgets,
        nominated: Container[str],
    ) -> None:
        self._snapshot = snapshot
        self._budgets = budgets
        self._nominated = nominated
        """Pods that only hold their place in the snapshot; those of lower priority just lose it."""
        self._going: dict[str, PlacedPod] = {}
        self._touched: dict[int, None] = {}
        self._removable = Removable(snapshot, self.is_going)
        self._outlooks: dict[tuple[PodClass, int, int], _Outlook] = {}

    def is_going(self, pod: PlacedPod) -> bool:
        """Whether a pod makes room anyway: it is being deleted, or was told to go."""
        return pod.terminating or pod.uid in self._going

    def send(self, pods: Iterable[PlacedPod]) -> None:
        """These are told to go."""
        for pod in pods:
            self._going[pod.uid] = pod
            self._touch(pod.uid)
            if self._budgets.covering(pod):
                self._budgets.sent(pod)
                self._budgets_changed()

    def stays(self, uid: str) -> None:
        """A pod was not told after all."""
        pod = self._going.pop(uid, None)
        if pod is not None:
            self._touch(uid)
            if self._budgets.covering(pod):
                self._budgets.stays(pod)
                self._budgets_changed()

    def goes(self, pod: PlacedPod) -> None:
        """A pod is seen to go: it is being deleted, or is gone."""
        self._budgets.goes(pod)
        self._going.pop(pod.uid, None)

    def set_budget(self, budget: Budget) -> None:
        """A disruption budget is there, or there is news of it."""
        if self._budgets.set(budget):
            self._outlooks.clear()
        else:
            self._budgets_changed()

    def remove_budget(self, namespace: str, name: str) -> None:
        """A disruption budget is gone."""
        self._budgets.remove(namespace, name)
        self._outlooks.clear()

    def _budgets_changed(self) -> None:
        """Budgets allow another number than before."""
        for outlook in self._outlooks.values():
            outlook.touched |= outlook.covered

    def plan(self, pod_class: PodClass, priority: int, which: Filters) -> Plan | None:
        """The node where room for a pod of this class costs least, as these filters see it; None: nowhere.

        Nothing is done about it.
        """
        outlook = self._outlook(pod_class, priority, which)
        best = outlook.best()
        return None if best is None else Plan(best[0].node, best[1])

    def refusal(self, pod_class: PodClass, priority: int, which: Filters) -> str:
        """Why no room can be made, in Kubernetes' words."""
        suitable = int((self._outlook(pod_class, priority, which).suitable & self._snapshot.alive).sum())
        nodes = self._snapshot.node_count
        reasons = Counter({NOT_HELPFUL: nodes - suitable, NO_VICTIMS: suitable})
        return "preemption: " + filters.sentence(+reasons, 0, nodes)

    def has_lower(self, priority: int) -> bool:
        """Whether anybody of a lower priority has a node."""
        return any(level < priority for level in self._snapshot.priorities)

    def lower_on(self, row: int, priority: int) -> list[PlacedPod]:
        """Pods of a node that could be told to go, the most important first."""
        return sorted(
            (
                pod
                for pod in self._snapshot.pods_on(row)
                if pod.priority < priority and pod.uid not in self._nominated and not self.is_going(pod)
            ),
            key=importance,
        )

    def are_covered(self, pods: Iterable[PlacedPod]) -> bool:
        """Whether a disruption budget covers one of them."""
        return len(self._budgets) > 0 and any(self._budgets.covering(pod) for pod in pods)

    def any_going(self, row: int) -> bool:
        """Whether somebody makes room on a node anyway."""
        return any(self.is_going(pod) for pod in self._snapshot.pods_on(row))

    def _touch(self, uid: str) -> None:
        row = self._snapshot.row_of_pod(uid)
        if row is not None:
            self._touched[row] = None
            for outlook in self._outlooks.values():
                outlook.touched.add(row)

    def _outlook(self, pod_class: PodClass, priority: int, which: Filters) -> _Outlook:
        key = (pod_class, priority, id(which))  # the outlook keeps it, so nothing else gets that number
        outlook = self._outlooks.pop(key, None)
        if outlook is None:
            if len(self._outlooks) >= OUTLOOKS_LIMIT:
                del self._outlooks[next(iter(self._outlooks))]
            outlook = _Outlook(self, pod_class, priority, which)
        self._outlooks[key] = outlook
        self._removable.refresh(self._touched)
        self._touched.clear()
        outlook.refresh()
        return outlook

    # -- one node

    def _removed(self, row: int, priority: int) -> list[PlacedPod]:
        """All that are not there when the pod is tried: who could go, who is going, who is only nominated."""
        return [pod for pod in self._snapshot.pods_on(row) if pod.priority < priority or self.is_going(pod)]


class _LocalRoom:
    """Room as a matter of sums and ports."""

    def __init__(self, preemption: Preemption, row: int, pod_class: PodClass, priority: int) -> None:
        snapshot = preemption._snapshot
        shape = pod_class.shape
        self._names = [name for name, _ in shape.requests]
        self._asked = [amount for _, amount in shape.requests]
        self._ports = shape.host_ports
        removed = preemption._removed(row, priority)
        columns = [snapshot.columns[name] for name in self._names]
        free = (snapshot.allocatable[row] - snapshot.requested[row])[columns].tolist()
        for pod in removed:
            free = [left + held for left, held in zip(free, self._held(pod), strict=True)]
        self._free: list[int] = free
        gone = {pod.uid for pod in removed}
        self._blocked = bool(self._ports) and any(
            self._collides(pod) for pod in snapshot.pods_on(row) if pod.uid not in gone
        )

    def fits(self) -> bool:
        return not self._blocked and all(left >= asked for left, asked in zip(self._free, self._asked, strict=True))

    def takes_back(self, pod: PlacedPod) -> bool:
        free = [left - held for left, held in zip(self._free, self._held(pod), strict=True)]
        if (self._ports and self._collides(pod)) or any(
            left < asked for left, asked in zip(free, self._asked, strict=True)
        ):
            return False
        self._free = free
        return True

    def _held(self, pod: PlacedPod) -> list[int]:
        held = dict(pod.pod_class.shape.requests)
        return [held.get(name, 0) for name in self._names]

    def _collides(self, pod: PlacedPod) -> bool:
        return any(
            (mine.protocol, mine.port) == (other.protocol, other.port)
            and (mine.ip == other.ip or ANY_IP in (mine.ip, other.ip))
            for mine in self._ports
            for other in pod.pod_class.shape.host_ports
        )


class _TriedRoom:
    """Room as the filters see it, with the snapshot changed for the moment."""

    def __init__(self, preemption: Preemption, row: int, pod_class: PodClass, priority: int, which: Filters) -> None:
        self._snapshot = preemption._snapshot
        self._row = row
        self._pod_class = pod_class
        self._which = which
        self._out = {pod.uid: pod for pod in preemption._removed(row, priority)}
        for uid in self._out:
            self._snapshot.remove(uid)

    def fits(self) -> bool:
        return bool(filters.feasible(self._snapshot, self._pod_class, np.array([self._row]), self._which)[0])

    def takes_back(self, pod: PlacedPod) -> bool:
        self._snapshot.place(pod, self._snapshot.names[self._row])
        if self.fits():
            del self._out[pod.uid]
            return True
        self._snapshot.remove(pod.uid)
        return False

    def restore(self) -> None:
        """Everybody is back."""
        for pod in self._out.values():
            self._snapshot.place(pod, self._snapshot.names[self._row])


class _Outlook:
    """What is known of all nodes for one class of pods of one priority."""

    __slots__ = (
        "_costs", "_heap", "_node_filters", "_pod_class", "_position", "_preemption", "_priority", "_versions",
        "_which", "covered", "suitable", "touched",
    )  # fmt: skip

    def __init__(self, preemption: Preemption, pod_class: PodClass, priority: int, which: Filters) -> None:
        self._preemption = preemption
        self._pod_class = pod_class
        self._priority = priority
        self._which = which
        self._node_filters = tuple(each for each in which if each.scope is Scope.NODE)
        self._position = 0
        self._versions: Versions | None = None
        self.suitable: BoolArray = np.zeros(0, np.bool_)
        self.touched: set[int] = set()
        """Rows of which something has changed that the snapshot does not know."""
        self.covered: set[int] = set()
        """Rows on which disruption budgets cover a pod that could make room."""
        self._costs: dict[int, tuple[Cost, Victims]] = {}
        self._heap: list[tuple[Cost, int]] = []

    def best(self) -> tuple[Cost, Victims] | None:
        """The node that costs least."""
        while self._heap:
            price, row = self._heap[0]
            known = self._costs.get(row)
            if known is not None and known[0] is price:
                return known
            heapq.heappop(self._heap)
        return None

    def refresh(self) -> None:
        """Catches up with the snapshot."""
        snapshot = self._preemption._snapshot
        changed = snapshot.changed_since(self._position)
        local = self._is_local()
        if changed is None or self._versions != snapshot.versions or not (local or not len(changed)):
            rows = np.flatnonzero(snapshot.alive)
            self.suitable = filters.feasible(snapshot, self._pod_class, ALL_ROWS, self._node_filters)
            self._costs.clear()
            self._heap.clear()
            self.covered.clear()
        else:
            rows = np.array(sorted({*changed.tolist(), *self.touched}), np.int64)
            for row in rows.tolist():
                self._costs.pop(row, None)
        self.touched.clear()
        if len(rows):
            self._look_at(rows, local)
        self._position, self._versions = snapshot.position, snapshot.versions  # trying has left it as it was

    def _is_local(self) -> bool:
        """Whether sums and ports say all: nothing that is elsewhere makes a difference, and no plug-in has a say."""
        shape = self._pod_class.shape
        if any(each not in filters.FILTERS for each in self._which):
            return False
        if shape.near or shape.apart or shape.directories or any(each.hard for each in shape.spread):
            return False
        snapshot = self._preemption._snapshot
        apart = next((each for each in self._which if each.name == "InterPodAffinity"), None)
        return apart is None or bool((apart.passes(snapshot, self._pod_class, ALL_ROWS) | ~snapshot.alive).all())

    def _look_at(self, rows: IntArray, local: bool) -> None:
        preemption, snapshot = self._preemption, self._preemption._snapshot
        shape: Shape = self._pod_class.shape
        if missing_resources(snapshot, shape):
            return
        asked = snapshot.vector(shape)
        free = snapshot.allocatable[rows] - snapshot.requested[rows]
        removable = preemption._removable.below(self._priority, rows)
        enough = ((free + removable >= asked) | (asked == 0)).all(axis=1)
        candidates = rows[self.suitable[rows] & enough & removable.any(axis=1)].tolist()
        if not local:
            candidates = candidates[: max(TRIED_LEAST, snapshot.node_count // TRIED_SHARE)]
        for row in candidates:
            lower = preemption.lower_on(row, self._priority)
            if preemption.are_covered(lower):
                self.covered.add(row)
            victims = self._victims(row, lower, local)
            if victims is not None and (victims.pods or preemption.any_going(row)):
                price = cost(victims, snapshot.names[row])
                self._costs[row] = (price, victims)
                heapq.heappush(self._heap, (price, row))

    def _victims(self, row: int, lower: list[PlacedPod], local: bool) -> Victims | None:
        preemption = self._preemption
        violating = preemption._budgets.violating(lower)
        if local:
            return select(_LocalRoom(preemption, row, self._pod_class, self._priority), lower, violating)
        room = _TriedRoom(preemption, row, self._pod_class, self._priority, self._which)
        try:
            return select(room, lower, violating)
        finally:
            room.restore()
