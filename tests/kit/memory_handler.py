"""The in-memory cluster behind a real gRPC server: what a client sees of a master, without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, NotFound
from cluster.api.kinds import BY_NAME, wrap
from cluster.api.meta import from_time
from cluster.client.interface import EventType, WatchEvent
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import to_status
from tests.kit.memory_client import MemoryCluster
from tests.kit.unserved import Unserved


class MemoryHandler(Unserved):
    """A `cluster.rpc.handlers.ClusterHandler` on a `MemoryCluster`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def get(self, identity: Identity, request: wire.GetRequest) -> wire.GetResponse:
        client = self._cluster.client(str(identity))
        found = await client.get(
            BY_NAME[request.kind].message,
            request.name,
            request.namespace,
            revision=request.revision if request.HasField("revision") else None,
            time_s=from_time(request.time) if request.HasField("time") else None,
        )
        return wire.GetResponse(object=wrap(found), revision=self._cluster.store.revision)

    async def list(self, identity: Identity, request: wire.ListRequest) -> bytes:
        found = await self._cluster.client(str(identity)).list(
            BY_NAME[request.kind].message,
            request.namespace,
            label_selector=request.label_selector,
            field_selector=request.field_selector,
            limit=request.limit,
            continue_token=getattr(request, "continue"),
            revision=request.revision if request.HasField("revision") else None,
            time_s=from_time(request.time) if request.HasField("time") else None,
        )
        response = wire.ListResponse(
            items=[wrap(obj) for obj in found.items],
            revision=found.revision,
            remaining_item_count=found.remaining,
            store_id=self._cluster.store.store_id,
        )
        setattr(response, "continue", found.continue_token)
        return response.SerializeToString()

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        async with self._cluster.client(str(identity)).watch(
            BY_NAME[request.kind].message,
            request.namespace,
            label_selector=request.label_selector,
            field_selector=request.field_selector,
            after_revision=request.after_revision if request.HasField("after_revision") else None,
            initial_state=request.initial_state,
            store_id=request.store_id,
        ) as batches:
            async for batch in batches:
                events = [_event(event) for event in batch]
                yield wire.WatchBatch(events=events, store_id=batches.store_id).SerializeToString()

    async def watch_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WatchCalls]
    ) -> AsyncIterator[wire.WatchAnswers]:
        tasks = Tasks("watch stream")
        answers: asyncio.Queue[wire.WatchAnswer] = asyncio.Queue()
        watches: dict[int, asyncio.Task[None]] = {}

        async def read() -> None:
            async for message in requests:
                for call in message.calls:
                    if call.end:
                        watches[call.id].cancel()
                    else:
                        watches[call.id] = tasks.spawn(tell(call.id, call.begin), name=f"watch {call.id}")

        async def tell(number: int, request: wire.WatchRequest) -> None:
            try:
                async for batch in self.watch(identity, request):
                    answers.put_nowait(wire.WatchAnswer(id=number, batch=wire.WatchBatch.FromString(batch)))
            except ApiError as error:
                answers.put_nowait(wire.WatchAnswer(id=number, error=to_status(error)))

        tasks.spawn(read(), name="calls")
        try:
            while True:
                yield wire.WatchAnswers(answers=[await answers.get()])
        finally:
            await tasks.cancel_all()

    async def resolve(self, identity: Identity, request: wire.ResolveRequest) -> wire.ResolveResponse:
        store, namespace = self._cluster.store, request.namespace or "default"
        self._cluster.check()
        service = self._cluster.resolved(namespace, request.name)
        if service is None:
            raise NotFound(f'services "{request.name}" not found')
        return wire.ResolveResponse(service=service, revision=store.revision, store_id=store.store_id)

    async def watch_service(
        self, identity: Identity, request: wire.ResolveRequest
    ) -> AsyncIterator[wire.ServiceUpdate]:
        async for update in self._cluster.service_updates(request.namespace or "default", request.name):
            yield update

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse:
        written = await self._cluster.client(str(identity)).write(
            request.operations,
            atomic=request.atomic,
            cause=request.cause if request.HasField("cause") else None,
            dry_run=request.dry_run,
        )
        response = wire.WriteResponse(revision=written.revision, store_id=self._cluster.store.store_id)
        for outcome in written.outcomes:
            result = response.results.add(status=to_status(outcome.error))
            if outcome.object is not None:
                result.object.CopyFrom(wrap(outcome.object))
            if outcome.unchanged:
                result.unchanged = True
        return response

    async def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncIterator[wire.WriteAnswers]:
        async for message in requests:
            answers = wire.WriteAnswers()
            for call in message.calls:
                answer = answers.answers.add(id=call.id)
                try:
                    answer.response.CopyFrom(await self.write(identity, call.request))
                except ApiError as error:
                    answer.error.CopyFrom(to_status(error))
            yield answers

    async def history(self, identity: Identity, request: wire.HistoryRequest) -> wire.HistoryResponse:
        return await self._cluster.travel(str(identity)).history(request)

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        return await self._cluster.travel(str(identity)).undo(identity, request)

    async def trace(self, identity: Identity, request: wire.TraceRequest) -> wire.TraceResponse:
        return await self._cluster.travel(str(identity)).trace(request)

    async def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncIterator[wire.HeartbeatResponse]:
        async with self._cluster.client(str(identity)).heartbeats() as line:
            first = True
            async for request in requests:
                unknown = await line.beat(request.heartbeats)
                if first or unknown:
                    first = False
                    yield wire.HeartbeatResponse(unknown_nodes=unknown, store_id=self._cluster.store.store_id)

    async def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncIterator[wire.HeartbeatBatch]:
        async with self._cluster.client(str(identity)).watch_heartbeats() as batches:
            async for batch in batches:
                yield batch


def _event(event: WatchEvent) -> wire.WatchEvent:  # type: ignore[type-arg]
    types = {
        EventType.ADDED: wire.WatchEvent.ADDED,
        EventType.MODIFIED: wire.WatchEvent.MODIFIED,
        EventType.DELETED: wire.WatchEvent.DELETED,
        EventType.BOOKMARK: wire.WatchEvent.BOOKMARK,
        EventType.INITIAL_STATE_END: wire.WatchEvent.INITIAL_STATE_END,
    }
    message = wire.WatchEvent(type=types[event.type], revision=event.revision)
    if event.object is not None:
        message.object.CopyFrom(wrap(event.object))
    return message
