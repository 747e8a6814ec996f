"""The client's end of a call that streams both ways, as bytes, for one that keeps its own queues: each message that
arrives is handed to a function at once.

`ResponseStream` (stream.py) is for consumers that take messages when they like; its queue costs a turn of the event
loop for each. Here the reader task itself does the work, which therefore must not wait; HTTP/2's window is the limit of
what has arrived and was not read. For gRPC's traps with streams of requests see requests.py: only the reader reads, and
nothing more is sent before the server has accepted the first message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Unavailable
from cluster.rpc.requests import ACCEPTED
from cluster.rpc.status import decode


class Line:
    """See the head of this file. Must be closed."""

    def __init__(self, call: Any, name: str, on_message: Callable[[bytes], None]) -> None:
        self._call = call
        self._name = name
        self._on_message = on_message
        self._accepted = False
        self._tasks = Tasks(name)
        self._reader = self._tasks.spawn(self._read(), name=f"{name} reader")

    async def send(self, message: bytes) -> None:
        """Returns when the transport has taken it. One at a time. Raises Unavailable when the call has ended: see
        `ended` for the reason. When it is cancelled, the call is over."""
        try:
            await self._call.write(message)
            if not self._accepted:
                self._accepted = ACCEPTED in tuple(await self._call.initial_metadata())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise Unavailable(f"{self._name}: the call has ended") from error
        if not self._accepted:
            raise Unavailable(f"{self._name}: the call was refused")

    async def done_writing(self) -> None:
        """Says that nothing more will be sent. Raises Unavailable when the call has ended."""
        try:
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise Unavailable(f"{self._name}: the call has ended") from error

    async def ended(self) -> ApiError:
        """Waits for the end of the call, and says why it has ended: what the server said if it refused the call, and
        Unavailable if it ended a call that it had accepted, since nobody knows then how far it got."""
        await asyncio.wait({self._reader})
        end = Unavailable(f"{self._name}: closed") if self._reader.cancelled() else self._reader.result()
        if not self._accepted or isinstance(end, Unavailable):
            return end
        ended = Unavailable(f"{self._name}: the server ended it: {end}")
        ended.__cause__ = end
        return ended

    async def close(self) -> None:
        """Ends the call, also at the server. Twice is fine."""
        self._call.cancel()
        await self._tasks.cancel_all()

    async def _read(self) -> ApiError:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._accepted = True
                self._on_message(message)
        except grpc.aio.AioRpcError as error:
            end = decode(error)
            end.__cause__ = error
            return end
        except grpc.aio.UsageError as error:
            return Unavailable(f"{self._name}: {error}")
        except asyncio.CancelledError:
            # Ours when we are being closed; the call's own when its channel was closed under it.
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                raise
            return Unavailable(f"{self._name}: the client is closed")
        except Exception as error:
            end = Internal(f"{self._name}: {error}")
            end.__cause__ = error
            return end
        return Unavailable(f"{self._name}: the server ended it")
