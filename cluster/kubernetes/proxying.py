"""pods/NAME/proxy and services/NAME/proxy: HTTP to a pod, through the API.

    caller -- HTTPS --> here -- gRPC, a connection to a port of the pod --> the node's agent -- HTTP --> the pod

The way is that of port-forward, with the same rights: nothing is dialled from here, so nothing but a pod's own address
can be reached, and a node that is cut off, or whose agent is down, is out of reach here as well. Bodies go through in
pieces, and no faster than who takes them; methods, queries and trailing bytes are the pod's. An upgrade (WebSocket) is
handed on, and then both sides speak as they like. Each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

import h11
from aiohttp import web

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, NotFound, Unavailable
from cluster.client.agent_client import NodeAgentClient
from cluster.kubernetes import proxied, spdy_exec
from cluster.kubernetes.call import Call
from cluster.kubernetes.incoming import let_go_on
from cluster.kubernetes.outgoing import Patience
from cluster.kubernetes.paths import Target
from cluster.kubernetes.pod_streams import agent_of
from cluster.kubernetes.resources import BY_KIND
from cluster.kubernetes.tls_line import Line, TlsLine
from cluster.pb.v1 import core_pb2 as core

MAX_WAITING = 16
"""Pieces that wait for the pod to take them; then the caller waits."""
MAX_HEAD = 64 * 1024
"""Of the head of a pod's answer, in bytes."""
PATIENCE_S = 30.0
"""How long a pod may take nothing that is sent to it, and how long it may take to be connected."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DETAIL = 200


async def proxy(call: Call, wanted: proxied.Wanted, request: web.BaseRequest, rng: random.Random) -> web.StreamResponse:
    """Hands a request on, and its answer back. Raises ApiError as long as nothing was answered."""
    name, port = wanted.name, wanted.port
    if wanted.kind == "services":
        name, number = await _behind(call, wanted, rng)
        port = str(number)
    call = replace(call, target=Target(BY_KIND["Pod"], wanted.namespace, name, "proxy"))
    pod, agent = await agent_of(call, "")
    try:
        line = _Line(agent, call, proxied.port_of(pod, port))
        async with aclosing(line):
            carrier = await _open(line, tls=wanted.tls)
            return await _Exchange(wanted, request, carrier, f"{pod.status.podIP}:{line.port}").run()
    finally:
        await agent.close()


async def _open(line: _Line, *, tls: bool) -> Line:
    """What is spoken on, when it can be. Raises Unavailable."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await line.open()
            if not tls:
                return line
            secure = TlsLine(line)
            await secure.open()
            return secure
    except TimeoutError:
        raise Unavailable(f"error trying to reach service: no connection within {PATIENCE_S:g} s") from None


async def _behind(call: Call, wanted: proxied.Wanted, rng: random.Random) -> tuple[str, int]:
    """A pod behind the service, and its port. Raises NotFound, Unavailable."""
    service = await call.client.get(core.Service, wanted.name, wanted.namespace, timeout_s=call.timeout_s)
    try:
        endpoints = await call.client.get(core.Endpoints, wanted.name, wanted.namespace, timeout_s=call.timeout_s)
    except NotFound:
        endpoints = None
    return proxied.endpoint_of(service, endpoints, wanted.port, rng)


class _Line:
    """A connection to a port of a pod, by its node's agent."""

    def __init__(self, agent: NodeAgentClient, call: Call, port: int) -> None:
        self.port = port
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)
        self._received: AsyncGenerator[bytes, None] = agent.port_forward(
            call.namespace, call.target.name, port, self._sent()
        )

    async def open(self) -> None:
        """Returns when the pod has accepted. Raises Unavailable if it does not, Forbidden ..."""
        try:
            await anext(self._received)
        except StopAsyncIteration:
            raise Unavailable("error trying to reach service: the connection was closed") from None
        except (BadRequest, NotFound, Unavailable) as error:
            raise Unavailable(f"error trying to reach service: {error.message}") from error

    async def _sent(self) -> AsyncIterator[bytes]:
        while (piece := await self._waiting.get()) is not None:
            yield piece

    async def send(self, piece: bytes | None) -> None:
        """None: no more will come. Raises Unavailable if the pod takes nothing."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._waiting.put(piece)
        except TimeoutError:
            raise Unavailable("error trying to reach service: it takes nothing") from None

    async def receive(self) -> bytes:
        """What comes next; empty at the end, however it came."""
        try:
            while True:
                piece = await anext(self._received)
                if piece:
                    return piece
        except (StopAsyncIteration, ApiError):
            return b""

    async def aclose(self) -> None:
        await self._received.aclose()


@dataclass(slots=True)
class _Exchange:
    """One request and its answer."""

    wanted: proxied.Wanted
    request: web.BaseRequest
    line: Line
    host: str
    """The pod's address and port."""

    async def run(self) -> web.StreamResponse:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        await self.line.send(http.send(self._head()))
        tasks = Tasks("proxied request", on_crash=lambda task, error: None)
        sending = tasks.spawn(self._send_body(http), name="its body")
        patience = Patience(self.request)
        try:
            response: web.StreamResponse | None = None
            while True:
                event = await self._next(http, response, sending)
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code == 101:
                        await self._switch(event, http.trailing_data[0])
                elif isinstance(event, h11.Response):
                    response = await self._begin(event)
                elif isinstance(event, h11.Data) and response is not None:
                    await patience.write(response, bytes(event.data))
                elif isinstance(event, h11.EndOfMessage) and response is not None:
                    await patience.finish(response)
                    if not sending.done() and self.request.transport is not None:
                        response.force_close()  # what it still sends is nobody's
                    return response
        finally:
            patience.close()
            await tasks.cancel_all()

    def _head(self) -> h11.Request:
        request = self.request
        given = list(request.headers.items())
        raw_path = str(request.rel_url.raw_path)
        headers = proxied.forwarded(given, self.host, raw_path, request.remote or "unknown")
        if protocol := proxied.upgrade_of(given):
            headers += [("Connection", "Upgrade"), ("Upgrade", protocol)]
        elif "Transfer-Encoding" in request.headers:
            headers.append(("Transfer-Encoding", "chunked"))
        query = request.rel_url.raw_query_string
        target = f"{self.wanted.path}?{query}" if query else self.wanted.path
        try:
            return h11.Request(method=request.method, target=target, headers=headers)
        except h11.LocalProtocolError as error:
            raise BadRequest(f"the request cannot be handed on: {str(error)[:_DETAIL]}") from error

    async def _send_body(self, http: h11.Connection) -> None:
        if self.request.body_exists:
            await let_go_on(self.request)
            async for piece in self.request.content.iter_any():
                await self.line.send(http.send(h11.Data(data=piece)))
        if end := http.send(h11.EndOfMessage()):
            await self.line.send(end)

    async def _next(
        self, http: h11.Connection, response: web.StreamResponse | None, sending: asyncio.Task[None]
    ) -> object:
        """The next event of the answer. Raises Unavailable as long as there is none, ConnectionResetError after."""
        piece = b"-"
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(piece := await self.line.receive())
            if not isinstance(event, h11.ConnectionClosed):
                return event
            problem = "EOF"
        except h11.RemoteProtocolError as error:
            problem = f"malformed HTTP response: {str(error)[:_DETAIL]}" if piece else "EOF"
        if response is None:
            failed = sending.exception() if sending.done() and not sending.cancelled() else None
            if isinstance(failed, ApiError):
                raise failed
            raise Unavailable(f"error trying to reach service: {problem}")
        if self.request.transport is not None:
            self.request.transport.abort()  # the end of what is sent shall not look like the end of the answer
        raise ConnectionResetError(problem)

    async def _begin(self, head: h11.Response) -> web.StreamResponse:
        response = web.StreamResponse(status=head.status_code, reason=head.reason.decode("latin-1") or None)
        for name, value in proxied.returned(_text(head.headers), self.host, self.wanted.prefix):
            response.headers.add(name, value)
        is_empty = self.request.method == "HEAD" or head.status_code in (204, 304)
        if "Content-Length" not in response.headers and not is_empty and self.request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(self.request)
        return response

    async def _switch(self, head: h11.InformationalResponse, rest: bytes) -> None:
        """The pod has changed the protocol: what follows is between it and the caller. Never returns."""
        protocol = next((value for name, value in _text(head.headers) if name.lower() == "upgrade"), "")
        lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}"]
        lines += [
            f"{name}: {value}" for name, value in proxied.returned(_text(head.headers), self.host, self.wanted.prefix)
        ]
        wire = spdy_exec.seize(self.request, "\r\n".join((*lines, "", "")).encode("latin-1") + rest)
        tasks = Tasks("proxied connection", on_crash=lambda task, error: None)
        try:
            there = tasks.spawn(self._pump_there(wire), name="what the caller sends")
            back = tasks.spawn(self._pump_back(wire), name="what the pod sends")
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.cancel_all()
            wire.close()
        raise ConnectionResetError("the connection was taken over, and has ended")

    async def _pump_there(self, wire: spdy_exec.RawWire) -> None:
        async for piece in wire.pieces():
            await self.line.send(piece)

    async def _pump_back(self, wire: spdy_exec.RawWire) -> None:
        while piece := await self.line.receive():
            await wire.send(piece)


def _text(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
