"""A log file that is written by one and read by many, and never grows beyond its share of the disk.

The newest part is PATH; when it is full it becomes PATH.1, what was PATH.1 becomes PATH.2, and the oldest part goes.
Readers (`node_agent.runtime.logs`) find the parts by these names and tell them apart by inode. The spawner loads this
file: standard library only.
"""

from __future__ import annotations

import os


class LogFile:
    """A log file that starts anew when it is full: 0.log, then 0.log.1, 0.log.2 for the older parts."""

    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        self.path, self.max_bytes, self.files = path, max_bytes, files
        self.lost_bytes = 0
        self._open()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def write(self, data: bytes) -> None:
        """Appends. What the disk does not take is dropped and counted, so that the program never waits for it."""
        try:
            if self.size >= self.max_bytes:
                self._rotate()
            if self.lost_bytes:
                note = b"\n[podium: %d bytes of output were lost here, the disk did not take them]\n" % self.lost_bytes
                self.size += os.write(self.fd, note)
                self.lost_bytes = 0
            written = os.write(self.fd, data)
        except OSError:
            written = 0
        self.size += written
        self.lost_bytes += len(data) - written

    def _rotate(self) -> None:
        for number in range(self.files - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            if os.path.exists(older):
                os.replace(older, f"{self.path}.{number}")
        if self.files == 1:
            os.unlink(self.path)
        os.close(self.fd)
        self._open()

    def close(self) -> None:
        os.close(self.fd)
