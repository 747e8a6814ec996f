"""What a pod asks of the node alone: labels, names and taints, for many rows at once.

Here are the questions; which of them refuses a node is said by `cluster.scheduler.filters`, which of them makes it
liked by `cluster.scheduler.scoring`, and whether a node counts in spreading by `cluster.scheduler.dimensions`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cluster.api.selectors import NODE_NAME_FIELD, requirement_matches
from cluster.scheduler.shape import Condition, NodeTerm, Shape, TaintTuple, tolerates
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot

REFUSING_EFFECTS = ("NoSchedule", "NoExecute")


def of_rows(snapshot: Snapshot, rows: Rows, value: bool) -> BoolArray:
    """The same answer for each of the rows."""
    return np.full(len(snapshot.alive[rows]), value, np.bool_)


def has_label(snapshot: Snapshot, key: str, value: str, rows: Rows) -> BoolArray:
    """Which nodes carry the label with this value."""
    column = snapshot.label_column(key)
    number = column.numbers.get(value)
    if number is None:
        return of_rows(snapshot, rows, False)
    has: BoolArray = column.codes[rows] == number
    return has


def meets(snapshot: Snapshot, term: NodeTerm, rows: Rows) -> BoolArray:
    """Which nodes meet all conditions of a term; an empty one is met by none."""
    met = of_rows(snapshot, rows, bool(term.labels or term.fields))
    for condition in term.labels:
        met &= _has_matching_label(snapshot, condition, rows)
    for condition in term.fields:
        met &= _has_matching_field(snapshot, condition, rows)
    return met


def _has_matching_label(snapshot: Snapshot, condition: Condition, rows: Rows) -> BoolArray:
    """One look per value that the label has on any node; the last entry is for nodes without it."""
    column = snapshot.label_column(condition.key)
    matching = np.zeros(len(column.numbers) + 1, np.bool_)
    matching[-1] = requirement_matches(condition, None)
    if condition.operator == "In":
        known = [column.numbers[value] for value in condition.values if value in column.numbers]
        matching[np.array(known, np.int64)] = True
    else:
        for value, number in column.numbers.items():
            matching[number] = requirement_matches(condition, value)
    return matching[column.codes[rows]]


def _has_matching_field(snapshot: Snapshot, condition: Condition, rows: Rows) -> BoolArray:
    if condition.key != NODE_NAME_FIELD or condition.operator not in ("In", "NotIn"):
        return of_rows(snapshot, rows, False)
    named = np.zeros(len(snapshot.names), np.bool_)
    for name in condition.values:
        row = snapshot.row_of(name)
        if row is not None:
            named[row] = True
    return named[rows] if condition.operator == "In" else ~named[rows]


def is_allowed(snapshot: Snapshot, shape: Shape, rows: Rows) -> BoolArray:
    """Which nodes nodeSelector and the required node affinity let the pod go to."""
    allowed = of_rows(snapshot, rows, True)
    for key, value in shape.selector:
        allowed &= has_label(snapshot, key, value, rows)
    if shape.node_terms is not None:
        any_term = of_rows(snapshot, rows, False)
        for term in shape.node_terms:
            any_term |= meets(snapshot, term, rows)
        allowed &= any_term
    return allowed


def liking(snapshot: Snapshot, shape: Shape, rows: Rows) -> IntArray:
    """Per row, the weights of the preferred node affinity terms that it meets, summed."""
    total = np.zeros(len(snapshot.alive[rows]), np.int64)
    for weight, term in shape.liked_nodes:
        total += weight * meets(snapshot, term, rows)
    return total


def untolerated(shape: Shape, taints: tuple[TaintTuple, ...]) -> TaintTuple | None:
    """The first taint that keeps the pod away, if any."""
    for taint in taints:
        if taint.effect in REFUSING_EFFECTS and not tolerates(shape.tolerations, taint):
            return taint
    return None


def is_tolerable(snapshot: Snapshot, shape: Shape, rows: Rows) -> BoolArray:
    """Which nodes have no taint that keeps the pod away."""
    return _per_taint_set(snapshot, rows, lambda taints: untolerated(shape, taints) is None).astype(np.bool_)


def intolerable_taints(snapshot: Snapshot, shape: Shape, rows: Rows) -> IntArray:
    """Per row, how many PreferNoSchedule taints the pod does not tolerate."""
    return _per_taint_set(
        snapshot,
        rows,
        lambda taints: sum(
            taint.effect == "PreferNoSchedule" and not tolerates(shape.tolerations, taint) for taint in taints
        ),
    )


def _per_taint_set(snapshot: Snapshot, rows: Rows, ask: Callable[[tuple[TaintTuple, ...]], int]) -> IntArray:
    return np.array([ask(taints) for taints in snapshot.taint_sets], np.int64)[snapshot.taint_set[rows]]
