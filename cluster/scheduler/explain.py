"""Why a pod goes where it goes, or nowhere: every node, every filter with the numbers compared, every score.

The same filters and scores as the scheduler's own, over a snapshot made from lists of objects; so with the nodes and
pods as of the revision before a binding, it replays that decision. Beyond what the scheduler needs, no filter is
skipped after the first that refuses, and for a pod that fits nowhere the smallest change is named that would let it in.
What is small is a judgement, written down in `_EFFORT`.

It refuses to know where the objects come from and how the answer is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cluster.api.meta import is_terminating
from cluster.api.pods import is_finished, profile_label
from cluster.api.quantities import format_bytes, format_milli
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import filters, scores
from cluster.scheduler.cycle import intolerable_taints, spread_score
from cluster.scheduler.facts import facts_of, placed_pod
from cluster.scheduler.podclass import PodClass, class_of
from cluster.scheduler.settings import Weights
from cluster.scheduler.shape import IMAGE_RUNTIME_LABEL, TaintTuple
from cluster.scheduler.snapshot import MEMORY, IntArray, Snapshot
from cluster.scheduler.spread import GroupKey, SpreadSelectors


@dataclass(frozen=True, slots=True)
class Check:
    """One filter on one node."""

    filter: str
    passed: bool
    detail: str
    """The numbers or words that were compared, such as "cpu: asks 2, free 1500m of 4"."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score of one node."""

    name: str
    weight: int
    value: int
    """0 to 100."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What the scheduler thinks of one node."""

    node: str
    checks: tuple[Check, ...]
    """In the order of the filters."""
    scores: tuple[Score, ...] = ()
    """Empty if a filter refused the node."""

    @property
    def fits(self) -> bool:
        """No filter refused it."""
        return all(check.passed for check in self.checks)

    @property
    def total(self) -> int:
        """The weighted sum; the highest wins."""
        return sum(score.weight * score.value for score in self.scores)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that would make the pod fit on a node."""

    node: str
    filter: str
    text: str
    effort: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer about one pod."""

    namespace: str
    pod: str
    assigned_to: str
    """spec.nodeName: where it is; empty if it waits."""
    verdicts: tuple[NodeVerdict, ...]
    """Nodes that fit first, best first; then by name."""
    best: tuple[str, ...]
    """The nodes that share the highest total: one of them is picked by dice."""
    message: str
    """As in the FailedScheduling event; empty if a node fits."""
    changes: tuple[Change, ...] = ()
    """If no node fits: all that has to change for the node that is nearest to fitting."""

    @property
    def advice(self) -> str:
        """The smallest change, as a sentence for people; empty if a node fits."""
        return "; and ".join(dict.fromkeys(change.text for change in self.changes))


def explain(
    pod: core.Pod,
    nodes: Iterable[core.Node],
    pods: Iterable[core.Pod],
    *,
    services: Iterable[core.Service] = (),
    controllers: Iterable[core.ReplicationController] = (),
    weights: Weights | None = None,
) -> Explanation:
    """Decides about the pod as if it had no node, among these nodes with these pods on them.

    `pods` may hold all pods, the one asked about included: it does not stand in its own way. Services and controllers
    are needed for the spreading score only.
    """
    snapshot = Snapshot()
    for node in nodes:
        if not is_terminating(node):
            snapshot.set_node(node.metadata.name, facts_of(node))
    for other in pods:
        if other.spec.nodeName and not is_finished(other) and other.metadata.uid != pod.metadata.uid:
            snapshot.place(placed_pod(other), other.spec.nodeName)
    selectors = SpreadSelectors()
    for service in services:
        selectors.set_service(service)
    for controller in controllers:
        selectors.set_controller(controller)
    pod_class = class_of(pod, placed=True)
    return _Explainer(snapshot, pod_class, selectors.group_of(pod_class), weights or Weights()).explain(pod)


def format_amount(resource: str, amount: int) -> str:
    """An amount as people write it: cpu "1500m", memory "64Mi", anything else as a number."""
    if resource == "cpu":
        return format_milli(amount)
    return format_bytes(amount) if resource in ("memory", "ephemeral-storage") else str(amount)


_EFFORT = {
    "NodeUnschedulable": 1.0,
    "Resources": 1.0,  # and up to 1 more, by the share of the request that is short
    "HostPorts": 2.0,
    "NodeSelector": 2.5,
    "TaintToleration": 3.0,
    "NodeName": 5.0,
    "ImageRuntime": 8.0,
}
"""How much it is to ask for. An uncordon is a word; a node that runs images is another machine."""


class _Explainer:
    def __init__(self, snapshot: Snapshot, pod_class: PodClass, group: GroupKey | None, weights: Weights) -> None:
        self._snapshot = snapshot
        self._class = pod_class
        self._shape = pod_class.shape
        self._group = group
        self._weights = weights
        self._details: dict[str, Callable[[int, bool], str]] = {
            "NodeUnschedulable": self._unschedulable,
            "NodeName": self._node_name,
            "TaintToleration": self._taints,
            "NodeSelector": self._selector,
            "ImageRuntime": self._images,
            "HostPorts": self._ports,
            "Resources": self._resources,
        }
        self._remedies: dict[str, Callable[[int], str]] = {
            "NodeUnschedulable": lambda row: f"{self._name(row)} is cordoned: uncordon it",
            "NodeName": lambda row: f"asks for node {self._shape.node_name} by name: take spec.nodeName away",
            "TaintToleration": self._taint_remedy,
            "NodeSelector": self._selector_remedy,
            "ImageRuntime": lambda row: (
                "names an image and no node has a runtime for images: leave the image out, or write image: host, to"
                " run the command from the machine's own file system"
            ),
            "HostPorts": lambda row: f"{self._busy_ports(row)} on {self._name(row)}: free it or ask for another",
            "Resources": self._resource_remedy,
        }

    def explain(self, pod: core.Pod) -> Explanation:
        snapshot = self._snapshot
        rows = np.flatnonzero(snapshot.alive)
        passes = {each.name: each.passes(snapshot, self._class, rows) for each in filters.FILTERS}
        checks = {
            int(row): tuple(
                Check(name, bool(passed[i]), self._details[name](int(row), bool(passed[i])))
                for name, passed in passes.items()
            )
            for i, row in enumerate(rows)
        }
        fitting = np.array([row for row, of_row in checks.items() if all(c.passed for c in of_row)], np.int64)
        marks = self._scores(fitting)
        verdicts = [NodeVerdict(self._name(row), of_row, marks.get(row, ())) for row, of_row in checks.items()]
        verdicts.sort(key=lambda verdict: (not verdict.fits, -verdict.total, verdict.node))
        top = max((verdict.total for verdict in verdicts if verdict.fits), default=None)
        return Explanation(
            namespace=pod.metadata.namespace,
            pod=pod.metadata.name,
            assigned_to=pod.spec.nodeName,
            verdicts=tuple(verdicts),
            best=tuple(verdict.node for verdict in verdicts if verdict.fits and verdict.total == top),
            message="" if len(fitting) else filters.refusal(snapshot, self._class).message,
            changes=() if len(fitting) else self._smallest_changes(checks),
        )

    def _name(self, row: int) -> str:
        return self._snapshot.names[row]

    # -- scores

    def _scores(self, rows: IntArray) -> dict[int, tuple[Score, ...]]:
        if not len(rows):
            return {}
        snapshot, shape, weights = self._snapshot, self._shape, self._weights
        allocatable = snapshot.allocatable[rows, : MEMORY + 1]
        used = snapshot.scored[rows] + np.array([shape.scored_cpu_milli, shape.scored_memory_bytes], np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.where(allocatable > 0, 100.0 * used / np.maximum(allocatable, 1), 100.0)
        in_use = [f"cpu {cpu:.0f}%, memory {memory:.0f}% in use with it" for cpu, memory in percent.tolist()]
        groupmates = (
            [f"{count} of its group there" for count in snapshot.group(self._group).counts[rows].tolist()]
            if self._group is not None
            else ["belongs to no service or controller"] * len(rows)
        )
        table = (
            ("LeastAllocated", weights.least_allocated, scores.least_allocated(allocatable, used), in_use),
            ("BalancedAllocation", weights.balanced_allocation, scores.balanced_allocation(allocatable, used), in_use),
            (
                "TaintToleration",
                weights.taint_toleration,
                scores.taint_toleration(intolerable_taints(snapshot, self._class, rows)),
                [""] * len(rows),
            ),
            ("Spread", weights.spread, spread_score(snapshot, self._group, rows), groupmates),
        )
        return {
            int(row): tuple(Score(name, weight, int(values[i]), details[i]) for name, weight, values, details in table)
            for i, row in enumerate(rows)
        }

    # -- what was compared

    def _unschedulable(self, row: int, passed: bool) -> str:
        if not self._snapshot.unschedulable[row]:
            return "not cordoned"
        return "cordoned, and tolerated" if passed else "cordoned"

    def _node_name(self, row: int, passed: bool) -> str:
        return f"asks for {self._shape.node_name}" if self._shape.node_name else "asks for no node by name"

    def _taints(self, row: int, passed: bool) -> str:
        taints = self._snapshot.taint_sets[int(self._snapshot.taint_set[row])]
        if passed:
            return f"tolerates {len(taints)} taints" if taints else "no taints"
        taint = filters.untolerated(self._shape, taints)
        assert taint is not None
        return f"does not tolerate {_taint_text(taint)}"

    def _selector(self, row: int, passed: bool) -> str:
        if not self._shape.selector:
            return "no node selector"
        if passed:
            return "has " + ",".join(f"{key}={value}" for key, value in self._shape.selector)
        labels = dict(self._snapshot.facts(row).labels)
        return "; ".join(
            f"wants {key}={value}, has {key + '=' + labels[key] if key in labels else 'no ' + key}"
            for key, value in self._unmet(row)
        )

    def _unmet(self, row: int) -> list[tuple[str, str]]:
        labels = dict(self._snapshot.facts(row).labels)
        return [(key, value) for key, value in self._shape.selector if labels.get(key) != value]

    def _images(self, row: int, passed: bool) -> str:
        if not self._shape.needs_image_runtime:
            return "needs no image"
        return f"{IMAGE_RUNTIME_LABEL}=true" if passed else "no runtime for images"

    def _ports(self, row: int, passed: bool) -> str:
        if not self._shape.host_ports:
            return "no host ports"
        return "ports are free" if passed else self._busy_ports(row)

    def _busy_ports(self, row: int) -> str:
        busy = [
            f"{port.protocol} {port.port}" for port in self._shape.host_ports if row in self._snapshot.port_users(port)
        ]
        return f"host port {', '.join(busy)} is taken"

    def _amounts(self, row: int) -> list[tuple[str, int, int, int]]:
        """(resource, asked, free, allocatable) for all that is asked for."""
        amounts = []
        for name, asked in self._shape.requests:
            column = self._snapshot.columns.get(name)
            if column is None:
                amounts.append((name, asked, 0, 0))
                continue
            allocatable = int(self._snapshot.allocatable[row, column])
            amounts.append((name, asked, allocatable - int(self._snapshot.requested[row, column]), allocatable))
        return amounts

    def _resources(self, row: int, passed: bool) -> str:
        return ", ".join(
            f"{name}: asks {format_amount(name, asked)}, free {format_amount(name, free)}"
            f" of {format_amount(name, allocatable)}"
            for name, asked, free, allocatable in self._amounts(row)
            if passed or asked > free
        )

    # -- what would help

    def _taint_remedy(self, row: int) -> str:
        against = self._taints_against(row)
        if self._only_cordoned(row):
            return f"{self._name(row)} is cordoned: uncordon it"
        if any(taint.key.startswith("node.kubernetes.io/") for taint in against):
            states = ", ".join(sorted({taint.key.removeprefix("node.kubernetes.io/") for taint in against}))
            return f"{self._name(row)} is {states}: bring it back"
        which = ", ".join(_taint_text(taint) for taint in against)
        return f"does not tolerate {which} of {self._name(row)}: add a toleration or take the taint away"

    def _taints_against(self, row: int) -> list[TaintTuple]:
        taints = self._snapshot.taint_sets[int(self._snapshot.taint_set[row])]
        return [taint for taint in taints if filters.untolerated(self._shape, (taint,)) is not None]

    def _only_cordoned(self, row: int) -> bool:
        """A cordoned node carries a taint that says so too: one remedy for both."""
        return all(taint.key == filters.UNSCHEDULABLE_TAINT.key for taint in self._taints_against(row))

    def _selector_remedy(self, row: int) -> str:
        labels = " ".join(f"{key}={value}" for key, value in self._unmet(row))
        wish = "spec.nodeSelector"
        if any(key.startswith(profile_label("")) for key, _ in self._unmet(row)):
            wish = "spec.securityProfile (`podium describe node` says what is missing there)"
        return f"{self._name(row)} lacks the labels {labels}: label it, or ask for less in {wish}"

    def _resource_remedy(self, row: int) -> str:
        return "; and ".join(
            self._shortage(row, name, asked, free, allocatable)
            for name, asked, free, allocatable in self._amounts(row)
            if asked > free
        )

    def _shortage(self, row: int, name: str, asked: int, free: int, allocatable: int) -> str:
        node = self._name(row)
        if name == "pods":
            return f"{node} has its {allocatable} pods: let one of them go, or add a node"
        if name not in self._snapshot.columns or not self._most(name, allocatable_only=True):
            return f"asks {name} {format_amount(name, asked)}, and no node has any: add a node with {name}"
        most = "most free is" if free == self._most(name) else "free is"
        text = (
            f"asks {name} {format_amount(name, asked)}, {most} {format_amount(name, max(free, 0))} on {node}:"
            f" lower the request by {format_amount(name, asked - max(free, 0))}"
        )
        if asked > allocatable:
            return f"{text} (even empty it has {format_amount(name, allocatable)})"
        return f"{text} or free {format_amount(name, asked - free)} there"

    def _most(self, name: str, *, allocatable_only: bool = False) -> int:
        snapshot, column = self._snapshot, self._snapshot.columns[name]
        amounts = snapshot.allocatable[:, column] - (0 if allocatable_only else snapshot.requested[:, column])
        return int(amounts[snapshot.alive].max(initial=0))

    def _smallest_changes(self, checks: dict[int, tuple[Check, ...]]) -> tuple[Change, ...]:
        if not checks:
            return (Change("", "", "there are no nodes: add one", 0.0),)
        options = [
            tuple(
                Change(self._name(row), check.filter, self._remedies[check.filter](row), self._effort(row, check))
                for check in of_row
                if not check.passed
            )
            for row, of_row in checks.items()
        ]
        return min(options, key=lambda changes: (sum(c.effort for c in changes), changes[0].node))

    def _effort(self, row: int, check: Check) -> float:
        effort = _EFFORT[check.filter]
        if check.filter == "TaintToleration" and self._only_cordoned(row):
            effort = 0.0 if self._snapshot.unschedulable[row] else _EFFORT["NodeUnschedulable"]
        if check.filter == "Resources":
            short = [(asked - max(free, 0)) / asked for _, asked, free, _ in self._amounts(row) if asked > free]
            impossible = sum(asked > allocatable for _, asked, _, allocatable in self._amounts(row))
            effort += sum(short) + impossible
        return effort


def _taint_text(taint: TaintTuple) -> str:
    key, value, effect = taint
    return f"{key}{'=' + value if value else ''}:{effect}"
