"""TLS to a pod, on a connection that is no socket: `https:NAME:PORT` of a proxied request.

Nobody knows a pod's certificate, so none is checked, as in Kubernetes: what comes from the pod's port is the pod's.
"""

from __future__ import annotations

import ssl
from typing import Protocol

from cluster.api.errors import Unavailable

_READ = 64 * 1024


class Line(Protocol):
    """A connection."""

    async def send(self, piece: bytes | None) -> None:
        """None: no more will come."""
        ...

    async def receive(self) -> bytes:
        """What comes next; empty at the end."""
        ...


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsLine:
    """A connection with TLS on top."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._incoming, self._outgoing)

    async def open(self) -> None:
        """Returns when both sides have agreed. Raises Unavailable if they do not."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                piece = await self._line.receive()
                if not piece:
                    raise Unavailable("error trying to reach service: EOF") from None
                self._incoming.write(piece)
            except ssl.SSLError as error:
                raise Unavailable(f"error trying to reach service: tls: {error.reason or error}") from error
            else:
                await self._flush()
                return

    async def send(self, piece: bytes | None) -> None:
        if piece is not None:
            self._tls.write(piece)
            await self._flush()
        else:
            await self._line.send(None)

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                await self._flush()
                if piece := await self._line.receive():
                    self._incoming.write(piece)
                else:
                    return b""
            except ssl.SSLError:
                return b""

    async def _flush(self) -> None:
        if piece := self._outgoing.read():
            await self._line.send(piece)
