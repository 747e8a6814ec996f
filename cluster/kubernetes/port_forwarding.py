"""pods/NAME/portforward: connections to ports of a pod, through the API.

kubectl (1.31 and later) opens a WebSocket of SPDY/3.1+portforward.k8s.io and speaks SPDY in it (spdy.py): for each
connection that somebody makes to it, a stream for errors and one for data, with the same `requestid` and the `port`.
Before that it spoke SPDY on the connection itself (spdy_exec.py).

The older way, of the Python clients, is a WebSocket of v4.channel.k8s.io with `?ports=A,B`: the frames of the i-th port
begin with the channel 2i (data) or 2i+1 (errors), and the first of each channel from here says the port, little-endian.

Either way a connection is a call to the node's agent, which knows how to reach the pod.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest
from cluster.client.agent_client import NodeAgentClient
from cluster.kubernetes import query, spdy, spdy_exec
from cluster.kubernetes.call import Call
from cluster.kubernetes.pod_streams import MAX_FRAME, agent_of

SPDY = "SPDY/3.1+portforward.k8s.io"
CHANNELS = "v4.channel.k8s.io"
MAX_WAITING = 256
"""Pieces that wait for the pod to take them, for each connection."""
PATIENCE_S = 30.0
"""How long a pod may take nothing; then its connection is given up, so that the others go on."""
MAX_PORTS = 16


async def forward(call: Call, request: web.BaseRequest) -> web.StreamResponse:
    """Serves until the caller goes. Raises ApiError before the connection becomes a WebSocket."""
    ports = _ports(call.query.get("ports", ""))
    pod, agent = await agent_of(call, "")
    try:
        if pod.status.phase != "Running":
            raise BadRequest(f"unable to forward port because pod is not running. Current status={pod.status.phase}")
        if spdy_exec.wants_spdy(request):
            return await _by_spdy(call, request, agent)
        protocols = (SPDY, CHANNELS) if ports else (SPDY,)
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=2 * MAX_FRAME)
        if request.method != "GET" or not socket.can_prepare(request):
            raise BadRequest(f"unable to upgrade: a WebSocket of {' or '.join(protocols)} is needed")
        await socket.prepare(request)
        tasks = Tasks("port-forward")
        try:
            if socket.ws_protocol == SPDY:
                await _Tunnel(call, agent, _SocketWire(socket), tasks).serve()
            elif ports:
                await _serve_channels(call, agent, socket, tasks, ports)
            else:
                await socket.close(code=1002, message=f"{SPDY} is needed".encode())
        finally:
            await tasks.cancel_all()
        await socket.close()
        return socket
    finally:
        await agent.close()


async def _by_spdy(call: Call, request: web.BaseRequest, agent: NodeAgentClient) -> web.StreamResponse:
    """For kubectl before 1.31. Never returns: the connection is HTTP no more."""
    wire = spdy_exec.take_over(request, "portforward.k8s.io")
    tasks = Tasks("port-forward")
    try:
        await _Tunnel(call, agent, wire, tasks).serve()
    finally:
        await tasks.cancel_all()
        wire.close()
    raise ConnectionResetError("the connection was taken over, and has ended")


class _SocketWire:
    """SPDY inside of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, content: bytes) -> None:
        await self._socket.send_bytes(content)

    async def pieces(self) -> AsyncIterator[bytes]:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                yield message.data


def _ports(text: str) -> list[int]:
    """The ports of the query. Raises BadRequest."""
    if not text:
        return []
    ports = [query.port(part) for part in text.split(",")]
    found = [port for port in ports if port is not None]
    if len(found) != len(ports) or len(ports) > MAX_PORTS:
        raise BadRequest(f'ports="{text[:80]}" must be at most {MAX_PORTS} numbers of ports, with commas between')
    return found


@dataclass(slots=True)
class _Connection:
    """One connection to a port."""

    port: int = 0
    data: int = 0
    """The stream, or the channel, of its data; 0: not there yet."""
    error: int = 0
    waiting: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(MAX_WAITING))
    """What the pod is to get; None: nothing more."""

    async def sent(self) -> AsyncIterator[bytes]:
        while (piece := await self.waiting.get()) is not None:
            yield piece


async def _carry(
    call: Call, agent: NodeAgentClient, connection: _Connection, send: Callable[[bytes], Awaitable[None]]
) -> str:
    """Carries one connection to its end; what has gone wrong, if anything has."""
    try:
        received = agent.port_forward(call.namespace, call.target.name, connection.port, connection.sent())
        async with aclosing(received):
            async for piece in received:
                if piece:
                    await send(piece)
    except ApiError as error:
        return error.message
    return ""


class _Tunnel:
    """Connections to ports by SPDY, whatever carries that."""

    def __init__(self, call: Call, agent: NodeAgentClient, wire: spdy_exec.Wire, tasks: Tasks) -> None:
        self._call, self._agent, self._wire, self._tasks = call, agent, wire, tasks
        self._spdy = spdy.SpdyServer()
        self._requests: dict[str, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}
        self._carrying: dict[int, asyncio.Task[None]] = {}
        """By the stream of their data."""

    async def serve(self) -> None:
        """Until the caller goes, or says something that is not SPDY."""
        try:
            async for data in self._wire.pieces():
                for event in self._spdy.receive(data):
                    await self._on(event)
        except (spdy.ProtocolError, ConnectionError):
            return

    async def _on(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Reply):
            await self._wire.send(event.content)
        elif isinstance(event, spdy.Opened):
            await self._opened(event)
        elif isinstance(event, spdy.Data):
            connection = self._by_stream.get(event.stream)
            if connection is not None and event.stream == connection.data:
                await self._hand_on(connection, event)
        else:
            self._end(event.stream)

    async def _opened(self, event: spdy.Opened) -> None:
        kind, port = event.headers.get("streamtype", ""), query.port(event.headers.get("port", ""))
        request = event.headers.get("requestid", "")
        if kind not in ("error", "data") or port is None:
            await self._wire.send(self._spdy.reset(event.stream))
            return
        connection = self._requests.setdefault(request, _Connection(port))
        self._by_stream[event.stream] = connection
        await self._wire.send(self._spdy.accept(event.stream))
        if kind == "error":
            connection.error = event.stream
        else:
            connection.data = event.stream
        if connection.data and connection.error:
            del self._requests[request]
            name = f"port {connection.port}"
            self._carrying[connection.data] = self._tasks.spawn(self._serve(connection), name=name)
        if kind == "data" and event.ended:
            await self._hand_on(connection, spdy.Data(event.stream, b"", True))

    async def _hand_on(self, connection: _Connection, data: spdy.Data) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                if data.content:
                    await connection.waiting.put(data.content)
                if data.ended:
                    await connection.waiting.put(None)
        except TimeoutError:
            self._end(connection.data)
            await self._wire.send(self._spdy.reset(connection.data))

    async def _serve(self, connection: _Connection) -> None:
        try:
            problem = await _carry(
                self._call,
                self._agent,
                connection,
                lambda piece: self._wire.send(self._spdy.data(connection.data, piece)),
            )
            text = f"an error occurred forwarding port {connection.port}: {problem}" if problem else ""
            await self._wire.send(
                self._spdy.data(connection.error, text.encode(), end=True)
                + self._spdy.data(connection.data, b"", end=True)
            )
        except ConnectionError:
            pass  # the caller has gone
        finally:
            for stream in (connection.data, connection.error):
                self._by_stream.pop(stream, None)
                self._spdy.forget(stream)
            self._carrying.pop(connection.data, None)

    def _end(self, stream: int) -> None:
        """The caller has given a stream up: so does the pod get nothing more."""
        connection = self._by_stream.pop(stream, None)
        if connection is not None and stream == connection.data and (task := self._carrying.get(stream)) is not None:
            task.cancel()


async def _serve_channels(
    call: Call, agent: NodeAgentClient, socket: web.WebSocketResponse, tasks: Tasks, ports: list[int]
) -> None:
    """One connection to each port, by channels of the WebSocket."""
    connections = [_Connection(port, 2 * index, 2 * index + 1) for index, port in enumerate(ports)]

    async def carry(connection: _Connection) -> None:
        try:
            problem = await _carry(
                call, agent, connection, lambda piece: socket.send_bytes(bytes([connection.data]) + piece)
            )
            if problem:
                await socket.send_bytes(bytes([connection.error]) + problem.encode())
        except ConnectionError:
            pass  # the caller has gone

    for connection in connections:
        for channel in (connection.data, connection.error):
            await socket.send_bytes(bytes([channel]) + struct.pack("<H", connection.port))
    carrying = [tasks.spawn(carry(connection), name=f"port {connection.port}") for connection in connections]

    async def hear() -> None:
        async for message in socket:
            data = message.data if message.type is WSMsgType.BINARY else b""
            place, odd = divmod(data[0], 2) if data else (len(connections), 0)
            if place < len(connections) and not odd and len(data) > 1:
                await connections[place].waiting.put(data[1:])

    hearing = tasks.spawn(hear(), name="what the caller sends")

    async def carried() -> None:
        await asyncio.wait(carrying)

    done = tasks.spawn(carried(), name="all ports")
    await asyncio.wait({hearing, done}, return_when=asyncio.FIRST_COMPLETED)
