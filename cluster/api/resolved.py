"""What a service's name stands for: from the service and its Endpoints to one set, as smart clients want it.

Endpoints group addresses by the ports that they share, and by state; whoever chooses wants a list of places, each with
all that is known of it. Worked example, a service with a port "http":

    subset ports [http 8080]: addresses 10.1.0.4, notReady 10.1.0.5      10.1.0.4 http=8080 READY        shard 0
    subset ports [http 9090]: addresses 10.1.0.6, terminating 10.1.0.7   10.1.0.6 http=9090 READY        shard 1
                                                                         10.1.0.5 http=8080 NOT_READY    shard 0
                                                                         10.1.0.7 http=9090 TERMINATING  shard 1

An address that is in several subsets with the same state is one place with all its ports. Equal facts give equal sets.
Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from cluster.api.services import EXTERNAL_NAME, SHARD
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

READY, NOT_READY, TERMINATING = (
    wire.ResolvedEndpoint.READY,
    wire.ResolvedEndpoint.NOT_READY,
    wire.ResolvedEndpoint.TERMINATING,
)
_Place = tuple[int, str, str]
"""State, address, uid of the pod."""


def resolved(service: core.Service, endpoints: core.Endpoints | None) -> wire.ResolvedService:
    """The service with all who are behind it. One that stands for something outside has nobody."""
    spec = service.spec
    result = wire.ResolvedService(
        namespace=service.metadata.namespace,
        name=service.metadata.name,
        type=spec.type,
        cluster_ip=spec.clusterIP or None,
        external_name=spec.externalName or None,
        ports=spec.ports,
    )
    if endpoints is None or spec.type == EXTERNAL_NAME:
        return result
    places: dict[_Place, wire.ResolvedEndpoint] = {}
    for subset in endpoints.subsets:
        for state, addresses in (
            (READY, subset.addresses),
            (NOT_READY, subset.notReadyAddresses),
            (TERMINATING, subset.terminatingAddresses),
        ):
            for address in addresses:
                place = (int(state), address.ip, address.targetRef.uid)
                found = places.get(place)
                if found is None:
                    found = places[place] = _endpoint(address)
                    found.state = state
                found.ports.extend(port for port in subset.ports if port not in found.ports)
    result.endpoints.extend(places[place] for place in sorted(places, key=_order))
    return result


def shard_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Which part of the data a pod serves; empty if it does not say."""
    return labels.get(SHARD) or annotations.get(SHARD) or ""


def _endpoint(address: core.EndpointAddress) -> wire.ResolvedEndpoint:
    endpoint = wire.ResolvedEndpoint(
        address=address.ip,
        hostname=address.hostname or None,
        node=address.nodeName or None,
        shard=shard_of(address.labels, address.annotations) or None,
        labels=address.labels,
        annotations=address.annotations,
    )
    if address.HasField("targetRef"):
        endpoint.target.CopyFrom(address.targetRef)
    return endpoint


def _order(place: _Place) -> tuple[int, int, str]:
    """127.0.0.9 before 127.0.0.10."""
    state, address, uid = place
    try:
        return state, int(ipaddress.ip_address(address)), uid
    except ValueError:  # from a store that was written before addresses were checked
        return state, -1, address + uid
