"""Looking at files that may never answer: those of a network whose server has gone.

A system call on such a file ends when the server is back, and not before. So it is made in a thread of its own, which
is left behind when it takes too long. What hangs already is not asked again: there is one thread for each thing that
hangs, and the daemon's end does not wait for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Patience:
    """Calls that may hang."""

    def __init__(self, limit_s: float = 10.0) -> None:
        self._limit_s = limit_s
        self._hanging: set[str] = set()

    async def call(self, name: str, body: Callable[[], Result]) -> Result:
        """The result of `body`, which runs in a thread of its own. Raises TimeoutError if there is none in time, and at
        once as long as an earlier one of that name hangs; and whatever `body` raises."""
        if name in self._hanging:
            raise TimeoutError(name)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            self._hanging.discard(name)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, error = None, None
            try:
                result = body()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._hanging.add(name)
        threading.Thread(target=run, name=name, daemon=True).start()
        async with asyncio.timeout(self._limit_s):
            return await future
