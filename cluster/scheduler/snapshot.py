"""The nodes as arrays: one row per node, kept current by what is heard, never rebuilt.

A decision about one pod is then a handful of array operations over all nodes, and the decision about the next pod of
the same class only has to look again at the rows that changed in between: `changed_since` gives them. The same idea as
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
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.scheduler.encoding import LabelColumn, LabelColumns, TaintSets
from cluster.scheduler.facts import NodeFacts, PlacedPod
from cluster.scheduler.occupancy import Occupancy
from cluster.scheduler.shape import HostPort, Shape, TaintTuple
from cluster.scheduler.spread import SpreadSelectors
from cluster.scheduler.tallies import Tallies

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

VECTORS_LIMIT = 4096
"""So many different requests are kept as vectors; then all are computed anew when they come again."""


class Versions(NamedTuple):
    """What may have changed since somebody last looked, beside the pods on rows. Equal versions: nothing has.

    The first four make everything different that was computed per row."""

    generation: int
    """Rows or columns were added: arrays held from before are too small."""
    nodes: int
    """A node came, went or changed."""
    names: int
    """A row got a name or was given back."""
    namespaces: int
    """A namespace has other labels."""
    directories: int
    """A data directory has come to a node or is not used there any more."""
    terms: int
    """Pods that are there have other terms of affinity than before."""
    selectors: int
    """A service or a controller selects other pods."""


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
        self.tallies = Tallies(rows)
        self.selectors = SpreadSelectors()
        """Of services and controllers: which pods are spread apart without having asked for it."""
        self.departures = 0
        """How many pods have left a row so far."""
        self.arrivals = 0
        """How many pods have come to a row so far."""
        self.priorities: Counter[int] = Counter()
        """Of the pods that have a row: how many have which."""
        self._taints = TaintSets()
        self._labels = LabelColumns(rows)
        self._row_of: dict[str, int] = {}
        self._free = list(range(rows - 1, -1, -1))
        self._facts: dict[int, NodeFacts] = {}
        self._pods: dict[str, tuple[int, PlacedPod]] = {}
        self._on_row: dict[int, set[str]] = {}
        self._occupancy = Occupancy()
        self._vectors: dict[tuple[tuple[str, int], ...], IntArray] = {}
        self._journal: list[int] = []
        self._journal_start = 0
        self._generation = self._nodes_version = 0
        self.names_version = 0
        """Grows whenever a row gets a name or is given back."""

    @property
    def versions(self) -> Versions:
        """What there was to see until now."""
        tallies = self.tallies
        return Versions(
            self._generation,
            self._nodes_version,
            self.names_version,
            tallies.namespaces.version,
            self._occupancy.version,
            tallies.terms_version,
            self.selectors.version,
        )

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
        if self._taints.is_overgrown(len(self.names)):
            self._renumber_taints()
        self.taint_set[row] = self._taints.number(facts.taints)
        self.allocatable[row] = 0
        for resource, amount in facts.allocatable:
            self.allocatable[row, self.columns[resource]] = amount
        self._labels.set(row, facts)
        self._occupancy.announce(row, before, facts)
        self._nodes_version += 1
        self._changed((row,))
        return before

    def remove_node(self, name: str) -> bool:
        """A node is gone or is being deleted; its pods stay known. False if it was not there."""
        row = self._row_of.get(name)
        before = self._facts.pop(row, None) if row is not None else None
        if row is None or before is None:
            return False
        self.alive[row] = False
        self.allocatable[row] = 0
        self._labels.set(row, None)
        self._occupancy.announce(row, before, None)
        self._nodes_version += 1
        self._changed((row,))
        self._release(row)
        return True

    def facts(self, row: int) -> NodeFacts:
        """What the live node of a row says."""
        return self._facts[row]

    @property
    def taint_sets(self) -> Sequence[tuple[TaintTuple, ...]]:
        """What a number in `taint_set` stands for."""
        return self._taints.sets

    def label_column(self, key: str) -> LabelColumn:
        """The encoded values of a label key. Its codes stay right until a node changes."""
        return self._labels.column(key, self._facts)

    def directory_rows(self, name: str) -> Collection[int]:
        """Where a data directory (NAMESPACE/NAME) lies or is in use; empty: nowhere yet."""
        return self._occupancy.directory_rows(name)

    def distrust(self) -> None:
        """Everything that was computed from the nodes is void, though nothing here has changed."""
        self._nodes_version += 1

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
        self._keep(pod, row)
        self._account(row, pod, 1)

    def place_many(self, pods: Sequence[PlacedPod], rows: Sequence[int]) -> None:
        """Pods of one class, none of them known before or on its way out, have come to these rows of live nodes."""
        if not pods:
            return
        if len(pods) == 1:
            self._keep(pods[0], rows[0])
            self._account(rows[0], pods[0], 1)
            return
        pod_class = pods[0].pod_class
        for pod, row in zip(pods, rows, strict=True):
            self._keep(pod, row)
        per_row = np.bincount(np.array(rows, np.int64))
        different = np.flatnonzero(per_row)
        counts = per_row[different]
        shape = pod_class.shape
        self.requested[different] += counts[:, np.newaxis] * self.vector(shape)
        self.scored[different, CPU] += counts * shape.scored_cpu_milli
        self.scored[different, MEMORY] += counts * shape.scored_memory_bytes
        self.tallies.add_many(pod_class, different, counts)
        if pod_class.shape.host_ports or pod_class.shape.directories:
            for row in rows:
                self._occupancy.use(row, pod_class, 1)
        self.arrivals += len(pods)
        self._changed(different.tolist())

    def remove(self, uid: str) -> str | None:
        """A pod is gone, has finished, or was not bound after all. Its node's name; None if it was not known."""
        known = self._pods.pop(uid, None)
        if known is None:
            return None
        row, pod = known
        self.priorities[pod.priority] -= 1
        if not self.priorities[pod.priority]:
            del self.priorities[pod.priority]
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

    def placed(self, uid: str) -> PlacedPod | None:
        """A pod that is on some row."""
        known = self._pods.get(uid)
        return None if known is None else known[1]

    def pods_on(self, row: int) -> Iterable[PlacedPod]:
        """The pods of a row, in no order."""
        return (self._pods[uid][1] for uid in self._on_row.get(row, ()))

    def port_users(self, port: HostPort) -> dict[int, Counter[str]]:
        """Who uses a host port of this protocol and number: row -> address -> how many."""
        return self._occupancy.port_users(port)

    def vector(self, shape: Shape) -> IntArray:
        """What a shape asks for, by column; what has no column is left out."""
        vector = self._vectors.get(shape.requests)
        if vector is None:
            if len(self._vectors) >= VECTORS_LIMIT:
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

    def changed_since(self, position: int) -> list[int] | None:
        """The rows that changed since then, ascending; None if that is too long ago: look at all rows."""
        if position < self._journal_start:
            return None
        return sorted(set(self._journal[position - self._journal_start :]))

    def _changed(self, rows: Iterable[int]) -> None:
        self._journal.extend(rows)
        if len(self._journal) > JOURNAL_LIMIT:
            surplus = len(self._journal) - JOURNAL_LIMIT // 2
            del self._journal[:surplus]
            self._journal_start += surplus

    # -- inside

    def _keep(self, pod: PlacedPod, row: int) -> None:
        self._pods[pod.uid] = (row, pod)
        self.priorities[pod.priority] += 1
        on_row = self._on_row.get(row)
        if on_row is None:
            self._on_row[row] = {pod.uid}
        else:
            on_row.add(pod.uid)

    def _account(self, row: int, pod: PlacedPod, sign: int) -> None:
        shape = pod.pod_class.shape
        if sign > 0:
            self.requested[row] += self.vector(shape)
        else:
            self.requested[row] -= self.vector(shape)
        self.scored[row, CPU] += sign * shape.scored_cpu_milli
        self.scored[row, MEMORY] += sign * shape.scored_memory_bytes
        if shape.host_ports or shape.directories:
            self._occupancy.use(row, pod.pod_class, sign)
        self.tallies.add(pod.pod_class, pod.terminating, row, sign)
        if sign > 0:
            self.arrivals += 1
        else:
            self.departures += 1
        self._changed((row,))

    def _row(self, name: str) -> int:
        row = self._row_of.get(name)
        if row is None:
            if not self._free:
                self._grow()
            row = self._row_of[name] = self._free.pop()
            self.names[row] = name
            self.names_version += 1
        return row

    def _release(self, row: int) -> None:
        """Gives a row back once it has neither a node nor pods."""
        if row not in self._facts and row not in self._on_row:
            del self._row_of[self.names[row]]
            self.names[row] = ""
            self.names_version += 1
            self._free.append(row)

    def _grow(self) -> None:
        old = len(self.names)
        self.alive = _longer(self.alive, old)
        self.unschedulable = _longer(self.unschedulable, old)
        self.taint_set = _longer(self.taint_set, old)
        self.allocatable = _longer(self.allocatable, old)
        self.requested = _longer(self.requested, old)
        self.scored = _longer(self.scored, old)
        self._labels.grow(old)
        self.tallies.grow(old)
        self.names.extend([""] * old)
        self._free.extend(range(2 * old - 1, old - 1, -1))
        self.names_version += 1
        self._generation += 1

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
        self._generation += 1

    def _renumber_taints(self) -> None:
        """Forgets the taints of nodes long gone."""
        self._taints = TaintSets()
        for row, facts in self._facts.items():
            self.taint_set[row] = self._taints.number(facts.taints)


def _longer(array: NDArray[Scalar], by: int) -> NDArray[Scalar]:
    return np.concatenate([array, np.zeros((by, *array.shape[1:]), array.dtype)])
