"""A file that is in the way on purpose: deleted when the disk is full, it gives room to clean up.

On a full disk even deleting fails, for it is written, too. So a few megabytes are taken while there are some, and given
back when nothing else is left: deletions, compaction and a checkpoint go on in that room. As soon as the disk has room
for it again, with some to spare, the file is made again, and that is the sign that all is well.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

FILE_NAME = "ballast"
DEFAULT_BYTES = 8 * 1024 * 1024

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """The disk, or one's share of it, is full."""
    return error.errno in _NO_ROOM


class Ballast:
    """The file. One thread at a time."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Touches nothing yet. A size of 0: there shall be none."""
        self._path = path
        self._size_bytes = size_bytes

    def make(self) -> bool:
        """Makes it, and says whether it is there: False means that the disk is full. Raises OSError for other causes.

        A quarter more than it needs must be free, so that what it is made of is not the very last space.
        """
        if not self._size_bytes:
            self._path.unlink(missing_ok=True)
            return True
        fd = -1
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            status = os.fstat(fd)
            if status.st_size == self._size_bytes and status.st_blocks * 512 >= self._size_bytes:
                return True
            os.posix_fallocate(fd, 0, self._size_bytes + self._size_bytes // 4)
            os.ftruncate(fd, self._size_bytes)
            return True
        except OSError as error:
            if not is_full(error):
                raise
            if fd >= 0:
                os.ftruncate(fd, 0)
            return False
        finally:
            if fd >= 0:
                os.close(fd)

    def free(self) -> None:
        """Gives its room back. Twice is fine. Raises OSError."""
        try:
            os.truncate(self._path, 0)  # the name stays: to make one may need room that there is not
        except FileNotFoundError:
            pass
