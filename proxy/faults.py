"""What goes wrong on purpose with the connections of a service, by the Fault objects that there are. Pure.

Faults add up: their delays are added, the narrowest bandwidth counts, and what breaks one connection breaks it whatever
the others do. Each throws its own dice, made of its seed: the same seed and the same order of connections give the same
luck. A fault is heeded until its end, whether its object is gone by then or not.

    of a service            every connection to it
    of a service and a pod  those that lead to this pod
    of a node (partition)   those that lead to a pod of this node

Which addresses a pod or a node has is told from outside, and may change while the fault lasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.api.meta import Key, from_time, key_of
from cluster.pb.v1 import core_pb2 as core
from proxy.routing import ServiceName

if TYPE_CHECKING:
    from random import Random


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

    __slots__ = ("dice", "ends_at", "ips", "is_narrow", "key", "object")

    def __init__(self, fault: core.Fault, ips: frozenset[str], dice: Random) -> None:
        self.object = fault
        self.key = key_of(fault)
        self.ends_at = from_time(fault.status.endsAt)
        """Seconds since 1970."""
        self.dice = dice
        self.is_narrow = bool(fault.spec.target.pod or fault.spec.target.node)
        """It is about some of a service's endpoints, or about pods of many services."""
        self.ips = ips
        """The addresses of those, now."""

    def concerns(self, service: ServiceName, ip: str) -> bool:
        """It is about connections to that service that lead to that address; empty: wherever they lead."""
        target = self.object.spec.target
        if target.service and (target.service, self.object.metadata.namespace) != (service.name, service.namespace):
            return False
        return ip in self.ips if self.is_narrow else True


class Faults:
    """Those that are active."""

    def __init__(self) -> None:
        self._faults: dict[Key, Fault] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def begin(self, fault: core.Fault, ips: frozenset[str], dice: Random, now: float) -> Fault | None:
        """A fault is there, about these addresses. None: it is over, or known; then its addresses are these now.
        `now` in seconds since 1970, `dice` of its seed."""
        known = self._faults.get(key_of(fault))
        if known is not None and known.object.metadata.uid == fault.metadata.uid:
            known.ips = ips
            return None
        made = Fault(fault, ips, dice)
        if made.ends_at <= now:
            return None
        self._faults[made.key] = made
        return made

    def end(self, key: Key) -> Fault | None:
        """It is over; None if that was known."""
        return self._faults.pop(key, None)

    def refuses(self, service: ServiceName, ip: str = "") -> bool:
        """Whether a new connection is refused; throws the dice. Without an address: before it is known where it leads,
        for faults of the whole service; with one, for those that are about that address."""
        refused = False
        for fault in self._of(service, ip):
            spec = fault.object.spec
            if fault.is_narrow == bool(ip):
                lost = spec.lossPercent > 0 and fault.dice.random() * 100 < spec.lossPercent
                refused = refused or lost or spec.refuse or spec.partition
        return refused

    def effect(self, service: ServiceName, ip: str) -> Effect:
        """What happens to a connection, once it is known where it leads."""
        delay_ms = jitter_ms = bandwidth = 0
        half_open = breaks = False
        for fault in self._of(service, ip):
            spec = fault.object.spec
            delay_ms += spec.delayMilliseconds
            jitter_ms += spec.jitterMilliseconds
            bandwidth = min(filter(None, (bandwidth, spec.bandwidthBytesPerSecond)), default=0)
            half_open = half_open or spec.halfOpen or spec.partition
            breaks = breaks or spec.reset
        return Effect(delay_ms / 1000, jitter_ms / 1000, bandwidth, half_open, breaks)

    def seed(self, service: ServiceName, ip: str) -> int:
        """For the dice of one connection."""
        return sum(fault.dice.getrandbits(32) for fault in self._of(service, ip))

    def _of(self, service: ServiceName, ip: str) -> Iterable[Fault]:
        return [fault for fault in self._faults.values() if fault.concerns(service, ip)]
