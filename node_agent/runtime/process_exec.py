"""A command that runs as a process: its streams, which the agent holds, and its end, which the spawner sees.

Three pipes, or one terminal. The program has their other ends, and nobody else: when it and all that it started have
let go of them, they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Sequence
from io import FileIO

from node_agent.runtime.interface import Ended, Runtime


def open_streams(*, tty: bool) -> tuple[list[int], list[int]]:
    """Our ends, standard input first, and the three for the program. Of a terminal ours are one twice: it can be
    written and read."""
    if tty:
        ours, theirs = os.openpty()
        return [os.dup(ours), ours], [theirs, os.dup(theirs), os.dup(theirs)]
    stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
    return [stdin_write, stdout_read, stderr_read], [stdin_read, stdout_write, stderr_write]


class _Output(asyncio.StreamReaderProtocol):
    """A terminal that nobody holds any more answers with an error: that is its end of file."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) and exc.errno == errno.EIO else exc)


class ProcessExec:
    """A command: three pipes, or one terminal, and an end."""

    def __init__(
        self,
        runtime: Runtime,
        run_id: str,
        ended: asyncio.Future[Ended],
        stdin: asyncio.StreamWriter,
        *readers: asyncio.StreamReader,
    ) -> None:
        self._runtime, self._run_id = runtime, run_id
        self._ended = ended  # known here whoever else has the runtime forget it
        self.stdin = stdin
        self.stdout, self.stderr = readers
        self._transports: list[asyncio.BaseTransport] = []
        self._terminal = -1

    @classmethod
    async def open(
        cls, runtime: Runtime, run_id: str, ended: asyncio.Future[Ended], ends: Sequence[int]
    ) -> ProcessExec:
        """Takes over our ends of the pipes, or those of the terminal; `ended` is how the run will have ended."""
        stdin, *outputs = ends
        loop = asyncio.get_running_loop()
        transports: list[asyncio.BaseTransport] = []
        readers = []
        files: list[FileIO] = [FileIO(stdin, "wb"), *(FileIO(fd, "rb") for fd in outputs)]
        try:
            for file in files[1:]:
                reader = asyncio.StreamReader()
                protocol = _Output(reader)
                transport, _ = await loop.connect_read_pipe(lambda p=protocol: p, file)  # type: ignore[misc]
                transports.append(transport)
                readers.append(reader)
            if len(outputs) == 1:
                readers.append(asyncio.StreamReader())
                readers[1].feed_eof()
            write_transport, write_protocol = await loop.connect_write_pipe(
                lambda: asyncio.streams.FlowControlMixin(loop), files[0]
            )
            transports.append(write_transport)
        except BaseException:
            for opened in transports:
                opened.close()
            for file in files:
                file.close()
            raise
        writer = asyncio.StreamWriter(write_transport, write_protocol, None, loop)
        process = cls(runtime, run_id, ended, writer, *readers)
        process._transports = transports
        process._terminal = outputs[0] if len(outputs) == 1 else -1
        return process

    async def wait(self) -> Ended:
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        self._runtime.signal(self._run_id, number)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def kill(self) -> None:
        self._runtime.kill(self._run_id)

    def close(self) -> None:
        self.kill()
        self._terminal = -1
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        self._runtime.forget(self._run_id)
