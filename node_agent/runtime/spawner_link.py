"""The agent's end of the line to the spawner: finding it or starting it, and passing messages both ways.

A spawner that is there already says which runs it has. One that does not answer, to which another agent talks, or that
speaks another protocol, is an error with a name. When the spawner hangs up it is dead, which it never should be:
whoever holds this link is told, once, and may connect again. Messages travel as in `node_agent.spawner_line`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.actor.clock import Clock
from cluster.telemetry.log import get_logger
from node_agent import process_tree as tree
from node_agent.spawner_line import HEADER, PROTOCOL, SOCKET, packed

_CHUNK_BYTES = 65536
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m node_agent.spawner`, which would cost runpy; not the path of the file, which would be compiled each time.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from node_agent.spawner import main; sys.exit(main(sys.argv[2:]))"
START_LIMIT_S = 15.0
"""How long it may take until a spawner answers; one that ends what another left behind takes up to 5 s."""
_BUSY = 3
"""Exit code of a spawner whose directory another one still has."""

log = get_logger("node_agent.runtime")


@dataclass(slots=True)
class _Outgoing:
    data: memoryview
    fds: list[int] = field(default_factory=list)


class SpawnerLink:
    """To the spawner of one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        hidden: Path | None,
        log_max_bytes: int,
        log_files: int,
        lifetime: str,
        lifeline_fd: int | None,
        patience_s: float,
        on_run: Callable[[dict[str, Any]], None],
        on_message: Callable[[dict[str, Any]], None],
        on_hung_up: Callable[[], None],
    ) -> None:
        """`on_run(entry)` is called for each run that the spawner has when we connect, `on_message(message)` for all
        that it says of runs later, `on_hung_up()` when it is gone. The other arguments are `ProcessRuntime`'s."""
        self._directory, self._clock, self._hidden = directory, clock, hidden
        self._log_max_bytes, self._log_files = log_max_bytes, log_files
        self._lifetime, self._lifeline_fd, self._patience_s = lifetime, lifeline_fd, patience_s
        self._on_run, self._on_message, self._on_hung_up = on_run, on_message, on_hung_up
        self._spawner: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """The spawner's; 0 if there is none now."""
        self._ticks = 0
        self.boot = ""
        """The run of the machine that the spawner lives in."""
        self.confinement: Mapping[str, Any] = {}
        """What the spawner did to itself, and so to all pods, and what it could not do: as it says so itself."""
        self._own_life: tuple[int, int] | None = None
        self._socket: socket.socket | None = None
        self._inbox = bytearray()
        # One message per run that a caller is waiting for: bounded by the number of pods and commands of the node.
        self._outbox: deque[_Outgoing] = deque()
        self._greeting: asyncio.Future[None] | None = None
        self._expected = 0
        self._ready = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """A spawner is on the line, or was until just now."""
        return self._socket is not None

    async def ready(self) -> None:
        """Returns when a spawner is on the line and has said which runs it has."""
        await self._ready.wait()

    async def connect(self) -> None:
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
        loop = asyncio.get_running_loop()
        self._greeting = loop.create_future()
        loop.add_reader(connected.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(max(0.1, deadline - self._clock.monotonic())):
                await self._greeting
        except TimeoutError:
            raise OSError(f"the spawner of {self._directory} takes no calls: is it stopped?") from None
        self._ready.set()

    def disconnect(self) -> None:
        """Hangs up; what was not sent is dropped. Twice is fine."""
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

    def close(self) -> None:
        """Hangs up for good. A spawner that we started lives on, by its lifetime. Twice is fine."""
        self.disconnect()
        if self._own_life is not None:
            for fd in self._own_life:
                os.close(fd)
            self._own_life = None
        spawner, self._spawner = self._spawner, None
        if spawner is not None and spawner.poll() is None:
            spawner.returncode = 0  # nobody's child to wait for any more, of which Popen would warn

    def kill(self) -> None:
        """Kills the spawner, which does not end."""
        if self.pid:
            tree.send(self.pid, self._ticks, signal.SIGKILL)

    def bury(self) -> None:
        """The spawner is dead: what is left of it is seen off, so that another can be started."""
        spawner, self._spawner, self.pid = self._spawner, None, 0
        if spawner is not None:
            spawner.kill()
            spawner.wait()

    async def all_sent(self) -> None:
        """Returns when the spawner has all that was said, or is gone."""
        while self._outbox and self._socket is not None:  # noqa: ASYNC110  (what was said is to be heard)
            await asyncio.sleep(0.005)

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Says this; the descriptors go with it, and are closed here."""
        self._outbox.append(_Outgoing(memoryview(packed(message)), fds or []))
        if len(self._outbox) == 1:
            self._flush()

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
            self._take(message)

    def _on_end_of_file(self) -> None:
        self.disconnect()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(OSError(f"the spawner of {self._directory} hung up"))
        else:
            self._on_hung_up()

    def _take(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "hello" if message.get("protocol") != PROTOCOL:
                self._refuse(_misunderstood(self._directory, message))
            case "hello":
                self.pid, self._expected, self.boot = message["pid"], message["runs"], message["boot"]
                self._ticks = tree.start_ticks_of(self.pid)
                self.confinement = message["confinement"]
                self._on_greeted()
            case "busy":
                self._refuse(OSError(f"another node agent (pid {message['pid']}) works in {self._directory}"))
            case "run":
                self._on_run(message)
                self._expected -= 1
                self._on_greeted()
            case _:
                self._on_message(message)

    def _refuse(self, error: OSError) -> None:
        assert self._greeting is not None
        if not self._greeting.done():
            self._greeting.set_exception(error)

    def _on_greeted(self) -> None:
        if self._expected == 0 and self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(None)


def _misunderstood(directory: Path, hello: dict[str, Any]) -> OSError:
    theirs = hello.get("protocol", "none")
    return OSError(
        f"the spawner of {directory} (pid {hello['pid']}) has version {theirs} of the protocol, this node agent has"
        f" {PROTOCOL}. Its pods run on. Start a node agent of the version that started it; or end it with all its pods:"
        f" kill {hello['pid']}"
    )
