"""Looks after connections now and then, so that none of them needs a timer of its own.

Twice a second: those of services with time-outs, whether anything has moved since. Every 15 seconds: those that have
lasted, which now get the probes that find out about peers that vanished; most connections are over before that, and
never pay for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from proxy.connection import Connection
from proxy.datapath import DataPath
from proxy.frontend import Frontend

TURN_S = 0.5
"""How exact time-outs are."""
_LASTING_TURNS = 30


class Sweeper:
    """Works from the beginning until `stop`."""

    def __init__(self, path: DataPath, frontends: Callable[[], Iterable[Frontend]]) -> None:
        self._path = path
        self._frontends = frontends
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = path.poller.call_later(TURN_S, self._sweep)

    def stop(self) -> None:
        """No more turns. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = self._path.poller.call_later(TURN_S, self._sweep)
        self._turn += 1
        now = self._path.clock.monotonic()
        for frontend in self._frontends():
            if frontend.timed and frontend.route.timeouts.watched:
                cut_overdue(frontend, now)
        if self._turn % _LASTING_TURNS == 0:
            for member in self._path:
                if isinstance(member, Connection) and not member.is_lasting:
                    member.tune_to_last()


def cut_overdue(frontend: Frontend, now: float) -> None:
    """Ends the connections that have been silent for too long."""
    for connection in list(frontend.timed or ()):
        reason = connection.overdue(now)
        if reason:
            if reason == "idle":
                frontend.stats.timed_out_idle += 1
            else:
                frontend.stats.timed_out_first_byte += 1
            connection.cut(reason)
