"""Carries bytes between a client and an endpoint, exactly as two ends of one TCP connection would see them.

A relay is two flows, one per direction. A flow receives into one buffer that the whole process shares, sends at once,
and keeps what the other side did not take; while it keeps something it receives nothing, so a slow reader slows down
its writer and nobody's memory grows. A flow that fills the buffer several times in a row moves on to splice(2), where
the bytes stay in the kernel (see pipes.py); an idle connection owns no buffer at all.

    a side ...                      the other side sees
    ends its stream (FIN)           the end, after all that was said before it; it may go on talking (half-close)
    ends after the other ended      both sockets are closed
    breaks off (RST)                a reset, not an orderly end
    vanishes                        a reset, once keepalive has noticed

An end that is there together with the last bytes (a server that answers and closes) goes on with them, in one packet.
One that comes by itself is passed on some turns late: most exchanges end on both sides at the same moment, and then
closing says all there is to say, with two system calls and two packets less.

Events are edge-triggered, so after an event a flow must go on until the kernel has nothing more: a receive that did not
fill the buffer says so, except at the end of the stream (ENDED), which shows in the next receive.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from proxy.pipes import Pipe, PipePool
from proxy.poller import BROKEN, DUPLEX, ENDED, FIN, READ, URGENT, WRITE, Poller
from proxy.stats import EndpointStats, Meter, PortStats

BUFFER_BYTES = 1 << 16
_ROUNDS = 16
"""Buffers that one flow may move per turn; then the others have theirs."""
_BULK_AFTER = 4
"""Full buffers in a row that make a flow a bulk flow."""
_SPLICE_BYTES = 1 << 20
_SPLICE_FLAGS = 0x01 | 0x02  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_buffer = bytearray(BUFFER_BYTES)
_view = memoryview(_buffer)
"""Shared by all flows of the process: nothing stays in it between two calls of `_Flow.move`."""


def reset(sock: socket.SocketType) -> None:
    """Makes the coming close a reset (RST), so that the peer does not take it for an orderly end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass  # broken already


class _Flow:
    """One direction: what `source` says is sent to `sink`."""

    __slots__ = (
        "armed",
        "blocked",
        "corked",
        "ended",
        "full_reads",
        "in_pipe_bytes",
        "kept",
        "meter",
        "moved_bytes",
        "on_first",
        "passed_end",
        "pipe",
        "queued",
        "sink",
        "source",
    )

    def __init__(
        self,
        source: socket.SocketType,
        sink: socket.SocketType,
        meter: Meter,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.source = source
        self.sink = sink
        self.meter = meter
        self.on_first = on_first
        """Called once, when the source has said something."""
        self.kept: bytes | memoryview = b""
        """What the sink did not take yet; never more than one buffer."""
        self.pipe: Pipe | None = None
        self.in_pipe_bytes = 0
        self.blocked = False
        """The sink takes nothing: wait for WRITE."""
        self.armed = False
        """WRITE is reported: from the first time that it is waited for."""
        self.corked = False
        """The last bytes are held back in the kernel, to go with the end."""
        self.ended = False
        """The source said its last word, and all of it was sent."""
        self.passed_end = False
        """The sink knows, or will in the next turn."""
        self.queued = False
        """Stopped to be fair; goes on in the next turn."""
        self.full_reads = 0
        self.moved_bytes = 0

    def move(self, pipes: PipePool, *, to_the_end: bool, after_fin: bool = False) -> bool:
        """Moves what there is. True if it stopped to be fair and must go on soon. Raises OSError: it is broken.

        `after_fin`: the end of the stream is in the kernel, and nothing urgent in between, so what does not fill the
        buffer is the rest, and the end needs no receive of its own.
        """
        try:
            if self.kept:
                self._send(self.kept)
                if self.blocked:
                    return False
            for _ in range(_ROUNDS):
                if self.pipe is not None:
                    if not self._splice(self.pipe, pipes):
                        return False
                elif self.ended:
                    return False
                else:
                    count = self.source.recv_into(_buffer)
                    if count == 0:
                        self.ended = True
                        return False
                    if after_fin and count < BUFFER_BYTES:
                        self._send(_view[:count], socket.MSG_MORE)
                        self.corked = self.ended = not self.blocked
                        return False
                    self._send(_view[:count])
                    if self.blocked:
                        return False
                    if count == BUFFER_BYTES:
                        self.full_reads += 1
                        if self.full_reads > _BULK_AFTER:
                            self.pipe = pipes.take()
                    else:
                        self.full_reads = 0
                        if not to_the_end:
                            return False
        except BlockingIOError:
            return False
        return True

    def drop(self, pipes: PipePool) -> None:
        """Forgets what was kept and gives the pipe back."""
        self.kept = b""
        if self.pipe is not None:
            pipes.give_back(self.pipe, empty=self.in_pipe_bytes == 0)
            self.pipe = None

    def _send(self, data: bytes | memoryview, flags: int = 0) -> None:
        try:
            sent = self.sink.send(data, flags)
        except BlockingIOError:
            sent = 0
        self.moved_bytes += sent
        self.meter.bytes += sent
        if self.on_first is not None:
            self.on_first()
            self.on_first = None
        self.blocked = sent < len(data)
        self.kept = bytes(data[sent:]) if self.blocked else b""

    def _splice(self, pipe: Pipe, pipes: PipePool) -> bool:
        """One round through the pipe. False: nothing more to do for now."""
        if self.in_pipe_bytes == 0:
            try:
                count = os.splice(self.source.fileno(), pipe.write_fd, _SPLICE_BYTES, flags=_SPLICE_FLAGS)
            except BlockingIOError:
                # The bulk is over for now; others may need the pipe.
                self.drop(pipes)
                self.full_reads = 0
                return False
            if count == 0:
                self.drop(pipes)
                self.ended = True
                return False
            self.in_pipe_bytes = count
        try:
            sent = os.splice(pipe.read_fd, self.sink.fileno(), self.in_pipe_bytes, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            self.blocked = True
            return False
        self.blocked = False
        self.moved_bytes += sent
        self.meter.bytes += sent
        self.in_pipe_bytes -= sent
        return True


class Relay:
    """A client and its endpoint, connected. Ends by itself; `on_end` is called once, whatever ends it."""

    __slots__ = (
        "_backend",
        "_client",
        "_down",
        "_on_end",
        "_over",
        "_pipes",
        "_poller",
        "_stats",
        "_up",
        "is_broken",
        "is_frozen",
    )

    def __init__(
        self,
        poller: Poller,
        pipes: PipePool,
        stats: PortStats | EndpointStats,
        client: socket.SocketType,
        backend: socket.SocketType,
        on_end: Callable[[], None],
        on_first: Callable[[], None] | None = None,
    ) -> None:
        """`on_first` is called when the endpoint has said something for the first time."""
        self._poller = poller
        self._pipes = pipes
        self._stats = stats
        self._client = client
        self._backend = backend
        self._up = _Flow(client, backend, stats.up)
        self._down = _Flow(backend, client, stats.down, on_first)
        self._on_end = on_end
        self._over = False
        self.is_frozen = False
        self.is_broken = False
        """It ended by a reset, not in order."""

    @property
    def sockets(self) -> tuple[socket.SocketType, socket.SocketType]:
        """The client's and the endpoint's."""
        return self._client, self._backend

    @property
    def bytes_up(self) -> int:
        """Of the client, that the endpoint's socket has taken."""
        return self._up.moved_bytes

    @property
    def bytes_down(self) -> int:
        """Of the endpoint, that the client's socket has taken."""
        return self._down.moved_bytes

    def client_event(self, events: int) -> None:
        """The poller's call for the client's socket."""
        self._event(events, self._up, self._down)

    def backend_event(self, events: int) -> None:
        """The poller's call for the endpoint's socket."""
        self._event(events, self._down, self._up)

    def freeze(self, frozen: bool) -> None:
        """Nothing passes, and nobody is told, until it goes on: what is said meanwhile waits in the kernel."""
        if self._over or frozen == self.is_frozen:
            return
        self.is_frozen = frozen
        for sock, handler in ((self._client, self.client_event), (self._backend, self.backend_event)):
            self._poller.unwatch(sock)
            if not frozen:
                self._poller.watch(sock, DUPLEX, handler)  # says at once what there is to say

    def abort(self) -> None:
        """Ends it now; both sides see a reset."""
        reset(self._client)
        reset(self._backend)
        self._finish()

    def _event(self, events: int, from_it: _Flow, to_it: _Flow) -> None:
        if events & BROKEN and (from_it.blocked or from_it.ended):
            # No receive will show it. What it said last cannot be delivered, and a reset gives no such promise.
            self._break()
            return
        if events & WRITE and to_it.blocked:
            self._move(to_it, to_the_end=True)
        if events & (READ | ENDED) and not (from_it.blocked or from_it.queued):
            after_fin = events & (FIN | BROKEN | URGENT) == FIN
            self._move(from_it, to_the_end=events & ENDED != 0, after_fin=after_fin)

    def _move(self, flow: _Flow, *, to_the_end: bool, after_fin: bool = False) -> None:
        if self._over:
            return
        try:
            more = flow.move(self._pipes, to_the_end=to_the_end, after_fin=after_fin)
        except OSError:
            self._break()
            return
        if flow.blocked and not flow.armed:
            flow.armed = True
            self._poller.rewatch(flow.sink, DUPLEX)
        if flow.ended and not flow.passed_end:
            flow.passed_end = True
            if self._up.ended and self._down.ended:
                self._finish()  # closing says it, too
            elif flow.corked:
                self._pass_end(flow)
            else:
                self._poller.late(lambda: self._pass_end(flow))
        if more:
            flow.queued = True
            self._poller.again(lambda: self._go_on(flow))

    def _pass_end(self, flow: _Flow) -> None:
        if self._over:
            return
        try:
            flow.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._break()

    def _go_on(self, flow: _Flow) -> None:
        flow.queued = False
        if not self.is_frozen:
            self._move(flow, to_the_end=True)

    def _break(self) -> None:
        if not self._over:
            self.is_broken = True
            self._stats.broke()
            self.abort()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._up.drop(self._pipes)
        self._down.drop(self._pipes)
        self._poller.retire(self._client)
        self._poller.retire(self._backend)
        self._on_end()
