"""UDP and TCP: takes messages in, sends answers out, and knows no name.

Datagrams are read many at a time, each turn: a turn of the event loop costs more than an answer. By TCP a client may
ask on without waiting (RFC 7766); what is known is answered at once and in order, and what somebody else is asked for,
when it comes, some at a time. A connection that says nothing for a while is closed, and so is one that does not take
what it has asked for; there are so many connections at most.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from cluster.actor.tasks import Tasks
from proxy.dns.responder import EDNS_BYTES, Ask, Reply, Responder
from proxy.dns.zone import SERVFAIL

_BATCH = 64
_BUFFER_BYTES = 1 << 20
"""What the kernel keeps for us while we are busy: some thousand questions."""
_ASKED_AT_ONCE = 16
"""Questions of one connection that somebody else is asked; it is read on when one of them is answered."""
_BACKLOG = 256
_LOGGED = 10
"""So many failures are logged in full; they are counted all the same."""
_log = logging.getLogger("podium.dns")

Forward = Callable[[Ask], Awaitable[bytes]]
Address = tuple[str, int]


def respond(responder: Responder, message: bytes, *, over_udp: bool) -> Reply:
    """The responder's reply; if it fails, that it has: one question is not to cost the others their server."""
    try:
        return responder.respond(message, over_udp=over_udp)
    except Exception:
        responder.stats.failures += 1
        if responder.stats.failures <= _LOGGED:
            _log.exception("failed at the question %s", message[:600].hex())
        return message[:2] + bytes((0x80 | message[2] & 0x79, SERVFAIL)) + bytes(8)


class UdpServer:
    """One socket."""

    def __init__(self, responder: Responder, forward: Forward | None, tasks: Tasks) -> None:
        self._responder, self._forward, self._tasks = responder, forward, tasks
        self._socket: socket.socket | None = None

    def open(self, host: str, port: int) -> Address:
        """Listens; where. Raises OSError."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._readable)
        address: Address = sock.getsockname()
        return address

    def close(self) -> None:
        """Twice is fine."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        sock, responder = self._socket, self._responder
        if sock is None:
            return
        receive, send = sock.recvfrom, self._send
        for _ in range(_BATCH):
            try:
                message, address = receive(EDNS_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            if not address[0].startswith("127."):
                responder.stats.ignored += 1
                continue
            reply = respond(responder, message, over_udp=True)
            if reply.__class__ is bytes:
                send(reply, address)
            elif isinstance(reply, Ask):
                self._tasks.spawn(self._ask(reply, address), name="forward a question")

    async def _ask(self, ask: Ask, address: Address) -> None:
        assert self._forward is not None, "the responder forwards only if it was told that there is somebody"
        self._send(await self._forward(ask), address)

    def _send(self, answer: bytes, address: Address) -> None:
        try:
            if self._socket is not None:
                self._socket.sendto(answer, address)
        except OSError:
            self._responder.stats.unsent += 1  # they ask again


class TcpServer:
    """One listening socket and its connections."""

    def __init__(
        self, responder: Responder, forward: Forward | None, tasks: Tasks, *, max_connections: int, idle_s: float
    ) -> None:
        self._responder, self._forward, self._tasks = responder, forward, tasks
        self._max_connections, self._idle_s = max_connections, idle_s
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, host: str, port: int) -> None:
        """Listens. Raises OSError."""
        self._server = await asyncio.start_server(self._accepted, host, port, backlog=_BACKLOG)

    def close(self) -> None:
        """Ends the connections, too. Twice is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stats, peer = self._responder.stats, writer.get_extra_info("peername")
        if len(self._writers) >= self._max_connections or not peer or not peer[0].startswith("127."):
            stats.connections_refused += 1
            writer.transport.abort()
            return
        stats.connections += 1
        self._writers.add(writer)
        self._tasks.spawn(self._serve(reader, writer), name="a connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = asyncio.Semaphore(_ASKED_AT_ONCE)
        try:
            while True:
                async with asyncio.timeout(self._idle_s):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    message = await reader.readexactly(size)
                    reply = respond(self._responder, message, over_udp=False)
                    if reply is None:
                        return  # it was no question: who knows what comes next
                    if isinstance(reply, Ask):
                        await room.acquire()
                        self._tasks.spawn(self._ask(reply, writer, room), name="forward a question")
                        continue
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                    await writer.drain()
        except asyncio.IncompleteReadError:
            await self._finish(room)
        except (TimeoutError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _finish(self, room: asyncio.Semaphore) -> None:
        """Nothing more will be asked, and what was asked for is still to be answered."""
        try:
            async with asyncio.timeout(self._idle_s):
                for _ in range(_ASKED_AT_ONCE):
                    await room.acquire()
        except TimeoutError:
            pass

    async def _ask(self, ask: Ask, writer: asyncio.StreamWriter, room: asyncio.Semaphore) -> None:
        assert self._forward is not None, "the responder forwards only if it was told that there is somebody"
        try:
            answer = await self._forward(ask)
            if not writer.is_closing():
                writer.write(len(answer).to_bytes(2, "big") + answer)
        finally:
            room.release()
