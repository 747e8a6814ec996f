"""Small facts about a pod that several daemons must agree on.

What it asks for, whether it is finished, whether it counts, how well it is guarded when memory runs out. Pure functions
of the pod alone; what to do about it is decided elsewhere.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cluster.api.meta import is_terminating
from cluster.api.quantities import milli, whole
from cluster.pb.v1 import core_pb2 as core

PENDING, RUNNING, SUCCEEDED, FAILED, UNKNOWN = "Pending", "Running", "Succeeded", "Failed", "Unknown"
"""The phases of a pod; Succeeded and Failed are final."""

POD_SCHEDULED = "PodScheduled"
"""The condition that says whether a pod has a place."""
SCHEDULING_GATED = "SchedulingGated"
"""Its reason while gates hold the pod back."""

CPU, MEMORY, PODS = "cpu", "memory", "pods"
HOST_IMAGE = "host"
"""The image that says: the command runs from the machine's own file system. The same as no image."""


BASELINE, RESTRICTED, SANDBOX, TRUSTED = "baseline", "restricted", "sandbox", "trusted"
SECURITY_PROFILES = (BASELINE, RESTRICTED, SANDBOX, TRUSTED)
"""How a pod's processes may be contained, from `spec.securityProfile`."""


def security_profile(spec: core.PodSpec) -> str:
    """The profile of a pod; baseline if it does not say."""
    return spec.securityProfile or BASELINE


def profile_label(profile: str) -> str:
    """The label that a node has, with the value "true", if it carries the profile out. (All carry out baseline.)"""
    return f"podium.dev/security-profile-{profile}"


def is_finished(pod: core.Pod) -> bool:
    """Its phase is final: no container will ever run again."""
    return pod.status.phase in (SUCCEEDED, FAILED)


def is_active(pod: core.Pod) -> bool:
    """It counts as one of its controller's replicas: not finished, and not on its way out."""
    return not is_finished(pod) and not is_terminating(pod)


def runs_on_host(container: core.Container) -> bool:
    """It needs no image: the command runs from the machine's own file system."""
    return container.image in ("", HOST_IMAGE)


def amount(resource: str, quantity: core.Quantity) -> int:
    """A quantity in the unit that sums are kept in: cpu in thousandths, everything else in whole units (bytes)."""
    return milli(quantity) if resource == CPU else whole(quantity)


def requests_of(pod: core.Pod) -> dict[str, int]:
    """What placement must reserve, per resource, in the units of `amount`.

    Containers and sidecars run together; an init container runs beside the sidecars before it alone. So it is the
    largest of: what all containers and sidecars ask for; what an init container asks for, with the sidecars before it
    (Kubernetes, KEP-753). Where a container has a limit and no request for a resource, the limit is its request.
    """
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in pod.spec.initContainers:
        together = _sum(sidecars, _requests(container))
        if container.restartPolicy == "Always":
            sidecars = together
        peak = {name: max(peak.get(name, 0), together.get(name, 0)) for name in {*peak, *together}}
    total = sidecars
    for container in pod.spec.containers:
        total = _sum(total, _requests(container))
    return {name: max(peak.get(name, 0), total.get(name, 0)) for name in {**total, **peak}}


def _requests(container: core.Container) -> dict[str, int]:
    wanted = dict(container.resources.limits)
    wanted.update(container.resources.requests)
    return {resource: amount(resource, quantity) for resource, quantity in wanted.items()}


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def container_ports(pod: core.Pod) -> Iterator[core.ContainerPort]:
    """Every port that a container of the pod declares, in order; those of init containers are nobody's to reach."""
    for container in pod.spec.containers:
        yield from container.ports
    for container in pod.spec.initContainers:
        if container.restartPolicy == "Always":
            yield from container.ports


def host_ports(pod: core.Pod) -> set[tuple[str, str, int]]:
    """The ports of the node that the pod takes: (hostIP or "0.0.0.0", protocol, port)."""
    return {
        (port.hostIP or "0.0.0.0", port.protocol or "TCP", port.hostPort)
        for port in container_ports(pod)
        if port.hostPort
    }


def mount_target(path: str) -> str:
    """The mountPath of a volume as it is carried out: without doubled and trailing slashes and without dots."""
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else posixpath.normpath(path)


def config_references(spec: core.PodSpec) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets of its namespace that a pod takes something from, as (kind, name)."""
    found: set[tuple[str, str]] = set()
    for container in (*spec.initContainers, *spec.containers):
        for variable in container.env:
            source = variable.valueFrom
            if source.HasField("configMapKeyRef"):
                found.add(("ConfigMap", source.configMapKeyRef.localObjectReference.name))
            if source.HasField("secretKeyRef"):
                found.add(("Secret", source.secretKeyRef.localObjectReference.name))
        for every in container.envFrom:
            if every.HasField("configMapRef"):
                found.add(("ConfigMap", every.configMapRef.localObjectReference.name))
            if every.HasField("secretRef"):
                found.add(("Secret", every.secretRef.localObjectReference.name))
    for volume in spec.volumes:
        if volume.volumeSource.HasField("configMap"):
            found.add(("ConfigMap", volume.volumeSource.configMap.localObjectReference.name))
        if volume.volumeSource.HasField("secret"):
            found.add(("Secret", volume.volumeSource.secret.secretName))
    return found


def find_port(pod: core.Pod, name: str, protocol: str = "") -> int | None:
    """The number of the container port of that name, and of that protocol if one is given; None if there is none."""
    for port in container_ports(pod):
        if port.name == name and protocol in ("", port.protocol or "TCP"):
            return port.containerPort
    return None


GUARANTEED_SCORE, BEST_EFFORT_SCORE = -997, 1000


def oom_score_adjustment(pod: core.Pod, container: core.Container, memory_bytes: int) -> int:
    """How soon a container is killed when its node, of so much memory, has none left, from -1000 (never) to 1000.

    Kubernetes' (pkg/kubelet/qos/policy.go): what is guaranteed last; what asks for nothing first; in between, who asked
    for less is killed sooner.
    """
    match qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_SCORE
        case "BestEffort":
            return BEST_EFFORT_SCORE
    asked = _requests(container).get(MEMORY, 0)
    score = 1000 - 1000 * asked // memory_bytes if memory_bytes else BEST_EFFORT_SCORE
    return max(1000 + GUARANTEED_SCORE, min(BEST_EFFORT_SCORE - 1, score))


def qos_class(pod: core.Pod) -> str:
    """Kubernetes' class of service, from cpu and memory alone.

    Guaranteed: every container limits both, and requests exactly that. BestEffort: nobody asks for anything.
    Burstable: all the rest.
    """
    anything, guaranteed = False, bool(pod.spec.containers)
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        limits, requests = container.resources.limits, container.resources.requests
        for resource in (CPU, MEMORY):
            limit = amount(resource, limits[resource]) if resource in limits else 0
            request = amount(resource, requests[resource]) if resource in requests else limit
            anything = anything or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and limit == request
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
