"""A line of JSON for each connection that has ended, of services with `accessLog: true`.

    {"time": "2026-01-02T03:04:05.678Z", "service": "default/web", "port": "http", "client": "127.0.0.1:50312",
     "endpoint": "127.9.16.1:8080", "outcome": "closed", "bytes_up": 78, "bytes_down": 1256,
     "dial_ms": 0.2, "first_byte_ms": 1.9, "duration_ms": 2.3}

`outcome` is how it ended: "closed" in order, "reset", "no-endpoint", "dial" (nobody answered), "limit", "idle",
"first-byte" or "drained" (cut by the proxy). The file is kept below a size; the one before is kept beside it. What
cannot be written is dropped, and never holds a connection up.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from pathlib import Path

from cluster.actor.clock import Clock
from proxy.ambassadors.connection import AmbassadorConnection
from proxy.connection import Connection
from proxy.datapath import Member

MAX_BYTES = 10_000_000
_KEPT = 1

_log = logging.getLogger("podium.proxy.access_log")


class AccessLog:
    """The file is opened when the first line is written."""

    def __init__(self, path: Path, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=max_bytes, backupCount=_KEPT, delay=True, encoding="ascii"
        )
        self._handler.handleError = self._failed  # type: ignore[method-assign]
        self._has_failed = False

    def write(self, member: Member) -> None:
        """A line for this one."""
        if isinstance(member, Connection | AmbassadorConnection):
            line = json.dumps(entry(member, self._clock.wall(), self._clock.monotonic()))
            self._handler.handle(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Twice is fine."""
        self._handler.close()

    def _failed(self, record: logging.LogRecord) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning("the access log cannot be written: %s", self._handler.baseFilename, exc_info=True)


def entry(
    connection: Connection | AmbassadorConnection, wall: float, now: float
) -> dict[str, str | int | float | None]:
    """What is said of a connection that ends now."""
    key = connection.frontend.route.key
    connected_at = connection.connected_at
    first_byte_at = connection.first_byte_at
    return {
        "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "service": str(key.service),
        "port": key.port,
        "client": f"{connection.address[0]}:{connection.address[1]}",
        "endpoint": None if connection.target is None else str(connection.target),
        "outcome": connection.outcome,
        "bytes_up": connection.bytes_up,
        "bytes_down": connection.bytes_down,
        "dial_ms": None if connected_at is None else _ms(connected_at - connection.began_at),
        "first_byte_ms": None if first_byte_at is None or connected_at is None else _ms(first_byte_at - connected_at),
        "duration_ms": _ms(now - connection.began_at),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
