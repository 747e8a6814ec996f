"""Another master, over gRPC: a call that is handed on, with its caller's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity
from cluster.rpc.servicer import ON_BEHALF_OF
from cluster.rpc.stream import ResponseStream
from cluster.rpc.stub import ClusterStub
from cluster.store import failpoints

M = TypeVar("M", bound=Message)

CALL_TIMEOUT_S = 60.0
"""Who calls has a deadline of his own, and with it this call ends, too; this is for when he has none."""
STREAMS_PER_CONNECTION = 400
"""A server takes 1,000; each agent of a follower has a stream, and there is another connection for more of them."""


@dataclass(slots=True)
class _Connection:
    channels: Channels
    streams: int = 0


class GrpcPeer:
    """See forwarding.Peer."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials
        self._connections: list[_Connection] = []
        self._closed = False

    async def write(self, identity: Identity, request: wire.WriteRequest) -> bytes:
        failpoints.hit("master.before_forward")
        async with self._stub(identity) as stub:
            response = await stub.write(request, CALL_TIMEOUT_S)
        failpoints.hit("master.after_forward")
        return response.SerializeToString()

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        async with self._stub(identity) as stub:
            return await stub.undo(request, CALL_TIMEOUT_S)

    async def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncGenerator[bytes, None]:
        async with self._stub(identity) as stub:
            # Bounded by what the caller has under way, which the leader bounds.
            answers: asyncio.Queue[bytes | None] = asyncio.Queue()
            line = stub.write_stream(answers.put_nowait)
            tasks = Tasks("forwarded writes")
            all_said = False

            async def send() -> None:
                nonlocal all_said
                try:
                    async for calls in requests:
                        failpoints.hit("master.before_forward")
                        await line.send(calls.SerializeToString())
                    all_said = True
                    await line.done_writing()
                except Unavailable:
                    pass  # it has ended: the reader knows why

            async def end() -> ApiError:
                try:
                    return await line.ended()
                finally:
                    answers.put_nowait(None)

            tasks.spawn(send(), name="calls")
            ended = tasks.spawn(end(), name="end")
            try:
                while (answer := await answers.get()) is not None:
                    failpoints.hit("master.after_forward")
                    yield answer
                error = await ended
                if not all_said:
                    raise error
            finally:
                await line.close()
                await tasks.cancel_all()

    async def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncGenerator[wire.HeartbeatResponse, None]:
        async with self._stub(identity) as stub, aclosing(_messages(stub.heartbeat(requests))) as responses:
            async for response in responses:
                yield response

    async def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncGenerator[wire.HeartbeatBatch, None]:
        async with self._stub(identity) as stub, aclosing(_messages(stub.watch_heartbeats(request))) as batches:
            async for batch in batches:
                yield batch

    async def close(self) -> None:
        self._closed = True
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.channels.close()

    @asynccontextmanager
    async def _stub(self, identity: Identity) -> AsyncIterator[ClusterStub]:
        """For one call; on a connection that has room for it."""
        if self._closed:
            raise _gone()
        for connection in self._connections:
            if connection.streams < STREAMS_PER_CONNECTION:
                break
        else:
            connection = _Connection(Channels(self._address, self._credentials))
            self._connections.append(connection)
        connection.streams += 1
        try:
            yield ClusterStub(connection.channels, [(ON_BEHALF_OF, str(identity))])
        except Unavailable as error:
            if self._closed:
                raise _gone() from error
            raise
        finally:
            connection.streams -= 1


def _gone() -> Unavailable:
    return Unavailable("another master leads now, or nobody; a write may or may not have happened")


async def _messages(stream: ResponseStream[M]) -> AsyncGenerator[M, None]:
    try:
        while (message := await stream.next()) is not None:
            yield message
    finally:
        await stream.close()
