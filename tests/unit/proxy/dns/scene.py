"""Services and endpoints as a test writes them down, and questions put to a zone as a client puts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from cluster.pb.v1 import core_pb2 as core
from proxy.dns.responder import Responder
from proxy.dns.zone import Zone

DOMAIN = "cluster.local"
BLOCK = "127.28"
Port = tuple[str, str, int]
"""Name, protocol, number."""
Host = tuple[str, str]
"""Address, host name or nothing."""


def service(
    name: str = "web",
    *,
    ip: str = "127.28.1.1",
    ports: Sequence[Port] = (("http", "TCP", 80),),
    namespace: str = "default",
    external: str = "",
    publish_all: bool = False,
) -> core.Service:
    """A service with an address; headless with "None"; or one that stands for another name."""
    made = core.Service(metadata=core.ObjectMeta(name=name, namespace=namespace))
    made.spec.ports.extend(core.ServicePort(name=each, protocol=protocol, port=port) for each, protocol, port in ports)
    if external:
        made.spec.type, made.spec.externalName = "ExternalName", external
    else:
        made.spec.clusterIP = ip
    if publish_all:
        made.spec.publishNotReadyAddresses = True
    return made


def endpoints(
    *ready: Host,
    name: str = "web",
    namespace: str = "default",
    not_ready: Sequence[Host] = (),
    ports: Sequence[Port] = (("http", "TCP", 8080),),
) -> core.Endpoints:
    """One subset."""
    made = core.Endpoints(metadata=core.ObjectMeta(name=name, namespace=namespace))
    subset = made.subsets.add()
    subset.ports.extend(core.EndpointPort(name=each, protocol=protocol, port=port) for each, protocol, port in ports)
    for hosts, addresses in ((ready, subset.addresses), (not_ready, subset.notReadyAddresses)):
        addresses.extend(core.EndpointAddress(ip=ip, hostname=host or None) for ip, host in hosts)
    return made


class Scene:
    """A zone that is put together, and asked."""

    def __init__(self, *, forwards: bool = False, ready: bool = True, **zone: Any) -> None:
        self.zone = Zone(block=BLOCK, address="127.28.0.253", **zone)
        self.responder = Responder(self.zone, forwards=forwards, ready=ready)
        self.zone.set_namespace("default", exists=True)

    def put(self, *objects: core.Service | core.Endpoints) -> Scene:
        for each in objects:
            meta = each.metadata
            if isinstance(each, core.Service):
                names = self.zone.set_service(meta.namespace, meta.name, each)
            else:
                names = self.zone.set_endpoints(meta.namespace, meta.name, each)
            self.responder.forget(names)
        return self

    def remove(self, each: core.Service | core.Endpoints) -> Scene:
        meta = each.metadata
        change = self.zone.set_service if isinstance(each, core.Service) else self.zone.set_endpoints
        self.responder.forget(change(meta.namespace, meta.name, None))
        return self

    def ask(self, name: str, type: str = "A", *, over_udp: bool = True, **options: Any) -> dns.message.Message:
        """The answer, as dnspython reads it: every record is looked at, and none may be left over."""
        query = dns.message.make_query(name if name.endswith(".") else f"{name}.{DOMAIN}", type, **options)
        reply = self.responder.respond(query.to_wire(), over_udp=over_udp)
        assert isinstance(reply, bytes)
        answer = dns.message.from_wire(reply)
        assert query.is_response(answer)
        return answer

    def tell(self, name: str, type: str = "A") -> list[str]:
        """The records' data, sorted; or what it is if there are none: NXDOMAIN, NODATA."""
        answer = self.ask(name, type)
        found = sorted(said(answer))
        if found:
            return found
        code = dns.rcode.to_text(answer.rcode())
        return ["NODATA" if code == "NOERROR" else code]


def said(answer: dns.message.Message) -> list[str]:
    """The data of all answers, in order."""
    return [data.to_text() for rrset in answer.answer for data in rrset]
