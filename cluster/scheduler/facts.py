"""What placement cares for in a node and in a pod that is on one: plain values, taken from the API objects once.

Comparing two of them says whether a change of the object matters here; most changes (a heartbeat's condition, a
container's state) do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.api.meta import from_time, is_terminating
from cluster.api.pods import amount
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.podclass import PodClass, Terms, class_of
from cluster.scheduler.shape import TaintTuple

MAX_ALLOCATABLE = 1 << 56
"""Nodes that claim more count as this much (64 PiB of memory): a hundredfold stays within 64 bits."""


@dataclass(frozen=True, slots=True)
class PlacedPod:
    """A pod that takes something of a node."""

    uid: str
    pod_class: PodClass
    terminating: bool = False
    """It still holds its resources, but no longer counts when its group is spread."""
    name: str = field(default="", compare=False)
    priority: int = field(default=0, compare=False)
    """Of the pods that could make room, the one with the least goes first."""
    started_s: float = field(default=math.inf, compare=False)
    """When its node began with it (seconds since 1970); infinite: not yet. Of two the younger goes first."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself, as far as placement cares."""

    allocatable: tuple[tuple[str, int], ...]
    labels: Terms
    taints: tuple[TaintTuple, ...]
    unschedulable: bool
    directories: tuple[str, ...] = ()
    """The data directories that lie on it, as NAMESPACE/NAME."""

    label_map: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The labels once more, to be asked by key."""


def facts_of(node: core.Node) -> NodeFacts:
    """What placement cares for in a node. Capacity stands in when the node does not say what is allocatable."""
    amounts = node.status.allocatable or node.status.capacity
    return NodeFacts(
        allocatable=tuple(
            sorted((name, max(0, min(amount(name, quantity), MAX_ALLOCATABLE))) for name, quantity in amounts.items())
        ),
        labels=frozenset(node.metadata.labels.items()),
        taints=tuple(TaintTuple(taint.key, taint.value, taint.effect) for taint in node.spec.taints),
        unschedulable=node.spec.unschedulable,
        directories=tuple(sorted(set(node.status.dataDirectories))),
        label_map=dict(node.metadata.labels),
    )


def placed_pod(pod: core.Pod, pod_class: PodClass | None = None) -> PlacedPod:
    """A pod as the snapshot counts it."""
    meta, status = pod.metadata, pod.status
    return PlacedPod(
        meta.uid,
        pod_class if pod_class is not None else class_of(pod, placed=True),
        meta.HasField("deletionTimestamp"),
        meta.name,
        pod.spec.priority,
        from_time(status.startTime) if status.HasField("startTime") else math.inf,
    )


def is_alike(old: core.Pod | None, new: core.Pod) -> bool:
    """Whether nothing has changed that placement cares for, but perhaps that it has a node now."""
    if old is None:
        return False
    before, after = old.metadata, new.metadata
    return (
        before.generation == after.generation
        and is_terminating(old) == is_terminating(new)
        and old.status.HasField("startTime") == new.status.HasField("startTime")
        and before.labels == after.labels
        and before.ownerReferences == after.ownerReferences
    )
