"""Random news for a scheduler, from a seed: mostly pods that may fit, and nodes that change in one respect."""

from __future__ import annotations

import random
from typing import Any

from cluster.pb.v1 import core_pb2 as core
from tests.unit.scheduler.build import host_port, make_node, make_pod
from tests.unit.scheduler.reference_pods import HOST, RACK, ZONE

KEYS = [HOST, ZONE, RACK, "row", "nowhere"]
"""Topology keys: every node has the first, some have the others, none the last."""


class Scenario:
    """Nodes n0 to n5 or more, and pods of a few templates, so that there are runs of one class."""

    def __init__(self, seed: int, nodes: int = 6) -> None:
        self.rng = random.Random(seed)
        self.size = nodes
        self.nodes: dict[str, dict[str, Any]] = {}
        self.templates = [self.template() for _ in range(self.rng.choice([1, 2, 4, 8]))]

    def node(self) -> core.Node:
        """A node that is new, or differs from what it was in one respect."""
        rng = self.rng
        aspects = ("amounts", "labels", "taints", "unschedulable", "directories")
        name = f"n{rng.randrange(self.size)}"
        if name not in self.nodes:
            self.nodes[name] = {key: self.aspect(key) for key in aspects}
        else:
            key = rng.choice(aspects)
            self.nodes[name] = {**self.nodes[name], key: self.aspect(key)}
        return make_node(name, **self.nodes[name])

    def aspect(self, key: str) -> object:
        """A new value of one aspect of a node."""
        rng = self.rng
        if key == "amounts":
            amounts = {
                "cpu": rng.choice(["0", "1", "2500m", "4", "4"]),
                "memory": rng.choice(["100Mi", "1Gi", "3000000k", "8Gi", "8Gi"]),
                "pods": rng.choice(["0", "3", "110", "110", "110"]),
            }
            return {**amounts, "gpu": rng.choice(["0", "1", "4"])} if rng.random() < 0.4 else amounts
        if key == "labels":
            labels = {
                ZONE: ["z1", "z2", "z3"],
                RACK: ["r1", "r2"],
                "row": ["1", "2"],
                "disk": ["ssd", "hdd"],
                "cores": ["4", "16", "many"],
                "podium.dev/image-runtime": ["true", "false"],
            }
            return {key: rng.choice(values) for key, values in labels.items() if rng.random() < 0.7}
        if key == "taints":
            effects = ["NoSchedule", "NoExecute", "PreferNoSchedule", "PreferNoSchedule"]
            count = rng.choice([0, 0, 0, 1, 2])
            return [(rng.choice("ab"), rng.choice(["", "x"]), rng.choice(effects)) for _ in range(count)]
        if key == "directories":
            return [name for name in ("default/d1", "default/d2", "other/d1") if rng.random() < 0.1]
        return rng.random() < 0.15

    def pod(self) -> core.Pod:
        """A pod, most often of one of the templates."""
        rng = self.rng
        pod = core.Pod()
        pod.CopyFrom(rng.choice(self.templates) if rng.random() < 0.9 else self.template())
        return named(pod, f"p{rng.randrange(60)}")

    def template(self) -> core.Pod:
        """What a pod is like."""
        rng = self.rng
        requests = {"cpu": ["0", "100m", "300m", "1"], "memory": ["1", "64Mi", "700Mi"], "gpu": ["0", "1"]}
        chance = {"cpu": 0.7, "memory": 0.6, "gpu": 0.1}
        asked = {name: rng.choice(values) for name, values in requests.items() if rng.random() < chance[name]}
        if rng.random() < 0.02:
            asked["nowhere"] = "1"
        pod = make_pod(
            "template",
            asked,
            namespace=rng.choice(["default", "default", "other"]),
            labels=self.labels(0.8),
            selector={"disk": rng.choice(["ssd", "ssd", "tape"])} if rng.random() < 0.1 else {},
            tolerations=[self.toleration() for _ in range(rng.choice([0, 0, 1, 2]))],
            ports=[host_port(80, ip=rng.choice(["", "127.0.0.1"]))] if rng.random() < 0.1 else [],
            image=rng.choice(["", "", "", "", "host", "nginx"]),
            owner_uid=rng.choice(["", "rc"]),
        )
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            rng.choice(
                [
                    self.need_nodes,
                    self.prefer_nodes,
                    self.need_pods,
                    self.need_pods,
                    self.prefer_pods,
                    self.prefer_pods,
                    self.spread,
                    self.spread,
                    self.use_directory,
                ]
            )(pod)
        return pod

    def labels(self, chance: float) -> dict[str, str]:
        """Labels of a pod."""
        values = {"app": ["web", "db"], "tier": ["fe"]}
        return {key: self.rng.choice(of_key) for key, of_key in values.items() if self.rng.random() < chance}

    def toleration(self) -> core.Toleration:
        """One that tolerates something."""
        rng = self.rng
        key = rng.choice(["", "a", "b", "node.kubernetes.io/unschedulable"])
        return core.Toleration(
            key=key,
            operator="Exists" if not key else rng.choice(["", "Exists", "Equal"]),
            value=rng.choice(["", "x"]),
            effect=rng.choice(["", "NoSchedule", "PreferNoSchedule"]),
        )

    def selector(self, message: core.LabelSelector) -> None:
        """Selects pods, some or all."""
        rng = self.rng
        if rng.random() < 0.8:
            message.matchLabels["app"] = rng.choice(["web", "db"])
        if rng.random() < 0.2:
            operator = rng.choice(["In", "NotIn", "Exists", "DoesNotExist"])
            message.matchExpressions.add(key="tier", operator=operator, values=["fe"] if "In" in operator else [])

    def node_term(self, term: core.NodeSelectorTerm) -> None:
        """Conditions on a node; sometimes none at all."""
        rng = self.rng
        for _ in range(rng.choice([0, 1, 1, 2])):
            operator = rng.choice(["In", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
            if operator in ("Gt", "Lt"):
                term.matchExpressions.add(key="cores", operator=operator, values=[rng.choice(["8", "4", "x"])])
            else:
                values = rng.sample(["ssd", "hdd", "tape"], rng.choice([1, 2])) if "In" in operator else []
                term.matchExpressions.add(key="disk", operator=operator, values=values)
        if rng.random() < 0.2:
            term.matchFields.add(key="metadata.name", operator=rng.choice(["In", "NotIn"]), values=["n1"])

    def pod_term(self, term: core.PodAffinityTerm) -> None:
        """Pods near by some key."""
        rng = self.rng
        term.topologyKey = rng.choice(KEYS[:-1]) if rng.random() < 0.97 else KEYS[-1]
        if rng.random() < 0.95:
            self.selector(term.labelSelector)
            term.labelSelector.SetInParent()
        if rng.random() < 0.2:
            term.namespaces.append(rng.choice(["default", "other"]))
        if rng.random() < 0.2:
            term.namespaceSelector.SetInParent()
            if rng.random() < 0.7:
                term.namespaceSelector.matchLabels["team"] = "red"

    def need_nodes(self, pod: core.Pod) -> None:
        """Required node affinity."""
        required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
        for _ in range(self.rng.choice([1, 2])):
            self.node_term(required.nodeSelectorTerms.add())

    def prefer_nodes(self, pod: core.Pod) -> None:
        """Preferred node affinity."""
        preferred = pod.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.add()
        preferred.weight = self.rng.choice([1, 7, 100])
        self.node_term(preferred.preference)

    def need_pods(self, pod: core.Pod) -> None:
        """Required affinity or anti-affinity."""
        affinity = pod.spec.affinity
        if self.rng.random() < 0.4:
            self.pod_term(affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add())
        else:
            self.pod_term(affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add())

    def prefer_pods(self, pod: core.Pod) -> None:
        """Preferred affinity or anti-affinity."""
        affinity, weight = pod.spec.affinity, self.rng.choice([1, 5, 100])
        if self.rng.random() < 0.5:
            preferred = affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=weight)
        else:
            preferred = affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=weight)
        self.pod_term(preferred.podAffinityTerm)

    def spread(self, pod: core.Pod) -> None:
        """A constraint, hard or soft."""
        rng = self.rng
        key, hard = rng.choice(KEYS[:-1]) if rng.random() < 0.97 else KEYS[-1], rng.random() < 0.5
        when = "DoNotSchedule" if hard else "ScheduleAnyway"
        if any((c.topologyKey, c.whenUnsatisfiable) == (key, when) for c in pod.spec.topologySpreadConstraints):
            return
        constraint = pod.spec.topologySpreadConstraints.add(
            maxSkew=rng.choice([1, 1, 2, 5]), topologyKey=key, whenUnsatisfiable=when
        )
        if rng.random() < 0.9:
            self.selector(constraint.labelSelector)
            constraint.labelSelector.SetInParent()
        if hard and rng.random() < 0.3:
            constraint.minDomains = rng.choice([1, 2, 4])
        if rng.random() < 0.3:
            constraint.nodeAffinityPolicy = rng.choice(["Honor", "Ignore"])
        if rng.random() < 0.3:
            constraint.nodeTaintsPolicy = rng.choice(["Honor", "Ignore"])

    def use_directory(self, pod: core.Pod) -> None:
        """A volume in a named data directory."""
        name = self.rng.choice(["d1", "d2"])
        pod.spec.volumes.add(name=name).volumeSource.dataDirectory.name = name


def named(pod: core.Pod, name: str) -> core.Pod:
    """The same pod under another name."""
    pod.metadata.name, pod.metadata.uid = name, f"uid-{pod.metadata.namespace}-{name}"
    return pod
