"""What can be set about the DNS server, with the reasons for the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from cluster.api.resolv_conf import parse_resolv_conf
from cluster.config.addresses import parse_masters
from cluster.config.errors import ConfigError
from proxy.dns.labels import to_name
from proxy.dns.zone import PodNames

DOMAIN = "cluster.local"
PORT = 53
MAX_UPSTREAMS = 8


class Server(NamedTuple):
    """Where a DNS server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """The flags of `python -m proxy.dns`."""

    master: str
    """host:port of the master; of several with commas between."""
    credentials: Path
    """Directory with ca.crt, tls.crt, tls.key."""
    listen: str
    """host:port, a loopback address of the cluster's block; UDP and TCP."""
    cluster_domain: str = DOMAIN
    """What all names end with; Kubernetes' default."""
    ttl_s: int = 5
    """How long clients may remember an answer; CoreDNS' default. 0: not at all."""
    pod_names: PodNames = "insecure"
    """Which names of pods are answered (see `proxy.dns.zone`); to verify them costs a watch of all pods."""
    upstream: tuple[str, ...] = ()
    """Who is asked for names that are not the cluster's: HOST[:PORT], or the path of a resolv.conf. None: nobody."""
    upstream_timeout_s: float = 2.0
    """How long one try may take; there are two."""
    max_connections: int = 200
    """TCP, at a time; further ones are closed at once."""
    idle_s: float = 10.0
    """How long a TCP connection may say nothing (RFC 7766: some seconds)."""
    metrics_socket: Path | None = None
    """Unix socket that serves metrics and health; none: not served."""
    profile: Literal["laptop", "kubernetes", "test"] = "laptop"
    """Timers; of them the server uses none, and takes the word as all daemons do."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        parse_masters(self.master)
        address = parse_server(self.listen, "listen")
        if not address.host.startswith("127."):
            raise ConfigError(f"listen: {address.host} is no address of 127.0.0.0/8, and only those are listened on")
        check_domain(self.cluster_domain)
        if not 0 <= self.ttl_s <= 3600:
            raise ConfigError(f"ttl-s is {self.ttl_s}, but must be from 0 to 3600")
        if self.upstream_timeout_s <= 0 or self.idle_s <= 0 or self.max_connections < 1:
            raise ConfigError("upstream-timeout-s, idle-s and max-connections must be greater than 0")
        for text in self.upstream:
            check_upstream(text)

    @property
    def address(self) -> Server:
        """Where to listen."""
        return parse_server(self.listen, "listen")

    def upstreams(self) -> tuple[Server, ...]:
        """Who is asked, in this order. Raises ConfigError: a file cannot be read, or it would be ourselves."""
        found: list[Server] = []
        for text in self.upstream:
            found += _named_in(Path(text)) if text.startswith("/") else [parse_server(text, "upstream")]
        if self.address in found:
            raise ConfigError(f"upstream: {self.address} is this server itself: it would ask itself for ever")
        return tuple(dict.fromkeys(found))[:MAX_UPSTREAMS]


def check_domain(text: str) -> None:
    """Raises ConfigError for what cannot be the domain of a cluster."""
    try:
        longest = to_name(f"{'x' * 63}.{'x' * 63}.svc.{text}")
    except ValueError as error:
        raise ConfigError(f"cluster-domain: {error}") from error
    if text != text.lower() or text.endswith(".") or len(longest) < 140 or not text:
        raise ConfigError(f'cluster-domain is "{text}", but must be lower-case labels with dots between: cluster.local')


def check_upstream(text: str) -> None:
    """Raises ConfigError for what names no DNS server."""
    if text.startswith("/"):
        _named_in(Path(text))
    else:
        parse_server(text, "upstream")


def parse_server(text: str, what: str) -> Server:
    """HOST[:PORT], [V6]:PORT; the port is 53 if none is given. Raises ConfigError."""
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(f'"{port}" is not a port')
        return Server(str(ip_address(host)), int(port))
    except ValueError as error:
        raise ConfigError(f'{what} is "{text}", but must be ADDRESS or ADDRESS:PORT: {error}') from error


def _named_in(path: Path) -> list[Server]:
    """The nameservers of a resolv.conf; link-local ones, which need an interface, are left out."""
    try:
        names = parse_resolv_conf(path.read_text(errors="replace")).nameservers
    except OSError as error:
        raise ConfigError(f"upstream: {path}: {error.strerror}") from error
    servers = [Server(name, PORT) for name in names if "%" not in name]
    if not servers:
        raise ConfigError(f"upstream: {path} names no server")
    return [parse_server(f"[{server.host}]:{server.port}", "upstream") for server in servers]
