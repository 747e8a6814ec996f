"""Calls that may hang, with real threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from node_agent.patience import Patience


async def test_results_and_errors_come_back() -> None:
    patience = Patience()
    assert await patience.call("x", lambda: 7) == 7

    def fail() -> int:
        raise FileNotFoundError("nothing there")

    with pytest.raises(FileNotFoundError, match="nothing there"):
        await patience.call("x", fail)
    assert await patience.call("x", lambda: 8) == 8


async def test_what_hangs_is_left_behind_and_not_asked_again_until_it_answers() -> None:
    patience, answered, asked = Patience(limit_s=0.05), threading.Event(), []

    def hang() -> str:
        asked.append("once")
        answered.wait()
        return "late"

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await patience.call("x", hang)
    assert asked == ["once"]
    assert await patience.call("y", lambda: "others do") == "others do"
    answered.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await patience.call("x", lambda: "again") == "again"
                break
            except TimeoutError:
                await asyncio.sleep(0.005)


async def test_whoever_is_not_waiting_any_more_does_not_matter() -> None:
    patience, answered = Patience(), threading.Event()
    call = asyncio.ensure_future(patience.call("x", answered.wait))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    answered.set()
