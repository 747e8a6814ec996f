"""The routing table: from services and endpoints to addresses that listen and targets behind them.

A service with a cluster IP has one route per port, of TCP or UDP, and for each of its node ports another one, at
127.0.0.1. Their targets are the ready addresses of the endpoints object of the same name, at the endpoint port that
carries the service port's name: this is how one service leads to pods that listen on different ports. Endpoints without
a service, and services that have no endpoints yet, are ordinary: watches of two kinds promise no order between them.

The table answers each change with what has to be done about it (`Changes`) and does nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from cluster.api.service_traffic import DEFAULT_WEIGHT, OUTLIER_DEFAULTS, weight_of
from cluster.api.services import has_address
from cluster.pb.v1 import core_pb2 as core
from proxy.balancer import Target, Terms
from proxy.outlier import OutlierTerms
from proxy.timeouts import UDP_IDLE_S, Timeouts

K = TypeVar("K")
V = TypeVar("V")

TCP, UDP = "TCP", "UDP"
PROTOCOLS = (TCP, UDP)
DEFAULT_AFFINITY_TIMEOUT_S = 10800
NODE_PORT_HOST = "127.0.0.1"
"""Where node ports are listened for: every program of this machine tries it, and no other machine reaches it."""


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
    """The port's name, or its number if it has no name; for a node port with that behind it, as in "http:30080"."""

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
class HealthTerms:
    """How the proxy asks endpoints how they are."""

    interval_s: float
    timeout_s: float
    failure_threshold: int
    success_threshold: int
    http_path: str = ""
    """Empty: connecting is enough."""


@dataclass(frozen=True, slots=True)
class Route:
    """One port of a service: where to listen, and who is behind it."""

    key: RouteKey
    listen: Target
    targets: tuple[Target, ...]
    """Ready endpoints, sorted, each once."""
    affinity_timeout_s: float | None = None
    """How long a client sticks to its endpoint since its last connection; None: it does not."""
    protocol: str = "TCP"
    terminating: tuple[Target, ...] = ()
    """Endpoints that serve, but whose pods are being deleted."""
    terms: Terms = field(default_factory=Terms)
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: HealthTerms | None = None
    access_log: bool = False
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

    def addresses_of(self, namespace: str, target: core.FaultTarget) -> frozenset[str]:
        """The addresses of the pod behind the service, or of all pods of the node, that a fault is about; none if it is
        about all of the service."""
        if target.node:
            return _ips(self._endpoints.values(), lambda address: address.nodeName == target.node)
        endpoints = self._endpoints.get(ServiceName(namespace, target.service))
        if not target.pod or endpoints is None:
            return frozenset()
        return _ips([endpoints], lambda address: address.targetRef.name == target.pod)

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
        moved = {key for key in before.keys() & after.keys() if _where(before[key]) != _where(after[key])}
        return Changes(
            close=tuple(key for key in before if key not in after or key in moved),
            open=tuple(route for key, route in after.items() if key not in before or key in moved),
            update=tuple(
                route for key, route in after.items() if key in before and key not in moved and route != before[key]
            ),
        )


def _ips(endpoints: Iterable[core.Endpoints], wanted: Callable[[core.EndpointAddress], bool]) -> frozenset[str]:
    return frozenset(
        address.ip
        for each in endpoints
        for subset in each.subsets
        for address in (*subset.addresses, *subset.notReadyAddresses, *subset.terminatingAddresses)
        if wanted(address)
    )


def _where(route: Route) -> tuple[Target, str]:
    return (route.listen, route.protocol)


def routes_of(name: ServiceName, service: core.Service | None, endpoints: core.Endpoints | None) -> list[Route]:
    """The routes of one service: none if it is headless, stands for something outside, has no address yet, or is
    gone."""
    if service is None or not has_address(service.spec):
        return []
    affinity_timeout_s: float | None = None
    if service.spec.sessionAffinity == "ClientIP":
        configured = service.spec.sessionAffinityConfig.clientIP
        affinity_timeout_s = (
            configured.timeoutSeconds if configured.HasField("timeoutSeconds") else DEFAULT_AFFINITY_TIMEOUT_S
        )
    outliers, timeouts, health = _outliers(service.spec), _timeouts(service.spec), _health(service.spec)
    routes = []
    for port in service.spec.ports:
        protocol = port.protocol or TCP
        if protocol not in PROTOCOLS:
            continue
        ready = addresses_of(endpoints, port.name, protocol)
        leaving = addresses_of(endpoints, port.name, protocol, terminating=True)
        named = ambassador_of(service) if protocol == TCP else None
        routes += [
            Route(
                key=RouteKey(name, label),
                listen=listen,
                targets=tuple(sorted(ready)),
                affinity_timeout_s=affinity_timeout_s,
                protocol=protocol,
                terminating=tuple(sorted(leaving.keys() - ready)),
                terms=_terms(service.spec, ready, outliers),
                timeouts=timeouts,
                health=health,
                access_log=service.spec.accessLog,
                ambassador=named,
                addresses=() if named is None else _known(ready or leaving),
            )
            for label, listen in _places(service.spec.clusterIP, port)
        ]
    return routes


def _places(address: str, port: core.ServicePort) -> Iterator[tuple[str, Target]]:
    """Where a port is listened for, each place with the word that names it."""
    name = port.name or str(port.port)
    yield name, Target(address, port.port)
    if port.nodePort:
        yield f"{name}:{port.nodePort}", Target(NODE_PORT_HOST, port.nodePort)


def addresses_of(
    endpoints: core.Endpoints | None, port_name: str, protocol: str, *, terminating: bool = False
) -> dict[Target, core.EndpointAddress]:
    """Where the port of that name is served by a ready pod, or by one that is being deleted."""
    if endpoints is None:
        return {}
    return {
        Target(address.ip, port.port): address
        for subset in endpoints.subsets
        for port in subset.ports
        if port.name == port_name and (port.protocol or TCP) == protocol
        for address in (subset.terminatingAddresses if terminating else subset.addresses)
    }


def _terms(spec: core.ServiceSpec, ready: dict[Target, core.EndpointAddress], outliers: OutlierTerms) -> Terms:
    policy = spec.balancing.policy or "RoundRobin"
    weights: dict[Target, int] = {}
    if policy == "Weighted":
        weights = {target: weight_of(address.annotations) for target, address in ready.items()}
    return Terms(
        policy=policy,
        weights={target: weight for target, weight in weights.items() if weight != DEFAULT_WEIGHT},
        prefer=spec.trafficDistribution,
        nodes={target: address.nodeName for target, address in ready.items()} if spec.trafficDistribution else {},
        outliers=outliers,
    )


def _outliers(spec: core.ServiceSpec) -> OutlierTerms:
    terms = spec.outlierDetection

    def value(name: str) -> int:
        number: int = getattr(terms, name) if terms.HasField(name) else OUTLIER_DEFAULTS[name]
        return number

    return OutlierTerms(
        consecutive_failures=value("consecutiveFailures"),
        interval_s=value("intervalSeconds"),
        base_s=value("baseEjectionSeconds"),
        max_s=value("maxEjectionSeconds"),
        max_percent=value("maxEjectionPercent"),
    )


def _timeouts(spec: core.ServiceSpec) -> Timeouts:
    given = spec.timeouts
    return Timeouts(
        connect_s=given.connectSeconds if given.HasField("connectSeconds") else None,
        idle_s=given.idleSeconds if given.HasField("idleSeconds") else None,
        first_byte_s=given.firstByteSeconds if given.HasField("firstByteSeconds") else None,
        drain_s=given.drainSeconds if given.HasField("drainSeconds") else None,
        udp_idle_s=given.udpIdleSeconds if given.HasField("udpIdleSeconds") else UDP_IDLE_S,
    )


def _health(spec: core.ServiceSpec) -> HealthTerms | None:
    if not spec.HasField("healthCheck"):
        return None
    check = spec.healthCheck
    return HealthTerms(
        interval_s=check.intervalSeconds,
        timeout_s=check.timeoutSeconds,
        failure_threshold=check.failureThreshold,
        success_threshold=check.successThreshold,
        http_path=check.httpPath,
    )


def ambassador_of(service: core.Service) -> Named | None:
    """Whom the service names, if it does."""
    if not service.spec.ambassador.policy:
        return None
    return Named(service.spec.ambassador.policy, tuple(sorted(service.spec.ambassador.options.items())))


def _known(addresses: dict[Target, core.EndpointAddress]) -> tuple[Address, ...]:
    return tuple(Address(target, addresses[target]) for target in sorted(addresses))


def unserved_ports(service: core.Service) -> list[core.ServicePort]:
    """Ports of a service with an address that the proxy does not serve: any protocol but TCP and UDP."""
    if not has_address(service.spec):
        return []
    return [port for port in service.spec.ports if (port.protocol or TCP) not in PROTOCOLS]


def _put(table: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
