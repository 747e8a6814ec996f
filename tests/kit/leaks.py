"""What a test leaves behind: descriptors, child processes, asyncio tasks.

    @pytest.mark.usefixtures("no_leaks")        a test, or with `pytestmark` a whole file
    async with leak_check(): ...                a part of a test
    with leak_check_of_processes(): ...         the same without a running event loop: no tasks are looked at

Things end a little after the call that ends them: a child is reaped, a transport closes in the next turn of the loop.
So what is there at the end and was not at the beginning gets until `settle_s` to go; what is still there then is named.
It is a state that is waited for, not a time: a clean test never waits.

Left out, because they belong to the process and not to a test: what Python and gRPC open once and keep (the epoll set
and the event descriptors of gRPC's poller), and tasks of pytest-asyncio itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

SETTLE_S = 20.0
_PAUSE_S = 0.01
_KEPT_FOR_EVER = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/dev/urandom", "/dev/random", "/dev/null")


class Leak(AssertionError):
    """Something was left behind; the message names it."""


@dataclass(frozen=True)
class Snapshot:
    """What there is at a moment. Descriptors are told apart by number and target, processes by pid and start time."""

    descriptors: frozenset[tuple[int, str]] = frozenset()
    processes: frozenset[tuple[int, float, str]] = frozenset()
    tasks: frozenset[asyncio.Task[Any]] = field(default_factory=frozenset)

    def since(self, before: Snapshot) -> list[str]:
        """What is here and was not there, in words."""
        descriptors = (f"descriptor {fd} -> {target}" for fd, target in sorted(self.descriptors - before.descriptors))
        processes = (f"process {pid}: {title}" for pid, _, title in sorted(self.processes - before.processes))
        tasks = (f"task {task.get_name()}: {task.get_coro()}" for task in self.tasks - before.tasks if not task.done())
        return [*descriptors, *processes, *sorted(tasks)]


def look() -> Snapshot:
    """What there is now; tasks only when called inside a running loop, and not the calling one."""
    try:
        tasks = frozenset(asyncio.all_tasks() - {asyncio.current_task()})
    except RuntimeError:
        tasks = frozenset()
    return Snapshot(frozenset(_descriptors()), frozenset(_processes()), frozenset(task for task in tasks if task))


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the directory
        if target not in _KEPT_FOR_EVER:
            yield int(name), target


def _processes() -> Iterator[tuple[int, float, str]]:
    """All descendants. A zombie counts: somebody has forgotten to wait for it."""
    for process in psutil.Process().children(recursive=True):
        try:
            started = process.create_time()
        except psutil.NoSuchProcess:
            continue
        try:
            words = " ".join(process.cmdline()) or f"[{process.name()}]"
        except psutil.ZombieProcess:
            words = "[zombie]"
        except psutil.NoSuchProcess:
            continue
        yield process.pid, started, words[:200]


def _left(before: Snapshot) -> list[str]:
    # The words of a process change when it executes a program, and it is the same one: only pid and start time tell.
    known = {(pid, started) for pid, started, _ in before.processes}
    now = look()
    processes = frozenset(process for process in now.processes if process[:2] not in known)
    return Snapshot(now.descriptors, processes | before.processes, now.tasks).since(before)


@contextmanager
def leak_check_of_processes(settle_s: float = SETTLE_S) -> Iterator[None]:
    """Descriptors and processes that are there after the block and were not before: Leak. If the block raises, its
    error goes out and nothing is looked at."""
    before = look()
    yield
    deadline = time.monotonic() + settle_s
    while left := _left(before):
        if time.monotonic() > deadline:
            raise Leak("left behind:\n  " + "\n  ".join(left))
        time.sleep(_PAUSE_S)


@asynccontextmanager
async def leak_check(settle_s: float = SETTLE_S) -> AsyncIterator[None]:
    """The same with tasks, which get their turns while it waits."""
    before = look()
    yield
    deadline = time.monotonic() + settle_s
    while left := _left(before):
        if time.monotonic() > deadline:
            raise Leak("left behind:\n  " + "\n  ".join(left))
        await asyncio.sleep(_PAUSE_S)


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """Fails a test that leaves something behind. Ask for it before other fixtures: it looks after they have ended."""
    async with leak_check():
        yield
