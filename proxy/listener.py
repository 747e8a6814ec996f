"""Listens on a service's address, and accepts for itself.

asyncio's own accept loop, at the file limit, stops accepting for a second at a time and logs every failure; clients
hang meanwhile. Here connections beyond the limit are accepted and reset at once, so that a client knows, and only if
descriptors run out in spite of that, accepting rests, for longer each time.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from cluster.actor.backoff import Backoff
from proxy.ambassadors.connection import AmbassadorConnection
from proxy.balancer import Target
from proxy.connection import Connection
from proxy.datapath import DataPath, tune
from proxy.frontend import Frontend
from proxy.poller import READ
from proxy.relay import reset

_BATCH = 64
"""Connections accepted per turn; more wait in the kernel's queue until the others had their turn."""
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_MIN_S = 0.02
_PAUSE_MAX_S = 1.0


def why_it_cannot_listen(address: Target, error: OSError) -> str:
    """Says what went wrong, why, and what helps."""
    what = f"Cannot listen on {address}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{what}: the address is in use, probably by a program that listens on 0.0.0.0:{address.port}; "
            "stop it, let it listen on one address only, or give the service another port"
        )
    if error.errno == errno.EACCES:
        return (
            f"{what}: low ports are for privileged users only; give the service a port from 1024 up, "
            f"or allow it with: sysctl net.ipv4.ip_unprivileged_port_start={address.port}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{what}: this is not an address of this machine"
    return f"{what}: {error.strerror or error}"


class Listener:
    """The listening socket of one service port."""

    def __init__(self, path: DataPath, frontend: Frontend) -> None:
        self.frontend = frontend
        self._path = path
        self._socket: socket.socket | None = None
        self._backoff = Backoff(_PAUSE_MIN_S, _PAUSE_MAX_S)
        self._pause: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """It listens."""
        return self._socket is not None

    @property
    def address(self) -> Target:
        """Where it listens; the kernel's choice if the route says port 0. Raises if it is not open."""
        assert self._socket is not None
        return Target(*self._socket.getsockname())

    def open(self) -> None:
        """Listens from now on. Raises OSError if the address is taken or may not be used."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tune(sock)
            sock.bind(self.frontend.route.listen)
            sock.listen(self._path.settings.backlog)
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self._path.poller.watch(sock, READ, self._accept)
        self._path.add_listeners(1)

    def close(self) -> None:
        """Listens no more; connections stay. Twice is fine."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._socket is not None:
            self._path.poller.retire(self._socket)
            self._socket = None
            self._path.add_listeners(-1)

    def _accept(self, _events: int) -> None:
        if self._socket is None:
            return
        accept, path, frontend = self._socket.accept, self._path, self.frontend
        for _ in range(_BATCH):
            try:
                client, address = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._rest()
                    return
                continue  # this client is gone already
            self._backoff.reset()
            if path.is_full():
                frontend.stats.refused_limit += 1
                reset(client)
                client.close()
                continue
            client.setblocking(False)
            if frontend.ambassador is not None:
                AmbassadorConnection(path, frontend, frontend.ambassador, client, address).start()
            else:
                Connection(path, frontend, client, address[0]).start()

    def _rest(self) -> None:
        assert self._socket is not None
        self._path.stats.accept_pauses += 1
        self._path.poller.unwatch(self._socket)
        self._pause = self._path.poller.call_later(self._backoff.next(), self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._socket is not None:
            self._path.poller.watch(self._socket, READ, self._accept)
