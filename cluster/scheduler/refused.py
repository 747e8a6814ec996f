"""What was refused and waits for help: by which filters, since when, and what may have been helped.

    settle -> clean: known by the filters that refused it, and by when it was looked at
    help   -> dirty: something happened that may help; somebody has to look again
    forget -> neither: it fits now, or is gone

Marking costs as much as there is to mark, and what is dirty is not marked again; so news that comes in thousands costs
little, however many wait. Who looks again, and when, is the queue's business.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import Enum

from cluster.scheduler.facts import NodeFacts
from cluster.scheduler.lots import Unit


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


ANYTHING = "*"
"""Of an event: it may help all. Of a refusal: everything may help it."""
_KNOWN = frozenset().union(*(event.value for event in ClusterEvent))
"""Filters that events speak of. What another one has refused (a plug-in), anything may help: nobody knows what it looks
at."""
_NOTHING = ("",)
"""Under which units are known that no filter refused: there were no nodes."""


def events_of(before: NodeFacts | None, after: NodeFacts) -> Iterator[ClusterEvent]:
    """What news of a node is. `before`: what it said until now; None: it was not there."""
    if before is None:
        yield ClusterEvent.NODE_ADDED
        return
    if before.allocatable != after.allocatable:
        yield ClusterEvent.NODE_ALLOCATABLE
    if before.labels != after.labels:
        yield ClusterEvent.NODE_LABELS
    if before.taints != after.taints:
        yield ClusterEvent.NODE_TAINTS
    if before.unschedulable and not after.unschedulable:
        yield ClusterEvent.NODE_SCHEDULABLE
    if before.directories != after.directories:
        yield ClusterEvent.NODE_DIRECTORIES


class Refused:
    """Units that were refused, clean or dirty."""

    def __init__(self) -> None:
        self._clean: dict[str, dict[Unit, None]] = {}
        self._dirty: OrderedDict[Unit, None] = OrderedDict()
        self._checked: OrderedDict[Unit, None] = OrderedDict()
        """Those that are clean, the one that was looked at longest ago first."""

    def settle(self, unit: Unit, filters: frozenset[str], now_s: float) -> None:
        """The unit was looked at, and these filters refuse it."""
        self.forget(unit)
        unit.filters = filters if filters <= _KNOWN else filters & _KNOWN | {ANYTHING}
        unit.checked_s = now_s
        self._checked[unit] = None
        for name in unit.filters or _NOTHING:
            self._clean.setdefault(name, {})[unit] = None

    def forget(self, unit: Unit) -> None:
        """The unit is refused no more."""
        if unit.filters is None:
            return
        if unit.dirty:
            del self._dirty[unit]
        else:
            self._tidy(unit)
        unit.filters, unit.dirty = None, False

    def stain(self, unit: Unit) -> None:
        """Something happened that may help this unit, if it was refused."""
        if unit.filters is None or unit.dirty:
            return
        self._tidy(unit)
        unit.dirty = True
        self._dirty[unit] = None

    def help(self, filters: Iterable[str]) -> None:
        """Something happened that may help those that these filters refused (`ANYTHING`: all)."""
        names = list(filters)
        if not names:
            return
        for name in list(self._clean) if ANYTHING in names else [*names, ANYTHING]:
            for unit in list(self._clean.get(name, ())):
                self.stain(unit)

    def flush(self, now_s: float, after_s: float) -> None:
        """Those that were not looked at for so long are dirty."""
        while (oldest := self._oldest()) is not None and oldest.checked_s + after_s <= now_s:
            self.stain(oldest)

    @property
    def dirty(self) -> Unit | None:
        """The one that is dirty longest."""
        return next(iter(self._dirty), None)

    @property
    def oldest_check_s(self) -> float | None:
        """When the clean one was looked at that was not looked at for the longest time."""
        oldest = self._oldest()
        return None if oldest is None else oldest.checked_s

    def _oldest(self) -> Unit | None:
        return next(iter(self._checked), None)

    def _tidy(self, unit: Unit) -> None:
        del self._checked[unit]
        for name in unit.filters or _NOTHING:
            units = self._clean[name]
            del units[unit]
            if not units:
                del self._clean[name]
