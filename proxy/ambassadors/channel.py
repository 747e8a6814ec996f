"""One socket of a connection with an ambassador: what is still to be sent, and whether it may be read.

Sends at once what the kernel takes and keeps the rest. Events are edge-triggered: an edge that comes while nobody may
read is remembered in `hungry`, and the reading is made up for later.
"""

from __future__ import annotations

import socket
from collections import deque

from proxy.stats import EndpointStats

READ_BYTES = 1 << 16


class Channel:
    """A client or a backend. Without a socket (not connected yet) it only keeps what is to be sent."""

    __slots__ = (
        "broken",
        "enabled",
        "ended",
        "ending",
        "hungry",
        "mirror",
        "name",
        "out",
        "out_bytes",
        "seat",
        "sent_end",
        "sock",
    )

    def __init__(self, name: str, sock: socket.SocketType | None = None, *, mirror: bool = False) -> None:
        self.name = name
        self.sock: socket.SocketType | None = sock
        self.mirror = mirror
        self.seat: EndpointStats | None = None
        """The counters of the endpoint that it is connected to."""
        self.out: deque[bytes | memoryview] = deque()
        self.out_bytes = 0
        self.enabled = True
        """The session wants to hear of it."""
        self.hungry = True
        """There may be something to read."""
        self.ended = False
        """It said its last word."""
        self.ending = False
        """It is to be told the end once everything was sent."""
        self.sent_end = False
        self.broken = False
        """It takes nothing more. What it said before that may still be read."""

    def send(self, data: bytes) -> int:
        """Sends it after what is waiting; how much went out now. Never raises: see `broken`."""
        if self.broken or not data:
            return 0
        self.out.append(data)
        self.out_bytes += len(data)
        return self.flush() if len(self.out) == 1 else 0

    def flush(self) -> int:
        """Sends what is waiting, as far as it is taken, and the end if it is its turn; how much went out."""
        if self.sock is None or self.broken:
            return 0
        sent = 0
        try:
            while self.out:
                count = self.sock.send(self.out[0])
                sent += count
                self.out_bytes -= count
                if count < len(self.out[0]):
                    self.out[0] = memoryview(self.out[0])[count:]
                else:
                    self.out.popleft()
            if self.ending and not self.sent_end:
                self.sent_end = True
                self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.broken = self.hungry = True
            self.out.clear()
            self.out_bytes = 0
        return sent

    def receive(self) -> bytes | None:
        """What it said; b"" for the end; None: nothing now. Raises OSError: it broke off."""
        assert self.sock is not None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            self.hungry = False
            return None
        if not data:
            self.ended = True
            self.hungry = False
        return data
