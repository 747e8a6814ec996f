"""The data path of one process with all its ports: what `Changes` of the routing table become.

It is driven from one side: open a route with a socket, update it, close it. Whoever drives it watches the cluster and
owns the sockets: the server in the same process (server.py), or the server of several workers by messages (worker.py).

    open   -> Frontend, Listener (TCP) or UdpListener, health checks if the service wants them
    update -> endpoints and terms, for the next connections; connections to endpoints that are gone get their time
    close  -> accepts no more; established connections go on
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.actor.clock import Clock
from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from proxy.ambassadors.ambassador import Ambassadors, Kind
from proxy.ambassadors.built_in import BUILT_IN
from proxy.ambassadors.connection import AmbassadorConnection
from proxy.connection import Connection
from proxy.datapath import DataPath, Member
from proxy.frontend import Frontend
from proxy.health_checker import HealthChecker
from proxy.listener import Listener
from proxy.policies import Target
from proxy.routing import UDP, Route, RouteKey
from proxy.settings import DataPathSettings
from proxy.stats import Stats
from proxy.sweeper import Sweeper
from proxy.topology import Topology
from proxy.udp import UdpListener


@dataclass(slots=True)
class _Served:
    """A route with its listeners: one, but for a while after an upgrade from more workers to fewer."""

    frontend: Frontend
    listeners: Sequence[Listener | UdpListener]
    checker: HealthChecker | None = None

    def close(self) -> None:
        """Accepts no more, and asks nobody."""
        for listener in self.listeners:
            listener.close()
        if self.checker is not None:
            self.checker.stop()


class Engine:
    """Made inside the event loop that all its connections run in; `stop` ends it."""

    def __init__(
        self,
        settings: DataPathSettings,
        *,
        clock: Clock,
        rng: random.Random,
        stats: Stats,
        file_limit: int,
        access_log: Callable[[Member], None] | None = None,
        is_one_of_several: bool = False,
    ) -> None:
        """`is_one_of_several`: other engines serve the same ports, so clients stick by a hash that all agree on."""
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._stats = stats
        self._is_one_of_several = is_one_of_several
        self._served: dict[RouteKey, _Served] = {}
        self._topology = Topology()
        self.tell: Callable[[RouteKey, Kind, str, str], None] = lambda _key, _kind, _reason, _message: None
        """Makes an event of a service; set by whoever drives this."""
        self._ambassadors = Ambassadors(
            settings.policies, BUILT_IN, clock=clock, rng=rng, tell=lambda *words: self.tell(*words)
        )
        self.path = DataPath(settings, clock, stats, file_limit=file_limit)
        self.path.access_log = access_log
        self._sweeper = Sweeper(self.path, self.frontends)

    def __len__(self) -> int:
        """Connections now."""
        return len(self.path)

    def open(self, route: Route, socks: Sequence[socket.socket]) -> None:
        """Serves the route with these sockets, which are its own from now on."""
        route = self._as_served(route)
        frontend = Frontend(route, self._settings, self._stats.of(route.key), rng=self._rng, topology=self._topology)
        self._ambassadors.serve(frontend)
        make = UdpListener if route.protocol == UDP else Listener
        served = self._served[route.key] = _Served(frontend, [make(self.path, frontend) for _ in socks])
        self._settle(served, None)
        for listener, sock in zip(served.listeners, socks, strict=True):
            listener.open(sock)

    def update(self, route: Route) -> None:
        """The route is now this; it listens as before."""
        served = self._served.get(route.key)
        if served is None:
            return
        before = served.frontend.route
        served.frontend.update(self._as_served(route))
        self._ambassadors.serve(served.frontend)
        for listener in served.listeners:
            listener.changed()
        self._settle(served, before)

    def close(self, key: RouteKey) -> None:
        """Serves it no more; established connections stay."""
        served = self._served.pop(key, None)
        if served is None:
            return
        served.close()
        self._stats.forget(key)
        frontend = served.frontend
        self._ambassadors.forget(frontend)
        # Nobody will come for those that still wait for an endpoint; they end with their hold time.
        before = frontend.route
        frontend.update(replace(before, targets=(), terminating=(), health=None))
        self._settle(served, before)

    def set_node(self, name: str, node: core.Node | None) -> None:
        """Where clients and endpoints are."""
        self._topology.set_node(name, node)

    def set_fault(self, key: Key, fault: core.Fault | None, ips: frozenset[str]) -> None:
        """Something goes wrong on purpose, at these addresses if it is about some only; None: no longer."""
        self.path.faults.set_fault(key, fault, ips)

    def observe(self) -> Stats:
        """The counters, with what is known only when somebody asks."""
        now = self._clock.monotonic()
        for frontend in self.frontends():
            frontend.observe(now)
        return self._stats

    def stop_accepting(self) -> None:
        """Closes all listeners; established connections go on. Twice is fine."""
        for served in self._served.values():
            served.close()

    async def drain(self, grace_s: float) -> None:
        """Returns when the last connection is over, or after the grace period."""
        await self.path.drain(grace_s)

    async def stop(self) -> None:
        """Resets what is left. Twice is fine."""
        self.stop_accepting()
        self._sweeper.stop()
        self.path.close()
        self._ambassadors.close()

    def frontends(self) -> Iterator[Frontend]:
        """All ports that are served now."""
        for served in self._served.values():
            yield served.frontend

    def checker(self, key: RouteKey) -> HealthChecker | None:
        """Who asks the endpoints of this port, if anybody does."""
        served = self._served.get(key)
        return None if served is None else served.checker

    def _as_served(self, route: Route) -> Route:
        if self._is_one_of_several and route.affinity_timeout_s is not None:
            return replace(route, terms=replace(route.terms, policy="ConsistentHash"))
        return route

    def _settle(self, served: _Served, before: Route | None) -> None:
        """Health checks, time-outs and draining, as the route has them now."""
        frontend = served.frontend
        route = frontend.route
        if before is None or before.health != route.health:
            if served.checker is not None:
                served.checker.stop()
                served.checker = None
                frontend.balancer.unhealthy = frozenset()
            if route.health is not None and route.protocol != UDP:
                served.checker = HealthChecker(self.path, frontend, route.health, self._rng)
                served.checker.start()
        if served.checker is not None:
            served.checker.changed()
        if not route.timeouts.watched and route.timeouts.drain_s is None:
            frontend.timed = None
        elif frontend.timed is None:
            frontend.timed = {
                member
                for member in self.path
                if isinstance(member, Connection | AmbassadorConnection) and member.frontend is frontend
            }
        if before is not None and route.timeouts.drain_s is not None:
            gone = {*before.targets, *before.terminating} - {*route.targets, *route.terminating}
            if gone:
                self.path.poller.call_later(route.timeouts.drain_s, lambda: _cut(frontend, gone))


def _cut(frontend: Frontend, gone: set[Target]) -> None:
    """Ends the connections to endpoints that went some time ago, and have not come back."""
    route = frontend.route
    gone = gone - {*route.targets, *route.terminating}
    for connection in list(frontend.timed or ()):
        if connection.target in gone:
            frontend.stats.drained += 1
            connection.cut("drained")
