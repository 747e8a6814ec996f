"""The only place where tasks are made: each has a name and an owner, and a crash is never silent.

`asyncio.create_task` returns a task that nobody need look at: its exception shows up when it is garbage collected, or
never, and on shutdown nobody knows what still runs. So an owner holds its tasks here; `cancel_all` ends them and waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")
_log = logging.getLogger("podium.tasks")

OnCrash = Callable[["asyncio.Task[Any]", BaseException], None]


class Tasks:
    """The tasks of one owner."""

    def __init__(self, owner: str, *, on_crash: OnCrash | None = None) -> None:
        self._owner = owner
        self._on_crash = on_crash
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, R], *, name: str) -> asyncio.Task[R]:
        """Starts a task. If it raises, that is logged and handed to `on_crash`; awaiting it raises as usual."""
        task = asyncio.create_task(coro, name=f"{self._owner}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if self._on_crash is not None:
            self._on_crash(task, error)
        else:
            _log.error("task crashed: %s", task.get_name(), exc_info=error)

    async def cancel_all(self, timeout_s: float = 5.0) -> None:
        """Cancels every task and returns when all have ended, but for the one that calls this.

        A task that one of them starts while it tidies up is cancelled too. One that does not end within `timeout_s` is
        named in the log and left behind.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        told: set[asyncio.Task[Any]] = set()
        while running := {task for task in self._tasks if task is not asyncio.current_task() and not task.done()}:
            for task in running - told:
                task.cancel()
            told |= running
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                for task in running:
                    _log.error("task does not end %.1f s after its cancellation: %s", timeout_s, task.get_name())
                return
            await asyncio.wait(running, timeout=left_s)
