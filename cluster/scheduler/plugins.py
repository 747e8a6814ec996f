"""Plug-ins: filters and scores of other people's, as functions over arrays. This is their interface, and it is kept.

    def away_from_full_racks(pod: PodView, nodes: NodesView) -> NDArray[np.bool_]: ...      # may the pod go there?
    def by_rank(pod: PodView, nodes: NodesView) -> NDArray[np.int64]: ...                   # how good is it? 0 to 100

The answer has one entry per node of the view, in its order. A plug-in judges each node by itself: it is asked about
all nodes when a class of pods is new, and later only about nodes on which something has changed, so an answer that
depends on the other nodes in the view is wrong. It is asked once for all pods of a class, and may keep nothing. What it
is given is for reading.

One that looks at nothing but the node itself (names, labels, what is allocatable) should say so, with `@node_only`:
then it is asked once per class and change of nodes, and pods are placed as fast as without it. Any other is asked anew
for each pod.

A plug-in that raises, or answers in another form than this, is cut out for a minute, and asked again then. As long as
it is cut out, a filter lets no pod of its profile go anywhere (nobody is placed by guess, and the pod says why), and a
score counts 0 for all nodes (pods are placed without it). A plug-in runs within the scheduler: one that does not return
stops it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.api.labels import selector_from_map
from cluster.scheduler.filters import Filter, Scope
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.scoring import Score
from cluster.scheduler.snapshot import BoolArray, IntArray, Rows, Snapshot
from cluster.scheduler.tallies import InNamespace

ENTRY_POINTS = "podium.scheduler.plugins"
"""The group of entry points under which packages announce plug-ins by name."""
CUT_OUT_S = 60.0
WORST, BEST = 0, 100


@dataclass(frozen=True, slots=True)
class PodView:
    """What a plug-in is told of the pods: what all of a class have in common."""

    namespace: str
    labels: Mapping[str, str]
    requests: Mapping[str, int]
    """By resource, in the units of `NodesView.allocatable`; what is not asked for is absent."""
    node_selector: Mapping[str, str]


class NodesView:
    """Some of the nodes, in arrays with one entry per node."""

    __slots__ = ("_node_only", "_pod_class", "_rows", "_snapshot")

    def __init__(self, snapshot: Snapshot, pod_class: PodClass, rows: IntArray, *, node_only: bool = False) -> None:
        self._snapshot = snapshot
        self._pod_class = pod_class
        self._rows = rows
        self._node_only = node_only

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [self._snapshot.names[row] for row in self._rows.tolist()]

    def label(self, key: str) -> NDArray[np.object_]:
        """The value of a label (str), None where a node does not carry it."""
        column = self._snapshot.label_column(key)
        values = np.array([*column.numbers, None], dtype=np.object_)  # the last is what code -1 means
        return values[column.codes[self._rows]]

    def label_number(self, key: str, default: float = 0.0) -> NDArray[np.float64]:
        """The value of a label as a number; `default` where there is none, or it is not one."""
        column = self._snapshot.label_column(key)
        values = np.array([*(_number(value, default) for value in column.numbers), default], np.float64)
        return values[column.codes[self._rows]]

    def allocatable(self, resource: str) -> IntArray:
        """What there is for pods: cpu in thousandths, "pods" as a number, all else in whole units (bytes)."""
        return self._column(self._snapshot.allocatable, resource)

    def requested(self, resource: str) -> IntArray:
        """What the pods that are there have asked for, those on their way included; without this pod."""
        self._refuse("requested")
        return self._column(self._snapshot.requested, resource)

    def pods(self, labels: Mapping[str, str] | None = None, namespace: str | None = None) -> IntArray:
        """How many pods are there that carry these labels (None: whatever), in a namespace (None: the pod's own).

        Those that are being deleted do not count.
        """
        self._refuse("pods")
        where = self._pod_class.namespace if namespace is None else namespace
        counted = self._snapshot.tallies.of(InNamespace(where, selector_from_map(labels or {})))
        return counted.counts[self._rows]

    def same(self) -> IntArray:
        """How many pods are there that carry all labels of this one, in its namespace."""
        return self.pods(self._pod_class.label_map)

    def _refuse(self, what: str) -> None:
        if self._node_only:
            raise TypeError(f"it is marked as node_only, and asks for nodes.{what}, which pods change")

    def _column(self, amounts: IntArray, resource: str) -> IntArray:
        column = self._snapshot.columns.get(resource)
        if column is None:
            return np.zeros(len(self._rows), np.int64)
        amount: IntArray = amounts[self._rows, column]
        return amount


Function = Callable[[PodView, NodesView], NDArray[np.generic]]
"""A plug-in: a filter answers with booleans, a score with whole numbers from 0 to 100."""
F = TypeVar("F", bound=Callable[..., Any])


def node_only(function: F) -> F:
    """Marks a plug-in that looks at the node alone, and not at the pods that are there."""
    function.node_only = True  # type: ignore[attr-defined]
    return function


@dataclass(slots=True, eq=False)
class PlugIn:
    """A function, and whether it can be relied on."""

    name: str
    function: Function
    problem: str = ""
    """Why it is cut out; empty: it is not."""
    failures: int = 0
    """How often it was cut out."""
    reported: int = 0
    """How many of these somebody was told of."""
    epoch: int = 0
    """Grows when it is cut out or comes back: what it said before is void."""
    since_s: float | None = None
    """Since when it is cut out, once somebody has looked at a clock."""

    @property
    def scope(self) -> Scope:
        """What its answers depend on."""
        return Scope.NODE if getattr(self.function, "node_only", False) else Scope.LOAD

    def as_filter(self) -> Filter:
        """The plug-in as one of the filters."""
        return Filter(self.name, self.scope, self.passes, lambda _, __, rows: Counter({self.reason: len(rows)}))

    def as_score(self) -> Score:
        """The plug-in as one of the scores."""
        return Score(self.name, self.scope, self.score)

    def passes(self, snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
        """As a filter: for each of the rows, whether it passes; none if the plug-in cannot be relied on."""
        answer = self._ask(snapshot, pod_class, rows, np.bool_)
        return np.zeros(len(snapshot.alive[rows]), np.bool_) if answer is None else answer.astype(np.bool_)

    def score(self, snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> IntArray:
        """As a score: 0 to 100 for each of the rows; 0 for all if the plug-in cannot be relied on."""
        answer = self._ask(snapshot, pod_class, rows, np.integer)
        return np.zeros(len(snapshot.alive[rows]), np.int64) if answer is None else answer.astype(np.int64)

    @property
    def reason(self) -> str:
        """Why a node that it refused is no place for a pod."""
        if self.problem:
            return f"node(s) couldn't be judged by plugin [{self.name}], {self.problem}"
        return f"node(s) didn't satisfy plugin(s) [{self.name}]"

    def recover(self, now_s: float) -> bool:
        """Lets it come back when its time is over. Whether it did."""
        if not self.problem:
            return False
        if self.since_s is None:
            self.since_s = now_s
        if now_s < self.since_s + CUT_OUT_S:
            return False
        self.problem, self.since_s = "", None
        self.epoch += 1
        return True

    def _ask(
        self, snapshot: Snapshot, pod_class: PodClass, rows: Rows, wanted: type[np.bool_] | type[np.integer[Any]]
    ) -> NDArray[np.generic] | None:
        if self.problem:
            return None
        picked = np.arange(len(snapshot.names))[rows]
        alive = snapshot.alive[picked]
        nodes = NodesView(snapshot, pod_class, picked[alive], node_only=self.scope is Scope.NODE)
        try:
            said = self.function(_pod_view(pod_class), nodes)
            self._check(said, len(nodes), wanted)
        except Exception as error:  # whatever other people's code does, pods go on
            self._cut_out(error)
            return None
        answer = np.zeros(len(picked), said.dtype)
        answer[alive] = said
        return answer

    def _check(self, said: object, nodes: int, wanted: type[np.bool_] | type[np.integer[Any]]) -> None:
        kind = "booleans" if wanted is np.bool_ else "whole numbers"
        if not isinstance(said, np.ndarray):
            raise TypeError(f"it answered with {type(said).__name__}, not with an array of {kind}")
        if not np.issubdtype(said.dtype, wanted):
            raise TypeError(f"it answered with an array of {said.dtype}, not of {kind}")
        if said.shape != (nodes,):
            raise ValueError(f"it answered with an array of shape {said.shape} about {nodes} nodes")
        if wanted is not np.bool_ and nodes and not (int(said.min()) >= WORST and int(said.max()) <= BEST):
            raise ValueError(f"it answered with {said.min()} to {said.max()}, and scores are from {WORST} to {BEST}")

    def _cut_out(self, error: Exception) -> None:
        words = " ".join(str(error).split())[:200]
        self.problem = f"{type(error).__name__}: {words}" if words else type(error).__name__
        self.failures += 1
        self.epoch += 1


def _pod_view(pod_class: PodClass) -> PodView:
    shape = pod_class.shape
    return PodView(pod_class.namespace, dict(pod_class.labels), dict(shape.requests), dict(shape.selector))


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if np.isfinite(number) else default
