"""Functions of Kubernetes' that the library for CEL has not: of addresses, URLs and formats. As in `library.py`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from cluster.api.formats import TEXTS, accepted_by
from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.names import dns1035_label_problems, dns1123_label_problems, dns1123_subdomain_problems

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

# --- addresses


def _address(text: str) -> _Address:
    found = ipaddress.ip_address(text)
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise ValueError(f"IP Address {text!r} with zone value is not allowed")
        if found.ipv4_mapped is not None:
            raise ValueError(f"IPv4-mapped IPv6 address {text!r} is not allowed")
    return found


def _network(text: str) -> tuple[_Address, _Network]:
    """The address that a text says, and the network that it is in."""
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or (len(length) > 1 and length[0] == "0"):
        raise ValueError(f"network address parse error during conversion from string: {text!r}")
    return _address(address), ipaddress.ip_network(text, strict=False)


def ip(text: str) -> str:
    """The address that a text says. Raises ValueError."""
    return str(_address(text))


is_ip = accepted_by(ip)


def is_canonical(text: str) -> bool:
    """Whether an address is written as everybody should write it. Raises ValueError if it is none."""
    return str(_address(text)) == text


def family(address: str) -> int:
    """4 or 6."""
    return _address(address).version


def is_unspecified(address: str) -> bool:
    """It is 0.0.0.0 or ::."""
    return _address(address).is_unspecified


def is_loopback(address: str) -> bool:
    """It is the host itself."""
    return _address(address).is_loopback


def is_link_local_multicast(address: str) -> bool:
    """It is a group of the link: 224.0.0.0/24, or ff02::/16."""
    found = _address(address)
    if isinstance(found, IPv4Address):
        return found.packed[:3] == b"\xe0\x00\x00"
    return found.packed[0] == 0xFF and found.packed[1] & 0x0F == 2


def is_link_local_unicast(address: str) -> bool:
    """It is one of the link: 169.254.0.0/16, or fe80::/10."""
    return _address(address).is_link_local


def is_global_unicast(address: str) -> bool:
    """It is of one host beyond the link, which private addresses are too, as in Go."""
    found = _address(address)
    is_broadcast = found == IPv4Address("255.255.255.255")
    special = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local
    return not is_broadcast and not special


def cidr(text: str) -> str:
    """The address and the length of its prefix that a text says. Raises ValueError."""
    address, network = _network(text)
    return f"{address}/{network.prefixlen}"


is_cidr = accepted_by(cidr)


def contains_ip(network: str, address: str) -> bool:
    """Whether an address is in a network."""
    return _address(address) in _network(network)[1]


def contains_cidr(network: str, other: str) -> bool:
    """Whether all of another network is in a network."""
    outer, inner = _network(network)[1], _network(other)[1]
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def cidr_ip(network: str) -> str:
    """Its address."""
    return network.partition("/")[0]


def masked(network: str) -> str:
    """The same, with the address of the network."""
    return str(_network(network)[1])


def prefix_length(network: str) -> int:
    """The length of its prefix."""
    return _network(network)[1].prefixlen


# --- URLs

_scheme = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_escape = re.compile(r"%(?![0-9a-fA-F]{2})")
_host = re.compile(r"(?:[^/?#]*@)?(?:\[[0-9a-fA-F:.%]+\]|[^\s<>\"\[\]:/?#\\^`{|}]*)(?::\d*)?")


def _split(text: str) -> SplitResult:
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text):
        raise ValueError("URL parse error during conversion from string: invalid control character in URL")
    if not text.startswith("/") and not _scheme.match(text):
        raise ValueError("URL parse error during conversion from string: invalid URI for request")
    try:
        found = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"URL parse error during conversion from string: {error}") from error
    if _escape.search(found.netloc) or _escape.search(found.path) or not _host.fullmatch(found.netloc):
        raise ValueError("URL parse error during conversion from string: invalid host or escape")
    return found


def url(text: str) -> str:
    """The absolute URL, or absolute path, that a text says. Raises ValueError."""
    _split(text)
    return text


is_url = accepted_by(url)


def get_scheme(address: str) -> str:
    """The part before the colon; "": it is a path."""
    return _split(address).scheme


def get_host(address: str) -> str:
    """The host, with the port if it has one."""
    return _split(address).netloc.rpartition("@")[2]


def get_hostname(address: str) -> str:
    """The host without its port, and without brackets."""
    host = get_host(address)
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.partition(":")[0]


def get_port(address: str) -> str:
    """The port; "": it has none."""
    return get_host(address).rpartition("]")[2].partition(":")[2]


def get_escaped_path(address: str) -> str:
    """The path, escaped where it must be."""
    return quote(_split(address).path, safe="/!$&'()*+,;=:@~-._%")


def get_query(address: str) -> dict[str, list[str]]:
    """The values of each parameter, in order."""
    return parse_qs(_split(address).query, keep_blank_values=True, max_num_fields=10_000)


# --- formats


def _prefix(check: Callable[[str], Sequence[str]]) -> Callable[[str], Sequence[str]]:
    """A name that something will be added to: it may end in a dash."""
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


def _by(name: str, read: Callable[[str], object]) -> Callable[[str], Sequence[str]]:
    accepts = accepted_by(read)
    return lambda text: [] if accepts(text) else [f"must be of type {name}"]


def _as_schema(name: str) -> Callable[[str], Sequence[str]]:
    matcher = TEXTS[name]
    assert matcher is not None
    return lambda text: [] if matcher(text) else [f"must be of type {name}"]


_date = re.compile(r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])", re.ASCII)
_datetime = re.compile(
    rf"{_date.pattern}[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)


def _fits(wanted: re.Pattern[str]) -> Callable[[str], object]:
    def read(text: str) -> object:
        if not wanted.fullmatch(text):
            raise ValueError(text)
        return text

    return read


FORMATS: dict[str, Callable[[str], Sequence[str]]] = {
    "dns1123Label": dns1123_label_problems,
    "dns1123Subdomain": dns1123_subdomain_problems,
    "dns1035Label": dns1035_label_problems,
    "qualifiedName": label_key_problems,
    "dns1123LabelPrefix": _prefix(dns1123_label_problems),
    "dns1123SubdomainPrefix": _prefix(dns1123_subdomain_problems),
    "dns1035LabelPrefix": _prefix(dns1035_label_problems),
    "labelValue": label_value_problems,
    "uri": _by("uri", url),
    "uuid": _as_schema("uuid"),
    "byte": _as_schema("byte"),
    "date": _by("date", _fits(_date)),
    "datetime": _by("datetime", _fits(_datetime)),
}
"""What is wrong with a text, by what it should be."""


def named(name: str) -> str:
    """The format of that name; "": there is none."""
    return name if name in FORMATS else ""


def validate(form: str, text: str) -> list[str]:
    """What is wrong with a text; nothing: it is of that format."""
    return list(FORMATS[form](text))
