"""Pods for which others make room: where their place is, and who has to go first.

A nominated pod holds its place in the snapshot as if it were there, so that pods of the same or a lower priority leave
it alone. Before a more important pod is decided about, the less important ones have to step aside (`admit`): it takes
their place if it wants to. Kubernetes counts nominated pods in the same way; status.nominatedNodeName tells the others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.scheduler.lots import Waiting
from cluster.scheduler.snapshot import Snapshot

EVERYBODY = -(1 << 63)
"""A priority that is lower than any."""


@dataclass(slots=True, eq=False)
class Nomination:
    """One pod and its place to be."""

    waiting: Waiting
    node: str
    victims: set[str] = field(default_factory=set)
    """Uids of those that have to go and are still there."""


class Nominations:
    """All of them, by uid of the pod; `uid in nominations` says that a pod in the snapshot only holds its place."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_uid: dict[str, Nomination] = {}
        self._on_node: dict[str, dict[str, None]] = {}
        self._for_victim: dict[str, set[str]] = {}
        self._by_priority: list[tuple[int, str]] = []
        """Ascending."""
        self._admitted = EVERYBODY
        """Those of this priority or a higher one are in the snapshot."""

    def __len__(self) -> int:
        return len(self._by_uid)

    def __contains__(self, uid: object) -> bool:
        return uid in self._by_uid

    def get(self, uid: str) -> Nomination | None:
        """The nomination of a pod."""
        return self._by_uid.get(uid)

    def put(self, waiting: Waiting, node: str, victims: Iterable[str] = ()) -> None:
        """The pod gets its place there; it replaces an earlier one."""
        self.drop(waiting.uid)
        nomination = self._by_uid[waiting.uid] = Nomination(waiting, node, set(victims))
        self._on_node.setdefault(node, {})[waiting.uid] = None
        for victim in nomination.victims:
            self._for_victim.setdefault(victim, set()).add(waiting.uid)
        insort(self._by_priority, (waiting.lot.priority, waiting.uid))
        if waiting.lot.priority >= self._admitted:
            self._snapshot.place(waiting.pod, node)

    def drop(self, uid: str) -> Nomination | None:
        """The pod has no place any more that is its own. What it had."""
        nomination = self._by_uid.pop(uid, None)
        if nomination is None:
            return None
        on_node = self._on_node[nomination.node]
        del on_node[uid]
        if not on_node:
            del self._on_node[nomination.node]
        for victim in nomination.victims:
            self._released(victim, uid)
        del self._by_priority[bisect_left(self._by_priority, (nomination.waiting.lot.priority, uid))]
        if nomination.waiting.lot.priority >= self._admitted:
            self._snapshot.remove(uid)
        return nomination

    def on(self, node: str) -> list[Nomination]:
        """Those with their place on a node."""
        return [self._by_uid[uid] for uid in self._on_node.get(node, ())]

    def gone(self, victim: str) -> list[str]:
        """A pod is gone: who waits for nobody any more."""
        free = []
        for uid in self._for_victim.pop(victim, ()):
            nomination = self._by_uid[uid]
            nomination.victims.discard(victim)
            if not nomination.victims:
                free.append(uid)
        return free

    def waiting_for(self, victim: str) -> list[str]:
        """Who waits for a pod to be gone."""
        return list(self._for_victim.get(victim, ()))

    def admit(self, priority: int) -> None:
        """From now on those of this priority or a higher one are in the snapshot, the others step aside."""
        if priority == self._admitted:
            return
        low, high = sorted((priority, self._admitted))
        between = self._by_priority[
            bisect_left(self._by_priority, (low, "")) : bisect_left(self._by_priority, (high, ""))
        ]
        for _, uid in between:
            if priority == low:
                self._snapshot.place(self._by_uid[uid].waiting.pod, self._by_uid[uid].node)
            else:
                self._snapshot.remove(uid)
        self._admitted = priority

    def _released(self, victim: str, uid: str) -> None:
        waiting = self._for_victim[victim]
        waiting.discard(uid)
        if not waiting:
            del self._for_victim[victim]
