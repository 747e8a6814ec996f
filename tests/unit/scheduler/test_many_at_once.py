"""Many pods decided in one go go where they go one by one: pools against asking every rule about every node.

Two cycles hear the same news. One places runs of a class from pools; the other has a filter more that lets everything
pass and depends on the load, so that it asks all rules anew for each pod.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import choosing
from cluster.scheduler import cycle as cycle_module
from cluster.scheduler import snapshot as snapshot_module
from cluster.scheduler.cycle import Cycle, Placement
from cluster.scheduler.facts import PlacedPod, facts_of, placed_pod
from cluster.scheduler.filters import FILTERS, Filter, Scope
from cluster.scheduler.podclass import PodClasses
from cluster.scheduler.scoring import Score
from cluster.scheduler.settings import Weights
from cluster.scheduler.snapshot import Rows, Snapshot
from tests.unit.scheduler.build import make_controller, make_service
from tests.unit.scheduler.scenarios import Scenario, named
from tests.unit.scheduler.test_against_reference import EXAMPLES, WEIGHTS

ANYTHING_GOES = Filter(
    "AnythingGoes",
    Scope.LOAD,
    lambda snapshot, pod_class, rows: np.ones(len(snapshot.alive[rows]), np.bool_),
    lambda snapshot, pod_class, rows: Counter(),
)


EVEN_NAMES = Filter(
    "EvenNames",
    Scope.NODE,
    lambda snapshot, pod_class, rows: np.array([name[-1:] in "02468" for name in names(snapshot, rows)], np.bool_),
    lambda snapshot, pod_class, rows: Counter(),
)
BY_NAME = Score(
    "ByName",
    Scope.NODE,
    lambda snapshot, pod_class, rows: np.array([len(name) * 40 for name in names(snapshot, rows)], np.int64),
)
WITHOUT: list[list[str]] = [
    *([] for _ in range(6)),
    ["PodTopologySpread"],
    ["InterPodAffinity"],
    ["TaintToleration", "NodeUnschedulable"],
]


def names(snapshot: Snapshot, rows: Rows) -> list[str]:
    everyone: list[str] = np.array(snapshot.names, np.object_)[rows].tolist()
    return everyone


class Twins:
    """Two cycles over two snapshots that hear the same."""

    def __init__(self, seed: int) -> None:
        self.scenario = Scenario(seed, nodes=30)
        self.rng = self.scenario.rng
        self.classes = PodClasses()
        self.pods: dict[str, core.Pod] = {}
        weights, without = self.rng.choice(WEIGHTS), self.rng.choice(WITHOUT)
        self.snapshots = [Snapshot(4), Snapshot(4)]
        self.fast = Cycle(
            self.snapshots[0],
            weights,
            random.Random(seed),
            without_filters=without,
            more_filters=[EVEN_NAMES] if self.rng.random() < 0.1 else [],
            more_scores=[(BY_NAME, 3)],
        )
        self.slow = Cycle(
            self.snapshots[1],
            weights,
            random.Random(seed),
            without_filters=without,
            more_filters=[*self.fast.filters[len(FILTERS) - len(without) :], ANYTHING_GOES],
            more_scores=[(BY_NAME, 3)],
        )
        self.count = 0
        for snapshot in self.snapshots:
            snapshot.selectors.set_service(make_service("web", {"app": "web"}))
            snapshot.selectors.set_controller(make_controller("rc", {"tier": "fe"}))

    def node(self) -> None:
        """A node that is mostly roomy and open, so that pods are placed."""
        node = self.scenario.node()
        if self.rng.random() < 0.8:
            node.spec.unschedulable = False
            for resource, amount in (("cpu", "4"), ("memory", "8Gi"), ("pods", "110")):
                node.status.allocatable[resource].string = amount
        for snapshot in self.snapshots:
            snapshot.set_node(node.metadata.name, facts_of(node))

    def step(self) -> None:
        """Something happens outside."""
        rng = self.rng
        step = rng.choice(["node", "gone", "gone", "gone", "came", "ends", "node gone", "space"])
        if step == "node":
            self.node()
        elif step == "came":
            pod = self.stamp(rng.choice(self.scenario.templates))
            self.place(pod, f"n{rng.randrange(30)}")
        elif step == "space":
            labels = rng.choice([{}, {"team": "red"}])
            for snapshot in self.snapshots:
                snapshot.tallies.namespaces.set("default", labels)
        elif step == "node gone":
            gone = f"n{rng.randrange(30)}"
            for snapshot in self.snapshots:
                snapshot.remove_node(gone)
        elif self.pods:
            uid = rng.choice(sorted(self.pods))
            if step == "gone":
                del self.pods[uid]
                for snapshot in self.snapshots:
                    snapshot.remove(uid)
            else:
                pod = self.pods[uid]
                pod.metadata.deletionTimestamp.seconds = 1
                self.place(pod, self.snapshots[0].node_of(uid) or "n0")

    def stamp(self, template: core.Pod) -> core.Pod:
        self.count += 1
        pod = core.Pod()
        pod.CopyFrom(template)
        return named(pod, f"p{self.count}")

    def place(self, pod: core.Pod, node: str) -> None:
        self.pods[pod.metadata.uid] = pod
        for snapshot in self.snapshots:
            snapshot.place(self.placed(pod), node)

    def placed(self, pod: core.Pod) -> PlacedPod:
        return placed_pod(pod, self.classes.of(pod, placed=True))

    def decide(self) -> int:
        """A run of one class. How many were placed."""
        template = self.rng.choice(self.scenario.templates)
        pods = [self.stamp(template) for _ in range(self.rng.choice([1, 1, 2, 5, 20]))]
        together = [self.placed(pod) for pod in pods]
        fast = self.fast.decide_many(together[0].pod_class, together)
        slow = [self.slow.decide(pod) for pod in together]
        assert [each for each in fast if isinstance(each, Placement)] == [
            each for each in slow if isinstance(each, Placement)
        ]
        assert [isinstance(each, Placement) for each in fast] == [isinstance(each, Placement) for each in slow]
        for pod, outcome in zip(pods, fast, strict=True):
            if isinstance(outcome, Placement):
                self.pods[pod.metadata.uid] = pod
        return sum(isinstance(each, Placement) for each in fast)

    def check_books(self) -> None:
        one, other = self.snapshots
        assert (one.requested == other.requested).all()
        assert (one.scored == other.scored).all()
        assert one.departures == other.departures
        assert one.arrivals == other.arrivals


@pytest.fixture(params=["few or many", "always many", "always few, short journal"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "always many":
        monkeypatch.setattr(choosing, "FEW", -1)
        monkeypatch.setattr(cycle_module, "ALONE", 0)
    elif request.param == "always few, short journal":
        monkeypatch.setattr(choosing, "FEW", 1 << 30)
        monkeypatch.setattr(cycle_module, "ALONE", 0)
        monkeypatch.setattr(snapshot_module, "JOURNAL_LIMIT", 8)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_run_of_one_class_goes_where_its_pods_go_one_by_one(limits: None, seed: int) -> None:
    twins = Twins(seed)
    for _ in range(twins.rng.randrange(1, 80)):
        twins.node()
    for _ in range(twins.rng.randrange(1, 25)):
        for _ in range(twins.rng.choice([0, 0, 0, 1, 3])):
            twins.step()
        twins.decide()
        twins.check_books()


def test_the_seed_and_the_state_decide_ties_and_not_the_order_of_news() -> None:
    outcomes = []
    for order in (1, -1):
        twins = Twins(7)
        twins.fast = Cycle(twins.snapshots[0], Weights(), random.Random(3))
        scenario = Scenario(7, nodes=12)
        nodes = {node.metadata.name: node for node in (scenario.node() for _ in range(60))}
        for name in sorted(nodes)[::order]:
            twins.snapshots[0].set_node(name, facts_of(nodes[name]))
        pods = [twins.placed(twins.stamp(scenario.templates[0])) for _ in range(20)]
        outcomes.append(twins.fast.decide_many(pods[0].pod_class, pods))
    assert outcomes[0] == outcomes[1]
