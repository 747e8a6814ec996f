"""What scores compared, in a few words per node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cluster.scheduler import nodes, scoring
from cluster.scheduler.dimensions import HOST_LABEL, soft_spread
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.snapshot import IntArray, Snapshot
from cluster.scheduler.telling.base import plural


def in_use(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    """The shares of cpu and memory that are in use with the pod."""
    allocatable, used = scoring.load(snapshot, pod_class.shape, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = np.where(allocatable > 0, 100.0 * used / np.maximum(allocatable, 1), 100.0)
    return [f"cpu {cpu:.0f}%, memory {memory:.0f}% in use with it" for cpu, memory in percent.tolist()]


def _taints(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    counts = nodes.intolerable_taints(snapshot, pod_class.shape, rows).tolist()
    return [f"does not tolerate {plural(count, 'taint')} that would rather not" if count else "" for count in counts]


def _node_affinity(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    liked = pod_class.shape.liked_nodes
    if not liked:
        return ["prefers no node"] * len(rows)
    most = sum(weight for weight, _ in liked)
    return [f"liked by {weight} of {most}" for weight in nodes.liking(snapshot, pod_class.shape, rows).tolist()]


def _spread(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    dimensions = soft_spread(snapshot, pod_class)
    if not dimensions:
        return ["belongs to no service or controller"] * len(rows)
    if not pod_class.shape.spread:
        return [f"{count} of its group there" for count in dimensions[0].values(rows).tolist()]
    ignored = scoring.is_ignored(pod_class, dimensions, rows).tolist()
    values = [dimension.values(rows).tolist() for dimension in dimensions]
    keys = [dimension.key for dimension in dimensions]
    return [
        "lacks a label that it spreads over"
        if ignored[i]
        else ", ".join(
            f"{of_key[i]} {'on the node' if key == HOST_LABEL else 'in its ' + key}"
            for key, of_key in zip(keys, values, strict=True)
        )
        for i in range(len(rows))
    ]


def _inter_pod_affinity(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    weights = scoring.pod_liking(snapshot, pod_class, rows).tolist()
    return [f"pods near speak {weight:+} for it" if weight else "no pods near speak for it" for weight in weights]


TELL: dict[str, Callable[[Snapshot, PodClass, IntArray], list[str]]] = {
    "LeastAllocated": in_use,
    "MostAllocated": in_use,
    "Binpack": in_use,
    "BalancedAllocation": in_use,
    "TaintToleration": _taints,
    "NodeAffinity": _node_affinity,
    "Spread": _spread,
    "InterPodAffinity": _inter_pod_affinity,
}
"""By the name of the score: for each of the rows."""
