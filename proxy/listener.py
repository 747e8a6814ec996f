"""Listens on a service's address, and accepts for itself.

asyncio's own accept loop, at the file limit, stops accepting for a second at a time and logs every failure; clients
hang meanwhile. Here connections beyond the limit are accepted and reset at once, so that a client knows, and only if
descriptors run out in spite of that, accepting rests, for longer each time.

Whoever opens connections and says nothing can fill the proxy, but not keep others out: one on which nobody has said
anything for 10 s makes room for a new one when the limit is reached.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from cluster.actor.backoff import Backoff
from proxy.ambassadors.connection import AmbassadorConnection
from proxy.balancer import Target
from proxy.connection import Connection
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.poller import READ
from proxy.relay import reset
from proxy.sockets import bind

_BATCH = 64
"""Connections accepted per turn; more wait in the kernel's queue until the others had their turn."""
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SILENT_S = 10.0
"""A connection without a first byte for so long goes, if another one wants its place."""
_LOOK_AT = 1000
_ROOM = 16
_LOOK_AGAIN_S = 0.25
_PAUSE_MIN_S = 0.02
_PAUSE_MAX_S = 1.0


class PortSocket:
    """The socket that a service port listens with, open or to be opened."""

    def __init__(self, path: DataPath, frontend: Frontend, ready: Callable[[int], None]) -> None:
        """`ready` is called when somebody has come."""
        self.frontend = frontend
        self._path = path
        self._when_ready = ready
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """It listens."""
        return self._socket is not None

    @property
    def address(self) -> Target:
        """Where it listens; the kernel's choice if the route says port 0. Raises if it is not open."""
        assert self._socket is not None
        return Target(*self._socket.getsockname())

    def open(self, sock: socket.socket | None = None) -> None:
        """Listens from now on, with that socket or one of its own. Raises OSError if it cannot have one."""
        if sock is None:
            route = self.frontend.route
            sock = bind(route.listen, route.protocol, backlog=self._path.settings.backlog)
        self._socket = sock
        self._path.poller.watch(sock, READ, self._when_ready)
        self._path.add_listeners(1)

    def close(self) -> None:
        """Listens no more. Twice is fine."""
        if self._socket is not None:
            # There are copies of it, so closing this one alone would not end its events.
            self._path.poller.unwatch(self._socket)
            self._socket.close()
            self._socket = None
            self._path.add_listeners(-1)


class Listener(PortSocket):
    """The listening socket of one service port."""

    def __init__(self, path: DataPath, frontend: Frontend) -> None:
        super().__init__(path, frontend, self._accept)
        self._backoff = Backoff(_PAUSE_MIN_S, _PAUSE_MAX_S)
        self._pause: asyncio.TimerHandle | None = None
        self._no_room_until = 0.0

    def close(self) -> None:
        """Listens no more; connections stay. Twice is fine."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        super().close()

    def changed(self) -> None:
        """The endpoints are others than before: established connections are left alone."""

    def _accept(self, _events: int) -> None:
        if self._socket is None:
            return
        # What `accept` itself does, less the calls that find out what is known of such a socket.
        accept, path, frontend = self._socket._accept, self._path, self.frontend  # type: ignore[attr-defined]
        now = path.clock.monotonic()
        for _ in range(_BATCH):
            try:
                fd, address = accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._rest()
                    return
                continue  # this client is gone already
            client = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
            if path.is_full() and not self._make_room(now):
                frontend.stats.refused_limit += 1
                reset(client)
                client.close()
                continue
            if path.faults.active and path.faults.refuses(frontend.route.key.service):
                reset(client)
                client.close()
                continue
            client.setblocking(False)
            if frontend.ambassador is not None:
                AmbassadorConnection(path, frontend, frontend.ambassador, client, address, now).start()
            else:
                Connection(path, frontend, client, address, now).start()
        self._backoff.reset()

    def _make_room(self, now: float) -> bool:
        """Ends a few connections on which nobody has ever said anything. False: there are none."""
        if now < self._no_room_until:
            return False
        silent = [
            member
            for member in self._path.oldest(_LOOK_AT)
            if isinstance(member, Connection) and member.has_been_silent_for(now) >= _SILENT_S
        ]
        for connection in silent[:_ROOM]:
            connection.frontend.stats.timed_out_first_byte += 1
            connection.cut("first-byte")
        if not silent:
            self._no_room_until = now + _LOOK_AGAIN_S
        return bool(silent)

    def _rest(self) -> None:
        assert self._socket is not None
        self._path.stats.accept_pauses += 1
        self._path.poller.unwatch(self._socket)
        self._pause = self._path.poller.call_later(self._backoff.next(), self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._socket is not None:
            self._path.poller.watch(self._socket, READ, self._when_ready)
