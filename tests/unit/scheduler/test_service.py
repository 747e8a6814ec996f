"""What a scheduler answers, and to whom."""

from __future__ import annotations

import random

import pytest

from cluster.api.errors import Forbidden, Invalid, NotFound, Unavailable
from cluster.client import operations
from cluster.pb.v1 import scheduler_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.rpc.stub import SCHEDULER
from cluster.scheduler.explain import explain
from cluster.scheduler.messages import explanation_message, explanation_of
from cluster.scheduler.records import Stamp
from cluster.scheduler.service import RULES, Desk, SchedulerService, authorize
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.world import World
from tests.kit.memory_client import MemoryCluster
from tests.unit.scheduler.build import make_node, make_pod

ADMIN = Identity("admin")
NODES = [make_node("n1"), make_node("n2", {"cpu": "1"}), make_node("n3", taints=[("a", "b", "NoSchedule")])]


def world() -> World:
    made = World(SchedulerSettings(), random.Random(7))
    for node in NODES:
        made.node_changed(None, node)
    return made


class Rig:
    """A cluster in memory, a scheduler's world, and the service that answers for it."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.desk = Desk()
        self.service = SchedulerService(self.cluster.client("scheduler"), self.desk)
        for node in NODES:
            self.cluster.put(node)


def test_what_is_sent_is_what_was_explained() -> None:
    for pod in (make_pod("fits", {"cpu": "2"}), make_pod("big", {"cpu": "64", "gpu": "1"})):
        explanation = explain(pod, NODES, [])
        assert explanation_of(explanation_message(explanation)) == explanation


@pytest.mark.parametrize(
    ("node", "advice"),
    [
        ("n1", ""),
        ("n2", "free 1 cpu on n2"),
        ("n3", "tolerate"),
    ],
)
def test_what_one_node_would_need(node: str, advice: str) -> None:
    explanation = explain(make_pod("a", {"cpu": "2"}), NODES, [], not_on=node)
    assert bool(explanation.advice) == bool(advice)
    assert all(change.node == node for change in explanation.changes)
    if advice:
        assert node in explanation.advice or advice.split()[0] in explanation.advice


async def test_it_explains_and_remembers() -> None:
    rig = Rig()
    rig.desk.world = world()
    for name, cpu in (("a", "2"), ("b", "64")):
        pod = rig.cluster.put(make_pod(name, {"cpu": cpu}))
        rig.desk.world.pod_changed(None, pod)
    rig.desk.world.decide(100, 0.0, Stamp(41, 1_000.0))
    placed = await rig.service.explain(ADMIN, wire.ExplainRequest(namespace="default", pod="a"))
    assert list(placed.best) == ["n1"]
    assert (placed.decision.placed.node, placed.decision.revision) == ("n1", 41)
    assert placed.decision.tie_seed == rig.desk.world.cycles["default-scheduler"].seed
    waits = await rig.service.explain(ADMIN, wire.ExplainRequest(namespace="default", pod="b", not_on="n2"))
    assert waits.message.startswith("0/3 nodes are available: ")
    assert {change.node for change in waits.changes} == {"n2"}
    assert waits.decision.not_placed.message == waits.message
    both = await rig.service.decisions(ADMIN, wire.DecisionsRequest())
    assert [(each.pod, each.WhichOneof("outcome")) for each in both.decisions] == [("a", "placed"), ("b", "not_placed")]
    assert both.made == 2
    newest = await rig.service.decisions(ADMIN, wire.DecisionsRequest(limit=1))
    assert [each.number for each in newest.decisions] == [2]
    assert not (await rig.service.decisions(ADMIN, wire.DecisionsRequest(since=3))).decisions


async def test_bad_questions() -> None:
    rig = Rig()
    with pytest.raises(Unavailable, match="another manager schedules"):
        await rig.service.explain(ADMIN, wire.ExplainRequest(namespace="default", pod="a"))
    with pytest.raises(Unavailable):
        await rig.service.decisions(ADMIN, wire.DecisionsRequest())
    rig.desk.world = world()
    with pytest.raises(NotFound, match='pods "a" not found'):
        await rig.service.explain(ADMIN, wire.ExplainRequest(namespace="default", pod="a"))
    (await rig.cluster.client("admin").write([operations.create(make_pod("a"))])).outcomes[0].unwrap()
    with pytest.raises(NotFound, match='nodes "n9" not found'):
        await rig.service.explain(ADMIN, wire.ExplainRequest(namespace="default", pod="a", not_on="n9"))
    for limit in (-1, 10_001):
        with pytest.raises(Invalid, match="limit must be from 1"):
            await rig.service.decisions(ADMIN, wire.DecisionsRequest(limit=limit))


def test_every_call_has_a_rule_and_only_people_ask() -> None:
    ours = [f"/{SCHEDULER.full_name}/{method.name}" for method in SCHEDULER.methods]
    assert set(ours) <= set(RULES)
    for method in ours:
        authorize(ADMIN, method, None)
        for kind in ("controllers", "scheduler", "proxy"):
            with pytest.raises(Forbidden, match="may not call"):
                authorize(Identity(kind), method, None)
    with pytest.raises(Forbidden):
        authorize(ADMIN, "/cluster.pb.v1.Scheduler/Unknown", None)
