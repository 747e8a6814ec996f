"""An administrator sets the machine's clock by an hour: pods and their node do not notice."""

from __future__ import annotations

import itertools

import pytest

from cluster.api.conditions import is_node_ready
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from tests.unit.node_agent.kit import make_pod
from tests.unit.node_agent.virtual import PROFILE, STEP_S, World, world

__all__ = ["world"]


pytestmark = pytest.mark.parametrize("jump_s", [3600.0, -3600.0])


async def test_signs_of_life_keep_their_pace(world: World, jump_s: float) -> None:
    await world.clock.run_for(30.0)
    before = world.cluster.heartbeats["node-1"].sequence
    world.clock.jump_wall(jump_s)
    await world.clock.run_for(30.0)
    assert world.cluster.heartbeats["node-1"].sequence - before == 30.0 / PROFILE.heartbeat_interval_s
    node = world.cluster.find(core.Node, "node-1", "")
    assert node is not None
    assert is_node_ready(node)


async def test_a_crash_loop_keeps_its_row(world: World, jump_s: float) -> None:
    pod = await world.run(make_pod())
    starts = []
    for run in range(4):
        run_id = f"{pod.metadata.uid}.c1.{run}"
        while run_id not in world.runtime.programs:
            await world.clock.run_for(STEP_S)
        starts.append(world.clock.monotonic())
        world.clock.jump_wall(jump_s)
        await world.clock.run_for(STEP_S)
        world.runtime.end(run_id, 1)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    for wait, wanted in zip(waits, (0.0, 10.0, 20.0), strict=True):
        assert wanted <= wait <= wanted + 3 * STEP_S


async def test_the_grace_is_what_it_was(world: World, jump_s: float) -> None:
    pod = await world.run(make_pod(grace_s=30))
    world.runtime.deaf = True
    await world.cluster.client().write([operations.delete(key_of(pod))])
    await world.clock.run_for(1.0)
    world.clock.jump_wall(jump_s)
    await world.clock.run_for(28.5)
    assert not world.runtime.killed
    await world.clock.run_for(1.5)
    assert world.runtime.killed
    await world.clock.run_for(2.0)
    assert world.pod() is None


async def test_a_pod_is_active_for_its_time_also_under_the_next_agent(world: World, jump_s: float) -> None:
    pod = make_pod()
    pod.spec.activeDeadlineSeconds = 60
    await world.run(pod)
    world.clock.jump_wall(jump_s)
    await world.clock.run_for(10.0)
    await world.leave()
    world.clock.jump_wall(jump_s)
    await world.come_back()
    await world.clock.run_for(40.0)
    assert world.status().phase == "Running"
    await world.clock.run_for(12.0)
    assert (world.status().phase, world.status().reason) == ("Failed", "DeadlineExceeded")
