"""How long a service's connections may take for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UDP_IDLE_S = 0.25
"""Kubernetes' userspace proxy's."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds; None: for as long as they like."""

    connect_s: float | None = None
    """To reach an endpoint, all tries together; None: the proxy's own tries."""
    idle_s: float | None = None
    first_byte_s: float | None = None
    drain_s: float | None = None
    udp_idle_s: float = UDP_IDLE_S

    @property
    def watched(self) -> bool:
        """Somebody has to look at the connections now and then."""
        return self.idle_s is not None or self.first_byte_s is not None

    def overdue(self, now: float, *, began_at: float, quiet_since: float, has_moved: bool) -> str:
        """Why a connection is to be cut: "idle" or "first-byte"; empty if it is not. `has_moved`: a byte, ever."""
        if self.idle_s is not None and now - quiet_since >= self.idle_s:
            return "idle"
        if not has_moved and self.first_byte_s is not None and now - began_at >= self.first_byte_s:
            return "first-byte"
        return ""

    def tries_s(self, ordinary: Sequence[float]) -> tuple[float, ...]:
        """The time-outs of the tries to reach an endpoint: the ordinary ones, cut or continued to fit.

        Continued means doubled each time: 10 s are 0.25, 0.5, 1, 2, 4 and 2.25.
        """
        if self.connect_s is None:
            return tuple(ordinary)
        tries: list[float] = []
        left_s, next_s = self.connect_s, 0.0
        while left_s > 0:
            next_s = ordinary[len(tries)] if len(tries) < len(ordinary) else (next_s * 2 or left_s)
            tries.append(min(next_s, left_s))
            left_s -= tries[-1]
        return tuple(tries)
