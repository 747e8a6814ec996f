"""Which nodes a pod may go to: Kubernetes' filters, in Kubernetes' order, over all nodes at once.

A filter answers for the rows it is asked about, so that the same code looks at all nodes when a shape is new and only
at the changed ones later. What it says when a node fails are Kubernetes' words, counted over nodes by `refusals`:

    0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.

A filter knows no other filter, no score and no queue. To add one: write its two functions, put it into FILTERS where
it belongs in the order, and say in `cluster.scheduler.queue` which events can help a pod that it refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import ANY_IP, IMAGE_RUNTIME_LABEL, Shape, TaintTuple, tolerates
from cluster.scheduler.snapshot import ALL_ROWS, PODS, BoolArray, IntArray, Rows, Snapshot

UNSCHEDULABLE_TAINT = TaintTuple("node.kubernetes.io/unschedulable", "", "NoSchedule")
REFUSING_EFFECTS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason why a node may be no place for a pod."""

    name: str
    passes: Callable[[Snapshot, PodClass, Rows], BoolArray]
    """For each of the rows, whether it passes."""
    reasons: Callable[[Snapshot, PodClass, IntArray], Counter[str]]
    """For rows that failed, the reasons in Kubernetes' words, counted."""


def _of_rows(snapshot: Snapshot, rows: Rows, value: bool) -> BoolArray:
    return np.full(len(snapshot.alive[rows]), value, np.bool_)


# -- unschedulable (cordoned)


def _is_schedulable(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if pod_class.shape.tolerations and tolerates(pod_class.shape.tolerations, UNSCHEDULABLE_TAINT):
        return _of_rows(snapshot, rows, True)
    return ~snapshot.unschedulable[rows]


# -- spec.nodeName


def _is_named(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if not pod_class.shape.node_name:
        return _of_rows(snapshot, rows, True)
    named = np.zeros(len(snapshot.names), np.bool_)
    row = snapshot.row_of(pod_class.shape.node_name)
    if row is not None:
        named[row] = True
    return named[rows]


# -- taints; a node that is not ready carries node.kubernetes.io/not-ready, so readiness needs no filter of its own


def untolerated(shape: Shape, taints: tuple[TaintTuple, ...]) -> TaintTuple | None:
    """The first taint that keeps the pod away, if any."""
    for taint in taints:
        if taint.effect in REFUSING_EFFECTS and not tolerates(shape.tolerations, taint):
            return taint
    return None


def _tolerates_taints(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    passing = np.array([untolerated(pod_class.shape, taints) is None for taints in snapshot.taint_sets], np.bool_)
    return passing[snapshot.taint_set[rows]]


def _taint_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    reasons: Counter[str] = Counter()
    numbers, counts = np.unique(snapshot.taint_set[rows], return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        taint = untolerated(pod_class.shape, snapshot.taint_sets[number])
        assert taint is not None
        value = f"{taint.key}: {taint.value}"
        reasons[f"node(s) had taint {{{value}}}, that the pod didn't tolerate"] += count
    return reasons


# -- spec.nodeSelector


def _has_label(snapshot: Snapshot, key: str, value: str, rows: Rows) -> BoolArray:
    column = snapshot.label_column(key)
    number = column.numbers.get(value)
    if number is None:
        return _of_rows(snapshot, rows, False)
    has: BoolArray = column.codes[rows] == number
    return has


def _is_selected(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    selected = _of_rows(snapshot, rows, True)
    for key, value in pod_class.shape.selector:
        selected &= _has_label(snapshot, key, value, rows)
    return selected


# -- images


def _runs_images(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if not pod_class.shape.needs_image_runtime:
        return _of_rows(snapshot, rows, True)
    return _has_label(snapshot, IMAGE_RUNTIME_LABEL, "true", rows)


# -- host ports: 0.0.0.0 collides with every address


def _has_free_ports(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if not pod_class.shape.host_ports:
        return _of_rows(snapshot, rows, True)
    free = np.ones(len(snapshot.names), np.bool_)
    for port in pod_class.shape.host_ports:
        for row, addresses in snapshot.port_users(port).items():
            if port.ip == ANY_IP or port.ip in addresses or ANY_IP in addresses:
                free[row] = False
    return free[rows]


# -- resources, named ones included


def missing_resources(snapshot: Snapshot, shape: Shape) -> list[str]:
    """Resources that the shape asks for and no node has ever announced."""
    return [name for name, _ in shape.requests if name not in snapshot.columns]


def _has_resources(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    if missing_resources(snapshot, pod_class.shape):
        return _of_rows(snapshot, rows, False)
    asked = snapshot.vector(pod_class.shape)
    free = snapshot.allocatable[rows] - snapshot.requested[rows]
    # What is not asked for may be overdrawn (a node can shrink): it keeps nobody away.
    fits: BoolArray = ((free >= asked) | (asked == 0)).all(axis=1)
    return fits


def _resource_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for name in missing_resources(snapshot, pod_class.shape):
        reasons[f"Insufficient {name}"] += len(rows)
    asked = snapshot.vector(pod_class.shape)
    free = snapshot.allocatable[rows] - snapshot.requested[rows]
    for name, column in snapshot.columns.items():
        if asked[column]:
            short = int((free[:, column] < asked[column]).sum())
            if short:
                reasons["Too many pods" if column == PODS else f"Insufficient {name}"] += short
    return reasons


def _always(reason: str) -> Callable[[Snapshot, PodClass, IntArray], Counter[str]]:
    return lambda snapshot, pod_class, rows: Counter({reason: len(rows)})


FILTERS: tuple[Filter, ...] = (
    Filter("NodeUnschedulable", _is_schedulable, _always("node(s) were unschedulable")),
    Filter("NodeName", _is_named, _always("node(s) didn't match the requested hostname")),
    Filter("TaintToleration", _tolerates_taints, _taint_reasons),
    Filter("NodeSelector", _is_selected, _always("node(s) didn't match node selector")),
    Filter("ImageRuntime", _runs_images, _always("node(s) had no runtime for images")),
    Filter("HostPorts", _has_free_ports, _always("node(s) didn't have free ports for the requested pod ports")),
    Filter("Resources", _has_resources, _resource_reasons),
)


LOAD_FILTERS = FILTERS[-2:]
"""Those whose answer depends on the pods that a node has."""
NODE_FILTERS = FILTERS[:-2]
"""Those that look at the node alone: their answer changes only with the node."""


def feasible(
    snapshot: Snapshot, pod_class: PodClass, rows: Rows = ALL_ROWS, which: tuple[Filter, ...] = FILTERS
) -> BoolArray:
    """For each of the rows, whether a pod of this class may go there, as far as these filters say."""
    mask = snapshot.alive[rows].copy()
    for each in which:
        mask &= each.passes(snapshot, pod_class, rows)
    return mask


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod fits on no node."""

    message: str
    """As in the FailedScheduling event."""
    filters: frozenset[str]
    """The names of the filters that refused a node."""


NO_NODES = "no nodes available to schedule pods"


def refusal(snapshot: Snapshot, pod_class: PodClass) -> Refusal:
    """Why no node will do. Each node is counted for the first filter that refuses it, as in Kubernetes."""
    if not snapshot.node_count:
        return Refusal(NO_NODES, frozenset())
    left = snapshot.alive.copy()
    reasons: Counter[str] = Counter()
    refusing: set[str] = set()
    for each in FILTERS:
        passed = each.passes(snapshot, pod_class, ALL_ROWS)
        failed = np.flatnonzero(left & ~passed)
        if len(failed):
            refusing.add(each.name)
            reasons.update(each.reasons(snapshot, pod_class, failed))
            left &= passed
    return Refusal(sentence(reasons, int(left.sum()), snapshot.node_count), frozenset(refusing))


def sentence(reasons: Counter[str], available: int, nodes: int) -> str:
    """Kubernetes' sentence: the reasons with their counts, sorted as text."""
    counted = sorted(f"{count} {reason}" for reason, count in reasons.items())
    return f"{available}/{nodes} nodes are available: {', '.join(counted)}."
