"""What a runtime promises of runs and commands: the one that runs processes, and the one that tests play with."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from node_agent.runtime.interface import Ended, Program, Runtime, StartFailure
from node_agent.runtime.process import ProcessRuntime
from node_agent.runtime.trusting import TrustingRuntime
from tests.unit.node_agent.kit import FakeRuntime

LIMIT_S = 20.0
_numbers = itertools.count()


def sleeper() -> Program:
    run_id = f"contract{os.getpid()}.{next(_numbers)}"
    return Program(run_id, ("sleep", "1000"), {"PATH": os.environ["PATH"]}, "/", os.devnull)


def processes(directory: Path) -> ProcessRuntime:
    directory.mkdir(exist_ok=True)
    return ProcessRuntime(directory, clock=SystemClock(), log_max_bytes=10_000, log_files=2, lifetime="service")


class Played:
    """FakeRuntimes, each of which finds what the one before had."""

    def __init__(self) -> None:
        self.last: FakeRuntime | None = None

    def next(self) -> Runtime:
        earlier, self.last = self.last, FakeRuntime()
        if earlier is not None:
            self.last.adopt_from(earlier)
        return self.last


@pytest.fixture(params=["processes", "of two", "played"])
async def lives(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Runtime]]]:
    """Starts a runtime: each call the next life of its agent."""
    played, runtimes = Played(), []

    async def begin() -> Runtime:
        if request.param == "played":
            runtime = played.next()
        elif request.param == "of two":
            runtime = TrustingRuntime(processes(tmp_path / "node"), processes(tmp_path / "trusted"))
        else:
            runtime = processes(tmp_path / "node")
        await runtime.start()
        runtimes.append(runtime)
        return runtime

    yield begin
    await runtimes[-1].stop()


async def end_of(waiting: Awaitable[Ended]) -> Ended:
    async with asyncio.timeout(LIMIT_S):
        return await waiting


Begin = Callable[[], Awaitable[Runtime]]


async def test_a_command_ends_with_the_run_that_it_is_beside(lives: Begin) -> None:
    runtime, main = await lives(), sleeper()
    await runtime.run(main)
    beside = await runtime.exec(sleeper(), beside=main.run_id)
    runtime.kill(main.run_id)
    assert (await end_of(runtime.wait(main.run_id))).exit_code == 137
    assert (await end_of(beside.wait())).exit_code == 137
    beside.close()
    with pytest.raises(StartFailure, match="has just ended"):
        await runtime.exec(sleeper(), beside=main.run_id)


async def test_a_command_on_its_own_outlives_all_others(lives: Begin) -> None:
    runtime, main, alone = await lives(), sleeper(), sleeper()
    await runtime.run(main)
    command = await runtime.exec(alone)
    runtime.kill(main.run_id)
    await end_of(runtime.wait(main.run_id))
    ending = asyncio.ensure_future(runtime.wait(alone.run_id))
    beside = await runtime.exec(sleeper(), beside=alone.run_id)
    assert not ending.done()
    runtime.kill(alone.run_id)
    assert (await end_of(ending)).exit_code == 137
    assert (await end_of(beside.wait())).exit_code == 137
    for each in (command, beside):
        each.close()


async def test_who_waits_hears_of_the_end_of_what_was_forgotten(lives: Begin) -> None:
    """Closing a command kills and forgets it: until it has ended, it is known all the same."""
    runtime, alone = await lives(), sleeper()
    command = await runtime.exec(alone)
    ending = asyncio.ensure_future(runtime.wait(alone.run_id))
    await asyncio.sleep(0)
    command.close()
    assert (await end_of(ending)).exit_code == 137
    runtime.forget(alone.run_id)
    with pytest.raises(KeyError):
        await runtime.wait(alone.run_id)
    assert (await end_of(command.wait())).exit_code == 137, "who holds it knows, whoever had it forgotten"


async def test_runs_outlive_their_agent_and_commands_do_not(lives: Begin) -> None:
    first, main, alone = await lives(), sleeper(), sleeper()
    await first.run(main)
    commands = [await first.exec(alone), await first.exec(sleeper(), beside=main.run_id)]
    await first.leave()
    for each in commands:
        each.close()
    second = await lives()
    assert set(second.adopted) == {main.run_id, alone.run_id}, "what was on its own is known to have ended"
    assert second.adopted[main.run_id].ended is None
    assert (await end_of(second.wait(alone.run_id))).exit_code == 137
    for run_id in (main.run_id, alone.run_id):
        second.kill(run_id)
        await end_of(second.wait(run_id))
        second.forget(run_id)
    await second.leave()
    assert not (await lives()).adopted, "and nothing is remembered"
