"""Filters that look at the node alone: their answer changes only with the node."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cluster.scheduler import nodes
from cluster.scheduler.filters.base import Filter, Scope, always
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import IMAGE_RUNTIME_LABEL, TaintTuple, tolerates
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot

UNSCHEDULABLE_TAINT = TaintTuple("node.kubernetes.io/unschedulable", "", "NoSchedule")


# -- unschedulable (cordoned)


def _is_schedulable(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    tolerations = pod_class.shape.tolerations
    if tolerations and tolerates(tolerations, UNSCHEDULABLE_TAINT):
        return nodes.of_rows(snapshot, rows, True)
    return ~snapshot.unschedulable[rows]


# -- spec.nodeName


def _is_named(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    name = pod_class.shape.node_name
    if not name:
        return nodes.of_rows(snapshot, rows, True)
    named = np.zeros(len(snapshot.names), np.bool_)
    row = snapshot.row_of(name)
    if row is not None:
        named[row] = True
    return named[rows]


# -- taints; a node that is not ready carries node.kubernetes.io/not-ready, so readiness needs no filter of its own


def _is_tolerable(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    return nodes.is_tolerable(snapshot, pod_class.shape, rows)


def _taint_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    reasons: Counter[str] = Counter()
    numbers, counts = np.unique(snapshot.taint_set[rows], return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        taint = nodes.untolerated(pod_class.shape, snapshot.taint_sets[number])
        assert taint is not None
        value = f"{taint.key}: {taint.value}"
        reasons[f"node(s) had taint {{{value}}}, that the pod didn't tolerate"] += count
    return reasons


# -- spec.nodeSelector and required node affinity


def _is_allowed(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    return nodes.is_allowed(snapshot, pod_class.shape, rows)


# -- images


def _runs_images(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if not pod_class.shape.needs_image_runtime:
        return nodes.of_rows(snapshot, rows, True)
    return nodes.has_label(snapshot, IMAGE_RUNTIME_LABEL, "true", rows)


NODE_UNSCHEDULABLE = Filter("NodeUnschedulable", Scope.NODE, _is_schedulable, always("node(s) were unschedulable"))
NODE_NAME = Filter("NodeName", Scope.NODE, _is_named, always("node(s) didn't match the requested hostname"))
TAINT_TOLERATION = Filter("TaintToleration", Scope.NODE, _is_tolerable, _taint_reasons)
NODE_AFFINITY = Filter(
    "NodeAffinity", Scope.NODE, _is_allowed, always("node(s) didn't match Pod's node affinity/selector")
)
IMAGE_RUNTIME = Filter("ImageRuntime", Scope.NODE, _runs_images, always("node(s) had no runtime for images"))
