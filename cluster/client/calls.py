"""A `ClusterClient` in terms of the calls of the service Cluster, whoever carries them to a master.

What a caller says in Python's words becomes a request; what comes back becomes objects, outcomes and batches of events.
`grpc_client.py` carries requests to a master in another process, `cluster.simulation.client` to one in this process;
both are this client, so neither can mean something else by an argument than the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, Protocol, TypeVar, cast

from google.protobuf.message import Message

from cluster.actor.clock import Clock, new_uid
from cluster.api.defaults import DEFAULT_NAMESPACE
from cluster.api.errors import ApiError, DeadlineExceeded, Internal, Unavailable
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
from cluster.client.resolved import ServiceView, absent, view_of
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.outcome import from_status

T = TypeVar("T", bound=AnyObject)
M_co = TypeVar("M_co", bound=Message, covariant=True)

PAGE_SIZE = 1000
"""A list that is asked for as a whole is fetched in pages of so many."""

_EVENT_TYPES: dict[int, EventType] = {
    wire.WatchEvent.ADDED: EventType.ADDED,
    wire.WatchEvent.MODIFIED: EventType.MODIFIED,
    wire.WatchEvent.DELETED: EventType.DELETED,
    wire.WatchEvent.BOOKMARK: EventType.BOOKMARK,
    wire.WatchEvent.INITIAL_STATE_END: EventType.INITIAL_STATE_END,
}


class Answers(Protocol[M_co]):
    """What a streaming call answers, message by message."""

    async def next(self) -> M_co | None:
        """The next message; None: the server has ended the stream. Raises what else has ended it, and Unavailable for
        a silence that lasts too long."""
        ...


class Calls(Protocol):
    """The calls of the service Cluster to some master. Calls with one answer raise DeadlineExceeded after `timeout_s`,
    and all raise the domain's errors, Unavailable among them: after `close`, always."""

    async def get(self, request: wire.GetRequest, timeout_s: float) -> wire.GetResponse: ...

    async def list(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse: ...

    async def resolve(self, request: wire.ResolveRequest, timeout_s: float) -> wire.ResolveResponse: ...

    def watch_service(
        self, request: wire.ResolveRequest
    ) -> AbstractAsyncContextManager[Answers[wire.ServiceUpdate]]: ...

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse: ...

    async def history(self, request: wire.HistoryRequest, timeout_s: float) -> wire.HistoryResponse: ...

    async def undo(self, request: wire.UndoRequest, timeout_s: float) -> wire.UndoResponse: ...

    async def trace(self, request: wire.TraceRequest, timeout_s: float) -> wire.TraceResponse: ...

    def watch(self, request: wire.WatchRequest) -> AbstractAsyncContextManager[Answers[wire.WatchBatch]]: ...

    def listen(
        self, request: wire.WatchRequest, hear: Callable[[wire.WatchBatch], None], ended: Callable[[ApiError], None]
    ) -> Callable[[], None]:
        """See `ClusterClient.listen`: `hear` gets each batch, `ended` what has ended the watch, once."""
        ...

    def watch_heartbeats(self) -> AbstractAsyncContextManager[Answers[wire.HeartbeatBatch]]: ...

    def heartbeats(self) -> AbstractAsyncContextManager[HeartbeatLine]: ...

    async def close(self) -> None: ...


class CallingClient:
    """See above, and `ClusterClient` for what each method promises."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

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
        response = await self._calls.get(request, timeout_s)
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
            response = await self._calls.list(request, left_s)
            items.extend(getattr(item, row.field) for item in response.items)
            continue_token = getattr(response, "continue")
            if limit or not continue_token:
                return ListResult(items, response.revision, continue_token, response.remaining_item_count)

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
        return self._calls.listen(request, _Listening(listener, kind, row).hear, listener.ended)

    @asynccontextmanager
    async def _watch(self, kind: type[T], row: Kind, request: wire.WatchRequest) -> AsyncIterator[WatchStream[T]]:
        async with self._calls.watch(request) as answers:
            yield _Watch[T](answers, kind, row)

    async def resolve(
        self,
        name: str,
        namespace: str = "",
        *,
        allow_stale: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ServiceView:
        response = await self._calls.resolve(_resolve_request(name, namespace, allow_stale), timeout_s)
        return view_of(response.service, response.revision, response.store_id)

    def watch_service(
        self, name: str, namespace: str = "", *, allow_stale: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[ServiceView]]:
        return self._watch_service(_resolve_request(name, namespace, allow_stale))

    @asynccontextmanager
    async def _watch_service(self, request: wire.ResolveRequest) -> AsyncIterator[AsyncIterator[ServiceView]]:
        async with self._calls.watch_service(request) as answers:
            yield _views(answers, request)

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
        response = await self._calls.write(request, timeout_s)
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
        return await self._calls.history(request, timeout_s)

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
        return await self._calls.undo(request, timeout_s)

    async def trace(
        self, kind: type[T], name: str, namespace: str = "", *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> wire.TraceResponse:
        request = wire.TraceRequest(kind=kind_of_type(kind).name, namespace=namespace, name=name)
        return await self._calls.trace(request, timeout_s)

    def heartbeats(self) -> AbstractAsyncContextManager[HeartbeatLine]:
        return self._calls.heartbeats()

    @asynccontextmanager
    async def watch_heartbeats(self) -> AsyncIterator[AsyncIterator[wire.HeartbeatBatch]]:
        async with self._calls.watch_heartbeats() as answers:
            yield _heartbeats(answers)

    async def close(self) -> None:
        await self._calls.close()

    aclose = close


def _resolve_request(name: str, namespace: str, allow_stale: bool) -> wire.ResolveRequest:
    request = wire.ResolveRequest(namespace=namespace, name=name)
    if allow_stale:
        request.allow_stale = True
    return request


async def _views(
    answers: Answers[wire.ServiceUpdate], request: wire.ResolveRequest
) -> AsyncGenerator[ServiceView, None]:
    while True:
        update = await answers.next()
        if update is None:
            raise Unavailable("the server ended the watch")
        match update.WhichOneof("update"):
            case "service":
                yield view_of(update.service, update.revision, update.store_id)
            case "absent":
                yield absent(request.namespace or DEFAULT_NAMESPACE, request.name, update.revision, update.store_id)


class _Watch(Generic[T]):
    """A stream of WatchBatch messages as batches of events."""

    def __init__(self, answers: Answers[wire.WatchBatch], kind: type[T], row: Kind) -> None:
        self._answers = answers
        self._kind = kind
        self._row = row
        self.store_id = ""

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[T]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[T]]:
        while True:
            batch = await self._answers.next()
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


async def _heartbeats(answers: Answers[wire.HeartbeatBatch]) -> AsyncIterator[wire.HeartbeatBatch]:
    while (batch := await answers.next()) is not None:
        yield batch
    raise Unavailable("the server ended the watch")


def _outcome(result: wire.OperationResult) -> OperationOutcome:
    error = from_status(result.status)
    obj = unwrap(result.object) if result.HasField("object") else None
    return OperationOutcome(error, obj, result.unchanged)
