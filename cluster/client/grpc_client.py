"""The `ClusterClient` that talks to a master in another process.

    async with contextlib.aclosing(GrpcClusterClient("127.5.0.1:6443", Credentials.load(directory))) as client: ...

Nothing is connected before the first call. With one address nothing is repeated here: an error is told as it comes.
With several, "A:6443,B:6443,C:6443", what one master does not answer is asked of the next, within the caller's time
(masters.py); writes get a name for that, under which they happen once. A watch or a line of heartbeats whose master is
gone ends with Unavailable, and the next one is made elsewhere. Objects that arrive are the receiver's own; those of a
watch are shared with all who look at the event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from google.protobuf.message import Message

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.api.errors import ApiError, DeadlineExceeded, Unavailable
from cluster.client.calls import CallingClient
from cluster.client.interface import DEFAULT_TIMEOUT_S, HeartbeatLine
from cluster.client.masters import Masters
from cluster.config.addresses import parse_masters
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Credentials, Identity
from cluster.rpc.servicer import ON_BEHALF_OF
from cluster.rpc.stream import ResponseStream
from cluster.rpc.stub import ClusterStub

M = TypeVar("M", bound=Message)

SILENCE_S = 15.0
"""A watch that hears nothing for this long is broken: the master sends a bookmark every 5 s."""


class GrpcClusterClient(CallingClient):
    """See above, and `ClusterClient` for what each method promises."""

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        on_behalf_of: Identity | None = None,
    ) -> None:
        """`address` is the master's "host:port", or those of several, with commas between. Raises ConfigError.

        `on_behalf_of`: whose rights every call has, for the identity `kubernetes` (see cluster.rpc.gate).
        """
        clock = clock or SystemClock()
        metadata = [(ON_BEHALF_OF, str(on_behalf_of))] if on_behalf_of is not None else []
        super().__init__(_GrpcCalls(Masters(parse_masters(address), credentials, clock, rng, metadata)), clock)


class _GrpcCalls:
    """See `cluster.client.calls.Calls`."""

    def __init__(self, masters: Masters) -> None:
        self._masters = masters

    async def get(self, request: wire.GetRequest, timeout_s: float) -> wire.GetResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.get(request, limit_s), timeout_s)

    async def list(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.list(request, limit_s), timeout_s)

    async def resolve(self, request: wire.ResolveRequest, timeout_s: float) -> wire.ResolveResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.resolve(request, limit_s), timeout_s)

    @asynccontextmanager
    async def watch_service(self, request: wire.ResolveRequest) -> AsyncIterator[_Answers[wire.ServiceUpdate]]:
        async with self._stream(lambda stub: stub.watch_service(request)) as stream:
            yield _Answers(stream)

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse:
        if self._masters.several and not request.dry_run:
            request.request_id = new_uid()
        return await self._masters.call(lambda master, limit_s: master.writes.write(request, limit_s), timeout_s)

    async def history(self, request: wire.HistoryRequest, timeout_s: float) -> wire.HistoryResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.history(request, limit_s), timeout_s)

    async def undo(self, request: wire.UndoRequest, timeout_s: float) -> wire.UndoResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.undo(request, limit_s), timeout_s)

    async def trace(self, request: wire.TraceRequest, timeout_s: float) -> wire.TraceResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.trace(request, limit_s), timeout_s)

    @asynccontextmanager
    async def watch(self, request: wire.WatchRequest) -> AsyncIterator[_Answers[wire.WatchBatch]]:
        async with self._stream(lambda stub: stub.watch(request)) as stream:
            yield _Answers(stream)

    def listen(
        self, request: wire.WatchRequest, hear: Callable[[wire.WatchBatch], None], ended: Callable[[ApiError], None]
    ) -> Callable[[], None]:
        return self._masters.current.watches.begin(request, hear=hear, ended=ended)

    @asynccontextmanager
    async def watch_heartbeats(self) -> AsyncIterator[_Answers[wire.HeartbeatBatch]]:
        async with self._stream(lambda stub: stub.watch_heartbeats(wire.WatchHeartbeatsRequest())) as stream:
            yield _Answers(stream)

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[HeartbeatLine]:
        async with self._stream(lambda stub: stub.heartbeat()) as stream:
            yield _GrpcHeartbeats(stream)

    @asynccontextmanager
    async def _stream(self, make: Callable[[ClusterStub], ResponseStream[M]]) -> AsyncIterator[ResponseStream[M]]:
        """A stream from the current master, who is left if it breaks."""
        master = self._masters.current
        stream = make(master.stub)
        try:
            yield stream
        except (Unavailable, DeadlineExceeded):
            self._masters.leave(master)
            raise
        finally:
            await stream.close()

    async def close(self) -> None:
        await self._masters.close()


class _Answers(Generic[M]):
    """A stream that may not be silent for long."""

    def __init__(self, stream: ResponseStream[M]) -> None:
        self._stream = stream

    async def next(self) -> M | None:
        return await self._stream.next(SILENCE_S)


class _GrpcHeartbeats:
    """A stream of requests that are seldom answered: half the cost of calls, at both ends."""

    def __init__(self, stream: ResponseStream[wire.HeartbeatResponse]) -> None:
        self._stream = stream
        self._answered = False

    async def beat(
        self, heartbeats: Sequence[wire.NodeHeartbeat], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Sequence[str]:
        try:
            async with asyncio.timeout(timeout_s):
                await self._stream.send(wire.HeartbeatRequest(heartbeats=heartbeats))
                if not self._answered:
                    first = await self._stream.next()
                    if first is None:
                        raise Unavailable("the server ended the heartbeats")
                    self._answered = True
                    return first.unknown_nodes
        except TimeoutError:
            raise DeadlineExceeded(f"a heartbeat took longer than {timeout_s:g} s") from None
        return [node for answer in self._stream.take() for node in answer.unknown_nodes]
