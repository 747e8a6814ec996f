"""Defaults: what a field means when nobody set it, written into the object so that nobody has to know.

Kubernetes' defaults, applied by the master before validation, and by the client before it checks a manifest. In place;
a second time changes nothing. Quantities become canonical, so that "1000m" and "1" are the same bytes and an update
that changes nothing is seen to change nothing.

Left out: what Podium does not carry out (imagePullPolicy ...), and what needs to know the cluster (addresses
and tolerations by profile): that is the master's admission.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from cluster.api.kinds import AnyObject, kind_of
from cluster.api.priorities import PREEMPT_LOWER_PRIORITY
from cluster.api.quantities import canonical
from cluster.api.remembered import remembered
from cluster.api.service_traffic import default_traffic
from cluster.pb.v1 import core_pb2 as core

DEFAULT_NAMESPACE = "default"
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""The label of every namespace that holds its name."""
TERMINATION_GRACE_PERIOD_S = 30
SCHEDULER_NAME = "default-scheduler"
AFFINITY_TIMEOUT_S = 10800
GROUP_TIMEOUT_S = 60
"""How long pods of a group wait for the others of it."""

_PROBE_NUMBERS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def apply_defaults(obj: AnyObject) -> None:
    """Fills in what is unset, in place."""
    if kind_of(obj).namespaced and not obj.metadata.namespace and not isinstance(obj, core.CustomObject):
        obj.metadata.namespace = DEFAULT_NAMESPACE
    if isinstance(obj, core.Pod):
        default_pod_spec(obj.spec)
        if not obj.status.phase:
            obj.status.phase = "Pending"
    elif isinstance(obj, core.ReplicationController):
        _default_replication_controller(obj)
    elif isinstance(obj, core.Fault):
        _default(obj.spec, "seed", 1)
    elif isinstance(obj, core.Service):
        _default_service(obj.spec)
    elif isinstance(obj, core.Endpoints):
        for subset in obj.subsets:
            for port in subset.ports:
                _default(port, "protocol", "TCP")
    elif isinstance(obj, core.Node):
        _canonical(obj.status.capacity)
        _canonical(obj.status.allocatable)
        if not obj.status.allocatable:
            for resource, quantity in obj.status.capacity.items():
                obj.status.allocatable[resource].CopyFrom(quantity)
    elif isinstance(obj, core.Namespace):
        _default(obj.status, "phase", "Active")
        if obj.metadata.name:  # so that a namespaceSelector can name it
            obj.metadata.labels[NAMESPACE_NAME_LABEL] = obj.metadata.name
    elif isinstance(obj, core.Secret):
        _default(obj, "type", "Opaque")
        for key, text in obj.stringData.items():  # for writing only: it wins over data, and is never kept
            obj.data[key] = text.encode()
        obj.ClearField("stringData")
    elif isinstance(obj, core.CustomResourceDefinition):
        _default_definition(obj.spec)
    elif isinstance(obj, core.PriorityClass):
        _default(obj, "preemptionPolicy", PREEMPT_LOWER_PRIORITY)


def default_pod_spec(spec: core.PodSpec) -> None:
    """The defaults of a pod's specification, also within a template."""
    given = spec.SerializeToString(deterministic=True)
    completed = _completed(given)
    if completed != given:
        spec.ParseFromString(completed)


@remembered
def _completed(given: bytes) -> bytes:
    spec = core.PodSpec.FromString(given)
    _complete_pod_spec(spec)
    return spec.SerializeToString(deterministic=True)


def _complete_pod_spec(spec: core.PodSpec) -> None:
    _default(spec, "restartPolicy", "Always")
    _default(spec, "schedulerName", SCHEDULER_NAME)
    if not spec.HasField("terminationGracePeriodSeconds"):
        spec.terminationGracePeriodSeconds = TERMINATION_GRACE_PERIOD_S
    elif spec.terminationGracePeriodSeconds < 0:
        spec.terminationGracePeriodSeconds = 1  # as Kubernetes takes it, here and in a deletion
    if not spec.HasField("enableServiceLinks"):
        spec.enableServiceLinks = True
    spec.securityContext.SetInParent()  # clients of Kubernetes take it for there: `kubectl debug` breaks without it
    for volume in spec.volumes:
        _default_volume(volume.volumeSource)
    for container in (*spec.initContainers, *spec.containers):
        for port in container.ports:
            _default(port, "protocol", "TCP")
        for variable in container.env:
            if variable.valueFrom.HasField("fieldRef"):
                _default(variable.valueFrom.fieldRef, "apiVersion", "v1")
        container.resources.SetInParent()  # in Kubernetes' JSON, {} at least
        _default_resources(container.resources)
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if container.HasField(name):
                _default_probe(getattr(container, name))
        for name in ("postStart", "preStop"):
            hook = getattr(container.lifecycle, name)
            if hook.HasField("httpGet"):
                _default(hook.httpGet, "path", "/")
                _default(hook.httpGet, "scheme", "HTTP")
    for toleration in spec.tolerations:
        _default(toleration, "operator", "Equal")
    if spec.HasField("podGroup") and not spec.podGroup.HasField("scheduleTimeoutSeconds"):
        spec.podGroup.scheduleTimeoutSeconds = GROUP_TIMEOUT_S


def _default_volume(source: core.VolumeSource) -> None:
    """Kubernetes' modes, but for secrets: nobody else has to read those."""
    for name, mode in (("secret", 0o400), ("configMap", 0o644), ("downwardAPI", 0o644)):
        if source.HasField(name):
            given = getattr(source, name)
            if not given.HasField("defaultMode"):
                given.defaultMode = mode
    for item in source.downwardAPI.items if source.HasField("downwardAPI") else ():
        if item.HasField("fieldRef"):
            _default(item.fieldRef, "apiVersion", "v1")
    if source.emptyDir.HasField("sizeLimit"):
        _canonical({"sizeLimit": source.emptyDir.sizeLimit})


def _default_resources(resources: core.ResourceRequirements) -> None:
    """A limit without a request is also the request."""
    _canonical(resources.limits)
    _canonical(resources.requests)
    for resource, limit in resources.limits.items():
        if resource not in resources.requests:
            resources.requests[resource].CopyFrom(limit)


def _default_probe(probe: core.Probe) -> None:
    for field, number in _PROBE_NUMBERS.items():
        _default(probe, field, number)
    if probe.handler.HasField("httpGet"):
        _default(probe.handler.httpGet, "path", "/")
        _default(probe.handler.httpGet, "scheme", "HTTP")


def _default_definition(spec: core.CustomResourceDefinitionSpec) -> None:
    if spec.names.kind:
        _default(spec.names, "singular", spec.names.kind.lower())
        _default(spec.names, "listKind", f"{spec.names.kind}List")
    _default(spec.conversion, "strategy", "None")


def _default_replication_controller(rc: core.ReplicationController) -> None:
    """The template's labels stand in for the controller's own labels and for its selector."""
    if not rc.spec.HasField("replicas"):
        rc.spec.replicas = 1
    labels = dict(rc.spec.template.metadata.labels)
    if not rc.metadata.labels and labels:
        rc.metadata.labels.update(labels)
    if not rc.spec.selector and labels:
        rc.spec.selector.update(labels)
    if rc.spec.HasField("template"):
        default_pod_spec(rc.spec.template.spec)


def _default_service(spec: core.ServiceSpec) -> None:
    _default(spec, "type", "ClusterIP")
    _default(spec, "sessionAffinity", "None")
    if spec.sessionAffinity == "ClientIP":
        if not spec.sessionAffinityConfig.clientIP.HasField("timeoutSeconds"):
            spec.sessionAffinityConfig.clientIP.timeoutSeconds = AFFINITY_TIMEOUT_S
    elif spec.sessionAffinity == "None":
        spec.ClearField("sessionAffinityConfig")
    default_traffic(spec)
    for port in spec.ports:
        _default(port, "protocol", "TCP")
        if not port.nodePort:
            port.ClearField("nodePort")  # "0", as clients in Go send what is unset
        target = port.targetPort
        if not target.intVal and not target.strVal and port.HasField("port"):
            target.type = 0
            target.intVal = port.port
            target.ClearField("strVal")


def _default(message: Any, field: str, value: str | int) -> None:
    """Sets a field that is unset, empty or 0 (clients in Go send zero values for unset ones)."""
    if not getattr(message, field):
        setattr(message, field, value)


def _canonical(quantities: MutableMapping[str, core.Quantity]) -> None:
    for quantity in quantities.values():
        try:
            text = canonical(quantity.string)
        except ValueError:
            continue  # left as it is, for validation to report
        if text != quantity.string:
            quantity.string = text
