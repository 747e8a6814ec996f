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
from cluster.scheduler.rooms import Ask, LocalRoom, TriedRoom
from cluster.scheduler.shape import Shape
from cluster.scheduler.snapshot import ALL_ROWS, BoolArray, IntArray, Snapshot, Versions
from cluster.scheduler.victims import Cost, Victims, cost, importance, select

Filters = tuple[Filter, ...]
"""Those of a profile."""

OUTLOOKS_LIMIT = 64
"""So many classes (with a priority) are kept computed; the least recently used one is dropped."""
TRIED_LEAST, TRIED_SHARE = 100, 10
"""Of nodes that have to be tried in the snapshot, at least so many, or one of so many."""

FEW = 16
"""So few nodes are looked at one by one straight away."""

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

    def are_covered(self, pods: Iterable[PlacedPod]) -> bool:
        """Whether a disruption budget covers one of them."""
        return len(self._budgets) > 0 and any(self._budgets.covering(pod) for pod in pods)

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
        outlook.refresh()
        return outlook

    def _below(self, priority: int, rows: IntArray) -> IntArray:
        """What those hold of rows that could go, and those that are going."""
        self._removable.refresh(self._touched)
        self._touched.clear()
        return self._removable.below(priority, rows)


class _Outlook:
    """What is known of all nodes for one class of pods of one priority."""

    __slots__ = (
        "_ask", "_costs", "_heap", "_node_filters", "_plain", "_pod_class", "_position", "_preemption", "_priority",
        "_versions", "_which", "covered", "suitable", "touched",
    )  # fmt: skip

    def __init__(self, preemption: Preemption, pod_class: PodClass, priority: int, which: Filters) -> None:
        self._preemption = preemption
        self._pod_class = pod_class
        self._priority = priority
        self._which = which
        shape = pod_class.shape
        self._plain = all(each in filters.FILTERS for each in which) and not (
            shape.near or shape.apart or shape.directories or any(each.hard for each in shape.spread)
        )
        self._ask: Ask | None = None
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
            self._ask = None  # there may be other columns
            rows = np.flatnonzero(snapshot.alive)
            self.suitable = filters.feasible(snapshot, self._pod_class, ALL_ROWS, self._node_filters)
            self._costs.clear()
            self._heap.clear()
            self.covered.clear()
        else:
            rows = np.array(sorted({*changed, *self.touched}), np.int64)
            for row in rows.tolist():
                self._costs.pop(row, None)
        self.touched.clear()
        if len(rows):
            self._look_at(rows, local)
        self._position, self._versions = snapshot.position, snapshot.versions  # trying has left it as it was

    def _is_local(self) -> bool:
        """Whether sums and ports say all: nothing that is elsewhere makes a difference, and no plug-in has a say."""
        if not self._plain:
            return False
        snapshot = self._preemption._snapshot
        if not snapshot.tallies.repelling:
            return True
        apart = next((each for each in self._which if each.name == "InterPodAffinity"), None)
        return apart is None or bool((apart.passes(snapshot, self._pod_class, ALL_ROWS) | ~snapshot.alive).all())

    def _look_at(self, rows: IntArray, local: bool) -> None:
        snapshot = self._preemption._snapshot
        shape: Shape = self._pod_class.shape
        if missing_resources(snapshot, shape):
            return
        rows = rows[self.suitable[rows]]
        if len(rows) > FEW:
            asked = snapshot.vector(shape)
            free = snapshot.allocatable[rows] - snapshot.requested[rows]
            removable = self._preemption._below(self._priority, rows)
            enough = ((free + removable >= asked) | (asked == 0)).all(axis=1)
            rows = rows[enough & removable.any(axis=1)]
        if not local:
            rows = rows[: max(TRIED_LEAST, snapshot.node_count // TRIED_SHARE)]
        elif self._ask is None:
            self._ask = Ask(snapshot, shape)
        for row in rows.tolist():
            victims = self._victims(row, local)
            if victims is not None:
                price = cost(victims, snapshot.names[row])
                self._costs[row] = (price, victims)
                heapq.heappush(self._heap, (price, row))

    def _victims(self, row: int, local: bool) -> Victims | None:
        """Who has to go on a node; None: that would not help, or nobody has to."""
        preemption, priority = self._preemption, self._priority
        removed, kept, lower = [], [], []
        any_going = False
        for pod in preemption._snapshot.pods_on(row):
            if preemption.is_going(pod):
                any_going = True
                removed.append(pod)
            elif pod.priority < priority:
                removed.append(pod)
                if pod.uid not in preemption._nominated:
                    lower.append(pod)
            else:
                kept.append(pod)
        if not lower and not any_going:
            return None
        lower.sort(key=importance)
        if preemption.are_covered(lower):
            self.covered.add(row)
        violating = preemption._budgets.violating(lower)
        if local:
            assert self._ask is not None
            victims = select(LocalRoom(self._ask, row, removed, kept), lower, violating)
        else:
            room = TriedRoom(preemption._snapshot, row, self._pod_class, self._which, removed)
            try:
                victims = select(room, lower, violating)
            finally:
                room.restore()
        return victims if victims is not None and (victims.pods or any_going) else None
