"""What goes wrong on purpose with the connections of a service, by the Fault objects that there are. Pure.

Faults add up: their delays are added, the narrowest bandwidth counts, and what breaks one connection breaks it whatever
the others do. Each throws its own dice, made of its seed: the same seed and the same order of connections give the same
luck. A fault is heeded until its end, whether its object is gone by then or not.

    of a service            every connection to it
    of a service and a pod  those that lead to this pod
    of a node (partition)   those that lead to a pod of this node
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from cluster.api.meta import Key, from_time, key_of
from cluster.pb.v1 import core_pb2 as core
from proxy.routing import ServiceName


class Place(NamedTuple):
    """Where a connection leads: to a pod of a node. Empty: not known."""

    pod: str = ""
    node: str = ""


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to a connection."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth: int = 0
    """Bytes per second; 0: as much as there is."""
    is_half_open: bool = False
    """Nothing passes."""
    breaks: bool = False
    """Reset when the answer begins."""

    @property
    def is_nothing(self) -> bool:
        """It goes on as without it."""
        return self == NO_EFFECT


NO_EFFECT = Effect()


class Fault:
    """One object, and its dice."""

    __slots__ = ("dice", "ends_at", "key", "object")

    def __init__(self, fault: core.Fault) -> None:
        self.object = fault
        self.key = key_of(fault)
        self.ends_at = from_time(fault.status.endsAt)
        """Seconds since 1970."""
        self.dice = Random(fault.spec.seed)

    def concerns(self, service: ServiceName, place: Place) -> bool:
        """It is about connections to that service that lead there."""
        target = self.object.spec.target
        if target.node:
            return self.object.spec.partition and place.node == target.node
        if target.service != service.name or self.object.metadata.namespace != service.namespace:
            return False
        return not target.pod or target.pod == place.pod


class Faults:
    """Those that are active."""

    def __init__(self) -> None:
        self._faults: dict[Key, Fault] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def begin(self, fault: core.Fault, now: float) -> Fault | None:
        """A fault is there; None if it is over, or known already. `now` in seconds since 1970."""
        made = Fault(fault)
        known = self._faults.get(made.key)
        if made.ends_at <= now or (known is not None and known.object.metadata.uid == fault.metadata.uid):
            return None
        self._faults[made.key] = made
        return made

    def end(self, key: Key) -> Fault | None:
        """It is over; None if that was known."""
        return self._faults.pop(key, None)

    def refuses(self, service: ServiceName, place: Place = NOWHERE) -> bool:
        """Whether a new connection is refused; throws the dice. Without a place: before it is known where it leads,
        for those that are about the whole service; with one, for those that are about that place."""
        refused = False
        for fault in self._of(service, place):
            spec = fault.object.spec
            is_narrow = bool(spec.target.pod or spec.target.node)
            if is_narrow != (place is not NOWHERE):
                continue
            if spec.lossPercent and fault.dice.random() * 100 < spec.lossPercent:
                refused = True
            refused = refused or spec.refuse or bool(spec.target.node)
        return refused

    def effect(self, service: ServiceName, place: Place) -> Effect:
        """What happens to a connection, once it is known where it leads."""
        delay_ms = jitter_ms = bandwidth = 0
        half_open = breaks = False
        for fault in self._of(service, place):
            spec = fault.object.spec
            delay_ms += spec.delayMilliseconds
            jitter_ms += spec.jitterMilliseconds
            rate = spec.bandwidthBytesPerSecond
            bandwidth = min(filter(None, (bandwidth, rate)), default=0)
            half_open = half_open or spec.halfOpen or spec.partition
            breaks = breaks or spec.reset
        return Effect(delay_ms / 1000, jitter_ms / 1000, bandwidth, half_open, breaks)

    def seed(self, service: ServiceName, place: Place) -> int:
        """For the dice of one connection."""
        return sum(fault.dice.getrandbits(32) for fault in self._of(service, place))

    def _of(self, service: ServiceName, place: Place) -> Iterable[Fault]:
        return [fault for fault in self._faults.values() if fault.concerns(service, place)]
