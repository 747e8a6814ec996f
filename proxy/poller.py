"""An epoll set of the data path's own, hung into asyncio's loop.

Why not asyncio's transports: measured on two cores beside HAProxy 2.6 in TCP mode with one thread, a relay of asyncio
protocols moves 0.75 of its requests on kept-alive connections, but opens only 0.3 as many new connections; sockets in
an epoll set of their own reach about 0.85 of both, and 1.4 times its bulk throughput (2 times with splice). The
difference is that each socket is registered once, edge-triggered, so that a short exchange costs a receive and a send
and no further system call, no handle and no task.

asyncio sees one descriptor, the epoll set itself, and calls `_ready` when anything in it is; gRPC and the timers in the
same loop get their turn after every batch.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("podium.proxy.poller")

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""The peer said its last word, or the connection is broken: read until that shows."""
BROKEN = select.EPOLLERR
FIN = select.EPOLLRDHUP
URGENT = select.EPOLLPRI
INPUT = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered: for connections, most of which can always be written to, and need not hear so."""
DUPLEX = INPUT | select.EPOLLOUT
"""The same in both directions: for connections that are being made, and from the first time that one was full."""

_BATCH = 256
"""Events per turn; more wait for the next turn, after the rest of the loop had its own."""
_ROUNDS = 8
"""So often in a row is looked for more before the rest of the loop has its turn: what was sent is mostly answered by
then, and the way through the loop costs more than the work itself."""
_LATE_TURNS = 4
"""How many turns what may be late is late: some 50 microseconds, and with much to do less than a millisecond."""


class Poller:
    """Calls a handler when its socket is ready. All calls are made in the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._graveyard: list[socket.SocketType] = []
        self._in_batch = False
        self._again: list[Callable[[], None]] = []
        self._late: deque[list[Callable[[], None]]] = deque([[] for _ in range(_LATE_TURNS)])
        """One list for each turn to come; the last is where new ones go."""
        self._late_count = 0
        self._is_called = False
        """Its turn comes without an event."""
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def __len__(self) -> int:
        return len(self._handlers)

    def watch(self, sock: socket.SocketType, events: int, handler: Callable[[int], None]) -> None:
        """Calls `handler(events)` from now on. An event is a hint: the socket may have nothing for the handler."""
        fd = sock.fileno()
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def handle(self, sock: socket.SocketType, handler: Callable[[int], None]) -> None:
        """Another handler for a socket that is watched. Edges that were reported to the old one are not repeated."""
        self._handlers[sock.fileno()] = handler

    def rewatch(self, sock: socket.SocketType, events: int) -> None:
        """Other events for a socket that is watched. What is ready now is reported, once more if need be."""
        self._epoll.modify(sock.fileno(), events)

    def unwatch(self, sock: socket.SocketType) -> None:
        """No more calls for this socket, which stays open."""
        if self._handlers.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def retire(self, sock: socket.SocketType) -> None:
        """No more calls for this socket, and close it; within a batch, at its end.

        Otherwise the number of its descriptor could be given to a new connection while an event of the old one is
        still to be handled. Twice is fine.
        """
        if self._handlers.pop(sock.fileno(), None) is None or not self._in_batch:
            sock.close()
        else:
            self._graveyard.append(sock)

    def again(self, callback: Callable[[], None]) -> None:
        """Calls back in the next turn of the loop: for who has more to do than is fair in one turn."""
        if not self._again:
            self._loop.call_soon(self._run_again)
        self._again.append(callback)

    def late(self, callback: Callable[[], None]) -> None:
        """Calls back some turns later, which follow each other without a pause: for what may turn out needless."""
        self._late_count += 1
        self._soon()
        self._late[-1].append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back after that time, unless cancelled."""
        return self._loop.call_later(delay_s, callback)

    def close(self) -> None:
        """Ends all watching. The sockets are their owners' to retire first. Twice is fine."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._handlers.clear()
        self._again.clear()
        self._late_count = 0

    def _soon(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._called)

    def _called(self) -> None:
        self._is_called = False
        self._ready()

    def _ready(self) -> None:
        for _ in range(_ROUNDS):
            if self._epoll.closed or not self._turn():
                break

    def _turn(self) -> bool:
        """Handles what there is. False: nothing was."""
        self._in_batch = True
        handlers = self._handlers
        late = self._late_count
        events = self._epoll.poll(0, _BATCH)
        for fd, happened in events:
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(happened)
                except Exception:  # a fault in the handling of one connection shall not take the others down
                    _log.exception("a connection's handler failed")
        if late:
            self._run_late()
        self._end_batch()
        return bool(events)

    def _run_late(self) -> None:
        callbacks = self._late.popleft()
        self._late.append([])
        self._late_count -= len(callbacks)
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a connection's handler failed")
        if self._late_count:
            self._soon()

    def _run_again(self) -> None:
        callbacks, self._again = self._again, []
        self._in_batch = True
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a connection's handler failed")
        self._end_batch()

    def _end_batch(self) -> None:
        self._in_batch = False
        for sock in self._graveyard:
            sock.close()
        self._graveyard.clear()
