"""A scheduler in plain Python: one node after the other, one pod after the other, straight from the API objects.

It is slow and obvious, and shares no code with the one over arrays except the parsing of quantities and of selectors in
manifests; the tests demand that both say the same. What it says about pods elsewhere is in `reference_pods`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cluster.api.pods import requests_of
from cluster.api.quantities import milli, whole
from cluster.api.selectors import node_is_allowed, node_term_matches
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.settings import Weights
from tests.unit.scheduler import reference_pods
from tests.unit.scheduler.reference_pods import Cluster, tolerated, untolerated

UNSCHEDULABLE = core.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


@dataclass
class Answer:
    """All best nodes with their score, or the message."""

    best: set[str] = field(default_factory=set)
    score: int = 0
    feasible: set[str] = field(default_factory=set)
    message: str = ""


@dataclass
class Reference(Cluster):
    """Nodes, pods (those with a node), services and controllers by name or uid."""

    weights: Weights = field(default_factory=Weights)

    def decide(self, pod: core.Pod) -> Answer:
        if not self.nodes:
            return Answer(message="no nodes available to schedule pods")
        reasons: Counter[str] = Counter()
        feasible = []
        for node in self.nodes.values():
            refused = self.refuse(pod, node)
            reasons.update(refused)
            if not refused:
                feasible.append(node)
        if not feasible:
            counted = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
            return Answer(message=f"0/{len(self.nodes)} nodes are available: {counted}.")
        totals = self.totals(pod, feasible)
        top = max(totals.values())
        return Answer({name for name, total in totals.items() if total == top}, top, set(totals))

    def refuse(self, pod: core.Pod, node: core.Node) -> list[str]:
        if node.spec.unschedulable and not tolerated(pod, UNSCHEDULABLE):
            return ["node(s) were unschedulable"]
        taint = untolerated(pod, node)
        if taint is not None:
            return [f"node(s) had taint {{{taint.key}: {taint.value}}}, that the pod didn't tolerate"]
        if not node_is_allowed(pod.spec, node.metadata.name, node.metadata.labels):
            return ["node(s) didn't match Pod's node affinity/selector"]
        runs_images = node.metadata.labels.get("podium.dev/image-runtime") == "true"
        if not runs_images and any(c.image not in ("", "host") for c in pod.spec.containers):
            return ["node(s) had no runtime for images"]
        for wanted in ports(pod):
            for used in (port for other in self.on(node) for port in ports(other)):
                if wanted[:2] == used[:2] and (wanted[2] == used[2] or "0.0.0.0" in (wanted[2], used[2])):
                    return ["node(s) didn't have free ports for the requested pod ports"]
        short = []
        if len(self.on(node)) + 1 > allocatable(node, "pods"):
            short.append("Too many pods")
        for name, amount in requests_of(pod).items():
            used_amount = sum(requests_of(other).get(name, 0) for other in self.on(node))
            if amount > 0 and used_amount + amount > allocatable(node, name):
                short.append(f"Insufficient {name}")
        if short:
            return short
        for directory in directories(pod):
            places = {n.metadata.name for n in self.nodes.values() if directory in n.status.dataDirectories}
            places |= {other.spec.nodeName for other in self.pods.values() if directory in directories(other)}
            if places and node.metadata.name not in places:
                return ["node(s) had volume node affinity conflict"]
        return reference_pods.uneven(self, pod, node) or reference_pods.unfriendly(self, pod, node)

    def totals(self, pod: core.Pod, feasible: list[core.Node]) -> dict[str, int]:
        weights = self.weights
        intolerable = {
            node.metadata.name: sum(t.effect == "PreferNoSchedule" and not tolerated(pod, t) for t in node.spec.taints)
            for node in feasible
        }
        worst = max(intolerable.values())
        liked = {node.metadata.name: node_liking(pod, node) for node in feasible}
        most = max(liked.values())
        spread = reference_pods.spread(self, pod, feasible)
        friends = reference_pods.friendship(self, pod, feasible)
        totals = {}
        for node in feasible:
            name = node.metadata.name
            cpu = sum(scored(other, "cpu") for other in [*self.on(node), pod])
            memory = sum(scored(other, "memory") for other in [*self.on(node), pod])
            has_cpu, has_memory = allocatable(node, "cpu"), allocatable(node, "memory")
            fractions = (share(cpu, has_cpu), share(memory, has_memory))
            totals[name] = (
                weights.least_allocated * ((free_percent(has_cpu, cpu) + free_percent(has_memory, memory)) // 2)
                + weights.most_allocated * ((used_percent(has_cpu, cpu) + used_percent(has_memory, memory)) // 2)
                + weights.binpack * packed(fractions)
                + weights.balanced_allocation
                * (0 if max(fractions) >= 1 else int((1.0 - abs(fractions[0] - fractions[1])) * 100))
                + weights.taint_toleration * (100 - 100 * intolerable[name] // worst if worst else 100)
                + weights.node_affinity * (100 * liked[name] // most if most else 0)
                + weights.spread * spread[name]
                + weights.inter_pod_affinity * friends[name]
            )
        return totals


def node_liking(pod: core.Pod, node: core.Node) -> int:
    return sum(
        preferred.weight
        for preferred in pod.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution
        if node_term_matches(preferred.preference, node.metadata.name, node.metadata.labels)
    )


def directories(pod: core.Pod) -> set[str]:
    return {
        f"{pod.metadata.namespace}/{volume.volumeSource.dataDirectory.name}"
        for volume in pod.spec.volumes
        if volume.volumeSource.HasField("dataDirectory")
    }


def ports(pod: core.Pod) -> list[tuple[str, int, str]]:
    return [
        (port.protocol or "TCP", port.hostPort, port.hostIP or "0.0.0.0")
        for container in pod.spec.containers
        for port in container.ports
        if port.hostPort
    ]


def allocatable(node: core.Node, name: str) -> int:
    if name not in node.status.allocatable:
        return 0
    quantity = node.status.allocatable[name]
    return milli(quantity) if name == "cpu" else whole(quantity)


def scored(pod: core.Pod, name: str) -> int:
    return requests_of(pod).get(name, 0) or (100 if name == "cpu" else 200 * 1024 * 1024)


def free_percent(has: int, used: int) -> int:
    return (has - used) * 100 // has if has > 0 and used <= has else 0


def used_percent(has: int, used: int) -> int:
    return min(used, has) * 100 // has if has > 0 else 0


def share(used: int, has: int) -> float:
    return used / has if has > 0 else 1.0


def packed(fractions: tuple[float, float]) -> int:
    fit = 20.0 - sum(10.0 ** (1.0 - fraction) for fraction in fractions)
    return int(min(max(fit, 0.0), 18.0) * 100 / 18 + 1e-9)
