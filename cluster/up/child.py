"""A daemon of a cluster, as its supervisor knows it: what it is, whether it serves, how its last lives ended.

It is `starting` from the fork, `running` from the line READY on its standard output, and `stopped` from its end until
the next fork. Nothing here acts; the supervisor does.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.up.plan import ChildSpec

_HOPELESS_CRASHES = 3
"""A daemon that crashed so often in a row will hardly start the next time."""
_MAX_OUTPUT_BYTES = 4096
"""What is kept of the output while the line READY is waited for: its end."""


@dataclass(slots=True)
class Child:
    """A daemon and how it fares."""

    spec: ChildSpec
    pid: int = 0
    stdout: int = -1
    output: bytes = b""
    ready: bool = False
    started_at: float = 0.0
    crashes: int = 0
    restarts: int = 0
    restart_at: float | None = None
    last_exit: str = ""
    served: bool = False
    """It has said READY in one of its lives."""
    asked_for: bool = True
    """False: it is there for when somebody asks, and nobody has."""
    refused: bool = False
    """A master that never served has said why not and ended: its store is unfit or out of reach, and stays so."""

    @property
    def state(self) -> str:
        if self.pid:
            return "running" if self.ready else "starting"
        return "stopped"

    @property
    def is_due(self) -> bool:
        """It was asked for, and neither runs nor waits for its next start."""
        return self.asked_for and not self.pid and self.restart_at is None

    def begin(self, pid: int, stdout: int, now: float) -> None:
        """A new life."""
        self.pid, self.stdout, self.started_at = pid, stdout, now
        self.ready, self.output, self.restart_at = False, b"", None

    def hear(self, data: bytes) -> bool:
        """Some of its output. Returns whether it has become ready by that."""
        if self.ready:
            return False
        self.output = (self.output + data)[-_MAX_OUTPUT_BYTES:]
        if not any(line.startswith(b"READY") for line in self.output.splitlines()):
            return False
        self.ready, self.served, self.refused = True, True, False
        return True

    def end(self, code: int) -> None:
        """Its life has ended with this exit code; negative: by that signal."""
        self.pid = 0
        self.last_exit = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.refused = self.spec.role == "master" and code == 1 and not self.served

    def document(self, log: Path) -> dict[str, Any]:
        """How it fares, for whoever asks the supervisor."""
        return {
            "name": self.spec.name,
            "role": self.spec.role,
            "state": self.state,
            "pid": self.pid,
            "crashes": self.crashes,
            "last_exit": self.last_exit,
            "hopeless": self.refused or self.crashes >= _HOPELESS_CRASHES or (not self.pid and self.restart_at is None),
            "log": str(log),
        }


def tail_of(path: Path, lines: int = 5) -> str:
    """The last lines of a daemon's log, for an error message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
