"""Starting runs: their streams, their records, and the time that they may take to prepare themselves.

A program that needs more than a start prepares itself first, in its own process (`node_agent.launch`): what it needs
may not answer, and nobody else is to wait for it. It is started once it says nothing more. After LIMIT_S it is given
up, and so is what is still being prepared when its agent goes. Standard library only: the spawner loads this file.
"""

from __future__ import annotations

import os
import select

from node_agent import process_tree as tree
from node_agent.cgroup_files import kill_all_in
from node_agent.launch import Refused, refusal
from node_agent.log_file import LogFile
from node_agent.spawner_records import MARKER, Records
from node_agent.spawner_runs import Run, now, wall
from node_agent.spawner_streams import Streams

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from node_agent.shared_names import SharedNames

LIMIT_S = 10.0
"""How long a program may prepare itself: what it waits for is a file system that does not answer."""
_CHUNK_BYTES = 65536


class Starter:
    """Of all runs. It adds to `runs`, by id, and to `by_pid`: leaders that have not been reaped."""

    def __init__(
        self,
        poller: select.epoll,
        runs: dict[str, Run],
        by_pid: dict[int, Run],
        *,
        streams: Streams,
        records: Records,
        launch: Callable[..., tuple[int, int]],
        names: SharedNames | None,
        boot: str,
        log_max_bytes: int,
        log_files: int,
        tell: Callable[..., None],
        end: Callable[[Run], None],
    ) -> None:
        """`launch` is `node_agent.launch.launch`, or a Launcher. `tell(event=, ...)` tells the agent; `end(run)` ends a
        run, and the commands beside it."""
        self._poller, self._runs, self._by_pid = poller, runs, by_pid
        self._streams, self._records, self._launch, self._names, self._boot = streams, records, launch, names, boot
        self._log_max_bytes, self._log_files = log_max_bytes, log_files
        self._tell, self._end = tell, end
        self._preparing: dict[int, Run] = {}  # by where they say why they cannot be, oldest first

    def start(self, message: dict[str, Any], given: list[int]) -> None:
        """Starts a program, with the descriptors that came for it, which are closed."""
        if self._names is not None:
            self._names.keep()
        id, env = message["id"], dict(message["env"])
        env[MARKER] = id
        confinement, tty, parent = message.get("confinement"), message.get("tty", False), message.get("parent", "")
        theirs: list[int] = list(given)  # closed once the program has them
        ours: list[int] = []  # closed if it cannot be started
        log: LogFile | None = None
        reader = input_fd = -1
        try:
            if parent and (parent not in self._runs or self._runs[parent].deadline):
                raise Refused(126, "the container has just ended")
            if given:
                fds = (given[0], given[1], given[2])
            else:
                log = self._open_log(message["log"])
                stdin = writer = -1
                if tty:
                    reader, writer = os.openpty()
                    input_fd = os.dup(reader)
                    stdin = writer
                    theirs.append(writer)
                else:
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    theirs.append(writer)
                    if message.get("stdin"):
                        stdin, input_fd = os.pipe2(os.O_CLOEXEC)
                        theirs.append(stdin)
                ours = [fd for fd in (reader, input_fd) if fd >= 0]
                for fd in ours:
                    os.set_blocking(fd, False)
                fds = (stdin, writer, writer)
            pid, word = self._launch(message["argv"], env, message["cwd"], fds, confinement, tty)
        except (Refused, OSError) as error:
            for fd in ours:
                os.close(fd)
            if log:
                log.close()
            self._tell(event="failed", id=id, code=getattr(error, "code", 128), message=str(error))
            return
        finally:
            for fd in theirs:
                os.close(fd)
        run = Run(id, pid, parent, reader, log, input_fd)
        run.attached, run.depth = bool(given), (confinement or {}).get("depth", 0)
        if not parent:  # with one it is in that one's groups, and they are not its own to end
            run.cgroups = list((confinement or {}).get("cgroups", ()))
        self._runs[id] = self._by_pid[pid] = run
        self._streams.add(run)
        run.ticks, run.at, run.mono = tree.start_ticks_of(pid), wall(), now()
        if not run.parent:
            files = {"log": message["log"], "boot": self._boot, "cgroups": run.cgroups}
            self._records.started(id, pid=pid, ticks=run.ticks, at=run.at, mono=run.mono, **files)
        if word < 0:
            self._tell_started(run)
        else:
            run.word, run.prepare_by = word, now() + LIMIT_S
            self._preparing[word] = run
            self._poller.register(word, select.EPOLLIN)

    def _tell_started(self, run: Run) -> None:
        self._tell(event="started", id=run.id, pid=run.pid, ticks=run.ticks, at=run.at, mono=run.mono)

    # --- what is being prepared

    def hear(self, run: Run) -> None:
        """Takes in what it says, if anything. Once that ends, it runs, or is over."""
        try:
            while data := os.read(run.word, _CHUNK_BYTES):
                run.said += data
        except BlockingIOError:
            return
        self._stop_hearing(run)
        if not run.said:
            self._tell_started(run)
            return
        self._by_pid.pop(run.pid, None)  # it ends by itself, with nothing below it
        del self._runs[run.id]
        self._streams.close_output(run)
        self._streams.close_input(run)
        self._tell_failed(run.id, run, refusal(run.said))

    def _stop_hearing(self, run: Run) -> None:
        self._poller.unregister(run.word)
        del self._preparing[run.word]
        os.close(run.word)
        run.word = -1

    def _tell_failed(self, id: str, run: Run, why: Refused) -> None:
        if not run.parent:
            self._records.forget(id)
        self._tell(event="failed", id=id, code=why.code, message=why.message)

    def on_event(self, fd: int) -> bool:
        """Something happened to this descriptor; False if nobody says anything there."""
        run = self._preparing.get(fd)
        if run is not None:
            self.hear(run)
        return run is not None

    @property
    def due(self) -> float:
        """When the first of those that are being prepared is given up, monotonic."""
        return next(iter(self._preparing.values())).prepare_by if self._preparing else float("inf")

    def give_up_late_ones(self) -> None:
        """Those whose time is over."""
        while self.due <= now():
            run = next(iter(self._preparing.values()))
            why = "a volume, the working directory or the program lies where nothing answers"
            self.give_up(run, f"it could not be prepared within {LIMIT_S:g} s: {why}")
            self._end(run)

    def give_up(self, run: Run, why: str) -> None:
        """Says that it failed. It is killed, which may take time: meanwhile its name and its groups are others'."""
        self._stop_hearing(run)
        kill_all_in(run.cgroups)
        id, run.cgroups, run.given_up = run.id, [], True
        del self._runs[id]
        run.id = f"{id}, given up (pid {run.pid})"
        self._runs[run.id] = run
        self._tell_failed(id, run, Refused(128, why))

    def _open_log(self, path: str) -> LogFile:
        try:
            return LogFile(path, self._log_max_bytes, self._log_files)
        except OSError as error:
            raise Refused(128, f'cannot open log file "{path}": {error.strerror}') from None
