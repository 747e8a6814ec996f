"""The server's end of a stream of requests: read by one task, kept in a bounded queue, and heard out to the end.

gRPC leaves three traps here, and this file is where they are kept:

    a read that is cancelled stays pending inside, and the next read fails      only the reader task reads
    a server that answers while its client still writes makes that client's     after its last word the server reads on
    write fail, and the failure replaces the answer (grpc #36066)               (and throws away) until the client stops
    the same for a refusal: "no such pod" would become an internal error        a client sends its second request only
                                                                                when the first was accepted

A handler that need not wait for each request takes them by `hand_over`: the reader calls it, and a turn of the event
loop and a queue are saved; that is a tenth of what a small message costs.

"Accepted" is when the handler asks for more, or answers: then initial metadata with a mark in it are sent, for which
our client waits. (Metadata without the mark come with a refusal, too.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from cluster.actor.tasks import Tasks

_log = logging.getLogger("podium.rpc")

M = TypeVar("M", bound=Message)

ACCEPTED = ("podium-accepted", "1")
"""The mark."""
QUEUE_LIMIT = 8
"""Requests that were read and wait for the handler; when it is full, the client is held back by HTTP/2's window."""
HEAR_OUT_S = 1.0
"""How long a client may go on writing after the answer."""
HEAR_OUT_STOPPING_S = 0.05
"""The same, when the server stops: a client that would write for ever does not hold it up."""


async def hand_over(requests: AsyncIterator[M], take: Callable[[M], Awaitable[None] | None]) -> None:
    """`RequestStream.hand_over`, or the same for any other iterator."""
    if isinstance(requests, RequestStream):
        await requests.hand_over(take)
        return
    async for request in requests:
        if (busy := take(request)) is not None:
            await busy


class RequestStream(Generic[M]):
    """What a caller sends, as an async iterator for one handler."""

    def __init__(self, requests: AsyncIterator[M], context: Any, tasks: Tasks, name: str) -> None:
        self._requests = requests
        self._context = context
        self._queue: asyncio.Queue[M | None] = asyncio.Queue(QUEUE_LIMIT)
        self._asked = 0
        self._ended = False
        self._deaf = False
        self._first = asyncio.Event()
        self._putting = False
        """The reader waits for room in the queue."""
        self._take: Callable[[M], Awaitable[None] | None] | None = None
        self._tasks = tasks
        self._accepting = asyncio.Lock()
        self._metadata_sent = False
        self._accepted = False
        """The metadata have been sent, not only begun: gRPC takes no answer while they are under way."""
        self._reader = tasks.spawn(self._read(), name=f"{name} requests")

    def __aiter__(self) -> AsyncIterator[M]:
        return self

    async def __anext__(self) -> M:
        if self._ended:
            raise StopAsyncIteration
        self._asked += 1
        if self._asked == 2:
            await self._accept()
        request = await self._queue.get()
        if request is None:
            self._ended = True
            raise StopAsyncIteration
        return request

    async def hand_over(self, take: Callable[[M], Awaitable[None] | None]) -> None:
        """Gives every request to `take` as it comes; what that returns is awaited before the next is read. Returns when
        there are no more. Instead of iterating, and once."""
        await self._accept()
        while self._putting or not self._queue.empty():  # what has come before
            request = await self._queue.get()
            if request is None:
                return
            if (busy := take(request)) is not None:
                await busy
        self._take = take
        await self._queue.get()  # nothing comes this way any more, except the end

    async def write(self, message: object) -> None:
        """Sends an answer, after the acceptance."""
        if not self._accepted:
            await self._accept()
        await self._context.write(message)

    async def hear_out(self, limit_s: float) -> None:
        """Reads on until the caller stops writing, for at most `limit_s`; the rest is not looked at.

        A caller that was not accepted waits after its first request, so only that is waited for.
        """
        self._deaf = True
        while not self._queue.empty():
            self._queue.get_nowait()
        if not self._metadata_sent and self._first.is_set():
            return
        first = self._tasks.spawn(self._first.wait(), name="first request")
        await asyncio.wait({self._reader if self._metadata_sent else first}, timeout=limit_s)
        first.cancel()

    async def close(self) -> None:
        """Ends the reader."""
        self._reader.cancel()
        await asyncio.wait({self._reader})

    async def _accept(self) -> None:
        async with self._accepting:
            if not self._metadata_sent:
                self._metadata_sent = True
                await self._context.send_initial_metadata((ACCEPTED,))
                self._accepted = True

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                self._first.set()
                if self._deaf:
                    continue
                if self._take is None:
                    self._putting = True
                    await self._queue.put(request)
                    self._putting = False
                elif (busy := self._take(request)) is not None:
                    await busy
        except Exception as error:
            # The call has ended under the reader; the handler is being cancelled, too.
            _log.debug("the requests broke off: %s", error)
        self._first.set()
        if not self._deaf:
            await self._queue.put(None)
