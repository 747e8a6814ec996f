"""Fixtures of these tests: an agent that runs nothing; a runtime that runs processes, and programs for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent.runtime.interface import Program
from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.spawner_scene import PATH, Make, make_runtime

_numbers = itertools.count()


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    (tmp_path / "node").mkdir()
    runtime = make_runtime(tmp_path / "node")
    await runtime.start()
    yield runtime
    await runtime.stop()


@pytest.fixture
def program(tmp_path: Path) -> Make:
    def make(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Program:
        run_id = f"test{os.getpid()}.{next(_numbers)}"
        log = tmp_path / f"{run_id}.log"
        return Program(run_id, argv, {"PATH": PATH} | (env or {}), str(cwd or tmp_path), str(log))

    return make


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.agent.start()
    yield world
    await world.agent.stop()
