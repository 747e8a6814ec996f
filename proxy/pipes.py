"""Pipes for splice(2): bulk data goes from socket to socket without ever being copied into this process.

A pipe is lent to a direction of a connection while it moves bulk data and comes back empty, so a few serve all. When
all are lent, the others copy through the common buffer, which is only slower.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

PIPE_BYTES = 1 << 20
"""What an unprivileged process may ask for by default (fs.pipe-max-size); the kernel's own default is 64 KiB."""
_F_SETPIPE_SZ = 1031


class Pipe(NamedTuple):
    """Two descriptors."""

    read_fd: int
    write_fd: int


class PipePool:
    """At most `limit` pipes, made on demand, kept for the next one who needs one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._made = 0
        self._idle: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty pipe, or None: then copy."""
        if self._idle:
            return self._idle.pop()
        if self._made >= self._limit:
            return None
        try:
            pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return None  # no descriptors left: connections need them more
        try:
            fcntl.fcntl(pipe.write_fd, _F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # the user's share of pipe memory is used up: a small pipe works too
        self._made += 1
        return pipe

    def give_back(self, pipe: Pipe, *, empty: bool) -> None:
        """The pipe is not needed any more. One with something in it cannot be used again."""
        if empty:
            self._idle.append(pipe)
        else:
            self._close(pipe)

    def close(self) -> None:
        """Closes the pipes that are not lent."""
        while self._idle:
            self._close(self._idle.pop())

    def _close(self, pipe: Pipe) -> None:
        os.close(pipe.read_fd)
        os.close(pipe.write_fd)
        self._made -= 1
