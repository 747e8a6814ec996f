"""The life of a daemon process: start, one READY line, serve, stop on a signal, exit code.

    SIGTERM, SIGINT, or end of file on the lifeline (the parent died): stop in order, exit 0
    SIGHUP: the same, for a daemon that asked to be told why it stops
    a second signal: cancel everything now, exit 128 + signal
    it cannot start, or its children crash too often: stop; a line on stderr says why; exit 1

`run` may be called in a process that was forked from a warm parent: it takes nothing over but the descriptors that it
is given. When it returns there is no task, no event loop and no lifeline any more. What a daemon is made of it does not
know: that is its supervisor's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from cluster.actor.ports import address_in, who_listens
from cluster.actor.supervisor import ChildSpec, Service, Supervisor
from cluster.actor.tasks import Tasks

S = TypeVar("S", bound=Service)

_log = logging.getLogger("podium.daemon")

_CANCEL_S = 2.0
"""What is cancelled has so long to end; then the process ends all the same."""
_EXIT_S = 5.0
"""The same for threads that are still at work when all tasks are gone."""
_BUGS = (TypeError, AttributeError, NameError, LookupError, AssertionError)
"""Errors that say nothing to a user: their traceback is logged."""


def run(
    main: Callable[[], Awaitable[Supervisor]],
    *,
    name: str,
    ready: Callable[[], Mapping[str, str]] | None = None,
    lifeline_fd: int | None = None,
    stop_grace_s: float = 10.0,
    on_stop: Callable[[str], None] | None = None,
) -> int:
    """Runs a daemon in a fresh event loop and returns its exit code. For the main thread.

    `main` builds the supervisor; it is started here, and when that is done, the line `READY name=… key=value …` with
    the pairs of `ready()` goes to standard output. Stopping takes at most `stop_grace_s`; then the rest is cancelled.
    `on_stop(reason)` is called before the stop begins: "SIGTERM", "SIGINT", "SIGHUP" or "lifeline".
    `lifeline_fd` belongs to the daemon from now on: it is not inherited by processes it starts, and closed at the end.
    """
    _forget_the_parent()
    try:
        return asyncio.run(_Life(main, name, ready, lifeline_fd, stop_grace_s, on_stop).live())
    finally:
        if lifeline_fd is not None:
            _close(lifeline_fd)


def run_service(
    make: Callable[[], S],
    *,
    name: str,
    ready: Callable[[S], Mapping[str, str]],
    lifeline_fd: int | None = None,
    stop_grace_s: float = 10.0,
) -> int:
    """`run`, for a daemon that is one service: it is made within the event loop, and anew when it crashed. `ready` is
    asked about the one that has just started."""
    made: list[S] = []

    def make_and_keep() -> S:
        made[:] = [make()]
        return made[0]

    async def build() -> Supervisor:
        return Supervisor(name, [ChildSpec(name, make_and_keep)])

    return run(build, name=name, ready=lambda: ready(made[0]), lifeline_fd=lifeline_fd, stop_grace_s=stop_grace_s)


class _Life:
    """One run of a daemon."""

    def __init__(
        self,
        main: Callable[[], Awaitable[Supervisor]],
        name: str,
        ready: Callable[[], Mapping[str, str]] | None,
        lifeline_fd: int | None,
        stop_grace_s: float,
        on_stop: Callable[[str], None] | None,
    ) -> None:
        self._on_stop = on_stop
        self._main, self._name, self._ready = main, name, ready
        self._lifeline_fd, self._stop_grace_s = lifeline_fd, stop_grace_s
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._code = 0
        self._supervisor: Supervisor | None = None
        # What crashes here is told to the user in `_fail`.
        self._tasks = Tasks(f"daemon {name}", on_crash=lambda task, error: None)

    async def live(self) -> int:
        """From birth to exit code."""
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if self._on_stop is not None else [])]
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        serving = self._tasks.spawn(self._serve_and_stop(), name="serve")
        hurrying = self._tasks.spawn(_wait(self._hurry), name="wait for a second signal")
        await asyncio.wait([serving, hurrying], return_when=asyncio.FIRST_COMPLETED)
        await self._end_tasks()
        # From here on only threads can hold the process up: asyncio waits for those of its executor.
        loop.call_later(_EXIT_S, self._exit_at_once)
        return self._code

    async def _serve_and_stop(self) -> None:
        try:
            self._watch_lifeline()
            await self._serve()
        except Exception as error:
            self._fail(error)
        finally:
            await self._stop_supervisor()

    async def _serve(self) -> None:
        starting = self._tasks.spawn(self._start(), name="start")
        stopping = self._tasks.spawn(_wait(self._stop), name="wait for a signal")
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            # What has started is stopped in `start` itself, and by `_stop_supervisor` if that takes too long.
            starting.cancel()
            await asyncio.wait([starting], timeout=self._stop_grace_s)
            return
        supervisor = starting.result()
        pairs = "".join(f" {key}={value}" for key, value in (self._ready() if self._ready else {}).items())
        print(f"READY name={self._name}{pairs}", flush=True)
        failing = self._tasks.spawn(supervisor.wait_failed(), name="wait for failure")
        await asyncio.wait([failing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if failing.done() and not self._stop.is_set():
            failing.result()

    async def _start(self) -> Supervisor:
        self._supervisor = await self._main()
        await self._supervisor.start()
        return self._supervisor

    async def _stop_supervisor(self) -> None:
        if self._supervisor is None or self._hurry.is_set():
            return
        try:
            async with asyncio.timeout(self._stop_grace_s):
                await self._supervisor.stop()
        except TimeoutError:
            _log.error("%s: not stopped within %.0f s; what is left is cancelled", self._name, self._stop_grace_s)

    async def _end_tasks(self) -> None:
        """Cancels every task of the process, ours first. One that does not end is named, and ends with the process."""
        await self._tasks.cancel_all(_CANCEL_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            _log.debug("%s: tasks without an end: %s", self._name, ", ".join(sorted(t.get_name() for t in left)))
            _, left = await asyncio.wait(left, timeout=_CANCEL_S)
        if left:
            names = ", ".join(sorted(task.get_name() for task in left))
            _log.error("%s: tasks that do not end when they are cancelled: %s", self._name, names)
            self._leave()

    def _exit_at_once(self) -> None:
        threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        _log.error("%s: threads that do not end: %s", self._name, ", ".join(threads))
        self._leave()

    def _leave(self) -> None:
        """Ends the process without waiting for anything."""
        for handler in logging.getLogger().handlers:
            handler.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._code or 1)

    def _fail(self, error: Exception) -> None:
        self._code = self._code or 1
        print(f"{self._name}: {explain(error)}", file=sys.stderr, flush=True)
        _log.log(logging.ERROR if isinstance(error, _BUGS) else logging.DEBUG, "%s failed", self._name, exc_info=error)

    # --- what ends it

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            self._begin_to_stop(number.name)
        elif not self._hurry.is_set():
            print(f"{self._name}: {number.name} again, ending now", file=sys.stderr, flush=True)
            self._code = 128 + number
            self._hurry.set()

    def _watch_lifeline(self) -> None:
        if self._lifeline_fd is None:
            return
        try:
            os.set_inheritable(self._lifeline_fd, False)
            asyncio.get_running_loop().add_reader(self._lifeline_fd, self._on_lifeline, self._lifeline_fd)
        except OSError as error:
            raise OSError(f"descriptor {self._lifeline_fd} cannot be a lifeline: {error.strerror}") from error

    def _on_lifeline(self, fd: int) -> None:
        try:
            if os.read(fd, 4096):
                return  # somebody writes: it lives
        except BlockingIOError:
            return
        except OSError:
            pass  # such as a connection that was reset: gone, too
        asyncio.get_running_loop().remove_reader(fd)
        _log.info("%s: its parent is gone", self._name)
        if not self._stop.is_set():
            self._begin_to_stop("lifeline")

    def _begin_to_stop(self, reason: str) -> None:
        if self._on_stop is not None:
            self._on_stop(reason)
        self._stop.set()


def explain(error: BaseException) -> str:
    """An error and what caused it, in a line; and who has the address, if it is about one that is taken."""
    text = " ".join(str(error).split())
    if isinstance(error, _BUGS) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    cause = error.__cause__
    address = address_in(text) if isinstance(error, OSError) and "in use" in text else None
    if address is not None:
        holder = who_listens(*address)
        return f"{text} (held by {holder})" if holder else text
    if cause is not None and str(cause) not in text:
        text += f" (because of {' '.join(repr(cause).split())})"
    return text


def _forget_the_parent() -> None:
    """Signal handlers and blocked signals survive a fork; whoever forked us has set them for itself."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # it never was open: that has been said


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
