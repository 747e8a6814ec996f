"""The time that a pod may be active, set and made shorter while it runs."""

from __future__ import annotations

import pytest

from cluster.api.meta import key_of
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from node_agent.active_limit import active_deadline, limited
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import NEVER, Admitted, Limited, Started
from tests.unit.node_agent.kit import Life, make_pod
from tests.unit.node_agent.virtual import World, world

__all__ = ["world"]


def spec(limit_s: int | None) -> core.PodSpec:
    return core.PodSpec() if limit_s is None else core.PodSpec(activeDeadlineSeconds=limit_s)


def test_it_is_counted_from_when_the_node_took_the_pod_up() -> None:
    assert active_deadline(spec(60), 5_000.0, now=100.0, now_s=5_010.0) == 150.0
    assert active_deadline(spec(None), 5_000.0, now=100.0, now_s=5_010.0) == NEVER


@pytest.mark.parametrize(
    ("mine", "wanted", "until"),
    [(None, None, None), (60, 60, None), (None, 60, Limited(150.0)), (60, 40, Limited(80.0)), (60, None, None)],
)
def test_what_a_change_comes_to(mine: int | None, wanted: int | None, until: Limited | None) -> None:
    life = Life.of(make_pod())
    life.on(Admitted(100.0 if mine else NEVER))
    assert limited(life.state, spec(mine), spec(wanted), 5_000.0, now=100.0, now_s=5_010.0) == until


def test_the_lifecycle_is_told_of_it() -> None:
    life = Life.of(make_pod())
    life.on(Admitted(NEVER))
    life.on(Started("c1", 0, 1.0))
    life.on(Limited(1060.0))
    assert next_deadline(life.state) == 1060.0


async def change(world: World, pod: core.Pod, limit_s: int) -> None:
    patch = operations.patch(key_of(pod), {"spec": {"activeDeadlineSeconds": limit_s}})
    (await world.cluster.client().write([patch])).outcomes[0].unwrap()


@pytest.mark.parametrize("before_s", [None, 600])
@pytest.mark.parametrize("jump_s", [0.0, 3600.0])
async def test_a_pod_that_runs_is_given_a_time(world: World, before_s: int | None, jump_s: float) -> None:
    pod = make_pod()
    pod.spec.MergeFrom(spec(before_s))
    await world.run(pod)
    await world.clock.run_for(10.0)
    if before_s:  # then it is known by when, whatever the calendar says
        world.clock.jump_wall(jump_s)
    await change(world, pod, 30)
    await world.clock.run_for(15.0)
    assert world.status().phase == "Running"
    await world.clock.run_for(7.0)
    assert (world.status().phase, world.status().reason) == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize("before_s", [None, 600])
async def test_while_no_agent_is_there(world: World, before_s: int | None) -> None:
    pod = make_pod()
    pod.spec.MergeFrom(spec(before_s))
    await world.run(pod)
    await world.leave()
    await change(world, pod, 30)
    await world.come_back()
    await world.clock.run_for(20.0)
    assert world.status().phase == "Running"
    await world.clock.run_for(12.0)
    assert (world.status().phase, world.status().reason) == ("Failed", "DeadlineExceeded")


async def test_what_is_over_already_ends_at_once(world: World) -> None:
    pod = await world.run(make_pod())
    await world.clock.run_for(10.0)
    await change(world, pod, 5)
    await world.clock.run_for(2.0)
    assert (world.status().phase, world.status().reason) == ("Failed", "DeadlineExceeded")
