"""Time passes when everybody waits, and not before."""

from __future__ import annotations

import asyncio

import pytest

from cluster.actor.tasks import Tasks
from cluster.simulation.clock import VirtualClock
from cluster.simulation.idle import run_idle


def _nothing() -> None:
    pass


def test_as_much_is_done_at_a_moment_as_takes_no_time() -> None:
    clock = VirtualClock(monotonic_s=0.0)
    story: list[tuple[float, str]] = []

    async def busy(name: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        story.append((clock.monotonic(), name))

    async def main() -> str:
        tasks = Tasks("test")
        tasks.spawn(busy("a thousand turns", 1000), name="busy")
        await clock.sleep(5.0)
        story.append((clock.monotonic(), "slept"))
        await asyncio.gather(clock.sleep(2.0), clock.sleep(1.0), busy("few turns", 3))
        return "done"

    turns: list[None] = []
    assert run_idle(main(), lambda: _advance(clock), lambda: turns.append(None)) == "done"
    assert story == [(0.0, "a thousand turns"), (5.0, "slept"), (5.0, "few turns")]
    assert clock.monotonic() == 7.0
    assert len(turns) > 1000


def test_timers_of_the_loop_itself_do_not_hold_time_up() -> None:
    clock = VirtualClock(monotonic_s=0.0)

    async def main() -> None:
        async with asyncio.timeout(3600):
            await clock.sleep(86_400.0)

    run_idle(main(), lambda: _advance(clock), _nothing)
    assert clock.monotonic() == 86_400.0


def test_what_is_raised_when_all_wait_ends_the_run_and_tidies_up() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)  # in ordinary time
            ended.append("tidied up")

    def stuck() -> None:
        raise RuntimeError("nobody waits for time to pass")

    with pytest.raises(RuntimeError, match="nobody waits"):
        run_idle(main(), stuck, _nothing)
    assert ended == ["tidied up"]


def test_what_main_raises_is_raised() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_idle(main(), _nothing, _nothing)


def _advance(clock: VirtualClock) -> None:
    assert clock.advance_to_next()
