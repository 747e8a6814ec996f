"""Short ways to say "a node with" and "a pod with"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.api.defaults import apply_defaults
from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

DEFAULT_NODE = {"cpu": "4", "memory": "8Gi", "pods": "110"}


def make_node(
    name: str,
    amounts: Mapping[str, str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[tuple[str, str, str]] = (),
    unschedulable: bool = False,
    directories: Sequence[str] = (),
) -> core.Node:
    """A node; `amounts` are added to 4 cpus, 8Gi and 110 pods."""
    node = core.Node()
    node.metadata.name = name
    node.metadata.uid = f"uid-{name}"
    node.metadata.labels["kubernetes.io/hostname"] = name
    node.metadata.labels.update(labels or {})
    for resource, amount in {**DEFAULT_NODE, **(amounts or {})}.items():
        node.status.capacity[resource].string = amount
        node.status.allocatable[resource].string = amount
    for key, value, effect in taints:
        node.spec.taints.add(key=key, value=value, effect=effect)
    if unschedulable:
        node.spec.unschedulable = True
    node.status.dataDirectories.extend(directories)
    return node


def make_pod(
    name: str,
    requests: Mapping[str, str] | None = None,
    *,
    namespace: str = "default",
    node: str = "",
    labels: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
    tolerations: Sequence[core.Toleration] = (),
    ports: Sequence[core.ContainerPort] = (),
    image: str = "",
    owner_uid: str = "",
    created_s: float = 0.0,
    priority: int = 0,
    policy: str = "",
    gates: Sequence[str] = (),
    group: tuple[str, int] | None = None,
    scheduler: str = "default-scheduler",
) -> core.Pod:
    """A pod of one container; `group`: its name and how many are placed together."""
    pod = core.Pod()
    meta, spec = pod.metadata, pod.spec
    meta.name, meta.namespace, meta.uid = name, namespace, f"uid-{namespace}-{name}"
    meta.creationTimestamp.CopyFrom(to_time(created_s))
    meta.labels.update(labels or {})
    if owner_uid:
        meta.ownerReferences.add(kind="ReplicationController", name=owner_uid, uid=owner_uid, controller=True)
    container = spec.containers.add(name="main", command=["true"])
    for resource, amount in (requests or {}).items():
        container.resources.requests[resource].string = amount
    container.ports.extend(ports)
    if image:
        container.image = image
    spec.nodeSelector.update(selector or {})
    spec.tolerations.extend(tolerations)
    spec.schedulerName = scheduler
    if priority:
        spec.priority = priority
    if policy:
        spec.preemptionPolicy = policy
    for gate in gates:
        spec.schedulingGates.add(name=gate)
    if group is not None:
        spec.podGroup.name, spec.podGroup.minMember = group
    if node:
        spec.nodeName = node
    pod.status.phase = "Pending"
    apply_defaults(pod)
    return pod


def near_to(pod: core.Pod, key: str, labels: Mapping[str, str]) -> core.Pod:
    """The pod, with a required affinity to pods with these labels."""
    term = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=key)
    term.labelSelector.matchLabels.update(labels)
    return pod


def away_from(pod: core.Pod, key: str, labels: Mapping[str, str]) -> core.Pod:
    """The pod, with a required anti-affinity to pods with these labels."""
    term = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=key)
    term.labelSelector.matchLabels.update(labels)
    return pod


def spread_over(pod: core.Pod, key: str, labels: Mapping[str, str], max_skew: int, *, hard: bool = True) -> core.Pod:
    """The pod, with a constraint to spread pods with these labels."""
    constraint = pod.spec.topologySpreadConstraints.add(
        topologyKey=key, maxSkew=max_skew, whenUnsatisfiable="DoNotSchedule" if hard else "ScheduleAnyway"
    )
    constraint.labelSelector.matchLabels.update(labels)
    return pod


def make_controller(name: str, selector: Mapping[str, str], namespace: str = "default") -> core.ReplicationController:
    """A controller whose uid is its name."""
    rc = core.ReplicationController()
    rc.metadata.name, rc.metadata.namespace, rc.metadata.uid = name, namespace, name
    rc.spec.selector.update(selector)
    return rc


def make_service(name: str, selector: Mapping[str, str], namespace: str = "default") -> core.Service:
    """A service."""
    service = core.Service()
    service.metadata.name, service.metadata.namespace, service.metadata.uid = name, namespace, f"uid-{name}"
    service.spec.selector.update(selector)
    return service


def host_port(port: int, protocol: str = "TCP", ip: str = "") -> core.ContainerPort:
    """A container port that takes a port of the node."""
    return core.ContainerPort(containerPort=80, hostPort=port, protocol=protocol, hostIP=ip)
