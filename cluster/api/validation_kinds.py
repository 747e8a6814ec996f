"""The rules of the other kinds: replication controllers, services, endpoints, nodes, events, namespaces, leases.

Kubernetes' rules, narrowed to what Podium carries out: services of type ClusterIP, ports of TCP. What is narrower says
so in its message. Addresses of endpoints may be loopback ones: here they are.
"""

from __future__ import annotations

import ipaddress

from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.names import dns1123_label_problems, dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.api.validation_life import int_or_name
from cluster.api.validation_meta import validate_labels_and_annotations
from cluster.api.validation_pod import PROTOCOLS, TAINT_EFFECTS, ip_address, validate_pod_spec
from cluster.pb.v1 import core_pb2 as core

MAX_AFFINITY_TIMEOUT_S = 86400
HEADLESS = "None"
"""The clusterIP of a service that has no address of its own."""
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


def validate_pod(report: Report, pod: core.Pod) -> None:
    """Specification, and the few fields of the status that others build on."""
    validate_pod_spec(report, pod.spec, "spec")
    if pod.status.phase:
        report.one_of("status.phase", pod.status.phase, PHASES)
    for index, status in enumerate(pod.status.containerStatuses):
        report.at_least(f"status.containerStatuses[{index}].restartCount", status.restartCount, 0)
    if pod.status.podIP:
        ip_address(report, "status.podIP", pod.status.podIP)


def validate_replication_controller(report: Report, rc: core.ReplicationController) -> None:
    """The controller must count the pods that it makes, and must never stop making them by their own end."""
    spec = rc.spec
    report.at_least("spec.replicas", spec.replicas, 0)
    report.at_least("spec.minReadySeconds", spec.minReadySeconds, 0)
    if not spec.selector:
        report.required("spec.selector")
    report.labels("spec.selector", spec.selector)
    if not spec.HasField("template"):
        report.required("spec.template")
        return
    validate_labels_and_annotations(report, spec.template.metadata, "spec.template.metadata")
    labels = spec.template.metadata.labels
    if any(labels.get(key) != value for key, value in spec.selector.items()):
        shown = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
        report.invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`")
    validate_pod_spec(report, spec.template.spec, "spec.template.spec", restart_policies=("Always",))


def validate_service(report: Report, service: core.Service) -> None:
    """Ports, selector, address, affinity."""
    spec = service.spec
    only_cluster_ip = "Podium does not carry out other types of services"
    report.one_of("spec.type", spec.type, ("ClusterIP",), only_cluster_ip)
    report.labels("spec.selector", spec.selector)
    if not spec.ports and spec.clusterIP != HEADLESS:
        report.required("spec.ports")
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        if port.name:
            report.check(f"{path}.name", port.name, dns1123_label_problems(port.name))
            if port.name in names:
                report.duplicate(f"{path}.name", port.name)
            names.add(port.name)
        elif len(spec.ports) > 1:
            report.required(f"{path}.name", "a service with several ports names each of them")
        if not port.HasField("port"):
            report.required(f"{path}.port")
        else:
            report.port(f"{path}.port", port.port)
            if (port.protocol, port.port) in numbers:
                report.duplicate(f"{path}.port", f"{port.port}/{port.protocol}")
            numbers.add((port.protocol, port.port))
            int_or_name(report, f"{path}.targetPort", port.targetPort)
        report.one_of(f"{path}.protocol", port.protocol, ("TCP",), "Podium does not carry out other protocols")
    if spec.clusterIP not in ("", HEADLESS):
        try:
            ipaddress.IPv4Address(spec.clusterIP)
        except ValueError:
            report.invalid("spec.clusterIP", spec.clusterIP, "must be empty, 'None', or a valid IPv4 address")
    report.one_of("spec.sessionAffinity", spec.sessionAffinity, ("None", "ClientIP"))
    if spec.sessionAffinity == "ClientIP":
        timeout_s = spec.sessionAffinityConfig.clientIP.timeoutSeconds
        if not 0 < timeout_s <= MAX_AFFINITY_TIMEOUT_S:
            message = f"must be greater than 0 and less than or equal to {MAX_AFFINITY_TIMEOUT_S}"
            report.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout_s, message)


def validate_endpoints(report: Report, endpoints: core.Endpoints) -> None:
    """Addresses and ports of each subset."""
    for index, subset in enumerate(endpoints.subsets):
        path = f"subsets[{index}]"
        if not subset.addresses and not subset.notReadyAddresses:
            report.required(path, "must specify `addresses` or `notReadyAddresses`")
        for field, addresses in (("addresses", subset.addresses), ("notReadyAddresses", subset.notReadyAddresses)):
            for position, address in enumerate(addresses):
                where = f"{path}.{field}[{position}]"
                ip_address(report, f"{where}.ip", address.ip)
                if address.hostname:
                    report.check(f"{where}.hostname", address.hostname, dns1123_label_problems(address.hostname))
                if address.nodeName:
                    report.check(f"{where}.nodeName", address.nodeName, dns1123_subdomain_problems(address.nodeName))
        for position, port in enumerate(subset.ports):
            where = f"{path}.ports[{position}]"
            if port.name:
                report.check(f"{where}.name", port.name, dns1123_label_problems(port.name))
            elif len(subset.ports) > 1:
                report.required(f"{where}.name")
            report.port(f"{where}.port", port.port)
            report.one_of(f"{where}.protocol", port.protocol, PROTOCOLS)


def validate_node(report: Report, node: core.Node) -> None:
    """Taints, the pods' addresses, and what the node says that it has."""
    if node.spec.podCIDR:
        try:
            ipaddress.ip_network(node.spec.podCIDR)
        except ValueError:
            report.invalid("spec.podCIDR", node.spec.podCIDR, "must be a valid CIDR value, (e.g. 10.9.8.0/24)")
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(node.spec.taints):
        path = f"spec.taints[{index}]"
        if not taint.key:
            report.required(f"{path}.key")
        else:
            report.check(f"{path}.key", taint.key, label_key_problems(taint.key))
        report.check(f"{path}.value", taint.value, label_value_problems(taint.value))
        report.one_of(f"{path}.effect", taint.effect, TAINT_EFFECTS)
        if (taint.key, taint.effect) in seen:
            report.duplicate(path, f"{taint.key}:{taint.effect} (taints must be unique by key and effect pair)")
        seen.add((taint.key, taint.effect))
    report.amounts("status.capacity", node.status.capacity)
    report.amounts("status.allocatable", node.status.allocatable)
    for index, directory in enumerate(node.status.dataDirectories):
        namespace, slash, name = directory.partition("/")
        if not slash or dns1123_label_problems(namespace) or dns1123_label_problems(name):
            report.invalid(f"status.dataDirectories[{index}]", directory, "must be NAMESPACE/NAME")


def validate_event(report: Report, event: core.Event) -> None:
    """An event lives in the namespace of what it is about; what is in none counts as in "default"."""
    expected = event.involvedObject.namespace or "default"
    if event.metadata.namespace != expected:
        report.invalid("involvedObject.namespace", event.involvedObject.namespace, "does not match event.namespace")
    if event.type:
        report.one_of("type", event.type, ("Normal", "Warning"))
    report.at_least("count", event.count, 0)


def validate_namespace(report: Report, namespace: core.Namespace) -> None:
    """Phase and finalizers."""
    if namespace.status.phase:
        report.one_of("status.phase", namespace.status.phase, ("Active", "Terminating"))
    for index, finalizer in enumerate(namespace.spec.finalizers):
        report.check(f"spec.finalizers[{index}]", finalizer, label_key_problems(finalizer))


def validate_service_account(report: Report, account: core.ServiceAccount) -> None:
    """What it names has a name."""
    named = [(f"secrets[{index}]", each.name) for index, each in enumerate(account.secrets)]
    named += [(f"imagePullSecrets[{index}]", each.name) for index, each in enumerate(account.imagePullSecrets)]
    for path, name in named:
        if not name:
            report.required(f"{path}.name")


def validate_lease(report: Report, lease: core.Lease) -> None:
    """The numbers; and no owners: the controllers do not watch leases, so nobody would collect what an owner leaves."""
    if lease.spec.HasField("leaseDurationSeconds") and lease.spec.leaseDurationSeconds <= 0:
        report.invalid("spec.leaseDurationSeconds", lease.spec.leaseDurationSeconds, "must be greater than 0")
    report.at_least("spec.leaseTransitions", lease.spec.leaseTransitions, 0)
    if lease.metadata.ownerReferences:
        report.forbidden("metadata.ownerReferences", "Podium does not collect leases whose owners are gone")
