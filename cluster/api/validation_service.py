"""The rules of services and endpoints.

Kubernetes' rules, narrowed to what Podium carries out: types ClusterIP, NodePort and ExternalName, protocols TCP and
UDP, addresses of version 4. What is narrower says so, and what to use instead. What would have no effect is refused:
somebody meant something by it. Addresses of endpoints may be loopback ones: here they are.

How a service may change its type, as in Kubernetes: from any to any. What the new type has no use for goes, if the
update does not name it (`master/admission.py`); an address of its own is kept as long as the service has one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cluster.api.labels import label_key_problems
from cluster.api.names import dns1123_label_problems, dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.api.service_traffic import validate_traffic
from cluster.api.services import EXTERNAL_NAME, HEADLESS, NODE_PORT, NODE_PORTS, TYPES
from cluster.api.validation_ambassador import validate_ambassador
from cluster.api.validation_life import int_or_name
from cluster.pb.v1 import core_pb2 as core

MAX_AFFINITY_TIMEOUT_S = 86400
PROTOCOLS = ("TCP", "UDP")

_NO_BALANCER = (
    "there is no load balancer outside of the cluster: use NodePort, to be reached at 127.0.0.1 at a port of its own; "
    "every program on this machine reaches the address of a ClusterIP service as well"
)
_NO_SCTP = "Podium carries out no other protocols"


def validate_service(report: Report, service: core.Service) -> None:
    """Type, ports, selector, address, affinity."""
    spec = service.spec
    report.one_of("spec.type", spec.type, TYPES, _NO_BALANCER if spec.type == "LoadBalancer" else "")
    report.labels("spec.selector", spec.selector)
    if not spec.ports and spec.clusterIP != HEADLESS and spec.type != EXTERNAL_NAME:
        report.required("spec.ports")
    _validate_ports(report, spec)
    _validate_address(report, spec)
    _validate_external_name(report, spec)
    report.one_of("spec.sessionAffinity", spec.sessionAffinity, ("None", "ClientIP"))
    if spec.sessionAffinity == "ClientIP":
        timeout_s = spec.sessionAffinityConfig.clientIP.timeoutSeconds
        if not 0 < timeout_s <= MAX_AFFINITY_TIMEOUT_S:
            message = f"must be greater than 0 and less than or equal to {MAX_AFFINITY_TIMEOUT_S}"
            report.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout_s, message)
    validate_traffic(report, spec)
    if spec.HasField("ambassador"):
        validate_ambassador(report, spec)


def _validate_ports(report: Report, spec: core.ServiceSpec) -> None:
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        if not _validate_port_name(report, port.name, names, path) and len(spec.ports) > 1:
            report.required(f"{path}.name", "a service with several ports names each of them")
        if not port.HasField("port"):
            report.required(f"{path}.port")
        else:
            report.port(f"{path}.port", port.port)
            if (port.protocol, port.port) in numbers:
                report.duplicate(f"{path}.port", f"{port.port}/{port.protocol}")
            numbers.add((port.protocol, port.port))
            int_or_name(report, f"{path}.targetPort", port.targetPort)
        report.one_of(f"{path}.protocol", port.protocol, PROTOCOLS, _NO_SCTP)
        if port.appProtocol:
            report.check(f"{path}.appProtocol", port.appProtocol, label_key_problems(port.appProtocol))
        if not port.nodePort:
            continue
        if spec.type != NODE_PORT:
            report.forbidden(f"{path}.nodePort", f"may not be used when `type` is '{spec.type}'")
        elif port.nodePort not in NODE_PORTS:
            valid = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            message = f"provided port is not in the valid range. The range of valid ports is {valid}"
            report.invalid(f"{path}.nodePort", port.nodePort, message)
        elif (port.protocol, port.nodePort) in node_ports:
            report.duplicate(f"{path}.nodePort", port.nodePort)
        node_ports.add((port.protocol, port.nodePort))


def _validate_port_name(report: Report, name: str, names: set[str], path: str) -> bool:
    """Adds it to the names seen so far. False: it has none."""
    if name:
        report.check(f"{path}.name", name, dns1123_label_problems(name))
        if name in names:
            report.duplicate(f"{path}.name", name)
        names.add(name)
    return bool(name)


def _validate_address(report: Report, spec: core.ServiceSpec) -> None:
    address = spec.clusterIP
    if not address:
        return
    if spec.type == EXTERNAL_NAME:
        report.forbidden("spec.clusterIP", "may not be set for ExternalName services")
    elif address == HEADLESS:
        if spec.type == NODE_PORT:
            report.invalid("spec.clusterIP", address, "may not be set to 'None' for NodePort services")
    else:
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            report.invalid("spec.clusterIP", address, "must be empty, 'None', or a valid IPv4 address")


def _validate_external_name(report: Report, spec: core.ServiceSpec) -> None:
    path, name = "spec.externalName", spec.externalName
    if spec.type != EXTERNAL_NAME:
        if name:
            report.forbidden(path, f"may only be used when `type` is 'ExternalName', not '{spec.type}'")
        return
    name = name.removesuffix(".")  # a dot at the end: fully qualified
    if not name:
        report.required(path, "the DNS name that the service stands for")
        return
    report.check(path, spec.externalName, dns1123_subdomain_problems(name))
    if _is_address(name):
        message = "is an address, not a DNS name: give it to a service without selector, in Endpoints of that name"
        report.invalid(path, spec.externalName, message)


def validate_service_update(report: Report, new: core.ServiceSpec, old: core.ServiceSpec) -> None:
    """An address of its own stays, as long as the type has one: clients have learnt it."""
    if EXTERNAL_NAME in (new.type, old.type) or not old.clusterIP or not new.clusterIP:
        return
    if new.clusterIP != old.clusterIP:
        report.invalid("spec.clusterIP", new.clusterIP, "field is immutable")


def validate_endpoints(report: Report, endpoints: core.Endpoints) -> None:
    """Addresses and ports of each subset."""
    for index, subset in enumerate(endpoints.subsets):
        path = f"subsets[{index}]"
        if not subset.addresses and not subset.notReadyAddresses and not subset.terminatingAddresses:
            report.required(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses", "terminatingAddresses"):
            _validate_addresses(report, getattr(subset, field), f"{path}.{field}")
        names: set[str] = set()
        for position, port in enumerate(subset.ports):
            where = f"{path}.ports[{position}]"
            if not _validate_port_name(report, port.name, names, where) and len(subset.ports) > 1:
                report.required(f"{where}.name")
            report.port(f"{where}.port", port.port)
            report.one_of(f"{where}.protocol", port.protocol, PROTOCOLS, _NO_SCTP)
            if port.appProtocol:
                report.check(f"{where}.appProtocol", port.appProtocol, label_key_problems(port.appProtocol))


def _validate_addresses(report: Report, addresses: Iterable[core.EndpointAddress], path: str) -> None:
    for position, address in enumerate(addresses):
        where = f"{path}[{position}]"
        _validate_ip(report, f"{where}.ip", address.ip)
        if address.hostname:
            report.check(f"{where}.hostname", address.hostname, dns1123_label_problems(address.hostname))
        if address.nodeName:
            report.check(f"{where}.nodeName", address.nodeName, dns1123_subdomain_problems(address.nodeName))


def _validate_ip(report: Report, path: str, text: str) -> None:
    """Kubernetes' rule that an endpoint is a host of its own, but for loopback addresses: those of pods are."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        report.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7)")
        return
    if isinstance(ip, ipaddress.IPv6Address):
        report.invalid(path, text, "must be an IPv4 address: the proxy connects to no others")
    elif ip.is_unspecified:
        report.invalid(path, text, "may not be unspecified (0.0.0.0)")
    elif ip.is_link_local:
        report.invalid(path, text, "may not be in the link-local range (169.254.0.0/16)")
    elif ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        report.invalid(path, text, "may not be a multicast or broadcast address")


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
