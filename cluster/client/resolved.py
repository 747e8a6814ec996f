"""Who is behind a service, in Python's words: what `ClusterClient.resolve` and `watch_service` give.

Frozen, so that one view can be looked at by many tasks; a change is another view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from cluster.pb.v1 import cluster_pb2 as wire


class EndpointState(Enum):
    """What may be expected of an endpoint."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    TERMINATING = "TERMINATING"
    """It still serves, and is being deleted: for when nobody is ready."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where a service is served."""

    address: str
    """An IP address."""
    ports: Mapping[str, int] = field(hash=False)
    """By the names of the service's ports; a single port may have none."""
    state: EndpointState = EndpointState.READY
    shard: str = ""
    """Which part of the data it serves: the label podium.dev/shard of its pod, or else the annotation."""
    hostname: str = ""
    node: str = ""
    pod: str = ""
    """The name of its pod; empty for endpoints that were written by hand."""
    uid: str = ""
    """Of that pod."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def target(self, port: str = "") -> str:
        """Its "address:port"; without a name, of its only port. Raises KeyError if it has none of that name."""
        if port:
            return f"{self.address}:{self.ports[port]}"
        if len(self.ports) != 1:
            raise KeyError(f"{self.address} serves {len(self.ports)} ports ({', '.join(self.ports)}): name one")
        return f"{self.address}:{next(iter(self.ports.values()))}"


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service with all who are behind it, as of one revision."""

    namespace: str
    name: str
    revision: int
    """Every change up to this one is in it."""
    store_id: str
    """Revisions of two stores cannot be compared."""
    exists: bool = True
    """Whether there is a service of that name."""
    type: str = "ClusterIP"
    cluster_ip: str = ""
    external_name: str = ""
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The service's own, by name."""
    endpoints: tuple[Endpoint, ...] = ()
    """Sorted by state, then by address."""

    @property
    def ready(self) -> tuple[Endpoint, ...]:
        """Those that welcome new connections."""
        return tuple(each for each in self.endpoints if each.state is EndpointState.READY)

    @property
    def usable(self) -> tuple[Endpoint, ...]:
        """Those that are ready; if there are none, those that still serve while they are being deleted."""
        return self.ready or tuple(each for each in self.endpoints if each.state is EndpointState.TERMINATING)


def absent(namespace: str, name: str, revision: int, store_id: str) -> ServiceView:
    """What there is to see where no service is."""
    return ServiceView(namespace, name, revision, store_id, exists=False, type="")


def view_of(service: wire.ResolvedService, revision: int, store_id: str) -> ServiceView:
    """The message, read."""
    return ServiceView(
        namespace=service.namespace,
        name=service.name,
        revision=revision,
        store_id=store_id,
        type=service.type,
        cluster_ip=service.cluster_ip,
        external_name=service.external_name,
        ports=MappingProxyType({port.name: port.port for port in service.ports}),
        endpoints=tuple(_endpoint(each) for each in service.endpoints if each.state in _STATES),
    )


_STATES = {
    wire.ResolvedEndpoint.READY: EndpointState.READY,
    wire.ResolvedEndpoint.NOT_READY: EndpointState.NOT_READY,
    wire.ResolvedEndpoint.TERMINATING: EndpointState.TERMINATING,
}
"""An endpoint in another state is from a newer master, and means something that this client does not know."""


def _endpoint(endpoint: wire.ResolvedEndpoint) -> Endpoint:
    return Endpoint(
        address=endpoint.address,
        ports=MappingProxyType({port.name: port.port for port in endpoint.ports}),
        state=_STATES[endpoint.state],
        shard=endpoint.shard,
        hostname=endpoint.hostname,
        node=endpoint.node,
        pod=endpoint.target.name,
        uid=endpoint.target.uid,
        labels=MappingProxyType(dict(endpoint.labels)),
        annotations=MappingProxyType(dict(endpoint.annotations)),
    )
