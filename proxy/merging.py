"""The counters of several workers as one."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.stats import EndpointStats, PortStats, Stats

_SUMS = (
    *("accepted", "held", "dial_failures", "gave_up_no_endpoint", "gave_up_dial", "refused_limit", "resets"),
    *("timed_out_idle", "timed_out_first_byte", "drained", "ejections"),
)


def merged(parts: Iterable[Stats], *, live: bool = True) -> Stats:
    """Sums; of listeners, which all have, the most. Not `live`: what is counted now (connections, listeners) is left
    out, since those who counted have ended. An endpoint is ejected or unhealthy if one of them says so."""
    total = Stats()
    for part in parts:
        total.accept_pauses += part.accept_pauses
        if live:
            total.listeners = max(total.listeners, part.listeners)
            total.connections_limit += part.connections_limit
        for key, port in part.ports.items():
            _add_port(total.of(key), port, live=live)
    return total


def _add_port(total: PortStats, port: PortStats, *, live: bool) -> None:
    for name in _SUMS:
        setattr(total, name, getattr(total, name) + getattr(port, name))
    total.up.bytes += port.up.bytes
    total.down.bytes += port.down.bytes
    for mine, theirs in ((total.dial, port.dial), (total.duration, port.duration), (total.first_byte, port.first_byte)):
        mine.add(theirs)
    if live:
        total.active += port.active
        total.ejected |= port.ejected
        total.unhealthy |= port.unhealthy
    for target, endpoint in port.endpoints.items():
        _add_endpoint(total.endpoint(target), endpoint, live=live)


def _add_endpoint(total: EndpointStats, endpoint: EndpointStats, *, live: bool) -> None:
    total.connections += endpoint.connections
    total.dial_failures += endpoint.dial_failures
    total.resets += endpoint.resets
    total.up.bytes += endpoint.up.bytes
    total.down.bytes += endpoint.down.bytes
    total.first_byte.add(endpoint.first_byte)
    if live:
        total.active += endpoint.active
