"""Processes as containers: the agent's end of the spawner.

Finds the spawner of the node's directory, or starts it; talks to it over its socket; and keeps, per run, what was
reported. A spawner that was there already says which runs it has: those that an earlier life of this agent started, and
that are to be adopted. If the spawner dies, which it never should, nobody owns its processes any more: a new one finds
what it left (by pid and start time, and by the marker in the environment) and kills it, and the runs are reported as
lost.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.telemetry.log import get_logger
from node_agent import process_tree as tree
from node_agent.runtime.interface import (
    UNKNOWN_EXIT_CODE,
    Adopted,
    Confinement,
    Ended,
    OnSurvivors,
    Program,
    Started,
    StartFailure,
    Used,
)
from node_agent.spawner_line import HEADER, PROTOCOL, SOCKET, packed
from node_agent.spawner_records import MARKER

_CHUNK_BYTES = 65536
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m node_agent.spawner`, which would cost runpy; not the path of the file, which would be compiled each time.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from node_agent.spawner import main; sys.exit(main(sys.argv[2:]))"
STOP_LIMIT_S = 12.0
"""How long the spawner may take to kill everything; it gives up after 10 s itself."""
START_LIMIT_S = 15.0
"""How long it may take until a spawner answers; one that ends what another left behind takes up to 5 s."""
RECOVERY_PAUSE_S = 1.0
_BUSY = 3
"""Exit code of a spawner whose directory another one still has."""
_FREE = Confinement()

log = get_logger("node_agent.runtime")


@dataclass(slots=True)
class _Run:
    started: asyncio.Future[Started]
    ended: asyncio.Future[Ended]
    at: Started | None = None
    written: asyncio.Event = field(default_factory=asyncio.Event)
    """Its standard input has taken what was given last."""
    survivors: Sequence[int] = ()
    """What of it does not die."""
    on_survivors: list[OnSurvivors] = field(default_factory=list)
    """Those who wait for its end, and have not been told of any."""
    forgotten: bool = False
    """Nobody will ask for it once it has ended."""


@dataclass(slots=True)
class _Outgoing:
    data: memoryview
    fds: list[int] = field(default_factory=list)


class ProcessRuntime:
    """Runs programs as processes of this machine, through the spawner of a node's directory."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        log_max_bytes: int,
        log_files: int,
        lifetime: str = "dev",
        lifeline_fd: int | None = None,
        patience_s: float = 0.0,
        hidden: Path | None = None,
    ) -> None:
        """`lifetime` "dev": the spawner ends everything at the end of file of `lifeline_fd`, or of this process if
        there is none; an agent that is there then is given `patience_s` to do it with grace. "service": it does not.
        `hidden` is the directory that programs must not see (but for what is theirs in it): the cluster's.
        """
        self._hidden = hidden
        self._directory, self._clock = directory, clock
        self._log_max_bytes, self._log_files = log_max_bytes, log_files
        self._lifetime, self._lifeline_fd, self._patience_s = lifetime, lifeline_fd, patience_s
        self._runs: dict[str, _Run] = {}
        self._adopted: dict[str, Adopted] = {}
        self._tasks = Tasks("runtime")
        self._spawner: subprocess.Popen[bytes] | None = None
        self._spawner_pid = self._spawner_ticks = 0
        self._own_life: tuple[int, int] | None = None
        self._socket: socket.socket | None = None
        self._inbox = bytearray()
        # One message per run that a caller is waiting for: bounded by the number of pods and commands of the node.
        self._outbox: deque[_Outgoing] = deque()
        self._greeting: asyncio.Future[None] | None = None
        self._boot = ""
        self._expected = 0
        self._known: set[str] = set()  # that the spawner spoke of when we connected
        self._ready = asyncio.Event()
        self._stopping = False
        self.confinement: Mapping[str, Any] = {}
        """What the spawner did to itself, and so to all pods, and what it could not do: as it says so itself."""

    @property
    def spawner_pid(self) -> int:
        """The pid of the spawner; 0 if there is none now."""
        return self._spawner_pid

    @property
    def can_mount(self) -> bool:
        return bool(self.confinement.get("mounts"))

    @property
    def hides(self) -> bool:
        return bool(self.confinement.get("hidden"))

    @property
    def names(self) -> bool:
        return bool(self.confinement.get("names"))

    @property
    def missing(self) -> Sequence[str]:
        return list(self.confinement.get("missing", ()))

    @property
    def adopted(self) -> Mapping[str, Adopted]:
        return self._adopted

    async def start(self) -> None:
        try:
            await self._connect()
        except BaseException:
            await self._let_go("the spawner does not answer")
            raise
        self._adopted = {
            id: Adopted(run.at, run.ended.result() if run.ended.done() else None)
            for id, run in self._runs.items()
            if run.at is not None
        }

    async def stop(self) -> None:
        if not self._stopping and self._socket is not None:
            self._send({"op": "end"}, [])
        self._stopping = True
        deadline = self._clock.monotonic() + STOP_LIMIT_S
        while self._socket is not None and self._clock.monotonic() < deadline:  # noqa: ASYNC110  (its end of file)
            await asyncio.sleep(0.005)
        if self._socket is not None and self._spawner_pid:
            log.error("spawner does not end; killing it", pid=self._spawner_pid)
            tree.send(self._spawner_pid, self._spawner_ticks, signal.SIGKILL)
        await self._let_go("the node agent stopped")

    async def leave(self) -> None:
        self._stopping = True
        while self._outbox and self._socket is not None:  # noqa: ASYNC110  (what was said is to be heard)
            await asyncio.sleep(0.005)
        await self._let_go("the node agent stopped")

    async def _let_go(self, why: str) -> None:
        self._disconnect()
        spawner, self._spawner = self._spawner, None
        self._lose_all(why)
        if self._own_life is not None:
            for fd in self._own_life:
                os.close(fd)
            self._own_life = None
        if spawner is not None and spawner.poll() is None:
            _forsake(spawner)
        await self._tasks.cancel_all()

    # --- runs

    async def run(self, program: Program) -> Started:
        message = self._start_message(program) | {"log": program.log_path, "stdin": program.stdin}
        return await self._start(program.run_id, message, [])

    async def wait(self, run_id: str, on_survivors: OnSurvivors | None = None) -> Ended:
        run = self._runs[run_id]
        if on_survivors is not None and run.survivors:
            on_survivors(run.survivors)
        elif on_survivors is not None:
            run.on_survivors.append(on_survivors)
        return await asyncio.shield(run.ended)

    def end_of(self, run_id: str) -> asyncio.Future[Ended]:
        """What `wait` waits for; not to be cancelled."""
        return self._runs[run_id].ended

    def forget(self, run_id: str) -> None:
        self._adopted.pop(run_id, None)
        run = self._runs.get(run_id)
        if run is not None:
            run.forgotten = True
            if run.ended.done():
                self._drop(run_id)

    def _drop(self, run_id: str) -> None:
        del self._runs[run_id]
        if self._socket is not None:
            self._send({"op": "forget", "id": run_id}, [])

    def pid_of(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        return run.at.pid if run and run.at and not run.ended.done() else 0

    def pids_of(self, run_id: str) -> list[int]:
        """What descends from the first process; and what lost its parents, and carries the run's marker."""
        leader = self.pid_of(run_id)
        if not leader:
            return []
        leaders = {run.at.pid for run in self._runs.values() if run.at is not None}
        orphans = [pid for pid in tree.children_of(self._spawner_pid) if pid not in leaders]
        return tree.descendants_of([leader, *(pid for pid in orphans if tree.environ_value(pid, MARKER) == run_id)])

    def signal(self, run_id: str, number: int) -> None:
        self._tell_about(run_id, {"op": "signal", "id": run_id, "signal": number})

    def kill(self, run_id: str) -> None:
        self._tell_about(run_id, {"op": "kill", "id": run_id})

    async def write_stdin(self, run_id: str, data: bytes) -> None:
        run = self._runs.get(run_id)
        if run is None or run.ended.done():
            return
        run.written.clear()
        for start in range(0, len(data), _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            self._tell_about(run_id, {"op": "stdin", "id": run_id, "data": base64.b64encode(chunk).decode()})
        await run.written.wait()

    def close_stdin(self, run_id: str) -> None:
        self._tell_about(run_id, {"op": "stdin_close", "id": run_id})

    def resize(self, run_id: str, rows: int, columns: int) -> None:
        self._tell_about(run_id, {"op": "resize", "id": run_id, "rows": rows, "columns": columns})

    async def exec(self, program: Program, beside: str = "") -> ProcessExec:
        if program.tty:
            ours, theirs = os.openpty()
            ends = [os.dup(ours), ours], [theirs, os.dup(theirs), os.dup(theirs)]
        else:
            stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
            stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
            stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
            ends = [stdin_write, stdout_read, stderr_read], [stdin_read, stdout_write, stderr_write]
        try:
            # Its control groups may be in use, and hold up whoever goes there: it goes by itself.
            program = replace(program, confinement=replace(program.confinement, apart=True))
            message = self._start_message(program) | {"log": "", "fds": 3, "parent": beside}
            await self._start(program.run_id, message, ends[1])
        except BaseException:
            for fd in ends[0]:
                os.close(fd)
            self.forget(program.run_id)
            raise
        try:
            return await ProcessExec.open(self, program.run_id, *ends[0])
        except BaseException:  # whoever wanted it has gone
            self.kill(program.run_id)
            self.forget(program.run_id)
            raise

    def _start_message(self, program: Program) -> dict[str, Any]:
        message: dict[str, Any] = {
            "op": "start",
            "id": program.run_id,
            "argv": program.argv,
            "env": dict(program.env),
            "cwd": program.cwd,
        }
        if program.confinement != _FREE:
            message["confinement"] = asdict(program.confinement)
        if program.tty:
            message["tty"] = True
        return message

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
            if not self._stopping:
                self.kill(run_id)
            raise

    def _tell_about(self, run_id: str, message: dict[str, Any]) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.ended.done() and self._socket is not None:
            self._send(message, [])

    # --- the socket

    async def _connect(self) -> None:
        """Finds the spawner of this directory, or starts one; returns when it has said which runs there are.

        Raises OSError: another agent has it, or it does not answer.
        """
        deadline = self._clock.monotonic() + START_LIMIT_S
        while not (connected := self._call()):
            if self._spawner is None or self._spawner.poll() is not None:
                if self._spawner is not None and self._spawner.returncode not in (0, _BUSY):
                    raise OSError(f"the spawner of {self._directory} ended with exit code {self._spawner.returncode}")
                self._spawn()
            if self._clock.monotonic() > deadline:
                raise OSError(f"the spawner of {self._directory} does not listen on its socket")
            await asyncio.sleep(0.003)
        self._socket = connected
        self._inbox.clear()
        self._known.clear()
        loop = asyncio.get_running_loop()
        self._greeting = loop.create_future()
        loop.add_reader(connected.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(max(0.1, deadline - self._clock.monotonic())):
                await self._greeting
        except TimeoutError:
            raise OSError(f"the spawner of {self._directory} takes no calls: is it stopped?") from None
        self._ready.set()

    def _call(self) -> socket.socket | None:
        """A connection to the spawner, if one listens."""
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            caller.setblocking(False)
            caller.connect(f"/proc/self/fd/{directory}/{SOCKET}")
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            caller.close()
            return None
        finally:
            os.close(directory)
        return caller

    def _spawn(self) -> None:
        lifeline = -1
        if self._lifetime == "dev":
            if self._lifeline_fd is None and self._own_life is None:
                self._own_life = os.pipe2(os.O_CLOEXEC)
            lifeline = self._own_life[0] if self._own_life else self._lifeline_fd or -1
        arguments = (
            self._directory,
            self._hidden or "",
            self._log_max_bytes,
            self._log_files,
            lifeline,
            self._patience_s,
        )
        # Popen without preexec_fn, user or group: vfork, so that gRPC's threads and our memory do not matter.
        self._spawner = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, _PACKAGE_ROOT, *map(str, arguments)],
            pass_fds=[lifeline] if lifeline >= 0 else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

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
        self._outbox.append(_Outgoing(memoryview(packed(message)), fds))
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
            self._on_end_of_file()
            return
        self._inbox += data
        while len(self._inbox) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._inbox)
            end = HEADER.size + length
            if len(self._inbox) < end:
                break
            message = json.loads(self._inbox[HEADER.size : end])
            del self._inbox[:end]
            self._on_message(message)

    def _on_end_of_file(self) -> None:
        self._disconnect()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(OSError(f"the spawner of {self._directory} hung up"))
        elif not self._stopping:
            self._tasks.spawn(self._recover(), name="recover from the spawner's death")

    def _on_message(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "hello":
                if message.get("protocol") != PROTOCOL:
                    self._refuse(_misunderstood(self._directory, message))
                    return
                self._spawner_pid, self._expected = message["pid"], message["runs"]
                self._boot = message["boot"]
                self._spawner_ticks = tree.start_ticks_of(self._spawner_pid)
                self.confinement = message["confinement"]
                self._on_greeted()
                return
            case "busy":
                self._refuse(OSError(f"another node agent (pid {message['pid']}) works in {self._directory}"))
                return
            case "run":
                self._on_known(message)
                self._expected -= 1
                self._on_greeted()
                return
        run = self._runs.get(message["id"])
        if run is None:
            return
        match message["event"]:
            case "started":
                run.at = Started(message["pid"], message["ticks"], message["at"], message["mono"])
                run.started.set_result(run.at)
            case "failed":
                run.started.set_exception(StartFailure(message["code"], message["message"]))
                run.started.exception()  # seen: whoever asked may have been cancelled
                if run.forgotten:
                    del self._runs[message["id"]]
            case "written":
                run.written.set()
            case "survivors":
                run.survivors, waiting = message["pids"], run.on_survivors
                run.on_survivors = []
                for on_survivors in waiting:
                    on_survivors(run.survivors)
            case "exited":
                self._end(message["id"], run, _ended(message, same_boot=True))

    def _refuse(self, error: OSError) -> None:
        assert self._greeting is not None
        if not self._greeting.done():
            self._greeting.set_exception(error)

    def _on_greeted(self) -> None:
        if self._expected == 0 and self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(None)

    def _on_known(self, entry: dict[str, Any]) -> None:
        """The spawner has this run: one of an earlier life of ours, or, after the spawner's own death, one of ours."""
        self._known.add(entry["run"])
        loop = asyncio.get_running_loop()
        run = self._runs.setdefault(entry["run"], _Run(loop.create_future(), loop.create_future()))
        same_boot = entry["boot"] == self._boot
        mono = entry.get("mono") if same_boot else None
        run.at = run.at or Started(entry["pid"], entry["ticks"], entry["at"], mono)
        if not run.started.done():
            run.started.set_result(run.at)
        if "end" in entry:
            self._end(entry["run"], run, _ended(entry["end"], same_boot=same_boot))

    def _end(self, run_id: str, run: _Run, ended: Ended) -> None:
        run.written.set()
        if not run.ended.done():
            run.ended.set_result(ended)
        if run.forgotten:
            self._drop(run_id)

    # --- the spawner's death

    async def _recover(self) -> None:
        """A new spawner ends what the old one left behind, and says so, or will; what it knows nothing of is lost."""
        log.error("the spawner died; a new one ends what it left behind", runs=len(self._runs))
        spawner, self._spawner, self._spawner_pid = self._spawner, None, 0
        if spawner is not None:
            spawner.kill()
            spawner.wait()
        before = set(self._runs)
        while not self._stopping:
            try:
                await self._connect()
                break
            except OSError as error:
                log.error("no spawner", error=str(error))
                self._disconnect()
                await self._clock.sleep(RECOVERY_PAUSE_S)
        self._lose_all("the process that watched it died", before - self._known)

    def _lose_all(self, why: str, which: Iterable[str] | None = None) -> None:
        ended = Ended(UNKNOWN_EXIT_CODE, signal.SIGKILL, self._clock.wall(), lost=True)
        for run_id in list(self._runs if which is None else which):
            run = self._runs.get(run_id)
            if run is None:
                continue
            if not run.started.done():
                self._runs.pop(run_id)
                run.started.set_exception(StartFailure(128, why))
                run.started.exception()
            self._end(run_id, run, ended)


def _ended(message: dict[str, Any], *, same_boot: bool) -> Ended:
    usage = message.get("usage")
    return Ended(
        message["code"],
        message["signal"],
        message["at"],
        message["tail"],
        lost=message.get("lost", False),
        used=Used(usage["user_ms"], usage["system_ms"], usage["max_rss_bytes"]) if usage else None,
        at_mono_s=message.get("mono") if same_boot else None,
    )


def _misunderstood(directory: Path, hello: dict[str, Any]) -> OSError:
    theirs = hello.get("protocol", "none")
    return OSError(
        f"the spawner of {directory} (pid {hello['pid']}) has version {theirs} of the protocol, this node agent has"
        f" {PROTOCOL}. Its pods run on. Start a node agent of the version that started it; or end it with all its pods:"
        f" kill {hello['pid']}"
    )


def _forsake(spawner: subprocess.Popen[bytes]) -> None:
    """It is nobody's child to wait for any more: it is to live on, and Popen would warn of that."""
    spawner.returncode = 0


class _Output(asyncio.StreamReaderProtocol):
    """A terminal that nobody holds any more answers with an error: that is its end of file."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) and exc.errno == errno.EIO else exc)


class ProcessExec:
    """A command: three pipes, or one terminal, and an end."""

    def __init__(
        self, runtime: ProcessRuntime, run_id: str, stdin: asyncio.StreamWriter, *readers: asyncio.StreamReader
    ) -> None:
        self._runtime, self._run_id = runtime, run_id
        self._ended = runtime.end_of(run_id)  # known here whoever else has the runtime forget it
        self.stdin = stdin
        self.stdout, self.stderr = readers
        self._transports: list[asyncio.BaseTransport] = []
        self._terminal = -1

    @classmethod
    async def open(cls, runtime: ProcessRuntime, run_id: str, stdin: int, *outputs: int) -> ProcessExec:
        """Wraps our ends of the pipes, or two of the terminal; they are closed with it."""
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
        process = cls(runtime, run_id, asyncio.StreamWriter(write_transport, write_protocol, None, loop), *readers)
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
