"""The promises of the work queue, each as a conversation."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client.workqueue import QueueClosed, WorkQueue
from tests.kit.clock import VirtualClock


def drain(queue: WorkQueue[str]) -> list[str]:
    found = []
    while len(queue):
        found.append(_step(queue))
    return found


def _step(queue: WorkQueue[str]) -> str:
    """The next key, which is there."""
    getting = queue.get()
    with pytest.raises(StopIteration) as result:
        getting.send(None)
    key: str = result.value.value
    return key


async def test_a_key_waits_once_and_in_order() -> None:
    queue = WorkQueue[str](clock=VirtualClock())
    for key in ("a", "b", "a", "c", "b"):
        assert queue.add(key)
    assert drain(queue) == ["a", "b", "c"]
    await queue.close()


async def test_a_key_is_never_with_two_workers_and_comes_again_if_it_changed_meanwhile() -> None:
    queue = WorkQueue[str](clock=VirtualClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.is_idle
    await queue.close()


async def test_a_waiting_worker_gets_the_next_key() -> None:
    queue, clock = WorkQueue[str](clock=VirtualClock()), VirtualClock()
    workers = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await clock.settle()
    for key in ("a", "b", "c"):
        queue.add(key)
    assert await asyncio.gather(*workers) == ["a", "b", "c"]
    await queue.close()


async def test_a_worker_cancelled_at_the_moment_of_waking_loses_no_key() -> None:
    queue, clock = WorkQueue[str](clock=VirtualClock()), VirtualClock()
    first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
    await clock.settle()
    queue.add("a")
    first.cancel()
    assert await second == "a"
    assert first.cancelled() or isinstance(await _outcome(first), asyncio.CancelledError)
    await queue.close()


async def _outcome(task: asyncio.Future[str]) -> object:
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def test_delays_end_in_their_order_and_the_earliest_of_a_key_counts() -> None:
    clock = VirtualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("late", 10.0)
    queue.add_after("a", 5.0)
    queue.add_after("a", 2.0)
    queue.add_after("a", 7.0)
    queue.add_after("b", 3.0)
    queue.add_after("now", 0.0)
    assert drain(queue) == ["now"]
    await clock.run_for(1.9)
    assert len(queue) == 0
    await clock.run_for(0.2)
    assert drain(queue) == ["a"]
    await clock.run_for(1.0)
    assert drain(queue) == ["b"]
    await clock.run_for(6.0)
    assert len(queue) == 0
    for key in ("now", "a", "b"):
        queue.done(key)
    assert not queue.is_idle
    await clock.run_for(2.0)
    assert drain(queue) == ["late"]
    await queue.close()


async def test_rate_limited_delays_double_until_forgotten() -> None:
    clock = VirtualClock()
    queue = WorkQueue[str](clock=clock, retry_initial_s=0.5, retry_max_s=3.0)
    delays = []
    for _ in range(5):
        delays.append(queue.add_rate_limited("a"))
        await clock.run_for(delays[-1])
        assert drain(queue) == ["a"]
        queue.done("a")
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert queue.failures("a") == 5
    queue.forget("a")
    assert queue.add_rate_limited("a") == 0.5
    await queue.close()


async def test_a_thousand_failures_do_not_overflow() -> None:
    queue = WorkQueue[str](clock=VirtualClock(), rng=random.Random(1))
    for _ in range(2000):
        assert queue.add_rate_limited("a") <= 60.0
    await queue.close()


async def test_closing_ends_every_wait_and_the_timer() -> None:
    clock = VirtualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("a", 5.0)
    worker = asyncio.ensure_future(queue.get())
    await clock.settle()
    await queue.close()
    await queue.close()
    with pytest.raises(QueueClosed):
        await worker
    with pytest.raises(QueueClosed):
        await queue.get()
    assert not queue.add("a")


async def test_a_full_queue_refuses_and_asks_for_everything_when_it_has_run_empty() -> None:
    asked = []

    def resync() -> None:
        asked.append(1)
        for key in ("a", "b", "c")[len(asked) - 1 :]:
            queue.add(key)

    queue = WorkQueue[str](limit=2, resync=resync, clock=VirtualClock())
    assert [queue.add(key) for key in ("a", "b", "c", "b")] == [True, True, False, True]
    assert queue.refused == 1
    for expected in ("a", "b", "a", "b", "b", "c"):
        key = await queue.get()
        assert key == expected
        queue.done(key)
    assert len(asked) == 2
    await queue.close()


async def test_the_last_worker_that_finishes_wakes_one_that_waits_for_the_resync() -> None:
    def resync() -> None:
        queue.add("again")

    queue = WorkQueue[str](limit=1, resync=resync, clock=VirtualClock())
    queue.add("a")
    assert not queue.add("b")
    assert await queue.get() == "a"
    waiting = asyncio.ensure_future(queue.get())
    await VirtualClock().settle()
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "again"
    await queue.close()


@given(steps=st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.sampled_from("abc")), max_size=40))
def test_no_key_is_lost_or_worked_on_twice(steps: list[tuple[str, str]]) -> None:
    queue, working, wanted = WorkQueue[str](clock=VirtualClock()), set[str](), set[str]()
    for step, key in steps:
        if step == "add":
            queue.add(key)
            wanted.add(key)
        elif step == "done" and key in working:
            queue.done(key)
            working.discard(key)
        elif step == "get" and len(queue):
            found = _step(queue)
            assert found not in working
            assert found in wanted
            working.add(found)
            wanted.discard(found)
        assert len(queue) == len(wanted - working)
