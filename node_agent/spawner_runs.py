"""A run as the spawner knows it: its first process, its streams, its control groups, and how far it has come.

    being prepared (word >= 0) -> on -> being swept (deadline > 0) -> over (end, and nothing of its tree is left)

The spawner loads this file: standard library only.
"""

from __future__ import annotations

import os
import time

from node_agent.left_behind import LOST_CODE, LOST_SIGNAL

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from node_agent.log_file import LogFile


def now() -> float:
    """Monotonic, in seconds."""
    return time.monotonic()  # noqa: TID251  (standard library only: the spawner has no Clock)


def wall() -> float:
    """Seconds since 1970: for people."""
    return time.time()  # noqa: TID251


class Run:
    """One program that was started, and its tree."""

    __slots__ = (
        *("at", "attached", "cgroups", "deadline", "depth", "end", "fd", "given_up", "id", "input", "input_ends"),
        *("input_fd", "left", "log", "mono", "parent", "pid", "pipe", "prepare_by", "said", "survivors", "tail"),
        *("ticks", "usage", "word"),
    )

    def __init__(self, id: str, pid: int, parent: str, fd: int, log: LogFile | None, input_fd: int) -> None:
        self.id, self.pid, self.parent, self.fd, self.log = id, pid, parent, fd, log
        self.pipe = f"pipe:[{os.fstat(fd).st_ino}]" if fd >= 0 else ""
        self.tail = b""
        # Exit code, signal, and when: by the calendar, and monotonic. The leader has been reaped.
        self.end: tuple[int, int, float, float] | None = None
        self.attached = False  # the agent holds its streams
        self.usage: dict[str, int] = {}
        self.deadline = 0.0  # > 0: being swept, until then
        self.input_fd, self.input, self.input_ends = input_fd, b"", False
        self.cgroups: list[str] = []
        self.depth = 0  # how far below the leader the program is, to which signals go
        self.left: dict[int, int] = {}  # an earlier spawner's processes, by pid and start time: nobody's children here
        self.survivors: list[int] = []  # what did not die in time; looked after until it has
        self.ticks, self.at, self.mono = 0, 0.0, 0.0
        # While it is being prepared: where it says why it cannot be, what it has said, and until when.
        self.word, self.said, self.prepare_by = -1, b"", float("inf")
        self.given_up = False  # nobody wants to hear of it any more

    @classmethod
    def of_left(cls, id: str, left: dict[int, int], cgroups: list[str]) -> Run:
        """A run of an earlier spawner of which processes do not die: to be swept until they do."""
        run = cls(id, -1, "", -1, None, -1)
        run.left, run.survivors, run.cgroups, run.deadline = left, list(left), cgroups, now()
        run.end = (LOST_CODE, LOST_SIGNAL, wall(), now())
        return run
