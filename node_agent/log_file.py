"""A log file that is written by one and read by many, and never grows beyond its share of the disk.

The newest part is PATH; when it is full it becomes PATH.1, what was PATH.1 becomes PATH.2, and the oldest part goes.
Readers (`node_agent.runtime.logs`) find the parts by these names and tell them apart by inode.

Beside each part lies an index of times, so that the log itself holds nothing but what the program wrote: 0.log and
0.times, 0.log.1 and 0.times.1. A record (TIME) says at what time, in seconds since 1970, and from which offset of the
part on something was written; there is one for each INDEX_STEP_S in which there was output. The spawner loads this
file: standard library only.
"""

from __future__ import annotations

import os
import struct

TIME = struct.Struct("!dQ")
INDEX_STEP_S = 0.01
"""Output of so short a time shares one record."""


def times_path(path: str) -> str:
    """The index of the newest part of a log: 0.log has 0.times."""
    return path.removesuffix(".log") + ".times"


class LogFile:
    """A log file that starts anew when it is full: 0.log, then 0.log.1, 0.log.2 for the older parts."""

    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        self.path, self.max_bytes, self.files = path, max_bytes, files
        self.lost_bytes = 0
        self.times_fd = -1
        self.indexed_at = 0.0
        self._open()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def write(self, data: bytes, at: float) -> None:
        """Appends what came at this time. What the disk does not take is dropped and counted, so that the program
        never waits for it."""
        try:
            if self.size >= self.max_bytes:
                self._rotate()
            if self.lost_bytes:
                note = b"\n[podium: %d bytes of output were lost here, the disk did not take them]\n" % self.lost_bytes
                self.size += os.write(self.fd, note)
                self.lost_bytes = 0
            if at - self.indexed_at >= INDEX_STEP_S or at < self.indexed_at:
                self._index(at)
            written = os.write(self.fd, data)
        except OSError:
            written = 0
        self.size += written
        self.lost_bytes += len(data) - written

    def _index(self, at: float) -> None:
        """Raises OSError; a record is written whole or cut off again."""
        if self.times_fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self.times_fd = os.open(times_path(self.path), flags, 0o600)
        if os.write(self.times_fd, TIME.pack(at, self.size)) < TIME.size:
            whole = os.fstat(self.times_fd).st_size // TIME.size * TIME.size
            os.ftruncate(self.times_fd, whole)
        self.indexed_at = at

    def _rotate(self) -> None:
        for path in (self.path, times_path(self.path)):
            for number in range(self.files - 1, 0, -1):
                older = f"{path}.{number - 1}" if number > 1 else path
                if os.path.exists(older):
                    os.replace(older, f"{path}.{number}")
            if self.files == 1 and os.path.exists(path):
                os.unlink(path)
        self.close()
        self._open()

    def close(self) -> None:
        os.close(self.fd)
        if self.times_fd >= 0:
            os.close(self.times_fd)
            self.times_fd = -1
        self.indexed_at = 0.0
