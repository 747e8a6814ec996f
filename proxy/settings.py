"""What can be set about a proxy, with the reasons for the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.dialing import DIAL_TIMEOUTS_S


@dataclass(frozen=True, slots=True)
class DataPathSettings:
    """How connections are treated."""

    hold_s: float = 1.0
    """How long a connection waits for a ready endpoint before it is closed: a restart is no error to the client."""
    dial_timeouts_s: tuple[float, ...] = DIAL_TIMEOUTS_S
    """How long each try to reach an endpoint may take; Kubernetes' values."""
    affinity_entries: int = 10_000
    """Clients remembered per service port with session affinity; the one longest away is forgotten first."""
    max_connections: int = 0
    """At a time; 0: as many as the limit of open files allows."""
    backlog: int = 1024
    """Connections that the kernel keeps until they are accepted, per address."""
    bind_retry_max_s: float = 10.0
    """The longest pause between tries to listen on an address that is taken."""
    drain_s: float = 5.0
    """How long connections may go on after a stop; those that are left are reset."""
