"""The backends of one client by their names: wanted, being connected, connected, gone.

    open ---> dialled ---> connected ---> dropped (ended, closed, broke off), or taken by a relay
      |         ^  |
      |         |  nobody answers
      |         |  v
      +-----> waits for other endpoints ---> given up, after `hold_s` since the first time

What is to be sent to one that is not there yet waits in its channel. Whom a name may stand for is the policy's word;
the tries are a `Dialer`'s. A mirror does not wait: if it cannot be had at once, it is given up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from proxy.ambassadors.channel import Channel
from proxy.ambassadors.dialer import Dialer
from proxy.ambassadors.guard import Fault
from proxy.ambassadors.policy import Endpoint
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.policies import Target
from proxy.poller import DUPLEX

MAX_BACKENDS: Final = 16


class Owner(Protocol):
    """The connection that has them."""

    def candidates(self, name: str) -> Sequence[Endpoint]:
        """Who may be this backend now, best first. Raises Fault."""
        ...

    def backend_connected(self, channel: Channel, endpoint: Endpoint) -> None:
        """It is there; what was to be sent to it waits still."""
        ...

    def backend_given_up(self, channel: Channel, reason: str) -> None:
        """It cannot be had: "no-endpoint" or "dial". Its name is free."""
        ...

    def backend_event(self, channel: Channel, events: int) -> None:
        """The poller's call for its socket."""
        ...


class _Opening:
    """A backend that is being connected."""

    __slots__ = ("deadline", "dialer", "timer", "was_dialled")

    def __init__(self) -> None:
        self.dialer: Dialer | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.deadline: float | None = None
        self.was_dialled = False

    def cancel(self) -> None:
        if self.dialer is not None:
            self.dialer.cancel()
            self.dialer = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Backends:
    """Of one connection. Calls of its owner may come from within `open` and `dial_again`."""

    __slots__ = ("_channels", "_frontend", "_opening", "_owner", "_path")

    def __init__(self, path: DataPath, frontend: Frontend, owner: Owner) -> None:
        self._path = path
        self._frontend = frontend
        self._owner = owner
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, _Opening] = {}

    def __iter__(self) -> Iterator[Channel]:
        """Those that there are, connected or not."""
        return iter(self._channels.values())

    def get(self, name: str) -> Channel | None:
        """None: it has failed meanwhile, and the session is about to hear of it, or it was never there."""
        return self._channels.get(name)

    def open(self, name: str, *, mirror: bool) -> None:
        """Connects one of that name. Raises Fault: that may not be."""
        if name in self._channels:
            raise Fault(f"was asked to open {name!r}, which is there already")
        if len(self._channels) >= MAX_BACKENDS:
            raise Fault(f"more than {MAX_BACKENDS} backends of one connection")
        self._channels[name] = Channel(name, mirror=mirror)
        self._opening[name] = _Opening()
        self._dial(name)

    def dial_again(self) -> None:
        """Other endpoints: perhaps there is somebody now for who waits. Raises Fault."""
        for name in [name for name, opening in self._opening.items() if opening.dialer is None]:
            if name in self._opening:
                self._opening[name].cancel()
                self._dial(name)

    def drop(self, name: str) -> None:
        """It is gone, whatever it was. Twice is fine."""
        channel = self._channels.pop(name, None)
        if (opening := self._opening.pop(name, None)) is not None:
            opening.cancel()
        if channel is not None and channel.sock is not None:
            self._path.poller.retire(channel.sock)
            channel.sock = None
            if channel.seat is not None:
                channel.seat.active -= 1

    def drop_all(self) -> None:
        """None is left."""
        for name in list(self._channels):
            self.drop(name)

    def close(self) -> None:
        """None is left, and none will come. Once."""
        self.drop_all()
        del self._owner  # no circle of references: garbage collection has nothing to look for

    def release(self, name: str) -> None:
        """Its socket is somebody else's now, with its place at the endpoint."""
        del self._channels[name]

    # --- How one is connected

    def _dial(self, name: str) -> None:
        found = self._owner.candidates(name)
        opening = self._opening[name]
        if found:
            opening.was_dialled = True
            opening.dialer = Dialer(
                self._path,
                self._frontend.stats,
                self._within_reach(found),
                self._frontend.dial_timeouts_s,
                lambda sock, endpoint, watched: self._connected(name, sock, endpoint, watched),
                lambda: self._not_connected(name),
            )
            opening.dialer.start()
        else:
            self._not_connected(name)

    def _within_reach(self, candidates: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those that no fault has cut off."""
        faults, service = self._path.faults, self._frontend.route.key.service
        if not faults.active:
            return candidates
        return [each for each in candidates if not faults.cuts(service, Target(*each.address))]

    def _connected(self, name: str, sock: socket.SocketType, endpoint: Endpoint, watched: bool) -> None:
        channel, poller, owner = self._channels[name], self._path.poller, self._owner
        del self._opening[name]
        faults = self._path.faults
        if faults.active:
            if watched:
                poller.unwatch(sock)
                watched = False
            sock = faults.detour(self._frontend.route.key.service, Target(*endpoint.address), sock)
        channel.sock = sock
        seat = channel.seat = self._frontend.stats.endpoint(Target(*endpoint.address))
        seat.connections += 1
        seat.active += 1
        if watched:
            poller.handle(sock, lambda events: owner.backend_event(channel, events))
        else:
            poller.watch(sock, DUPLEX, lambda events: owner.backend_event(channel, events))
        owner.backend_connected(channel, endpoint)

    def _not_connected(self, name: str) -> None:
        """Nobody there, or nobody answers: waits for other endpoints, as long as connections are held."""
        opening = self._opening[name]
        opening.cancel()
        now = self._path.clock.monotonic()
        if opening.deadline is None:
            opening.deadline = now + self._path.settings.hold_s
            self._frontend.stats.held += 1
        if self._channels[name].mirror or opening.deadline <= now:
            self._give_up(name)
        else:
            opening.timer = self._path.poller.call_later(opening.deadline - now, lambda: self._give_up(name))

    def _give_up(self, name: str) -> None:
        opening, channel = self._opening[name], self._channels[name]
        reason = "dial" if opening.was_dialled else "no-endpoint"
        if reason == "dial":
            self._frontend.stats.gave_up_dial += 1
        else:
            self._frontend.stats.gave_up_no_endpoint += 1
        self.drop(name)
        self._owner.backend_given_up(channel, reason)
