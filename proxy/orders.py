"""What the proxy tells its workers, and what they answer (see wire.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cluster.api.meta import Key
from proxy.routing import Route, RouteKey
from proxy.stats import Stats


@dataclass(frozen=True, slots=True)
class Open:
    """Serve this route, with the sockets that come with it."""

    route: Route


@dataclass(frozen=True, slots=True)
class Update:
    """The route is now this."""

    route: Route


@dataclass(frozen=True, slots=True)
class Close:
    """Serve it no more."""

    key: RouteKey


@dataclass(frozen=True, slots=True)
class Node:
    """The node is now this; None: gone."""

    name: str
    node: bytes | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong on purpose, at these addresses if it is about some only; None: no longer."""

    key: Key
    fault: bytes | None
    ips: frozenset[str]


@dataclass(frozen=True, slots=True)
class Told:
    """A worker has something to say about the service of a port: type, reason and message of an event."""

    key: RouteKey
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class StopAccepting:
    """Let connections finish; say `Counted` when the last one has, and go on counting."""


@dataclass(frozen=True, slots=True)
class Report:
    """Count now; when the answer comes, all orders before have been carried out."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The worker's answer, at intervals: all its counters, and how many connections it has."""

    stats: Stats
    connections: int
    was_asked: bool = False


Order = Open | Update | Close | Node | Fault | StopAccepting | Report
