"""The spawner's loop: it hears of everything that happens to its runs and to its agent, one thing at a time.

What is to be done then is done by others: runs are started (`node_agent.spawner_starter`), their streams moved
(`spawner_streams`), their trees ended (`spawner_sweep`). Here is what calls for it: messages of the agent, children
that have ended, the end of the agent, and the end of everything. Standard library only: the spawner loads this file.
"""

from __future__ import annotations

import base64
import fcntl
import os
import select
import signal
import struct
import termios
import time

from node_agent import process_tree as tree
from node_agent import spawner_line as lines
from node_agent import spawner_sweep
from node_agent.launch import launch
from node_agent.spawner_records import Records
from node_agent.spawner_runs import Run, now, wall
from node_agent.spawner_starter import Starter
from node_agent.spawner_streams import Streams
from node_agent.spawner_sweep import Sweeper

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from typing import Any

    from node_agent.launch import Launcher
    from node_agent.shared_names import SharedNames


class Spawner:
    """The loop. `serve` returns when everything is to end and is dead."""

    def __init__(
        self,
        line: lines.Line,
        records: Records,
        *,
        boot: str,
        log_max_bytes: int,
        log_files: int,
        lifeline: int = -1,
        patience_s: float = 0.0,
        launcher: Launcher | None = None,
        confinement: dict[str, Any] | None = None,
        names: SharedNames | None = None,
        left: dict[str, dict[int, int]] | None = None,
    ) -> None:
        """`boot` names this run of the machine. `names`: what all programs find at /etc/resolv.conf. `left`: of runs
        of an earlier spawner, the processes that do not die."""
        self.line, self.records = line, records
        self.lifeline, self.patience_s = lifeline, patience_s
        self.confinement = confinement or {}
        self.names, self.boot = names, boot
        self.runs: dict[str, Run] = {}
        self.by_pid: dict[int, Run] = {}  # leaders that have not been reaped
        self.session = os.getsid(0)
        self.blocked = False  # the socket takes no more now: we are waiting for it
        self.end_at = float("inf")
        self.stopping = False
        self.poller = select.epoll()
        self.streams = Streams(self.poller, lambda run: self._tell(event="written", id=run.id))
        self.starter = Starter(
            self.poller,
            self.runs,
            self.by_pid,
            streams=self.streams,
            records=records,
            launch=launcher or launch,
            names=names,
            boot=boot,
            log_max_bytes=log_max_bytes,
            log_files=log_files,
            tell=self._tell,
            end=self._end,
        )
        self.sweeper = Sweeper(self.by_pid, self.session, on_survivors=self._tell_survivors, on_over=self._finish)
        for id, processes in (left or {}).items():
            run = self.runs[id] = Run.of_left(id, processes, records.runs[id].get("cgroups", []))
            self.sweeper.go_on(run)
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
                if self.streams.on_event(fd, events) or self.starter.on_event(fd):
                    continue
                if self.line.agent is not None and fd == self.line.agent.fileno():
                    self._talk()
                elif fd == self.wake_fd:
                    os.read(self.wake_fd, 4096)
                elif fd == self.line.listener.fileno():
                    self._greet()
                elif self.names is not None and fd == self.names.watch_fd:
                    self.names.keep()
                elif fd == self.lifeline:
                    self._on_lifeline()
            self._reap()
            self.starter.give_up_late_ones()
            if now() >= self.sweeper.due:
                self.sweeper.sweep()
            self.stopping = self.stopping or now() >= self.end_at
        self._end_everything()

    def _timeout_s(self) -> float:
        due = min(self.end_at, self.sweeper.due, self.starter.due)
        return -1 if due == float("inf") else max(0.0, due - now())

    def _on_lifeline(self) -> None:
        self.poller.unregister(self.lifeline)
        self.end_at = now() + (self.patience_s if self.line.agent is not None else 0.0)

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
        for run in self.runs.values():
            if run.survivors:
                self._tell_survivors(run)

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
                self._end(run)
        if self.end_at < float("inf"):
            self.end_at = 0.0

    def _handle(self, message: dict[str, Any]) -> None:
        op, id = message["op"], message.get("id", "")
        run = self.runs.get(id)
        if op == "start":
            count = message.get("fds", 0)
            given, self.line.fds = self.line.fds[:count], self.line.fds[count:]
            self.starter.start(message, given)
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
            self._end(run)
        elif op == "stdin":
            self.streams.give(run, base64.b64decode(message["data"]))
        elif op == "stdin_close":
            self.streams.give(run, b"", is_last=True)
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

    def _tell_survivors(self, run: Run) -> None:
        self._tell(event="survivors", id=run.id, pids=run.survivors)

    def _watch_line(self) -> None:
        if self.line.agent is not None and self.blocked != bool(self.line.outbox):
            self.blocked = bool(self.line.outbox)
            self.poller.modify(self.line.agent.fileno(), select.EPOLLIN | (select.EPOLLOUT if self.blocked else 0))

    # --- ends

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
                self.starter.hear(run)  # its last word may be that it never came to run
            if run is not None and run.id in self.runs:
                # Its group is killed while it is still there: its number is nobody else's yet.
                self._end(run)
                del self.by_pid[pid]
            _, status, used = os.wait4(pid, 0)
            if run is not None and run.id in self.runs:  # all others are orphans that we adopted: reaped, that is all
                code = os.waitstatus_to_exitcode(status)
                code, number = (code, 0) if code >= 0 else (128 - code, -code)
                run.end = (code, number, wall(), now())
                run.usage = {
                    "user_ms": round(used.ru_utime * 1000),
                    "system_ms": round(used.ru_stime * 1000),
                    "max_rss_bytes": used.ru_maxrss * 1024,
                }

    def _end(self, run: Run) -> None:
        """Begins to end the run, and the commands beside it."""
        for other in [other for other in self.runs.values() if other is run or other.parent == run.id]:
            if other.word >= 0:
                self.starter.hear(other)
            if other.word >= 0:
                self.starter.give_up(other, "it was killed while it was being prepared")
            if other.id in self.runs:
                self.sweeper.begin(other)

    def _finish(self, run: Run) -> None:
        self.streams.close(run)
        del self.runs[run.id]
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
        deadline = now() + 2 * spawner_sweep.LIMIT_S
        while now() < deadline:
            # The leaders too: they are children like all others.
            tree.kill_all(tree.living(tree.descendants_of(tree.children_of(os.getpid()))), self.session)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(spawner_sweep.PAUSE_S[0])
        else:
            return  # what does not die is in the records: the next spawner looks after it
        for id in list(self.records.runs):
            self.records.forget(id)
