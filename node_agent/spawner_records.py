"""What the spawner must not forget: which runs there are, and how those ended that nobody has asked for yet.

An append-only file of JSON lines beside the socket, so that it outlives the spawner, whatever kills it:

    {"run": ID, "pid", "ticks", "at", "mono", "log", "boot", "cgroups"}   the program runs, in these control groups
    {"end": ID, "code", "signal", "at", "mono", "tail", "usage", ...}     it has ended, and nothing of it is left
    {"forget": ID}                                                        the agent has noted the end

Lines are appended before the agent hears of what they say. They are not flushed to the disk: what a power cut takes
along has no process left either. When most lines are of no use any more, the file is written anew. Standard library
only: the spawner loads this file.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from typing import Any

MARKER = "PODIUM_RUN"
"""The environment variable that says which run a process belongs to."""
FILE = "runs.jsonl"
_REWRITE_BYTES = 1 << 20
"""The file is written anew when it has grown by so much."""


class Records:
    """The runs of a node, on disk and in memory. `runs` is by id: the run's line, and under "end" that of its end."""

    def __init__(self, directory_fd: int) -> None:
        """Reads what an earlier spawner left; a last line that is cut short is left out."""
        self.directory_fd = directory_fd
        self.runs: dict[str, dict[str, Any]] = {}
        self.unwritten = b""
        self.fd = -1
        self.size = self.rewrite_at = 0
        try:
            with open(self._open(os.O_RDONLY), "rb") as file:
                for line in file:
                    self._apply(line)
        except FileNotFoundError:
            pass
        self._rewrite()

    def _open(self, flags: int, name: str = FILE) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self.directory_fd)

    def _apply(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if "run" in entry:
            self.runs[entry["run"]] = entry
        elif "forget" in entry:
            self.runs.pop(entry["forget"], None)
        elif entry.get("end") in self.runs:
            self.runs[entry["end"]]["end"] = entry

    def started(self, id: str, **what: object) -> None:
        """A program runs; `what` is all that is to be known of it."""
        self.runs[id] = entry = {"run": id, **what}
        self._append(entry)

    def ended(self, id: str, **how: object) -> None:
        """Nothing of it is left; `how` is what the agent is told."""
        if id in self.runs:
            entry = {"end": id, **how}
            self.runs[id]["end"] = entry
            self._append(entry)

    def forget(self, id: str) -> None:
        """Nobody will ask again."""
        if self.runs.pop(id, None) is not None:
            self._append({"forget": id})

    def _append(self, entry: dict[str, Any]) -> None:
        """What the disk does not take now is tried again with the next line; in memory it is known all the same."""
        self.unwritten += json.dumps(entry).encode() + b"\n"
        try:
            written = os.write(self.fd, self.unwritten)
            self.unwritten = self.unwritten[written:]
            self.size += written
            if self.size > self.rewrite_at:
                self._rewrite()
        except OSError:
            pass

    @staticmethod
    def _is_written(fd: int, data: bytes) -> bool:
        try:
            return os.write(fd, data) == len(data)
        except OSError:
            return False

    def _rewrite(self) -> None:
        """A fresh file with what is of use, in the old one's place; the old one goes on if the disk is full."""
        lines = []
        for entry in self.runs.values():
            lines.append(json.dumps({key: value for key, value in entry.items() if key != "end"}))
            if "end" in entry:
                lines.append(json.dumps(entry["end"]))
        data = "".join(line + "\n" for line in lines).encode()
        try:
            fd = self._open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, FILE + ".new")
            if not self._is_written(fd, data):
                os.close(fd)
                raise OSError(28, "No space left on device")
        except OSError:
            if self.fd < 0:
                raise
            return
        os.replace(FILE + ".new", FILE, src_dir_fd=self.directory_fd, dst_dir_fd=self.directory_fd)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.size, self.unwritten = fd, len(data), b""
        self.rewrite_at = self.size + _REWRITE_BYTES
