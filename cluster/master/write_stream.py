"""The server's end of WriteStream: hands every call of a message to the writer at once, and sends answers as they come.

    message of calls      begin(a) begin(b) begin(c)          each takes its place among all writes that wait
    a and c are durable   one message with the answers of both
    b is refused          its error is its answer; the stream and the others go on

One stream has at most OUTSTANDING calls under way or answered but not taken: then it is not read until some have gone,
so that a client with a thousand callers, or one that does not read, is held back by HTTP/2's window and leaves room for
the others, instead of being refused and filling the queue for all. When the stream breaks, calls whose turn has not
come are given up, as if a caller had gone away.

Knows neither who may write nor what a write is: `begin` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.frames import Answer, write_answers
from cluster.rpc.outcome import to_status
from cluster.rpc.requests import hand_over

_log = logging.getLogger("podium.master")

OUTSTANDING = 1500
"""Calls of one stream under way; of the 2,000 that the writer takes, some are left for everybody else."""
MESSAGE_BYTES = 1024 * 1024
"""About how much goes into one message of answers."""

Begin = Callable[[wire.WriteRequest, "Call"], None]
"""Takes a write in; the call gets the encoded WriteResponse, or an ApiError, or one is raised at once. When the call is
done before its turn has come, nobody waits for it any more, and it is given up."""


async def serve(
    begin: Begin, messages: AsyncIterator[wire.WriteCalls], complete: Callable[[ApiError], None] = lambda error: None
) -> AsyncGenerator[bytes, None]:
    """Encoded WriteAnswers, until the caller has said its last and all is answered. `complete` adds to errors, before
    they are encoded, what the server's gate adds to the error of a call."""
    stream = _Stream(begin, complete)
    tasks = Tasks("write stream")
    reader = tasks.spawn(stream.read(messages), name="calls")
    reader.add_done_callback(lambda _: stream.news.set())
    try:
        while True:
            stream.news.clear()
            if stream.ready:
                yield stream.take()
                continue
            if reader.done() and not stream.under_way:
                reader.result()
                return
            await stream.news.wait()
    finally:
        stream.give_up()
        await tasks.cancel_all()


class Call:
    """One call under way: what the writer knows of who waits. It does what a future would do, and costs less."""

    __slots__ = ("_done", "_number", "_stream")

    def __init__(self, stream: _Stream, number: int) -> None:
        self._stream = stream
        self._number = number
        self._done = False

    def done(self) -> bool:
        """It is answered, or nobody waits any more."""
        return self._done

    def set_result(self, response: bytes) -> None:
        """It is answered."""
        self._done = True
        self._stream.answer(self, Answer(self._number, response, None))

    def set_exception(self, error: Exception) -> None:
        """It has failed."""
        self._done = True
        known = error if isinstance(error, ApiError) else Internal(f"the write failed: {type(error).__name__}")
        self._stream.complete(known)
        self._stream.answer(self, Answer(self._number, None, to_status(known).SerializeToString()))

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._done = True


class _Stream:
    """What is under way."""

    def __init__(self, begin: Begin, complete: Callable[[ApiError], None]) -> None:
        self.ready: list[Answer] = []
        self.news = asyncio.Event()
        self.under_way: set[Call] = set()
        self.complete = complete
        self._begin = begin
        self._room = asyncio.Event()

    async def read(self, messages: AsyncIterator[wire.WriteCalls]) -> None:
        """Takes in what comes, while there is room."""
        await hand_over(messages, self._take)

    def _take(self, message: wire.WriteCalls) -> Awaitable[None] | None:
        """Takes the calls of a message in, if there is room; else waits for room, call by call."""
        calls = message.calls
        if len(self.under_way) + len(self.ready) + len(calls) > OUTSTANDING:
            return self._take_slowly(message)
        for call in calls:
            self._take_in(call)
        return None

    async def _take_slowly(self, message: wire.WriteCalls) -> None:
        for call in message.calls:
            while len(self.under_way) + len(self.ready) >= OUTSTANDING:
                self._room.clear()
                await self._room.wait()
            self._take_in(call)

    def _take_in(self, call: wire.WriteCall) -> None:
        mine = Call(self, call.id)
        self.under_way.add(mine)
        try:
            self._begin(call.request, mine)
        except Exception as error:
            mine.set_exception(error)
            if not isinstance(error, ApiError):
                _log.error("a bug in the master: a write could not begin", exc_info=error)

    def answer(self, call: Call, answer: Answer) -> None:
        """A call is answered."""
        self.under_way.discard(call)
        self.ready.append(answer)
        self.news.set()

    def take(self) -> bytes:
        """The answers that are ready, as many as make a message."""
        ready = self.ready
        size_bytes = count = 0
        while count < len(ready) and size_bytes < MESSAGE_BYTES:
            size_bytes += len(ready[count].response or ready[count].error or b"")
            count += 1
        message = write_answers(ready[:count])
        del ready[:count]
        self._room.set()
        return message

    def give_up(self) -> None:
        """Nobody listens any more."""
        for call in self.under_way:
            call.give_up()
        self.under_way.clear()
