"""The rules of a pod's specification, in a pod or in a template.

Kubernetes' rules, with two differences. A container's image is optional (none, or "host", means that the command runs
from the machine's own file system), but then there must be a command. And the containers of a pod share one address, so
no two of them may declare the same port.
"""

from __future__ import annotations

import ipaddress

from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.names import (
    dns1123_label_problems,
    dns1123_subdomain_problems,
    env_name_problems,
    port_name_problems,
)
from cluster.api.pods import PODS, runs_on_host
from cluster.api.problems import Report
from cluster.api.remembered import remembered
from cluster.api.validation_dns import validate_dns
from cluster.api.validation_life import validate_life, validate_order
from cluster.api.validation_placement import validate_placement
from cluster.api.validation_security import validate_security
from cluster.api.validation_volumes import validate_env_from, validate_source, validate_volumes
from cluster.pb.v1 import core_pb2 as core

RESTART_POLICIES = ("Always", "OnFailure", "Never")
PROTOCOLS = ("TCP", "UDP", "SCTP")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_pod_spec(
    report: Report, spec: core.PodSpec, path: str, restart_policies: tuple[str, ...] = RESTART_POLICIES
) -> None:
    """Checks a specification whose defaults have been applied."""
    if not _is_fine(spec.SerializeToString(deterministic=True), restart_policies):
        _validate_pod_spec(report, spec, path, restart_policies)


@remembered
def _is_fine(data: bytes, restart_policies: tuple[str, ...]) -> bool:
    report = Report()
    _validate_pod_spec(report, core.PodSpec.FromString(data), "", restart_policies)
    return not report.errors


def _validate_pod_spec(report: Report, spec: core.PodSpec, path: str, restart_policies: tuple[str, ...]) -> None:
    if not spec.containers:
        report.required(f"{path}.containers")
    names: set[str] = set()
    taken: set[tuple[str, int]] = set()
    taken_on_host: set[tuple[str, str, int]] = set()
    for field, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            where = f"{path}.{field}[{index}]"
            if not container.name:
                report.required(f"{where}.name")
            elif container.name in names:
                report.duplicate(f"{where}.name", container.name)
            else:
                report.check(f"{where}.name", container.name, dns1123_label_problems(container.name))
            names.add(container.name)
            _validate_command(report, container, where)
            _validate_ports(report, container, where, taken, taken_on_host)
            _validate_env(report, container, where)
            _validate_resources(report, container.resources, f"{where}.resources")
            validate_life(report, container, where, is_init=field == "initContainers")
    validate_order(report, spec, path)
    validate_volumes(report, spec, path)
    if spec.HasField("activeDeadlineSeconds"):
        report.at_least(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, 1)
        if restart_policies != RESTART_POLICIES:
            report.forbidden(f"{path}.activeDeadlineSeconds", "a replication controller's pods run for ever")
    validate_security(report, spec, path)
    validate_dns(report, spec, path)
    if spec.HasField("stopAfterDisconnectSeconds"):
        report.at_least(f"{path}.stopAfterDisconnectSeconds", spec.stopAfterDisconnectSeconds, 1)
    report.one_of(f"{path}.restartPolicy", spec.restartPolicy, restart_policies)
    report.labels(f"{path}.nodeSelector", spec.nodeSelector)
    for field in ("hostname", "subdomain"):
        if getattr(spec, field):
            report.check(f"{path}.{field}", getattr(spec, field), dns1123_label_problems(getattr(spec, field)))
    if spec.nodeName:
        report.check(f"{path}.nodeName", spec.nodeName, dns1123_subdomain_problems(spec.nodeName))
    if spec.schedulerName:
        report.check(f"{path}.schedulerName", spec.schedulerName, dns1123_subdomain_problems(spec.schedulerName))
    for index, toleration in enumerate(spec.tolerations):
        _validate_toleration(report, toleration, f"{path}.tolerations[{index}]")
    validate_placement(report, spec, path)


def _validate_command(report: Report, container: core.Container, where: str) -> None:
    if container.image != container.image.strip():
        report.invalid(f"{where}.image", container.image, "must not have leading or trailing whitespace")
    for field, words in (("command", container.command), ("args", container.args)):
        for index, word in enumerate(words):
            report.no_nul(f"{where}.{field}[{index}]", word)
    report.no_nul(f"{where}.workingDir", container.workingDir)
    words = container.command or container.args
    if runs_on_host(container):
        if not words:
            report.required(
                f"{where}.command", "without an image (or with image: host) there must be a command to run on the host"
            )
        elif not words[0]:
            report.invalid(f"{where}.command[0]", "", "must name a program")


def _validate_ports(
    report: Report,
    container: core.Container,
    where: str,
    taken: set[tuple[str, int]],
    taken_on_host: set[tuple[str, str, int]],
) -> None:
    names: set[str] = set()
    for index, port in enumerate(container.ports):
        path = f"{where}.ports[{index}]"
        if port.name:
            report.check(f"{path}.name", port.name, port_name_problems(port.name))
            if port.name in names:
                report.duplicate(f"{path}.name", port.name)
            names.add(port.name)
        if not port.HasField("containerPort"):
            report.required(f"{path}.containerPort")
        else:
            report.port(f"{path}.containerPort", port.containerPort)
            if (port.protocol, port.containerPort) in taken:
                report.duplicate(f"{path}.containerPort", f"{port.containerPort}/{port.protocol}")
            taken.add((port.protocol, port.containerPort))
        report.one_of(f"{path}.protocol", port.protocol, PROTOCOLS)
        if port.hostIP:
            ip_address(report, f"{path}.hostIP", port.hostIP)
        if port.hostPort:
            report.port(f"{path}.hostPort", port.hostPort)
            place = (port.hostIP or "0.0.0.0", port.protocol, port.hostPort)
            if place in taken_on_host:
                report.duplicate(f"{path}.hostPort", f"{port.hostPort}/{port.protocol}")
            taken_on_host.add(place)


def _validate_env(report: Report, container: core.Container, where: str) -> None:
    for index, variable in enumerate(container.env):
        path = f"{where}.env[{index}]"
        if not variable.name:
            report.required(f"{path}.name")
        else:
            report.check(f"{path}.name", variable.name, env_name_problems(variable.name))
        report.no_nul(f"{path}.value", variable.value)
        if not variable.HasField("valueFrom"):
            continue
        if variable.value:
            report.invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
        validate_source(report, variable.valueFrom, f"{path}.valueFrom")
    validate_env_from(report, container, where)


def _validate_resources(report: Report, resources: core.ResourceRequirements, path: str) -> None:
    limits = report.amounts(f"{path}.limits", resources.limits)
    requests = report.amounts(f"{path}.requests", resources.requests)
    for name, request in requests.items():
        if name in limits and request > limits[name]:
            text = resources.requests[name].string
            report.invalid(f"{path}.requests", text, f"must be less than or equal to {name} limit")
    for field, amounts in (("limits", limits), ("requests", requests)):
        if PODS in amounts:
            report.invalid(f"{path}.{field}[{PODS}]", PODS, "must be a resource for containers: pods are counted")


def _validate_toleration(report: Report, toleration: core.Toleration, path: str) -> None:
    if toleration.key:
        report.check(f"{path}.key", toleration.key, label_key_problems(toleration.key))
    elif toleration.operator != "Exists":
        message = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        report.invalid(f"{path}.operator", toleration.operator, message)
    report.one_of(f"{path}.operator", toleration.operator, ("Equal", "Exists"))
    if toleration.operator == "Exists":
        if toleration.value:
            report.invalid(f"{path}.value", toleration.value, "value must be empty when `operator` is 'Exists'")
    else:
        report.check(f"{path}.value", toleration.value, label_value_problems(toleration.value))
    if toleration.effect:
        report.one_of(f"{path}.effect", toleration.effect, TAINT_EFFECTS)
    if toleration.HasField("tolerationSeconds") and toleration.effect != "NoExecute":
        message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        report.invalid(f"{path}.effect", toleration.effect, message)


def ip_address(report: Report, path: str, text: str) -> None:
    """An address of version 4 or 6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        report.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7)")
