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
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar, cast

from google.protobuf.message import Message

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.api.errors import DeadlineExceeded, Internal, Unavailable
from cluster.api.kinds import AnyObject, Kind, kind_of_type, unwrap
from cluster.api.meta import to_time
from cluster.client.interface import (
    DEFAULT_TIMEOUT_S,
    EventType,
    HeartbeatLine,
    ListResult,
    OperationOutcome,
    WatchEvent,
    WatchListener,
    WatchStream,
    WriteOutcome,
)
from cluster.client.masters import Masters
from cluster.config.addresses import parse_masters
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials
from cluster.rpc.outcome import from_status
from cluster.rpc.stream import ResponseStream
from cluster.rpc.stub import ClusterStub

T = TypeVar("T", bound=AnyObject)
M = TypeVar("M", bound=Message)

SILENCE_S = 15.0
"""A watch that hears nothing for this long is broken: the master sends a bookmark every 5 s."""
PAGE_SIZE = 500

_EVENT_TYPES: dict[int, EventType] = {
    wire.WatchEvent.ADDED: EventType.ADDED,
    wire.WatchEvent.MODIFIED: EventType.MODIFIED,
    wire.WatchEvent.DELETED: EventType.DELETED,
    wire.WatchEvent.BOOKMARK: EventType.BOOKMARK,
    wire.WatchEvent.INITIAL_STATE_END: EventType.INITIAL_STATE_END,
}


class GrpcClusterClient:
    """See above, and `ClusterClient` for what each method promises."""

    def __init__(
        self, address: str, credentials: Credentials, *, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        """`address` is the master's "host:port", or those of several, with commas between. Raises ConfigError."""
        self._clock: Clock = clock or SystemClock()
        self._masters = Masters(parse_masters(address), credentials, self._clock, rng)

    async def get(
        self,
        kind: type[T],
        name: str,
        namespace: str = "",
        *,
        revision: int | None = None,
        time_s: float | None = None,
        allow_stale: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> T:
        request = wire.GetRequest(kind=kind_of_type(kind).name, namespace=namespace, name=name, revision=revision)
        if time_s is not None:
            request.time.CopyFrom(to_time(time_s))
        if allow_stale:
            request.allow_stale = True
        response = await self._masters.call(lambda master, limit_s: master.stub.get(request, limit_s), timeout_s)
        return cast(T, unwrap(response.object))

    async def list(
        self,
        kind: type[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        revision: int | None = None,
        time_s: float | None = None,
        allow_stale: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ListResult[T]:
        row = kind_of_type(kind)
        deadline = self._clock.monotonic() + timeout_s
        items: list[T] = []
        while True:
            request = wire.ListRequest(
                kind=row.name,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit or PAGE_SIZE,
            )
            if continue_token:
                setattr(request, "continue", continue_token)
            elif revision is not None:
                request.revision = revision
            elif time_s is not None:
                request.time.CopyFrom(to_time(time_s))
            if allow_stale:
                request.allow_stale = True
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                raise DeadlineExceeded(f"listing {row.plural} took longer than {timeout_s:g} s")
            response = await self._page(request, left_s)
            items.extend(getattr(item, row.field) for item in response.items)
            continue_token = getattr(response, "continue")
            if limit or not continue_token:
                return ListResult(items, response.revision, continue_token, response.remaining_item_count)

    async def _page(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse:
        return await self._masters.call(lambda master, limit_s: master.stub.list(request, limit_s), timeout_s)

    def watch(
        self,
        kind: type[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        after_revision: int | None = None,
        initial_state: bool = False,
        store_id: str = "",
        allow_stale: bool = False,
    ) -> AbstractAsyncContextManager[WatchStream[T]]:
        row = kind_of_type(kind)
        request = _watch_request(
            row, namespace, label_selector, field_selector, after_revision, initial_state, store_id, allow_stale
        )
        return self._watch(kind, row, request)

    def listen(
        self,
        kind: type[T],
        listener: WatchListener[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        after_revision: int | None = None,
        initial_state: bool = False,
        store_id: str = "",
        allow_stale: bool = False,
    ) -> Callable[[], None]:
        row = kind_of_type(kind)
        request = _watch_request(
            row, namespace, label_selector, field_selector, after_revision, initial_state, store_id, allow_stale
        )
        listening = _Listening(listener, kind, row)
        return self._masters.current.watches.begin(request, hear=listening.hear, ended=listener.ended)

    @asynccontextmanager
    async def _watch(self, kind: type[T], row: Kind, request: wire.WatchRequest) -> AsyncIterator[WatchStream[T]]:
        async with self._stream(lambda stub: stub.watch(request)) as stream:
            yield _GrpcWatch[T](stream, kind, row)

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

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        request = wire.WriteRequest(operations=operations, cause=cause)
        if atomic:
            request.atomic = True
        if dry_run:
            request.dry_run = True
        if self._masters.several and not dry_run:
            request.request_id = new_uid()
        response = await self._masters.call(lambda master, limit_s: master.writes.write(request, limit_s), timeout_s)
        if len(response.results) != len(operations):
            raise Internal(f"{len(operations)} operations were answered with {len(response.results)} results")
        return WriteOutcome([_outcome(result) for result in response.results], response.revision)

    async def history(
        self,
        kind: type[T],
        name: str,
        namespace: str = "",
        *,
        after_revision: int | None = None,
        until_revision: int | None = None,
        limit: int = 0,
        without_status: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> wire.HistoryResponse:
        request = wire.HistoryRequest(
            kind=kind_of_type(kind).name,
            namespace=namespace,
            name=name,
            after_revision=after_revision,
            until_revision=until_revision,
            limit=limit,
            without_status=without_status,
        )
        return await self._masters.call(lambda master, limit_s: master.stub.history(request, limit_s), timeout_s)

    async def undo(
        self,
        kind: type[T],
        name: str,
        namespace: str = "",
        *,
        to_revision: int | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> wire.UndoResponse:
        request = wire.UndoRequest(
            kind=kind_of_type(kind).name,
            namespace=namespace,
            name=name,
            to_revision=to_revision,
            dry_run=dry_run,
            request_id=new_uid(),  # to send it once more would be to undo the undo
        )
        return await self._masters.call(lambda master, limit_s: master.stub.undo(request, limit_s), timeout_s)

    async def trace(
        self, kind: type[T], name: str, namespace: str = "", *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> wire.TraceResponse:
        request = wire.TraceRequest(kind=kind_of_type(kind).name, namespace=namespace, name=name)
        return await self._masters.call(lambda master, limit_s: master.stub.trace(request, limit_s), timeout_s)

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[HeartbeatLine]:
        async with self._stream(lambda stub: stub.heartbeat()) as stream:
            yield _GrpcHeartbeats(stream)

    @asynccontextmanager
    async def watch_heartbeats(self) -> AsyncIterator[AsyncIterator[wire.HeartbeatBatch]]:
        async with self._stream(lambda stub: stub.watch_heartbeats(wire.WatchHeartbeatsRequest())) as stream:
            yield _heartbeats(stream)

    async def close(self) -> None:
        await self._masters.close()

    aclose = close


class _GrpcWatch(Generic[T]):
    """A stream of WatchBatch messages as batches of events."""

    def __init__(self, stream: ResponseStream[wire.WatchBatch], kind: type[T], row: Kind) -> None:
        self._stream = stream
        self._kind = kind
        self._row = row
        self.store_id = ""

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[T]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[T]]:
        while True:
            batch = await self._stream.next(SILENCE_S)
            if batch is None:
                raise Unavailable("the server ended the watch")
            if batch.store_id:
                self.store_id = batch.store_id
            if batch.events:
                return _events(batch, self._kind, self._row)


class _Listening(Generic[T]):
    """Batches of a shared stream on their way to a listener."""

    __slots__ = ("_kind", "_listener", "_row", "_store_id")

    def __init__(self, listener: WatchListener[T], kind: type[T], row: Kind) -> None:
        self._listener, self._kind, self._row = listener, kind, row
        self._store_id = ""

    def hear(self, batch: wire.WatchBatch) -> None:
        if batch.store_id:
            self._store_id = batch.store_id
        if events := _events(batch, self._kind, self._row):
            self._listener.heard(events, self._store_id)


def _events(batch: wire.WatchBatch, kind: type[T], row: Kind) -> list[WatchEvent[T]]:
    field, types = row.field, _EVENT_TYPES
    events = []
    for event in batch.events:
        type_ = types.get(event.type)
        if type_ is None:
            # From a newer master, about something this client does not know.
            continue
        obj: T | None = None
        if event.HasField("object"):
            # A copy, because a message keeps the whole batch alive in which it arrived.
            obj = kind()
            obj.CopyFrom(getattr(event.object, field))
        events.append(WatchEvent(type_, event.revision, obj))
    return events


def _watch_request(
    row: Kind,
    namespace: str,
    label_selector: str,
    field_selector: str,
    after_revision: int | None,
    initial_state: bool,
    store_id: str,
    allow_stale: bool,
) -> wire.WatchRequest:
    request = wire.WatchRequest(
        kind=row.name, namespace=namespace, label_selector=label_selector, field_selector=field_selector
    )
    if after_revision is not None:
        request.after_revision = after_revision
        request.store_id = store_id
    if initial_state:
        request.initial_state = True
    if allow_stale:
        request.allow_stale = True
    return request


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


async def _heartbeats(stream: ResponseStream[wire.HeartbeatBatch]) -> AsyncIterator[wire.HeartbeatBatch]:
    while (batch := await stream.next(SILENCE_S)) is not None:
        yield batch
    raise Unavailable("the server ended the watch")


def _outcome(result: wire.OperationResult) -> OperationOutcome:
    error = from_status(result.status)
    obj = unwrap(result.object) if result.HasField("object") else None
    return OperationOutcome(error, obj, result.unchanged)
