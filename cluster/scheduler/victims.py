"""Which pods have to go so that another one finds room on a node, and on which node that hurts least.

Kubernetes' rules (defaultpreemption). On one node: without all pods of lower priority the pod must fit. Then they are
let back in as far as it still does: first those that a disruption budget wants to keep, then the others, each from the
most important (higher priority, then longer at work). Who cannot come back is a victim. Among nodes, in this order:

    fewest victims that a budget wants to keep
    lowest priority of the most important victim
    smallest sum of priorities (each plus 2^31, so that more victims never make a smaller sum)
    fewest victims
    latest start of the victims of the highest priority: the one of them that started first
    first by name

Pure. It refuses to know what it is that makes a pod fit: that is asked of a `Room`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cluster.scheduler.facts import PlacedPod

_OFFSET = 1 << 31
_LOWEST = -(1 << 31)


class Room(Protocol):
    """A node without the pods that may have to go, and a pod that wants to get in."""

    def fits(self) -> bool:
        """Whether it does, with nobody back."""
        ...

    def takes_back(self, pod: PlacedPod) -> bool:
        """Lets a pod back in, if the one that wants to get in still fits then. Whether it was."""
        ...


@dataclass(frozen=True, slots=True)
class Victims:
    """What it takes on one node."""

    pods: tuple[PlacedPod, ...]
    """Who has to go, the most important first; may be empty: those that are going anyway make room enough."""
    violations: int
    """How many of them a disruption budget wants to keep."""


class Cost(NamedTuple):
    """How much it hurts; the smallest is chosen."""

    violations: int
    highest: int
    total: int
    victims: int
    started: float
    """Negated."""
    node: str


def importance(pod: PlacedPod) -> tuple[int, float, str]:
    """Sorts pods, the most important first; the uid settles what is equal."""
    return -pod.priority, pod.started_s, pod.uid


def select(room: Room, lower: Sequence[PlacedPod], violating: frozenset[str]) -> Victims | None:
    """Who has to go, of these pods in the order of `importance`; None: not even that would help."""
    if not room.fits():
        return None
    protected = [pod for pod in lower if pod.uid in violating]
    others = [pod for pod in lower if pod.uid not in violating]
    gone = [pod for pod in (*protected, *others) if not room.takes_back(pod)]
    return Victims(tuple(sorted(gone, key=importance)), sum(pod.uid in violating for pod in gone))


def cost(victims: Victims, node: str) -> Cost:
    """How much it hurts if they go."""
    if not victims.pods:
        return Cost(0, _LOWEST - 1, 0, 0, float("-inf"), node)
    highest = victims.pods[0].priority
    first = min(pod.started_s for pod in victims.pods if pod.priority == highest)
    return Cost(victims.violations, highest, _sum(victims.pods), len(victims.pods), -first, node)


def _sum(pods: Iterable[PlacedPod]) -> int:
    return sum(pod.priority + _OFFSET for pod in pods)
