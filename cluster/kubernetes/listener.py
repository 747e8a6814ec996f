"""The socket that Kubernetes' API is served at, and TLS on it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

_KEEPALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 30),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)
"""Of connections; accepted ones have what the listening one has. A watcher that was cut off is gone after a minute."""


def tls_context(directory: Path) -> ssl.SSLContext:
    """For a server with that certificate, whose clients may show one of the same authority. HTTP/1.1 only: upgrades and
    watches need it. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def listener(host: str, port: int) -> socket.socket:
    """A bound socket, whose connections notice when the other end has vanished without a word. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, value in _KEEPALIVE:
            listener.setsockopt(*option, value)
        listener.bind((host.strip("[]"), port))
    except OSError:
        listener.close()
        raise
    return listener
