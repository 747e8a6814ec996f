"""What the proxy counts: plain integers on the data path, turned into metrics only when somebody asks (exposition.py).

A labelled Prometheus counter costs more than a system call per increment; an integer costs nothing. Bytes are counted
per endpoint, and those of a port are their sum; so are those of endpoints that are gone, which are kept with the port.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.latency import Latency
from proxy.policies import Target
from proxy.routing import RouteKey


class Meter:
    """Bytes in one direction."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class EndpointStats:
    """One endpoint of one port, since it was first seen there."""

    __slots__ = ("_port", "active", "connections", "dial_failures", "down", "first_byte", "resets", "up")

    def __init__(self, port: PortStats) -> None:
        self._port = port
        self.connections = 0
        self.active = 0
        self.dial_failures = 0
        self.resets = 0
        self.up, self.down = Meter(), Meter()
        self.first_byte = Latency()
        """From the connection to the endpoint's first byte: of a server that answers, how long that took."""

    def broke(self) -> None:
        """A connection broke off."""
        self.resets += 1
        self._port.resets += 1


@dataclass(slots=True)
class PortStats:
    """Counted since the port was first served; `active` is now."""

    accepted: int = 0
    active: int = 0
    """Connections that are held, dialled or relayed; of UDP, flows."""
    held: int = 0
    """Had to wait for an endpoint."""
    dial_failures: int = 0
    """Tries that were refused or timed out; the next endpoint may have answered."""
    gave_up_no_endpoint: int = 0
    gave_up_dial: int = 0
    refused_limit: int = 0
    """Closed at once, since the proxy had as many connections as it may have."""
    resets: int = 0
    """Relayed connections that broke off."""
    timed_out_idle: int = 0
    timed_out_first_byte: int = 0
    drained: int = 0
    """Cut off some time after their endpoint had gone."""
    ejections: int = 0
    """Endpoints left out for failing."""
    up: Meter = field(default_factory=Meter)
    """Of endpoints that are gone, and of connections that have none of their own."""
    down: Meter = field(default_factory=Meter)
    dial: Latency = field(default_factory=Latency)
    """From accept to a connected endpoint: tries and waiting included."""
    duration: Latency = field(default_factory=Latency)
    """Of connections that had an endpoint, from accept to end."""
    first_byte: Latency = field(default_factory=Latency)
    """Of endpoints that are gone."""
    endpoints: dict[Target, EndpointStats] = field(default_factory=dict)
    ejected: frozenset[Target] = frozenset()
    unhealthy: frozenset[Target] = frozenset()

    @property
    def bytes_to_endpoints(self) -> int:
        """In all."""
        return self.up.bytes + sum(endpoint.up.bytes for endpoint in self.endpoints.values())

    @property
    def bytes_to_clients(self) -> int:
        """In all."""
        return self.down.bytes + sum(endpoint.down.bytes for endpoint in self.endpoints.values())

    def broke(self) -> None:
        """A connection broke off."""
        self.resets += 1

    def endpoint(self, target: Target) -> EndpointStats:
        """The counters of an endpoint; new ones, if it was not seen yet."""
        found = self.endpoints.get(target)
        if found is None:
            found = self.endpoints[target] = EndpointStats(self)
        return found

    def forget_endpoints(self, present: frozenset[Target]) -> None:
        """Of those who are gone and have no connection any more, only the sums are kept."""
        for target in [target for target in self.endpoints if target not in present]:
            gone = self.endpoints[target]
            if gone.active == 0:
                self.up.bytes += gone.up.bytes
                self.down.bytes += gone.down.bytes
                self.first_byte.add(gone.first_byte)
                del self.endpoints[target]


@dataclass(slots=True, eq=False)
class Stats:
    """All counters of a proxy. Of a port that is gone, they are kept until its last connection is."""

    ports: dict[RouteKey, PortStats] = field(default_factory=dict)
    listeners: int = 0
    connections_limit: int = 0
    accept_pauses: int = 0
    """Times that accepting had to rest because descriptors ran out."""
    _gone: set[RouteKey] = field(default_factory=set)

    def of(self, key: RouteKey) -> PortStats:
        """The counters of a port; its old ones if it comes back while connections of it live."""
        self._gone.discard(key)
        return self.ports.setdefault(key, PortStats())

    def forget(self, key: RouteKey) -> None:
        """The port is gone."""
        self._gone.add(key)
        self.sweep()

    def sweep(self) -> None:
        """Drops what nobody needs any more."""
        for key in [key for key in self._gone if key not in self.ports or self.ports[key].active == 0]:
            self.ports.pop(key, None)
            self._gone.discard(key)
