"""The sockets of a client and of its backends: reads in turns, sends at once, keeps to the bounds.

Who may be read depends on who is slow (`bounds`), on what the session wants to hear (`Channel.enabled`), and on
`holds`: while there is a reason in it, nobody is read at all, and what is said waits in the kernel.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

from proxy.ambassadors.account import Account
from proxy.ambassadors.backends import Backends
from proxy.ambassadors.bounds import check_waiting, is_left_behind, takes_more
from proxy.ambassadors.channel import Channel
from proxy.ambassadors.guard import Fault
from proxy.poller import ENDED, READ, WRITE

_ROUNDS: Final = 16
"""Reads of one side per turn; then the others have theirs."""


class Ear(Protocol):
    """Whoever wants to know what is said. It may change everything here while it is told, and end it all."""

    def heard(self, channel: Channel, data: bytes) -> None:
        """This was said; b"": the end of the stream."""
        ...

    def broke_off(self, channel: Channel) -> None:
        """The connection was reset."""
        ...


class Traffic:
    """Of one client."""

    __slots__ = ("_account", "_ear", "backends", "client", "holds", "is_farewell")

    def __init__(self, client: socket.SocketType, backends: Backends, account: Account, ear: Ear) -> None:
        self.client = Channel("client", client)
        self.backends = backends
        self.holds: set[str] = set()
        """Reasons for which nobody is read."""
        self.is_farewell = False
        """What the client says now is thrown away."""
        self._account = account
        self._ear = ear

    def send(self, channel: Channel, data: bytes) -> None:
        """Sends it, after what waits. A mirror that is too slow is dropped. Raises Fault: that may not be sent."""
        if not isinstance(data, bytes):
            raise Fault(f"was asked to send {type(data).__name__}, which are no bytes")
        self._sent(channel, channel.send(data))
        if not channel.mirror:
            check_waiting(channel)
        elif is_left_behind(channel):
            self.backends.drop(channel.name)

    def flush(self, channel: Channel) -> None:
        """Sends what waits, as far as it is taken."""
        self._sent(channel, channel.flush())

    def end(self, channel: Channel) -> None:
        """Ends the stream to it, once all was sent."""
        channel.ending = True
        self.flush(channel)

    def event(self, channel: Channel, events: int) -> None:
        """What the poller says of its socket: sends at once; to be read later."""
        if events & WRITE:
            self.flush(channel)
        if events & (READ | ENDED):
            channel.hungry = True

    def read(self) -> bool:
        """Reads from all who may be read, in turn, until nobody may. True: it is others' turn before. Raises Fault."""
        for _ in range(_ROUNDS):
            idle = True
            for channel in (self.client, *self.backends):
                if self._may_read(channel):
                    idle = False
                    self._read(channel)
            if idle:
                return False
        return True

    def close(self) -> None:
        """Nothing is read or sent any more. Once."""
        del self._account, self._ear  # no circle of references: garbage collection has nothing to look for

    def _may_read(self, channel: Channel) -> bool:
        if channel.sock is None or channel.ended or not channel.hungry:
            return False
        if channel is self.client and self.is_farewell:
            return True
        if not channel.enabled or self.holds:
            return False
        if channel is self.client:
            return all(map(takes_more, self.backends))
        return channel.mirror or takes_more(self.client)

    def _read(self, channel: Channel) -> None:
        try:
            data = channel.receive()
        except OSError:
            self._ear.broke_off(channel)
            return
        if data is not None and not (channel is self.client and self.is_farewell):
            self._ear.heard(channel, data)

    def _sent(self, channel: Channel, count: int) -> None:
        if channel is self.client:
            self._account.sent_down(count)
        else:
            self._account.sent_up(count, channel.seat)
