"""The spawner: a small process that owns the pods' processes, one per node agent.

Why it is apart from the agent: the agent holds gRPC and an event loop, and is neither a good parent (forking it is slow
and risky) nor a lean one. The spawner is single-threaded, knows nothing of pods or clusters, and imports next to
nothing. It starts programs, pumps their output into log files, reaps every child, and kills whole trees:

    agent -> spawner                                        spawner -> agent
    {"op": "start", "id", "argv", "env", "cwd", "log"}      {"event": "started", "id", "pid", "ticks", "at"}
    {"op": "start", ..., "fds": 3, "parent"}                {"event": "failed", "id", "code", "message"}
    {"op": "signal", "id", "signal"}                        {"event": "exited", "id", "code", "signal", "at", "tail",
    {"op": "kill", "id"}                                                 "survivors"}

Each message is a 4-byte length (big endian) and JSON, over a socket that the agent hands down. A start that carries
three descriptors (SCM_RIGHTS) runs with them as its standard input, output and error instead of a log: that is exec.

The life of a run: started -> (leader ends, or kill) -> sweep -> exited. When the leader ends, for whatever reason, what
is left of its tree is killed before the end is reported, as the end of a container's first process ends the container.
A process belongs to a run if it descends from its leader; or, adopted by us because we are a child-subreaper, if it is
in the leader's session, carries the run's marker in its environment, or writes to the run's pipe. "exited" is sent once
nothing of that is left, or, with the survivors named, after SWEEP_LIMIT_S: a process in an uninterruptible wait.

When the agent goes (end of file on the socket), or on SIGTERM, everything is killed at once and the spawner exits.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
import time

from node_agent import process_tree as tree
from node_agent.launch import Refused, launch
from node_agent.log_file import LogFile

TYPE_CHECKING = False  # importing `typing` just for annotations would cost this process 1 MB
if TYPE_CHECKING:
    from typing import Any

MARKER = "PODIUM_RUN"
"""The environment variable that says which run a process belongs to."""
SWEEP_LIMIT_S = 5.0
SWEEP_PAUSE_S = (0.002, 0.1)
"""Shortest and longest pause between two looks at a tree that is being killed."""
TAIL_BYTES = 4096
"""How much of the end of the output is kept for the report."""
_CHUNK_BYTES = 65536
_LAST_CHUNKS = 64
"""How many chunks are still read after the end: a pipe holds less, unless a survivor goes on writing."""
_HEADER = struct.Struct("!I")
_MAX_MESSAGE_BYTES = 8 << 20
_PR_SET_CHILD_SUBREAPER = 36


class Run:
    """One program that was started, and its tree."""

    __slots__ = ("deadline", "end", "fd", "id", "log", "parent", "pid", "pipe", "tail")

    def __init__(self, id: str, pid: int, parent: str, fd: int, log: LogFile | None) -> None:
        self.id, self.pid, self.parent, self.fd, self.log = id, pid, parent, fd, log
        self.pipe = os.readlink(f"/proc/self/fd/{fd}") if fd >= 0 else ""
        self.tail = b""
        self.end: tuple[int, int, float] | None = None  # exit code, signal, time: the leader has been reaped
        self.deadline = 0.0  # > 0: being swept, until then


class Spawner:
    """The loop. `serve` returns when the agent is gone and everything is dead."""

    def __init__(self, agent: socket.socket, log_max_bytes: int, log_files: int) -> None:
        self.agent = agent
        self.log_max_bytes, self.log_files = log_max_bytes, log_files
        self.runs: dict[str, Run] = {}
        self.by_pid: dict[int, Run] = {}  # leaders that have not been reaped
        self.by_fd: dict[int, Run] = {}
        self.sweeping: dict[str, Run] = {}
        self.ending: list[int] = []
        self.session = os.getsid(0)
        self.inbox = b""
        self.outbox = b""  # grows with what the agent asked for, never by itself: bounded by the runs it started
        self.blocked = False  # the socket takes no more now: we are waiting for it
        self.received_fds: list[int] = []
        self.pause_s = SWEEP_PAUSE_S[0]
        self.next_sweep = 0.0
        self.stopping = False
        self.poller = select.epoll()
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake_fd = wake_read
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        agent.setblocking(False)
        self.poller.register(agent.fileno(), select.EPOLLIN)
        self.poller.register(wake_read, select.EPOLLIN)

    def _on_signal(self, number: int, frame: object) -> None:
        self.stopping = self.stopping or number == signal.SIGTERM

    def serve(self) -> None:
        """Works until the agent goes away."""
        while not self.stopping:
            timeout = max(0.0, self.next_sweep - _now()) if self.sweeping else -1
            for fd, _events in self.poller.poll(timeout):
                if fd == self.wake_fd:
                    os.read(self.wake_fd, 4096)
                elif fd == self.agent.fileno():
                    self._talk()
                elif fd in self.by_fd:
                    self._pump(self.by_fd[fd])
            self._reap()
            if self.sweeping and _now() >= self.next_sweep:
                self._sweep()
        self._end_everything()

    # --- the agent's side

    def _talk(self) -> None:
        try:
            data, fds, _flags, _address = socket.recv_fds(self.agent, _CHUNK_BYTES, 16)
        except BlockingIOError:
            self._flush()
            return
        except OSError:
            data, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
        self.received_fds += fds
        if not data:
            self.stopping = True
            return
        self.inbox += data
        while len(self.inbox) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self.inbox)
            if length > _MAX_MESSAGE_BYTES:
                self.stopping = True
                return
            if len(self.inbox) < _HEADER.size + length:
                break
            message = json.loads(self.inbox[_HEADER.size : _HEADER.size + length])
            self.inbox = self.inbox[_HEADER.size + length :]
            self._handle(message)
        self._flush()

    def _handle(self, message: dict[str, Any]) -> None:
        run = self.runs.get(message["id"])
        if message["op"] == "start":
            self._start(message)
        elif run is None:
            return  # it ended while the message was on its way
        elif message["op"] == "signal":
            if run.pid in self.by_pid:
                tree.send(run.pid, message["signal"])
        elif message["op"] == "kill":
            self._begin_sweep(run)

    def _tell(self, **message: object) -> None:
        data = json.dumps(message).encode()
        self.outbox += _HEADER.pack(len(data)) + data
        self._flush()

    def _flush(self) -> None:
        while self.outbox:
            try:
                sent = self.agent.send(self.outbox)
            except BlockingIOError:
                break
            except OSError:
                self.stopping = True
                return
            self.outbox = self.outbox[sent:]
        if self.blocked != bool(self.outbox):
            self.blocked = bool(self.outbox)
            self.poller.modify(self.agent.fileno(), select.EPOLLIN | (select.EPOLLOUT if self.blocked else 0))

    # --- starting, pumping, reaping

    def _start(self, message: dict[str, Any]) -> None:
        id, env = message["id"], dict(message["env"])
        env[MARKER] = id
        given, self.received_fds = (
            self.received_fds[: message.get("fds", 0)],
            self.received_fds[message.get("fds", 0) :],
        )
        log: LogFile | None = None
        reader = writer = -1
        try:
            if message.get("fds"):
                pid = launch(message["argv"], env, message["cwd"], (given[0], given[1], given[2]))
            else:
                try:
                    log = LogFile(message["log"], self.log_max_bytes, self.log_files)
                except OSError as error:
                    raise Refused(128, f'cannot open log file "{message["log"]}": {error.strerror}') from None
                reader, writer = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(reader, False)
                pid = launch(message["argv"], env, message["cwd"], (-1, writer, writer))
        except (Refused, OSError) as error:
            if reader >= 0:
                os.close(reader)
            if log:
                log.close()
            self._tell(event="failed", id=id, code=getattr(error, "code", 128), message=str(error))
            return
        finally:
            for fd in [*given, *([writer] if writer >= 0 else [])]:
                os.close(fd)
        run = Run(id, pid, message.get("parent", ""), reader, log)
        self.runs[id] = self.by_pid[pid] = run
        if reader >= 0:
            self.by_fd[reader] = run
            self.poller.register(reader, select.EPOLLIN)
        self._tell(event="started", id=id, pid=pid, ticks=tree.start_ticks_of(pid), at=_wall())

    def _pump(self, run: Run) -> bool:
        """Moves one chunk of output to the log; False when there is nothing (more) to read now."""
        try:
            data = os.read(run.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            assert run.log is not None
            run.log.write(data)
            run.tail = (run.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
            return True
        self._close_output(run)
        return False

    def _close_output(self, run: Run) -> None:
        if run.fd >= 0:
            self.poller.unregister(run.fd)
            del self.by_fd[run.fd]
            os.close(run.fd)
            run.fd = -1
        if run.log:
            run.log.close()
            run.log = None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self.by_pid.pop(pid, None)
            if run is not None:  # everyone else is an orphan that we adopted: reaped, and that is all
                code = os.waitstatus_to_exitcode(status)
                run.end = (code, 0, _wall()) if code >= 0 else (128 - code, -code, _wall())
                self._begin_sweep(run)

    # --- ending trees

    def _begin_sweep(self, run: Run) -> None:
        for other in self.runs.values():
            if not other.deadline and (other is run or other.parent == run.id):
                other.deadline = _now() + SWEEP_LIMIT_S
                self.sweeping[other.id] = other
        self.pause_s, self.next_sweep = SWEEP_PAUSE_S[0], 0.0  # all of them in one look, when the loop comes round

    def _sweep(self) -> None:
        """Kills what is left of the runs that are to end; reports those of which nothing is left."""
        sweeping = list(self.sweeping.values())
        members = self._members(sweeping)
        for run in sweeping:
            tree.kill_all(members[run.id], self.session)
        over = [run for run in sweeping if run.end is not None and self._is_over(run, members)]
        # The list of children may skip one when another ends while it is read: look twice before saying so.
        members = self._members(over) if over else {}
        for run in over:
            if self._is_over(run, members):
                self._finish(run, members[run.id])
        self.next_sweep = _now() + self.pause_s
        self.pause_s = min(self.pause_s * 2, SWEEP_PAUSE_S[1])

    def _is_over(self, run: Run, members: dict[str, list[int]]) -> bool:
        return not (members[run.id] or self.ending) or _now() > run.deadline

    def _members(self, runs: list[Run]) -> dict[str, list[int]]:
        """Of each run, the processes that live. Orphans that are just ending belong to somebody, but nobody can tell
        to whom: they go to `ending`, and whoever wants to be sure that a run is over waits for them."""
        self.ending = []
        roots: dict[str, list[int]] = {run.id: [run.pid] if run.pid in self.by_pid else [] for run in runs}
        for pid in tree.children_of(os.getpid()):
            if pid in self.by_pid:
                continue
            stat = tree.stat_of(pid)
            if stat is None or stat[0] in tree.DEAD:
                continue
            if stat[5]:
                self.ending.append(pid)
                continue
            marker, pipes = tree.environ_value(pid, MARKER), tree.output_pipes(pid)
            for run in runs:
                if stat[3] == run.pid or marker == run.id or (run.pipe and run.pipe in pipes):
                    roots[run.id].append(pid)
                    break
        return {
            id: [pid for pid in tree.descendants_of(pids) if tree.is_alive(pid)] for id, pids in roots.items() if pids
        } | {id: [] for id, pids in roots.items() if not pids}

    def _finish(self, run: Run, survivors: list[int]) -> None:
        for _ in range(_LAST_CHUNKS):
            if run.fd < 0 or not self._pump(run):
                break
        self._close_output(run)
        del self.runs[run.id], self.sweeping[run.id]
        assert run.end is not None
        code, number, at = run.end
        tail = run.tail.decode(errors="replace")
        self._tell(event="exited", id=run.id, code=code, signal=number, at=at, tail=tail, survivors=survivors)

    def _end_everything(self) -> None:
        deadline = _now() + 2 * SWEEP_LIMIT_S
        while _now() < deadline:
            # The leaders too: they are children like all others.
            tree.kill_all(tree.descendants_of(tree.children_of(os.getpid())), self.session)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(SWEEP_PAUSE_S[0])


def _now() -> float:
    return time.monotonic()  # noqa: TID251  (standard library only: this process has no Clock)


def _wall() -> float:
    return time.time()  # noqa: TID251


def become_subreaper() -> bool:
    """From now on, this process adopts its orphaned descendants. False where the kernel does not know how."""
    import ctypes  # 10 ms and 0.4 MB, and nobody else here needs it

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def main(argv: list[str]) -> int:
    """python -m node_agent.spawner FD LOG_MAX_BYTES LOG_FILES"""
    fd, log_max_bytes, log_files = (int(word) for word in argv)
    os.set_inheritable(fd, False)
    become_subreaper()
    Spawner(socket.socket(fileno=fd), log_max_bytes, log_files).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
