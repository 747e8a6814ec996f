"""The streams of runs: what a program writes goes into its log, what it is to read waits until it takes it.

Output is moved a chunk at a time, whenever there is some; the end of the last chunks is kept for the report. Neither a
program that floods its log nor one that reads nothing holds up the others. Of a command the agent has the streams: it
has none here. Standard library only: the spawner loads this file.
"""

from __future__ import annotations

import os
import select

from node_agent.spawner_runs import Run, wall

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Callable

TAIL_BYTES = 4096
"""How much of the end of the output is kept for the report."""
_CHUNK_BYTES = 65536
_LAST_CHUNKS = 64
"""How many chunks are still read after the end: a pipe holds less, unless a survivor goes on writing."""


class Streams:
    """Of all runs. `on_written(run)` is called when a run has taken all the input that was given to it."""

    def __init__(self, poller: select.epoll, on_written: Callable[[Run], None]) -> None:
        self._poller, self._on_written = poller, on_written
        self._outputs: dict[int, Run] = {}
        self._inputs: dict[int, Run] = {}  # whose input waits for room in the pipe

    def add(self, run: Run) -> None:
        """From now on its output is moved."""
        if run.fd >= 0:
            self._outputs[run.fd] = run
            self._poller.register(run.fd, select.EPOLLIN)

    def on_event(self, fd: int, events: int) -> bool:
        """Something happened to this descriptor; False if it is none of these."""
        if fd in self._outputs:
            self.pump(self._outputs[fd])
        elif fd in self._inputs and events & select.EPOLLOUT:
            self.feed(self._inputs[fd])
        elif fd in self._inputs:
            self.close_input(self._inputs[fd])
        else:
            return False
        return True

    def give(self, run: Run, data: bytes, *, is_last: bool = False) -> None:
        """More for it to read, or nothing more after this."""
        run.input += data
        run.input_ends = run.input_ends or is_last
        self.feed(run)

    def close(self, run: Run) -> None:
        """Nothing of the run is left: what it wrote last is moved."""
        for _ in range(_LAST_CHUNKS):
            if run.fd < 0 or not self.pump(run):
                break
        self.close_output(run)
        self.close_input(run)

    def pump(self, run: Run) -> bool:
        """Moves one chunk of output to the log; False when there is nothing (more) to read now."""
        try:
            data = os.read(run.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal that nobody holds any more
        if data:
            assert run.log is not None
            run.log.write(data, wall())
            run.tail = (run.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
            return True
        self.close_output(run)
        return False

    def close_output(self, run: Run) -> None:
        if run.fd >= 0:
            self._poller.unregister(run.fd)
            del self._outputs[run.fd]
            os.close(run.fd)
            run.fd = -1
        if run.log:
            run.log.close()
            run.log = None

    def feed(self, run: Run) -> None:
        """Gives the program as much of its input as it takes now."""
        while run.input and run.input_fd >= 0:
            try:
                run.input = run.input[os.write(run.input_fd, run.input) :]
            except BlockingIOError:
                if run.input_fd not in self._inputs:
                    self._inputs[run.input_fd] = run
                    self._poller.register(run.input_fd, select.EPOLLOUT)
                return
            except OSError:
                run.input_ends = True  # it does not read any more
                break
        run.input = b""
        if run.input_fd in self._inputs:
            self._poller.unregister(run.input_fd)
            del self._inputs[run.input_fd]
        self._on_written(run)
        if run.input_ends:
            self.close_input(run)

    def close_input(self, run: Run) -> None:
        if run.input_fd in self._inputs:
            self._poller.unregister(run.input_fd)
            del self._inputs[run.input_fd]
        if run.input_fd >= 0:
            os.close(run.input_fd)
            run.input_fd = -1
