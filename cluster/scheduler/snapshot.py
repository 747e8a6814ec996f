"""The nodes as arrays: one row per node, kept current by what is heard, never rebuilt.

A decision about one pod is then a handful of array operations over all nodes, and the decision about the next pod of
the same shape only has to look again at the rows that changed in between: `changed_since` gives them. The same idea as
the scheduler cache of Kubernetes (assumed pods included), laid out for numpy.

    row      0          1         2
    node     node-1     node-2    (free)
    alive    True       True      False
    allocatable[row, column], requested[row, column]: columns "cpu" (thousandths), "memory" (bytes), "pods", ...

A node that is gone, or was not heard of yet, but has pods, keeps a row that is not alive, so that news of pods and of
nodes may come in either order. Only resources that some node announces have a column: what pods ask for beyond those
can't be had anyway, and so users can't make the arrays wide. This file decides nothing; it refuses to know what a
filter is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.scheduler.facts import NodeFacts, PlacedPod
from cluster.scheduler.podclass import Terms
from cluster.scheduler.shape import HostPort, Shape, TaintTuple
from cluster.scheduler.spread import GroupKey

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)
Rows = IntArray | slice
"""Which rows a computation is about."""
ALL_ROWS = slice(None)

CPU, MEMORY, PODS = 0, 1, 2
BASE_RESOURCES = ("cpu", "memory", "pods")

JOURNAL_LIMIT = 8192
"""So many changed rows are remembered; whoever is further behind looks at all rows."""

LABEL_COLUMNS_LIMIT = 256
"""So many label keys are kept encoded; a selector with yet another key makes the oldest be dropped."""

TAINT_SETS_LIMIT = 1024
"""Different combinations of taints, beyond two per row, that are remembered before old ones are weeded out."""

GROUPS_LIMIT = 1024
"""So many spreading groups are counted; the one that was least recently asked for is dropped."""


@dataclass(slots=True, eq=False)
class LabelColumn:
    """The values of one label key, as small numbers: -1 where a node does not carry the key."""

    codes: IntArray
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Group:
    """How many pods of one spreading group are on each node."""

    key: GroupKey
    counts: IntArray


@dataclass(slots=True, eq=False)
class _LabelClass:
    """All placed pods of one namespace with identical labels: counted once for every group that selects them."""

    counts: Counter[int] = field(default_factory=Counter)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """Rows that changed, each once."""

    nodes: IntArray
    """The node itself changed, came or went."""
    rows: IntArray
    """The node or the pods on it changed."""


class Snapshot:
    """Nodes and the pods on them. All methods are cheap enough to be called for each event."""

    def __init__(self, rows: int = 64) -> None:
        self.alive: BoolArray = np.zeros(rows, np.bool_)
        self.unschedulable: BoolArray = np.zeros(rows, np.bool_)
        self.taint_set: IntArray = np.zeros(rows, np.int64)
        self.allocatable: IntArray = np.zeros((rows, len(BASE_RESOURCES)), np.int64)
        self.requested: IntArray = np.zeros((rows, len(BASE_RESOURCES)), np.int64)
        self.scored: IntArray = np.zeros((rows, 2), np.int64)
        """Cpu and memory in use with the defaults of pods that ask for nothing: for scores, not for filters."""
        self.names: list[str] = [""] * rows
        self.columns: dict[str, int] = {name: column for column, name in enumerate(BASE_RESOURCES)}
        self.taint_sets: list[tuple[TaintTuple, ...]] = [()]
        """What a number in `taint_set` stands for."""
        self._row_of: dict[str, int] = {}
        self._free = list(range(rows - 1, -1, -1))
        self._facts: dict[int, NodeFacts] = {}
        self._taint_numbers: dict[tuple[TaintTuple, ...], int] = {(): 0}
        self._label_columns: dict[str, LabelColumn] = {}
        self._pods: dict[str, tuple[int, PlacedPod]] = {}
        self._on_row: dict[int, set[str]] = {}
        self._ports: dict[tuple[str, int], dict[int, Counter[str]]] = {}
        self._classes: dict[str, dict[Terms, _LabelClass]] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._vectors: dict[tuple[tuple[str, int], ...], IntArray] = {}
        self._journal: list[int] = []
        """A row whose pods changed as its number, one whose node changed as the complement of it."""
        self._journal_start = 0
        self.generation = 0
        """Grows when rows or columns were added: arrays held from before are too small."""

    # -- nodes

    @property
    def node_count(self) -> int:
        """Nodes that are there and not being deleted."""
        return len(self._facts)

    def row_of(self, node_name: str) -> int | None:
        """The row of a live node."""
        row = self._row_of.get(node_name)
        return row if row is not None and self.alive[row] else None

    def set_node(self, name: str, facts: NodeFacts) -> NodeFacts | None:
        """A node is there or has changed; returns what it said before, None if it is new."""
        row = self._row(name)
        before = self._facts.get(row)
        if before == facts:
            return before
        for resource, _ in facts.allocatable:
            if resource not in self.columns:
                self._add_column(resource)
        self._facts[row] = facts
        self.alive[row] = True
        self.unschedulable[row] = facts.unschedulable
        self.taint_set[row] = self._taint_number(facts.taints)
        self.allocatable[row] = 0
        for resource, amount in facts.allocatable:
            self.allocatable[row, self.columns[resource]] = amount
        labels = dict(facts.labels)
        for key, column in list(self._label_columns.items()):
            column.codes[row] = _code(column, labels.get(key))
            if len(column.numbers) > 2 * len(self.names) + LABEL_COLUMNS_LIMIT:
                del self._label_columns[key]  # mostly values of nodes long gone: encoded afresh when asked for
        self._changed(~row)
        return before

    def remove_node(self, name: str) -> bool:
        """A node is gone or is being deleted; its pods stay known. False if it was not there."""
        row = self._row_of.get(name)
        if row is None or self._facts.pop(row, None) is None:
            return False
        self.alive[row] = False
        self.allocatable[row] = 0
        for column in self._label_columns.values():
            column.codes[row] = -1
        self._changed(~row)
        self._release(row)
        return True

    def facts(self, row: int) -> NodeFacts:
        """What the live node of a row says."""
        return self._facts[row]

    def label_column(self, key: str) -> LabelColumn:
        """The encoded values of a label key."""
        column = self._label_columns.get(key)
        if column is None:
            if len(self._label_columns) >= LABEL_COLUMNS_LIMIT:
                del self._label_columns[next(iter(self._label_columns))]
            column = self._label_columns[key] = LabelColumn(np.full(len(self.names), -1, np.int64))
            for row, facts in self._facts.items():
                column.codes[row] = _code(column, dict(facts.labels).get(key))
        return column

    # -- pods

    def place(self, pod: PlacedPod, node_name: str) -> None:
        """A pod is on a node (bound, or assumed so); if it was known before, that is replaced."""
        known = self._pods.get(pod.uid)
        if known is not None:
            if known[1] == pod and self.names[known[0]] == node_name:
                self._pods[pod.uid] = (known[0], pod)  # what does not count here may be news
                return
            self.remove(pod.uid)
        row = self._row(node_name)
        self._pods[pod.uid] = (row, pod)
        self._on_row.setdefault(row, set()).add(pod.uid)
        self._account(row, pod, 1)

    def remove(self, uid: str) -> str | None:
        """A pod is gone, has finished, or was not bound after all. Its node's name; None if it was not known."""
        known = self._pods.pop(uid, None)
        if known is None:
            return None
        row, pod = known
        name = self.names[row]
        on_row = self._on_row[row]
        on_row.discard(uid)
        if not on_row:
            del self._on_row[row]
        self._account(row, pod, -1)
        self._release(row)
        return name

    def node_of(self, uid: str) -> str | None:
        """Where a pod is."""
        known = self._pods.get(uid)
        return None if known is None else self.names[known[0]]

    def row_of_pod(self, uid: str) -> int | None:
        """The row of a pod, whether its node is live or not."""
        known = self._pods.get(uid)
        return None if known is None else known[0]

    def rows_with_pods(self) -> list[int]:
        """The rows of nodes that have pods."""
        return list(self._on_row)

    def pods_on(self, row: int) -> Iterable[PlacedPod]:
        """The pods of a row, in no order."""
        return (self._pods[uid][1] for uid in self._on_row.get(row, ()))

    def port_users(self, port: HostPort) -> dict[int, Counter[str]]:
        """Who uses a host port of this protocol and number: row -> address -> how many."""
        return self._ports.get((port.protocol, port.port), {})

    def group(self, key: GroupKey) -> Group:
        """The counts of a spreading group; they stay current as long as the group is kept."""
        group = self._groups.pop(key, None)
        if group is None:
            if len(self._groups) >= GROUPS_LIMIT:
                self._drop_group(next(iter(self._groups)))
            group = Group(key, np.zeros(len(self.names), np.int64))
            for labels, label_class in self._classes.get(key.namespace, {}).items():
                if key.terms <= labels:
                    label_class.groups.append(group)
                    for row, count in label_class.counts.items():
                        group.counts[row] += count
        self._groups[key] = group
        return group

    def vector(self, shape: Shape) -> IntArray:
        """What a shape asks for, by column; what has no column is left out."""
        vector = self._vectors.get(shape.requests)
        if vector is None:
            if len(self._vectors) >= GROUPS_LIMIT:
                self._vectors.clear()
            vector = np.zeros(len(self.columns), np.int64)
            for name, amount in shape.requests:
                column = self.columns.get(name)
                if column is not None:
                    vector[column] = amount
            self._vectors[shape.requests] = vector
        return vector

    # -- the journal of changed rows

    @property
    def position(self) -> int:
        """How many changes there were."""
        return self._journal_start + len(self._journal)

    def changed_since(self, position: int) -> Changed | None:
        """What changed since then; None if that is too long ago: look at all rows."""
        if position < self._journal_start:
            return None
        recent = set(self._journal[position - self._journal_start :])
        nodes = {~entry for entry in recent if entry < 0}
        rows = nodes.union(entry for entry in recent if entry >= 0)
        return Changed(np.array(sorted(nodes), np.int64), np.array(sorted(rows), np.int64))

    def _changed(self, entry: int) -> None:
        self._journal.append(entry)
        if len(self._journal) > JOURNAL_LIMIT:
            half = JOURNAL_LIMIT // 2
            del self._journal[:half]
            self._journal_start += half

    # -- inside

    def _account(self, row: int, pod: PlacedPod, sign: int) -> None:
        self.requested[row] += sign * self.vector(pod.pod_class.shape)
        self.scored[row, CPU] += sign * pod.pod_class.shape.scored_cpu_milli
        self.scored[row, MEMORY] += sign * pod.pod_class.shape.scored_memory_bytes
        for port in pod.pod_class.shape.host_ports:
            users = self._ports.setdefault((port.protocol, port.port), {})
            by_ip = users.setdefault(row, Counter())
            by_ip[port.ip] += sign
            if not by_ip[port.ip]:
                del by_ip[port.ip]
                if not by_ip:
                    del users[row]
        if not pod.terminating:
            self._count(row, pod, sign)
        self._changed(row)

    def _count(self, row: int, pod: PlacedPod, sign: int) -> None:
        namespace, labels = pod.pod_class.namespace, pod.pod_class.labels
        classes = self._classes.setdefault(namespace, {})
        label_class = classes.get(labels)
        if label_class is None:
            label_class = classes[labels] = _LabelClass()
            label_class.groups = [
                group for key, group in self._groups.items() if key.namespace == namespace and key.terms <= labels
            ]
        label_class.counts[row] += sign
        if not label_class.counts[row]:
            del label_class.counts[row]
        for group in label_class.groups:
            group.counts[row] += sign
        if not label_class.counts:
            del classes[labels]
            if not classes:
                del self._classes[namespace]

    def _drop_group(self, key: GroupKey) -> None:
        group = self._groups.pop(key)
        for label_class in self._classes.get(key.namespace, {}).values():
            if group in label_class.groups:
                label_class.groups.remove(group)

    def _row(self, name: str) -> int:
        row = self._row_of.get(name)
        if row is None:
            if not self._free:
                self._grow()
            row = self._row_of[name] = self._free.pop()
            self.names[row] = name
        return row

    def _release(self, row: int) -> None:
        """Gives a row back once it has neither a node nor pods."""
        if row not in self._facts and row not in self._on_row:
            del self._row_of[self.names[row]]
            self.names[row] = ""
            self._free.append(row)

    def _grow(self) -> None:
        old = len(self.names)
        self.alive = _longer(self.alive, old)
        self.unschedulable = _longer(self.unschedulable, old)
        self.taint_set = _longer(self.taint_set, old)
        self.allocatable = _longer(self.allocatable, old)
        self.requested = _longer(self.requested, old)
        self.scored = _longer(self.scored, old)
        for column in self._label_columns.values():
            column.codes = np.concatenate([column.codes, np.full(old, -1, np.int64)])
        for group in self._groups.values():
            group.counts = _longer(group.counts, old)
        self.names.extend([""] * old)
        self._free.extend(range(2 * old - 1, old - 1, -1))
        self.generation += 1

    def _add_column(self, resource: str) -> None:
        """A resource that no node had announced before: what the pods at hand ask of it is counted now."""
        self.columns[resource] = len(self.columns)
        none = np.zeros((len(self.names), 1), np.int64)
        self.allocatable = np.hstack([self.allocatable, none])
        self.requested = np.hstack([self.requested, none.copy()])
        self._vectors.clear()
        for row, pod in self._pods.values():
            for name, amount in pod.pod_class.shape.requests:
                if name == resource:
                    self.requested[row, -1] += amount
        self.generation += 1

    def _taint_number(self, taints: tuple[TaintTuple, ...]) -> int:
        number = self._taint_numbers.get(taints)
        if number is None:
            if len(self.taint_sets) > 2 * len(self.names) + TAINT_SETS_LIMIT:
                self._renumber_taints()
            number = self._taint_numbers[taints] = len(self.taint_sets)
            self.taint_sets.append(taints)
        return number

    def _renumber_taints(self) -> None:
        """Forgets the taints of nodes long gone."""
        self.taint_sets, self._taint_numbers = [()], {(): 0}
        for row, facts in self._facts.items():
            if facts.taints not in self._taint_numbers:
                self._taint_numbers[facts.taints] = len(self.taint_sets)
                self.taint_sets.append(facts.taints)
            self.taint_set[row] = self._taint_numbers[facts.taints]


def _longer(array: NDArray[Scalar], by: int) -> NDArray[Scalar]:
    return np.concatenate([array, np.zeros((by, *array.shape[1:]), array.dtype)])


def _code(column: LabelColumn, value: str | None) -> int:
    if value is None:
        return -1
    return column.numbers.setdefault(value, len(column.numbers))
