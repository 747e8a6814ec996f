"""The rules of a container's life: probes, hooks, the order in which containers start, last words.

Kubernetes' rules. Probes and hooks ask the pod's own address only. What is of no use to an init container is refused
there: it has no readiness and no hooks, since it runs to its end (a sidecar has all of them).
"""

from __future__ import annotations

import re

from cluster.api.errors import Invalid
from cluster.api.kinds import kind_from_word
from cluster.api.names import dns1123_subdomain_problems, port_name_problems
from cluster.api.problems import MAX_PORT, Report
from cluster.pb.v1 import core_pb2 as core

PROBES = ("exec", "httpGet", "tcpSocket", "grpc")
HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
KUBERNETES_MESSAGE_PATH = "/dev/termination-log"
DEPENDENCIES = ("ReplicationController", "Service")
"""Kinds that a pod may wait for."""

_header_name = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_control_or_space = re.compile(r"[\x00-\x20\x7f]")


def validate_life(report: Report, container: core.Container, where: str, *, is_init: bool) -> None:
    """Probes, hooks and last words of one container."""
    sidecar = is_init and container.restartPolicy == "Always"
    if container.restartPolicy and not sidecar:
        why = "of an init container, Always makes a sidecar" if is_init else "only init containers may have one"
        report.not_supported(f"{where}.restartPolicy", container.restartPolicy, ("Always",) if is_init else (), why)
    for name in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
        if container.HasField(name) and is_init and not sidecar:
            report.forbidden(f"{where}.{name}", "may not be set for init containers without restartPolicy=Always")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.HasField(name):
            probe: core.Probe = getattr(container, name)
            _validate_probe(report, probe, f"{where}.{name}")
            if name != "readinessProbe" and probe.successThreshold != 1:
                report.invalid(f"{where}.{name}.successThreshold", probe.successThreshold, "must be 1")
            if name == "readinessProbe" and probe.HasField("terminationGracePeriodSeconds"):
                path = f"{where}.{name}.terminationGracePeriodSeconds"
                report.invalid(path, probe.terminationGracePeriodSeconds, "must not be set for readinessProbes")
    for name in ("postStart", "preStop"):
        if container.lifecycle.HasField(name):
            _validate_hook(report, getattr(container.lifecycle, name), f"{where}.lifecycle.{name}")
    if container.terminationMessagePolicy:
        report.one_of(f"{where}.terminationMessagePolicy", container.terminationMessagePolicy, MESSAGE_POLICIES)
    words = container.terminationMessagePath
    report.no_nul(f"{where}.terminationMessagePath", words)
    if words != KUBERNETES_MESSAGE_PATH and (words.startswith("/") or ".." in words.split("/")):
        why = "must be a path within the pod's directory; its place is in $PODIUM_TERMINATION_LOG"
        report.invalid(f"{where}.terminationMessagePath", words, why)


def validate_order(report: Report, spec: core.PodSpec, path: str) -> None:
    """What containers wait for: others of the pod, without a circle; and objects of the cluster."""
    waits = {container.name: list(container.dependsOn) for container in spec.containers}
    sidecars = {each.name for each in spec.initContainers if each.restartPolicy == "Always"}
    for index, container in enumerate(spec.initContainers):
        if container.dependsOn:
            why = "init containers run one after the other: order them"
            report.forbidden(f"{path}.initContainers[{index}].dependsOn", why)
    for index, container in enumerate(spec.containers):
        for number, name in enumerate(container.dependsOn):
            where = f"{path}.containers[{index}].dependsOn[{number}]"
            if name not in waits and name not in sidecars:
                report.invalid(where, name, "must be the name of another container of the pod, or of a sidecar")
            elif _leads_to(container.name, name, waits):
                report.invalid(where, name, f"{name} waits for {container.name}: neither would ever start")
    for number, name in enumerate(spec.dependsOn):
        where = f"{path}.dependsOn[{number}]"
        word, slash, object_name = name.partition("/")
        try:
            known = bool(slash) and kind_from_word(word).name in DEPENDENCIES
        except Invalid:
            known = False
        if not known:
            report.invalid(
                where, name, "must be replicationcontroller/NAME or service/NAME, of the pod's own namespace"
            )
        else:
            report.check(where, object_name, dns1123_subdomain_problems(object_name))


def _leads_to(goal: str, name: str, waits: dict[str, list[str]]) -> bool:
    seen: set[str] = set()
    queue = [name]
    while queue:
        here = queue.pop()
        if here == goal:
            return True
        if here not in seen:
            seen.add(here)
            queue += waits.get(here, ())
    return False


def _validate_hook(report: Report, handler: core.LifecycleHandler, path: str) -> None:
    given = [name for name in HOOKS if handler.HasField(name)]
    if not given:
        report.required(path, "must specify a handler type: one of " + ", ".join(HOOKS))
    for name in given[1:]:
        report.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    _validate_actions(report, handler, path)
    if handler.HasField("sleep"):
        report.at_least(f"{path}.sleep.seconds", handler.sleep.seconds, 0)


def _validate_probe(report: Report, probe: core.Probe, path: str) -> None:
    handler = probe.handler
    given = [name for name in PROBES if handler.HasField(name)]
    if not given:
        report.required(path, "must specify a handler type: one of " + ", ".join(PROBES))
    for name in given[1:]:
        report.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    _validate_actions(report, handler, path)
    if handler.HasField("grpc"):
        report.port(f"{path}.grpc.port", handler.grpc.port)
        report.no_nul(f"{path}.grpc.service", handler.grpc.service)
    report.at_least(f"{path}.initialDelaySeconds", probe.initialDelaySeconds, 0)
    report.at_least(f"{path}.timeoutSeconds", probe.timeoutSeconds, 1)
    report.at_least(f"{path}.periodSeconds", probe.periodSeconds, 1)
    report.at_least(f"{path}.successThreshold", probe.successThreshold, 1)
    report.at_least(f"{path}.failureThreshold", probe.failureThreshold, 1)
    if probe.HasField("terminationGracePeriodSeconds"):
        report.at_least(f"{path}.terminationGracePeriodSeconds", probe.terminationGracePeriodSeconds, 1)


def _validate_actions(report: Report, handler: core.Handler | core.LifecycleHandler, path: str) -> None:
    """What probes and hooks have in common."""
    if handler.HasField("exec"):
        if not handler.exec.command:
            report.required(f"{path}.exec.command")
        for index, word in enumerate(handler.exec.command):
            report.no_nul(f"{path}.exec.command[{index}]", word)
    if handler.HasField("httpGet"):
        _validate_http_get(report, handler.httpGet, f"{path}.httpGet")
    if handler.HasField("tcpSocket"):
        int_or_name(report, f"{path}.tcpSocket.port", handler.tcpSocket.port)
        _validate_probe_host(report, f"{path}.tcpSocket.host", handler.tcpSocket.host)


def _validate_http_get(report: Report, action: core.HTTPGetAction, path: str) -> None:
    if not action.path:
        report.required(f"{path}.path")
    elif _control_or_space.search(action.path):
        report.invalid(f"{path}.path", action.path, "must not contain spaces or control characters")
    int_or_name(report, f"{path}.port", action.port)
    _validate_probe_host(report, f"{path}.host", action.host)
    report.one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.httpHeaders):
        where = f"{path}.httpHeaders[{index}]"
        if not _header_name.fullmatch(header.name):
            report.invalid(f"{where}.name", header.name, "a valid HTTP header must consist of a token's characters")
        if _control.search(header.value):
            report.invalid(f"{where}.value", header.value, "must not contain control characters")


def _validate_probe_host(report: Report, path: str, host: str) -> None:
    """The node agent must not be made to call other machines, or the cluster's own daemons, on a pod's behalf."""
    if host:
        report.forbidden(path, "a probe asks the pod's own address only; for a virtual host set the header Host")


def int_or_name(report: Report, path: str, port: core.IntOrString) -> None:
    """A port by number or by the name of a container's port."""
    if port.type == 1:
        report.check(path, port.strVal, port_name_problems(port.strVal))
    elif port.HasField("intVal"):
        report.port(path, port.intVal)
    else:
        report.required(path, f"a number from 1 to {MAX_PORT}, or the name of a port of the container")
