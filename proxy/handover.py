"""A new proxy takes the listening sockets over from the old one, so that no client ever finds the door closed.

The old one listens on a Unix socket in the cluster's private directory. Who connects must be of the same user; both
sides look (SO_PEERCRED). The sockets themselves travel (SCM_RIGHTS): for the kernel they are the same ones, with the
connections that wait in them.

    successor: connect                      old: looks who it is
    old: addresses and sockets, in lots     successor: knows services and endpoints, and accepts from the same sockets
    successor: "serving"                    old: accepts no more
    old: "done"                             both: the old one's connections finish there

If the successor ends before it says "serving", nothing has happened: the old one has gone on all the while. Each
message has a limit, each wait a deadline.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.actor.tasks import Tasks
from proxy.policies import Target
from proxy.sockets import Held

_log = logging.getLogger("podium.proxy.handover")

_LOT = 200
"""Sockets per message; the kernel passes 253 at most."""
_MESSAGE_BYTES = 1 << 16
_STEP_S = 5.0
"""For each message that the other side owes."""
SERVING_S = 60.0
"""For the successor to know all services: it may have to wait for the master."""
_SERVING, _DONE, _END = b"serving", b"done", b"end"


class HandoverError(Exception):
    """Nobody handed anything over; the message says why."""


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the path that fits into a socket's address, which ends at 107 bytes."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _is_mine(connection: socket.socket) -> bool:
    """The process at the other end is of the same user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.geteuid())


class HandoverServer:
    """Waits for a successor. `sockets` tells what there is; `on_taken` is called when the successor serves."""

    def __init__(self, path: Path, sockets: Callable[[], Sequence[Held]], on_taken: Callable[[], None]) -> None:
        self._path = path
        self._sockets = sockets
        self._on_taken = on_taken
        self._tasks = Tasks("handover")
        self._listener: socket.socket | None = None
        self._inode = 0

    def start(self) -> None:
        """Listens from now on, in place of whoever did before. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with _short(self._path) as name:
                listener.bind(name)
        finally:
            os.umask(before)
        self._inode = self._path.stat().st_ino
        listener.listen(1)
        self._listener = listener
        self._tasks.spawn(self._serve(listener), name="successors")

    async def stop(self) -> None:
        """Nobody can take over any more. Twice is fine."""
        await self._tasks.cancel_all()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            try:
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            except FileNotFoundError:
                pass

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                if not _is_mine(connection):
                    _log.warning("another user asked for the listening sockets, and was refused")
                    continue
                try:
                    if await self._hand_over(loop, connection):
                        return
                except (OSError, TimeoutError) as error:
                    _log.warning("a successor did not take over: %r", error)

    async def _hand_over(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bool:
        entries = [(held, sock) for held in self._sockets() for sock in held.sockets]
        for first in range(0, len(entries), _LOT):
            lot = entries[first : first + _LOT]
            names = [(held.address.ip, held.address.port, held.protocol) for held, _ in lot]
            message = json.dumps(names).encode()
            async with asyncio.timeout(_STEP_S):
                await _writable(loop, connection)
                socket.send_fds(connection, [message], [sock.fileno() for _, sock in lot])
        async with asyncio.timeout(_STEP_S):
            await loop.sock_sendall(connection, _END)
        async with asyncio.timeout(SERVING_S):
            if await loop.sock_recv(connection, _MESSAGE_BYTES) != _SERVING:
                _log.warning("a successor went away before it served")
                return False
        self._on_taken()
        async with asyncio.timeout(_STEP_S):
            await loop.sock_sendall(connection, _DONE)
        return True


async def _writable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection)


class Takeover:
    """The successor's side: the sockets, and the word that it serves."""

    def __init__(self, connection: socket.socket, sockets: list[Held]) -> None:
        self._connection = connection
        self.sockets = sockets

    async def serving(self) -> None:
        """Says so; returns when the old proxy accepts no more. Raises HandoverError if it does not say that it does."""
        loop = asyncio.get_running_loop()
        self._connection.setblocking(False)
        try:
            async with asyncio.timeout(_STEP_S):
                await loop.sock_sendall(self._connection, _SERVING)
                answer = await loop.sock_recv(self._connection, _MESSAGE_BYTES)
        except (OSError, TimeoutError) as error:
            raise HandoverError(f"the old proxy does not answer: {error!r}") from error
        finally:
            self.close()
        if answer != _DONE:
            raise HandoverError("the old proxy ended before it was done")

    def close(self) -> None:
        """Without `serving` before: the old proxy goes on. Twice is fine."""
        self._connection.close()


def take_over(path: Path) -> Takeover:
    """Asks the proxy that listens at this path for its sockets. Raises HandoverError; blocks for some seconds at most.

    Nobody there is a HandoverError, too: then addresses are simply bound.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(_STEP_S)
    received: list[Held] = []
    try:
        with _short(path) as name:
            connection.connect(name)
        if not _is_mine(connection):
            raise HandoverError(f"{path} belongs to a process of another user")
        while True:
            message, fds, flags, _ = socket.recv_fds(connection, _MESSAGE_BYTES, _LOT)
            sockets = [socket.socket(fileno=fd) for fd in fds]
            for sock in sockets:
                sock.setblocking(False)  # Python does not know; a copy of it would make it block for everybody
            if message == _END:
                return Takeover(connection, received)
            names = json.loads(message) if message else []
            received += [
                Held(Target(ip, port), protocol, [sock])
                for (ip, port, protocol), sock in zip(names, sockets, strict=False)
            ]
            if not message or len(names) != len(sockets) or flags & socket.MSG_CTRUNC:
                raise HandoverError("the old proxy ended in the middle, or this process may not open so many files")
    except (OSError, ValueError, HandoverError) as error:
        connection.close()
        for held in received:
            for sock in held.sockets:
                sock.close()
        if isinstance(error, HandoverError):
            raise
        raise HandoverError(f"no proxy to take over from at {path}: {error}") from error
