"""Carries out the faults of services on the data path: who is refused, who is led over a stretch, who breaks off.

The data path asks it at three places, and only while a fault is active: when a client was accepted, before an endpoint
is dialled, and when an endpoint has answered. What is there already when a fault begins is reset (`reset`) or frozen
(`halfOpen`, `partition`: nobody is told, and it goes on afterwards); delays and bandwidth are for connections that
begin while the fault is active, for bytes that are under way in the kernel cannot be slowed down.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from cluster.actor.clock import Clock
from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from proxy.balancer import Target
from proxy.faults import Fault, Faults
from proxy.poller import Poller
from proxy.routing import ServiceName
from proxy.shaping import Stretch, connected_pair


@runtime_checkable
class Disturbed(Protocol):
    """A connection, as seen from here."""

    @property
    def link(self) -> tuple[ServiceName, Target | None]:
        """Its service, and where it leads, if that is known."""
        ...

    def abort(self) -> None:
        """Ends it with a reset."""
        ...

    def freeze(self, frozen: bool) -> None:
        """Nothing passes; or it does again."""
        ...


class FaultInjector:
    """One for a data path."""

    def __init__(self, poller: Poller, clock: Clock, members: Callable[[], Iterable[Disturbed]]) -> None:
        self._poller = poller
        self._clock = clock
        self._members = members
        self._faults = Faults()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._stretches: dict[Stretch, tuple[ServiceName, str]] = {}
        self._frozen: dict[int, tuple[Disturbed, Key]] = {}
        self.active = False
        """There are faults: ask."""

    def set_fault(self, key: Key, fault: core.Fault | None, ips: frozenset[str]) -> None:
        """A Fault object is there, and about these addresses; or it is gone."""
        if fault is None:
            self._end(key)
            return
        now = self._clock.wall()
        begun = self._faults.begin(fault, ips, random.Random(fault.spec.seed), now)
        self._reshape()
        if begun is not None:
            self.active = True
            self._cancel(key)
            self._timers[key] = self._poller.call_later(begun.ends_at - now, lambda: self._end(key))
            self._disturb(begun)

    def refuses(self, service: ServiceName) -> bool:
        """A client that was accepted is reset instead."""
        return self._faults.refuses(service)

    def cuts(self, service: ServiceName, target: Target) -> bool:
        """An endpoint is not dialled, as if it had refused."""
        return self._faults.refuses(service, target.ip)

    def detour(self, service: ServiceName, target: Target, endpoint: socket.SocketType) -> socket.SocketType:
        """What the relay gets instead of the endpoint's socket: the same one if nothing happens to the connection.
        Neither is watched by the poller."""
        effect = self._faults.effect(service, target.ip)
        if effect.is_nothing:
            return endpoint
        try:
            mine, relays = connected_pair()
        except OSError:
            return endpoint  # out of descriptors; a fault shall not make it worse
        rng = random.Random(self._faults.seed(service, target.ip))
        stretch = Stretch(self._poller, self._clock, mine, endpoint, effect, rng, self._gone)
        self._stretches[stretch] = (service, target.ip)
        stretch.start()
        return relays

    def close(self) -> None:
        """Ends all stretches. Twice is fine."""
        for key in list(self._timers):
            self._cancel(key)
        for stretch in list(self._stretches):
            stretch.abort()
        self.active = False

    def _gone(self, stretch: Stretch) -> None:
        self._stretches.pop(stretch, None)

    def _reshape(self) -> None:
        for stretch, (service, ip) in list(self._stretches.items()):
            stretch.change(self._faults.effect(service, ip))

    def _disturb(self, fault: Fault) -> None:
        """Those that are there already."""
        spec = fault.object.spec
        for member in list(self._members()):
            service, target = member.link
            if not fault.concerns(service, "" if target is None else target.ip):
                continue
            if spec.reset:
                member.abort()
            elif spec.halfOpen or spec.partition:
                self._frozen[id(member)] = (member, fault.key)
                member.freeze(True)

    def _end(self, key: Key) -> None:
        self._cancel(key)
        if self._faults.end(key) is None:
            return
        self.active = len(self._faults) > 0
        for identity, (member, because) in list(self._frozen.items()):
            if because == key:
                del self._frozen[identity]
                member.freeze(False)
        self._reshape()

    def _cancel(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
