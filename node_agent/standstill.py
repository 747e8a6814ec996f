"""A node that stands still on purpose: its agent and the processes of its pods are stopped, and wake up after a while.

As when a virtual machine is suspended: nobody is told, nothing is lost, and all connections are still there afterwards.
Who is stopped cannot wake itself up, so a small process is started first that does. It holds a descriptor of every
process that it is to wake, which means this very process however pids are used again; it wakes them when the time is
over, or when the agent is gone, and ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

_WAKER = """
import os, select, signal, sys
seconds, agent, *pods = sys.argv[1:]
fds = []
for pid in (agent, *pods):
    try:
        fds.append(os.pidfd_open(int(pid)))
    except ProcessLookupError:
        if pid == agent:
            sys.exit(0)
print("ready", flush=True)
os.close(1)
select.select(fds[:1], [], [], float(seconds))
for fd in (*fds[1:], fds[0]):
    try:
        signal.pidfd_send_signal(fd, signal.SIGCONT)
    except ProcessLookupError:
        pass
"""
_ROUNDS = 3
"""Processes are looked for again after they were stopped: one may have started another just before."""
_READY_LIMIT_S = 10.0


def stand_still(seconds: float, processes: Callable[[], Sequence[int]]) -> None:
    """Stops the processes and the one that calls this, for that long; returns when it is over. Raises OSError if there
    is nobody to wake them: then nothing was stopped.

    It blocks the caller from beginning to end, which is what it is for.
    """
    stopped: dict[int, None] = {}
    for _ in range(_ROUNDS):
        for pid in processes():
            if pid not in stopped and _send(pid, signal.SIGSTOP):
                stopped[pid] = None
    command = [sys.executable, "-S", "-c", _WAKER, f"{seconds:.3f}", str(os.getpid()), *map(str, stopped)]
    try:
        waker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        for pid in stopped:
            _send(pid, signal.SIGCONT)
        raise
    assert waker.stdout is not None
    with waker.stdout:
        is_ready = waker.stdout.readline() == b"ready\n"
    if is_ready:
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        for pid in stopped:
            _send(pid, signal.SIGCONT)
    waker.wait(_READY_LIMIT_S)
    if not is_ready:
        raise OSError(f"the process that was to wake the node ended with {waker.returncode}")


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
