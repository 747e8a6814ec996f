"""Many writes over one stream: what the callers of a process write at the same moment travels together.

    stream = WriteStream(stub)
    response = await stream.write(request, timeout_s)        # from as many tasks as there are

A call over gRPC costs a client and a server more than most writes do, so calls are not made one by one: while a message
is on its way, what is written gathers, and is the next message. Nobody waits for company: a lone caller's write goes
out at once, and costs half of a unary call. Answers come in any order, many to a message, each when its write is
durable.

Each write has a deadline of its own and is answered exactly once:

    answered                   the response, or the error that the master gave this call alone (Overloaded ...)
    deadline passed            DeadlineExceeded; it may have been written
    caller cancelled           not written if it had not been sent; otherwise it may have been
    stream broken or refused   every outstanding call gets what ended the stream; the next write opens another

At most OUTSTANDING calls are under way; more wait here, each within its deadline. Nothing is repeated here.
"""

from __future__ import annotations

import asyncio
import copy

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, DeadlineExceeded, Internal, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.frames import read_answers, write_calls
from cluster.rpc.outcome import from_status
from cluster.rpc.stub import ClusterStub

OUTSTANDING = 1500
"""Calls under way in one stream. A master takes 2,000 from all its clients together and refuses more."""
MESSAGE_BYTES = 512 * 1024
"""About how much goes into one message, far below what a server takes."""
LONE_BYTES = 1024 * 1024
"""A larger request is sent by a unary call: it would hold up everybody behind it."""


class WriteStream:
    """See the head of this file. Use from one event loop; nothing is opened before the first write."""

    def __init__(self, stub: ClusterStub, outstanding: int = OUTSTANDING) -> None:
        """`outstanding`: how many calls may be under way."""
        self._stub = stub
        self._connection: _Connection | None = None
        self._outstanding = outstanding
        self._room = asyncio.Semaphore(outstanding)
        self._tasks = Tasks("write stream")
        self._closed = False

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse:
        """What the call Write would return, or raise; see the head of this file."""
        data = request.SerializeToString()
        if len(data) > LONE_BYTES:
            return await self._stub.write(request, timeout_s)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        # A timer and a future, for asyncio.timeout costs several times as much.
        expiry = loop.call_later(timeout_s, _expire, answer, timeout_s)
        try:
            if self._room.locked():
                await self._wait_for_room(expiry.when())
            else:
                await self._room.acquire()
            try:
                if self._closed:
                    raise Unavailable("the client is closed")
                connection = self._connection
                if connection is None or connection.ended:
                    connection = self._connection = _Connection(self._stub, self._tasks)
                number = connection.begin(data, answer)
                try:
                    return wire.WriteResponse.FromString(await answer)
                finally:
                    connection.forget(number)
            finally:
                self._room.release()
        finally:
            expiry.cancel()

    async def _wait_for_room(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._room.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._outstanding} writes of this client are under way, and there was no room for one more in time"
            ) from None

    async def close(self) -> None:
        """Ends the stream; outstanding calls get Unavailable. Twice is fine; afterwards every write raises it."""
        self._closed = True
        if self._connection is not None:
            self._connection.end(Unavailable("the client was closed during the call"))
        await self._tasks.cancel_all()


class _Connection:
    """One stream, from its first call to its end."""

    def __init__(self, stub: ClusterStub, tasks: Tasks) -> None:
        self.ended = False
        """No more calls can be made on it."""
        self._number = 0
        self._unsent: dict[int, bytes] = {}
        self._outstanding: dict[int, asyncio.Future[bytes]] = {}
        self._news = asyncio.Event()
        self._line = stub.write_stream(self._answered)
        tasks.spawn(self.run(), name="connection")

    def begin(self, request: bytes, answer: asyncio.Future[bytes]) -> int:
        """Sends a request as soon as possible; its number."""
        self._number += 1
        self._unsent[self._number] = request
        self._outstanding[self._number] = answer
        self._news.set()
        return self._number

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more. If it was not sent, it will not be."""
        self._unsent.pop(number, None)
        self._outstanding.pop(number, None)

    def end(self, error: ApiError) -> None:
        """Nothing more comes or goes: every outstanding call gets this error, one of its own."""
        self.ended = True
        self._unsent.clear()
        outstanding, self._outstanding = self._outstanding, {}
        for answer in outstanding.values():
            if not answer.done():
                answer.set_exception(copy.copy(error))

    async def run(self) -> None:
        """Carries calls and answers until the stream ends."""
        tasks = Tasks("write stream")
        error: ApiError = Unavailable("the client was closed during the call")
        try:
            tasks.spawn(self._send(), name="sender")
            error = await self._line.ended()
        finally:
            self.end(error)
            await self._line.close()
            await tasks.cancel_all()

    async def _send(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._unsent:
                try:
                    await self._line.send(write_calls(self._take()))
                except Unavailable:
                    return  # the call has ended, and `run` hears why

    def _take(self) -> list[tuple[int, bytes]]:
        """The oldest that were not sent, as many as make a message."""
        calls = list(self._unsent.items())
        size_bytes = 0
        for count, (_, request) in enumerate(calls):
            size_bytes += len(request)
            if size_bytes > MESSAGE_BYTES and count:
                calls = calls[:count]
                for number, _ in calls:
                    del self._unsent[number]
                return calls
        self._unsent.clear()
        return calls

    def _answered(self, message: bytes) -> None:
        outstanding = self._outstanding
        for number, response, status in read_answers(message):
            answer = outstanding.pop(number, None)
            if answer is None or answer.done():
                continue  # it came too late
            if response is not None:
                answer.set_result(response)
                continue
            error = from_status(wire.Status.FromString(status or b""))
            answer.set_exception(error or Internal("a write was answered with an error that says nothing"))


def _expire(answer: asyncio.Future[bytes], timeout_s: float) -> None:
    if not answer.done():
        answer.set_exception(DeadlineExceeded(f"a write was not answered within {timeout_s:g} s"))
