"""Giving up on a reader that takes nothing, at the cost of no timer for each write.

    patience = Patience(30.0, give_up)
    patience.begin(); await write(...); patience.over()      for each write
    patience.close()

A timer for each write would cost a good part of what a small write costs. So there is at most one, and it is looked at
only when it has run out: whether the write of that moment has had its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Patience:
    """With one stream; see above."""

    __slots__ = ("_give_up", "_limit_s", "_loop", "_since_s", "_timer")

    def __init__(self, limit_s: float, give_up: Callable[[], None]) -> None:
        """`give_up` is called, once, when a write has waited for so long."""
        self._limit_s, self._give_up = limit_s, give_up
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        """Since when a write waits; None: none does."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A write begins."""
        self._since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since_s + self._limit_s, self._look)

    def over(self) -> None:
        """It is over."""
        self._since_s = None

    def close(self) -> None:
        """There is nothing more to write. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since_s is None:
            return
        due_s = self._since_s + self._limit_s
        if self._loop.time() < due_s:
            self._timer = self._loop.call_at(due_s, self._look)
        else:
            self._give_up()
