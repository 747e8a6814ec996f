"""Whether this node takes a pod that was bound to it. Pure.

The scheduler decides on what it knew; the node has the last word, because two schedulers, or a person who set
spec.nodeName, may have promised the same room twice (Kubernetes, pkg/kubelet/lifecycle/predicate.go). A pod that does
not fit is Failed with one of Kubernetes' reasons, and its controller makes another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.api.pods import PODS, host_ports, requests_of
from cluster.api.selectors import node_is_allowed
from cluster.pb.v1 import core_pb2 as core


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the node does not take the pod."""

    reason: str
    """OutOfcpu, OutOfmemory, OutOfpods, NodeAffinity, NodePorts ..."""
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod holds of its node while it is not finished."""

    requests: Mapping[str, int]
    """In the units of `cluster.api.pods.amount`."""
    ports: frozenset[tuple[str, str, int]]
    """(address, protocol, number)"""

    @classmethod
    def of(cls, pod: core.Pod) -> Claim:
        return cls(requests_of(pod), frozenset(host_ports(pod)))


def admit(
    pod: core.Pod, others: Iterable[Claim], allocatable: Mapping[str, int], labels: Mapping[str, str]
) -> Rejection | None:
    """None if the pod fits beside the others; amounts are in the units of `cluster.api.pods.amount`.

    `others` are the claims of all pods that hold resources of this node: that are bound to it and not finished.
    """
    for key, value in pod.spec.nodeSelector.items():
        if labels.get(key) != value:
            return Rejection(
                "NodeAffinity",
                f"Pod was rejected: the node does not have the label {key}={value} that nodeSelector asks",
            )
    if not node_is_allowed(pod.spec, pod.spec.nodeName, labels):
        return Rejection(
            "NodeAffinity", "Pod was rejected: the node does not meet what the pod's node affinity requires"
        )
    used: dict[str, int] = {PODS: 0}
    taken: set[tuple[str, str, int]] = set()
    for other in others:
        used[PODS] += 1
        taken |= other.ports
        for resource, wanted in other.requests.items():
            used[resource] = used.get(resource, 0) + wanted
    for resource, wanted in {PODS: 1, **requests_of(pod)}.items():
        capacity = allocatable.get(resource, 0)
        if wanted > 0 and used.get(resource, 0) + wanted > capacity:
            return Rejection(
                f"OutOf{resource}",
                f"Pod was rejected: Node didn't have enough resource: {resource}, requested: {wanted},"
                f" used: {used.get(resource, 0)}, capacity: {capacity}",
            )
    for address, protocol, port in host_ports(pod):
        for other_address, other_protocol, other_port in taken:
            same = (protocol, port) == (other_protocol, other_port)
            if same and (address == other_address or "0.0.0.0" in (address, other_address)):
                return Rejection("NodePorts", f"Pod was rejected: host port {port}/{protocol} is taken on this node")
    return None
