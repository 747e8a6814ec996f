"""A `ClusterClient` of a master in this process: no wire, no deadlines, the same answers.

Requests go to the master's own door (`cluster.master.apiserver`) under the identity that the client is given, so that
what its caller may do, and what the state becomes, is decided by the very code that decides it elsewhere. Answers are
decoded from the bytes that would have been sent: objects belong to who asked for them.

Two things are different from a wire. A call takes no time by the clock of the simulation, and has no deadline: how
long this machine takes for it must not decide about anything. And a stream is never silent by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Unavailable
from cluster.client.calls import CallingClient
from cluster.client.interface import DEFAULT_TIMEOUT_S, HeartbeatLine
from cluster.master.apiserver import ApiServer
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity

M = TypeVar("M", bound=Message)
R = TypeVar("R")


class LocalClient(CallingClient):
    """See above, and `ClusterClient` for what each method promises."""

    def __init__(self, api: ApiServer, identity: Identity, clock: Clock) -> None:
        super().__init__(_LocalCalls(api, identity), clock)


class _LocalCalls:
    """See `cluster.client.calls.Calls`."""

    def __init__(self, api: ApiServer, identity: Identity) -> None:
        self._api = api
        self._identity = identity
        self._streams: dict[_LocalAnswers[Any], None] = {}
        """Those that are open, in the order in which they were opened."""
        self._listening = Tasks("local listening")
        self._closed = False

    async def get(self, request: wire.GetRequest, timeout_s: float) -> wire.GetResponse:
        return wire.GetResponse.FromString(await self._answer(lambda: self._api.get(self._identity, request)))

    async def list(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse:
        return wire.ListResponse.FromString(await self._answer(lambda: self._api.list(self._identity, request)))

    async def resolve(self, request: wire.ResolveRequest, timeout_s: float) -> wire.ResolveResponse:
        return await self._answer(lambda: self._api.resolve(self._identity, request))

    @asynccontextmanager
    async def watch_service(self, request: wire.ResolveRequest) -> AsyncIterator[_LocalAnswers[wire.ServiceUpdate]]:
        source = self._api.watch_service(self._identity, request)
        answers = _LocalAnswers(source, _as_it_is, self._api.complete)
        async with self._stream(answers):
            yield answers

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse:
        return wire.WriteResponse.FromString(await self._answer(lambda: self._api.write(self._identity, request)))

    async def history(self, request: wire.HistoryRequest, timeout_s: float) -> wire.HistoryResponse:
        return await self._answer(lambda: self._api.history(self._identity, request))

    async def undo(self, request: wire.UndoRequest, timeout_s: float) -> wire.UndoResponse:
        return await self._answer(lambda: self._api.undo(self._identity, request))

    async def trace(self, request: wire.TraceRequest, timeout_s: float) -> wire.TraceResponse:
        return await self._answer(lambda: self._api.trace(self._identity, request))

    @asynccontextmanager
    async def watch(self, request: wire.WatchRequest) -> AsyncIterator[_LocalAnswers[wire.WatchBatch]]:
        source = self._api.watch(self._identity, request)
        answers = _LocalAnswers(source, wire.WatchBatch.FromString, self._api.complete)
        async with self._stream(answers):
            yield answers

    def listen(
        self, request: wire.WatchRequest, hear: Callable[[wire.WatchBatch], None], ended: Callable[[ApiError], None]
    ) -> Callable[[], None]:
        self._check()

        async def tell() -> None:
            try:
                async with self.watch(request) as answers:
                    while (batch := await answers.next()) is not None:
                        hear(batch)
                ended(Unavailable("the server ended the watch"))
            except ApiError as error:
                ended(error)

        task = self._listening.spawn(tell(), name=f"listen to {request.kind}")

        def end() -> None:
            task.cancel()

        return end

    @asynccontextmanager
    async def watch_heartbeats(self) -> AsyncIterator[_LocalAnswers[wire.HeartbeatBatch]]:
        source = self._api.watch_heartbeats(self._identity, wire.WatchHeartbeatsRequest())
        answers = _LocalAnswers(source, _as_it_is, self._api.complete)
        async with self._stream(answers):
            yield answers

    @asynccontextmanager
    async def _stream(self, answers: _LocalAnswers[Any]) -> AsyncIterator[None]:
        self._check()
        self._streams[answers] = None
        try:
            yield
        finally:
            del self._streams[answers]
            await answers.close()

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[HeartbeatLine]:
        self._check()
        yield _LocalHeartbeats(self)

    async def hear(self, request: wire.HeartbeatRequest) -> wire.HeartbeatResponse:
        """One beat of a line."""

        async def heard() -> wire.HeartbeatResponse:
            return self._api.hear(self._identity, request)

        return await self._answer(heard)

    async def close(self) -> None:
        self._closed = True
        for answers in list(self._streams):
            answers.end(Unavailable("the client is closed"))

    async def _answer(self, call: Callable[[], Awaitable[R]]) -> R:
        self._check()
        try:
            return await call()
        except ApiError as error:
            self._api.complete(error)
            raise

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("the client is closed")


class _LocalAnswers(Generic[M]):
    """A stream of the master's, which its reader or the client may end at any time."""

    def __init__(
        self,
        source: AsyncGenerator[Any, None],
        decode: Callable[[Any], M],
        complete: Callable[[ApiError], None],
    ) -> None:
        self._source = source
        self._decode = decode
        self._complete = complete
        self._tasks = Tasks("local stream", on_crash=lambda task, error: None)
        self._over: asyncio.Future[M | None] = asyncio.get_running_loop().create_future()
        self._end: ApiError | None = None

    async def next(self) -> M | None:
        if self._end is not None:
            raise self._end
        # A task of its own, because the client may end the stream while the master has nothing to say.
        step = self._tasks.spawn(self._step(), name="next")
        try:
            await asyncio.wait([step, self._over], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            step.cancel()
            raise
        if not step.done():
            assert self._end is not None
            raise self._end
        try:
            return step.result()
        except ApiError as error:
            self._complete(error)
            raise

    async def _step(self) -> M | None:
        async for message in self._source:
            return self._decode(message)
        return None

    def end(self, error: ApiError) -> None:
        """The reader gets this error, now if it waits."""
        self._end = error
        if not self._over.done():
            self._over.set_result(None)

    async def close(self) -> None:
        await self._tasks.cancel_all()
        await self._source.aclose()


class _LocalHeartbeats:
    """See `cluster.client.interface.HeartbeatLine`; what the master has to say is told at once."""

    def __init__(self, calls: _LocalCalls) -> None:
        self._calls = calls

    async def beat(
        self, heartbeats: Sequence[wire.NodeHeartbeat], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Sequence[str]:
        answer = await self._calls.hear(wire.HeartbeatRequest(heartbeats=heartbeats))
        return list(answer.unknown_nodes)


def _as_it_is(message: M) -> M:
    return message
