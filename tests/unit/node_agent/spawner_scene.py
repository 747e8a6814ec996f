"""A spawner and programs for it: what the tests of the spawner share."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from node_agent.runtime.interface import Ended, Program
from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.kit import LIMIT_S, until

PATH = os.environ["PATH"]
Make = Callable[..., Program]
"""Of the fixture `program`: a program of these words, with a directory and an environment."""

ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {more}
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.005)
"""
"""Leaves its parents, its session and its group behind, and its pid in a file."""


_numbers = itertools.count()


@pytest.fixture
def program(tmp_path: Path) -> Make:
    def make(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Program:
        run_id = f"test{os.getpid()}.{next(_numbers)}"
        log = tmp_path / f"{run_id}.log"
        return Program(run_id, argv, {"PATH": PATH} | (env or {}), str(cwd or tmp_path), str(log))

    return make


def make_runtime(directory: Path, lifetime: str = "dev") -> ProcessRuntime:
    return ProcessRuntime(directory, clock=SystemClock(), log_max_bytes=100_000, log_files=3, lifetime=lifetime)


async def within(awaitable: Awaitable[Ended]) -> Ended:
    async with asyncio.timeout(LIMIT_S):
        return await awaitable


async def pid_in(file: Path) -> int:
    await until(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())
