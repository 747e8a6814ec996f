"""The plain rules about pods elsewhere: spreading and affinity, one pair of pods after the other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.api.selectors import node_is_allowed, pod_selector_of, pod_term
from cluster.pb.v1 import core_pb2 as core

HOST, ZONE, RACK = "kubernetes.io/hostname", "topology.kubernetes.io/zone", "podium.dev/rack"
MISMATCH = "node(s) didn't match pod topology spread constraints"


@dataclass
class Cluster:
    """What there is."""

    nodes: dict[str, core.Node] = field(default_factory=dict)
    pods: dict[str, core.Pod] = field(default_factory=dict)
    services: list[core.Service] = field(default_factory=list)
    controllers: list[core.ReplicationController] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)

    def on(self, node: core.Node) -> list[core.Pod]:
        return [pod for pod in self.pods.values() if pod.spec.nodeName == node.metadata.name]

    def placed(self) -> list[tuple[core.Pod, core.Node]]:
        """Pods with their nodes, as far as the node is there."""
        return [(pod, self.nodes[pod.spec.nodeName]) for pod in self.pods.values() if pod.spec.nodeName in self.nodes]


# -- spreading


def matching(cluster: Cluster, pod: core.Pod, constraint: core.TopologySpreadConstraint, node: core.Node) -> int:
    """How many pods on a node the constraint counts."""
    return sum(
        other.metadata.namespace == pod.metadata.namespace
        and not other.metadata.HasField("deletionTimestamp")
        and pod_selector_of(constraint).matches(other.metadata.labels)
        for other in cluster.on(node)
    )


def counts_for(pod: core.Pod, constraint: core.TopologySpreadConstraint, keys: list[str], node: core.Node) -> bool:
    """Whether a node takes part in the spreading."""
    labels = node.metadata.labels
    if any(key not in labels for key in keys):
        return False
    if constraint.nodeAffinityPolicy != "Ignore" and not node_is_allowed(pod.spec, node.metadata.name, labels):
        return False
    return constraint.nodeTaintsPolicy != "Honor" or untolerated(pod, node) is None


def uneven(cluster: Cluster, pod: core.Pod, node: core.Node) -> list[str]:
    hard = [c for c in pod.spec.topologySpreadConstraints if c.whenUnsatisfiable == "DoNotSchedule"]
    keys = [constraint.topologyKey for constraint in hard]
    for constraint in hard:
        key = constraint.topologyKey
        if key not in node.metadata.labels:
            return [f"{MISMATCH} (missing required label)"]
        per_domain: Counter[str] = Counter()
        for other in cluster.nodes.values():
            if counts_for(pod, constraint, keys, other):
                per_domain[other.metadata.labels[key]] += matching(cluster, pod, constraint, other)
        least = min(per_domain.values(), default=0)
        if len(per_domain) < constraint.minDomains:
            least = 0
        itself = pod_selector_of(constraint).matches(pod.metadata.labels)
        if per_domain[node.metadata.labels[key]] + itself - least > constraint.maxSkew:
            return [MISMATCH]
    return []


def spread(cluster: Cluster, pod: core.Pod, feasible: list[core.Node]) -> dict[str, int]:
    """The score of every node that fits."""
    own = [c for c in pod.spec.topologySpreadConstraints if c.whenUnsatisfiable == "ScheduleAnyway"]
    constraints = own if pod.spec.topologySpreadConstraints else defaults(cluster, pod)
    names = [node.metadata.name for node in feasible]
    if not constraints:
        return dict.fromkeys(names, 0)
    keys = [constraint.topologyKey for constraint in own]
    compared = [node for node in feasible if all(key in node.metadata.labels for key in keys)]
    raw: dict[str, int] = {}
    for node in compared:
        total = 0.0
        for constraint in constraints:
            key = constraint.topologyKey
            value = node.metadata.labels.get(key)
            if key == HOST:
                count, different = matching(cluster, pod, constraint, node), len(compared)
            elif value is not None:
                different = len({n.metadata.labels[key] for n in compared if key in n.metadata.labels})
                count = sum(
                    matching(cluster, pod, constraint, other)
                    for other in cluster.nodes.values()
                    if other.metadata.labels.get(key) == value and counts_for(pod, constraint, keys, other)
                )
            else:
                continue
            total += count * math.log(different + 2) + (constraint.maxSkew - 1)
        raw[node.metadata.name] = int(total)
    least, most = min(raw.values(), default=0), max(raw.values(), default=0)
    scores = {name: 100 * (most + least - value) // most if most else 100 for name, value in raw.items()}
    return {name: scores.get(name, 0) for name in names}


def defaults(cluster: Cluster, pod: core.Pod) -> list[core.TopologySpreadConstraint]:
    """The spreading of pods of services and controllers."""
    terms: dict[str, str] = {}
    for service in cluster.services:
        selector = service.spec.selector
        if selector and service.metadata.namespace == pod.metadata.namespace and selects(selector, pod):
            terms.update(selector)
    for rc in cluster.controllers:
        if any(o.controller and o.uid == rc.metadata.uid for o in pod.metadata.ownerReferences):
            terms.update(rc.spec.selector)
    if not terms:
        return []
    return [
        core.TopologySpreadConstraint(
            topologyKey=key,
            maxSkew=skew,
            whenUnsatisfiable="ScheduleAnyway",
            labelSelector=core.LabelSelector(matchLabels=terms),
        )
        for key, skew in ((HOST, 3), (ZONE, 5), (RACK, 5))
    ]


def selects(selector: Mapping[str, str], pod: core.Pod) -> bool:
    return all(pod.metadata.labels.get(key) == value for key, value in selector.items())


# -- affinity


def means(cluster: Cluster, bearer: core.Pod, term: core.PodAffinityTerm, other: core.Pod) -> bool:
    """Whether a term of one pod means another one."""
    namespace = other.metadata.namespace
    term_of = pod_term(term, bearer.metadata.namespace)
    return term_of.matches(other.metadata.labels, namespace, cluster.namespaces.get(namespace, {}))


def is_near(key: str, one: core.Node, other: core.Node) -> bool:
    return key in one.metadata.labels and one.metadata.labels[key] == other.metadata.labels.get(key)


def unfriendly(cluster: Cluster, pod: core.Pod, node: core.Node) -> list[str]:
    near = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
    apart = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
    placed = cluster.placed()
    friends = [(o, at) for o, at in placed if near and all(means(cluster, pod, term, o) for term in near)]
    anywhere = any(term.topologyKey in at.metadata.labels for _, at in friends for term in near)
    begins = not anywhere and all(means(cluster, pod, term, pod) for term in near)
    for term in near:
        if term.topologyKey not in node.metadata.labels:
            return ["node(s) didn't match pod affinity rules"]
        if not begins and not any(is_near(term.topologyKey, node, at) for _, at in friends):
            return ["node(s) didn't match pod affinity rules"]
    for term in apart:
        if any(is_near(term.topologyKey, node, at) and means(cluster, pod, term, o) for o, at in placed):
            return ["node(s) didn't match pod anti-affinity rules"]
    for other, at in placed:
        for term in other.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution:
            if is_near(term.topologyKey, node, at) and means(cluster, other, term, pod):
                return ["node(s) didn't satisfy existing pods anti-affinity rules"]
    return []


def friendship(cluster: Cluster, pod: core.Pod, feasible: list[core.Node]) -> dict[str, int]:
    """The score of every node that fits."""
    raw = {}
    for node in feasible:
        total = 0
        for other, at in cluster.placed():
            for weight, term in preferences(pod):
                if means(cluster, pod, term, other) and is_near(term.topologyKey, node, at):
                    total += weight
            required = other.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
            for weight, term in [*preferences(other), *((1, term) for term in required)]:
                if means(cluster, other, term, pod) and is_near(term.topologyKey, node, at):
                    total += weight
        raw[node.metadata.name] = total
    least, most = min(raw.values()), max(raw.values())
    return {name: int(100.0 * ((total - least) / (most - least))) if most > least else 0 for name, total in raw.items()}


def preferences(pod: core.Pod) -> list[tuple[int, core.PodAffinityTerm]]:
    affinity = pod.spec.affinity
    return [
        *((p.weight, p.podAffinityTerm) for p in affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution),
        *(
            (-p.weight, p.podAffinityTerm)
            for p in affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution
        ),
    ]


# -- taints


def untolerated(pod: core.Pod, node: core.Node) -> core.Taint | None:
    return next(
        (taint for taint in node.spec.taints if taint.effect != "PreferNoSchedule" and not tolerated(pod, taint)), None
    )


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
