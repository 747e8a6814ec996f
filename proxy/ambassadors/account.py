"""What is known of a connection with an ambassador by those who look after connections: time-outs, access log, drain.

The same as of a connection without one; only that it may have had several endpoints, of which the first one counts.
"""

from __future__ import annotations

from proxy.balancer import Target
from proxy.frontend import Frontend
from proxy.relay import Relay


class Account:
    """The part of an `AmbassadorConnection` that others read."""

    def __init__(self, frontend: Frontend, address: tuple[str, int], now: float) -> None:
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
        timeouts = self.frontend.route.timeouts
        moved = self.bytes_up + self.bytes_down
        if moved != self._seen_bytes:
            self._seen_bytes = moved
            self._idle_since = now
        if timeouts.idle_s is not None and now - self._idle_since >= timeouts.idle_s:
            return "idle"
        if not moved and timeouts.first_byte_s is not None and now - self.began_at >= timeouts.first_byte_s:
            return "first-byte"
        return ""

    def _settle_account(self, relay: Relay | None) -> None:
        """The relay, if there was one, has ended."""
        if relay is not None:
            self._moved_up += relay.bytes_up
            self._moved_down += relay.bytes_down
            if relay.is_broken and self.outcome == "closed":
                self.outcome = "reset"
