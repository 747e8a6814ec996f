"""Nodes that die, come back, and only seem to be dead; in the laptop profile: grace 2 s, pods moved at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.api.conditions import get_condition, is_pod_ready
from cluster.api.meta import is_terminating, to_time
from cluster.config.profiles import PROFILES
from cluster.controllers.node_lifecycle import FAILOVER_S
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import node, pod
from tests.unit.controllers.rig import Rig, running

UNREACHABLE = "node.kubernetes.io/unreachable"


@asynccontextmanager
async def nodes_running(count: int, *, profile: str = "laptop", zones: int = 1) -> AsyncIterator[tuple[Rig, list[str]]]:
    """A cluster of ready nodes that beat, with one ready pod each, that has been calm for a while."""
    async with running(profile=PROFILES[profile]) as rig:
        names = [f"n{number}" for number in range(1, count + 1)]
        for number, name in enumerate(names):
            rig.cluster.put(node(name, zone=f"z{number % zones}"))
            put_pod(rig, f"p-{name}", name)
        rig.start_heartbeats(*names)
        await rig.run(10 * rig.profile.node_monitor_period_s)
        yield rig, names


def put_pod(rig: Rig, name: str, on: str, tolerate_s: int | None = None) -> core.Pod:
    made = pod(name, node=on, ready_since_s=1, labels={"app": "x"})
    seconds = rig.profile.eviction_toleration_s if tolerate_s is None else tolerate_s
    for key in (UNREACHABLE, "node.kubernetes.io/not-ready"):
        made.spec.tolerations.add(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=seconds)
    return rig.cluster.put(made)


def ready(rig: Rig, name: str) -> str:
    condition = get_condition(rig.node(name).status, "Ready")
    return condition.status if condition is not None else ""


def taints(rig: Rig, name: str) -> list[str]:
    return sorted(f"{taint.key.rpartition('/')[2]}:{taint.effect}" for taint in rig.node(name).spec.taints)


def evicted(rig: Rig) -> list[str]:
    return [p.metadata.name for p in rig.pods() if is_terminating(p)]


def post_ready(rig: Rig, name: str, status: str = "True", actor: str = "") -> None:
    """What an agent does when it sees that its node is thought dead."""
    changed = core.Node()
    changed.CopyFrom(rig.node(name))
    condition = get_condition(changed.status, "Ready")
    assert condition is not None
    condition.status = status
    changed.metadata.actor = actor or f"node:{name}"
    rig.cluster.put(changed)


async def test_a_dead_node_is_unknown_tainted_and_emptied() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(1.5)
        assert ready(rig, "n1") == "True"
        await rig.run(1.5)
        assert [ready(rig, name) for name in ("n1", "n2", "n3")] == ["Unknown", "True", "True"]
        condition = get_condition(rig.node("n1").status, "Ready")
        assert condition is not None
        assert condition.reason == "NodeStatusUnknown"
        assert taints(rig, "n1") == ["unreachable:NoExecute", "unreachable:NoSchedule"]
        assert evicted(rig) == ["p-n1"]
        assert not is_pod_ready(rig.pods()[0])
        assert taints(rig, "n2") == []
        assert [e.involvedObject.name for e in rig.events("NodeNotReady")] == ["n1"]
        assert [e.message for e in rig.events("TaintManagerEviction")] == ["Marking for deletion Pod default/p-n1"]


@pytest.mark.parametrize(("actor", "lives"), [("node:n-1", True), ("hollow:n", True), ("hollow:m", False)])
async def test_a_status_is_a_sign_of_life_of_whoever_speaks_for_the_node(actor: str, lives: bool) -> None:
    async with nodes_running(3) as (rig, _):
        rig.cluster.put(node("n-1"))
        await rig.run(1.5)
        for word in ("a", "b", "c"):
            rig.node("n-1").status.nodeInfo.bootID = word
            post_ready(rig, "n-1", actor=actor)
            await rig.run(1.5)
        assert ready(rig, "n-1") == ("True" if lives else "Unknown")


async def test_condition_and_taints_come_in_one_revision() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(3)
        writes = [ops for who, ops in rig.cluster.writes if who == "controllers" and ops[0].HasField("update_status")]
        about_nodes = [ops for ops in writes if ops[0].update_status.object.HasField("node")]
        assert [[op.WhichOneof("operation") for op in ops] for ops in about_nodes] == [["update_status", "update"]]


async def test_a_node_that_comes_back_loses_its_taints() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(3)
        rig.beating.add("n1")
        await rig.run(1)
        assert ready(rig, "n1") == "Unknown", "the agent itself has to say that it is ready"
        post_ready(rig, "n1")
        await rig.run(0.1)
        assert taints(rig, "n1") == []
        put_pod(rig, "again", "n1")
        await rig.run(5)
        assert ready(rig, "n1") == "True"
        assert evicted(rig) == ["p-n1"]


async def test_two_of_three_dead_are_evicted() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating -= {"n1", "n2"}
        await rig.run(4)
        assert evicted(rig) == ["p-n1", "p-n2"]


async def test_three_of_five_dead_are_not_evicted() -> None:
    async with nodes_running(5) as (rig, _):
        rig.beating -= {"n1", "n2", "n3"}
        await rig.run(30)
        assert [ready(rig, f"n{i}") for i in range(1, 6)] == ["Unknown"] * 3 + ["True"] * 2
        assert [taints(rig, f"n{i}") for i in range(1, 4)] == [["unreachable:NoSchedule"]] * 3
        assert evicted(rig) == []


async def test_three_of_five_that_die_not_quite_together_are_not_evicted() -> None:
    async with nodes_running(5) as (rig, _):
        for name in ("n1", "n2", "n3"):
            rig.beating.discard(name)
            await rig.run(0.3)
        await rig.run(30)
        assert evicted(rig) == []


async def test_three_of_three_dead_stop_everything_and_one_that_recovers_gives_the_others_time() -> None:
    async with nodes_running(3) as (rig, names):
        rig.beating.clear()
        await rig.run(30)
        assert [ready(rig, name) for name in names] == ["Unknown"] * 3
        assert evicted(rig) == []
        rig.beating.add("n1")
        post_ready(rig, "n1")
        await rig.run(1.5)
        assert evicted(rig) == [], "timers have restarted"
        await rig.run(2)
        assert evicted(rig) == ["p-n2", "p-n3"]


async def test_when_the_last_zone_fails_the_eviction_mark_is_taken_back() -> None:
    async with nodes_running(2, profile="kubernetes") as (rig, _):
        rig.beating.discard("n1")
        await rig.run(60)
        assert taints(rig, "n1") == ["unreachable:NoExecute", "unreachable:NoSchedule"]
        rig.beating.discard("n2")
        await rig.run(600)
        assert taints(rig, "n1") == ["unreachable:NoSchedule"]
        assert evicted(rig) == []
        assert "Cancelling deletion of Pod default/p-n1" in [e.message for e in rig.events("TaintManagerEviction")]


async def test_in_the_kubernetes_profile_pods_stay_for_five_minutes() -> None:
    async with nodes_running(3, profile="kubernetes") as (rig, _):
        rig.beating.discard("n1")
        await rig.run(60)
        assert ready(rig, "n1") == "Unknown"
        assert not is_pod_ready(rig.pods()[0])
        await rig.run(280)
        assert evicted(rig) == []
        await rig.run(30)
        assert evicted(rig) == ["p-n1"]


async def test_our_own_suspension_is_not_mass_death() -> None:
    async with nodes_running(3) as (rig, names):
        rig.clock.advance(3600)
        await rig.run(5)
        assert [ready(rig, name) for name in names] == ["True"] * 3
        assert evicted(rig) == []


async def test_a_master_that_is_mute_is_not_mass_death() -> None:
    async with nodes_running(3) as (rig, names):
        rig.beats_flow = False
        await rig.run(60)
        assert [ready(rig, name) for name in names] == ["True"] * 3
        rig.beats_flow = True
        await rig.run(5)
        assert [ready(rig, name) for name in names] == ["True"] * 3


async def test_a_broken_stream_restarts_all_timers() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(1.8)
        rig.cluster.break_watches()
        await rig.run(1.8 + FAILOVER_S)
        assert ready(rig, "n1") == "True", "agents have to find another master, too"
        await rig.run(1)
        assert ready(rig, "n1") == "Unknown"


async def test_a_restarted_manager_gives_everyone_a_whole_grace_and_finishes_the_work() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(1.8)
        await rig.restart()
        await rig.run(1.8)
        assert ready(rig, "n1") == "True"
        await rig.run(1)
        assert evicted(rig) == ["p-n1"]
        put_pod(rig, "late", "n1")
        await rig.run(0.1)
        assert evicted(rig) == ["late", "p-n1"]


async def test_a_report_that_was_on_its_way_does_not_stand() -> None:
    async with nodes_running(3) as (rig, _):
        put_pod(rig, "p", "n1", tolerate_s=100)
        rig.beating.discard("n1")
        await rig.run(3)
        found = rig.cluster.find(core.Pod, "p")
        assert found is not None
        condition = get_condition(found.status, "Ready")
        assert condition is not None
        assert condition.status == "False"
        rig.change(found, lambda p: setattr(p.status.conditions[0], "status", "True"))
        await rig.run(0.1)
        found = rig.cluster.find(core.Pod, "p")
        assert found is not None
        assert not is_pod_ready(found)


async def test_nor_does_one_that_comes_while_all_timers_have_restarted() -> None:
    async with nodes_running(3) as (rig, _):
        put_pod(rig, "p", "n1", tolerate_s=100)
        rig.beating.discard("n1")
        await rig.run(3)
        rig.cluster.break_watches()
        await rig.run(0.5)
        found = rig.cluster.find(core.Pod, "p")
        assert found is not None
        rig.change(found, lambda p: setattr(p.status.conditions[0], "status", "True"))
        await rig.run(3 + FAILOVER_S)
        found = rig.cluster.find(core.Pod, "p")
        assert found is not None
        assert not is_pod_ready(found)


async def test_a_node_that_says_it_is_not_ready_is_emptied_too() -> None:
    async with nodes_running(3) as (rig, _):
        post_ready(rig, "n1", "False")
        await rig.run(0.6)
        assert taints(rig, "n1") == ["not-ready:NoExecute", "not-ready:NoSchedule"]
        assert evicted(rig) == ["p-n1"]
        post_ready(rig, "n1")
        await rig.run(0.1)
        assert taints(rig, "n1") == []


async def test_a_new_node_loses_the_not_ready_taint_as_soon_as_it_is_ready() -> None:
    async with nodes_running(1) as (rig, _):
        newcomer = node("n9", "")
        newcomer.metadata.creationTimestamp.CopyFrom(to_time(rig.clock.wall()))
        newcomer.spec.taints.add(key="node.kubernetes.io/not-ready", effect="NoSchedule")
        rig.cluster.put(newcomer)
        await rig.run(0.1)
        assert taints(rig, "n9") == ["not-ready:NoSchedule"]
        assert [e.involvedObject.name for e in rig.events("RegisteredNode")] == ["n9"]
        changed = core.Node()
        changed.CopyFrom(rig.node("n9"))
        changed.status.conditions.add(type="Ready", status="True")
        rig.cluster.put(changed)
        await rig.run(0.01)
        assert taints(rig, "n9") == []
        await rig.run(0.1)
        assert [e.involvedObject.name for e in rig.events("NodeReady")] == ["n9"]


async def test_a_node_that_never_reports_has_the_startup_grace() -> None:
    async with nodes_running(2) as (rig, _):
        rig.cluster.put(node("n9", ""))
        await rig.run(4.5)
        assert ready(rig, "n9") == ""
        await rig.run(1.5)
        assert ready(rig, "n9") == "Unknown"
        condition = get_condition(rig.node("n9").status, "Ready")
        assert condition is not None
        assert condition.reason == "NodeStatusNeverUpdated"


async def test_peoples_own_noexecute_taint_drives_pods_out_and_spares_tolerant_ones() -> None:
    async with nodes_running(2) as (rig, _):
        tolerant = put_pod(rig, "tolerant", "n1")
        rig.change(
            tolerant, lambda p: p.spec.tolerations.add(key="maintenance", operator="Exists", tolerationSeconds=7)
        )
        changed = core.Node()
        changed.CopyFrom(rig.node("n1"))
        changed.spec.taints.add(key="maintenance", effect="NoExecute")
        rig.cluster.put(changed)
        await rig.run(0.1)
        assert evicted(rig) == ["p-n1"]
        assert "maintenance:NoExecute" in taints(rig, "n1")
        await rig.run(7)
        assert evicted(rig) == ["p-n1", "tolerant"]


async def test_cordon_is_a_taint() -> None:
    async with nodes_running(2) as (rig, _):
        changed = core.Node()
        changed.CopyFrom(rig.node("n1"))
        changed.spec.unschedulable = True
        rig.cluster.put(changed)
        await rig.run(0.1)
        assert taints(rig, "n1") == ["unschedulable:NoSchedule"]


@pytest.mark.parametrize("dead_zone_first", [True, False])
async def test_a_dead_zone_is_evicted_at_the_normal_rate_while_another_lives(dead_zone_first: bool) -> None:
    async with nodes_running(6, zones=2) as (rig, _):
        dead = {"n1", "n3", "n5"} if dead_zone_first else {"n2", "n4", "n6"}
        rig.beating -= dead
        await rig.run(5)
        assert evicted(rig) == sorted(f"p-{name}" for name in dead)


async def test_idle_nodes_cause_no_writes() -> None:
    async with nodes_running(3) as (rig, _):
        await rig.run(1)
        before = rig.cluster.store.revision
        await rig.run(60)
        assert rig.cluster.store.revision == before


async def test_the_way_from_the_silent_node_to_the_deleted_pod_is_in_the_causes() -> None:
    async with nodes_running(3) as (rig, _):
        rig.beating.discard("n1")
        await rig.run(3)
        found = await rig.cluster.client("admin").trace(core.Pod, "p-n1", "default")
        told = [(step.object, step.step) for step in found.steps]
        for expected in [
            ("nodes/n1", "NotReady"),
            ("nodes/n1", "Tainted"),
            ("pods/default/p-n1", "NotReady"),
            ("pods/default/p-n1", "Deleting"),
        ]:
            assert expected in told, found
        revisions = {step.step: step.revision for step in found.steps if step.object == "nodes/n1"}
        causes = {step.step: step.cause.revision for step in found.steps if step.object == "pods/default/p-n1"}
        assert causes["NotReady"] in revisions.values()
