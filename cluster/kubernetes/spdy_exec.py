"""exec and attach as kubectl before 1.30 knows them: by SPDY, on the connection itself.

The request asks for `Upgrade: SPDY/3.1`, the answer is 101, and from then on the connection speaks SPDY (spdy.py). The
caller opens a stream for each of error, stdin, stdout, stderr and resize that it wants, named by the header
`streamtype`; when all are there, the command begins. Its outcome is a Status on the error stream, as in
v4.channel.k8s.io.

HTTP's server knows only the upgrade to WebSockets, so its connection is taken from under it (`seize`), and it is
told in the end that the caller has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Protocol

import orjson
from aiohttp import web

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, Unavailable
from cluster.kubernetes import spdy
from cluster.kubernetes.statuses import failure, not_upgraded
from cluster.pb.v1 import agent_pb2

PROTOCOL = "v4.channel.k8s.io"
STREAMS_S = 30.0
"""For all streams to be opened."""
MAX_INPUTS = 64
_READ = 64 * 1024
_DRAIN_S = 30.0


class Wire(Protocol):
    """What carries SPDY."""

    async def send(self, content: bytes) -> None:
        """Raises ConnectionError when the other end has gone."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """What comes, to its end."""
        ...


class RawWire:
    """A connection that was HTTP before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError("the caller takes nothing") from None

    async def pieces(self) -> AsyncIterator[bytes]:
        while data := await self._reader.read(_READ):
            yield data

    def close(self) -> None:
        """What was sent still gets there."""
        self._writer.close()


def wants_spdy(request: web.BaseRequest) -> bool:
    """Whether the caller wants the connection to speak SPDY."""
    return request.headers.get("Upgrade", "").upper().startswith("SPDY/3.1")


def take_over(request: web.BaseRequest, protocol: str) -> RawWire:
    """Answers 101, and takes the connection. Raises BadRequest if the caller does not offer that protocol, Unavailable
    if it has gone."""
    offered = ",".join(request.headers.getall("X-Stream-Protocol-Version", ()))
    if protocol not in (each.strip() for each in offered.split(",")):
        raise BadRequest(f"unable to upgrade: {protocol} is needed in X-Stream-Protocol-Version")
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    return seize(request, f"{upgrade}X-Stream-Protocol-Version: {protocol}\r\n\r\n".encode())


def seize(request: web.BaseRequest, answer: bytes) -> RawWire:
    """Takes the connection from under HTTP, and says this on it. Raises Unavailable if the caller has gone."""
    transport = request.transport
    if transport is None or not isinstance(transport, asyncio.Transport):
        raise Unavailable("the caller has gone")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2 * spdy.MAX_FRAME, loop=loop)
    carrier = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(carrier)
    carrier.connection_made(transport)
    writer = asyncio.StreamWriter(transport, carrier, reader, loop)
    writer.write(answer)
    return RawWire(reader, writer)


class ExecSession:
    """A command whose streams come by SPDY."""

    def __init__(self, wire: Wire, wanted: set[str], target: Any) -> None:
        """`wanted`: the types of streams that the caller will open."""
        self._wire = wire
        self._wanted = wanted
        self._target = target
        self._spdy = spdy.SpdyServer()
        self._streams: dict[str, int] = {}
        self._complete = asyncio.Event()
        self._inputs: asyncio.Queue[Any] = asyncio.Queue(MAX_INPUTS)

    async def run(
        self,
        start: Callable[[AsyncIterator[Any]], AsyncGenerator[agent_pb2.ExecOutput, None]],
        exited: Callable[[int], dict[str, Any]],
        size_of: Callable[[bytes], agent_pb2.TerminalSize | None],
    ) -> None:
        """Runs the command that `start(inputs)` begins, until it has ended or the caller has gone."""
        tasks = Tasks("exec by spdy", on_crash=lambda task, error: None)
        hearing = tasks.spawn(self._hear(size_of), name="input of a command")
        sending = tasks.spawn(self._send(start, exited), name="output of a command")
        try:
            await asyncio.wait({hearing, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.cancel_all()

    async def _hear(self, size_of: Callable[[bytes], agent_pb2.TerminalSize | None]) -> None:
        try:
            async for data in self._wire.pieces():
                for event in self._spdy.receive(data):
                    await self._on(event, size_of)
        except (spdy.ProtocolError, ConnectionError):
            return

    async def _on(self, event: spdy.Event, size_of: Callable[[bytes], agent_pb2.TerminalSize | None]) -> None:
        if isinstance(event, spdy.Reply):
            await self._wire.send(event.content)
        elif isinstance(event, spdy.Opened):
            kind = event.headers.get("streamtype", "")
            if kind not in self._wanted or kind in self._streams:
                await self._wire.send(self._spdy.reset(event.stream))
                return
            self._streams[kind] = event.stream
            await self._wire.send(self._spdy.accept(event.stream))
            if len(self._streams) == len(self._wanted):
                self._complete.set()
        elif isinstance(event, spdy.Data):
            if event.stream == self._streams.get("stdin"):
                if event.content:
                    await self._inputs.put(event.content)
                if event.ended:
                    await self._inputs.put(None)
            elif event.stream == self._streams.get("resize") and (size := size_of(event.content)) is not None:
                await self._inputs.put(size)

    async def _given(self) -> AsyncIterator[Any]:
        while (item := await self._inputs.get()) is not None:
            yield item

    async def _send(
        self,
        start: Callable[[AsyncIterator[Any]], AsyncGenerator[agent_pb2.ExecOutput, None]],
        exited: Callable[[int], dict[str, Any]],
    ) -> None:
        try:
            async with asyncio.timeout(STREAMS_S):
                await self._complete.wait()
        except TimeoutError:
            return
        outcome = failure(BadRequest("the node agent ended the call without an exit code"), self._target)
        outputs = start(self._given())
        try:
            async for output in outputs:
                if output.HasField("exit_code"):
                    outcome = exited(output.exit_code)
                elif output.HasField("stdout"):
                    await self._write("stdout", output.stdout)
                else:
                    await self._write("stderr", output.stderr)
        except ApiError as error:
            outcome = failure(not_upgraded(error), self._target, "create")
        except ConnectionError:
            return  # the caller has gone
        finally:
            await outputs.aclose()
        try:
            ends = b"".join(
                self._spdy.data(self._streams[kind], b"", end=True)
                for kind in ("stdout", "stderr")
                if kind in self._streams
            )
            await self._wire.send(ends + self._spdy.data(self._streams["error"], orjson.dumps(outcome), end=True))
        except ConnectionError:
            pass

    async def _write(self, kind: str, content: bytes) -> None:
        if kind in self._streams:
            await self._wire.send(self._spdy.data(self._streams[kind], content))
