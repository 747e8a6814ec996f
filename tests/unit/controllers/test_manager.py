"""The life of all controllers together: started, crashed, stopped."""

from __future__ import annotations

import asyncio
import random

import pytest

from cluster.actor.supervisor import Supervisor
from cluster.api.kinds import KINDS, kind_of_type
from cluster.controllers import manager as manager_room
from cluster.controllers.context import Context
from cluster.controllers.manager import ControllerManager, build_controllers
from cluster.controllers.namespaces import CONTENTS
from cluster.controllers.node_lifecycle import NodeLifecycle
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.controllers.objects import controller
from tests.unit.controllers.rig import LAPTOP, Rig


async def test_a_crashed_task_ends_the_run_and_the_supervisor_starts_everything_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = VirtualClock()
    cluster = MemoryCluster(clock=clock)
    made: list[NodeLifecycle] = []

    class Fragile(NodeLifecycle):
        def __init__(self, context: Context) -> None:
            super().__init__(context)
            made.append(self)

        def tick(self, now: float) -> None:
            if len(made) == 1:
                raise RuntimeError("a bug")

    monkeypatch.setattr(
        manager_room, "CONTROLLERS", tuple(Fragile if c is NodeLifecycle else c for c in manager_room.CONTROLLERS)
    )
    specs = build_controllers(cluster.client("controllers"), LAPTOP, clock, random.Random(0))
    supervisor = Supervisor("manager", specs, clock=clock)
    await supervisor.start()
    try:
        # Stopping takes many turns of the loop, and no time.
        await clock.run_for(1, settle=500)
        assert len(made) == 2
        rc = controller(replicas=2)
        cluster.put(rc)
        await clock.run_for(1)
        assert len(cluster.objects(core.Pod)) == 2
        assert len(made) == 2
    finally:
        await supervisor.stop()


async def test_stop_twice_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    rig = Rig()
    await rig.start()
    manager = rig.manager
    assert manager is not None
    running = asyncio.ensure_future(manager.run())
    await rig.run()
    await manager.stop()
    await manager.stop()
    await running
    await rig.close()
    assert asyncio.all_tasks() <= before


async def test_it_can_be_stopped_before_it_ever_started() -> None:
    rig = Rig()
    manager = ControllerManager(rig.client, LAPTOP, clock=rig.clock, rng=rig.rng)
    await manager.stop()


def test_a_namespace_that_ends_is_emptied_of_every_kind() -> None:
    assert {kind_of_type(kind) for kind in CONTENTS} == {kind for kind in KINDS if kind.namespaced}


async def test_pending_events_are_written_at_the_end() -> None:
    rig = Rig()
    await rig.start()
    await rig.create(controller(replicas=1))
    await rig.run(0.001)
    await rig.close()
    assert len(rig.events("SuccessfulCreate")) == 1
