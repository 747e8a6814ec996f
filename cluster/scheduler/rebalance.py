"""Which pods had better be somewhere else: the scheduler's judgement, passed once more on pods that have a place.

The scheduler decides about a pod once. Nodes that come later stay empty, labels and taints change under pods that are
there, and what was spread evenly is not any more when a node has been away. Each pod that its controller would replace
is taken out of the snapshot in thought, and its node is asked for again:

    a filter refuses its node now, and another fits     it moves: "breaks NodeAffinity"
    another node's total is higher by `min_gain`        it moves: "better by 62"
    else                                                it stays

A move is made in the snapshot at once, so the next pod is judged as if it had been done. First come the pods that
break a rule, then those of the fullest nodes, which have the most to gain. A pod moves once at most; passes are
repeated until one finds nothing, or `max_moves` is reached. What a move costs (the pod is ended, and another one
started) is what `min_gain` stands for.

Nothing is moved that nobody would replace, that keeps data on its node, that is critical to the system, or whose
disruption budget allows nothing now. Where the replacement really goes is the scheduler's decision when the time has
come; with the same state it is the node named here, or one that is as good. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.api.disruption import covers
from cluster.api.meta import Key, is_terminating, key_of
from cluster.api.owners import controller_of
from cluster.api.pods import is_finished
from cluster.api.priorities import HIGHEST_USER_PRIORITY
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import filters, scoring
from cluster.scheduler.picture import Picture
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.settings import DEFAULT_SCHEDULER, Weights
from cluster.scheduler.snapshot import CPU, MEMORY, Snapshot

MAX_PASSES = 5
DEFAULT_MIN_GAIN = 50
"""Of weighted totals: half of what one score of weight 1 can tell apart."""


@dataclass(frozen=True, slots=True)
class Move:
    """A pod that had better be elsewhere."""

    key: Key
    uid: str
    owner: Key
    """Its controller, which makes the replacement."""
    source: str
    """The node it is on."""
    target: str
    """Where it would go now."""
    why: str
    gain: int
    """How much higher the target's total is; 0 if the pod breaks a rule where it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order, and what was left alone."""

    moves: tuple[Move, ...]
    held: tuple[tuple[Key, str], ...]
    """Pods that were not considered, and why, sorted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far to go."""

    max_moves: int = 100
    min_gain: int = DEFAULT_MIN_GAIN
    namespace: str = ""
    """Only pods of this one; empty: of all."""
    with_data: bool = False
    """Also pods with an emptyDir or a hostPath: what they keep there is lost to the replacement."""


def plan(
    picture: Picture, budgets: Iterable[core.PodDisruptionBudget], weights: Weights, limits: Limits | None = None
) -> Plan:
    """The moves that make things better, and who was not asked."""
    limits = limits or Limits()
    pods, classes = list(picture.pods), PodClasses()
    snapshot = Picture(picture.nodes, pods, picture.services, picture.controllers, picture.namespaces).snapshot(
        classes=classes
    )
    budgets = list(budgets)
    movable: dict[str, core.Pod] = {}
    held: list[tuple[Key, str]] = []
    for pod in pods:
        if not pod.spec.nodeName or is_finished(pod) or is_terminating(pod):
            continue
        if limits.namespace not in ("", pod.metadata.namespace) or snapshot.placed(pod.metadata.uid) is None:
            continue
        reason = _why_held(pod, budgets, limits)
        if reason:
            held.append((key_of(pod), reason))
        else:
            movable[pod.metadata.uid] = pod
    moves: list[Move] = []
    for _ in range(MAX_PASSES):
        found = _pass(snapshot, weights, movable, limits.max_moves - len(moves), limits.min_gain)
        if not found:
            break
        moves += found
    return Plan(tuple(moves), tuple(sorted(held)))


def _why_held(pod: core.Pod, budgets: Sequence[core.PodDisruptionBudget], limits: Limits) -> str:
    """Why a pod is not to be moved; empty if it may be."""
    if controller_of(pod) is None:
        return "no controller would replace it"
    if (pod.spec.schedulerName or DEFAULT_SCHEDULER) != DEFAULT_SCHEDULER:
        return f"it is placed by {pod.spec.schedulerName}"
    if pod.spec.priority > HIGHEST_USER_PRIORITY:
        return "it is critical to the system"
    for volume in pod.spec.volumes:
        source = volume.volumeSource
        if not limits.with_data and (source.HasField("emptyDir") or source.HasField("hostPath")):
            return f"volume {volume.name} keeps data on its node"
    for budget in budgets:
        if covers(budget, pod) and budget.status.disruptionsAllowed <= 0:
            return f"disruption budget {budget.metadata.name} allows none to go now"
    return ""


def _pass(snapshot: Snapshot, weights: Weights, movable: dict[str, core.Pod], most: int, min_gain: int) -> list[Move]:
    """Judges each pod once, in the order of what it may gain; those that move are no longer movable."""
    moves: list[Move] = []
    for uid in _in_order(snapshot, movable):
        if len(moves) >= most:
            break
        move = _judge(snapshot, weights, movable[uid], min_gain)
        if move is not None:
            moves.append(move)
            del movable[uid]
    return moves


def _in_order(snapshot: Snapshot, movable: dict[str, core.Pod]) -> list[str]:
    """Those that break a rule first, then by how full their node is; then by name."""
    whole = np.maximum(snapshot.allocatable[:, [CPU, MEMORY]], 1)
    fill = (snapshot.scored / whole).max(axis=1)

    def rank(uid: str) -> tuple[bool, float, Key]:
        pod = movable[uid]
        row = snapshot.row_of(pod.spec.nodeName)
        return (row is not None and _fits_where_it_is(snapshot, uid, row), -float(fill[row or 0]), key_of(pod))

    return sorted(movable, key=rank)


def _fits_where_it_is(snapshot: Snapshot, uid: str, row: int) -> bool:
    placed = snapshot.placed(uid)
    assert placed is not None
    snapshot.remove(uid)
    fits = bool(filters.feasible(snapshot, placed.pod_class, np.array([row]))[0])
    snapshot.place(placed, snapshot.names[row])
    return fits


def _judge(snapshot: Snapshot, weights: Weights, pod: core.Pod, min_gain: int) -> Move | None:
    """Where the pod would go now, if that is worth a move; the snapshot follows it there."""
    uid, source = pod.metadata.uid, pod.spec.nodeName
    placed, owner = snapshot.placed(uid), controller_of(pod)
    assert placed is not None
    assert owner is not None
    row = snapshot.row_of(source)
    snapshot.remove(uid)
    rows = np.flatnonzero(filters.feasible(snapshot, placed.pod_class))
    target, why, gain = source, "", 0
    if len(rows):
        totals = np.zeros(len(rows), np.int64)
        for score, weight in scoring.weighted(weights):
            totals += weight * score.of(snapshot, placed.pod_class, rows)
        best = int(totals.max())
        top = min(snapshot.names[each] for each in rows[totals == best].tolist())
        here = np.flatnonzero(rows == row) if row is not None else np.zeros(0, np.int64)
        if not len(here):
            target, why = top, f"breaks {_broken(snapshot, placed.pod_class, row)}"
        elif best - int(totals[here[0]]) >= min_gain:
            gain = best - int(totals[here[0]])
            target, why = top, f"better by {gain}"
    snapshot.place(placed, target)
    if target == source:
        return None
    owner_key = Key(owner.kind, pod.metadata.namespace, owner.name)
    return Move(key_of(pod), uid, owner_key, source, target, why, gain)


def _broken(snapshot: Snapshot, pod_class: PodClass, row: int | None) -> str:
    """The filters that refuse a node, by name."""
    if row is None:
        return "its node is gone"
    at = np.array([row])
    return ", ".join(each.name for each in filters.FILTERS if not each.passes(snapshot, pod_class, at)[0])
