"""Connects a backend of a session: to the first of the candidates that answers.

The tries are those of `proxy.dialing`: who refuses costs no time, who does not answer costs a growing time-out, and
then it is the next one's turn. Whom to try, and in which order, is the policy's word.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

from cluster.api.hollow import is_address
from proxy.ambassadors.policy import Endpoint
from proxy.datapath import DataPath, tune
from proxy.poller import DUPLEX, ENDED, WRITE
from proxy.stats import PortStats


class Dialer:
    """The tries of one backend. Exactly one of its callbacks is called, once, unless it is cancelled before."""

    __slots__ = (
        "_candidates",
        "_endpoint",
        "_on_connected",
        "_on_failed",
        "_path",
        "_sock",
        "_stats",
        "_timeouts_s",
        "_timer",
        "_tries",
    )

    def __init__(
        self,
        path: DataPath,
        stats: PortStats,
        candidates: Sequence[Endpoint],
        timeouts_s: Sequence[float],
        on_connected: Callable[[socket.SocketType, Endpoint, bool], None],
        on_failed: Callable[[], None],
    ) -> None:
        """`on_connected` gets the socket, and whether the poller watches it already."""
        self._path = path
        self._stats = stats
        self._candidates = list(candidates)
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._sock: socket.SocketType | None = None
        self._endpoint: Endpoint | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timeouts_s = timeouts_s
        self._tries = 0

    def start(self) -> None:
        """Begins; a callback may come at once."""
        while self._candidates and self._tries < len(self._timeouts_s):
            endpoint = self._candidates.pop(0)
            if not is_address(endpoint.ip):  # of a pod that is only played: nobody is there
                try:
                    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
                except OSError:
                    break  # out of descriptors
                tune(sock)
                error = sock.connect_ex(endpoint.address)
                if error == errno.EINPROGRESS:
                    error = sock.connect_ex(endpoint.address)  # on one machine the answer is there already
                if error == 0:
                    self._on_connected(sock, endpoint, False)
                    return
                if error == errno.EALREADY:
                    self._sock, self._endpoint = sock, endpoint
                    self._path.poller.watch(sock, DUPLEX, self._event)
                    timeout_s = self._timeouts_s[self._tries]
                    self._timer = self._path.poller.call_later(timeout_s, self._timed_out)
                    return
                sock.close()
            self._stats.dial_failures += 1
        self._on_failed()

    def cancel(self) -> None:
        """No further try, and no callback. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            self._path.poller.retire(self._sock)
            self._sock = None

    def _event(self, events: int) -> None:
        if self._sock is None or self._endpoint is None or not events & (WRITE | ENDED):
            return
        sock, endpoint = self._sock, self._endpoint
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._sock = None
            self.cancel()
            self._on_connected(sock, endpoint, True)
        else:
            self._next()

    def _timed_out(self) -> None:
        self._timer = None
        self._tries += 1
        self._next()

    def _next(self) -> None:
        self.cancel()
        self._stats.dial_failures += 1
        self.start()
