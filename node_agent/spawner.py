"""The spawner: a small process that owns the pods' processes, one per node, and outlives the node agent.

Why it is apart from the agent: the agent holds gRPC and an event loop, and is neither a good parent (forking it is slow
and risky) nor a lean one; and it may crash, be killed and be upgraded while pods run on. The spawner does one thing at
a time, knows nothing of pods or clusters, and imports next to nothing. It starts programs, pumps their output into log
files, reaps every child, kills whole trees, and remembers how each run ended until an agent has noted it:

    agent -> spawner                                        spawner -> agent
    {"op": "start", "id", "argv", "env", "cwd", "log",      {"event": "started", "id", "pid", "ticks", "at", "mono"}
            "confinement", "stdin", "tty"}                  {"event": "failed", "id", "code", "message"}
    {"op": "start", ..., "fds": 3, "parent"}                {"event": "survivors", "id", "pids"}: they do not die
    {"op": "signal", "id", "signal"}                        {"event": "exited", "id", "code", "signal", "at", "mono",
    {"op": "kill", "id"}                                             "tail", "usage", "lost"}
    {"op": "stdin", "id", "data"}, {"op": "stdin_close"}    {"event": "written", "id"}: the input was taken
    {"op": "resize", "id", "rows", "columns"}               {"event": "hello", "protocol", "pid", "boot", "runs",
    {"op": "forget", "id"}, {"op": "end"}                            "confinement"}, then {"event": "run", ...} for each
                                                            {"event": "busy", "pid"}: another agent is on the line

How messages travel is in `node_agent.spawner_line`. "at" is in seconds since 1970, for people; "mono" is the same
moment on the monotonic clock, which nobody sets. A start that carries three descriptors runs with them as its standard
input, output and error instead of a log: that is a command, and it ends with its agent. If it has a parent it runs in
that run's control groups, ends with it, and is of no interest when nobody holds it any more. Without one it is a run
like all others, with control groups and records of its own.

A program that needs more than that prepares itself first, in its own process (`node_agent.launch`): what it needs may
not answer, and nobody else is to wait for it. It is started once it says nothing more. After PREPARE_LIMIT_S it is
given up, and so is what is still being prepared when its agent goes.

The life of a run: started -> (leader ends, or kill) -> sweep -> exited -> forgotten. When the leader ends, for whatever
reason, what is left of its tree is killed before the end is reported, as the end of a container's first process ends
the container. A process belongs to a run if it is in one of the run's control groups or descends from its leader; or,
adopted by us because we are a child-subreaper, if it is in the leader's session, carries the run's marker in its
environment, or writes to the run's pipe. "exited" is sent once nothing of that is left, however long that takes: what
is in an uninterruptible wait, and still lives after SWEEP_LIMIT_S, is named, and looked after until it is gone.

Everything is killed at once and the spawner exits when it is told to ("end", or SIGTERM), and when its lifeline ends:
the agent, if there is one, is given some time first to end its pods with grace. Without a lifeline (lifetime
"service") the death of all others changes nothing. What a spawner that was killed left behind is ended by the next one,
and reported as lost.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios
import time

from node_agent import process_tree as tree
from node_agent import spawner_line as lines
from node_agent.cgroup_files import kill_all_in, pids_in
from node_agent.launch import Launcher, Refused, confined, launch, refusal
from node_agent.left_behind import LOST_CODE, LOST_SIGNAL, end_left_behind
from node_agent.log_file import LogFile
from node_agent.shared_names import SharedNames
from node_agent.spawner_records import MARKER, Records

TYPE_CHECKING = False  # importing `typing` just for annotations would cost this process 1 MB
if TYPE_CHECKING:
    from typing import Any

LOCK, WHO = "spawner.lock", "spawner.json"
"""Held by the spawner of a node while it lives; and who it is: {"pid", "ticks", "boot"}."""
TRUSTED_DIRECTORY = "trusted"
"""In a node's directory: that of a second spawner, for trusted pods (`node_agent.runtime.trusting`)."""
SHOWN = ("pods", "data", "memory")
"""What of the node's directory its pods may see; the last one may be a link to where it lies."""
RESOLV_CONF = "resolv.conf"
"""In a node's directory, if it is there: what all its pods find at /etc/resolv.conf."""
PREPARE_LIMIT_S = 10.0
"""How long a program may prepare itself: what it waits for is a file system that does not answer."""
SWEEP_LIMIT_S = 5.0
"""What of a tree has not died then is named."""
SWEEP_PAUSE_S = (0.002, 0.1)
"""Shortest and longest pause between two looks at a tree that is being killed."""
SURVIVORS_PAUSE_S = 1.0
"""Longest pause when nobody is left to be killed but those that were named: uninterruptible waits may be long."""
TAIL_BYTES = 4096
"""How much of the end of the output is kept for the report."""
_CHUNK_BYTES = 65536
_LAST_CHUNKS = 64
"""How many chunks are still read after the end: a pipe holds less, unless a survivor goes on writing."""
_PR_SET_CHILD_SUBREAPER = 36


class Run:
    """One program that was started, and its tree."""

    __slots__ = (
        *("at", "attached", "cgroups", "deadline", "depth", "end", "fd", "given_up", "id", "input", "input_ends"),
        *("input_fd", "left", "log", "mono", "parent", "pid", "pipe", "prepare_by", "said", "survivors", "tail"),
        *("ticks", "usage", "word"),
    )

    def __init__(self, id: str, pid: int, parent: str, fd: int, log: LogFile | None, input_fd: int) -> None:
        self.id, self.pid, self.parent, self.fd, self.log = id, pid, parent, fd, log
        self.pipe = f"pipe:[{os.fstat(fd).st_ino}]" if fd >= 0 else ""
        self.tail = b""
        # Exit code, signal, and when: by the calendar, and monotonic. The leader has been reaped.
        self.end: tuple[int, int, float, float] | None = None
        self.attached = False  # the agent holds its streams
        self.usage: dict[str, int] = {}
        self.deadline = 0.0  # > 0: being swept, until then
        self.input_fd, self.input, self.input_ends = input_fd, b"", False
        self.cgroups: list[str] = []
        self.depth = 0  # how far below the leader the program is, to which signals go
        self.left: dict[int, int] = {}  # an earlier spawner's processes, by pid and start time: nobody's children here
        self.survivors: list[int] = []  # what did not die in time; looked after until it has
        self.ticks, self.at, self.mono = 0, 0.0, 0.0
        # While it is being prepared: where it says why it cannot be, what it has said, and until when.
        self.word, self.said, self.prepare_by = -1, b"", float("inf")
        self.given_up = False  # nobody wants to hear of it any more

    @classmethod
    def of_left(cls, id: str, left: dict[int, int], cgroups: list[str]) -> Run:
        """A run of an earlier spawner of which processes do not die: to be swept until they do."""
        run = cls(id, -1, "", -1, None, -1)
        run.left, run.survivors, run.cgroups, run.deadline = left, list(left), cgroups, _now()
        run.end = (LOST_CODE, LOST_SIGNAL, _wall(), _now())
        return run


class Spawner:
    """The loop. `serve` returns when everything is to end and is dead."""

    def __init__(
        self,
        line: lines.Line,
        records: Records,
        *,
        log_max_bytes: int,
        log_files: int,
        lifeline: int = -1,
        patience_s: float = 0.0,
        launcher: Launcher | None = None,
        confinement: dict[str, Any] | None = None,
        names: SharedNames | None = None,
        left: dict[str, dict[int, int]] | None = None,
    ) -> None:
        """`names`: what all programs find at /etc/resolv.conf. `left`: of runs of an earlier spawner, the processes
        that do not die."""
        self.line, self.records = line, records
        self.log_max_bytes, self.log_files = log_max_bytes, log_files
        self.lifeline, self.patience_s = lifeline, patience_s
        self.confinement = confinement or {}
        self.names = names
        self.launch = launcher or launch
        self.boot = boot_id()
        self.runs: dict[str, Run] = {}
        self.by_pid: dict[int, Run] = {}  # leaders that have not been reaped
        self.by_fd: dict[int, Run] = {}
        self.by_input: dict[int, Run] = {}  # whose input waits for room in the pipe
        self.preparing: dict[int, Run] = {}  # by where they say why they cannot be, oldest first
        self.sweeping: dict[str, Run] = {}
        self.ending: list[int] = []
        self.session = os.getsid(0)
        self.blocked = False  # the socket takes no more now: we are waiting for it
        self.pause_s = SWEEP_PAUSE_S[0]
        self.next_sweep = 0.0
        self.end_at = float("inf")
        self.stopping = False
        for id, processes in (left or {}).items():
            self.runs[id] = self.sweeping[id] = Run.of_left(id, processes, records.runs[id].get("cgroups", []))
        self.poller = select.epoll()
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake_fd = wake_read
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for fd in (wake_read, line.listener.fileno(), lifeline):
            if fd >= 0:
                self.poller.register(fd, select.EPOLLIN)
        if names is not None and names.watch_fd >= 0:
            self.poller.register(names.watch_fd, select.EPOLLPRI)

    def _on_signal(self, number: int, frame: object) -> None:
        self.stopping = self.stopping or number == signal.SIGTERM

    def serve(self) -> None:
        """Works until everything is to end."""
        while not self.stopping:
            for fd, events in self.poller.poll(self._timeout_s()):
                if fd in self.by_fd:
                    self._pump(self.by_fd[fd])
                elif fd in self.preparing:
                    self._hear(self.preparing[fd])
                elif self.line.agent is not None and fd == self.line.agent.fileno():
                    self._talk()
                elif fd == self.wake_fd:
                    os.read(self.wake_fd, 4096)
                elif fd in self.by_input and events & select.EPOLLOUT:
                    self._feed(self.by_input[fd])
                elif fd in self.by_input:
                    self._close_input(self.by_input[fd])
                elif fd == self.line.listener.fileno():
                    self._greet()
                elif self.names is not None and fd == self.names.watch_fd:
                    self.names.keep()
                elif fd == self.lifeline:
                    self._on_lifeline()
            self._reap()
            self._give_up_late_ones()
            if self.sweeping and _now() >= self.next_sweep:
                self._sweep()
            self.stopping = self.stopping or _now() >= self.end_at
        self._end_everything()

    def _timeout_s(self) -> float:
        due = min(self.end_at, self.next_sweep if self.sweeping else float("inf"), self._next_to_give_up())
        return -1 if due == float("inf") else max(0.0, due - _now())

    def _on_lifeline(self) -> None:
        self.poller.unregister(self.lifeline)
        self.end_at = _now() + (self.patience_s if self.line.agent is not None else 0.0)

    # --- the agent's side

    def _greet(self) -> None:
        # One agent follows the other at once: the line is free if the earlier one has said its last words already.
        while self.line.is_hung_up():
            self._talk()
        if not self.line.accept() or self.line.agent is None:
            return
        self.poller.register(self.line.agent.fileno(), select.EPOLLIN)
        runs = list(self.records.runs.values())
        me = {"protocol": lines.PROTOCOL, "pid": os.getpid(), "boot": self.boot}
        self._tell(event="hello", **me, runs=len(runs), confinement=self.confinement)
        for entry in runs:
            self._tell(event="run", **entry)
        for run in self.sweeping.values():
            if run.survivors:
                self._tell(event="survivors", id=run.id, pids=run.survivors)

    def _talk(self) -> None:
        try:
            for message in self.line.receive():
                self._handle(message)
            self.line.flush()
        except lines.HungUp:
            self._on_hung_up()
        else:
            self._watch_line()

    def _on_hung_up(self) -> None:
        """Pods run on; commands that run for the agent do not."""
        if self.line.agent is None:
            return
        self.poller.unregister(self.line.agent.fileno())
        self.line.hang_up()
        self.blocked = False
        for run in list(self.runs.values()):
            if run.attached or run.word >= 0:
                self._begin_sweep(run)
        if self.end_at < float("inf"):
            self.end_at = 0.0

    def _handle(self, message: dict[str, Any]) -> None:
        op, id = message["op"], message.get("id", "")
        run = self.runs.get(id)
        if op == "start":
            self._start(message)
        elif op == "forget":
            self.records.forget(id)
        elif op == "end":
            self.stopping = True
        elif run is None:
            return  # it ended while the message was on its way
        elif op == "signal":
            if run.pid in self.by_pid:
                pid = tree.descend(run.pid, run.depth)
                tree.send(pid, tree.start_ticks_of(pid), message["signal"])
        elif op == "kill":
            self._begin_sweep(run)
        elif op == "stdin":
            run.input += base64.b64decode(message["data"])
            self._feed(run)
        elif op == "stdin_close":
            run.input_ends = True
            self._feed(run)
        elif op == "resize" and run.fd >= 0:
            size = struct.pack("4H", message["rows"], message["columns"], 0, 0)
            try:
                fcntl.ioctl(run.fd, termios.TIOCSWINSZ, size)
            except OSError:
                pass  # it has no terminal

    def _tell(self, **message: object) -> None:
        try:
            self.line.tell(message)
        except lines.HungUp:
            self._on_hung_up()
        else:
            self._watch_line()

    def _watch_line(self) -> None:
        if self.line.agent is not None and self.blocked != bool(self.line.outbox):
            self.blocked = bool(self.line.outbox)
            self.poller.modify(self.line.agent.fileno(), select.EPOLLIN | (select.EPOLLOUT if self.blocked else 0))

    # --- starting, pumping, reaping

    def _start(self, message: dict[str, Any]) -> None:
        if self.names is not None:
            self.names.keep()
        id, env = message["id"], dict(message["env"])
        env[MARKER] = id
        count, confinement, tty = message.get("fds", 0), message.get("confinement"), message.get("tty", False)
        parent = message.get("parent", "")
        given, self.line.fds = self.line.fds[:count], self.line.fds[count:]
        theirs: list[int] = list(given)  # closed once the program has them
        ours: list[int] = []  # closed if it cannot be started
        log: LogFile | None = None
        reader = input_fd = -1
        try:
            if parent and (parent not in self.runs or self.runs[parent].deadline):
                raise Refused(126, "the container has just ended")
            if count == 3:
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
            pid, word = self.launch(message["argv"], env, message["cwd"], fds, confinement, tty)
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
        run.attached, run.depth = count == 3, (confinement or {}).get("depth", 0)
        if not parent:  # with one it is in that one's groups, and they are not its own to end
            run.cgroups = list((confinement or {}).get("cgroups", ()))
        self.runs[id] = self.by_pid[pid] = run
        if reader >= 0:
            self.by_fd[reader] = run
            self.poller.register(reader, select.EPOLLIN)
        run.ticks, run.at, run.mono = tree.start_ticks_of(pid), _wall(), _now()
        if not run.parent:
            files = {"log": message["log"], "boot": self.boot, "cgroups": run.cgroups}
            self.records.started(id, pid=pid, ticks=run.ticks, at=run.at, mono=run.mono, **files)
        if word < 0:
            self._tell_started(run)
        else:
            run.word, run.prepare_by = word, _now() + PREPARE_LIMIT_S
            self.preparing[word] = run
            self.poller.register(word, select.EPOLLIN)

    def _tell_started(self, run: Run) -> None:
        self._tell(event="started", id=run.id, pid=run.pid, ticks=run.ticks, at=run.at, mono=run.mono)

    # --- what is being prepared

    def _hear(self, run: Run) -> None:
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
        self.by_pid.pop(run.pid, None)  # it ends by itself, with nothing below it
        del self.runs[run.id]
        self._close_output(run)
        self._close_input(run)
        self._tell_failed(run.id, run, refusal(run.said))

    def _stop_hearing(self, run: Run) -> None:
        self.poller.unregister(run.word)
        del self.preparing[run.word]
        os.close(run.word)
        run.word = -1

    def _tell_failed(self, id: str, run: Run, why: Refused) -> None:
        if not run.parent:
            self.records.forget(id)
        self._tell(event="failed", id=id, code=why.code, message=why.message)

    def _next_to_give_up(self) -> float:
        return next(iter(self.preparing.values())).prepare_by if self.preparing else float("inf")

    def _give_up_late_ones(self) -> None:
        while self._next_to_give_up() <= _now():
            run = next(iter(self.preparing.values()))
            why = "a volume, the working directory or the program lies where nothing answers"
            self._give_up(run, f"it could not be prepared within {PREPARE_LIMIT_S:g} s: {why}")
            self._begin_sweep(run)

    def _give_up(self, run: Run, why: str) -> None:
        """Says that it failed. It is killed, which may take time: meanwhile its name and its groups are others'."""
        self._stop_hearing(run)
        kill_all_in(run.cgroups)
        id, run.cgroups, run.given_up = run.id, [], True
        del self.runs[id]
        run.id = f"{id}, given up (pid {run.pid})"
        self.runs[run.id] = run
        self._tell_failed(id, run, Refused(128, why))

    def _open_log(self, path: str) -> LogFile:
        try:
            return LogFile(path, self.log_max_bytes, self.log_files)
        except OSError as error:
            raise Refused(128, f'cannot open log file "{path}": {error.strerror}') from None

    def _pump(self, run: Run) -> bool:
        """Moves one chunk of output to the log; False when there is nothing (more) to read now."""
        try:
            data = os.read(run.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal that nobody holds any more
        if data:
            assert run.log is not None
            run.log.write(data, _wall())
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

    def _feed(self, run: Run) -> None:
        """Gives the program as much of its input as it takes now."""
        while run.input and run.input_fd >= 0:
            try:
                run.input = run.input[os.write(run.input_fd, run.input) :]
            except BlockingIOError:
                if run.input_fd not in self.by_input:
                    self.by_input[run.input_fd] = run
                    self.poller.register(run.input_fd, select.EPOLLOUT)
                return
            except OSError:
                run.input_ends = True  # it does not read any more
                break
        run.input = b""
        if run.input_fd in self.by_input:
            self.poller.unregister(run.input_fd)
            del self.by_input[run.input_fd]
        self._tell(event="written", id=run.id)
        if run.input_ends:
            self._close_input(run)

    def _close_input(self, run: Run) -> None:
        if run.input_fd in self.by_input:
            self.poller.unregister(run.input_fd)
            del self.by_input[run.input_fd]
        if run.input_fd >= 0:
            os.close(run.input_fd)
            run.input_fd = -1

    def _reap(self) -> None:
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None:
                return
            pid = seen.si_pid
            run = self.by_pid.get(pid)
            if run is not None and run.word >= 0:
                self._hear(run)  # its last word may be that it never came to run
            if run is not None and run.id in self.runs:
                # Its group is killed while it is still there: its number is nobody else's yet.
                self._begin_sweep(run)
                del self.by_pid[pid]
            _, status, used = os.wait4(pid, 0)
            if run is not None and run.id in self.runs:  # all others are orphans that we adopted: reaped, that is all
                code = os.waitstatus_to_exitcode(status)
                code, number = (code, 0) if code >= 0 else (128 - code, -code)
                run.end = (code, number, _wall(), _now())
                run.usage = {
                    "user_ms": round(used.ru_utime * 1000),
                    "system_ms": round(used.ru_stime * 1000),
                    "max_rss_bytes": used.ru_maxrss * 1024,
                }

    # --- ending trees

    def _begin_sweep(self, run: Run) -> None:
        for other in [other for other in self.runs.values() if other is run or other.parent == run.id]:
            if other.word >= 0:
                self._hear(other)
            if other.word >= 0:
                self._give_up(other, "it was killed while it was being prepared")
            if not other.deadline and other.id in self.runs:
                other.deadline = _now() + SWEEP_LIMIT_S
                self.sweeping[other.id] = other
                # Before anything is looked up, which takes its time beside a fork bomb: most trees are one group.
                tree.send_group(other.pid, signal.SIGKILL)
        self.pause_s, self.next_sweep = SWEEP_PAUSE_S[0], 0.0  # all of them in one look, when the loop comes round

    def _sweep(self) -> None:
        """Kills what is left of the runs that are to end; reports those of which nothing is left."""
        sweeping = list(self.sweeping.values())
        members = self._members(sweeping)
        for run in sweeping:
            if members[run.id] and run.cgroups:
                kill_all_in(run.cgroups)
            tree.kill_all(members[run.id], self.session)
            if members[run.id] and not run.survivors and _now() > run.deadline:
                run.survivors = list(members[run.id])
                self._tell(event="survivors", id=run.id, pids=run.survivors)
        over = [run for run in sweeping if run.end is not None and self._is_over(run, members)]
        # The list of children may skip one when another ends while it is read: look twice before saying so.
        members = self._members(over) if over else {}
        for run in over:
            if self._is_over(run, members):
                self._finish(run)
        self.next_sweep = _now() + self.pause_s
        waiting = all(run.survivors for run in self.sweeping.values())
        self.pause_s = min(self.pause_s * 2, SURVIVORS_PAUSE_S if waiting else SWEEP_PAUSE_S[1])

    def _is_over(self, run: Run, members: dict[str, dict[int, int]]) -> bool:
        return not members[run.id] and (not self.ending or _now() > run.deadline)

    def _members(self, runs: list[Run]) -> dict[str, dict[int, int]]:
        """Of each run, the processes that live, each with its start time. Orphans that are just ending belong to
        somebody, but if they have left their session nobody can tell to whom: they go to `ending`, and whoever wants to
        be sure that a run is over waits for them, for a while."""
        self.ending = []
        roots: dict[str, list[int]] = {run.id: [run.pid] if run.pid in self.by_pid else [] for run in runs}
        for run in runs:
            if run.cgroups:
                roots[run.id] += pids_in(run.cgroups)
            roots[run.id] += [pid for pid, ticks in run.left.items() if tree.start_ticks_of(pid) == ticks]
        for pid in tree.children_of(os.getpid()):
            if pid in self.by_pid:
                continue
            stat = tree.stat_of(pid)
            if stat is None or stat[0] in tree.DEAD:
                continue
            is_ending = stat[5]
            marker, pipes = ("", []) if is_ending else (tree.environ_value(pid, MARKER), tree.output_pipes(pid))
            for run in runs:
                if stat[3] == run.pid or marker == run.id or (run.pipe and run.pipe in pipes):
                    roots[run.id].append(pid)
                    break
            else:
                if is_ending:
                    self.ending.append(pid)
        return {id: tree.living(tree.descendants_of(pids)) if pids else {} for id, pids in roots.items()}

    def _finish(self, run: Run) -> None:
        for _ in range(_LAST_CHUNKS):
            if run.fd < 0 or not self._pump(run):
                break
        self._close_output(run)
        self._close_input(run)
        del self.runs[run.id], self.sweeping[run.id]
        assert run.end is not None
        if run.given_up:
            return
        how: dict[str, object] = dict(zip(("code", "signal", "at", "mono"), run.end, strict=True))
        how |= {"tail": run.tail.decode(errors="replace"), "usage": run.usage}
        if run.left:
            how["lost"] = True
        if not run.parent:
            self.records.ended(run.id, **how)
        self._tell(event="exited", id=run.id, **how)

    def _end_everything(self) -> None:
        deadline = _now() + 2 * SWEEP_LIMIT_S
        while _now() < deadline:
            # The leaders too: they are children like all others.
            tree.kill_all(tree.living(tree.descendants_of(tree.children_of(os.getpid()))), self.session)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(SWEEP_PAUSE_S[0])
        else:
            return  # what does not die is in the records: the next spawner looks after it
        for id in list(self.records.runs):
            self.records.forget(id)


def boot_id() -> str:
    """Names this run of the machine: pids and start times of another one mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _now() -> float:
    return time.monotonic()  # noqa: TID251  (standard library only: this process has no Clock)


def _wall() -> float:
    return time.time()  # noqa: TID251


def become_subreaper() -> bool:
    """From now on, this process adopts its orphaned descendants. False where the kernel does not know how."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def take_node(directory: str) -> int:
    """The node's directory, opened, for this spawner alone. Raises BlockingIOError if another one has it."""
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held, with the descriptor, until this process ends
    return directory_fd


def main(argv: list[str]) -> int:
    """python -m node_agent.spawner DIRECTORY HIDDEN LOG_MAX_BYTES LOG_FILES LIFELINE_FD PATIENCE_S

    HIDDEN is the directory that programs are not to see, but for the node's pods/, data/ and memory; "" is none.
    """
    directory, hidden, log_max_bytes, log_files, lifeline, patience_s = argv
    try:
        directory_fd = take_node(directory)
    except BlockingIOError:
        return 3
    if int(lifeline) >= 0:
        os.set_inheritable(int(lifeline), False)
    become_subreaper()
    records = Records(directory_fd)
    who = os.open(WHO, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    me = {"pid": os.getpid(), "ticks": tree.start_ticks_of(os.getpid()), "boot": boot_id()}
    os.write(who, json.dumps(me).encode())
    os.close(who)
    left = end_left_behind(records, boot_id(), SWEEP_LIMIT_S)
    line = lines.Line(lines.listen(directory_fd))
    shown = [os.path.realpath(os.path.join(directory, name)) for name in SHOWN]
    shown = [path for path in shown if os.path.isdir(path)]
    file = os.path.join(os.path.realpath(directory), RESOLV_CONF)
    names = SharedNames(file) if os.path.isfile(file) else None
    launcher, confinement = confined(os.path.realpath(hidden), shown, names) if hidden else (None, {})
    Spawner(
        line,
        records,
        left=left,
        launcher=launcher,
        confinement=confinement,
        names=names,
        log_max_bytes=int(log_max_bytes),
        log_files=int(log_files),
        lifeline=int(lifeline),
        patience_s=float(patience_s),
    ).serve()
    os.unlink(lines.SOCKET, dir_fd=directory_fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
