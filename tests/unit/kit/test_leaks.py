"""The leak check finds what it says it finds, waits for what is on its way out, and is silent otherwise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cluster.actor.tasks import Tasks
from tests.kit.leaks import Leak, leak_check, leak_check_of_processes


@pytest.fixture
def later() -> Iterator[ExitStack]:
    """Tidies up what a test left behind on purpose."""
    with ExitStack() as stack:
        yield stack


async def checked(act: Callable[[], object]) -> None:
    async with leak_check(0.0):
        act()


def checked_without_loop(act: Callable[[], object]) -> None:
    with leak_check_of_processes(0.0):
        act()


def pipe(later: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        later.callback(os.close, fd)
    return ends


async def test_nothing_left() -> None:
    def act() -> None:
        with ExitStack() as stack:
            pipe(stack)
        subprocess.run(["true"], check=True)

    await checked(act)


async def test_a_task_that_ends_by_itself() -> None:
    async with leak_check():
        Tasks("test").spawn(asyncio.sleep(0), name="short")


async def test_a_descriptor(later: ExitStack) -> None:
    with pytest.raises(Leak, match=r"descriptor \d+ -> pipe:") as caught:
        await checked(lambda: pipe(later))
    assert str(caught.value).count("descriptor") == 2


async def test_a_number_that_means_something_else_now(later: ExitStack) -> None:
    number, _ = pipe(later)

    def act() -> None:
        zero = os.open("/dev/zero", os.O_RDONLY)
        os.dup2(zero, number)
        os.close(zero)

    with pytest.raises(Leak, match=f"descriptor {number} -> /dev/zero"):
        await checked(act)


async def test_a_task() -> None:
    tasks = Tasks("test")
    with pytest.raises(Leak, match="task test: forgotten"):
        await checked(lambda: tasks.spawn(asyncio.Event().wait(), name="forgotten"))
    await tasks.cancel_all()


def test_a_process(later: ExitStack) -> None:
    def act() -> None:
        process = subprocess.Popen(["sleep", "600"])
        later.callback(process.wait)
        later.callback(process.kill)

    with pytest.raises(Leak, match=r"process \d+: "):
        checked_without_loop(act)


def test_a_child_that_nobody_waited_for(later: ExitStack) -> None:
    def act() -> None:
        process = subprocess.Popen(["true"])
        later.callback(process.wait)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(Leak, match=r"process \d+: \[zombie\]"):
        checked_without_loop(act)


def test_what_is_on_its_way_out_may_go(later: ExitStack) -> None:
    read_end, _ = pipe(later)
    with leak_check_of_processes():
        closing = threading.Timer(0.02, os.close, [os.dup(read_end)])
        closing.start()
        later.callback(closing.join)


def test_an_error_of_the_test_goes_out_as_it_is(later: ExitStack) -> None:
    def act() -> None:
        pipe(later)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        checked_without_loop(act)


@pytest.mark.usefixtures("no_leaks")
async def test_as_a_fixture() -> None:
    await asyncio.sleep(0)
