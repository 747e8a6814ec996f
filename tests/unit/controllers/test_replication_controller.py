"""The replication controller as a whole: over an in-memory cluster, and against everything that may go wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.conditions import get_condition
from cluster.api.errors import Forbidden
from cluster.api.meta import key_of, to_time
from cluster.api.owners import controller_of
from cluster.client import operations
from cluster.client.interface import ListResult
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import controller, names, pod
from tests.unit.controllers.rig import Fate, Rig, TreacherousClient, running


def make_ready(rig: Rig, of: core.Pod) -> None:
    def edit(changed: core.Pod) -> None:
        changed.status.phase = "Running"
        changed.status.conditions.add(type="Ready", status="True", lastTransitionTime=to_time(rig.clock.wall()))

    rig.change(of, edit)


def batches(rig: Rig) -> list[int]:
    """How many pods each write created."""
    return [
        sum(op.create.object.HasField("pod") for op in ops)
        for who, ops in rig.cluster.writes
        if who == "controllers" and ops[0].create.object.HasField("pod")
    ]


async def test_pods_are_made_in_growing_batches_and_reported() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=10))
        await rig.run()
        assert len(rig.active()) == 10
        assert batches(rig) == [1, 2, 4, 3]
        assert all(pod.metadata.name.startswith("web-") for pod in rig.pods())
        status = rig.rc().status
        assert (status.replicas, status.fullyLabeledReplicas, status.createdReplicas) == (10, 10, 10)
        assert status.observedGeneration == rig.rc().metadata.generation
        await rig.run(0.2)
        assert len(rig.events("SuccessfulCreate")) == 10


async def test_a_thousand_replicas_come_in_two_bursts() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=1000))
        await rig.run(0.2)
        assert len(rig.active()) == 1000
        assert batches(rig) == [1, 2, 4, 8, 16, 32, 64, 128, 245] * 2


async def test_a_pod_that_dies_ends_or_is_deleted_is_replaced_and_told_why() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=3))
        await rig.run()
        first, second, third = rig.active()
        rig.cluster.remove(first)
        rig.change(second, lambda p: setattr(p.status, "phase", "Failed"))
        rig.change(third, lambda p: p.metadata.deletionTimestamp.CopyFrom(to_time(1)))
        await rig.run()
        assert len(rig.active()) == 3
        assert not {p.metadata.uid for p in rig.active()} & {p.metadata.uid for p in (first, second, third)}
        causes = {p.metadata.cause.object for p in rig.active()}
        assert causes <= {f"pods/default/{p.metadata.name}" for p in (first, second, third)}
        assert {p.metadata.cause.reason for p in rig.active()} == {"replace"}


async def test_scaling_down_deletes_the_least_useful_in_one_write() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=5))
        await rig.run()
        keep = rig.active()[:2]
        for p in keep:
            make_ready(rig, p)
        await rig.run()
        before = len(rig.cluster.writes)
        await rig.scale(2)
        await rig.run()
        assert names(rig.active()) == names(keep)
        deletes = [ops for _, ops in rig.cluster.writes[before:] if ops[0].HasField("delete")]
        assert [len(ops) for ops in deletes] == [3]
        assert all(op.delete.preconditions.uid for op in deletes[0])
        await rig.run(0.2)
        assert len(rig.events("SuccessfulDelete")) == 3
        assert (rig.rc().status.replicas, rig.rc().status.readyReplicas) == (2, 2)


async def test_matching_orphans_are_adopted_and_surplus_is_deleted() -> None:
    async with running() as rig:
        await rig.create(pod("free-1"), pod("free-2"), pod("other", labels={"app": "db"}), controller(replicas=3))
        await rig.run()
        assert len(rig.active()) == 4
        owners = {p.metadata.name: controller_of(p) for p in rig.active()}
        assert owners["other"] is None
        assert all(owners[name] is not None for name in ("free-1", "free-2"))
        await rig.create(pod("free-3"))
        await rig.run()
        assert len(rig.active()) == 4


async def test_a_relabelled_pod_is_released_and_replaced() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=2))
        await rig.run()
        strayed = rig.active()[0]
        rig.change(strayed, lambda p: p.metadata.labels.update({"app": "debug"}))
        await rig.run()
        found = rig.cluster.find(core.Pod, strayed.metadata.name)
        assert found is not None
        assert controller_of(found) is None
        assert len(rig.active()) == 3
        rig.change(found, lambda p: p.metadata.labels.update({"app": "web"}))
        await rig.run()
        assert len(rig.active()) == 2, "it came back, so one is too many"


async def test_nothing_is_adopted_by_a_controller_that_is_gone_or_another_one() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=0))
        await rig.run()
        rig.cluster.hold_watches()
        old = rig.rc()
        rig.cluster.remove(old)
        again = controller(replicas=0, labels={"app": "new"})
        await rig.create(again)
        rig.cluster.release_watches()
        await rig.create(pod("free"))
        await rig.run()
        assert controller_of(rig.pods()[0]) is None


@pytest.mark.parametrize("whole_call", [False, True])
async def test_a_refused_creation_is_reported_and_tried_again(whole_call: bool) -> None:
    async with running() as rig:
        if whole_call:

            def refuse(actor: str, operations: Sequence[wire.Operation]) -> None:
                if actor == "controllers" and operations[0].create.object.HasField("pod"):
                    raise Forbidden("no more pods here")

            rig.cluster.on_write = refuse
        else:
            rig.client.refusal = Forbidden("no more pods here")
        await rig.create(controller(replicas=5))
        await rig.run(0.2)
        assert rig.active() == []
        condition = get_condition(rig.rc().status, "ReplicaFailure")
        assert condition is not None
        assert (condition.status, condition.reason, condition.message) == ("True", "FailedCreate", "no more pods here")
        assert rig.events("FailedCreate")[0].message == "Error creating: no more pods here"
        assert max(batches(rig), default=1) == 1, "the first batch that fails spares the others the attempt"
        rig.cluster.on_write = rig.client.refusal = None
        await rig.run(5)
        assert len(rig.active()) == 5
        assert get_condition(rig.rc().status, "ReplicaFailure") is None


async def test_min_ready_seconds() -> None:
    async with running() as rig:
        rc = controller(replicas=1)
        rc.spec.minReadySeconds = 10
        await rig.create(rc)
        await rig.run()
        make_ready(rig, rig.active()[0])
        await rig.run(9)
        assert (rig.rc().status.readyReplicas, rig.rc().status.availableReplicas) == (1, 0)
        await rig.run(1.1)
        assert rig.rc().status.availableReplicas == 1


async def test_a_stale_cache_creates_nothing_twice() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=0))
        await rig.run()
        rig.client.shut(core.Pod)
        await rig.scale(2)
        await rig.run()
        await rig.scale(3)
        await rig.run(10)
        assert len(rig.active()) == 2, "what was made has not been seen: nothing is decided"
        assert (rig.rc().status.replicas, rig.rc().status.observedGeneration) == (2, rig.rc().metadata.generation)
        rig.client.open()
        await rig.run()
        assert len(rig.active()) == 3


async def test_a_stale_cache_deletes_nothing_twice() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=6))
        await rig.run()
        rig.client.shut(core.Pod)
        await rig.scale(4)
        await rig.run()
        await rig.scale(3)
        await rig.run(10)
        assert len(rig.active()) == 4
        rig.client.open()
        await rig.run()
        assert len(rig.active()) == 3


async def test_pods_that_somebody_else_made_are_counted_past_the_cache() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=0))
        await rig.run()
        rig.client.fate = lambda: Fate.UNANSWERED
        rig.client.shut(core.Pod)
        await rig.scale(1)
        await rig.run(0.01)
        rig.client.fate = lambda: Fate.DONE
        await rig.run(10)
        assert len(rig.active()) == 1
        rig.client.open()
        await rig.run(10)
        assert len(rig.active()) == 1


async def test_a_cache_that_is_not_behind_is_not_asked_past(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = TreacherousClient.list

    async def listing(self: TreacherousClient, kind: type[core.Pod], *args: str, **words: str) -> ListResult[core.Pod]:
        asked.append(kind.__name__)
        return await ask(self, kind, *args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(TreacherousClient, "list", listing)
    async with running() as rig:
        await rig.create(controller(replicas=3))
        await rig.run()
        await rig.restart()
        await rig.scale(5)
        await rig.run()
        assert len(rig.active()) == 5
        assert "Pod" not in asked, "a start would read all pods once for each controller"


async def test_many_reports_share_writes_of_the_status() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=50))
        await rig.run()
        before = len(rig.cluster.writes)
        for p in rig.active():
            make_ready(rig, p)
            await rig.run(0.001)
        await rig.run()
        assert rig.rc().status.readyReplicas == 50
        statuses = [ops for _, ops in rig.cluster.writes[before:] if ops[0].HasField("update_status")]
        assert len(statuses) <= 6


async def test_a_write_in_flight_when_we_were_killed_counts() -> None:
    for fate in (Fate.LATE, Fate.UNANSWERED, Fate.LOST):
        async with running() as rig:
            await rig.create(controller(replicas=0))
            await rig.run()
            rig.client.fate = lambda fate=fate: fate  # type: ignore[misc]
            await rig.scale(4)
            await rig.run(0.01)
            rig.client.fate = lambda: Fate.DONE
            await rig.stop()
            await rig.start()
            rig.client.deliver_late()
            await rig.run(2)
            assert len(rig.active()) == 4, fate


async def test_a_late_write_of_a_predecessor_is_refused_or_counted() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=0))
        await rig.run()
        rig.client.fate = lambda: Fate.LATE
        await rig.scale(3)
        await rig.run(0.01)
        await rig.stop()
        rig.client.fate = lambda: Fate.DONE
        await rig.start()
        await rig.run(2)
        assert len(rig.active()) == 3
        rig.client.deliver_late()
        await rig.run(2)
        assert len(rig.active()) == 3


STEP = st.sampled_from(
    [
        *("wait", "kill", "end", "delete", "relabel", "grow", "late", "restart"),
        *("shut pods", "shut controllers", "open", "break", "compact"),
    ]
)
FATES = [Fate.DONE] * 3 + [Fate.LOST, Fate.UNANSWERED, Fate.LATE]


@settings(max_examples=60)
@given(steps=st.lists(STEP, min_size=4, max_size=25), seed=st.integers(0, 2**16), replicas=st.integers(1, 9))
async def test_never_more_active_pods_than_replicas(steps: list[str], seed: int, replicas: int) -> None:
    dice = random.Random(seed)
    async with running(seed=seed) as rig:
        wanted = replicas

        def check() -> None:
            mine = [p for p in rig.active() if dict(p.metadata.labels) == {"app": "web"}]
            assert len(mine) <= wanted, (len(mine), wanted)

        def fate() -> Fate:
            check()
            return dice.choice(FATES)

        rig.client.fate = fate
        await rig.create(controller(replicas=replicas))
        for step in steps:
            await rig.run(dice.choice([0.001, 0.01, 0.3]))
            check()
            victims = rig.active()
            victim = dice.choice(victims) if victims else None
            match step:
                case "kill" if victim is not None:
                    rig.cluster.remove(victim)
                case "end" if victim is not None:
                    rig.change(victim, lambda p: setattr(p.status, "phase", "Succeeded"))
                case "delete" if victim is not None:
                    await rig.admin.write([operations.delete(key_of(victim))])
                case "relabel" if victim is not None:
                    rig.change(victim, lambda p: p.metadata.labels.update({"app": "away"}))
                case "shut pods":
                    rig.client.shut(core.Pod)
                case "shut controllers":
                    rig.client.shut(core.ReplicationController)
                case "open":
                    rig.client.open()
                case "break":
                    rig.cluster.break_watches()
                case "compact":
                    rig.cluster.compact()
                    rig.cluster.break_watches()
                case "restart":
                    # A new process lists afresh: its first state is never older than the moment it starts.
                    rig.client.open()
                    await rig.restart()
                case "late":
                    rig.client.deliver_late()
                case "grow":
                    wanted += 2
                    await rig.scale(wanted)
            check()
        rig.client.deliver_late()
        check()
        rig.client.open()
        rig.client.fate = lambda: Fate.DONE
        await rig.run(90)
        check()
        assert len([p for p in rig.active() if p.metadata.labels["app"] == "web"]) == wanted
        assert rig.rc().status.replicas == wanted
