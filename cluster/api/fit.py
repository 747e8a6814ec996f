"""Whether this node takes a pod that was bound to it. Pure.

The scheduler decides on what it knew; the node has the last word, because two schedulers, or a person who set
spec.nodeName, may have promised the same room twice (Kubernetes, pkg/kubelet/lifecycle/predicate.go). A pod that does
not fit is Failed with one of Kubernetes' reasons, and its controller makes another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.api.pods import PODS, host_ports, requests_of
from cluster.api.selectors import node_selector_matches, required_node_selector
from cluster.pb.v1 import core_pb2 as core

Port = tuple[str, str, int]
"""(address, protocol, number)"""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the node does not take the pod."""

    reason: str
    """OutOfcpu, OutOfmemory, OutOfpods, NodeAffinity, NodePorts ..."""
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod asks of its node, and holds of it while it is not finished."""

    requests: Mapping[str, int]
    """In the units of `cluster.api.pods.amount`."""
    ports: frozenset[Port]
    selector: Mapping[str, str]
    """Labels that the node must have."""
    affinity: core.NodeSelector | None = None
    """What its node affinity demands of the node; None: nothing."""

    @classmethod
    def of(cls, pod: core.Pod) -> Claim:
        affinity, demanded = None, required_node_selector(pod.spec)
        if demanded is not None:
            affinity = core.NodeSelector()
            affinity.CopyFrom(demanded)  # else the whole pod would be kept as long as the claim
        return cls(requests_of(pod), frozenset(host_ports(pod)), dict(pod.spec.nodeSelector), affinity)


class Held:
    """What the pods of a node hold of it together: those that are bound to it and not finished."""

    __slots__ = ("_ports", "_used", "pods")

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self.pods = 0
        self._used: dict[str, int] = {}
        self._ports: dict[Port, int] = {}
        """How often each is held: pods that were taken over may share one."""
        for claim in claims:
            self.add(claim)

    def used(self, resource: str) -> int:
        """How much of a resource is held, in the units of `cluster.api.pods.amount`."""
        return self.pods if resource == PODS else self._used.get(resource, 0)

    @property
    def ports(self) -> Iterable[Port]:
        """The ports that are held."""
        return self._ports

    def add(self, claim: Claim) -> None:
        """One more pod holds what it asked for."""
        self.pods += 1
        for resource, amount in claim.requests.items():
            self._used[resource] = self._used.get(resource, 0) + amount
        for port in claim.ports:
            self._ports[port] = self._ports.get(port, 0) + 1

    def remove(self, claim: Claim) -> None:
        """One that was added holds nothing any more."""
        self.pods -= 1
        for resource, amount in claim.requests.items():
            self._used[resource] -= amount
        for port in claim.ports:
            self._ports[port] -= 1
            if not self._ports[port]:
                del self._ports[port]


def admit(
    claim: Claim, held: Held, allocatable: Mapping[str, int], name: str, labels: Mapping[str, str]
) -> Rejection | None:
    """None if the pod fits onto the node of that name beside those that hold something of it; amounts are in the units
    of `cluster.api.pods.amount`."""
    for key, value in claim.selector.items():
        if labels.get(key) != value:
            return Rejection(
                "NodeAffinity",
                f"Pod was rejected: the node does not have the label {key}={value} that nodeSelector asks",
            )
    if claim.affinity is not None and not node_selector_matches(claim.affinity, name, labels):
        return Rejection(
            "NodeAffinity", "Pod was rejected: the node does not meet what the pod's node affinity requires"
        )
    for resource, wanted in ((PODS, 1), *claim.requests.items()):
        capacity = allocatable.get(resource, 0)
        if wanted > 0 and held.used(resource) + wanted > capacity:
            return Rejection(
                f"OutOf{resource}",
                f"Pod was rejected: Node didn't have enough resource: {resource}, requested: {wanted},"
                f" used: {held.used(resource)}, capacity: {capacity}",
            )
    for address, protocol, port in claim.ports:
        for other_address, other_protocol, other_port in held.ports:
            same = (protocol, port) == (other_protocol, other_port)
            if same and (address == other_address or "0.0.0.0" in (address, other_address)):
                return Rejection("NodePorts", f"Pod was rejected: host port {port}/{protocol} is taken on this node")
    return None
