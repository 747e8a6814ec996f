"""The mailbox against a model, and what happens when it is full, closed, or its users give up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.actor.mailbox import Full, Mailbox, MailboxClosed, MailboxFull
from cluster.actor.tasks import Tasks


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def first_letter(text: str) -> str:
    return text[0]


async def test_messages_come_in_order() -> None:
    box: Mailbox[int] = Mailbox(3)
    for number in (1, 2, 3):
        await box.put(number)
    assert (len(box), box.is_full, box.offer(4)) == (3, True, False)
    assert await box.get() == 1
    assert await box.get_batch(10) == [2, 3]


async def test_wait_holds_the_sender_back_until_there_is_room() -> None:
    box: Mailbox[int] = Mailbox(1)
    tasks = Tasks("test")
    await box.put(1)
    putting = [tasks.spawn(box.put(number), name=str(number)) for number in (2, 3)]
    await turns()
    assert not any(task.done() for task in putting)
    assert [await box.get() for _ in range(3)] == [1, 2, 3]
    await asyncio.gather(*putting)


async def test_who_is_overtaken_on_waking_up_keeps_its_place() -> None:
    box: Mailbox[str] = Mailbox(1)
    tasks = Tasks("test")
    await box.put("first")
    putting = [tasks.spawn(box.put(name), name=name) for name in ("second", "third")]
    await turns()
    assert await box.get() == "first"
    assert box.offer("quick"), "there is room, and the one that waits has not woken up yet"
    await turns()
    assert [await box.get() for _ in range(3)] == ["quick", "second", "third"]
    await asyncio.gather(*putting)


async def test_refuse_says_so_at_once() -> None:
    box: Mailbox[int] = Mailbox(1, Full.REFUSE)
    await box.put(1)
    with pytest.raises(MailboxFull):
        await box.put(2)
    assert box.offer(2) is False
    assert await box.get_batch(5) == [1]


async def test_coalesce_replaces_in_place_and_makes_new_keys_wait() -> None:
    box: Mailbox[str] = Mailbox(2, Full.COALESCE, first_letter)
    tasks = Tasks("test")
    for message in ("a1", "b1", "a2"):
        await box.put(message)
    assert box.offer("c1") is False
    waiting = tasks.spawn(box.put("c1"), name="c1")
    await turns()
    assert not waiting.done()
    assert await box.get() == "a2"
    await waiting
    assert await box.get_batch(5) == ["b1", "c1"]


async def test_a_message_that_was_taken_out_is_not_replaced_any_more() -> None:
    box: Mailbox[str] = Mailbox(2, Full.COALESCE, first_letter)
    await box.put("a1")
    assert await box.get() == "a1"
    await box.put("a2")
    assert await box.get() == "a2"


async def test_closing_wakes_everyone_and_lets_the_rest_be_read() -> None:
    box: Mailbox[int] = Mailbox(1)
    tasks = Tasks("test")
    await box.put(1)
    putting = tasks.spawn(box.put(2), name="put")
    await turns()
    box.close()
    box.close()
    with pytest.raises(MailboxClosed):
        await putting
    with pytest.raises(MailboxClosed):
        box.offer(3)
    assert await box.get() == 1
    with pytest.raises(MailboxClosed):
        await box.get()


async def test_closing_wakes_readers() -> None:
    box: Mailbox[int] = Mailbox(1)
    tasks = Tasks("test", on_crash=lambda task, error: None)
    readers = [tasks.spawn(box.get(), name=str(number)) for number in range(2)]
    await turns()
    box.close()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(result) for result in results] == [MailboxClosed, MailboxClosed]


async def test_a_sender_that_gives_up_leaves_no_message() -> None:
    box: Mailbox[int] = Mailbox(1)
    tasks = Tasks("test")
    await box.put(1)
    putting = tasks.spawn(box.put(2), name="put")
    await turns()
    putting.cancel()
    await asyncio.wait([putting])
    assert await box.get() == 1
    assert len(box) == 0


@pytest.mark.parametrize("also_ready", [False, True])
async def test_a_reader_that_gives_up_loses_no_message(also_ready: bool) -> None:
    box: Mailbox[int] = Mailbox(2)
    tasks = Tasks("test")
    first, second = (tasks.spawn(box.get(), name=name) for name in ("first", "second"))
    await turns()
    if also_ready:
        assert box.offer(1)  # wakes the first reader ...
    first.cancel()  # ... which is cancelled before it runs
    await asyncio.wait([first])
    if not also_ready:
        assert box.offer(1)
    assert await second == 1


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"limit": 1, "full": Full.COALESCE}, {"limit": 1, "key": first_letter}]
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Mailbox(**arguments)


@settings(max_examples=60)
@given(
    full=st.sampled_from(Full),
    limit=st.integers(1, 4),
    steps=st.lists(st.one_of(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), st.integers(1, 3)), max_size=30),
)
def test_it_behaves_like_a_list(full: Full, limit: int, steps: list[tuple[str, int] | int]) -> None:
    """Offers and batches, against the obvious model: a list that is searched."""

    async def play() -> None:
        box: Mailbox[tuple[str, int]] = Mailbox(limit, full, (lambda m: m[0]) if full is Full.COALESCE else None)
        model: list[tuple[str, int]] = []
        for step in steps:
            if isinstance(step, int):
                if model:
                    assert await box.get_batch(step) == model[:step]
                    del model[:step]
                continue
            same = [place for place, message in enumerate(model) if message[0] == step[0]]
            if full is Full.COALESCE and same:
                model[same[0]] = step
                expected = True
            else:
                expected = len(model) < limit
                model += [step] if expected else []
            assert box.offer(step) is expected
            assert len(box) == len(model)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(play())
