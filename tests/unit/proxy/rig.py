"""A data path with real sockets on loopback addresses, and clients and endpoints whose every step a test controls."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from cluster.actor.clock import SystemClock
from cluster.actor.open_files import raise_file_limit
from proxy.balancer import Target
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.listener import Listener
from proxy.relay import reset
from proxy.routing import Route, RouteKey, ServiceName
from proxy.settings import DataPathSettings
from proxy.stats import PortStats, Stats

DEADLINE_S = 20.0
"""For what must happen; only a failing test ever waits that long."""
KEY = RouteKey(ServiceName("default", "web"), "80")


class Peer:
    """One end of a connection, in steps."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._loop.sock_sendall(self.sock, data)

    async def hear(self, count: int) -> bytes:
        """Exactly so many bytes; fewer if the stream ends before."""
        heard = bytearray()
        async with asyncio.timeout(DEADLINE_S):
            while len(heard) < count and (data := await self._loop.sock_recv(self.sock, count - len(heard))):
                heard += data
        return bytes(heard)

    async def hear_all(self) -> bytes:
        """Until the end of the stream."""
        heard = bytearray()
        async with asyncio.timeout(DEADLINE_S):
            while data := await self._loop.sock_recv(self.sock, 1 << 16):
                heard += data
        return bytes(heard)

    def fill(self) -> int:
        """Says as much as is taken without waiting; how much that was."""
        said = 0
        while True:
            try:
                said += self.sock.send(bytes(1 << 16))
            except BlockingIOError:
                return said

    def end(self) -> None:
        """The last word (FIN); goes on listening."""
        self.sock.shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        """RST."""
        reset(self.sock)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Endpoint:
    """Listens like a pod's program, and accepts when the test says so."""

    def __init__(self, ip: str = "127.0.0.1", *, backlog: int = 512, receive_buffer_bytes: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.setblocking(False)
        self._socket.bind((ip, 0))
        self._socket.listen(backlog)
        self.target = Target(*self._socket.getsockname())

    async def accept(self) -> Peer:
        async with asyncio.timeout(DEADLINE_S):
            sock, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        return Peer(sock)

    def close(self) -> None:
        """From now on it refuses."""
        self._socket.close()


class Parties:
    """Clients and endpoints around a proxy."""

    address: Target
    """Of the proxy."""

    def __init__(self) -> None:
        self._closing: list[Peer | Endpoint] = []

    def endpoint(self, *, backlog: int = 512, receive_buffer_bytes: int = 0) -> Endpoint:
        endpoint = Endpoint(backlog=backlog, receive_buffer_bytes=receive_buffer_bytes)
        self._closing.append(endpoint)
        return endpoint

    def new_socket(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        return sock

    async def connect(self, sock: socket.socket | None = None) -> Peer:
        peer = Peer(sock or self.new_socket())
        self._closing.append(peer)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_connect(peer.sock, self.address)
        return peer

    async def pair(self, endpoint: Endpoint) -> tuple[Peer, Peer]:
        """A client and its endpoint's end, connected through the proxy."""
        client = await self.connect()
        backend = await endpoint.accept()
        self._closing.append(backend)
        return client, backend

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the loop run until `condition()` holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0)

    def close_all(self) -> None:
        for closing in self._closing:
            closing.close()


class Rig(Parties):
    """A data path that serves one port."""

    def __init__(self, settings: DataPathSettings) -> None:
        super().__init__()
        self.settings = settings
        self.totals = Stats()
        self.path = DataPath(settings, SystemClock(), self.totals, file_limit=raise_file_limit())
        self.frontend = Frontend(
            Route(KEY, Target("127.0.0.1", 0), ()),
            settings,
            self.totals.of(KEY),
        )
        self.listener = Listener(self.path, self.frontend)
        self.listener.open()
        self.address = self.listener.address

    @property
    def stats(self) -> PortStats:
        return self.frontend.stats

    def lead_to(self, *endpoints: Endpoint, affinity_timeout_s: float | None = None) -> None:
        self.frontend.update(
            Route(KEY, self.address, tuple(endpoint.target for endpoint in endpoints), affinity_timeout_s)
        )

    def close(self) -> None:
        self.listener.close()
        self.close_all()
        self.path.close()


@asynccontextmanager
async def rig(
    *, hold_s: float = DEADLINE_S, dial_timeouts_s: Sequence[float] = (DEADLINE_S,), max_connections: int = 0
) -> AsyncIterator[Rig]:
    made = Rig(DataPathSettings(hold_s=hold_s, dial_timeouts_s=tuple(dial_timeouts_s), max_connections=max_connections))
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Rig, Peer, Peer]]:
    """A port with one endpoint, and a client's end and the endpoint's end of a connection through it."""
    async with rig() as made:
        endpoint = made.endpoint()
        made.lead_to(endpoint)
        client, backend = await made.pair(endpoint)
        yield made, client, backend
