"""One service port as it is served: its endpoints now, its counters, and the connections that wait for an endpoint.

It outlives its listener for as long as connections of it live, and tells those on hold when the endpoints change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.balancer import Balancer
from proxy.routing import Route
from proxy.settings import DataPathSettings
from proxy.stats import PortStats

if TYPE_CHECKING:
    from proxy.ambassadors.ambassador import Ambassador


class Frontend:
    """What the connections of one service port share."""

    __slots__ = ("_settings", "_waiting", "ambassador", "balancer", "route", "stats")

    def __init__(self, route: Route, settings: DataPathSettings, stats: PortStats) -> None:
        self.route = route
        self.stats = stats
        self.balancer = Balancer()
        self.ambassador: Ambassador | None = None
        """Answers for the connections instead of the balancer."""
        self._settings = settings
        self._waiting: dict[int, Callable[[], None]] = {}
        """On hold, in the order of their coming; bounded by the number of connections."""
        self.update(route)

    def update(self, route: Route) -> None:
        """Other endpoints or terms of affinity: from the next connection on, and for those on hold at once."""
        self.route = route
        self.balancer.replace(route.targets, route.affinity_timeout_s, self._settings.affinity_entries)
        waiting, self._waiting = self._waiting, {}
        for callback in waiting.values():
            callback()

    def wait(self, who: int, on_change: Callable[[], None]) -> None:
        """Calls back once, at the next change of the endpoints."""
        self._waiting[who] = on_change

    def stop_waiting(self, who: int) -> None:
        """No call any more."""
        self._waiting.pop(who, None)
