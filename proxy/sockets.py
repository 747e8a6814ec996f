"""Makes the sockets that the proxy listens with, and says in words why one cannot be had."""

from __future__ import annotations

import errno
import socket

from proxy.datapath import tune
from proxy.policies import Target
from proxy.routing import UDP

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
