"""The rules of the other kinds: pods, replication controllers, nodes, events, namespaces, leases.

Kubernetes' rules, narrowed to what Podium carries out. What is narrower says so in its message.
"""

from __future__ import annotations

import ipaddress

from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.names import dns1123_label_problems
from cluster.api.problems import Report
from cluster.api.service_traffic import validate_weight
from cluster.api.validation_meta import finalizer_problems, validate_labels_and_annotations
from cluster.api.validation_pod import TAINT_EFFECTS, ip_address, validate_pod_spec
from cluster.pb.v1 import core_pb2 as core

PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


def validate_pod(report: Report, pod: core.Pod) -> None:
    """Specification, and the few fields of the status that others build on."""
    validate_pod_spec(report, pod.spec, "spec")
    validate_weight(report, pod.metadata.annotations, "metadata.annotations")
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
    validate_weight(report, spec.template.metadata.annotations, "spec.template.metadata.annotations")
    labels = spec.template.metadata.labels
    if any(labels.get(key) != value for key, value in spec.selector.items()):
        shown = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
        report.invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`")
    validate_pod_spec(report, spec.template.spec, "spec.template.spec", restart_policies=("Always",))


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
    """An event lives in the namespace of what it is about; what is in none counts as in "default". Its type may be any
    word: kopf writes Error and Fatal."""
    expected = event.involvedObject.namespace or "default"
    if event.metadata.namespace != expected:
        report.invalid("involvedObject.namespace", event.involvedObject.namespace, "does not match event.namespace")
    report.at_least("count", event.count, 0)


def validate_namespace(report: Report, namespace: core.Namespace) -> None:
    """Phase and finalizers."""
    if namespace.status.phase:
        report.one_of("status.phase", namespace.status.phase, ("Active", "Terminating"))
    for index, finalizer in enumerate(namespace.spec.finalizers):
        report.check(f"spec.finalizers[{index}]", finalizer, finalizer_problems(finalizer))


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
