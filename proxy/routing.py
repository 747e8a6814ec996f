"""The routing table: from services and endpoints to addresses that listen and targets behind them.

A service with a cluster IP has one route per TCP port. Its targets are the ready addresses of the endpoints object of
the same name, at the endpoint port that carries the service port's name: this is how one service leads to pods that
listen on different ports. Endpoints without a service, and services that have no endpoints yet, are ordinary: watches
of two kinds promise no order between them.

The table answers each change with what has to be done about it (`Changes`) and does nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from cluster.pb.v1 import core_pb2 as core
from proxy.balancer import Target

K = TypeVar("K")
V = TypeVar("V")

HEADLESS = "None"
DEFAULT_AFFINITY_TIMEOUT_S = 10800


class ServiceName(NamedTuple):
    """Names a service and its endpoints."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class RouteKey(NamedTuple):
    """Names one port of a service."""

    service: ServiceName
    port: str
    """The port's name, or its number if it has no name."""

    def __str__(self) -> str:
        return f"{self.service}:{self.port}"


class Named(NamedTuple):
    """The ambassador that a service names."""

    policy: str
    options: tuple[tuple[str, str], ...]
    """Sorted."""


class Address(NamedTuple):
    """A target, and what the endpoints object says of it: pod, node, labels, annotations."""

    target: Target
    known: core.EndpointAddress


@dataclass(frozen=True, slots=True)
class Route:
    """One port of a service: where to listen, and who is behind it."""

    key: RouteKey
    listen: Target
    targets: tuple[Target, ...]
    """Ready endpoints, sorted, each once."""
    affinity_timeout_s: float | None = None
    """How long a client sticks to its endpoint since its last connection; None: it does not."""
    ambassador: Named | None = None
    """Who answers for the connections; None: the balancer does."""
    addresses: tuple[Address, ...] = ()
    """The targets with all that is known of them; only if there is an ambassador, who goes by it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do about a change of the table, in this order: close, then open, then update."""

    close: tuple[RouteKey, ...] = ()
    open: tuple[Route, ...] = ()
    update: tuple[Route, ...] = ()
    """Listening as before; other targets or other terms of affinity."""

    def __bool__(self) -> bool:
        return bool(self.close or self.open or self.update)


@dataclass(slots=True)
class RoutingTable:
    """All routes of the cluster. A change of one service costs the ports and endpoints of that service."""

    _services: dict[ServiceName, core.Service] = field(default_factory=dict)
    _endpoints: dict[ServiceName, core.Endpoints] = field(default_factory=dict)
    _routes: dict[ServiceName, dict[RouteKey, Route]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(routes) for routes in self._routes.values())

    def __iter__(self) -> Iterator[Route]:
        for routes in self._routes.values():
            yield from routes.values()

    def service(self, name: ServiceName) -> core.Service | None:
        """The service of that name, as last seen."""
        return self._services.get(name)

    def set_service(self, name: ServiceName, service: core.Service | None) -> Changes:
        """The service is now this, or gone."""
        _put(self._services, name, service)
        return self._changed(name)

    def set_endpoints(self, name: ServiceName, endpoints: core.Endpoints | None) -> Changes:
        """The endpoints are now these, or gone."""
        _put(self._endpoints, name, endpoints)
        return self._changed(name)

    def _changed(self, name: ServiceName) -> Changes:
        before = self._routes.get(name, {})
        after = {route.key: route for route in routes_of(name, self._services.get(name), self._endpoints.get(name))}
        _put(self._routes, name, after or None)
        moved = {key for key in before.keys() & after.keys() if before[key].listen != after[key].listen}
        return Changes(
            close=tuple(key for key in before if key not in after or key in moved),
            open=tuple(route for key, route in after.items() if key not in before or key in moved),
            update=tuple(
                route for key, route in after.items() if key in before and key not in moved and route != before[key]
            ),
        )


def routes_of(name: ServiceName, service: core.Service | None, endpoints: core.Endpoints | None) -> list[Route]:
    """The routes of one service: none if it is headless, has no address yet, or is gone."""
    if service is None or service.spec.clusterIP in ("", HEADLESS):
        return []
    affinity_timeout_s: float | None = None
    if service.spec.sessionAffinity == "ClientIP":
        configured = service.spec.sessionAffinityConfig.clientIP
        affinity_timeout_s = (
            configured.timeoutSeconds if configured.HasField("timeoutSeconds") else DEFAULT_AFFINITY_TIMEOUT_S
        )
    named = ambassador_of(service)
    return [
        Route(
            key=RouteKey(name, port.name or str(port.port)),
            listen=Target(service.spec.clusterIP, port.port),
            targets=ready_targets(endpoints, port.name),
            affinity_timeout_s=affinity_timeout_s,
            ambassador=named,
            addresses=() if named is None else ready_addresses(endpoints, port.name),
        )
        for port in service.spec.ports
        if is_tcp(port.protocol)
    ]


def ready_targets(endpoints: core.Endpoints | None, port_name: str) -> tuple[Target, ...]:
    """Where the port of that name is served by a ready pod: sorted, each once."""
    if endpoints is None:
        return ()
    return tuple(
        sorted(
            {
                Target(address.ip, port.port)
                for subset in endpoints.subsets
                for port in subset.ports
                if port.name == port_name and is_tcp(port.protocol)
                for address in subset.addresses
            }
        )
    )


def ready_addresses(endpoints: core.Endpoints | None, port_name: str) -> tuple[Address, ...]:
    """As `ready_targets`, with what is known of each."""
    if endpoints is None:
        return ()
    found = {
        Target(address.ip, port.port): address
        for subset in endpoints.subsets
        for port in subset.ports
        if port.name == port_name and is_tcp(port.protocol)
        for address in subset.addresses
    }
    return tuple(Address(target, found[target]) for target in sorted(found))


def ambassador_of(service: core.Service) -> Named | None:
    """Whom the service names, if it does."""
    if not service.spec.ambassador.policy:
        return None
    return Named(service.spec.ambassador.policy, tuple(sorted(service.spec.ambassador.options.items())))


def is_tcp(protocol: str) -> bool:
    """TCP is what is meant when nothing is said."""
    return protocol in ("", "TCP")


def unserved_ports(service: core.Service) -> list[core.ServicePort]:
    """Ports of a service with an address that the proxy does not serve: any protocol but TCP."""
    if service.spec.clusterIP in ("", HEADLESS):
        return []
    return [port for port in service.spec.ports if not is_tcp(port.protocol)]


def _put(table: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
