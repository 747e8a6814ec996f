"""The process that owns a cluster: it forks the daemons, restarts them, stops them, and counts what is left.

It is single-threaded and has no event loop and no gRPC object, because it forks (see launcher). It waits in one
`select` for: a child that ended, a child's READY line, a command on the control socket, a signal, the end of the
process that started it, the time of the next restart.

Lifetime "dev": everything ends when the starting `podium up` ends, however it ends: the supervisor notices by the end
of file on a pipe (`--lifeline-fd`), daemons and spawners by the end of another one, whose write end only the supervisor
has. Lifetime "service": pods outlive that, and the next supervisor's agents adopt them; they end when the cluster is
stopped. As the subreaper of all of them the supervisor still finds what has escaped, kills it, and says so.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cluster.actor.clock import Clock
from cluster.up import control
from cluster.up.child import Child
from cluster.up.hold import Hold
from cluster.up.launcher import become_subreaper, fork_daemon, preload
from cluster.up.layout import ClusterDir, ClusterState, Process, process_start_time
from cluster.up.plan import ClusterPlan, Restart, RestartBudget
from cluster.up.spawners import end_spawners, spawners_of
from cluster.up.sweep import kill, sweep

MODULES_OF_MASTER = ("cluster.master.server", "cluster.__main__")
MODULES_OF_OTHERS = (
    "node_agent.agent",
    "node_agent.__main__",
    "node_agent.hollow.__main__",
    "cluster.scheduler.actor",
    "cluster.controllers.manager",
    "proxy.server",
    "proxy.__main__",
)
MODULES_OF_DNS = ("proxy.dns.__main__",)
"""Nobody waits for names: what they need is imported when all others are on their way."""
_STOP_MARGIN_S = 5.0
"""What a daemon gets on top of its pods' grace before it is killed: a node agent may need three seconds of it for what
its pods are promised at least."""


class ClusterSupervisor:
    """Owns the daemons of one cluster. `run` returns when all of them are gone."""

    def __init__(
        self,
        directory: ClusterDir,
        plan: ClusterPlan,
        state: ClusterState,
        *,
        clock: Clock,
        stop_grace_s: float,
        lifeline_fd: int | None,
        budget: RestartBudget | None = None,
    ) -> None:
        self._directory = directory
        self._plan = plan
        self._state = state
        self._clock = clock
        self._stop_grace_s = stop_grace_s
        self._lifeline_fd = lifeline_fd
        self._life = os.pipe2(os.O_CLOEXEC)
        """Read end, of which every daemon has a copy, and write end, which nobody else has."""
        self._budget = budget or RestartBudget()
        self._children = {spec.name: Child(spec, asked_for=not spec.on_demand) for spec in plan.children}
        self._retiring: dict[int, str] = {}
        """Pids of those that have a successor, with its name; they end by themselves."""
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._kill_now = False
        self._watchers: list[socket.socket] = []
        """Control connections that follow the stop."""
        self._swept = 0
        self._hold: Hold | None = None

    # --- life

    def run(self) -> int:
        """Starts everything, serves until told to stop, stops everything. Returns the number of survivors."""
        become_subreaper()
        signals = self._catch_signals()
        listener = control.listen(self._directory.control_socket)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        self._selector.register(signals, selectors.EVENT_READ, lambda: self._on_signal(signals))
        if self._lifeline_fd is not None:
            self._selector.register(self._lifeline_fd, selectors.EVENT_READ, self._stop_requested)
        try:
            preload(MODULES_OF_MASTER)
            for child in self._children.values():
                if child.spec.role == "master":
                    self._start(child)
            preload(MODULES_OF_OTHERS)
            for child in self._children.values():
                if child.is_due and child.spec.role != "dns":
                    self._start(child)
            preload(MODULES_OF_DNS)
            for child in self._children.values():
                if child.is_due:
                    self._start(child)
            while not self._stopping:
                self._wait(self._until_restart())
                self._restart_due()
        except BaseException:
            self._kill_now = True
            raise
        finally:
            survivors = self._stop_all()
            for _ in ("accept", "serve"):
                self._wait(0.0)  # whoever asked for the stop at the last moment hears of it, too
            listener.close()
            for fd in self._life:
                os.close(fd)
            self._directory.control_socket.unlink(missing_ok=True)
            self._say({"step": "done", "done": True, "swept": self._swept, "processes_left": survivors})
        return len(survivors)

    def _catch_signals(self) -> socket.socket:
        """Signals wake `select` through a socket pair; SIGCHLD too."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._wakeup = writer
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return reader

    def _on_signal(self, reader: socket.socket) -> None:
        numbers = reader.recv(4096)
        self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            # No terminal reaches this session: a SIGINT comes from a command whose user is out of patience.
            self._kill_now = self._kill_now or self._stopping or signal.SIGINT in numbers
            self._stopping = True

    def _stop_requested(self) -> None:
        """The starter is gone."""
        if self._lifeline_fd is not None:
            self._selector.unregister(self._lifeline_fd)
            self._lifeline_fd = None
        self._stopping = True

    def _wait(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            callback: Callable[[], None] = key.data
            callback()

    # --- children

    def _start(self, child: Child) -> None:
        spec = child.spec
        if child.stdout >= 0:  # its last life's end was not read yet
            self._selector.unregister(child.stdout)
            os.close(child.stdout)
        log = self._directory.log(spec.name)
        started = fork_daemon(self._directory.name, spec.name, spec.module, spec.argv, log, self._life[0])
        child.begin(started.pid, started.stdout, self._clock.monotonic())
        self._selector.register(started.stdout, selectors.EVENT_READ, lambda: self._read_output(child))
        self._publish()

    def _read_output(self, child: Child) -> None:
        data = os.read(child.stdout, 65536)
        if not data:
            self._selector.unregister(child.stdout)
            os.close(child.stdout)
            child.stdout = -1
            return
        if child.hear(data):
            self._publish()

    def _reap(self) -> None:
        """Collects every child that ended: daemons, and orphans that came to this subreaper."""
        by_pid = {child.pid: child for child in self._children.values() if child.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = by_pid.get(pid)
            self._retiring.pop(pid, None)
            if child is not None:
                self._on_exit(child, os.waitstatus_to_exitcode(status))

    def _on_exit(self, child: Child, code: int) -> None:
        now = self._clock.monotonic()
        child.end(code)
        if self._hold is not None and child in self._hold.held:
            self._hold.tell()
        elif not self._stopping and child.spec.restart is Restart.ALWAYS:
            child.crashes = self._budget.crashes_in_a_row(child.crashes, now - child.started_at)
            child.restart_at = now + self._budget.delay_s(child.crashes)
        self._publish()

    def _until_restart(self) -> float | None:
        due = [child.restart_at for child in self._children.values() if child.restart_at is not None]
        if self._hold is not None and self._hold.due is not None:
            due.append(self._hold.due)
        return max(0.0, min(due) - self._clock.monotonic()) if due else None

    def _restart_due(self) -> None:
        if self._stopping:
            return
        now = self._clock.monotonic()
        for child in self._children.values():
            if child.restart_at is not None and child.restart_at <= now:
                child.restarts += 1
                self._start(child)
        hold = self._hold
        if hold is not None and hold.due is not None and hold.due <= now:
            hold.lose_patience(next_at=now + _STOP_MARGIN_S)

    # --- holding masters

    def _begin_hold(self, connection: socket.socket) -> None:
        """Ends the masters, and keeps them away for as long as this connection is open."""
        if self._hold is not None or self._stopping:
            why = "the cluster is stopping" if self._stopping else "another command has had them stopped"
            connection.sendall(json.dumps({"error": why}).encode() + b"\n")
            connection.close()
            return
        masters = [child for child in self._children.values() if child.spec.role == "master"]
        kill_at = self._clock.monotonic() + self._stop_grace_s + _STOP_MARGIN_S
        self._selector.register(connection, selectors.EVENT_READ, self._end_hold)
        self._hold = Hold(connection, masters, kill_at=kill_at)

    def _end_hold(self) -> None:
        hold, self._hold = self._hold, None
        assert hold is not None, "the connection is registered as long as there is a hold"
        self._selector.unregister(hold.connection)
        for child in hold.end():
            if not self._stopping:
                self._start(child)

    # --- replacing a daemon

    def _replace(self, name: str) -> str:
        """Starts a successor beside the proxy that serves, which hands over and ends when its connections have. Returns
        why not; empty if it did."""
        child = self._children.get(name)
        if child is None or child.spec.role != "proxy":
            return f"{name} cannot be replaced while it runs"
        if self._stopping:
            return "the cluster is stopping"
        if not child.pid or not child.ready:
            return f"{name} is not running yet; it starts by itself"
        self._retiring[child.pid] = name
        child.restarts += 1
        self._start(child)
        return ""

    def _publish(self) -> None:
        """Writes cluster.json."""
        processes = [process for process in self._state.processes if process.role == "supervisor"]
        for child in self._asked_for():
            start_time = process_start_time(child.pid) if child.pid else 0
            spec = child.spec
            processes.append(
                Process(spec.name, spec.role, child.pid, start_time, spec.address, child.state, child.restarts)
            )
        self._state.processes = processes
        self._directory.write_state(self._state)

    # --- stopping

    def _stop_all(self) -> list[dict[str, Any]]:
        """Stops group by group, then sweeps. Returns what could not be killed."""
        self._stopping = True
        for group in self._plan.stop_order:
            children = [self._children[name] for name in group if self._children[name].pid]
            self._stop_group(children, [pid for pid, name in self._retiring.items() if name in group])
        # Those of agents that ended before: they, and their pods, are still there.
        end_spawners(spawners_of(self._directory), self._clock, now=self._kill_now)
        self._swept, survivors = sweep(self._clock, self._collect)
        return survivors

    def _stop_group(self, children: Sequence[Child], retiring: Sequence[int]) -> None:
        for pid in (*(child.pid for child in children), *retiring):
            kill(pid, signal.SIGKILL if self._kill_now else signal.SIGTERM)
        deadline = self._clock.monotonic() + self._stop_grace_s + _STOP_MARGIN_S
        killed = self._kill_now
        while any(child.pid for child in children) or any(pid in self._retiring for pid in retiring):
            left = deadline - self._clock.monotonic()
            if (left <= 0 or self._kill_now) and not killed:
                killed = True
                slow = [child.spec.name for child in children if child.pid]
                self._say({"step": "killing", "names": slow})
                for pid in (*(child.pid for child in children), *(pid for pid in retiring if pid in self._retiring)):
                    if pid:
                        kill(pid, signal.SIGKILL)
            self._wait(max(0.0, left) if not killed else 0.2)
            self._reap()
        self._say({"step": "stopped", "names": [child.spec.name for child in children]})

    def _collect(self) -> None:
        self._wait(0.01)
        self._reap()

    # --- control socket

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        if not control.peer_is_me(connection):
            connection.close()
            return
        connection.settimeout(1.0)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        """One request of at most 64 KiB; a client that says nothing sensible is hung up on."""
        self._selector.unregister(connection)
        try:
            message = json.loads(connection.recv(65536))
            operation = message["op"]
            if operation == "stop":
                self._kill_now = self._kill_now or bool(message.get("now"))
                self._stopping = True
                self._watchers.append(connection)
                return
            if operation == "hold":
                self._begin_hold(connection)
                return
            if operation == "replace":
                refused = self._replace(str(message["name"]))
                answer = {"error": refused} if refused else self._status()
                connection.sendall(json.dumps(answer).encode() + b"\n")
                connection.close()
                return
            if operation == "start":
                if name := message.get("name"):
                    self._children[name].asked_for = True
                if not self._stopping:
                    self._start_stopped()
            elif operation != "status":
                raise ValueError(f"unknown op {operation!r}")
            connection.sendall(json.dumps(self._status()).encode() + b"\n")
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"control socket: {error!r}", file=sys.stderr)
        connection.close()

    def _start_stopped(self) -> None:
        for child in self._asked_for():
            if not child.pid and (self._hold is None or child not in self._hold.held):
                self._start(child)

    def _asked_for(self) -> list[Child]:
        return [child for child in self._children.values() if child.asked_for]

    def _status(self) -> dict[str, Any]:
        return {"children": [child.document(self._directory.log(child.spec.name)) for child in self._asked_for()]}

    def _say(self, message: dict[str, Any]) -> None:
        for connection in list(self._watchers):
            try:
                connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self._watchers.remove(connection)
                connection.close()
