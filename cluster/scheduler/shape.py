"""What placement needs to know of a pod, and nothing else: its shape.

The replicas of one controller have the same shape, so what is computed for the first of them (which nodes fit, how
each scores) holds for all; the idea is the scheduling class of Borg and of Firmament. A shape knows no node, no
snapshot and no time, and not whose pod it is: that is `cluster.scheduler.podclass`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

from cluster.api.labels import Selector
from cluster.api.pods import BASELINE, host_ports, profile_label, requests_of, runs_on_host, security_profile
from cluster.api.selectors import PodTerm, pod_selector_of, pod_term, required_node_selector
from cluster.pb.v1 import core_pb2 as core

IMAGE_RUNTIME_LABEL = "podium.dev/image-runtime"
"""A node whose agent can run images announces this label with the value "true"."""
MAX_REQUEST = 1 << 52
"""Larger requests count as this much (4 PiB of memory): sums of them stay within 64 bits."""

SCORED_CPU_MILLI = 100
SCORED_MEMORY_BYTES = 200 * 1024 * 1024
"""What a pod without a request is scored as (not filtered), so that such pods spread too. Kubernetes' numbers."""


class HostPort(NamedTuple):
    """A port of the node itself that a pod takes."""

    protocol: str
    port: int
    ip: str


ANY_IP = "0.0.0.0"


class Tolerated(NamedTuple):
    """A toleration, with defaults filled in. An empty key with Exists tolerates all; an empty effect means any."""

    key: str
    operator: str
    value: str
    effect: str


class TaintTuple(NamedTuple):
    """A taint of a node."""

    key: str
    value: str
    effect: str


def tolerates(tolerations: tuple[Tolerated, ...], taint: TaintTuple) -> bool:
    """Whether one of the tolerations lets the taint pass."""
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Tolerated, taint: TaintTuple) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


class Condition(NamedTuple):
    """One condition on a label or field of a node, as in a NodeSelectorRequirement."""

    key: str
    operator: str
    values: tuple[str, ...]


class NodeTerm(NamedTuple):
    """Conditions on a node that must all hold; with none at all it selects no node."""

    labels: tuple[Condition, ...]
    fields: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """How evenly pods are to be spread over the values of a label of nodes."""

    topology_key: str
    max_skew: int
    hard: bool
    """DoNotSchedule; otherwise ScheduleAnyway."""
    selector: Selector
    """Of pods in the pod's own namespace."""
    min_domains: int = 0
    """While there are fewer domains, the emptiest counts as empty."""
    honor_affinity: bool = True
    """Nodes that the pod's node affinity rules out do not count."""
    honor_taints: bool = False
    """Nodes with taints that the pod does not tolerate do not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The part of a pod's spec that decides where it may go. Compared by identity; `PodClasses` interns it."""

    requests: tuple[tuple[str, int], ...]
    """Sorted by name; cpu in thousandths, everything else in whole units; "pods" is always 1; nothing is 0."""
    scored_cpu_milli: int
    scored_memory_bytes: int
    selector: tuple[tuple[str, str], ...]
    """spec.nodeSelector, sorted; and the label of nodes that carry out the pod's security profile."""
    node_name: str
    """Only this node will do; empty: any. (Pods that wait for a scheduler have none; what-if questions may.)"""
    tolerations: tuple[Tolerated, ...]
    host_ports: tuple[HostPort, ...]
    needs_image_runtime: bool
    node_terms: tuple[NodeTerm, ...] | None = None
    """Required node affinity: one of them must hold. None: nothing is required."""
    liked_nodes: tuple[tuple[int, NodeTerm], ...] = ()
    """Preferred node affinity: (weight, term)."""
    near: tuple[PodTerm, ...] = ()
    """Required affinity to pods; the namespaces are resolved, so that such a shape is of one namespace."""
    apart: tuple[PodTerm, ...] = ()
    """Required anti-affinity to pods."""
    liked_pods: tuple[tuple[int, PodTerm], ...] = ()
    """Preferred affinity to pods as (weight, term), and preferred anti-affinity as (-weight, term)."""
    spread: tuple[SpreadConstraint, ...] = ()
    directories: tuple[str, ...] = ()
    """Names of the data directories that its volumes use, sorted."""

    @property
    def facts(self) -> tuple[object, ...]:
        """Everything in it, for comparison by value."""
        return tuple(getattr(self, name) for name in _FIELDS)

    @property
    def minds_pods(self) -> bool:
        """It has affinity or anti-affinity to pods, required or preferred."""
        return bool(self.near or self.apart or self.liked_pods)


_FIELDS = tuple(each.name for each in fields(Shape))


def shape_of(pod: core.Pod, *, placed: bool = False) -> Shape:
    """A fresh shape. With `placed`, spec.nodeName is where the pod is and no longer a wish, and is left out."""
    spec, namespace = pod.spec, pod.metadata.namespace
    asked = {name: min(amount, MAX_REQUEST) for name, amount in requests_of(pod).items() if amount > 0}
    asked["pods"] = 1
    pods, others = spec.affinity.podAffinity, spec.affinity.podAntiAffinity
    required = required_node_selector(spec)
    return Shape(
        requests=tuple(sorted(asked.items())),
        scored_cpu_milli=asked.get("cpu", SCORED_CPU_MILLI),
        scored_memory_bytes=asked.get("memory", SCORED_MEMORY_BYTES),
        selector=_selector_of(spec),
        node_name="" if placed else spec.nodeName,
        tolerations=tuple(Tolerated(t.key, t.operator or "Equal", t.value, t.effect) for t in spec.tolerations),
        host_ports=tuple(HostPort(protocol, number, ip) for ip, protocol, number in sorted(host_ports(pod))),
        needs_image_runtime=not all(runs_on_host(container) for container in (*spec.initContainers, *spec.containers)),
        node_terms=None if required is None else tuple(_node_term(term) for term in required.nodeSelectorTerms),
        liked_nodes=tuple(
            (liked.weight, _node_term(liked.preference))
            for liked in spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution
        ),
        near=tuple(pod_term(term, namespace) for term in pods.requiredDuringSchedulingIgnoredDuringExecution),
        apart=tuple(pod_term(term, namespace) for term in others.requiredDuringSchedulingIgnoredDuringExecution),
        liked_pods=tuple(
            (sign * liked.weight, pod_term(liked.podAffinityTerm, namespace))
            for sign, group in ((1, pods), (-1, others))
            for liked in group.preferredDuringSchedulingIgnoredDuringExecution
        ),
        spread=tuple(_constraint(constraint) for constraint in spec.topologySpreadConstraints),
        directories=tuple(
            sorted(
                {
                    volume.volumeSource.dataDirectory.name
                    for volume in spec.volumes
                    if volume.volumeSource.HasField("dataDirectory")
                }
            )
        ),
    )


def _node_term(term: core.NodeSelectorTerm) -> NodeTerm:
    return NodeTerm(_conditions(term.matchExpressions), _conditions(term.matchFields))


def _conditions(requirements: Iterable[core.NodeSelectorRequirement]) -> tuple[Condition, ...]:
    return tuple(Condition(each.key, each.operator, tuple(each.values)) for each in requirements)


def _constraint(constraint: core.TopologySpreadConstraint) -> SpreadConstraint:
    return SpreadConstraint(
        topology_key=constraint.topologyKey,
        max_skew=constraint.maxSkew,
        hard=constraint.whenUnsatisfiable != "ScheduleAnyway",
        selector=pod_selector_of(constraint),
        min_domains=constraint.minDomains,
        honor_affinity=constraint.nodeAffinityPolicy != "Ignore",
        honor_taints=constraint.nodeTaintsPolicy == "Honor",
    )


def _selector_of(spec: core.PodSpec) -> tuple[tuple[str, str], ...]:
    wanted = dict(spec.nodeSelector)
    if security_profile(spec) != BASELINE:
        wanted[profile_label(spec.securityProfile)] = "true"
    return tuple(sorted(wanted.items()))
