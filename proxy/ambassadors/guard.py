"""Keeps a policy's faults away from the proxy: calls it, interrupts it, and counts what it gets wrong.

A policy is code of somebody else in the loop that carries everybody's connections. Three things can go wrong with a
call, and each has its end here: it raises, it answers nonsense, or it does not come back. The last is ended by a
signal: the alarm is set before the call and taken back after it, and its handler, which runs between two steps of the
interpreter, raises within the call. (A call into C that never returns cannot be ended that way.)

A policy has not taken the time in which its thread was ready to run and other processes had the processor. On a busy
machine that is most of the time, and policies would be cut out that do nothing wrong. So a call is measured by how long
it ran, or, if it waited for something meanwhile (it slept, it read a file), by the clock.

What follows is `Standing`'s decision. One fault costs the connection that met it. Several within a minute, or one
that had to be interrupted, cost the policy its place: it is cut out, connections to it are refused with a reset rather
than sent somewhere by luck, and it is tried again after a pause, with one fault left. A new class, or other options,
begin with a clean sheet.

    faults within 60 s    1, 2: told           3: out for 30 s, then for 60 s ... 10 min
    interrupted                                 out at once
"""

from __future__ import annotations

import asyncio
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock

P = ParamSpec("P")
R = TypeVar("R")

CALL_LIMIT_S = 1.0
"""A call that takes longer is interrupted."""
SLOW_CALL_S = 0.1
"""A call that takes longer counts as a fault: everybody waited for it."""
FAULTS = 3
WINDOW_S = 60.0
PAUSE_MIN_S = 30.0
PAUSE_MAX_S = 600.0


class Fault(Exception):
    """The policy did something wrong; the text says what."""

    def __init__(self, message: str, *, grave: bool = False) -> None:
        super().__init__(message)
        self.grave = grave
        """One is enough."""


class Overrun(BaseException):
    """Raised within a call that took too long. No Exception, so that `except Exception` in it does not stop it."""


class Standing:
    """What a policy has got wrong, and whether it may be asked. Pure: the time is handed in."""

    __slots__ = ("_faults", "_out_until", "_pause")

    def __init__(self) -> None:
        self._faults: deque[float] = deque(maxlen=FAULTS)
        self._out_until: float | None = None
        self._pause = Backoff(PAUSE_MIN_S, PAUSE_MAX_S)

    def is_out(self, now: float) -> bool:
        """It is not to be asked now."""
        return self._out_until is not None and now < self._out_until

    def fault(self, now: float, *, grave: bool = False) -> float | None:
        """Counts one. For how long the policy is cut out because of it, in seconds; None: it is not, or was already."""
        if self.is_out(now):
            return None
        on_probation = self._out_until is not None and now < self._out_until + WINDOW_S
        self._faults.append(now)
        many = len(self._faults) == FAULTS and now - self._faults[0] < WINDOW_S
        if not (grave or many or on_probation):
            return None
        if self._out_until is not None and now >= self._out_until + PAUSE_MAX_S:
            self._pause.reset()
        pause_s = self._pause.next()
        self._out_until = now + pause_s
        self._faults.clear()
        return pause_s


class Spent(NamedTuple):
    """What a thread had of its time until now."""

    busy_s: float
    """It ran."""
    waits: int
    """How often it gave the processor up by itself."""

    def until(self, later: Spent, passed_s: float) -> float:
        """How much of the `passed_s` between two looks it took, in seconds."""
        return passed_s if later.waits > self.waits else later.busy_s - self.busy_s


def spent() -> Spent:
    """What this thread had."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_nvcsw)


class Alarm:
    """The signal that ends calls which take too long. One for a process; outside the main thread it does nothing."""

    def __init__(self, limit_s: float = CALL_LIMIT_S, look: Callable[[], Spent] = spent) -> None:
        self._limit_s = limit_s
        self._look = look
        self._inside = False
        self._begun = look()
        self._usable = threading.current_thread() is threading.main_thread()
        self._before: Any = signal.signal(signal.SIGALRM, self._rang) if self._usable else None

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns or raises; Overrun if it took too long."""
        if not self._usable:
            return function(*args, **kwargs)
        try:
            self._begun = self._look()
            self._inside = True
            try:
                # Again and again, should it catch what is raised, or not have had its time.
                signal.setitimer(signal.ITIMER_REAL, self._limit_s, self._limit_s / 4)
                return function(*args, **kwargs)
            finally:
                self._inside = False
        finally:
            self._inside = False  # the alarm may have rung right before the line above
            signal.setitimer(signal.ITIMER_REAL, 0)

    def close(self) -> None:
        """The signal is whose it was. Twice is fine."""
        if self._usable:
            self._usable = False
            signal.signal(signal.SIGALRM, self._before)

    def _rang(self, _signal: int, _frame: FrameType | None) -> None:
        if self._inside and self._begun.until(self._look(), self._limit_s) >= self._limit_s:
            raise Overrun


class Guard:
    """Makes calls into other people's code; whatever they do, it ends, and is a result or a `Fault`."""

    def __init__(
        self, alarm: Alarm, clock: Clock, on_slow: Callable[[float], None], look: Callable[[], Spent] = spent
    ) -> None:
        self._alarm = alarm
        self._clock = clock
        self._on_slow = on_slow
        self._look = look

    def call(self, what: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result. Raises Fault, and says of a slow call that it was, with its seconds."""
        started, before = self._clock.monotonic(), self._look()
        try:
            result = self._alarm.call(function, *args, **kwargs)
        except Overrun:
            raise Fault(f"{what} took longer than {CALL_LIMIT_S:g} s and was interrupted", grave=True) from None
        except (Exception, SystemExit, GeneratorExit, asyncio.CancelledError) as error:
            raise Fault(f"{what} raised {self._words_of(error)}") from error
        passed_s = self._clock.monotonic() - started
        if passed_s > SLOW_CALL_S and (took_s := before.until(self._look(), passed_s)) > SLOW_CALL_S:
            self._on_slow(took_s)
        return result

    def _words_of(self, error: BaseException) -> str:
        """Its name, text and place; the text is made by its class, so that is such a call, too."""
        name = type(error).__name__
        try:
            text = self._alarm.call(str, error)[:300]
        except (Exception, Overrun):
            text = "(its text cannot be had)"
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}" if trace else ""
        return f"{name}: {text}{where}"
