"""Fixtures of these tests: an agent that runs nothing; a runtime that runs processes, and programs for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.spawner_scene import make_runtime, program

__all__ = ["program"]


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    (tmp_path / "node").mkdir()
    runtime = make_runtime(tmp_path / "node")
    await runtime.start()
    yield runtime
    await runtime.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.agent.start()
    yield world
    await world.agent.stop()
