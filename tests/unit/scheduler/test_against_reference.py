"""The path over arrays and the plain reference say the same, whatever happened before; and nothing is overbooked."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.pods import requests_of
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler import snapshot as snapshot_module
from cluster.scheduler.explain import explain
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.world import World
from tests.unit.scheduler.build import host_port, make_controller, make_node, make_pod, make_service
from tests.unit.scheduler.reference import RACK, ZONE, Reference, allocatable


class Scenario:
    """Random news, from a seed: mostly pods that may fit, and nodes that change in one respect."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes: dict[str, dict[str, Any]] = {}

    def node(self) -> core.Node:
        """A node that is new, or differs from what it was in one respect."""
        rng = self.rng
        name = f"n{rng.randrange(6)}"
        if name not in self.nodes:
            self.nodes[name] = {key: self.aspect(key) for key in ("amounts", "labels", "taints", "unschedulable")}
        else:
            key = rng.choice(["amounts", "labels", "taints", "unschedulable"])
            self.nodes[name] = {**self.nodes[name], key: self.aspect(key)}
        facts = self.nodes[name]
        return make_node(
            name,
            facts["amounts"],
            labels=facts["labels"],
            taints=facts["taints"],
            unschedulable=facts["unschedulable"],
        )

    def aspect(self, key: str) -> object:
        rng = self.rng
        if key == "amounts":
            amounts = {
                "cpu": rng.choice(["0", "1", "2500m", "4", "4"]),
                "memory": rng.choice(["100Mi", "1Gi", "3000000k", "8Gi", "8Gi"]),
                "pods": rng.choice(["0", "3", "110", "110", "110"]),
            }
            return {**amounts, "gpu": rng.choice(["0", "1", "4"])} if rng.random() < 0.4 else amounts
        if key == "labels":
            labels = {
                ZONE: ["z1", "z2", "z3"],
                RACK: ["r1", "r2"],
                "disk": ["ssd", "hdd"],
                "podium.dev/image-runtime": ["true", "false"],
            }
            return {key: rng.choice(values) for key, values in labels.items() if rng.random() < 0.6}
        if key == "taints":
            effects = ["NoSchedule", "NoExecute", "PreferNoSchedule", "PreferNoSchedule"]
            count = rng.choice([0, 0, 0, 1, 2])
            return [(rng.choice("ab"), rng.choice(["", "x"]), rng.choice(effects)) for _ in range(count)]
        return rng.random() < 0.15

    def pod(self) -> core.Pod:
        rng = self.rng
        requests = {"cpu": ["0", "100m", "300m", "1"], "memory": ["1", "64Mi", "700Mi"], "gpu": ["0", "1"]}
        chance = {"cpu": 0.7, "memory": 0.6, "gpu": 0.1}
        asked = {name: rng.choice(values) for name, values in requests.items() if rng.random() < chance[name]}
        if rng.random() < 0.02:
            asked["nowhere"] = "1"
        labels = {"app": ["web", "db"], "tier": ["fe"]}
        return make_pod(
            f"p{rng.randrange(60)}",
            asked,
            namespace=rng.choice(["default", "default", "other"]),
            labels={key: rng.choice(values) for key, values in labels.items() if rng.random() < 0.8},
            selector={"disk": rng.choice(["ssd", "ssd", "tape"])} if rng.random() < 0.15 else {},
            tolerations=[self.toleration() for _ in range(rng.choice([0, 0, 1, 2]))],
            ports=[host_port(80, ip=rng.choice(["", "127.0.0.1"]))] if rng.random() < 0.1 else [],
            image=rng.choice(["", "", "", "", "host", "nginx"]),
            owner_uid=rng.choice(["", "rc"]),
        )

    def toleration(self) -> core.Toleration:
        rng = self.rng
        key = rng.choice(["", "a", "b", "node.kubernetes.io/unschedulable"])
        return core.Toleration(
            key=key,
            operator="Exists" if not key else rng.choice(["", "Exists", "Equal"]),
            value=rng.choice(["", "x"]),
            effect=rng.choice(["", "NoSchedule", "PreferNoSchedule"]),
        )


@pytest.fixture(params=[64, 1])
def first_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Once with arrays that never grow and a long journal, once with arrays that grow and a journal that forgets."""
    rows: int = request.param
    if rows == 1:
        monkeypatch.setattr(snapshot_module, "JOURNAL_LIMIT", 6)
        monkeypatch.setattr(snapshot_module, "GROUPS_LIMIT", 1)
        monkeypatch.setattr(snapshot_module, "LABEL_COLUMNS_LIMIT", 1)
        monkeypatch.setattr(snapshot_module.Snapshot.__init__, "__defaults__", (1,))
    return rows


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_every_decision_is_that_of_the_reference(first_rows: int, seed: int) -> None:
    scenario = Scenario(seed)
    rng = scenario.rng
    world = World(SchedulerSettings(backoff_initial_s=0.0), random.Random(seed))
    reference = Reference()
    service, controller = make_service("web", {"app": "web"}), make_controller("rc", {"tier": "fe"})
    reference.services.append(service)
    reference.controllers.append(controller)
    world.service_changed(None, service)
    world.controller_changed(None, controller)
    waiting: dict[str, core.Pod] = {}
    for _ in range(rng.randrange(60)):
        for _ in range(rng.choice([1, 1, 1, 4])):
            step = rng.choice(["node", "node", "pod", "pod", "pod", "pod", "pod gone", "pod terminating", "node gone"])
            if step == "node":
                play_node(world, reference, scenario.node())
            elif step == "node gone" and reference.nodes and rng.random() < 0.5:
                old = reference.nodes.pop(rng.choice(list(reference.nodes)))
                del scenario.nodes[old.metadata.name]
                world.node_changed(old, None)
            elif step == "pod":
                play_pod(world, reference, waiting, step, scenario.pod())
            elif known := [*waiting.values(), *reference.pods.values()]:
                play_pod(world, reference, waiting, step, rng.choice(known))
        check_decisions(world, reference, waiting)
        check_books(world, reference)


def play_node(world: World, reference: Reference, node: core.Node) -> None:
    world.node_changed(reference.nodes.get(node.metadata.name), node)
    reference.nodes[node.metadata.name] = node


def play_pod(world: World, reference: Reference, waiting: dict[str, core.Pod], step: str, pod: core.Pod) -> None:
    uid = pod.metadata.uid
    known = waiting.get(uid) or reference.pods.get(uid)
    if step == "pod" and known is None:
        waiting[uid] = pod
        world.pod_changed(None, pod)
    elif step == "pod gone" and known is not None:
        waiting.pop(uid, None)
        reference.pods.pop(uid, None)
        world.pod_changed(known, None)
    elif step == "pod terminating" and uid in reference.pods:
        ending = core.Pod()
        ending.CopyFrom(reference.pods[uid])
        ending.metadata.deletionTimestamp.seconds = 1
        reference.pods[uid] = ending
        world.pod_changed(known, ending)


def check_decisions(world: World, reference: Reference, waiting: dict[str, core.Pod]) -> None:
    decisions = world.decide(1000, 0.0)
    outcomes = {b.waiting.uid: b for b in decisions.bindings}
    refusals = {w.uid: refusal for w, refusal in decisions.refusals}
    # In the order of the queue: all have the same age, so as they came.
    for uid in [uid for uid in waiting if uid in outcomes or uid in refusals]:
        pod = waiting[uid]
        explanation = explain(
            pod,
            reference.nodes.values(),
            reference.pods.values(),
            services=reference.services,
            controllers=reference.controllers,
        )
        expected = reference.decide(pod)
        assert set(explanation.best) == expected.best
        assert explanation.message == expected.message
        assert {verdict.node for verdict in explanation.verdicts if verdict.fits} == expected.feasible
        if uid in refusals:
            assert refusals[uid].message == expected.message
            assert explanation.advice
            continue
        placement = outcomes[uid].placement
        assert expected.message == ""
        assert placement.node in expected.best
        assert (placement.score, placement.ties, placement.feasible) == (
            expected.score,
            len(expected.best),
            len(expected.feasible),
        )
        bound = core.Pod()
        bound.CopyFrom(waiting.pop(uid))
        bound.spec.nodeName = placement.node
        reference.pods[uid] = bound
        world.bound(uid, 0.0)
        if len(uid) % 2:
            world.pod_changed(None, bound)  # the watch confirms some at once, others never
    for pod in waiting.values():
        assert reference.decide(pod).message, f"{pod.metadata.name} fits, but nothing made the queue try it again"


def check_books(world: World, reference: Reference) -> None:
    snapshot = world.snapshot
    assert snapshot.node_count == len(reference.nodes)
    for node in reference.nodes.values():
        row = snapshot.row_of(node.metadata.name)
        assert row is not None
        on = reference.on(node)
        for resource, column in snapshot.columns.items():
            taken = len(on) if resource == "pods" else sum(requests_of(pod).get(resource, 0) for pod in on)
            assert snapshot.requested[row, column] == taken
            assert snapshot.allocatable[row, column] == allocatable(node, resource)


@settings(max_examples=40, deadline=None)
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
    assert len(decisions.bindings) + len(decisions.refusals) == len(batch)
    snapshot = world.snapshot
    assert (snapshot.requested <= snapshot.allocatable).all()
    assert int(snapshot.requested[:, snapshot.columns["pods"]].sum()) == len(decisions.bindings)
