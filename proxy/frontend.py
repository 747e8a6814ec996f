"""One service port as it is served: its endpoints now, its counters, and the connections that wait for an endpoint.

It outlives its listener for as long as connections of it live, and tells those on hold when the endpoints change.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from proxy.balancer import Balancer, Target
from proxy.routing import Route
from proxy.settings import DataPathSettings
from proxy.stats import PortStats
from proxy.topology import Topology


class Timed(Protocol):
    """A connection whose service has time-outs."""

    @property
    def target(self) -> Target | None:
        """The endpoint that it is connected to."""
        ...

    def overdue(self, now: float) -> str:
        """Why it is to be cut; empty if it is not."""
        ...

    def cut(self, reason: str) -> None:
        """Ends it."""
        ...


if TYPE_CHECKING:
    from proxy.ambassadors.ambassador import Ambassador


class Frontend:
    """What the connections of one service port share."""

    __slots__ = ("_settings", "_waiting", "ambassador", "balancer", "dial_timeouts_s", "route", "stats", "timed")

    def __init__(
        self,
        route: Route,
        settings: DataPathSettings,
        stats: PortStats,
        *,
        rng: random.Random | None = None,
        topology: Topology | None = None,
    ) -> None:
        self.route = route
        self.stats = stats
        self.balancer = Balancer(load=self._load, rng=rng, topology=topology)
        self.timed: set[Timed] | None = None
        """Its connections, if anybody has to look after their time."""
        self.dial_timeouts_s = settings.dial_timeouts_s
        self.ambassador: Ambassador | None = None
        """Answers for the connections instead of the balancer."""
        self._settings = settings
        self._waiting: dict[int, Callable[[], None]] = {}
        """On hold, in the order of their coming; bounded by the number of connections."""
        self.update(route)

    def update(self, route: Route) -> None:
        """Other endpoints or terms: from the next connection on, and for those on hold at once."""
        self.route = route
        self.balancer.replace(
            route.targets,
            route.affinity_timeout_s,
            self._settings.affinity_entries,
            terms=route.terms,
            terminating=route.terminating,
        )
        self.dial_timeouts_s = route.timeouts.tries_s(self._settings.dial_timeouts_s)
        self.stats.forget_endpoints(frozenset((*route.targets, *route.terminating)))
        waiting, self._waiting = self._waiting, {}
        for callback in waiting.values():
            callback()

    def failed(self, target: Target) -> None:
        """It could not be connected to."""
        self.stats.dial_failures += 1
        self.stats.endpoint(target).dial_failures += 1

    def observe(self, now: float) -> None:
        """Notes who is left out now, for whoever asks for the counters."""
        self.stats.ejected = self.balancer.outliers.out(now)
        self.stats.ejections = self.balancer.outliers.ejections
        self.stats.unhealthy = self.balancer.unhealthy

    def wait(self, who: int, on_change: Callable[[], None]) -> None:
        """Calls back once, at the next change of the endpoints."""
        self._waiting[who] = on_change

    def stop_waiting(self, who: int) -> None:
        """No call any more."""
        self._waiting.pop(who, None)

    def _load(self, target: Target) -> int:
        endpoint = self.stats.endpoints.get(target)
        return 0 if endpoint is None else endpoint.active
