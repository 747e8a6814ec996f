"""What the proxy counts: plain integers on the data path, turned into metrics only when somebody asks.

A labelled Prometheus counter costs more than a system call per increment; an integer costs nothing, and the exposition
format is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.routing import RouteKey

_LABELS = ("namespace", "service", "port")
_COUNTERS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("connections", "Connections accepted.", "", {"accepted": ""}),
    ("connections_held", "Connections that waited for an endpoint.", "", {"held": ""}),
    ("dial_failures", "Tries that an endpoint refused or did not answer in time.", "", {"dial_failures": ""}),
    ("resets", "Connections that broke off.", "", {"resets": ""}),
    (
        "connections_refused",
        "Connections closed without having reached an endpoint.",
        "reason",
        {"refused_limit": "limit", "gave_up_no_endpoint": "no-endpoint", "gave_up_dial": "dial"},
    ),
    (
        "bytes",
        "Bytes relayed.",
        "direction",
        {"bytes_to_endpoints": "to-endpoints", "bytes_to_clients": "to-clients"},
    ),
)
"""Name, help, further label, and which attribute of PortStats counts under which value of that label."""


@dataclass(slots=True)
class PortStats:
    """Counted since the port was first served; `active` is now."""

    accepted: int = 0
    active: int = 0
    """Connections that are held, dialled or relayed."""
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
    bytes_to_endpoints: int = 0
    bytes_to_clients: int = 0


@dataclass(slots=True, eq=False)
class Stats(Collector):
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
        self._sweep()

    def _sweep(self) -> None:
        for key in [key for key in self._gone if key not in self.ports or self.ports[key].active == 0]:
            self.ports.pop(key, None)
            self._gone.discard(key)

    def collect(self) -> Iterator[Metric]:
        """The counters as Prometheus knows them; this is what makes it a collector."""
        self._sweep()
        yield GaugeMetricFamily("podium_proxy_listeners", "Addresses that the proxy listens on.", self.listeners)
        yield GaugeMetricFamily(
            "podium_proxy_connections_limit", "Connections that the proxy takes at a time.", self.connections_limit
        )
        yield CounterMetricFamily(
            "podium_proxy_accept_pauses", "Times that accepting rested for want of descriptors.", self.accept_pauses
        )
        active = GaugeMetricFamily("podium_proxy_connections_active", "Connections now.", labels=_LABELS)
        for key, port in self.ports.items():
            active.add_metric(_values(key), port.active)
        yield active
        for name, text, label, attributes in _COUNTERS:
            counter = CounterMetricFamily(f"podium_proxy_{name}", text, labels=(*_LABELS, label) if label else _LABELS)
            for key, port in self.ports.items():
                for attribute, value in attributes.items():
                    counter.add_metric((*_values(key), value) if label else _values(key), getattr(port, attribute))
            yield counter


def _values(key: RouteKey) -> tuple[str, ...]:
    return (key.service.namespace, key.service.name, key.port)
