"""A scheduler in plain Python: one node after the other, one pod after the other, straight from the API objects.

It is slow and obvious, and shares no code with the one over arrays except the parsing of quantities; the tests demand
that both say the same.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from cluster.api.pods import requests_of
from cluster.api.quantities import milli, whole
from cluster.pb.v1 import core_pb2 as core

UNSCHEDULABLE = core.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
ZONE, RACK = "topology.kubernetes.io/zone", "podium.dev/rack"


@dataclass
class Answer:
    """All best nodes with their score, or the message."""

    best: set[str] = field(default_factory=set)
    score: int = 0
    feasible: set[str] = field(default_factory=set)
    message: str = ""


@dataclass
class Reference:
    """Nodes, pods (those with a node), services and controllers by name or uid."""

    nodes: dict[str, core.Node] = field(default_factory=dict)
    pods: dict[str, core.Pod] = field(default_factory=dict)
    services: list[core.Service] = field(default_factory=list)
    controllers: list[core.ReplicationController] = field(default_factory=list)

    def on(self, node: core.Node) -> list[core.Pod]:
        return [pod for pod in self.pods.values() if pod.spec.nodeName == node.metadata.name]

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
        for taint in node.spec.taints:
            if taint.effect != "PreferNoSchedule" and not tolerated(pod, taint):
                return [f"node(s) had taint {{{taint.key}: {taint.value}}}, that the pod didn't tolerate"]
        if any(node.metadata.labels.get(key) != value for key, value in pod.spec.nodeSelector.items()):
            return ["node(s) didn't match node selector"]
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
        return short

    def totals(self, pod: core.Pod, feasible: list[core.Node]) -> dict[str, int]:
        intolerable = {
            node.metadata.name: sum(t.effect == "PreferNoSchedule" and not tolerated(pod, t) for t in node.spec.taints)
            for node in feasible
        }
        worst = max(intolerable.values())
        spread = self.spread(pod, feasible)
        totals = {}
        for node in feasible:
            name = node.metadata.name
            cpu = sum(scored(other, "cpu") for other in [*self.on(node), pod])
            memory = sum(scored(other, "memory") for other in [*self.on(node), pod])
            has_cpu, has_memory = allocatable(node, "cpu"), allocatable(node, "memory")
            least = (free_percent(has_cpu, cpu) + free_percent(has_memory, memory)) // 2
            fractions = (share(cpu, has_cpu), share(memory, has_memory))
            balanced = 0 if max(fractions) >= 1 else int((1.0 - abs(fractions[0] - fractions[1])) * 100)
            taints = 100 - 100 * intolerable[name] // worst if worst else 100
            totals[name] = least + balanced + taints + 2 * spread[name]
        return totals

    def spread(self, pod: core.Pod, feasible: list[core.Node]) -> dict[str, int]:
        names = [node.metadata.name for node in feasible]
        terms: dict[str, str] = {}
        for service in self.services:
            selector = service.spec.selector
            if selector and service.metadata.namespace == pod.metadata.namespace and selects(selector, pod):
                terms.update(selector)
        for rc in self.controllers:
            if any(o.controller and o.uid == rc.metadata.uid for o in pod.metadata.ownerReferences):
                terms.update(rc.spec.selector)
        if not terms:
            return dict.fromkeys(names, 0)
        group = [
            other
            for other in self.pods.values()
            if other.metadata.namespace == pod.metadata.namespace
            and not other.metadata.HasField("deletionTimestamp")
            and selects(terms, other)
        ]
        raw: dict[str, int] = {}
        for node in feasible:
            here = sum(other.spec.nodeName == node.metadata.name for other in group)
            total = here * math.log(len(feasible) + 2) + 2
            for key in (ZONE, RACK):
                value = node.metadata.labels.get(key)
                if value is None:
                    continue
                different = {n.metadata.labels[key] for n in feasible if key in n.metadata.labels}
                inside = {n.metadata.name for n in self.nodes.values() if n.metadata.labels.get(key) == value}
                total += sum(o.spec.nodeName in inside for o in group) * math.log(len(different) + 2) + 4
            raw[node.metadata.name] = int(total)
        least, most = min(raw.values()), max(raw.values())
        return {name: 100 * (most + least - value) // most if most else 100 for name, value in raw.items()}


def selects(selector: object, pod: core.Pod) -> bool:
    return all(pod.metadata.labels.get(key) == value for key, value in dict(selector).items())  # type: ignore[call-overload]


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


def share(used: int, has: int) -> float:
    return used / has if has > 0 else 1.0


def tolerated(pod: core.Pod, taint: core.Taint) -> bool:
    for toleration in pod.spec.tolerations:
        if toleration.effect not in ("", taint.effect):
            continue
        if toleration.operator == "Exists":
            if toleration.key in ("", taint.key):
                return True
        elif toleration.key == taint.key and toleration.value == taint.value:
            return True
    return False
