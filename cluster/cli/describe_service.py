"""What `podium describe` says of services and endpoints, in kubectl's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cluster.cli.rows import pairs, row, rows

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core

_SHOWN = 10
"""Endpoints that are named; of more, how many."""


def service(service: core.Service, found: core.Endpoints | None) -> Iterator[str]:
    """Its lines; `found`: its endpoints."""
    from cluster.api.services import EXTERNAL_NAME, SHARD
    from cluster.cli.urls import urls_of

    spec = service.spec
    yield from rows("Selector", pairs(spec.selector))
    yield row("Type", spec.type)
    if spec.type == EXTERNAL_NAME:
        yield row("External Name", spec.externalName)
    else:
        yield row("IP", spec.clusterIP)
    for port in spec.ports:
        name = port.name or "<unset>"
        yield row("Port", f"{name}  {port.port}/{port.protocol}")
        yield row("TargetPort", f"{port.targetPort.strVal or port.targetPort.intVal}/{port.protocol}")
        if port.nodePort:
            yield row("NodePort", f"{name}  {port.nodePort}/{port.protocol}")
        if port.appProtocol:
            yield row("App Protocol", port.appProtocol)
        if spec.type != EXTERNAL_NAME:
            yield row("Endpoints", _places(found, port.name, "addresses"))
            leaving = _places(found, port.name, "terminatingAddresses")
            if leaving:
                yield row("Terminating", leaving)
    if not spec.ports and spec.type != EXTERNAL_NAME:
        yield row("Endpoints", ",".join(a.ip for subset in _subsets(found) for a in subset.addresses))
    shards = {a.labels[SHARD] for subset in _subsets(found) for a in subset.addresses if SHARD in a.labels}
    if shards:
        yield row("Shards", ", ".join(sorted(shards)))
    yield from rows("URL", urls_of(service))
    affinity = spec.sessionAffinity
    if affinity == "ClientIP":
        affinity += f" ({spec.sessionAffinityConfig.clientIP.timeoutSeconds} s)"
    yield row("Session Affinity", affinity)
    if spec.publishNotReadyAddresses:
        yield row("Publish Not Ready", "true")
    yield from _traffic(spec)
    if spec.HasField("ambassador"):
        yield row("Ambassador", spec.ambassador.policy)
        yield from rows("  Options", pairs(spec.ambassador.options))


def _traffic(spec: core.ServiceSpec) -> Iterator[str]:
    """What the service says of its traffic; nothing of what it leaves to the proxy."""
    if spec.HasField("balancing"):
        key = f" by {spec.balancing.hashKey}" if spec.balancing.hashKey else ""
        yield row("Balancing", spec.balancing.policy + key)
    if spec.trafficDistribution:
        yield row("Traffic Distribution", spec.trafficDistribution)
    for title, message in (
        ("Outlier Detection", spec.outlierDetection),
        ("Health Check", spec.healthCheck),
        ("Timeouts", spec.timeouts),
    ):
        said = ", ".join(f"{field.name} {value}" for field, value in message.ListFields())
        if said:
            yield row(title, said)
    if spec.accessLog:
        yield row("Access Log", "true")


def endpoints(endpoints: core.Endpoints) -> Iterable[str]:
    """Its lines."""
    yield "Subsets:"
    for subset in endpoints.subsets:
        for title, addresses in (
            ("Addresses", subset.addresses),
            ("NotReadyAddresses", subset.notReadyAddresses),
            ("Terminating", subset.terminatingAddresses),
        ):
            if addresses or title != "Terminating":
                yield from rows(title, map(_who, addresses), 2)
        yield from rows("Ports", (f"{p.name or '<unset>'} {p.port}/{p.protocol}" for p in subset.ports), 2)


def _who(address: core.EndpointAddress) -> str:
    """The address, and whose it is, as far as it says so: manual ones may say nothing."""
    words = [address.ip, address.targetRef.name, f"on {address.nodeName}" if address.nodeName else ""]
    if address.hostname:
        words.append(f"({address.hostname})")
    return " ".join(filter(None, words))


def _subsets(found: core.Endpoints | None) -> Iterable[core.EndpointSubset]:
    return found.subsets if found is not None else ()


def _places(found: core.Endpoints | None, port_name: str, field: str) -> str:
    places = [
        f"{address.ip}:{port.port}"
        for subset in _subsets(found)
        for port in subset.ports
        if port.name == port_name
        for address in getattr(subset, field)
    ]
    more = f" + {len(places) - _SHOWN} more..." if len(places) > _SHOWN else ""
    return ",".join(places[:_SHOWN]) + more
