"""Actors: one message at a time, an answer for everyone who asks, nothing left when they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster.actor.actor import Actor, ActorStopped, AskTimeout
from cluster.actor.mailbox import Full, MailboxFull
from cluster.actor.tasks import Tasks


class Clerk(Actor[str]):
    """Notes what it is told; "wait" takes until the gate opens, "fail" raises, "stop" stops itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__("clerk", **options)
        self.notes: list[str] = []
        self.gate = asyncio.Event()
        self.in_work = asyncio.Event()

    async def on_start(self) -> None:
        self.notes.append("start")

    async def on_stop(self) -> None:
        self.notes.append("stop")

    async def receive(self, message: str) -> str:
        self.in_work.set()
        if message.startswith("wait"):
            await self.gate.wait()
        if message.startswith("fail"):
            raise ValueError(message)
        if message.startswith("late"):
            raise TimeoutError(message)
        if message == "stop":
            await self.stop()
        self.notes.append(message)
        return message.upper()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def clerk() -> AsyncIterator[Clerk]:
    clerk = Clerk()
    await clerk.start()
    yield clerk
    clerk.gate.set()
    await clerk.stop()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test", on_crash=lambda task, error: None)
    yield tasks
    await tasks.cancel_all()


async def test_told_and_asked_in_order(clerk: Clerk) -> None:
    await clerk.ref.tell("a")
    assert clerk.ref.offer("b")
    assert await clerk.ref.ask("c", 5.0) == "C"
    assert clerk.notes == ["start", "a", "b", "c"]


async def test_one_message_at_a_time(clerk: Clerk, tasks: Tasks) -> None:
    slow = tasks.spawn(clerk.ref.ask("wait", 5.0), name="slow")
    quick = tasks.spawn(clerk.ref.ask("quick", 5.0), name="quick")
    await turns()
    assert not quick.done()
    clerk.gate.set()
    assert [await slow, await quick] == ["WAIT", "QUICK"]
    assert clerk.notes == ["start", "wait", "quick"]


async def test_an_asker_gets_the_error_and_the_actor_lives_on(clerk: Clerk) -> None:
    with pytest.raises(ValueError, match="fail"):
        await clerk.ref.ask("fail", 5.0)
    with pytest.raises(TimeoutError, match="late") as caught:
        await clerk.ref.ask("late", 5.0)
    assert not isinstance(caught.value, AskTimeout)
    assert await clerk.ref.ask("a", 5.0) == "A"


async def test_an_error_that_nobody_asked_for_kills_the_actor() -> None:
    clerk = Clerk()
    await clerk.start()
    await clerk.ref.tell("fail")
    with pytest.raises(ValueError, match="fail"):
        await clerk.run()
    assert clerk.notes == ["start", "stop"]
    with pytest.raises(ActorStopped):
        await clerk.ref.tell("a")
    with pytest.raises(ActorStopped):
        await clerk.ref.ask("a", 5.0)
    await clerk.stop()


async def test_who_waits_is_answered_when_the_actor_dies(tasks: Tasks) -> None:
    clerk = Clerk()
    await clerk.start()
    await clerk.ref.tell("wait and fail")
    await clerk.ref.tell("fail")
    asking = [tasks.spawn(clerk.ref.ask(name, 60.0), name=name) for name in ("a", "b")]
    await turns()
    clerk.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [ActorStopped, ActorStopped]


async def test_a_question_has_a_deadline_and_is_not_handled_for_nobody(clerk: Clerk) -> None:
    await clerk.ref.tell("wait")
    with pytest.raises(AskTimeout, match="clerk"):
        await clerk.ref.ask("too late", 0.001)
    clerk.gate.set()
    assert await clerk.ref.ask("next", 5.0) == "NEXT"
    assert clerk.notes == ["start", "wait", "next"]


async def test_the_deadline_includes_the_wait_for_room(tasks: Tasks) -> None:
    clerk = Clerk(limit=1)
    await clerk.start()
    await clerk.ref.tell("wait")
    await turns()
    await clerk.ref.tell("fills the mailbox")
    with pytest.raises(AskTimeout):
        await clerk.ref.ask("no room", 0.001)
    assert clerk.ref.offer("no room") is False
    clerk.gate.set()
    await clerk.stop()
    assert clerk.notes == ["start", "wait", "fills the mailbox", "stop"]


async def test_a_mailbox_that_refuses() -> None:
    clerk = Clerk(limit=1, full=Full.REFUSE)
    await clerk.start()
    await clerk.ref.tell("wait")
    await turns()
    await clerk.ref.tell("waits")
    with pytest.raises(MailboxFull):
        await clerk.ref.tell("too much")
    with pytest.raises(MailboxFull):
        await clerk.ref.ask("too much", 5.0)
    clerk.gate.set()
    await clerk.stop()


async def test_coalescing_spares_questions(tasks: Tasks) -> None:
    key: Callable[[str], str] = lambda message: message[0]  # noqa: E731
    clerk = Clerk(full=Full.COALESCE, key=key)
    await clerk.start()
    await clerk.ref.tell("wait")
    await turns()
    await clerk.ref.tell("a1")
    asking = tasks.spawn(clerk.ref.ask("a2", 5.0), name="ask")
    await turns()
    await clerk.ref.tell("a3")
    clerk.gate.set()
    assert await asking == "A2"
    await clerk.stop()
    assert clerk.notes == ["start", "wait", "a3", "a2", "stop"]


async def test_stopping_handles_what_waits_and_may_be_done_twice(clerk: Clerk, tasks: Tasks) -> None:
    await clerk.ref.tell("wait")
    await clerk.ref.tell("a")
    stopping = [tasks.spawn(clerk.stop(), name=str(number)) for number in range(2)]
    await turns()
    with pytest.raises(ActorStopped):
        await clerk.ref.tell("b")
    clerk.gate.set()
    await asyncio.gather(*stopping)
    assert clerk.notes == ["start", "wait", "a", "stop"]
    await clerk.run()
    await clerk.stop()


async def test_an_actor_may_stop_itself(clerk: Clerk) -> None:
    await clerk.ref.tell("stop")
    await clerk.ref.tell("a")
    await clerk.run()
    assert clerk.notes == ["start", "stop", "a", "stop"]


async def test_a_message_that_hangs_is_cancelled_after_the_deadline(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    clerk = Clerk()
    await clerk.start()
    hanging = tasks.spawn(clerk.ref.ask("wait", 60.0), name="hanging")
    waiting = tasks.spawn(clerk.ref.ask("a", 60.0), name="waiting")
    await turns()
    await clerk.stop(timeout_s=0.01)
    results = await asyncio.gather(hanging, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ActorStopped, ActorStopped]
    assert clerk.notes == ["start", "stop"]
    assert "clerk does not finish" in caplog.text
    with pytest.raises(ActorStopped):
        await clerk.run()


async def test_a_stop_that_is_cancelled_ends_the_actor_all_the_same(tasks: Tasks) -> None:
    clerk = Clerk()
    await clerk.start()
    await clerk.ref.tell("wait")
    stopping = tasks.spawn(clerk.stop(60.0), name="stop")
    await turns()
    stopping.cancel()
    with pytest.raises(ActorStopped):
        await clerk.run()
    assert clerk.notes == ["start", "stop"]


async def test_its_tasks_end_with_it(clerk: Clerk) -> None:
    task = clerk.spawn(asyncio.Event().wait(), name="side")
    assert task.get_name() == "clerk: side"
    await clerk.stop()
    assert task.cancelled()
    assert len(clerk.tasks) == 0


async def test_a_start_that_fails_leaves_nothing() -> None:
    class Broken(Clerk):
        async def on_start(self) -> None:
            self.spawn(asyncio.Event().wait(), name="side")
            raise OSError("no disk")

    clerk = Broken()
    assert clerk.ref.offer("a"), "a reference may be used before the start"
    with pytest.raises(OSError, match="no disk"):
        await clerk.start()
    assert (clerk.notes, len(clerk.tasks)) == (["stop"], 0)
    with pytest.raises(ActorStopped):
        await clerk.ref.tell("b")


async def test_an_actor_that_was_stopped_before_its_start_answers(tasks: Tasks) -> None:
    clerk = Clerk()
    asking = tasks.spawn(clerk.ref.ask("a", 60.0), name="ask")
    await turns()
    await clerk.stop()
    with pytest.raises(ActorStopped):
        await asking
    with pytest.raises(ActorStopped):
        await clerk.start()


async def test_an_actor_lives_once(clerk: Clerk) -> None:
    with pytest.raises(RuntimeError):
        await clerk.start()
