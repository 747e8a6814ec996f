"""What a simulated node does with a pod, and what it says of it. Pure.

A real node starts processes and tells what becomes of them. A simulated one assumes the best of what is new, and leaves
alone what is there:

    new here, nothing reported yet     after a while it runs and is ready, if it fits (`cluster.api.fit`, as on a real
                                       node) and what it takes its configuration from is there; else that is said
    anything was reported              it stays as it is: what runs, runs on; what crashes, is assumed to go on crashing
    being deleted                      after a while, at most its grace period, it is gone

So no container of a simulated pod ever ends by itself, and none fails its probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.api.conditions import TRUE, set_condition
from cluster.api.fit import Rejection
from cluster.api.meta import is_terminating, to_time
from cluster.api.pods import FAILED, PENDING, RUNNING, is_finished, qos_class
from cluster.pb.v1 import core_pb2 as core

NODE_TAINTS = "node.kubernetes.io/"
"""Taints of this domain follow from the state of a node; a node that is made after another one has its own state."""
HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast simulated nodes are. Seconds of virtual time."""

    start_s: float = 1.0
    """From a pod's arrival at its node until it is ready, or refused."""
    stop_s: float = 1.0
    """From a pod's deletion until it is gone; less, if its grace period is."""


def is_new(pod: core.Pod) -> bool:
    """Its node has not reported anything of it, or no more than that it is about to begin."""
    if pod.status.phase not in ("", PENDING):
        return False
    return all(
        not status.state.HasField("running")
        and not status.state.HasField("terminated")
        and status.state.waiting.reason in ("", "ContainerCreating", "PodInitializing")
        and not status.restartCount
        for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
    )


def acts_in_s(pod: core.Pod, pace: Pace) -> float | None:
    """After how long its node does something about a pod that it has just heard of; None: never."""
    if is_terminating(pod):
        if is_finished(pod):
            return 0.0
        grace_s = pod.metadata.deletionGracePeriodSeconds if pod.metadata.HasField("deletionGracePeriodSeconds") else 30
        return min(pace.stop_s, float(grace_s))
    return pace.start_s if is_new(pod) else None


def running(pod: core.Pod, *, pod_ip: str, host_ip: str, now_s: float) -> core.PodStatus:
    """The status of a pod all of whose containers run and are ready. `now_s`: wall time."""
    status = _begun(pod, pod_ip, host_ip, now_s)
    status.phase = RUNNING
    for container in pod.spec.initContainers:
        _fill(status.initContainerStatuses.add(), container, now_s, stays=container.restartPolicy == "Always")
    for container in pod.spec.containers:
        _fill(status.containerStatuses.add(), container, now_s, stays=True)
    for type in ("Initialized", "ContainersReady", "Ready"):
        set_condition(status, type, TRUE, now_s)
    return status


def refused(pod: core.Pod, rejection: Rejection, now_s: float) -> core.PodStatus:
    """The status of a pod that its node does not take."""
    status = _begun(pod, "", "", now_s)
    status.phase, status.reason, status.message = FAILED, rejection.reason, rejection.message
    for type in ("ContainersReady", "Ready"):
        set_condition(status, type, "False", now_s, "PodFailed")
    return status


def unprepared(pod: core.Pod, message: str, *, pod_ip: str, host_ip: str, now_s: float) -> core.PodStatus:
    """The status of a pod whose containers cannot start for want of configuration."""
    status = _begun(pod, pod_ip, host_ip, now_s)
    status.phase = PENDING
    for container in pod.spec.containers:
        waiting = status.containerStatuses.add(name=container.name, image=container.image)
        waiting.state.waiting.reason, waiting.state.waiting.message = "CreateContainerConfigError", message
    names = " ".join(container.name for container in pod.spec.containers)
    for type in ("ContainersReady", "Ready"):
        message = f"containers with unready status: [{names}]"
        set_condition(status, type, "False", now_s, "ContainersNotReady", message)
    return status


def is_unprepared(pod: core.Pod) -> bool:
    """It waits for configuration, as `unprepared` says."""
    return any(status.state.waiting.reason == "CreateContainerConfigError" for status in pod.status.containerStatuses)


def missing_configuration(pod: core.Pod, exists: Callable[[str, str, str], bool]) -> str:
    """What a container of the pod cannot do without and is not there, in words; empty: nothing is missing.

    `exists(kind, namespace, name)` says what is there.
    """
    for kind, name in _needed(pod.spec):
        if not exists(kind, pod.metadata.namespace, name):
            return f'{kind.lower()} "{name}" not found'
    return ""


def _needed(spec: core.PodSpec) -> Iterator[tuple[str, str]]:
    """ConfigMaps and Secrets without which a container does not start."""
    for container in (*spec.initContainers, *spec.containers):
        for every in container.envFrom:
            if every.HasField("configMapRef") and not every.configMapRef.optional:
                yield "ConfigMap", every.configMapRef.localObjectReference.name
            if every.HasField("secretRef") and not every.secretRef.optional:
                yield "Secret", every.secretRef.localObjectReference.name
        for variable in container.env:
            source = variable.valueFrom
            if source.HasField("configMapKeyRef") and not source.configMapKeyRef.optional:
                yield "ConfigMap", source.configMapKeyRef.localObjectReference.name
            if source.HasField("secretKeyRef") and not source.secretKeyRef.optional:
                yield "Secret", source.secretKeyRef.localObjectReference.name
    for volume in spec.volumes:
        held = volume.volumeSource
        if held.HasField("configMap") and not held.configMap.optional:
            yield "ConfigMap", held.configMap.localObjectReference.name
        if held.HasField("secret") and not held.secret.optional:
            yield "Secret", held.secret.secretName


def node_like(model: core.Node, name: str) -> core.Node:
    """A new node with the labels, the taints and the resources of another one, to be registered."""
    node = core.Node(metadata=core.ObjectMeta(name=name))
    for key, value in model.metadata.labels.items():
        node.metadata.labels[key] = name if key == HOSTNAME else value
    node.metadata.annotations.update(model.metadata.annotations)
    node.spec.taints.extend(taint for taint in model.spec.taints if not taint.key.startswith(NODE_TAINTS))
    node.status.CopyFrom(ready(model.status, 0.0))
    return node


def ready(before: core.NodeStatus, now_s: float) -> core.NodeStatus:
    """The status of a node that is well."""
    status = core.NodeStatus()
    status.CopyFrom(before)
    for condition in status.conditions:
        if condition.type != "Ready":
            set_condition(status, condition.type, "False", now_s)
    set_condition(status, "Ready", TRUE, now_s, "KubeletReady", "kubelet is posting ready status")
    return status


def _begun(pod: core.Pod, pod_ip: str, host_ip: str, now_s: float) -> core.PodStatus:
    status = core.PodStatus()
    status.conditions.extend(pod.status.conditions)
    set_condition(status, "PodScheduled", TRUE, now_s)
    status.startTime.CopyFrom(pod.status.startTime if pod.status.HasField("startTime") else to_time(now_s))
    status.qosClass = qos_class(pod)
    status.hostIP = host_ip
    if pod_ip:
        status.podIP = pod_ip
        status.podIPs.add(ip=pod_ip)
    return status


def _fill(status: core.ContainerStatus, container: core.Container, now_s: float, *, stays: bool) -> None:
    """A container that runs, or has done its work."""
    status.name, status.image, status.ready = container.name, container.image, True
    status.restartCount, status.started = 0, stays
    status.lastState.SetInParent()
    if stays:
        status.state.running.startedAt.CopyFrom(to_time(now_s))
    else:
        ended = status.state.terminated
        ended.exitCode, ended.reason = 0, "Completed"
        ended.startedAt.CopyFrom(to_time(now_s))
        ended.finishedAt.CopyFrom(to_time(now_s))
