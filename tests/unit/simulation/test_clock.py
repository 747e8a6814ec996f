"""The virtual clock: sleepers wake in the order of their times, at their times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.actor.tasks import Tasks
from cluster.simulation.clock import VirtualClock


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.cancel_all()


async def test_sleepers_wake_in_order_at_their_times(tasks: Tasks) -> None:
    clock = VirtualClock(monotonic_s=0.0, wall_s=100.0)
    story: list[tuple[str, float, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            story.append((name, clock.monotonic(), clock.wall()))

    tasks.spawn(sleeper("a", 3.0, 3.0), name="a")
    tasks.spawn(sleeper("b", 1.0, 4.5), name="b")
    await clock.run_for(5.0)
    assert story == [("b", 1.0, 101.0), ("a", 3.0, 103.0)]
    await clock.run_for(5.0)
    assert story[2:] == [("b", 5.5, 105.5), ("a", 6.0, 106.0)]
    assert clock.monotonic() == 10.0


async def test_who_gave_up_is_not_woken(tasks: Tasks) -> None:
    clock = VirtualClock()
    task = tasks.spawn(clock.sleep(1.0), name="sleeper")
    await clock.settle()
    task.cancel()
    await clock.run_for(2.0)
    assert task.cancelled()


async def test_no_time_is_no_sleep() -> None:
    clock = VirtualClock()
    async with asyncio.timeout(5):
        await clock.sleep(0)
        await clock.sleep(-1)


async def test_the_wall_may_jump(tasks: Tasks) -> None:
    clock = VirtualClock(monotonic_s=5.0, wall_s=100.0)
    clock.jump_wall(-3600)
    clock.advance(1.0)
    assert (clock.monotonic(), clock.wall()) == (6.0, -3499.0)


async def test_time_goes_from_one_sleeper_to_the_next(tasks: Tasks) -> None:
    clock = VirtualClock(monotonic_s=0.0)
    assert clock.next_due_s() is None
    assert not clock.advance_to_next()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    for name, seconds in (("late", 3.0), ("one", 1.0), ("two", 1.0)):
        tasks.spawn(sleeper(name, seconds), name=name)
    gone = tasks.spawn(sleeper("gone", 0.5), name="gone")
    await clock.settle()
    gone.cancel()
    await clock.settle()
    assert clock.next_due_s() == 1.0, "who has given up does not count"
    assert clock.advance_to_next()
    await clock.settle()
    assert (woken, clock.monotonic()) == (["one", "two"], 1.0)
    assert clock.advance_to_next()
    await clock.settle()
    assert (woken, clock.monotonic()) == (["one", "two", "late"], 3.0)
