"""A node that is cut off on purpose, and one that stands still."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.errors import Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from node_agent.partition import Partition, _CutCalls
from node_agent.process_tree import stat_of
from node_agent.standstill import stand_still
from tests.kit.clock import VirtualClock


async def test_what_is_under_way_breaks_off_and_what_comes_fails() -> None:
    clock = VirtualClock()
    partition = Partition(clock)

    async def answer(text: str) -> str:
        return text

    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    assert await partition.passing(lambda: answer("before")) == "before"
    waiting = asyncio.ensure_future(partition.passing(never))
    await asyncio.sleep(0)
    partition.begin(10.0)
    with pytest.raises(Unavailable, match="cut off on purpose"):
        await waiting
    with pytest.raises(Unavailable):
        await partition.passing(lambda: answer("meanwhile"))
    partition.begin(1.0)
    assert partition.is_on
    clock.advance(9.0)
    assert partition.is_on, "the one that lasts longer goes on"
    clock.advance(1.5)
    assert await partition.passing(lambda: answer("after")) == "after"


async def test_time_outs_and_cancellations_of_others_are_theirs() -> None:
    partition = Partition(SystemClock())

    async def late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await partition.passing(late)
    task = asyncio.ensure_future(partition.passing(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class _Calls:
    """Watches that never say anything, and heartbeats that arrive."""

    beats = 0

    @asynccontextmanager
    async def watch(self, request: wire.WatchRequest) -> AsyncIterator[_Calls]:
        yield self

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[_Calls]:
        yield self

    async def next(self) -> None:
        await asyncio.Event().wait()

    async def beat(self, heartbeats: object, *, timeout_s: float) -> list[str]:
        self.beats += 1
        return []


async def test_watches_end_and_heartbeats_do_not_arrive() -> None:
    inner, partition = _Calls(), Partition(VirtualClock())
    calls = _CutCalls(inner, partition)  # type: ignore[arg-type]
    async with calls.watch(wire.WatchRequest()) as answers, calls.heartbeats() as line:
        assert await line.beat([]) == []
        reading = asyncio.ensure_future(answers.next())
        await asyncio.sleep(0)
        partition.begin(5.0)
        with pytest.raises(Unavailable):
            await reading
        with pytest.raises(Unavailable):
            await line.beat([])
    assert inner.beats == 1
    with pytest.raises(Unavailable):
        async with calls.watch(wire.WatchRequest()):
            pass


_SLEEPER = "import time\ntime.sleep(60)"
_AGENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from node_agent.standstill import stand_still
pods = [int(pid) for pid in sys.argv[3:]]
print("stands", flush=True)
stand_still(float(sys.argv[2]), lambda: pods)
print("awake", flush=True)
time.sleep(60)
"""


def _state(pid: int) -> str:
    stat = stat_of(pid)
    return "" if stat is None else stat[0]


def _until(states: dict[int, str]) -> None:
    deadline = time.monotonic() + 20
    while any(_state(pid) not in state for pid, state in states.items()):
        assert time.monotonic() < deadline, {pid: _state(pid) for pid in states}
        time.sleep(0.01)


def _start(*seconds: str) -> tuple[subprocess.Popen[str], subprocess.Popen[bytes]]:
    pod = subprocess.Popen([sys.executable, "-S", "-c", _SLEEPER])
    root = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["node_agent"].__file__ or "")))
    command = [sys.executable, "-S", "-c", _AGENT, root, *seconds, str(pod.pid)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True), pod


def _end(*processes: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_it_stands_still_and_wakes_up_by_itself() -> None:
    agent, pod = _start("1.5")
    _until({agent.pid: "T", pod.pid: "T"})
    _until({agent.pid: "SR", pod.pid: "SR"})
    assert agent.stdout is not None
    assert [agent.stdout.readline(), agent.stdout.readline()] == ["stands\n", "awake\n"]
    _end(agent, pod)


def test_if_the_agent_is_killed_meanwhile_the_pods_wake_up() -> None:
    agent, pod = _start("60")
    _until({agent.pid: "T", pod.pid: "T"})
    agent.send_signal(signal.SIGKILL)
    _until({pod.pid: "SR"})
    _end(agent, pod)


def test_with_nobody_to_wake_it_nothing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = subprocess.Popen([sys.executable, "-S", "-c", _SLEEPER])
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(OSError, match="nonexistent"):
        stand_still(60, lambda: [pod.pid])
    assert _state(pod.pid) in "SR"
    _end(pod)
