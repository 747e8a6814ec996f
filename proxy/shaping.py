"""A stretch of a connection on which faults are carried out: between the proxy's relay and the endpoint.

While a fault is active, a new connection to its target is led through such a stretch: the relay gets one end of a pair
of sockets instead of the endpoint's socket, and here the bytes go on, later, slower, or not at all. So the data path
knows nothing of faults, and everything that it promises (half-close, resets, back-pressure) holds on both sides of the
stretch. When the fault is over, the stretch stays for as long as its connection does, and holds nothing up any more.

Of each direction no more than 256 KiB are under way; then its source has to wait, as with a long cable.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable

from cluster.actor.clock import Clock
from proxy.faults import NO_EFFECT, Effect
from proxy.poller import BROKEN, DUPLEX, ENDED, READ, WRITE, Poller
from proxy.relay import reset

MAX_HELD_BYTES = 1 << 18
_READ_BYTES = 1 << 16
_ROUNDS = 16


def connected_pair() -> tuple[socket.SocketType, socket.socket]:
    """Two ends of a TCP connection of this process: only those can be reset. Raises OSError."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        one = socket.create_connection(listener.getsockname(), timeout=5)
        while True:
            two, address = listener.accept()
            if address == one.getsockname():
                break
            two.close()  # somebody else was faster
    for sock in (one, two):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, two


class _Lane:
    """One direction."""

    __slots__ = ("due", "ended", "free_at", "held", "held_bytes", "hungry", "said_end", "sink", "source", "timer")

    def __init__(self, source: socket.SocketType, sink: socket.SocketType) -> None:
        self.source = source
        self.sink = sink
        self.held: deque[tuple[float, bytes]] = deque()
        """What is under way, and when it arrives; nothing: the end of the stream."""
        self.held_bytes = 0
        self.due = 0.0
        """When the last of it arrives: nothing overtakes it."""
        self.free_at = 0.0
        """When the line has room for more, at its bandwidth."""
        self.hungry = True
        self.ended = self.said_end = False
        self.timer: asyncio.TimerHandle | None = None


class Stretch:
    """Between `near`, which the relay has the other end of, and `far`, the endpoint. Ends by itself."""

    def __init__(
        self,
        poller: Poller,
        clock: Clock,
        near: socket.SocketType,
        far: socket.SocketType,
        effect: Effect,
        rng: random.Random,
        on_end: Callable[[Stretch], None],
    ) -> None:
        self._poller = poller
        self._clock = clock
        self._near = near
        self._far = far
        self._effect = effect
        self._rng = rng
        self._on_end = on_end
        self._up = _Lane(near, far)
        self._down = _Lane(far, near)
        self._over = False
        self._queued = False

    def start(self) -> None:
        """Watches both ends from now on."""
        self._poller.watch(self._near, DUPLEX, lambda events: self._event(events, self._up, self._down))
        self._poller.watch(self._far, DUPLEX, lambda events: self._event(events, self._down, self._up))

    def change(self, effect: Effect) -> None:
        """From now on, this happens. What is under way arrives at once if nothing delays it any more."""
        self._effect = effect
        if effect.is_nothing:
            for lane in (self._up, self._down):
                lane.held = deque((0.0, data) for _, data in lane.held)
                lane.due = lane.free_at = 0.0
        self._go_on()

    def abort(self) -> None:
        """Resets both ends."""
        for sock in (self._near, self._far):
            reset(sock)
        self._finish()

    def _event(self, events: int, from_it: _Lane, to_it: _Lane) -> None:
        if self._over:
            return
        if events & BROKEN:
            self.abort()
            return
        if events & (READ | ENDED):
            from_it.hungry = True
        if events & WRITE:
            self._deliver(to_it)
        self._pass(from_it)

    def _go_on(self) -> None:
        self._queued = False
        for lane in (self._up, self._down):
            if not self._over:
                self._deliver(lane)
            self._pass(lane)

    def _pass(self, lane: _Lane) -> None:
        """Takes in what there is, as far as the line has room."""
        for _ in range(_ROUNDS):
            if self._over or self._effect.is_half_open or lane.ended or not lane.hungry:
                return
            if lane.held_bytes >= MAX_HELD_BYTES:
                return
            rate = self._effect.bandwidth
            try:
                data = lane.source.recv(min(_READ_BYTES, max(1, rate // 20)) if rate else _READ_BYTES)
            except BlockingIOError:
                lane.hungry = False
                return
            except OSError:
                self.abort()
                return
            if data and lane is self._down and self._effect.breaks:
                self.abort()
                return
            lane.ended = not data
            now = self._clock.monotonic()
            if rate:
                lane.free_at = max(lane.free_at, now) + len(data) / rate
            late_s = self._effect.delay_s + self._effect.jitter_s * self._rng.random()
            lane.due = max(lane.due, max(now, lane.free_at) + late_s)
            lane.held.append((lane.due if self._effect != NO_EFFECT else 0.0, data))
            lane.held_bytes += len(data)
            self._deliver(lane)
        if not self._queued:
            self._queued = True
            self._poller.again(self._go_on)

    def _deliver(self, lane: _Lane) -> None:
        """Hands over what has arrived."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        had_room = lane.held_bytes < MAX_HELD_BYTES
        while lane.held and not self._over and not self._effect.is_half_open:
            due, data = lane.held[0]
            wait_s = due - self._clock.monotonic()
            if wait_s > 0:
                lane.timer = self._poller.call_later(wait_s, lambda: self._arrived(lane))
                break
            try:
                if data:
                    sent = lane.sink.send(data)
                    lane.held_bytes -= sent
                    if sent < len(data):
                        lane.held[0] = (due, data[sent:])
                        return
                else:
                    lane.said_end = True
                    lane.sink.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                return
            except OSError:
                self.abort()
                return
            lane.held.popleft()
        if self._up.said_end and self._down.said_end:
            self._finish()
        elif not had_room and not self._queued and not self._over:
            self._queued = True
            self._poller.again(self._go_on)

    def _arrived(self, lane: _Lane) -> None:
        lane.timer = None
        if not self._over:
            self._deliver(lane)
            self._pass(lane)

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        for lane in (self._up, self._down):
            if lane.timer is not None:
                lane.timer.cancel()
            lane.held.clear()
        self._poller.retire(self._near)
        self._poller.retire(self._far)
        self._on_end(self)
