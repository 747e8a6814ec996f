"""The path over arrays and the plain reference say the same, whatever happened before; and nothing is overbooked."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.pods import requests_of
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import encoding as encoding_module
from cluster.scheduler import snapshot as snapshot_module
from cluster.scheduler import tallies as tallies_module
from cluster.scheduler.cycle import Placement
from cluster.scheduler.explain import explain
from cluster.scheduler.filters import Refusal
from cluster.scheduler.profiles import SchedulingProfile
from cluster.scheduler.rules import Rules
from cluster.scheduler.settings import DEFAULT_SCHEDULER, SchedulerSettings, Weights
from cluster.scheduler.ties import draw
from cluster.scheduler.world import World
from tests.unit.scheduler.build import make_controller, make_node, make_pod, make_service
from tests.unit.scheduler.reference import Reference, allocatable
from tests.unit.scheduler.scenarios import Scenario

EXAMPLES = int(os.environ.get("PODIUM_SCHEDULER_EXAMPLES", "150"))
WEIGHTS = (
    Weights(),
    Weights(),
    Weights(least_allocated=0, binpack=3, spread=0),
    Weights(least_allocated=0, most_allocated=1, balanced_allocation=0, spread=1),
)


@pytest.fixture(params=[64, 1])
def first_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Once with arrays that never grow and a long journal, once with arrays that grow and a journal that forgets."""
    rows: int = request.param
    if rows == 1:
        monkeypatch.setattr(snapshot_module, "JOURNAL_LIMIT", 6)
        monkeypatch.setattr(tallies_module, "TALLIES_LIMIT", 1)
        monkeypatch.setattr(encoding_module, "LABEL_COLUMNS_LIMIT", 1)
        monkeypatch.setattr(snapshot_module.Snapshot.__init__, "__defaults__", (1,))
    return rows


class Play:
    """The same news for a world and for the reference, and what they make of it."""

    def __init__(self, seed: int, nodes: int = 6) -> None:
        self.scenario = Scenario(seed, nodes)
        self.rng = self.scenario.rng
        weights = self.rng.choice(WEIGHTS)
        profiles = {DEFAULT_SCHEDULER: SchedulingProfile(DEFAULT_SCHEDULER, weights)}
        self.world = World(SchedulerSettings(backoff_initial_s=0.0), random.Random(seed), profiles)
        self.reference = Reference(weights=weights)
        service, controller = make_service("web", {"app": "web"}), make_controller("rc", {"tier": "fe"})
        self.reference.services.append(service)
        self.reference.controllers.append(controller)
        self.world.service_changed(None, service)
        self.world.controller_changed(None, controller)
        self.waiting: dict[str, core.Pod] = {}
        self.helpful = (0, 0, 0)
        self.past: list[dict[str, core.Pod]] = []
        """The pods that had a node, at each moment since something happened that could help: a refusal that was given
        is kept until then, for the pods of its class that come later too."""

    @property
    def seed(self) -> int:
        """Of the draws that decide ties."""
        return self.world.cycles[DEFAULT_SCHEDULER].seed

    def step(self) -> None:
        """Something happens."""
        rng = self.rng
        step = rng.choice(
            [
                "node",
                "node",
                "pod",
                "pod",
                "pod",
                "pods",
                "pod gone",
                "pod ends",
                "pod relabelled",
                "node gone",
                "space",
            ]
        )
        known = [*self.waiting.values(), *self.reference.pods.values()]
        if step == "node":
            self.node(self.scenario.node())
        elif step == "node gone" and self.reference.nodes and rng.random() < 0.5:
            old = self.reference.nodes.pop(rng.choice(list(self.reference.nodes)))
            del self.scenario.nodes[old.metadata.name]
            self.world.node_changed(old, None)
        elif step == "space":
            self.namespace(rng.choice(["default", "other"]), rng.choice([{}, {"team": "red"}, {"team": "blue"}]))
        elif step == "pod":
            self.pod(self.scenario.pod())
        elif step == "pods":
            for _ in range(rng.randrange(12)):
                self.pod(self.scenario.pod())
        elif known:
            self.change(step, rng.choice(known))

    def node(self, node: core.Node) -> None:
        self.world.node_changed(self.reference.nodes.get(node.metadata.name), node)
        self.reference.nodes[node.metadata.name] = node

    def namespace(self, name: str, labels: dict[str, str]) -> None:
        self.reference.namespaces[name] = labels
        self.world.namespace_changed(None, core.Namespace(metadata=core.ObjectMeta(name=name, labels=labels)))

    def pod(self, pod: core.Pod) -> None:
        uid = pod.metadata.uid
        if uid not in self.waiting and uid not in self.reference.pods:
            self.waiting[uid] = pod
            self.world.pod_changed(None, pod)

    def change(self, step: str, known: core.Pod) -> None:
        uid = known.metadata.uid
        if step == "pod gone":
            self.waiting.pop(uid, None)
            self.reference.pods.pop(uid, None)
            self.world.pod_changed(known, None)
        elif uid in self.reference.pods:
            changed = core.Pod()
            changed.CopyFrom(known)
            if step == "pod ends":
                changed.metadata.deletionTimestamp.seconds = 1
            else:
                changed.metadata.labels.clear()
                changed.metadata.labels.update(self.scenario.labels(0.8))
            self.reference.pods[uid] = changed
            self.world.pod_changed(known, changed)

    def decide(self) -> None:
        """The world decides about all that waits, until there is nothing left to decide."""
        while self.world.has_work(0.0):
            self.round()  # those that were placed may help others
        for pod in self.waiting.values():
            assert self.reference.decide(pod).message, f"{pod.metadata.name} fits, but nothing made the queue try it"

    def round(self) -> None:
        """The world decides about whose turn it is, and the reference about the same pods in the same order."""
        snapshot = self.world.snapshot
        helpful = (snapshot.versions.nodes, snapshot.versions.namespaces, snapshot.departures)
        if helpful != self.helpful:
            self.helpful = helpful
            self.past.clear()
        self.past.append(dict(self.reference.pods))
        first = self.world.records.made + 1
        self.world.decide(1000, 0.0)
        for decision in self.world.records.since(first):
            uid, placement, reference = decision.uid, decision.outcome, self.reference
            pod = self.waiting[uid]
            expected = reference.decide(pod)
            if self.rng.random() < 0.2:
                self.explain(pod)
            if isinstance(placement, Refusal):
                assert expected.message
                assert placement.message in self.refusals(pod)
                continue
            assert isinstance(placement, Placement)
            assert expected.message == ""
            assert (placement.score, placement.ties, placement.feasible) == (
                expected.score,
                len(expected.best),
                len(expected.feasible),
            )
            assert placement.node == self.winner(expected.best)
            bound = core.Pod()
            bound.CopyFrom(self.waiting.pop(uid))
            bound.spec.nodeName = placement.node
            reference.pods[uid] = bound
            self.past.append(dict(reference.pods))
            self.world.bound(uid, 0.0)
            if len(uid) % 2:
                self.world.pod_changed(None, bound)  # the watch confirms some at once, others never

    def refusals(self, pod: core.Pod) -> Iterator[str]:
        """What may be said of a pod that does not fit: what is true now, and what was since something could help."""
        yield self.reference.decide(pod).message
        for pods in reversed(self.past):
            yield replace(self.reference, pods=pods).decide(pod).message

    def winner(self, best: set[str]) -> str:
        """The rule for ties: the fewest pods (or the most), then the lowest draw."""
        sign = -1 if self.reference.weights.packs else 1
        crowd = {name: sign * len(self.reference.on(self.reference.nodes[name])) for name in best}
        return min(best, key=lambda name: (crowd[name], draw(self.seed, name)))

    def explain(self, pod: core.Pod) -> None:
        reference = self.reference
        explanation = explain(
            pod,
            reference.nodes.values(),
            reference.pods.values(),
            services=reference.services,
            controllers=reference.controllers,
            namespaces=[
                core.Namespace(metadata=core.ObjectMeta(name=name, labels=labels))
                for name, labels in reference.namespaces.items()
            ],
            rules=Rules(reference.weights, self.seed),
        )
        expected = reference.decide(pod)
        assert explanation.best[:1] == ((self.winner(expected.best),) if expected.best else ())
        assert set(explanation.best) == expected.best
        assert explanation.message == expected.message
        assert {verdict.node for verdict in explanation.verdicts if verdict.fits} == expected.feasible
        assert bool(explanation.advice) == bool(expected.message)

    def check_books(self) -> None:
        snapshot, reference = self.world.snapshot, self.reference
        assert snapshot.node_count == len(reference.nodes)
        for node in reference.nodes.values():
            row = snapshot.row_of(node.metadata.name)
            assert row is not None
            on = reference.on(node)
            for resource, column in snapshot.columns.items():
                taken = len(on) if resource == "pods" else sum(requests_of(pod).get(resource, 0) for pod in on)
                assert snapshot.requested[row, column] == taken
                assert snapshot.allocatable[row, column] == allocatable(node, resource)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_every_decision_is_that_of_the_reference(first_rows: int, seed: int) -> None:
    play = Play(seed)
    for _ in range(play.rng.randrange(2, 25)):
        play.node(play.scenario.node())
    for _ in range(play.rng.randrange(40)):
        for _ in range(play.rng.choice([1, 1, 1, 4])):
            play.step()
        play.decide()
        play.check_books()


@settings(max_examples=40)
@given(
    batch=st.lists(st.tuples(st.sampled_from([100, 700, 1500]), st.sampled_from([64, 900])), max_size=60),
    count=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_a_batch_never_exceeds_what_a_node_has(batch: list[tuple[int, int]], count: int, seed: int) -> None:
    world = World(SchedulerSettings(), random.Random(seed))
    for i in range(count):
        world.node_changed(None, make_node(f"n{i}", {"cpu": "3", "memory": "2Gi", "pods": "7"}))
    for i, (cpu, memory) in enumerate(batch):
        world.pod_changed(None, make_pod(f"p{i}", {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}))
    decisions = world.decide(1000, 0.0)
    assert len(decisions.bindings) + sum(len(each.waiting) for each in decisions.refusals) == len(batch)
    snapshot = world.snapshot
    assert (snapshot.requested <= snapshot.allocatable).all()
    assert int(snapshot.requested[:, snapshot.columns["pods"]].sum()) == len(decisions.bindings)
