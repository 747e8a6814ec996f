"""A TCP proxy that misbehaves on command: for what happens to connections when networks and peers fail.

    async with ChaosProxy(("127.0.0.1", 2379)) as proxy:
        ...                                     connect to proxy.address instead
        proxy.up.delay_s = 0.3                  what clients send arrives later (throughput stays)
        proxy.down.rate_bytes_per_s = 10_000    what the server answers trickles
        proxy.down.hold()                       nothing passes that way any more, and nobody is told: a black hole
        proxy.down.release()                    it goes on where it stopped, as TCP does when the network is mended
        proxy.cut()  proxy.reset()              ends all connections: politely, or with RST
        proxy.up.cut_after(1000)                the next connection that has sent so many bytes is reset there
        await proxy.refuse() / accept()         the port is closed / open again

"up" is from clients to the server, "down" the other way. What is held is not lost: as with TCP, the sender's buffers
fill up behind it. At most `LINE_LIMIT` pieces of 64 KiB wait in each direction of a connection; then it stops reading.

It accepts connections itself: asyncio's server, and its sock_accept too, forget a connection that comes while they are
being closed, and leave it open.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType

from cluster.actor.tasks import Tasks

PIECE_BYTES = 65536
LINE_LIMIT = 64
_PAUSE_S = 0.005


class Direction:
    """How one direction of all connections behaves. Changes hold from the next piece on."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.rate_bytes_per_s: float | None = None
        self.passed_bytes = 0
        """Forwarded in this direction so far, over all connections."""
        self.heard_bytes = 0
        """Taken from senders so far, forwarded or not."""
        self._open = asyncio.Event()
        self._open.set()
        self._cut_after: int | None = None

    def hold(self) -> None:
        """Nothing passes any more."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut_after(self, size_bytes: int) -> None:
        """Once: after that many more bytes, in the middle of a message or not, the connection that brought them is
        reset. What is before them still arrives."""
        self._cut_after = size_bytes

    async def gate(self) -> None:
        """Returns when something may pass."""
        await self._open.wait()

    def allowed(self, size_bytes: int) -> tuple[int, bool]:
        """How many of these bytes may pass, and whether the connection is reset afterwards."""
        if self._cut_after is None:
            return size_bytes, False
        if size_bytes < self._cut_after:
            self._cut_after -= size_bytes
            return size_bytes, False
        size_bytes, self._cut_after = self._cut_after, None
        return size_bytes, True


class ChaosProxy:
    """One port that leads to another one."""

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1", port: int = 0) -> None:
        """`target` is where it leads; `port` 0 takes any."""
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        """Connections so far."""
        self._target = target
        self._host, self._port = host, port
        self._listener: socket.socket | None = None
        self._tasks = Tasks("chaos proxy")
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs = 0

    @property
    def address(self) -> str:
        """ "host:port" to connect to."""
        return f"{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """That are open now."""
        return self._pairs

    async def __aenter__(self) -> ChaosProxy:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def accept(self) -> None:
        """Listens (again), on the same port."""
        if self._listener is None:
            self._listener = socket.create_server((self._host, self._port), backlog=128)
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]
            asyncio.get_running_loop().add_reader(self._listener, self._take_connection, self._listener)

    async def refuse(self) -> None:
        """New connections are refused; those that are there live on."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def cut(self) -> None:
        """Ends all connections as a peer does that closes them."""
        for writer in tuple(self._writers):
            writer.close()

    def reset(self) -> None:
        """Ends all connections with RST: what is on its way is lost."""
        for writer in tuple(self._writers):
            _reset(writer)

    async def close(self) -> None:
        """Ends everything. Twice is fine."""
        await self.refuse()
        await self._tasks.cancel_all()
        self.reset()  # what was not served yet
        self._writers.clear()

    def _take_connection(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)
        self.accepted += 1
        self._tasks.spawn(self._serve(connection), name=f"connection {self.accepted}")

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._writers.discard(writer)
            _reset(writer)
            return
        pair = {writer, far_writer}
        self._writers.add(far_writer)
        self._pairs += 1
        try:
            async with asyncio.TaskGroup() as group:
                for way, source, sink in ((self.up, reader, far_writer), (self.down, far_reader, writer)):
                    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(LINE_LIMIT)
                    group.create_task(_take(way, source, line), name="chaos proxy: take")
                    group.create_task(_give(way, line, sink), name="chaos proxy: give")
        except* (_Cut, OSError):
            for one in pair:
                _reset(one)
        except* _Ended:
            pass
        finally:
            self._writers -= pair
            self._pairs -= 1
            for one in pair:
                one.close()


class _Cut(Exception):
    """`cut_after` was reached."""


class _Ended(Exception):
    """One side has closed its connection: so is the other one."""


async def _take(way: Direction, source: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        piece = await source.read(PIECE_BYTES)
        way.heard_bytes += len(piece)
        await line.put((loop.time() + way.delay_s, piece))
        if not piece:
            return


async def _give(way: Direction, line: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, piece = await line.get()
        if (wait_s := due - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        await way.gate()
        if not piece:
            raise _Ended
        size, cut = way.allowed(len(piece))
        at = 0
        while at < size:
            rate = way.rate_bytes_per_s
            step = size - at if rate is None else max(1, int(rate * _PAUSE_S))
            sink.write(piece[at : min(at + step, size)])
            await sink.drain()
            way.passed_bytes += min(at + step, size) - at
            at += step
            if rate is not None:
                await asyncio.sleep(_PAUSE_S)
                await way.gate()
        if cut:
            raise _Cut


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
