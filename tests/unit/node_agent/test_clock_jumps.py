"""An administrator sets the machine's clock by an hour: pods and their node do not notice."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.api.conditions import is_node_ready
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core
from node_agent.agent import NodeAgent
from node_agent.settings import AgentSettings
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import FakeRuntime, make_pod

PROFILE = PROFILES["kubernetes"]
STEP_S = 0.25


class World:
    """A cluster, one agent, and a clock that stands still until a test lets it go on."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.runtime = FakeRuntime(self.clock)
        self.agent = self.make_agent()

    def make_agent(self) -> NodeAgent:
        settings = AgentSettings(
            name="node-1",
            master="",
            listen="127.7.0.10:10250",
            credentials=self.directory,
            dir=self.directory / "node-1",
            profile=PROFILE,
            cgroups=False,
        )
        client = self.cluster.client("node:node-1")
        return NodeAgent(settings, client, self.runtime, clock=self.clock, rng=random.Random(1), environ={})

    async def start(self) -> None:
        await self.beside(self.agent.start())

    async def stop(self, *, leave: bool = False) -> None:
        if leave:
            self.agent.leave_pods()
        await self.beside(self.agent.stop())

    async def beside(self, work: object) -> None:
        """Lets time pass until it is done."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        for _ in range(1000):
            if task.done():
                break
            await self.clock.run_for(0.1)
        await task

    async def until(self, phase: str, name: str = "web") -> None:
        for _ in range(100):
            if self.status(name).phase == phase:
                return
            await self.clock.run_for(STEP_S)
        raise AssertionError(f"{name} is {self.status(name).phase}, not {phase}")

    async def run(self, pod: core.Pod) -> core.Pod:
        written = await self.cluster.client().write([operations.create(pod)])
        created = written.outcomes[0].unwrap()
        assert isinstance(created, core.Pod)
        await self.until("Running", pod.metadata.name)
        return created

    def pod(self, name: str = "web") -> core.Pod | None:
        return self.cluster.find(core.Pod, name)

    def status(self, name: str = "web") -> core.PodStatus:
        pod = self.pod(name)
        assert pod is not None
        return pod.status


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.stop()


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
    await world.stop(leave=True)
    earlier = world.runtime
    world.runtime = FakeRuntime(world.clock)
    world.runtime.adopt_from(earlier)
    world.clock.jump_wall(jump_s)
    world.agent = world.make_agent()
    await world.start()
    await world.clock.run_for(40.0)
    assert world.status().phase == "Running"
    await world.clock.run_for(12.0)
    assert (world.status().phase, world.status().reason) == ("Failed", "DeadlineExceeded")
