"""What names a service has: the Kubernetes DNS specification (version 1.1.0) as a function. Pure.

In a zone such as cluster.local, for the service web of the namespace default:

    with an address     web.default.svc                    A      its address
                        _http._tcp.web.default.svc         SRV    each port that has a name
                        the address, turned round          PTR    web.default.svc
    headless            web.default.svc                    A      each ready endpoint
                        web-0.web.default.svc              A      an endpoint, by its host name; if it has none, by its
                        127-28-16-1.web.default.svc        A      address
                        _http._tcp.web.default.svc         SRV    each named port of each endpoint
                        each endpoint, turned round        PTR    its name above
    ExternalName        web.default.svc                    CNAME  what it says

A headless service without a ready endpoint has no name at all. With publishNotReadyAddresses, all endpoints count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar, TypeAlias

from cluster.pb.v1 import core_pb2 as core
from proxy.dns.labels import Name, below, dashed, reverse_name, to_name

HEADLESS = "None"
TYPE_A, TYPE_NS, TYPE_CNAME, TYPE_SOA, TYPE_PTR, TYPE_TXT, TYPE_SRV, TYPE_ANY = 1, 2, 5, 6, 12, 16, 33, 255
SRV_PRIORITY, SRV_WEIGHT = 0, 100
"""The same for all: who is asked is for the client's dice, or for the proxy."""


@dataclass(frozen=True, slots=True, order=True)
class A:
    """An address."""

    type: ClassVar[int] = TYPE_A
    address: bytes
    """Four bytes."""


@dataclass(frozen=True, slots=True, order=True)
class Srv:
    """A port, and the name of who serves it."""

    type: ClassVar[int] = TYPE_SRV
    port: int
    target: Name


@dataclass(frozen=True, slots=True, order=True)
class Ptr:
    """The name of an address."""

    type: ClassVar[int] = TYPE_PTR
    target: Name


@dataclass(frozen=True, slots=True, order=True)
class Cname:
    """Another name, which is meant."""

    type: ClassVar[int] = TYPE_CNAME
    target: Name


@dataclass(frozen=True, slots=True, order=True)
class Txt:
    """Words."""

    type: ClassVar[int] = TYPE_TXT
    text: bytes


@dataclass(frozen=True, slots=True, order=True)
class Ns:
    """Who answers for a zone."""

    type: ClassVar[int] = TYPE_NS
    target: Name


@dataclass(frozen=True, slots=True, order=True)
class Soa:
    """The zone itself. `ttl_s`: how long it may be remembered that a name is not there."""

    type: ClassVar[int] = TYPE_SOA
    primary: Name
    contact: Name
    serial: int
    ttl_s: int


Record: TypeAlias = A | Srv | Ptr | Cname | Txt | Ns | Soa
Records: TypeAlias = dict[Name, tuple[Record, ...]]


def records_of(domain: str, service: core.Service | None, endpoints: core.Endpoints | None) -> Records:
    """All names of a service in the zone `domain`, each with its records in order. What cannot be a name, or an
    address of IPv4, is left out: endpoints that people made may hold anything."""
    if service is None:
        return {}
    meta, spec = service.metadata, service.spec
    name = _name(f"{meta.name}.{meta.namespace}.svc.{domain}")
    if name is None:
        return {}
    if spec.type == "ExternalName":
        target = _name(spec.externalName)
        return {name: (Cname(target),)} if target else {}
    if spec.clusterIP == HEADLESS:
        return _sorted(_headless(name, service, endpoints))
    address = _address(spec.clusterIP)
    if address is None:
        return {}
    found: dict[Name, set[Record]] = {name: {A(address)}, reverse_name(spec.clusterIP): {Ptr(name)}}
    for port in spec.ports:
        if port.name:
            _add(found, _port_name(port.name, port.protocol, name), Srv(port.port, name))
    return _sorted(found)


def _headless(name: Name, service: core.Service, endpoints: core.Endpoints | None) -> dict[Name, set[Record]]:
    found: dict[Name, set[Record]] = {}
    for subset in endpoints.subsets if endpoints is not None else ():
        ports = [(_port_name(port.name, port.protocol, name), port.port) for port in subset.ports if port.name]
        for endpoint in _serving(subset, publish_all=service.spec.publishNotReadyAddresses):
            address = _address(endpoint.ip)
            target = below(endpoint.hostname or dashed(endpoint.ip), name)
            if address is None or target is None:
                continue
            _add(found, name, A(address))
            _add(found, target, A(address))
            _add(found, reverse_name(endpoint.ip), Ptr(target))
            for port_name, number in ports:
                _add(found, port_name, Srv(number, target))
    return found


def _add(found: dict[Name, set[Record]], name: Name | None, record: Record) -> None:
    if name is not None:
        found.setdefault(name, set()).add(record)


def _serving(subset: core.EndpointSubset, *, publish_all: bool) -> Iterable[core.EndpointAddress]:
    yield from subset.addresses
    if publish_all:
        yield from subset.notReadyAddresses


def _port_name(port: str, protocol: str, name: Name) -> Name | None:
    inner = below(f"_{(protocol or 'TCP').lower()}", name)
    return below(f"_{port}", inner) if inner is not None else None


def _sorted(found: dict[Name, set[Record]]) -> Records:
    return {name: tuple(sorted(records, key=_order)) for name, records in found.items()}


def _order(record: Record) -> tuple[int, Record]:
    return (record.type, record)


def _name(text: str) -> Name | None:
    try:
        return to_name(text) if text else None
    except ValueError:
        return None


def _address(text: str) -> bytes | None:
    try:
        return IPv4Address(text).packed
    except ValueError:
        return None
