"""How much of each node is held by pods that could make room: sums by priority, so that many nodes are judged at once.

    below(p)[row, column] = what pods of a lower priority than p hold there, and what those hold that are going anyway

A sum is made when somebody asks for it and only of the rows that changed since. Priorities are told apart one by one as
long as there are few; where there are many, neighbours share a level, and `below` may say too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.snapshot import IntArray, Rows, Snapshot

LEVELS_LIMIT = 64
"""So many levels are kept apart; beyond, levels become twice as wide."""


class Removable:
    """The sums over a snapshot. `is_going` says of a pod whether it leaves anyway."""

    def __init__(self, snapshot: Snapshot, is_going: Callable[[PlacedPod], bool]) -> None:
        self._snapshot = snapshot
        self._is_going = is_going
        self._levels: dict[int, IntArray] = {}
        self._going: IntArray = np.zeros((0, 0), np.int64)
        self._width = 1
        self._position = 0
        self._generation = -1

    def refresh(self, touched: Iterable[int]) -> None:
        """Catches up with the snapshot; also with rows of which something else has changed."""
        snapshot = self._snapshot
        changed = snapshot.changed_since(self._position)
        generation = snapshot.versions.generation
        if changed is None or self._generation != generation:
            self._start_over()
            rows = snapshot.rows_with_pods()
        else:
            rows = sorted({*changed, *touched})
        self._position, self._generation = snapshot.position, generation
        for row in rows:
            self._sum(row)
        if len(self._levels) > LEVELS_LIMIT:
            self._width *= 2
            self._generation = -1
            self.refresh(())

    def below(self, priority: int, rows: Rows) -> IntArray:
        """What pods of lower priority, and those that are going, hold of these rows."""
        total = self._going[rows].copy()
        for level, held in self._levels.items():
            if level < priority:
                total += held[rows]
        return total

    def _start_over(self) -> None:
        self._levels = {}
        self._going = np.zeros_like(self._snapshot.requested)

    def _sum(self, row: int) -> None:
        snapshot = self._snapshot
        self._going[row] = 0
        for held in self._levels.values():
            held[row] = 0
        for pod in snapshot.pods_on(row):
            if self._is_going(pod):
                held = self._going
            else:
                level = pod.priority - pod.priority % self._width
                found = self._levels.get(level)
                held = self._levels.setdefault(level, np.zeros_like(snapshot.requested)) if found is None else found
            held[row] += snapshot.vector(pod.pod_class.shape)
