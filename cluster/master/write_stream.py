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
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.frames import Answer, write_answers
from cluster.rpc.outcome import to_status

OUTSTANDING = 1500
"""Calls of one stream under way; of the 2,000 that the writer takes, some are left for everybody else."""
MESSAGE_BYTES = 1024 * 1024
"""About how much goes into one message of answers."""

Begin = Callable[[wire.WriteRequest], "asyncio.Future[bytes]"]
"""Takes a write in; the future gets the encoded WriteResponse, or an ApiError. May raise one, too. Cancelling the
future gives the write up, if its turn has not come."""


async def serve(begin: Begin, messages: AsyncIterator[wire.WriteCalls]) -> AsyncGenerator[bytes, None]:
    """Encoded WriteAnswers, until the caller has said its last and all is answered."""
    stream = _Stream(begin)
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


class _Stream:
    """What is under way."""

    def __init__(self, begin: Begin) -> None:
        self.ready: list[Answer] = []
        self.news = asyncio.Event()
        self.under_way: dict[asyncio.Future[bytes], int] = {}
        self._begin = begin
        self._room = asyncio.Event()

    async def read(self, messages: AsyncIterator[wire.WriteCalls]) -> None:
        """Takes in what comes, while there is room."""
        async for message in messages:
            for call in message.calls:
                while len(self.under_way) + len(self.ready) >= OUTSTANDING:
                    self._room.clear()
                    await self._room.wait()
                self._take_in(call.id, call.request)

    def _take_in(self, number: int, request: wire.WriteRequest) -> None:
        try:
            answer = self._begin(request)
        except ApiError as error:
            self._answer(_failed(number, error))
            return
        self.under_way[answer] = number
        answer.add_done_callback(self._done)

    def _done(self, answer: asyncio.Future[bytes]) -> None:
        number = self.under_way.pop(answer, None)
        if number is None:
            return  # given up
        if answer.cancelled():
            self._answer(_failed(number, Internal("the write was given up")))
            return
        error = answer.exception()
        if error is None:
            self._answer(Answer(number, answer.result(), None))
        else:
            known = error if isinstance(error, ApiError) else Internal(f"the write failed: {type(error).__name__}")
            self._answer(_failed(number, known))

    def _answer(self, answer: Answer) -> None:
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
        under_way, self.under_way = self.under_way, {}
        for answer in under_way:
            answer.cancel()


def _failed(number: int, error: ApiError) -> Answer:
    return Answer(number, None, to_status(error).SerializeToString())
