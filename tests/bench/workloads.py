"""The workloads of Kubernetes' scheduler_perf, as objects: same names, same sizes, same constraints.

Sources: test/integration/scheduler_perf (performance-config.yaml and its pod and node templates). Each workload says
which nodes there are, which pods are placed before (not measured), and which pods are measured. Nodes have 4 cpu,
32 Gi of memory and room for 110 pods; pods ask for 100m and 500Mi, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cluster.pb.v1 import core_pb2 as core

ZONE = "topology.kubernetes.io/zone"
HOSTNAME = "kubernetes.io/hostname"
NAMESPACE = "default"

MakePod = Callable[[str, int], core.Pod]
"""From a name and a number."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What scheduler_perf calls a test case with one of its sizes."""

    name: str
    nodes: int
    initial: tuple[tuple[int, MakePod], ...]
    """How many pods, of which kind, are there before."""
    measured: int
    make: MakePod
    zones: tuple[str, ...] = ()
    pending: tuple[int, MakePod] | None = None
    """Pods that are there and can never be placed."""
    churns: bool = False
    """Nodes, services and pods come and go meanwhile."""
    classes: tuple[core.PriorityClass, ...] = field(default=())


def node(name: str, zone: str = "") -> core.Node:
    """A node that is ready, as scheduler_perf's default one."""
    made = core.Node()
    made.metadata.name = name
    made.metadata.labels[HOSTNAME] = name
    if zone:
        made.metadata.labels[ZONE] = zone
    for amounts in (made.status.capacity, made.status.allocatable):
        for resource, amount in (("cpu", "4"), ("memory", "32Gi"), ("pods", "110")):
            amounts[resource].string = amount
    made.status.conditions.add(type="Ready", status="True", reason="KubeletReady")
    return made


def nodes_of(workload: Workload) -> Iterator[core.Node]:
    """All nodes of a workload, their zones in turns."""
    for number in range(workload.nodes):
        zone = workload.zones[number % len(workload.zones)] if workload.zones else ""
        yield node(f"node-{number}", zone)


def basic(name: str, number: int = 0) -> core.Pod:
    """The pod of SchedulingBasic."""
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, NAMESPACE
    container = pod.spec.containers.add(name="pause", command=["pause"])
    container.resources.requests["cpu"].string = "100m"
    container.resources.requests["memory"].string = "500Mi"
    return pod


def labelled(colour: str) -> MakePod:
    """The same with a label."""

    def make(name: str, number: int) -> core.Pod:
        pod = basic(name)
        pod.metadata.labels["color"] = colour
        return pod

    return make


def _selects(selector: core.LabelSelector, colour: str) -> None:
    selector.matchLabels["color"] = colour


def anti_affine(name: str, number: int) -> core.Pod:
    """One to a host."""
    pod = labelled("green")(name, number)
    term = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=HOSTNAME)
    _selects(term.labelSelector, "green")
    return pod


def affine(name: str, number: int) -> core.Pod:
    """Together in a zone."""
    pod = labelled("blue")(name, number)
    term = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=ZONE)
    _selects(term.labelSelector, "blue")
    return pod


def preferring(name: str, number: int) -> core.Pod:
    """Better beside their like."""
    pod = labelled("red")(name, number)
    term = pod.spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1)
    term.podAffinityTerm.topologyKey = HOSTNAME
    _selects(term.podAffinityTerm.labelSelector, "red")
    return pod


def avoiding(name: str, number: int) -> core.Pod:
    """Better apart from their like."""
    pod = labelled("yellow")(name, number)
    term = pod.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1)
    term.podAffinityTerm.topologyKey = HOSTNAME
    _selects(term.podAffinityTerm.labelSelector, "yellow")
    return pod


def in_zone(name: str, number: int) -> core.Pod:
    """On nodes of two zones only."""
    pod = basic(name)
    required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    required.nodeSelectorTerms.add().matchExpressions.add(key=ZONE, operator="In", values=["zone1", "zone2"])
    return pod


def daemon(name: str, number: int) -> core.Pod:
    """On one node, as the controller of a DaemonSet asks for."""
    pod = basic(name)
    required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    term = required.nodeSelectorTerms.add()
    term.matchFields.add(key="metadata.name", operator="In", values=[f"node-{number}"])
    return pod


def spreading(when: str) -> MakePod:
    """Evenly over zones: DoNotSchedule or ScheduleAnyway."""

    def make(name: str, number: int) -> core.Pod:
        pod = labelled("blue")(name, number)
        constraint = pod.spec.topologySpreadConstraints.add(maxSkew=5, topologyKey=ZONE, whenUnsatisfiable=when)
        _selects(constraint.labelSelector, "blue")
        return pod

    return make


def impossible(name: str, number: int) -> core.Pod:
    """It asks for more than any node has."""
    pod = basic(name)
    pod.spec.containers[0].resources.requests["cpu"].string = "9"
    return pod


def gated(name: str, number: int) -> core.Pod:
    """It waits for somebody's leave."""
    pod = basic(name)
    pod.spec.schedulingGates.add(name="example.com/wait")
    return pod


def filling(name: str, number: int) -> core.Pod:
    """Four of them fill a node's processors but for a little; they go at once when they have to."""
    pod = basic(name)
    pod.spec.terminationGracePeriodSeconds = 0
    pod.spec.containers[0].resources.requests["cpu"].string = "900m"
    return pod


def pressing(name: str, number: int) -> core.Pod:
    """It finds room only where others go."""
    pod = basic(name)
    pod.spec.priorityClassName = HIGH.metadata.name
    pod.spec.containers[0].resources.requests["cpu"].string = "3000m"
    return pod


HIGH = core.PriorityClass(metadata=core.ObjectMeta(name="high"), value=10)
MOON = ("moon-1", "moon-2", "moon-3")
ONE_ZONE = ("zone1",)


def mixed(count: int) -> tuple[tuple[int, MakePod], ...]:
    """So many of each of the five kinds."""
    return tuple((count, make) for make in (basic, affine, anti_affine, preferring, avoiding))


WORKLOADS: tuple[Workload, ...] = (
    Workload("SchedulingBasic", 5000, ((1000, basic),), 10_000, basic),
    Workload("SchedulingDaemonset", 15_000, (), 30_000, lambda name, number: daemon(name, number % 15_000)),
    Workload("SchedulingPodAntiAffinity", 5000, ((1000, anti_affine),), 2000, anti_affine),
    Workload("SchedulingPodAffinity", 5000, ((5000, affine),), 5000, affine, zones=ONE_ZONE),
    Workload("SchedulingPreferredPodAffinity", 5000, ((5000, preferring),), 5000, preferring),
    Workload("SchedulingPreferredPodAntiAffinity", 5000, ((5000, avoiding),), 5000, avoiding),
    Workload("SchedulingNodeAffinity", 5000, ((5000, in_zone),), 10_000, in_zone, zones=ONE_ZONE),
    Workload("TopologySpreading", 5000, ((5000, basic),), 5000, spreading("DoNotSchedule"), zones=MOON),
    Workload("PreferredTopologySpreading", 5000, ((5000, basic),), 5000, spreading("ScheduleAnyway"), zones=MOON),
    Workload("MixedSchedulingBasePod", 5000, mixed(2000), 5000, basic, zones=ONE_ZONE),
    Workload("Preemption", 5000, ((20_000, filling),), 5000, pressing, classes=(HIGH,)),
    Workload("Unschedulable", 5000, (), 10_000, basic, pending=(200, impossible)),
    Workload("SchedulingWithMixedChurn", 5000, (), 10_000, basic, churns=True),
    Workload("Gated", 5000, (), 10_000, basic, pending=(10_000, gated)),
)
