"""What the master is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES, Profile
from cluster.master.pools import PodBlocks, ServiceAddresses
from cluster.rpc.etcd import parse_etcd_url
from cluster.store.history import Window
from cluster.store.store import StoreSettings

_EVERYWHERE = ("", "0.0.0.0", "[::]", "*")


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """Flags of `python -m cluster master`; see there for their words."""

    listen: str
    """Address to serve at, "host:port"."""
    dir: Path
    """Where the store is; made if it is missing, readable by the owner only."""
    credentials: Path
    """Directory with ca.crt, tls.crt and tls.key of the identity `master`."""
    profile: str = "laptop"
    """Which row of the table of timers."""
    service_cidr: str = "127.1.0.0/20"
    """Addresses of services; the first 256 are left to the daemons."""
    pod_cidr_base: str = "127.1.16.0"
    """Where the blocks of addresses for pods begin, one block per node, up to the end of its /16."""
    stop_grace_s: float = 1.0
    """How long calls may take to finish when the master stops."""
    ring_changes: int = 50_000
    """Changes kept in memory, for watchers and pages of lists; older ones are read from disk."""
    ring_bytes: int = 16 * 1024 * 1024
    """And at most about this much memory for them."""
    history_revisions: int = 50_000
    """Revisions kept on disk to watch and list from ..."""
    history_age_s: float = 24 * 3600.0
    """... but none older than this."""
    history_slack: int = 1_000
    """Forgetting waits until it is worth while: this many revisions beyond them."""
    compact_interval_s: float = 30.0
    """How often it is looked at."""
    ballast_bytes: int = 8 * 1024 * 1024
    """Kept free on the disk of the store, so that deleting works when it is full."""
    store_url: str = ""
    """Where the store is, if not in `dir`: "etcd://host:port,host:port/prefix"."""
    etcd_credentials: Path | None = None
    """Directory with ca.crt, and tls.crt and tls.key, for etcd; None: no TLS."""
    advertise: str = ""
    """Where other masters reach this one, "host:port"; empty: where it serves."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f'profile: "{self.profile}" is not one of {", ".join(PROFILES)}')
        try:
            ServiceAddresses(self.service_network)
        except ValueError as error:
            raise ConfigError(f"service_cidr: {error}") from error
        try:
            PodBlocks(self.pod_base)
        except ValueError as error:
            raise ConfigError(f"pod_cidr_base: {error}") from error
        if self.store_url:
            try:
                parse_etcd_url(self.store_url)
            except ValueError as error:
                raise ConfigError(f"store: {error}") from error
            if not self.advertise and self.listen.rpartition(":")[0] in _EVERYWHERE:
                raise ConfigError(f"advertise: is needed, for other masters cannot call {self.listen}")
        elif self.etcd_credentials is not None:
            raise ConfigError("etcd_credentials: the store is not in etcd")

    @property
    def service_network(self) -> IPv4Network:
        """`service_cidr`, read."""
        return IPv4Network(self.service_cidr)

    @property
    def pod_base(self) -> IPv4Address:
        """`pod_cidr_base`, read."""
        return IPv4Address(self.pod_cidr_base)

    @property
    def timers(self) -> Profile:
        """The row of the table of timers."""
        return PROFILES[self.profile]

    @property
    def store(self) -> StoreSettings:
        """The limits of the store."""
        return StoreSettings(
            ring_changes=self.ring_changes,
            ring_bytes=self.ring_bytes,
            bookmark_interval_s=self.timers.bookmark_interval_s,
            compact_interval_s=self.compact_interval_s,
            window=Window(revisions=self.history_revisions, age_s=self.history_age_s, slack=self.history_slack),
        )
