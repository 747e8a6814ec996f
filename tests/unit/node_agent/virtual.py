"""An agent on a clock that a test turns on: hours pass in no time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from cluster.api.errors import Unavailable
from cluster.client import operations
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core
from node_agent.agent import NodeAgent
from node_agent.settings import AgentSettings
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import FakeRuntime

PROFILE = PROFILES["kubernetes"]
STEP_S = 0.25


class World:
    """A cluster, one agent, and a clock that stands still until a test lets it go on."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.runtime = FakeRuntime(self.clock)
        self.agent = self.make_agent()
        self._starting: asyncio.Future[None] | None = None

    def cut_off(self) -> None:
        """From now on no call reaches the master."""
        self.cluster.fail_next(Unavailable("cut off"), times=1_000_000)

    def reconnect(self) -> None:
        """From now on they do."""
        self.cluster._failures.clear()

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

    async def stop(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        await self.beside(self.agent.stop())

    async def leave(self) -> None:
        """The agent goes, its pods run on."""
        self.agent.leave_pods()
        await self.stop()

    async def come_back(self) -> None:
        """The next agent begins, and adopts what is there."""
        earlier = self.runtime
        self.runtime = FakeRuntime(self.clock)
        self.runtime.adopt_from(earlier)
        self.agent = self.make_agent()
        self._starting = asyncio.ensure_future(self.agent.start())
        await self.clock.settle()

    async def beside(self, work: Awaitable[None]) -> None:
        """Lets time pass until it is done."""
        task = asyncio.ensure_future(work)
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
    """That world, from the start of the agent to its end."""
    world = World(tmp_path)
    await world.start()
    yield world
    world.reconnect()
    await world.stop()
