"""Runs a coroutine on an event loop in which time passes when everybody waits.

asyncio tells nobody that all its tasks wait, but for its selector: of that it asks to wait for something to happen. So
the loop is the ordinary one, and its selector is this one, which never waits. It calls `on_idle`, which lets virtual
time pass to the next sleeper (`clock.py`); then there is something to do again. Exactly so much happens at each moment
of virtual time as can happen without more time passing, however fast the machine is.

Nothing here may wait for the world outside (a socket, a thread): that would be overtaken by time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


def run_idle(main: Coroutine[Any, Any, R], on_idle: Callable[[], None], on_turn: Callable[[], None]) -> R:
    """What `main` returns or raises. `on_turn` is called at each turn of the loop, `on_idle` at those at which every
    task waits; what they raise ends the run and is raised. Raises RuntimeError where an event loop runs already."""
    if _loop_runs():
        main.close()
        raise RuntimeError("a simulation has an event loop of its own: call it from a coroutine by asyncio.to_thread")
    selector = _Restless(on_idle, on_turn)

    async def until_over() -> R:
        try:
            return await main
        finally:
            selector.rest()

    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            return runner.run(until_over())
    finally:
        main.close()  # if it never began


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Restless(selectors.DefaultSelector):
    """See the head of this file."""

    def __init__(self, on_idle: Callable[[], None], on_turn: Callable[[], None]) -> None:
        super().__init__()
        self._on_idle = on_idle
        self._on_turn = on_turn
        self._resting = False

    def rest(self) -> None:
        """From now on it is a selector like others: what is left over is tidied up in ordinary time."""
        self._resting = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now: a signal, at most. Never waits."""
        if self._resting:
            return super().select(timeout)
        ready = super().select(0)
        try:
            self._on_turn()
            if not ready and (timeout is None or timeout > 0):
                self._on_idle()
        except BaseException:
            self.rest()
            raise
        return ready
