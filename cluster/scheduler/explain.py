"""Why a pod goes where it goes, or nowhere: every node, every filter with the numbers compared, every score.

The same filters and scores as the scheduler's own, over a snapshot made from lists of objects; so with the nodes and
pods as of the revision before a binding, it replays that decision. Beyond what the scheduler needs, no filter is
skipped after the first that refuses, and for a pod that fits nowhere the smallest change is named that would let it in.
What is said about a filter, and how much its remedy is to ask for, is in `cluster.scheduler.telling`.

It refuses to know where the objects come from and how the answer is printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cluster.api.meta import is_terminating
from cluster.api.pods import is_finished
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import filters
from cluster.scheduler.facts import facts_of, placed_pod
from cluster.scheduler.podclass import PodClass, class_of
from cluster.scheduler.rules import Rules, judged
from cluster.scheduler.settings import Weights
from cluster.scheduler.snapshot import ALL_ROWS, IntArray, Snapshot
from cluster.scheduler.telling import Teller, teller_for, told


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
    """The nodes that share the highest total, in the order in which they would be taken (`cluster.scheduler.ties`) if
    the seed is known, otherwise by name."""
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
    namespaces: Iterable[core.Namespace] = (),
    rules: Rules | None = None,
) -> Explanation:
    """Decides about the pod as if it had no node, among these nodes with these pods on them.

    `pods` may hold all pods, the one asked about included: it does not stand in its own way. Services and controllers
    are needed for the spreading score only, namespaces for affinity that selects namespaces. `rules`: those of the
    pod's profile, with the seed that decides ties; None: the default ones, of which the seed is not known.
    """
    snapshot = Snapshot()
    for node in nodes:
        if not is_terminating(node):
            snapshot.set_node(node.metadata.name, facts_of(node))
    for namespace in namespaces:
        snapshot.tallies.namespaces.set(namespace.metadata.name, dict(namespace.metadata.labels))
    for other in pods:
        if other.spec.nodeName and not is_finished(other) and other.metadata.uid != pod.metadata.uid:
            snapshot.place(placed_pod(other), other.spec.nodeName)
    for service in services:
        snapshot.selectors.set_service(service)
    for controller in controllers:
        snapshot.selectors.set_controller(controller)
    return explain_in(snapshot, pod, class_of(pod, placed=True), rules)


def explain_in(snapshot: Snapshot, pod: core.Pod, pod_class: PodClass, rules: Rules | None = None) -> Explanation:
    """The same about a snapshot that does not count the pod."""
    seed_is_known = rules is not None
    rules = rules or Rules(Weights(), 0)
    rows = np.flatnonzero(snapshot.alive)
    tellers = {each.name: teller_for(each)(snapshot, pod_class) for each in rules.filters}
    passes = [(each.name, each.passes(snapshot, pod_class, rows).tolist()) for each in rules.filters]
    checks = {
        row: tuple(Check(name, passed[i], tellers[name].detail(row, passed[i])) for name, passed in passes)
        for i, row in enumerate(rows.tolist())
    }
    fitting = np.array([row for row, of_row in checks.items() if all(c.passed for c in of_row)], np.int64)
    marks = _scores(snapshot, pod_class, rules, fitting)
    verdicts = [NodeVerdict(snapshot.names[row], of_row, marks.get(row, ())) for row, of_row in checks.items()]
    verdicts.sort(key=lambda verdict: (not verdict.fits, -verdict.total, verdict.node))
    top = max((verdict.total for verdict in verdicts if verdict.fits), default=None)
    best = [verdict.node for verdict in verdicts if verdict.fits and verdict.total == top]
    if seed_is_known:
        ties = rules.ties.keys(snapshot, ALL_ROWS)
        best.sort(key=lambda name: int(ties[snapshot.row_of(name) or 0]))
    return Explanation(
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        assigned_to=pod.spec.nodeName,
        verdicts=tuple(verdicts),
        best=tuple(best),
        message="" if len(fitting) else filters.refusal(snapshot, pod_class, rules.filters).message,
        changes=() if len(fitting) else _smallest_changes(snapshot, tellers, checks),
    )


def _scores(snapshot: Snapshot, pod_class: PodClass, rules: Rules, rows: IntArray) -> dict[int, tuple[Score, ...]]:
    if not len(rows):
        return {}
    table = [
        (score.name, weight, judged(score, snapshot, pod_class, rows).tolist(), told(score, snapshot, pod_class, rows))
        for score, weight in rules.scores
    ]
    return {
        row: tuple(Score(name, weight, values[i], details[i]) for name, weight, values, details in table)
        for i, row in enumerate(rows.tolist())
    }


def _smallest_changes(
    snapshot: Snapshot, tellers: dict[str, Teller], checks: dict[int, tuple[Check, ...]]
) -> tuple[Change, ...]:
    if not checks:
        return (Change("", "", "there are no nodes: add one", 0.0),)
    options = [
        tuple(
            Change(
                snapshot.names[row], check.filter, tellers[check.filter].remedy(row), tellers[check.filter].effort(row)
            )
            for check in of_row
            if not check.passed
        )
        for row, of_row in checks.items()
    ]
    return min(options, key=lambda changes: (sum(c.effort for c in changes), changes[0].node))
