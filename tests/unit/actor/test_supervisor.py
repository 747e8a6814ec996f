"""Supervision by worked examples: order, restarts, the budget, children that do not want to end."""

from __future__ import annotations

import asyncio

import pytest

from cluster.actor.supervisor import BudgetExceeded, ChildSpec, Restart, Supervisor
from cluster.actor.tasks import Tasks
from tests.kit.clock import VirtualClock


class Play:
    """A stage: what its children do is written down, and how they end is up to the test."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.lives: dict[str, list[Child]] = {}
        self.refuse_start: set[str] = set()

    def child(self, name: str, restart: Restart = Restart.ON_CRASH) -> ChildSpec:
        def make() -> Child:
            child = Child(self, name)
            self.lives.setdefault(name, []).append(child)
            return child

        return ChildSpec(name, make, restart)

    def alive(self, name: str) -> Child:
        return self.lives[name][-1]


class Child:
    def __init__(self, play: Play, name: str) -> None:
        self._play, self._name = play, name
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hang_in_stop = False

    async def start(self) -> None:
        self._play.story.append(f"start {self._name}")
        if self._name in self._play.refuse_start:
            raise OSError(f"{self._name} cannot")

    async def run(self) -> None:
        await self.end

    async def stop(self) -> None:
        self._play.story.append(f"stop {self._name}")
        if self.hang_in_stop:
            try:
                await asyncio.Event().wait()
            finally:
                self._play.story.append(f"cancelled {self._name}")


async def test_starts_in_order_and_stops_in_reverse() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a"), play.child("b")], clock=clock)
    await supervisor.start()
    assert supervisor.service("a") is play.alive("a")
    await supervisor.stop()
    await supervisor.stop()
    assert play.story == ["start a", "start b", "stop b", "stop a"]
    await supervisor.run()


async def test_a_child_that_cannot_start_stops_those_before_it() -> None:
    play, clock = Play(), VirtualClock()
    play.refuse_start.add("b")
    supervisor = Supervisor("s", [play.child("a"), play.child("b"), play.child("c")], clock=clock)
    with pytest.raises(OSError, match="b cannot"):
        await supervisor.start()
    assert play.story == ["start a", "start b", "stop b", "stop a"]


async def test_a_crashed_child_is_made_anew() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a"), play.child("b")], clock=clock)
    await supervisor.start()
    play.alive("b").end.set_exception(ValueError("oh"))
    await clock.run_for(1.0)
    assert play.story[2:] == ["stop b", "start b"]
    assert supervisor.service("b") is play.lives["b"][1]
    await supervisor.stop()


async def test_a_child_whose_task_was_cancelled_has_crashed() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a")], clock=clock)
    await supervisor.start()
    play.alive("a").end.cancel()
    await clock.run_for(1.0)
    assert play.story == ["start a", "stop a", "start a"]
    await supervisor.stop()


@pytest.mark.parametrize(
    ("restart", "crash", "again"),
    [
        (Restart.ALWAYS, True, True),
        (Restart.ALWAYS, False, True),
        (Restart.ON_CRASH, True, True),
        (Restart.ON_CRASH, False, False),
        (Restart.NEVER, True, False),
        (Restart.NEVER, False, False),
    ],
)
async def test_who_is_started_again(restart: Restart, crash: bool, again: bool) -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a", restart)], clock=clock)
    await supervisor.start()
    end = play.alive("a").end
    if crash:
        end.set_exception(ValueError("oh"))
    else:
        end.set_result(None)
    await clock.run_for(1.0)
    assert len(play.lives["a"]) == (2 if again else 1)
    await supervisor.stop()


async def crash(play: Play, clock: VirtualClock, name: str, times: int, every_s: float) -> None:
    for _ in range(times):
        play.alive(name).end.set_exception(ValueError("oh"))
        await clock.run_for(every_s)


async def test_too_many_crashes_in_a_while_are_the_supervisors_own() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a"), play.child("b")], max_restarts=2, within_s=10, clock=clock)
    await supervisor.start()
    waiting = Tasks("test", on_crash=lambda task, error: None).spawn(supervisor.wait_failed(), name="wait")
    await crash(play, clock, "a", 1, every_s=3)
    await crash(play, clock, "b", 1, every_s=3)
    assert not waiting.done(), "two are allowed"
    await crash(play, clock, "a", 1, every_s=3)
    with pytest.raises(BudgetExceeded, match=r"crashed 3 times within 10 s, last a: ValueError\('oh'\)"):
        await waiting
    with pytest.raises(BudgetExceeded):
        await supervisor.run()
    await supervisor.stop()
    assert play.story.count("stop b") == 2


async def test_old_crashes_are_forgiven() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a")], max_restarts=2, within_s=10, clock=clock)
    await supervisor.start()
    await crash(play, clock, "a", 8, every_s=6)
    assert len(play.lives["a"]) == 9
    await supervisor.stop()


async def test_a_child_that_does_not_start_again_uses_the_budget_up() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a")], max_restarts=3, within_s=60, clock=clock)
    await supervisor.start()
    play.refuse_start.add("a")
    play.alive("a").end.set_exception(ValueError("oh"))
    await clock.run_for(20.0)
    with pytest.raises(BudgetExceeded, match="a cannot"):
        await supervisor.run()
    assert len(play.lives["a"]) == 4
    assert play.story.count("stop a") == 4, "what did not start is stopped as well"
    await supervisor.stop()


async def test_a_child_that_hangs_is_cancelled_and_named(caplog: pytest.LogCaptureFixture) -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a"), play.child("b")], stop_timeout_s=0.01, clock=clock)
    await supervisor.start()
    play.alive("b").hang_in_stop = True
    await supervisor.stop()
    assert play.story[2:] == ["stop b", "cancelled b", "stop a"]
    assert "b does not stop" in caplog.text


async def test_stopping_twice_at_once_returns_when_all_is_gone() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a"), play.child("b")], clock=clock)
    await supervisor.start()
    play.alive("b").hang_in_stop = True
    tasks = Tasks("test")
    first = tasks.spawn(supervisor.stop(), name="first")
    await asyncio.sleep(0)
    second = tasks.spawn(supervisor.stop(), name="second")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    play.alive("b").hang_in_stop = False
    first.cancel()  # the second goes on where it was
    await second
    assert play.story[2:] == ["stop b", "cancelled b", "stop b", "stop a"]


async def test_a_stop_during_a_restart_leaves_nothing() -> None:
    play, clock = Play(), VirtualClock()
    supervisor = Supervisor("s", [play.child("a")], clock=clock)
    await supervisor.start()
    play.alive("a").end.set_exception(ValueError("oh"))
    await clock.settle()
    await supervisor.stop()
    await clock.run_for(10.0)
    assert play.story == ["start a", "stop a", "stop a"]
