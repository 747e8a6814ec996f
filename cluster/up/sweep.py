"""What is left when all daemons have been stopped: whoever escaped from its pod or its daemon is a child of this
process, which is the subreaper of all of them; it is found, and killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil

from cluster.actor.clock import Clock

_PATIENCE_S = 2.0


def kill(pid: int, number: signal.Signals) -> None:
    """Sends a signal; fine if nobody is there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def sweep(clock: Clock, wait: Callable[[], None]) -> tuple[int, list[dict[str, Any]]]:
    """Kills every descendant that is still there, for up to 2 s. Returns how many there were, and pid and name of those
    that withstood. `wait` waits a little and collects who has ended."""
    me = psutil.Process()
    deadline = clock.monotonic() + _PATIENCE_S
    seen: set[int] = set()
    while True:
        left = [process for process in me.children(recursive=True) if _is_live(process)]
        if not left or clock.monotonic() > deadline:
            return len(seen), [{"pid": process.pid, "name": _name(process)} for process in left]
        for process in left:
            seen.add(process.pid)
            kill(process.pid, signal.SIGKILL)
        wait()


def _is_live(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or str(process.name())
    except psutil.Error:
        return "?"
