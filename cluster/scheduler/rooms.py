"""Whether a pod fits on a node from which others are gone: the two kinds of `Room`.

LocalRoom   sums and ports, for a class to which it makes no difference what is on other nodes
TriedRoom   the filters themselves, with the snapshot changed for the moment
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cluster.scheduler import filters
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Filter
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import ANY_IP, Shape
from cluster.scheduler.snapshot import Snapshot


class Ask:
    """What a class asks of a node, and what others hold of just that."""

    def __init__(self, snapshot: Snapshot, shape: Shape) -> None:
        """Every resource that is asked for has a column."""
        self._snapshot = snapshot
        self.asked = [amount for _, amount in shape.requests]
        self.ports = shape.host_ports
        self._names = [name for name, _ in shape.requests]
        self._columns = [snapshot.columns[name] for name in self._names]
        self._held: dict[Shape, list[int]] = {}

    def free(self, row: int) -> list[int]:
        """What is free of it on a row."""
        free: list[int] = (self._snapshot.allocatable[row] - self._snapshot.requested[row])[self._columns].tolist()
        return free

    def held(self, shape: Shape) -> list[int]:
        """What a pod of that shape holds of it."""
        held = self._held.get(shape)
        if held is None:
            if len(self._held) > 4096:
                self._held.clear()
            amounts = dict(shape.requests)
            held = self._held[shape] = [amounts.get(name, 0) for name in self._names]
        return held

    def collides(self, shape: Shape) -> bool:
        """Whether a pod of that shape has a port that is asked for."""
        return any(
            (mine.protocol, mine.port) == (other.protocol, other.port)
            and (mine.ip == other.ip or ANY_IP in (mine.ip, other.ip))
            for mine in self.ports
            for other in shape.host_ports
        )


class LocalRoom:
    """Room as a matter of sums and ports."""

    __slots__ = ("_ask", "_blocked", "_spare")

    def __init__(self, ask: Ask, row: int, removed: Iterable[PlacedPod], kept: Iterable[PlacedPod]) -> None:
        """`removed` are gone from the row, `kept` are not."""
        self._ask = ask
        spare = [left - asked for left, asked in zip(ask.free(row), ask.asked, strict=True)]
        for pod in removed:
            for i, held in enumerate(ask.held(pod.pod_class.shape)):
                spare[i] += held
        self._spare = spare
        """What is left when the pod is in."""
        self._blocked = bool(ask.ports) and any(ask.collides(pod.pod_class.shape) for pod in kept)

    def fits(self) -> bool:
        """Whether the pod fits, with nobody back."""
        return not self._blocked and min(self._spare) >= 0

    def takes_back(self, pod: PlacedPod) -> bool:
        """Lets a pod back in, if there is room for both."""
        shape = pod.pod_class.shape
        left = []
        for spare, held in zip(self._spare, self._ask.held(shape), strict=True):
            if held > spare:
                return False
            left.append(spare - held)
        if self._ask.ports and self._ask.collides(shape):
            return False
        self._spare = left
        return True


class TriedRoom:
    """Room as the filters see it."""

    def __init__(
        self,
        snapshot: Snapshot,
        row: int,
        pod_class: PodClass,
        which: tuple[Filter, ...],
        removed: Iterable[PlacedPod],
    ) -> None:
        """Takes `removed` out of the snapshot; `restore` puts back who is still out."""
        self._snapshot = snapshot
        self._row = row
        self._pod_class = pod_class
        self._which = which
        self._out = {pod.uid: pod for pod in removed}
        for uid in self._out:
            snapshot.remove(uid)

    def fits(self) -> bool:
        """Whether the pod fits now."""
        return bool(filters.feasible(self._snapshot, self._pod_class, np.array([self._row]), self._which)[0])

    def takes_back(self, pod: PlacedPod) -> bool:
        """Lets a pod back in, if the other one still fits then."""
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
