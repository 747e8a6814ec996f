"""The sockets that the proxy listens with: made, or taken over from the proxy before, and kept for the next one.

They are kept apart from those who accept from them. So a worker that crashed loses no connection that waits in the
kernel: its successor gets the same socket; and so does the successor of the whole proxy (handover.py).

With several workers each has a socket of its own at each address (SO_REUSEPORT), and the kernel spreads connections.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import NamedTuple

from proxy.datapath import tune
from proxy.policies import Target
from proxy.routing import NODE_PORT_HOST, UDP, Route, RouteKey

UDP_BUFFER_BYTES = 1 << 20
"""Datagrams that wait for their turn; the kernel gives what it allows (net.core.rmem_max)."""


def bind(address: Target, protocol: str, *, backlog: int, shared: bool = False) -> socket.socket:
    """A socket that listens there. Raises OSError if the address is taken or may not be used.

    `shared`: others of this user may bind the same address, and the kernel spreads connections over them.
    """
    kind = socket.SOCK_DGRAM if protocol == UDP else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if protocol == UDP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
            sock.bind(address)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tune(sock)
            sock.bind(address)
            sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def why_it_cannot_listen(address: Target, error: OSError) -> str:
    """Says what went wrong, why, and what helps."""
    what = f"Cannot listen on {address}"
    if error.errno == errno.EADDRINUSE and address.ip == NODE_PORT_HOST:
        return (
            f"{what}: the port is in use, by another program or another cluster on this machine; "
            "give the service another nodePort"
        )
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


class Held(NamedTuple):
    """The sockets at one address."""

    address: Target
    protocol: str
    sockets: list[socket.socket]


class ListenSockets:
    """All of them, for so many workers."""

    def __init__(self, workers: int, backlog: int) -> None:
        self._workers = workers
        self._backlog = backlog
        self._open: dict[RouteKey, Held] = {}
        self._inherited: dict[tuple[Target, str], list[socket.socket]] = {}

    @property
    def addresses(self) -> dict[RouteKey, Target]:
        """Where somebody listens; the kernel's choice if the route says port 0."""
        return {key: held.address for key, held in self._open.items()}

    def all(self) -> list[Held]:
        """For a successor."""
        return list(self._open.values())

    def inherit(self, sockets: Sequence[Held]) -> None:
        """Those of the proxy before; whoever asks for their address gets them."""
        for held in sockets:
            self._inherited.setdefault((held.address, held.protocol), []).extend(held.sockets)

    def obtain(self, route: Route) -> list[list[socket.socket]]:
        """The sockets of each worker for this route: copies, which are the worker's to close. Raises OSError."""
        held = self._inherited.pop((route.listen, route.protocol), None) or self._bind(route)
        self._open[route.key] = Held(Target(*held[0].getsockname()), route.protocol, held)
        return self.copies(route.key)

    def copies(self, key: RouteKey) -> list[list[socket.socket]]:
        """The same sockets again, for each worker."""
        held, workers = self._open[key].sockets, self._workers
        if len(held) < workers:  # taken over from fewer: some share one
            return [[held[worker % len(held)].dup()] for worker in range(workers)]
        return [[sock.dup() for sock in held[worker::workers]] for worker in range(workers)]

    def release(self, key: RouteKey) -> None:
        """Nobody listens there any more."""
        held = self._open.pop(key, None)
        if held is not None:
            _close(held.sockets)

    def drop_inherited(self) -> None:
        """All routes are known: what nobody asked for is not needed."""
        for sockets in self._inherited.values():
            _close(sockets)
        self._inherited.clear()

    def close(self) -> None:
        """Closes all that is kept here. Twice is fine."""
        self.drop_inherited()
        for key in list(self._open):
            self.release(key)

    def _bind(self, route: Route) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        address = route.listen
        try:
            for _ in range(self._workers):
                sockets.append(bind(address, route.protocol, backlog=self._backlog, shared=self._workers > 1))
                address = Target(*sockets[0].getsockname())
        except OSError:
            _close(sockets)
            raise
        return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
