"""The life of a daemon process: start, one READY line, serve, stop on a signal, exit code.

SIGTERM or SIGINT, or the end of file on the lifeline (its parent died): stop in order, exit 0. A second signal: stop
waiting, exit at once. If the supervisor fails, exit 1 with a line that says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

from cluster.actor.supervisor import Supervisor
from cluster.actor.tasks import Tasks

_log = logging.getLogger("podium.daemon")


def run(
    main: Callable[[], Awaitable[Supervisor]],
    *,
    name: str,
    ready: Callable[[], Mapping[str, str]] | None = None,
    lifeline_fd: int | None = None,
    stop_grace_s: float = 10.0,
) -> int:
    """Runs a daemon in a fresh event loop and returns its exit code.

    `main` builds the supervisor; it is started here, and when that is done, the line `READY name=… key=value …` with
    the pairs of `ready()` goes to standard output. Stopping takes at most `stop_grace_s`; then the rest is cancelled.
    """
    try:
        return asyncio.run(_live(main, name, ready, lifeline_fd, stop_grace_s))
    except KeyboardInterrupt:
        return 130


async def _live(
    main: Callable[[], Awaitable[Supervisor]],
    name: str,
    ready: Callable[[], Mapping[str, str]] | None,
    lifeline_fd: int | None,
    stop_grace_s: float,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    tasks = Tasks(f"daemon {name}", on_crash=lambda task, error: None)  # results are looked at below

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            print(f"{name}: second {number.name}, exiting now", file=sys.stderr, flush=True)
            os._exit(128 + number)
        stop.set()

    def on_lifeline() -> None:
        loop.remove_reader(lifeline)
        _log.info("%s: its parent is gone", name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    lifeline = -1
    if lifeline_fd is not None:
        lifeline = lifeline_fd
        loop.add_reader(lifeline, on_lifeline)

    supervisor: Supervisor | None = None
    try:
        starting = tasks.spawn(_start(main), name="start")
        stopping = tasks.spawn(_wait(stop), name="wait for a signal")
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return 0
        supervisor = starting.result()
        pairs = "".join(f" {key}={value}" for key, value in (ready() if ready else {}).items())
        print(f"READY name={name}{pairs}", flush=True)
        failing = tasks.spawn(supervisor.wait_failed(), name="wait for failure")
        await asyncio.wait([failing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set() and failing.done():
            failing.result()
        return 0
    except Exception as error:
        print(f"{name}: {_explain(error)}", file=sys.stderr, flush=True)
        _log.debug("%s failed", name, exc_info=error)
        return 1
    finally:
        await tasks.cancel_all()
        if supervisor is not None:
            try:
                async with asyncio.timeout(stop_grace_s):
                    await supervisor.stop()
            except TimeoutError:
                _log.error("%s: not stopped within %.0f s; what is left is cancelled", name, stop_grace_s)
        if lifeline >= 0:
            loop.remove_reader(lifeline)


async def _start(main: Callable[[], Awaitable[Supervisor]]) -> Supervisor:
    supervisor = await main()
    await supervisor.start()
    return supervisor


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _explain(error: BaseException) -> str:
    """The error and what caused it, in a line."""
    text = str(error) or type(error).__name__
    cause = error.__cause__
    return f"{text} (because of {cause!r})" if cause is not None and str(cause) not in text else text
