"""Where a proxied request goes, and what of it: decided from its path, and from what the cluster says of its target.

    /api/v1/namespaces/NS/pods/[SCHEME:]NAME[:PORT]/proxy/PATH
    /api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/PATH

SCHEME is http or https. Of a pod, PORT is a number, or else the first port that a container declares, or 80; of a
service, a number or a name of one of its ports, or the one without a name. What comes after /proxy is the pod's own
business, and goes on as it was sent; where it goes to is never read from it. Only pods are reached: endpoints that name
no pod are nobody's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.api.errors import BadRequest, Unavailable
from cluster.api.names import Dice
from cluster.kubernetes import query
from cluster.kubernetes.paths import MAX_PATH, parts_of
from cluster.pb.v1 import core_pb2 as core

KINDS = ("pods", "services")
DEFAULT_PORT = 80
_PATH = re.compile(r"(/api/v1/namespaces/[^/]+/(?:pods|services)/[^/]+/proxy)(?:(/.*))?")
_SLASH = re.compile("%2f", re.IGNORECASE)
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    )
)
_NOT_HANDED_ON = frozenset(("authorization", "host", "expect", "x-forwarded-host", "x-forwarded-proto"))
"""What a caller says to us alone. Its credentials are nothing that a pod may see."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to be handed on."""

    kind: str
    """pods or services."""
    namespace: str
    name: str
    port: str
    """A number, or the name of a service's port; empty if none is given."""
    prefix: str
    """The path up to /proxy, as it was sent."""
    path: str
    """What comes after it, as it was sent but for encoded slashes; at least "/"."""
    tls: bool = False
    """Whether the pod is spoken to in HTTPS."""


def wanted_of(raw_path: str) -> Wanted | None:
    """What is asked for at a path; None if that is not to be proxied. Raises BadRequest."""
    found = _PATH.fullmatch(raw_path)
    if found is None:
        return None
    if len(raw_path) > MAX_PATH:
        raise BadRequest(f"the path is longer than {MAX_PATH} characters")
    # Encoded slashes separate, as in Kubernetes, whose clients encode them.
    prefix, path = found[1], _SLASH.sub("/", found[2] or "/")
    parts = parts_of(prefix)
    kind, what = parts[4], parts[5]
    pieces = what.split(":")
    scheme = ""
    if len(pieces) == 3:
        scheme, *pieces = pieces
    name, port = (*pieces, "")[:2]
    if len(pieces) > 2 or scheme not in ("", "http", "https") or not name:
        raise BadRequest(f'invalid {kind[:-1]} request "{what[:100]}"')
    if not path.isascii() or not path.isprintable():
        raise BadRequest("the path holds what cannot be in one")
    return Wanted(kind, parts[3], name, port, prefix, path, tls=scheme == "https")


def port_of(pod: core.Pod, wanted: str) -> int:
    """The port of a pod that is meant. Raises BadRequest."""
    if wanted:
        number = query.port(wanted)
        if number is None:
            raise BadRequest(f'invalid pod request "{pod.metadata.name}:{wanted[:40]}": a port is a number up to 65535')
        return number
    declared = (port.containerPort for container in pod.spec.containers for port in container.ports)
    return next(declared, DEFAULT_PORT)


def endpoint_of(service: core.Service, endpoints: core.Endpoints | None, wanted: str, dice: Dice) -> tuple[str, int]:
    """One of the ready pods behind a service, and the port there. Raises Unavailable."""
    name = service.metadata.name
    if wanted.isascii() and wanted.isdecimal():
        number = query.port(wanted)
        ports = [port.name for port in service.spec.ports if port.port == number]
        if not ports:
            raise Unavailable(f'no service port {wanted[:40]} found for service "{name}"')
        wanted = ports[0]
    ready = [
        (address.targetRef.name, port.port)
        for subset in (endpoints.subsets if endpoints is not None else ())
        for port in subset.ports
        if port.name == wanted and port.protocol in ("", "TCP")
        for address in subset.addresses
        if address.targetRef.kind == "Pod" and address.targetRef.namespace in ("", service.metadata.namespace)
    ]
    if not ready:
        raise Unavailable(f'no endpoints available for service "{name}"')
    return dice.choice(ready)


def forwarded(headers: Iterable[tuple[str, str]], host: str, path: str, origin: str) -> list[tuple[str, str]]:
    """The headers of a request, as they go on to `host`; `origin` is who sent it."""
    given = list(headers)
    named = _named_by_connection(given)
    kept = [
        (name, value)
        for name, value in given
        if name.lower() not in _HOP_BY_HOP | _NOT_HANDED_ON | named | {"x-forwarded-for", "x-forwarded-uri"}
    ]
    before = [value for name, value in given if name.lower() == "x-forwarded-for"]
    asked = next((value for name, value in given if name.lower() == "host"), "")
    return [
        ("Host", host),
        *kept,
        ("X-Forwarded-For", ", ".join([*before, origin])),
        ("X-Forwarded-Host", asked),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", path),
    ]


def returned(headers: Iterable[tuple[str, str]], host: str, prefix: str) -> list[tuple[str, str]]:
    """The headers of an answer of `host`, as they go back: a redirection within it stays below /proxy."""
    given = list(headers)
    named = _named_by_connection(given)
    kept = []
    for name, value in given:
        if name.lower() in _HOP_BY_HOP | named:
            continue
        if name.lower() == "location":
            for start in (f"http://{host}/", f"https://{host}/", f"//{host}/"):
                value = value.replace(start, "/", 1) if value.startswith(start) else value
            if value.startswith("/") and not value.startswith("//"):
                value = prefix + value
        kept.append((name, value))
    return kept


def upgrade_of(headers: Iterable[tuple[str, str]]) -> str:
    """The protocol that a request wants to change to; empty if it wants none."""
    given = list(headers)
    if "upgrade" not in _named_by_connection(given):
        return ""
    return next((value for name, value in given if name.lower() == "upgrade"), "")


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    values = ",".join(value for name, value in headers if name.lower() == "connection")
    return {token.strip().lower() for token in values.split(",") if token.strip()}
