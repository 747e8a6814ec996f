"""What all connections of a proxy share: poller, pipes, limits, and the list of who is there.

It also is where the proxy's life ends: `drain` lets connections finish for a while, `close` resets the rest.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from cluster.actor.clock import Clock
from proxy.fault_injector import Disturbed, FaultInjector
from proxy.limits import PIPES, connections_allowed
from proxy.pipes import PipePool
from proxy.poller import Poller
from proxy.settings import DataPathSettings
from proxy.stats import Stats

_KEEPALIVE_IDLE_S = 60
_KEEPALIVE_INTERVAL_S = 10
_KEEPALIVE_PROBES = 6
_USER_TIMEOUT_MS = 300_000
"""For data that a peer does not take, and for probes that it does not answer, whose number counts no more. The kernel's
own 15 minutes hold what vanished for too long; much less would cut off whoever was paused for a while with data on its
way, which is no failure here."""


def tune(sock: socket.SocketType) -> None:
    """No delay for small writes, and what `keep_alive` does.

    On a listening socket, it holds for every connection accepted from it.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(sock)


def keep_alive(sock: socket.SocketType) -> None:
    """A probe every now and then for peers that vanished, and a limit for those that take nothing.

    Five system calls: not for connections that end after an exchange.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


class Member(Protocol):
    """A connection, as seen from here."""

    def abort(self) -> None:
        """Ends it now, with a reset; it says `left` at once."""
        ...


class DataPath:
    """Made inside the event loop that all its connections run in."""

    def __init__(self, settings: DataPathSettings, clock: Clock, stats: Stats, *, file_limit: int) -> None:
        self.settings = settings
        self.clock = clock
        self.stats = stats
        self.poller = Poller()
        self.pipes = PipePool(PIPES)
        self._file_limit = file_limit
        self._members: dict[Member, None] = {}
        """In the order of their coming."""
        self._empty: asyncio.Event | None = None
        """While somebody waits for the last connection's end."""
        self.faults = FaultInjector(self.poller, clock, self._disturbed)
        """What goes wrong on purpose; asked only while something does."""
        self.access_log: Callable[[Member], None] | None = None
        self.add_listeners(0)

    def __len__(self) -> int:
        """Connections now."""
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members))

    def add_listeners(self, count: int) -> None:
        """So many descriptors more (or less) are taken by listeners."""
        self.stats.listeners += count
        allowed = connections_allowed(self._file_limit, self.stats.listeners)
        self.stats.connections_limit = min(self.settings.max_connections or allowed, allowed)

    def oldest(self, count: int) -> Iterator[Member]:
        """So many of those that have been here longest."""
        return iter(tuple(islice(self._members, count)))

    def is_full(self) -> bool:
        """One more connection is too many."""
        return len(self._members) >= self.stats.connections_limit

    def joined(self, member: Member) -> None:
        """A connection begins."""
        self._members[member] = None

    def left(self, member: Member) -> None:
        """A connection is over."""
        self._members.pop(member, None)
        if self._empty is not None and not self._members:
            self._empty.set()

    def _disturbed(self) -> list[Disturbed]:
        """Those with whom something may go wrong."""
        return [member for member in self._members if isinstance(member, Disturbed)]

    def log_access(self, member: Member) -> None:
        """A connection of a service that wants a line for each is over."""
        if self.access_log is not None:
            self.access_log(member)

    async def drain(self, grace_s: float) -> None:
        """Returns when the last connection is over, or after the grace period."""
        if not self._members:
            return
        self._empty = asyncio.Event()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Resets what is left and ends all watching. Twice is fine."""
        for member in list(self._members):
            member.abort()
        self.faults.close()
        self.pipes.close()
        self.poller.close()
