"""Processes as containers: the agent's end of the spawner.

Starts the spawner, talks to it over a socket, and keeps, per run, what was reported. If the spawner dies, which it
never should, nobody owns its processes any more: those of our runs are found (by pid and start time, and by the marker
in their environment) and killed, the runs are reported as lost, and a new spawner takes over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.telemetry.log import get_logger
from node_agent import process_tree as tree
from node_agent.runtime.interface import UNKNOWN_EXIT_CODE, Ended, Program, Started, StartFailure
from node_agent.spawner import MARKER

_HEADER = struct.Struct("!I")
_CHUNK_BYTES = 65536
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m node_agent.spawner`, which would cost runpy; not the path of the file, which would be compiled each time.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from node_agent.spawner import main; sys.exit(main(sys.argv[2:]))"
STOP_LIMIT_S = 12.0
"""How long the spawner may take to kill everything; it gives up after 10 s itself."""
RECOVERY_LIMIT_S = 10.0

log = get_logger("node_agent.runtime")


@dataclass(slots=True)
class _Run:
    started: asyncio.Future[Started]
    ended: asyncio.Future[Ended]
    at: Started | None = None


@dataclass(slots=True)
class _Outgoing:
    data: memoryview
    fds: list[int] = field(default_factory=list)


class ProcessRuntime:
    """Runs programs as processes of this machine, through one spawner."""

    def __init__(self, *, clock: Clock, log_max_bytes: int, log_files: int) -> None:
        self._clock = clock
        self._log_max_bytes, self._log_files = log_max_bytes, log_files
        self._runs: dict[str, _Run] = {}
        self._tasks = Tasks("runtime")
        self._spawner: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._inbox = bytearray()
        # One message per run that a caller is waiting for: bounded by the number of pods and commands of the node.
        self._outbox: deque[_Outgoing] = deque()
        self._ready = asyncio.Event()
        self._stopping = False

    @property
    def spawner_pid(self) -> int:
        """The pid of the spawner; 0 if there is none now."""
        return self._spawner.pid if self._spawner else 0

    async def start(self) -> None:
        self._open()

    async def stop(self) -> None:
        self._stopping = True
        self._disconnect()  # the spawner sees the end of the file, kills everything, exits
        spawner, self._spawner = self._spawner, None
        if spawner is not None:
            deadline = self._clock.monotonic() + STOP_LIMIT_S
            while spawner.poll() is None and self._clock.monotonic() < deadline:  # noqa: ASYNC110  (no event says so)
                await asyncio.sleep(0.005)
            if spawner.poll() is None:
                log.error("spawner does not end; killing it", pid=spawner.pid)
                spawner.kill()
            spawner.wait()
        self._lose_all("the node agent stopped")
        await self._tasks.cancel_all()

    # --- runs

    async def run(self, program: Program) -> Started:
        message = self._start_message(program) | {"log": program.log_path}
        return await self._start(program.run_id, message, [])

    async def wait(self, run_id: str) -> Ended:
        return await asyncio.shield(self._runs[run_id].ended)

    def forget(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    def pid_of(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        return run.at.pid if run and run.at and not run.ended.done() else 0

    def signal(self, run_id: str, number: int) -> None:
        self._tell_about(run_id, {"op": "signal", "id": run_id, "signal": number})

    def kill(self, run_id: str) -> None:
        self._tell_about(run_id, {"op": "kill", "id": run_id})

    async def exec(self, program: Program, beside: str) -> ProcessExec:
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        ours = [stdin_write, stdout_read, stderr_read]
        try:
            message = self._start_message(program) | {"fds": 3, "parent": beside}
            await self._start(program.run_id, message, [stdin_read, stdout_write, stderr_write])
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        return await ProcessExec.open(self, program.run_id, *ours)

    def _start_message(self, program: Program) -> dict[str, Any]:
        return {
            "op": "start",
            "id": program.run_id,
            "argv": program.argv,
            "env": dict(program.env),
            "cwd": program.cwd,
        }

    async def _start(self, run_id: str, message: dict[str, Any], fds: list[int]) -> Started:
        """Takes the descriptors over, whatever happens."""
        if run_id in self._runs:
            raise ValueError(f"run id {run_id} was used before")
        loop = asyncio.get_running_loop()
        try:
            await self._ready.wait()
            run = self._runs[run_id] = _Run(loop.create_future(), loop.create_future())
            self._send(message, fds)
            fds = []
        finally:
            for fd in fds:
                os.close(fd)
        try:
            return await asyncio.shield(run.started)
        except StartFailure:
            self._runs.pop(run_id, None)
            raise
        except asyncio.CancelledError:
            self.kill(run_id)
            raise

    def _tell_about(self, run_id: str, message: dict[str, Any]) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.ended.done() and self._socket is not None:
            self._send(message, [])

    # --- the socket

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        arguments = (theirs.fileno(), self._log_max_bytes, self._log_files)
        # Popen without preexec_fn, user or group: vfork, so that gRPC's threads and our memory do not matter.
        self._spawner = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, _PACKAGE_ROOT, *map(str, arguments)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._inbox.clear()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)
        self._ready.set()

    def _disconnect(self) -> None:
        self._ready.clear()
        for item in self._outbox:
            for fd in item.fds:
                os.close(fd)
        self._outbox.clear()
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send(self, message: dict[str, Any], fds: list[int]) -> None:
        data = json.dumps(message).encode()
        self._outbox.append(_Outgoing(memoryview(_HEADER.pack(len(data)) + data), fds))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        while self._outbox:
            item = self._outbox[0]
            try:
                sent = socket.send_fds(self._socket, [item.data], item.fds)
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                return  # the reader sees the end of the file and recovers
            for fd in item.fds:
                os.close(fd)
            item.fds = []
            item.data = item.data[sent:]
            if not item.data:
                self._outbox.popleft()
        loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            if not self._stopping:
                self._tasks.spawn(self._recover(), name="recover from the spawner's death")
            return
        self._inbox += data
        while len(self._inbox) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._inbox)
            end = _HEADER.size + length
            if len(self._inbox) < end:
                break
            message = json.loads(self._inbox[_HEADER.size : end])
            del self._inbox[:end]
            self._on_message(message)

    def _on_message(self, message: dict[str, Any]) -> None:
        run = self._runs.get(message["id"])
        if run is None:
            return
        match message["event"]:
            case "started":
                run.at = Started(message["pid"], message["ticks"], message["at"])
                run.started.set_result(run.at)
            case "failed":
                run.started.set_exception(StartFailure(message["code"], message["message"]))
                run.started.exception()  # seen: whoever asked may have been cancelled
            case "exited":
                ended = Ended(
                    message["code"], message["signal"], message["at"], message["tail"], tuple(message["survivors"])
                )
                if not run.ended.done():
                    run.ended.set_result(ended)

    # --- the spawner's death

    async def _recover(self) -> None:
        spawner, self._spawner = self._spawner, None
        log.error("the spawner died; ending what it left behind", runs=len(self._runs))
        if spawner is not None:
            spawner.kill()
            spawner.wait()
        deadline = self._clock.monotonic() + RECOVERY_LIMIT_S
        while (left := self._left_behind()) and self._clock.monotonic() < deadline:
            tree.kill_all(left, os.getsid(0))
            await asyncio.sleep(0.01)
        self._lose_all("the process that watched it died")
        if not self._stopping:
            self._open()

    def _left_behind(self) -> list[int]:
        """What still runs of our runs: leaders by pid and start time, all others by marker, and their children."""
        roots = []
        for run in self._runs.values():
            if run.at and not run.ended.done() and tree.start_ticks_of(run.at.pid) == run.at.start_ticks:
                roots.append(run.at.pid)
        for name in os.listdir("/proc"):
            if name.isdigit() and tree.environ_value(int(name), MARKER) in self._runs:
                roots.append(int(name))
        return [pid for pid in tree.descendants_of(roots) if tree.is_alive(pid)]

    def _lose_all(self, why: str) -> None:
        ended = Ended(UNKNOWN_EXIT_CODE, signal.SIGKILL, self._clock.wall(), lost=True)
        for run_id, run in list(self._runs.items()):
            if not run.started.done():
                self._runs.pop(run_id)
                run.started.set_exception(StartFailure(128, why))
                run.started.exception()
            if not run.ended.done():
                run.ended.set_result(ended)


class ProcessExec:
    """A command beside a container: three pipes and an end."""

    def __init__(
        self, runtime: ProcessRuntime, run_id: str, stdin: asyncio.StreamWriter, *readers: asyncio.StreamReader
    ) -> None:
        self._runtime, self._run_id = runtime, run_id
        self.stdin = stdin
        self.stdout, self.stderr = readers
        self._transports: list[asyncio.BaseTransport] = []

    @classmethod
    async def open(cls, runtime: ProcessRuntime, run_id: str, stdin: int, stdout: int, stderr: int) -> ProcessExec:
        """Wraps our ends of the pipes; they are closed with it."""
        loop = asyncio.get_running_loop()
        transports: list[asyncio.BaseTransport] = []
        readers = []
        for fd in (stdout, stderr):
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_read_pipe(lambda p=protocol: p, os.fdopen(fd, "rb", 0))  # type: ignore[misc]
            transports.append(transport)
            readers.append(reader)
        write_transport, write_protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(stdin, "wb", 0)
        )
        transports.append(write_transport)
        process = cls(runtime, run_id, asyncio.StreamWriter(write_transport, write_protocol, None, loop), *readers)
        process._transports = transports
        return process

    async def wait(self) -> Ended:
        return await self._runtime.wait(self._run_id)

    def signal(self, number: int) -> None:
        self._runtime.signal(self._run_id, number)

    def kill(self) -> None:
        self._runtime.kill(self._run_id)

    def close(self) -> None:
        self.kill()
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        self._runtime.forget(self._run_id)
