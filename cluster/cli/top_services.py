"""`podium top services`: what goes through the proxy, service by service or endpoint by endpoint.

The proxy counts; its counters are read twice, an interval apart, from the socket that serves its metrics, so this works
on the machine of the cluster only. Rates are of the interval, latencies too: the mean time to an endpoint's first byte.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "podium_proxy_"
_SAMPLE = re.compile(r"^([a-z_]+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_TIMEOUT_S = 5.0
_LIMIT_BYTES = 64 << 20

Place = tuple[str, str, str, str]
"""Namespace, service, port, endpoint; an empty endpoint means all of them."""


@dataclass(slots=True)
class Counters:
    """Of a port or an endpoint, since the proxy began."""

    connections: float = 0
    active: float = 0
    bytes_up: float = 0
    bytes_down: float = 0
    dial_failures: float = 0
    first_byte_s: float = 0
    first_bytes: float = 0
    is_fit: bool = True
    refused: float = 0


@dataclass(slots=True)
class Reading:
    """What the proxy said at one moment."""

    of: dict[Place, Counters] = field(default_factory=lambda: defaultdict(Counters))


def read(text: str) -> Reading:
    """Prometheus' text format, as far as it is about services."""
    reading = Reading()
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is None or not found.group(1).startswith(PREFIX):
            continue
        labels = {
            name: value.replace(r"\"", '"').replace(r"\\", "\\") for name, value in _LABEL.findall(found.group(2))
        }
        if "service" in labels:
            _add(reading, found.group(1).removeprefix(PREFIX), labels, float(found.group(3)))
    return reading


def _add(reading: Reading, name: str, labels: Mapping[str, str], value: float) -> None:
    place = (labels["namespace"], labels["service"], labels["port"], labels.get("endpoint", ""))
    counters = reading.of[place]
    match name.removeprefix("endpoint_"):
        case "connections_total":
            counters.connections = value
        case "connections_active":
            counters.active = value
        case "connections_refused_total":
            counters.refused += value
        case "bytes_total" if labels["direction"] == "to-endpoints":
            counters.bytes_up = value
        case "bytes_total":
            counters.bytes_down = value
        case "dial_failures_total":
            counters.dial_failures = value
        case "first_byte_seconds_sum" | "first_byte_seconds_total":
            counters.first_byte_s = value
        case "first_byte_seconds_count" | "first_bytes_total":
            counters.first_bytes = value
        case "fit":
            counters.is_fit = value > 0


def rows(before: Reading, after: Reading, seconds: float, *, namespace: str, by_endpoint: bool) -> list[list[str]]:
    """A table with its heading; namespace "" means all, each then named. The busiest come first."""
    head = ["NAMESPACE"] if not namespace else []
    what = ["NAME", "PORT", *(["ENDPOINT"] if by_endpoint else [])]
    last = "STATE" if by_endpoint else "REFUSED"
    table = [[*head, *what, "ACTIVE", "CONN/s", "IN/s", "OUT/s", "FIRST-BYTE", "DIAL-FAILURES", last]]
    places = [place for place in after.of if bool(place[3]) == by_endpoint and namespace in ("", place[0])]
    for place in sorted(places, key=lambda place: (-_busy(before, after, place), place)):
        now, then = after.of[place], before.of.get(place, Counters())
        answered = now.first_bytes - then.first_bytes
        waited = (now.first_byte_s - then.first_byte_s) / answered if answered > 0 else None
        table.append(
            [
                *([place[0]] if not namespace else []),
                *(place[1], place[2], *([place[3]] if by_endpoint else [])),
                f"{now.active:.0f}",
                f"{(now.connections - then.connections) / seconds:.1f}",
                _size((now.bytes_up - then.bytes_up) / seconds),
                _size((now.bytes_down - then.bytes_down) / seconds),
                "-" if waited is None else f"{1000 * waited:.1f}ms",
                f"{now.dial_failures:.0f}",
                ("fit" if now.is_fit else "left out") if by_endpoint else f"{now.refused:.0f}",
            ]
        )
    return table


def _busy(before: Reading, after: Reading, place: Place) -> float:
    now, then = after.of[place], before.of.get(place, Counters())
    return now.bytes_up + now.bytes_down - then.bytes_up - then.bytes_down + now.connections - then.connections


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}GiB"


async def fetch(socket: Path) -> str:
    """The proxy's metrics. Raises OSError or TimeoutError if it does not answer."""
    import asyncio
    import os

    directory = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            # AF_UNIX paths end at 107 bytes; through the open directory any path is short.
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{socket.name}")
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await reader.read(_LIMIT_BYTES)
                while more := await reader.read(_LIMIT_BYTES):
                    answer += more
            finally:
                writer.close()
    finally:
        os.close(directory)
    return answer.partition(b"\r\n\r\n")[2].decode()
