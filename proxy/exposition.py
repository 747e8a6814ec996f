"""The proxy's counters as Prometheus knows them: what to register with `Metrics`.

Several workers count each for itself; what is asked for here is their sum (workers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.latency import Latency
from proxy.routing import RouteKey
from proxy.stats import PortStats, Stats

_LABELS = ("namespace", "service", "port")
_COUNTERS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("connections", "Connections accepted.", "", {"accepted": ""}),
    ("connections_held", "Connections that waited for an endpoint.", "", {"held": ""}),
    ("dial_failures", "Tries that an endpoint refused or did not answer in time.", "", {"dial_failures": ""}),
    ("resets", "Connections that broke off.", "", {"resets": ""}),
    ("ejections", "Endpoints left out for failing to answer.", "", {"ejections": ""}),
    (
        "connections_refused",
        "Connections closed without having reached an endpoint.",
        "reason",
        {"refused_limit": "limit", "gave_up_no_endpoint": "no-endpoint", "gave_up_dial": "dial"},
    ),
    (
        "connections_cut",
        "Connections ended by the proxy.",
        "reason",
        {"timed_out_idle": "idle", "timed_out_first_byte": "first-byte", "drained": "drained"},
    ),
    (
        "bytes",
        "Bytes relayed.",
        "direction",
        {"bytes_to_endpoints": "to-endpoints", "bytes_to_clients": "to-clients"},
    ),
)
"""Name, help, further label, and which attribute of PortStats counts under which value of that label."""


class Exposition(Collector):
    """Asks for the counters at each scrape."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """This is what makes it a collector."""
        stats = self._stats()
        stats.sweep()
        yield GaugeMetricFamily("podium_proxy_listeners", "Addresses that the proxy listens on.", stats.listeners)
        yield GaugeMetricFamily(
            "podium_proxy_connections_limit", "Connections that the proxy takes at a time.", stats.connections_limit
        )
        yield CounterMetricFamily(
            "podium_proxy_accept_pauses", "Times that accepting rested for want of descriptors.", stats.accept_pauses
        )
        active = GaugeMetricFamily("podium_proxy_connections_active", "Connections now.", labels=_LABELS)
        for key, port in stats.ports.items():
            active.add_metric(_values(key), port.active)
        yield active
        for name, text, label, attributes in _COUNTERS:
            counter = CounterMetricFamily(f"podium_proxy_{name}", text, labels=(*_LABELS, label) if label else _LABELS)
            for key, port in stats.ports.items():
                for attribute, value in attributes.items():
                    counter.add_metric((*_values(key), value) if label else _values(key), getattr(port, attribute))
            yield counter
        yield _histogram(stats, "dial_seconds", "From accept to a connected endpoint.", lambda port: port.dial)
        yield _histogram(stats, "connection_seconds", "From accept to the end.", lambda port: port.duration)
        yield _histogram(stats, "first_byte_seconds", "From connected to the endpoint's first byte.", _first_byte)
        yield from _endpoints(stats)


def _histogram(stats: Stats, name: str, text: str, of: Callable[[PortStats], Latency]) -> Metric:
    family = HistogramMetricFamily(f"podium_proxy_{name}", text, labels=_LABELS)
    for key, port in stats.ports.items():
        latency = of(port)
        family.add_metric(_values(key), latency.buckets(), latency.sum_s)
    return family


def _first_byte(port: PortStats) -> Latency:
    total = Latency()
    total.add(port.first_byte)
    for endpoint in port.endpoints.values():
        total.add(endpoint.first_byte)
    return total


def _endpoints(stats: Stats) -> Iterator[Metric]:
    labels = (*_LABELS, "endpoint")
    prefix = "podium_proxy_endpoint"
    active = GaugeMetricFamily(f"{prefix}_connections_active", "Connections to the endpoint now.", labels=labels)
    fit = GaugeMetricFamily(f"{prefix}_fit", "1: gets connections; 0: ejected or unhealthy.", labels=labels)
    connections = CounterMetricFamily(f"{prefix}_connections", "Connections to the endpoint.", labels=labels)
    failures = CounterMetricFamily(f"{prefix}_dial_failures", "Tries that it did not answer.", labels=labels)
    moved = CounterMetricFamily(f"{prefix}_bytes", "Bytes relayed.", labels=(*labels, "direction"))
    waited = CounterMetricFamily(f"{prefix}_first_byte_seconds", "Sum of the times to its first byte.", labels=labels)
    answered = CounterMetricFamily(f"{prefix}_first_bytes", "Connections on which it said something.", labels=labels)
    for key, port in stats.ports.items():
        unfit = port.ejected | port.unhealthy
        for target, endpoint in port.endpoints.items():
            values = (*_values(key), str(target))
            active.add_metric(values, endpoint.active)
            fit.add_metric(values, target not in unfit)
            connections.add_metric(values, endpoint.connections)
            failures.add_metric(values, endpoint.dial_failures)
            moved.add_metric((*values, "to-endpoints"), endpoint.up.bytes)
            moved.add_metric((*values, "to-clients"), endpoint.down.bytes)
            waited.add_metric(values, endpoint.first_byte.sum_s)
            answered.add_metric(values, endpoint.first_byte.count)
    yield from (active, fit, connections, failures, moved, waited, answered)


def _values(key: RouteKey) -> tuple[str, ...]:
    return (key.service.namespace, key.service.name, key.port)
