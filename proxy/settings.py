"""What can be set about a proxy, with the reasons for the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.actor.supervisor import STOP_TIMEOUT_S
from cluster.config.addresses import parse_masters
from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES
from proxy.dialing import DIAL_TIMEOUTS_S

HOLD_S = 1.0
MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class DataPathSettings:
    """How connections are treated."""

    hold_s: float = HOLD_S
    """How long a connection waits for a ready endpoint before it is closed: a restart is no error to the client."""
    dial_timeouts_s: tuple[float, ...] = DIAL_TIMEOUTS_S
    """How long each try to reach an endpoint may take; Kubernetes' values."""
    affinity_entries: int = 10_000
    """Clients remembered per service port with session affinity; the one longest away is forgotten first."""
    max_connections: int = 0
    """At a time; 0: as many as the limit of open files allows."""
    backlog: int = 1024
    """Connections that the kernel keeps until they are accepted, per address."""
    udp_flows: int = 4096
    """Clients of a UDP port at a time; one more takes the place of the one that was silent longest."""
    bind_retry_max_s: float = 10.0
    """The longest pause between tries to listen on an address that is taken."""
    drain_s: float = 5.0
    """How long connections may go on after a stop; those that are left are reset."""
    policies: Path | None = None
    """Directory with the user's policies for ambassadors; none: the built-in ones only."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The flags of `python -m proxy`."""

    master: str
    """host:port of the master; of several with commas between."""
    credentials: Path
    """Directory with ca.crt, tls.crt, tls.key."""
    profile: Literal["laptop", "kubernetes", "test"] = "laptop"
    """Timers; of them the proxy uses the grace of a stop, for connections that want to finish."""
    workers: int = 1
    """Processes that carry connections. 1: this one does; more: as many others, and this one tells them what to do."""
    metrics_socket: Path | None = None
    """Unix socket that serves metrics and health; none: not served."""
    handover_socket: Path | None = None
    """Unix socket at which a successor gets the listening sockets; whoever starts with the same one takes over."""
    finish_s: float = 600.0
    """How long connections may go on when a successor has taken over; Envoy's."""
    access_log: Path | None = None
    """File for the lines of services with `accessLog`; none: they are not written."""
    hold_s: float = HOLD_S
    max_connections: int = 0
    policies: Path | None = None
    """Directory with policies for ambassadors, as module:Class names them."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        parse_masters(self.master)
        if self.policies is not None and not self.policies.is_dir():
            raise ConfigError(f"policies: {self.policies} is not a directory")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"workers: {self.workers} is not between 1 and {MAX_WORKERS}")

    def data_path(self) -> DataPathSettings:
        """What the connections need of it."""
        # The supervisor waits only so long for a child to stop.
        drain_s = min(PROFILES[self.profile].stop_grace_s, STOP_TIMEOUT_S - 1)
        return DataPathSettings(
            hold_s=self.hold_s, max_connections=self.max_connections, drain_s=drain_s, policies=self.policies
        )
