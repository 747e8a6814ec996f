"""Signals to processes, sent so that what comes after can rely on them.

SIGSTOP does not stop a process at once: each of its threads goes on until it is its turn on a processor again, on a
busy machine for milliseconds, in which an answer can still leave. So `send` returns when they all stand still.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

STOP_LIMIT_S = 5.0
_STILL = ("T", "t", "Z", "X")


def send(pid: int, number: int) -> None:
    """Sends the signal; of SIGSTOP returns when no thread of the process runs. Raises ProcessLookupError.

    A thread in the kernel that cannot be interrupted (D) stops when it comes back; after STOP_LIMIT_S that is not
    waited for any longer.
    """
    os.kill(pid, number)
    if number != signal.SIGSTOP:
        return
    for _ in range(int(STOP_LIMIT_S / 0.001)):
        if is_still(pid):
            return
        time.sleep(0.001)


def is_still(pid: int) -> bool:
    """No thread of the process runs, or can run before it is told to go on; or there is no such process."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # this thread has ended
        if text.rpartition(")")[2].split()[0] not in _STILL:
            return False
    return True
