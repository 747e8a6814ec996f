"""Where an etcd is, as its user writes it: etcd://HOST:PORT,HOST:PORT,.../PREFIX.

The port may be left out (2379), and so may the prefix. Whether TLS is spoken depends on whether there are credentials,
not on the name of the scheme. User names and passwords are refused: certificates say who is calling. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

SCHEME = "etcd://"
DEFAULT_PORT = 2379

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.-]+)+")


@dataclass(frozen=True, slots=True)
class EtcdUrl:
    """A parsed URL."""

    endpoints: tuple[str, ...]
    """Each "host:port", or "[v6]:port"; in the order in which they were written, at least one."""
    prefix: str
    """Like "/podium/demo/": begins and ends with a slash. Empty: none was given."""

    def __str__(self) -> str:
        return f"{SCHEME}{','.join(self.endpoints)}{self.prefix.rstrip('/')}"


def parse_etcd_url(text: str) -> EtcdUrl:
    """From "etcd://a:2379,b,c/prefix". Raises ValueError that names the part and says what is allowed."""
    if not text.startswith(SCHEME):
        scheme = text.partition("://")[0] if "://" in text else ""
        hint = "; TLS is chosen by credentials, not by the scheme" if scheme in ("http", "https", "etcds") else ""
        raise ValueError(f"{text!r} does not begin with {SCHEME}{hint}")
    hosts, slash, path = text.removeprefix(SCHEME).partition("/")
    for sign, what in (("?", "options"), ("#", "a fragment")):
        if sign in text:
            raise ValueError(f"{text!r} has {what} ({sign!r}); there are none")
    if "@" in hosts:
        raise ValueError("a user name or password of etcd is not supported; identify by a certificate instead")
    endpoints: list[str] = []
    for part in hosts.split(","):
        endpoint = _endpoint(part, text)
        if endpoint in endpoints:
            raise ValueError(f"{text!r} names {endpoint} twice")
        endpoints.append(endpoint)
    path = path.rstrip("/")
    if slash and path and not _PREFIX.fullmatch(f"/{path}"):
        raise ValueError(f'the prefix of {text!r} is not made of letters, digits, "-", "_", "." between single slashes')
    return EtcdUrl(tuple(endpoints), f"/{path}/" if path else "")


def _endpoint(part: str, text: str) -> str:
    if not part:
        raise ValueError(f"{text!r} names an empty host; it is {SCHEME}HOST:PORT,HOST:PORT/PREFIX")
    if part.startswith("["):
        host, bracket, port = part[1:].partition("]")
        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise ValueError(f"{part!r} is not an IPv6 address in brackets") from None
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{part!r} is not [ADDRESS]:PORT")
        port = port[1:] if port else str(DEFAULT_PORT)
    else:
        if part.count(":") > 1:
            raise ValueError(f"{part!r} is not HOST:PORT; an IPv6 address stands in brackets: [::1]:2379")
        host, colon, port = part.partition(":")
        port = port if colon else str(DEFAULT_PORT)
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not a name or an address of a host")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{part!r} has no port between 1 and 65535")
    return f"{host}:{int(port)}"


def is_loopback(endpoint: str) -> bool:
    """Does "host:port" stay on this machine, by what it says? Names other than localhost are not looked up."""
    host = endpoint.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_about_plaintext(endpoints: Sequence[str]) -> list[str]:
    """What to tell a user who gave no credentials: nothing, if all endpoints are on this machine."""
    far = [endpoint for endpoint in endpoints if not is_loopback(endpoint)]
    if not far:
        return []
    warning = (
        f"the connections to etcd at {', '.join(far)} are not encrypted, and whoever reaches it may change "
        "everything in this cluster; give it TLS and pass --etcd-credentials"
    )
    return [warning]
