"""Where a service answers, as URLs that work on this machine.

    ClusterIP      http://127.7.1.4:8080           at its address
    NodePort       http://127.0.0.1:30080          at its node port
    headless       http://127.7.16.1:8080 ...      at each of its ready endpoints
    ExternalName   http://db.example.com:8080      at that name, whoever answers there

The scheme is what the port's appProtocol says; without it, what its name or number says; and else http, or tcp where
that would be a bold guess. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.api.services import EXTERNAL_NAME, HEADLESS, has_address
from cluster.pb.v1 import core_pb2 as core

NODE_PORT_HOST = "127.0.0.1"

_BY_NUMBER = {443: "https", 8443: "https", 6379: "redis", 5432: "postgresql", 3306: "mysql", 5672: "amqp"}
_WORDS = ("https", "http", "redis", "postgresql", "mysql", "amqp", "grpc")
_APPLICATIONS = {
    "kubernetes.io/h2c": "http",
    "kubernetes.io/ws": "ws",
    "kubernetes.io/wss": "wss",
    "postgres": "postgresql",
    "http2": "http",
}
"""What an appProtocol is called in URLs, where that is another word."""
_IMPLIED = {("http", 80), ("ws", 80), ("https", 443), ("wss", 443)}


def scheme_of(port: core.ServicePort) -> str:
    """What a URL of this port begins with."""
    if port.protocol == "UDP":
        return "udp"
    application = port.appProtocol.lower()
    if application:
        scheme = _APPLICATIONS.get(application, application)
        return scheme if scheme.replace("-", "").isalnum() else "tcp"
    for word in _WORDS:
        if port.name == word or port.name.startswith(f"{word}-"):
            return word
    bold = port.name not in ("", "web", "www") and port.port not in (80, 8000, 8080)
    return _BY_NUMBER.get(port.port, "tcp" if bold else "http")


def url(port: core.ServicePort, host: str, number: int) -> str:
    """The URL of a port of a service, at this host and number."""
    scheme = scheme_of(port)
    return f"{scheme}://{host}" if (scheme, number) in _IMPLIED else f"{scheme}://{host}:{number}"


def urls_of(service: core.Service, *, ports: Iterable[core.ServicePort] | None = None) -> list[str]:
    """One URL per port of a service that has an address, or a name outside; for node ports at these."""
    return [text for port in service.spec.ports if ports is None or port in ports for text in _of_port(service, port)]


def _of_port(service: core.Service, port: core.ServicePort) -> Iterator[str]:
    spec = service.spec
    if spec.type == EXTERNAL_NAME:
        yield url(port, spec.externalName.removesuffix("."), port.port)
    elif port.nodePort:
        yield url(port, NODE_PORT_HOST, port.nodePort)
    elif has_address(spec):
        yield url(port, spec.clusterIP, port.port)


def is_headless(service: core.Service) -> bool:
    """It has no address: whoever asks for its name learns its endpoints."""
    return service.spec.clusterIP == HEADLESS


def endpoint_urls(endpoints: core.Endpoints, ports: Iterable[core.ServicePort]) -> list[str]:
    """One URL per ready endpoint of each of these ports, in order."""
    return [
        url(port, address.ip, served.port)
        for port in ports
        for subset in endpoints.subsets
        for served in subset.ports
        if served.name == port.name
        for address in subset.addresses
    ]
