"""The client's end of a stream of messages: one reader task, one bounded queue.

`wait_for(call.read(), t)` would cancel the whole call when the time is up, so nobody but the reader task reads. When
the queue is full (a consumer that is slower than the server) the reader stops reading; the window of HTTP/2 fills up
behind it, and the server waits: nothing grows and nothing is lost.

How long silence may last is watched by one timer, which is looked at when it has run out; one for each message would
cost as much as decoding it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Unavailable
from cluster.rpc.requests import ACCEPTED
from cluster.rpc.status import decode

M = TypeVar("M", bound=Message)

QUEUE_LIMIT = 8
"""Messages that were read and wait for the consumer."""
END_S = 1.0
"""How long the reason for an end may take to arrive after a request could not be sent."""


class _Silence:
    """In the queue: nothing has come for as long as the consumer, who waits since then, wanted to wait."""

    __slots__ = ("since_s",)

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s


class ResponseStream(Generic[M]):
    """What a streaming call answers. Must be closed."""

    def __init__(self, call: Any, name: str, requests: AsyncIterable[Message] | None = None) -> None:
        """`requests` are sent as they come, for a call that streams both ways."""
        self._call = call
        self._name = name
        self._queue: asyncio.Queue[M | ApiError | _Silence | None] = asyncio.Queue(QUEUE_LIMIT)
        self._tasks = Tasks(name)
        self._end: ApiError | None = None
        self._ended = False
        self._waits_s: tuple[float, float] | None = None
        """Since when the consumer waits, and for how long at most."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks.spawn(self._read(), name=f"{name} reader")
        if requests is not None:
            self._tasks.spawn(self._write(requests), name=f"{name} writer")

    async def next(self, timeout_s: float | None = None) -> M | None:
        """The next message, or None at the end. Raises what ended the stream, or Unavailable after `timeout_s`."""
        if self._ended:
            if self._end is not None:
                raise self._end
            return None
        item = await self._wait(timeout_s) if self._queue.empty() else self._queue.get_nowait()
        while isinstance(item, _Silence):  # meant for a wait that was cancelled
            item = await self._wait(timeout_s) if self._queue.empty() else self._queue.get_nowait()
        if item is None or isinstance(item, ApiError):
            self._ended, self._end = True, item
            if item is not None:
                raise item
            return None
        return item

    def take(self) -> list[M]:
        """The messages that have arrived and that nobody has taken. Raises what ended the stream."""
        taken: list[M] = []
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if isinstance(item, _Silence):
                continue
            if item is None or isinstance(item, ApiError):
                self._ended, self._end = True, item
                break
            taken.append(item)
        if self._ended and not taken:
            raise self._end or Unavailable(f"{self._name}: the server ended it")
        return taken

    async def send(self, request: Message) -> None:
        """Sends a request; for a call that streams both ways and was given none to send by itself. Raises what ended
        the stream. When it is cancelled, the call is over."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # The call has ended; the reader knows why, once it was told.
            while await self.next(END_S) is not None:
                pass
            raise Unavailable(f"{self._name}: the server ended it") from error

    async def close(self) -> None:
        """Ends the call, also at the server. Twice is fine."""
        self._call.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel_all()
        if not self._ended:
            self._ended, self._end = True, Unavailable(f"{self._name}: closed")

    async def _wait(self, timeout_s: float | None) -> M | ApiError | _Silence | None:
        """What comes next. Raises Unavailable if nothing does."""
        if timeout_s is None:
            return await self._queue.get()
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        self._waits_s = since_s, timeout_s
        if self._timer is None or self._timer.when() > since_s + timeout_s:
            self._look_at(since_s + timeout_s)
        try:
            item = await self._queue.get()
        finally:
            self._waits_s = None
        if isinstance(item, _Silence) and item.since_s == since_s:
            raise Unavailable(f"{self._name}: heard nothing for {timeout_s:g} s")
        return item

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waits_s is None or not self._queue.empty():
            return
        since_s, timeout_s = self._waits_s
        if asyncio.get_running_loop().time() < since_s + timeout_s:
            self._look_at(since_s + timeout_s)
        else:
            self._queue.put_nowait(_Silence(since_s))

    async def _read(self) -> None:
        end: ApiError | None = None
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                await self._queue.put(message)
        except grpc.aio.AioRpcError as error:
            end = decode(error)
            end.__cause__ = error
        except grpc.aio.UsageError as error:
            end = Unavailable(f"{self._name}: {error}")
        except asyncio.CancelledError:
            # Ours when we are being closed; the call's own when its channel was closed under it.
            if self._tasks_are_cancelling():
                raise
            end = Unavailable(f"{self._name}: the client is closed")
        except Exception as error:
            end = Internal(f"{self._name}: {error}")
            end.__cause__ = error
        await self._queue.put(end)

    async def _write(self, requests: AsyncIterable[Message]) -> None:
        try:
            first = True
            async for request in requests:
                await self._call.write(request)
                if first:
                    # Nothing more is said before the server has accepted the first; see requests.py.
                    if ACCEPTED not in tuple(await self._call.initial_metadata()):
                        return
                    first = False
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # The call has ended; the reader tells why.
            pass

    @staticmethod
    def _tasks_are_cancelling() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
