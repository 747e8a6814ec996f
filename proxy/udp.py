"""Services of UDP: each client's datagrams go to one endpoint for as long as the two talk, and answers come back.

There is no connection to be seen, so a flow is a client's address and port, with a socket of its own towards the
endpoint, and it is over when nothing has come from either side for a while (250 ms, as in Kubernetes' userspace proxy,
unless the service says otherwise). A flow ends at once when its endpoint is gone, as Kubernetes forgets such flows,
and when the endpoint refuses: the next datagram goes to another.

    datagram -> flow of its sender, or a new one -> endpoint
    answer   -> the listening socket, so that it comes from the address that was asked

Bounded: flows count as connections, and there are at most so many per port; one more takes the place of the one that
was silent longest. A datagram for which there is no endpoint, or that the kernel has no room for, is dropped: that is
what UDP promises.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import OrderedDict

from cluster.api.hollow import is_address
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.listener import PortSocket
from proxy.policies import Target
from proxy.poller import READ
from proxy.stats import EndpointStats

_BATCH = 64
"""Datagrams per turn and socket; then the others have theirs."""
_LARGEST = 1 << 16
_buffer = bytearray(_LARGEST)
_view = memoryview(_buffer)
"""Shared by all flows of the process: nothing stays in it between two calls."""
_TRIES = 3
"""Endpoints that a datagram is offered to, if they refuse."""

Address = tuple[str, int]


class _Flow:
    """A client and its endpoint."""

    __slots__ = ("_listener", "began_at", "client", "endpoint", "last_at", "sock", "target")

    def __init__(
        self, listener: UdpListener, client: Address, target: Target, sock: socket.SocketType, now: float
    ) -> None:
        self._listener = listener
        self.client = client
        self.target = target
        self.sock = sock
        self.endpoint: EndpointStats = listener.frontend.stats.endpoint(target)
        self.began_at = self.last_at = now

    def readable(self, _events: int) -> None:
        """The poller's call: the endpoint answers, or refuses."""
        self._listener.answer(self)

    def abort(self) -> None:
        """Ends it now."""
        self._listener.end(self)


class UdpListener(PortSocket):
    """The socket of one service port, and its flows."""

    def __init__(self, path: DataPath, frontend: Frontend) -> None:
        super().__init__(path, frontend, self._receive)
        self._flows: OrderedDict[Address, _Flow] = OrderedDict()
        """The one that was silent longest is first."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Flows now."""
        return len(self._flows)

    def close(self) -> None:
        """Listens no more, and ends all flows: there is nobody to answer for them. Twice is fine."""
        for flow in list(self._flows.values()):
            self.end(flow)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().close()

    def changed(self) -> None:
        """The endpoints are others than before: flows to those that are gone end."""
        route = self.frontend.route
        present = {*route.targets, *route.terminating}
        for flow in [flow for flow in self._flows.values() if flow.target not in present]:
            self.end(flow)

    # --- From clients

    def _receive(self, _events: int) -> None:
        now = self._path.clock.monotonic()
        for _ in range(_BATCH):
            if self._socket is None:
                return
            try:
                count, client = self._socket.recvfrom_into(_buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer that could not be delivered: its client is gone
            self._forward(client, count, now)

    def _forward(self, client: Address, count: int, now: float) -> None:
        avoid: set[Target] = set()
        for _ in range(_TRIES):
            flow = self._flows.get(client) or self._begin(client, now, avoid)
            if flow is None:
                return
            try:
                flow.sock.send(_view[:count])
            except BlockingIOError:
                return  # no room: dropped
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return
                avoid.add(flow.target)
                self._refused(flow, now)
                continue
            flow.endpoint.up.bytes += count
            self._touch(flow, now)
            return

    def _begin(self, client: Address, now: float, avoid: set[Target]) -> _Flow | None:
        stats, path = self.frontend.stats, self._path
        target = self.frontend.balancer.choose(client[0], now, avoid)
        while target is not None and is_address(target.ip):  # a pod that is only played
            self.frontend.failed(target)
            avoid.add(target)
            target = self.frontend.balancer.choose(client[0], now, avoid)
        if target is None:
            stats.gave_up_no_endpoint += 1
            return None
        if len(self._flows) >= path.settings.udp_flows or (path.is_full() and self._flows):
            self.end(next(iter(self._flows.values())))
        if path.is_full():
            stats.refused_limit += 1
            return None
        try:
            sock = socket.SocketType(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            stats.refused_limit += 1
            return None
        try:
            sock.connect(target)
        except OSError:
            sock.close()
            self.frontend.failed(target)
            return None
        flow = self._flows[client] = _Flow(self, client, target, sock, now)
        stats.accepted += 1
        stats.active += 1
        flow.endpoint.connections += 1
        flow.endpoint.active += 1
        path.joined(flow)
        path.poller.watch(sock, READ, flow.readable)
        if self._timer is None:
            self._timer = path.poller.call_later(self.frontend.route.timeouts.udp_idle_s, self._expire)
        return flow

    # --- From endpoints

    def answer(self, flow: _Flow) -> None:
        """Passes on what the endpoint of the flow has said."""
        now = self._path.clock.monotonic()
        for _ in range(_BATCH):
            if self._socket is None or self._flows.get(flow.client) is not flow:
                return
            try:
                count = flow.sock.recv_into(_buffer)
            except BlockingIOError:
                return
            except OSError:
                self._refused(flow, now)
                return
            if flow.endpoint.down.bytes == 0 or flow.last_at == flow.began_at:
                flow.endpoint.first_byte.observe(now - flow.began_at)
            self._touch(flow, now)
            self.frontend.balancer.connected(flow.target)
            try:
                self._socket.sendto(_view[:count], flow.client)
            except OSError:
                continue  # no room, or the client is gone: dropped
            flow.endpoint.down.bytes += count

    def _refused(self, flow: _Flow, now: float) -> None:
        self.frontend.failed(flow.target)
        self.frontend.balancer.failed(flow.client[0], flow.target, now)
        self.end(flow)

    # --- The end

    def _touch(self, flow: _Flow, now: float) -> None:
        flow.last_at = now
        self._flows.move_to_end(flow.client)

    def _expire(self) -> None:
        self._timer = None
        now, idle_s = self._path.clock.monotonic(), self.frontend.route.timeouts.udp_idle_s
        while self._flows:
            flow = next(iter(self._flows.values()))
            left_s = flow.last_at + idle_s - now
            if left_s > 0:
                self._timer = self._path.poller.call_later(left_s, self._expire)
                return
            self.end(flow)

    def end(self, flow: _Flow) -> None:
        """The flow is over. Twice is fine."""
        if self._flows.get(flow.client) is not flow:
            return
        del self._flows[flow.client]
        self._path.poller.retire(flow.sock)
        flow.endpoint.active -= 1
        self.frontend.stats.active -= 1
        self.frontend.stats.duration.observe(flow.last_at - flow.began_at)
        self._path.left(flow)
