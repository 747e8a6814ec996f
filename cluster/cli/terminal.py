"""Our standard input, terminal and signals, on their way to a command that runs elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.client.agent_client import Input
    from cluster.pb.v1.agent_pb2 import TerminalSize

_PIECES = 16


def terminal_size() -> TerminalSize | None:
    """Of the terminal that we are on; None if we are on none."""
    from cluster.pb.v1.agent_pb2 import TerminalSize

    try:
        columns, rows = os.get_terminal_size(0)
    except OSError:
        return None
    return TerminalSize(rows=rows, columns=columns)


@contextmanager
def raw_terminal(wanted: bool) -> Iterator[None]:
    """Within it, each key goes through as it is pressed; afterwards the terminal is what it was."""
    if not wanted or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


class Stdin:
    """What goes to the command with -i: our standard input, and our signals as long as that is open.

    Otherwise, and after its end, Ctrl-C ends the call, and the node agent ends the command. With a terminal, Ctrl-C is
    a key like others, and changes of the terminal's size go to the command too; with -t alone (`read` is False) nothing
    else does.
    """

    def __init__(self, *, tty: bool = False, read: bool = True) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Input | None] = asyncio.Queue()
        # Room for a few pieces; the reading thread waits when they are used up.
        self._room = threading.Semaphore(_PIECES)
        self._signals: list[signal.Signals] = []
        if read:
            self._signals = [signal.SIGTERM] if tty else [signal.SIGINT, signal.SIGTERM]
        for number in self._signals:
            self._loop.add_signal_handler(number, self._queue.put_nowait, number)
        if tty:
            self._loop.add_signal_handler(signal.SIGWINCH, self._on_resize)
        # A thread, because a file cannot be polled; a daemon, because a read from a terminal never ends.
        if read:
            threading.Thread(target=self._read, daemon=True).start()

    def _on_resize(self) -> None:
        size = terminal_size()
        if size is not None:
            self._queue.put_nowait(size)

    def _read(self) -> None:
        while True:
            self._room.acquire()
            try:
                data = os.read(0, 65536)
            except OSError:
                data = b""
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, data or None)
            except RuntimeError:
                return  # the command has ended, and the loop with it
            if not data:
                return

    async def items(self) -> AsyncIterator[Input]:
        """Bytes, signals and sizes as they come; ends with standard input."""
        while (item := await self._queue.get()) is not None:
            yield item
            if isinstance(item, bytes):
                self._room.release()
        for number in (*self._signals, signal.SIGWINCH):
            self._loop.remove_signal_handler(number)


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, however little is taken at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
