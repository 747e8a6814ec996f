"""A node that is cut off on purpose: its agent neither says nor hears anything, until the time is over.

What is under way when it begins ends as it would if the wire were cut: nobody knows whether it happened. Whatever is
asked afterwards fails at once. Since nothing is heard meanwhile, only the time that was set at the beginning ends it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from google.protobuf.message import Message

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError, Unavailable
from cluster.client.calls import Answers, Calls
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import DEFAULT_TIMEOUT_S, HeartbeatLine
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Credentials

R = TypeVar("R")
M = TypeVar("M", bound=Message)

_WHY = "this node is cut off on purpose"


class Partition:
    """Whether the node is cut off, and what is to be broken off when it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._under_way: set[asyncio.Timeout] = set()

    @property
    def is_on(self) -> bool:
        """Nothing passes."""
        return self._clock.monotonic() < self._until

    def begin(self, seconds: float) -> None:
        """Cuts the node off for that long, from now on; one that lasts longer goes on."""
        self._until = max(self._until, self._clock.monotonic() + seconds)
        now = asyncio.get_running_loop().time()
        for limit in self._under_way:
            limit.reschedule(now)

    def check(self) -> None:
        """Raises Unavailable while nothing passes."""
        if self.is_on:
            raise Unavailable(_WHY)

    async def passing(self, ask: Callable[[], Awaitable[R]]) -> R:
        """What `ask()` returns or raises; Unavailable if the node is cut off, or is before there is an answer."""
        self.check()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._under_way.add(limit)
                try:
                    return await ask()
                finally:
                    self._under_way.discard(limit)
        except TimeoutError:
            if limit.expired():
                raise Unavailable(_WHY) from None
            raise


class PartitionedClient(GrpcClusterClient):
    """A client that can be cut off."""

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        partition: Partition,
        *,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(address, credentials, clock=clock, rng=rng)
        self._calls = _CutCalls(self._calls, partition)


class _CutCalls:
    """See `cluster.client.calls.Calls`."""

    def __init__(self, calls: Calls, partition: Partition) -> None:
        self._calls = calls
        self._partition = partition

    async def get(self, request: wire.GetRequest, timeout_s: float) -> wire.GetResponse:
        return await self._partition.passing(lambda: self._calls.get(request, timeout_s))

    async def list(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse:
        return await self._partition.passing(lambda: self._calls.list(request, timeout_s))

    async def resolve(self, request: wire.ResolveRequest, timeout_s: float) -> wire.ResolveResponse:
        return await self._partition.passing(lambda: self._calls.resolve(request, timeout_s))

    def watch_service(self, request: wire.ResolveRequest) -> AbstractAsyncContextManager[Answers[wire.ServiceUpdate]]:
        return self._heard(lambda: self._calls.watch_service(request))

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse:
        return await self._partition.passing(lambda: self._calls.write(request, timeout_s))

    async def history(self, request: wire.HistoryRequest, timeout_s: float) -> wire.HistoryResponse:
        return await self._partition.passing(lambda: self._calls.history(request, timeout_s))

    async def undo(self, request: wire.UndoRequest, timeout_s: float) -> wire.UndoResponse:
        return await self._partition.passing(lambda: self._calls.undo(request, timeout_s))

    async def trace(self, request: wire.TraceRequest, timeout_s: float) -> wire.TraceResponse:
        return await self._partition.passing(lambda: self._calls.trace(request, timeout_s))

    def watch(self, request: wire.WatchRequest) -> AbstractAsyncContextManager[Answers[wire.WatchBatch]]:
        return self._heard(lambda: self._calls.watch(request))

    def listen(
        self, request: wire.WatchRequest, hear: Callable[[wire.WatchBatch], None], ended: Callable[[ApiError], None]
    ) -> Callable[[], None]:
        """Many watches over one stream are for those who play many nodes; they are not cut off."""
        return self._calls.listen(request, hear, ended)

    def watch_heartbeats(self) -> AbstractAsyncContextManager[Answers[wire.HeartbeatBatch]]:
        return self._heard(self._calls.watch_heartbeats)

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[HeartbeatLine]:
        self._partition.check()
        async with self._calls.heartbeats() as line:
            yield _CutLine(line, self._partition)

    @asynccontextmanager
    async def _heard(self, make: Callable[[], AbstractAsyncContextManager[Answers[M]]]) -> AsyncIterator[Answers[M]]:
        self._partition.check()
        async with make() as answers:
            yield _CutAnswers(answers, self._partition)

    async def close(self) -> None:
        await self._calls.close()


class _CutAnswers(Answers[M]):
    """A stream that ends when the node is cut off."""

    def __init__(self, answers: Answers[M], partition: Partition) -> None:
        self._answers = answers
        self._partition = partition

    async def next(self) -> M | None:
        return await self._partition.passing(self._answers.next)


class _CutLine:
    """Heartbeats that do not arrive while the node is cut off."""

    def __init__(self, line: HeartbeatLine, partition: Partition) -> None:
        self._line = line
        self._partition = partition

    async def beat(
        self, heartbeats: Sequence[wire.NodeHeartbeat], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Sequence[str]:
        return await self._partition.passing(lambda: self._line.beat(heartbeats, timeout_s=timeout_s))
