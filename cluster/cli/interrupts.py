"""Ctrl-C while a cluster starts, runs or stops: it is counted, and whoever waits looks at it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.up.layout import ClusterDir


class Interrupts:
    """Within it, Ctrl-C (or SIGTERM, SIGHUP) only counts; whoever waits looks at it and stops the cluster.

    Those that come after the first `patience` ones have it killed at once.
    """

    def __init__(self, directory: ClusterDir, *, patience: int) -> None:
        self._directory = directory
        self._patience = patience
        self.count = 0

    def __enter__(self) -> Interrupts:
        self._before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.count > 0

    def _on_signal(self, *_: object) -> None:
        self.count += 1
        if self.count > self._patience:
            _kill_now(self._directory)


def _kill_now(directory: ClusterDir) -> None:
    """In a signal handler. A supervisor that gets SIGINT kills everything, in whatever it was."""
    state = directory.read_state()
    if state is not None and state.supervisor is not None and state.supervisor.is_alive():
        os.write(sys.stderr.fileno(), b"killing now\n")
        try:
            os.kill(state.supervisor.pid, signal.SIGINT)
        except ProcessLookupError:
            pass
