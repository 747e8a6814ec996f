"""Messages between the proxy and its workers, over a pair of Unix sockets that nobody else has.

A message is a Python object, pickled: both ends are the same program of the same version, started by one another, and
nothing that was not made by the other end can get in between. Sockets travel beside it (SCM_RIGHTS).

    4 bytes length, 1 byte number of sockets, the object; the sockets come with the first byte

Sending never waits: what the other side does not take yet is kept, up to a limit; beyond that the other side is stuck
and is given up.
"""

from __future__ import annotations

import array
import asyncio
import logging
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_log = logging.getLogger("podium.proxy.wire")

_HEAD = struct.Struct("!IB")
MAX_BYTES = 64 << 20
"""Of what waits to be sent, and of a message."""
MAX_SOCKETS = 200
_READ_BYTES = 1 << 18


class Wire:
    """One end. All calls are made in the event loop it was made in."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Any, list[socket.socket]], None],
        on_end: Callable[[], None],
    ) -> None:
        """`on_end` is called once, when the other side is gone or is given up."""
        self._sock = sock
        self._sock.setblocking(False)
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._out: deque[tuple[memoryview, list[socket.socket]]] = deque()
        self._out_bytes = 0
        self._in = bytearray()
        self._fds: deque[int] = deque()
        self._is_open = True
        self._loop.add_reader(sock, self._read)

    def send(self, message: object, sockets: Sequence[socket.socket] = ()) -> None:
        """Sends it, sooner or later; the sockets are closed here when they have left."""
        if not self._is_open:
            for sock in sockets:
                sock.close()
            return
        body = pickle.dumps(message)
        data = memoryview(_HEAD.pack(len(body), len(sockets)) + body)
        self._out_bytes += len(data)
        if self._out_bytes > MAX_BYTES:
            _log.error("the other side takes no messages any more; it is given up")
            for sock in sockets:
                sock.close()
            self._end()
            return
        self._out.append((data, list(sockets)))
        if len(self._out) == 1:
            self._write()

    def close(self) -> None:
        """No more messages. Twice is fine; `on_end` is not called."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, sockets in self._out:
            for sock in sockets:
                sock.close()
        for fd in self._fds:
            socket.close(fd)
        self._out.clear()
        self._fds.clear()

    def _end(self) -> None:
        if self._is_open:
            self.close()
            self._on_end()

    def _write(self) -> None:
        while self._out:
            data, sockets = self._out[0]
            try:
                if sockets:
                    sent = socket.send_fds(self._sock, [data], [sock.fileno() for sock in sockets])
                    for sock in sockets:
                        sock.close()
                else:
                    sent = self._sock.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:
                self._end()
                return
            self._out_bytes -= sent
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        size = array.array("i").itemsize
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, socket.CMSG_SPACE(MAX_SOCKETS * size))
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % size])
                self._fds.extend(fds)
        if not data:
            self._end()
            return
        self._in += data
        while self._is_open and len(self._in) >= _HEAD.size:
            length, count = _HEAD.unpack_from(self._in)
            if len(self._in) < _HEAD.size + length or len(self._fds) < count:
                return
            message = pickle.loads(self._in[_HEAD.size : _HEAD.size + length])
            del self._in[: _HEAD.size + length]
            sockets = [socket.socket(fileno=self._fds.popleft()) for _ in range(count)]
            self._on_message(message, sockets)
