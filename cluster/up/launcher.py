"""Starts daemons by forking a warm parent.

Importing gRPC, protobuf and numpy takes a Python process half a second. The supervisor imports them once and forks, so
that each daemon is there in milliseconds and shares its memory with the others. That is sound only as long as the
parent has no gRPC object, no event loop and no second thread: then there is nothing a fork could break. `preload` makes
sure of it and refuses otherwise.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setproctitle import setproctitle

LIFELINE_FD = 3
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)
"""What a supervisor handles, and its children handle otherwise."""


@dataclass(slots=True)
class Started:
    """A daemon that was forked."""

    pid: int
    stdout: int
    """Read end of its standard output: the READY line, then silence, then end of file."""


def preload(modules: Sequence[str]) -> None:
    """Imports modules that children will need. Raises RuntimeError if that started a thread."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    for module in modules:
        importlib.import_module(module)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"{threads} threads after importing {', '.join(modules)}: forking is not safe")
    # What was imported is no garbage. Each child would look through it again and again, and looking writes into the
    # memory that it shares with its parent, so that soon it would have it all for itself.
    gc.collect()
    gc.freeze()


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process, so that none can get out of sight."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def fork_daemon(cluster: str, name: str, module: str, argv: Sequence[str], log: Path, lifeline: int) -> Started:
    """Forks a child that runs `module.main(argv)` in a session of its own; its stderr goes to the log.

    `lifeline` is the read end of a pipe: when it ends, the daemon stops. `ps` shows it as "podium CLUSTER: NAME".
    """
    out_read, out_write = os.pipe()
    # Until the child has its own handlers, a signal to it would run the parent's, which tell the parent of it: the
    # parent would stop, because somebody has stopped its child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        _run_child(cluster, name, module, [*argv, "--lifeline-fd", str(LIFELINE_FD)], log, out_write, lifeline)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(out_write)
    os.set_blocking(out_read, False)
    return Started(pid, out_read)


def _run_child(cluster: str, name: str, module: str, argv: list[str], log: Path, stdout: int, lifeline: int) -> None:
    """The child's life, from fork to exit. Never returns."""
    code = 70
    try:
        os.setsid()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        stdin = os.open(os.devnull, os.O_RDONLY)
        stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # Two steps, because a source may sit on another one's destination.
        sources = [
            os.dup2(fd, 100 + place, inheritable=False) for place, fd in enumerate((stdin, stdout, stderr, lifeline))
        ]
        for place, fd in enumerate(sources):
            os.dup2(fd, place, inheritable=place < LIFELINE_FD)
        os.closerange(LIFELINE_FD + 1, 4096)
        sys.argv = [f"podium-{name}", *argv]
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        setproctitle(f"podium {cluster}: {name}")
        main = importlib.import_module(module).main
        code = main(argv)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # whatever it is, it goes to the log, and the child must not run the parent's code
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
