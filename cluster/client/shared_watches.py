"""Many watches over one stream: for a process that watches for thousands, and would pay for a stream of each.

    watches = SharedWatches(stub, clock, on_break)
    end = watches.begin(request, hear=on_batch, ended=on_end)        # as many as there are
    end()

What there is to say of all of them at the same moment arrives in one message. Each watch is told by calls, in the order
in which the server speaks of it, and ends once:

    ended by the server        `ended` gets its error; the others go on
    `end()` was called         nothing more is heard of it
    the stream broke           `ended` of every watch gets what has ended the stream; the next begin opens another
    15 s without a word        the same: the server sends a bookmark for each watch every 5 to 10 s

`hear` and `ended` must not wait nor raise. A process that is too slow for what it watches is slow for all of it, and
the server ends all its watches together.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.frames import read_watch_answers
from cluster.rpc.outcome import from_status
from cluster.rpc.stub import ClusterStub

MESSAGE_CALLS = 1000
"""So many watches are begun or ended in one message: far below what a server takes."""
SILENCE_S = 15.0
_LOOK_S = 1.0

Hear = Callable[[wire.WatchBatch], None]
Ended = Callable[[ApiError], None]


class SharedWatches:
    """See the head of this file. Use from one event loop; nothing is opened before the first watch."""

    def __init__(self, stub: ClusterStub, clock: Clock, on_break: Callable[[ApiError], None]) -> None:
        """`on_break` is told why a stream has ended, before its watches are."""
        self._stub = stub
        self._clock = clock
        self._on_break = on_break
        self._connection: _Connection | None = None
        self._tasks = Tasks("watches")
        self._closed = False

    def begin(self, request: wire.WatchRequest, *, hear: Hear, ended: Ended) -> Callable[[], None]:
        """Begins a watch, and returns what ends it. Raises Unavailable if the client is closed."""
        if self._closed:
            raise Unavailable("the client is closed")
        connection = self._connection
        if connection is None or connection.ended:
            connection = self._connection = _Connection(self._stub, self._clock, self._tasks, self._on_break)
        number = connection.begin(request, hear, ended)
        return lambda: connection.end_watch(number)

    async def close(self) -> None:
        """Ends the stream; every watch gets Unavailable. Twice is fine; afterwards every `begin` raises it."""
        self._closed = True
        if self._connection is not None:
            self._connection.end(Unavailable("the client was closed during the watch"))
        await self._tasks.cancel_all()


class _Connection:
    """One stream, from its first watch to its end."""

    def __init__(self, stub: ClusterStub, clock: Clock, tasks: Tasks, on_break: Callable[[ApiError], None]) -> None:
        self.ended = False
        """No more watches can be begun on it."""
        self._clock = clock
        self._on_break = on_break
        self._number = 0
        self._watches: dict[int, tuple[Hear, Ended]] = {}
        self._unsent: dict[int, wire.WatchCall] = {}  # by number: at most a begin or an end of each
        self._news = asyncio.Event()
        self._heard_at_s = clock.monotonic()
        self._line = stub.watch_stream(self._answered)
        tasks.spawn(self.run(), name="connection")

    def begin(self, request: wire.WatchRequest, hear: Hear, ended: Ended) -> int:
        """Sends a request as soon as possible; its number."""
        self._number += 1
        if not self._watches:
            self._heard_at_s = self._clock.monotonic()
        self._watches[self._number] = (hear, ended)
        self._unsent[self._number] = wire.WatchCall(id=self._number, begin=request)
        self._news.set()
        return self._number

    def end_watch(self, number: int) -> None:
        """Nobody listens to it any more."""
        if self._watches.pop(number, None) is None or self.ended:
            return
        if self._unsent.pop(number, None) is None:
            self._unsent[number] = wire.WatchCall(id=number, end=True)
            self._news.set()

    def end(self, error: ApiError) -> None:
        """Nothing more comes or goes: every watch gets this error, one of its own."""
        self.ended = True
        self._unsent.clear()
        watches, self._watches = self._watches, {}
        for _, ended in watches.values():
            ended(copy.copy(error))

    async def run(self) -> None:
        """Carries calls and answers until the stream ends."""
        tasks = Tasks("watch stream")
        error: ApiError = Unavailable("the client was closed during the watch")
        try:
            tasks.spawn(self._send(), name="sender")
            ending = tasks.spawn(self._line.ended(), name="end")
            silence = tasks.spawn(self._listen(), name="silence")
            done, _ = await asyncio.wait({ending, silence}, return_when=asyncio.FIRST_COMPLETED)
            error = done.pop().result()
            self._on_break(error)
        finally:
            self.end(error)
            await self._line.close()
            await tasks.cancel_all()

    async def _listen(self) -> ApiError:
        """Returns when nothing was heard for too long."""
        while True:
            await self._clock.sleep(_LOOK_S)
            if self._watches and self._clock.monotonic() - self._heard_at_s > SILENCE_S:
                return Unavailable(f"Cluster.WatchStream: heard nothing for {SILENCE_S:g} s")

    async def _send(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._unsent:
                numbers = list(self._unsent)[:MESSAGE_CALLS]
                message = wire.WatchCalls(calls=[self._unsent.pop(number) for number in numbers])
                try:
                    await self._line.send(message.SerializeToString())
                except Unavailable:
                    return  # the call has ended, and `run` hears why

    def _answered(self, message: bytes) -> None:
        self._heard_at_s = self._clock.monotonic()
        for number, batch, status in read_watch_answers(message):
            if status is not None:
                watch = self._watches.pop(number, None)
                if watch is not None:
                    error = from_status(wire.Status.FromString(status))
                    watch[1](error or Internal("a watch was ended with an error that says nothing"))
                continue
            watch = self._watches.get(number)
            if watch is not None:  # else it was ended here meanwhile
                watch[0](wire.WatchBatch.FromString(batch or b""))
