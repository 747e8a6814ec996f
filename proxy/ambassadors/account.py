"""A connection with an ambassador as it stands in the books: counters, time-outs, access log, the list of who is there.

The same as of a connection without one; only that it may have had several endpoints, of which the first one counts.
"""

from __future__ import annotations

from proxy.balancer import Target
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.relay import Relay
from proxy.stats import EndpointStats


class Account:
    """The part of an `AmbassadorConnection` that others read. It is in the books from `_enter` to `_gone`."""

    def __init__(self, path: DataPath, frontend: Frontend, address: tuple[str, int], now: float) -> None:
        self._path = path
        self._stats = frontend.stats
        self.frontend = frontend
        """The port that it came to."""
        self.address = address
        """The client's."""
        self.began_at = now
        self.connected_at: float | None = None
        self.first_byte_at: float | None = None
        """Of an endpoint."""
        self.outcome = "closed"
        """How it ended, for the access log."""
        self.target: Target | None = None
        """The endpoint that it was connected to first."""
        self._relay: Relay | None = None
        """Once client and endpoint speak past the ambassador."""
        self._moved_up = self._moved_down = 0
        self._seen_bytes = 0
        self._idle_since = now

    @property
    def bytes_up(self) -> int:
        """To endpoints."""
        return self._moved_up + (0 if self._relay is None else self._relay.bytes_up)

    @property
    def bytes_down(self) -> int:
        """To the client."""
        return self._moved_down + (0 if self._relay is None else self._relay.bytes_down)

    def abort(self) -> None:
        """Ends it now; everybody sees a reset."""
        raise NotImplementedError

    def cut(self, reason: str) -> None:
        """Ends it, since it took too long for something."""
        self.outcome = reason
        self.abort()

    def overdue(self, now: float) -> str:
        """Asked now and then, if its service has time-outs: why it is to be cut; empty if it is not."""
        moved = self.bytes_up + self.bytes_down
        if moved != self._seen_bytes:
            self._seen_bytes = moved
            self._idle_since = now
        return self.frontend.route.timeouts.overdue(
            now, began_at=self.began_at, quiet_since=self._idle_since, has_moved=moved > 0
        )

    def _enter(self) -> None:
        self._path.joined(self)
        self._stats.accepted += 1
        self._stats.active += 1
        if self.frontend.timed is not None:
            self.frontend.timed.add(self)

    def _connected(self, target: Target) -> None:
        """To this endpoint, and perhaps to others before."""
        if self.target is None:
            self.target = target
            self.connected_at = self._path.clock.monotonic()

    def _first_byte(self) -> None:
        """An endpoint has said something, and perhaps not for the first time."""
        if self.first_byte_at is None:
            self.first_byte_at = self._path.clock.monotonic()

    def sent_up(self, count: int, seat: EndpointStats | None) -> None:
        """So many bytes to this endpoint; without one, they wait still, and there are none."""
        if seat is not None:
            seat.up.bytes += count
        self._moved_up += count

    def sent_down(self, count: int) -> None:
        """So many bytes to the client."""
        self._stats.down.bytes += count
        self._moved_down += count

    def _relay_is_over(self) -> None:
        """What it has moved is written down here, and how it ended."""
        relay, self._relay = self._relay, None  # no circle of references: garbage collection has nothing to look for
        if relay is not None:
            self._moved_up += relay.bytes_up
            self._moved_down += relay.bytes_down
            if relay.is_broken and self.outcome == "closed":
                self.outcome = "reset"

    def _gone(self) -> None:
        self._stats.active -= 1
        if self.frontend.timed is not None:
            self.frontend.timed.discard(self)
        if self.frontend.route.access_log:
            self._path.log_access(self)
        self._path.left(self)
