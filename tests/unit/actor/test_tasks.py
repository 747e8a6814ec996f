"""Tasks: named, owned, never lost, never silent."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from cluster.actor.tasks import Tasks


async def fail() -> None:
    raise ValueError("no")


async def test_a_task_has_the_name_of_its_owner_and_is_forgotten_when_it_ends() -> None:
    tasks = Tasks("shop")
    gate = asyncio.Event()
    task = tasks.spawn(gate.wait(), name="door")
    assert (task.get_name(), len(tasks)) == ("shop: door", 1)
    gate.set()
    assert await task is True
    assert len(tasks) == 0


async def test_a_crash_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("shop")
    with pytest.raises(ValueError, match="no"):
        await tasks.spawn(fail(), name="till")
    assert "shop: till" in caplog.text
    assert "ValueError: no" in caplog.text


async def test_a_crash_is_handed_to_the_owner_instead(caplog: pytest.LogCaptureFixture) -> None:
    crashes: list[tuple[str, str]] = []

    def on_crash(task: asyncio.Task[Any], error: BaseException) -> None:
        crashes.append((task.get_name(), repr(error)))

    tasks = Tasks("shop", on_crash=on_crash)
    await asyncio.wait([tasks.spawn(fail(), name="till")])
    assert crashes == [("shop: till", "ValueError('no')")]
    assert not caplog.records


async def test_a_cancelled_task_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("shop")
    tasks.spawn(asyncio.Event().wait(), name="door")
    await tasks.cancel_all()
    assert len(tasks) == 0
    assert not caplog.records


async def test_a_task_that_is_started_while_another_tidies_up_ends_too() -> None:
    tasks = Tasks("shop")

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.spawn(asyncio.Event().wait(), name="late")

    tasks.spawn(tidy(), name="first")
    await asyncio.sleep(0)
    await tasks.cancel_all()
    assert len(tasks) == 0


async def test_a_task_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("shop")
    gate = asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                pass

    task = tasks.spawn(stubborn(), name="mule")
    await asyncio.sleep(0)
    await tasks.cancel_all(timeout_s=0.01)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "shop: mule" in caplog.text
    gate.set()
    await asyncio.wait([task])


async def test_a_task_can_end_its_siblings() -> None:
    tasks = Tasks("shop")

    async def close() -> str:
        await tasks.cancel_all()
        return "closed"

    other = tasks.spawn(asyncio.Event().wait(), name="door")
    assert await tasks.spawn(close(), name="closing") == "closed"
    assert other.cancelled()
