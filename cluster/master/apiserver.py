"""The door: what each call of the service Cluster does. Authorises, translates, and leaves the work to others.

Reads are answered from the store's memory, with the bytes of the objects as they were written; only selectors look
inside. A watch or list that asks for the pods of one node (spec.nodeName=...) goes by the index.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cluster.api.errors import BadRequest, Invalid, NotFound
from cluster.api.fields import FieldSelector, parse_field_selector
from cluster.api.kinds import AnyObject, Kind, kind_named
from cluster.api.labels import parse_selector
from cluster.api.meta import Key
from cluster.master.actor import WriterActor
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.answers import get_response
from cluster.master.authorization import (
    authorize_call,
    authorize_get,
    authorize_heartbeat,
    authorize_selection,
    authorize_write,
)
from cluster.master.commands import Writer
from cluster.master.heartbeats import Heartbeats
from cluster.master.paging import Place, page, read_token, write_token
from cluster.master.travel import TimeTravel
from cluster.master.write_stream import serve
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.handlers import Unserved
from cluster.rpc.identity import Identity
from cluster.store.encoding import list_response
from cluster.store.store import Store
from cluster.store.watchers import Interest

_CLUSTER = "/cluster.pb.v1.Cluster/"


class ApiServer(Unserved):
    """Implements `cluster.rpc.handlers.ClusterHandler`."""

    def __init__(self, store: Store, writer: WriterActor, heartbeats: Heartbeats) -> None:
        self._store = store
        self._writer = writer
        self._heartbeats = heartbeats
        self._travel = TimeTravel(store, self.write)

    async def get(self, identity: Identity, request: wire.GetRequest) -> bytes:
        """One object. Raises NotFound, Forbidden."""
        kind = kind_named(request.kind)
        # First whether it may read any: who may not learns nothing about what exists.
        authorize_write(identity, "get", kind.name, None, None, self._bound_to)
        namespace = _namespace(kind, request.namespace)
        if kind.namespaced and not namespace:
            namespace = DEFAULT_NAMESPACE
        version = self._store.get(Key(kind.name, namespace, request.name))
        if version is None:
            raise NotFound(f'{kind.plural} "{request.name}" not found')
        authorize_get(identity, kind.name, version.parse(), self._bound_to)
        return get_response(version, self._store.revision, self._store.store_id)

    async def list(self, identity: Identity, request: wire.ListRequest) -> bytes:
        """A page of one snapshot. Raises Forbidden, Expired, BadRequest."""
        kind = kind_named(request.kind)
        interest = self._interest(identity, "list", kind, request)
        if request.limit < 0:
            raise BadRequest(f"limit must not be negative, but is {request.limit}")
        store = self._store
        revision, after = store.revision, None
        token = getattr(request, "continue")
        if token:
            if request.HasField("revision"):
                raise BadRequest("a continue token and a revision cannot be given together")
            place = read_token(token, kind.name)
            revision, after = place.revision, place.after
        elif request.HasField("revision"):
            revision = request.revision
        versions = await store.list_at(revision, kind.name, interest.namespace, interest.node)
        found = page(versions, request.limit, after, interest.matches)
        return list_response(
            [(kind.name, version.data) for version in found.versions],
            revision,
            store.store_id,
            write_token(Place(revision, found.last)) if found.last is not None else "",
            found.remaining,
        )

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncGenerator[bytes, None]:
        """See `Store.watch`. Raises Forbidden, BadRequest, Expired, Unavailable."""
        kind = kind_named(request.kind)
        interest = self._interest(identity, "watch", kind, request)
        if request.initial_state and request.HasField("after_revision"):
            raise BadRequest("initial_state and after_revision cannot be given together")
        after = request.after_revision if request.HasField("after_revision") else None
        batches = self._store.watch(interest, after=after, initial_state=request.initial_state)
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    async def write(self, identity: Identity, request: wire.WriteRequest) -> bytes:
        """See `Commands`. Raises Overloaded, Unavailable, BadRequest."""
        return await self._writer.write(request, _by(identity, request))

    def write_stream(self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]) -> AsyncGenerator[bytes, None]:
        """See `write_stream.serve`; each call is answered as `write` would answer it."""
        return serve(lambda request: self._writer.begin(request, _by(identity, request)), requests)

    async def history(self, identity: Identity, request: wire.HistoryRequest) -> wire.HistoryResponse:
        """See `TimeTravel`."""
        authorize_call(identity, _CLUSTER + "History")
        return await self._travel.history(request)

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        """See `TimeTravel`. It writes as its caller, by the rules of `write`."""
        authorize_call(identity, _CLUSTER + "Undo")
        return await self._travel.undo(identity, request)

    async def trace(self, identity: Identity, request: wire.TraceRequest) -> wire.TraceResponse:
        """See `TimeTravel`."""
        authorize_call(identity, _CLUSTER + "Trace")
        return await self._travel.trace(request)

    async def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncGenerator[wire.HeartbeatResponse, None]:
        """Notes what it hears; see `hear`. Answers the first request, and those that name an unknown node."""
        first = True
        async for request in requests:
            answer = self.hear(identity, request)
            if first or answer.unknown_nodes:
                first = False
                yield answer

    def hear(self, identity: Identity, request: wire.HeartbeatRequest) -> wire.HeartbeatResponse:
        """Notes that nodes are alive. Raises Forbidden if one of them is not the caller's; then none is noted."""
        authorize_call(identity, _CLUSTER + "Heartbeat")
        for heartbeat in request.heartbeats:
            authorize_heartbeat(identity, heartbeat.node)
        response = wire.HeartbeatResponse(store_id=self._store.store_id)
        for heartbeat in request.heartbeats:
            if self._store.get(Key("Node", "", heartbeat.node)) is None:
                response.unknown_nodes.append(heartbeat.node)
                self._heartbeats.forget(heartbeat.node)
            else:
                self._heartbeats.beat(heartbeat)
        return response

    async def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncGenerator[wire.HeartbeatBatch, None]:
        """See `Heartbeats`."""
        authorize_call(identity, _CLUSTER + "WatchHeartbeats")
        batches = self._heartbeats.watch()
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    def _bound_to(self, key: Key) -> str | None:
        version = self._store.get(key)
        return None if version is None else version.node

    def _interest(
        self, identity: Identity, verb: str, kind: Kind, request: wire.ListRequest | wire.WatchRequest
    ) -> Interest:
        """What a list or watch asks for, if this identity may. Raises BadRequest, Forbidden."""
        fields = parse_field_selector(kind.name, request.field_selector)
        authorize_selection(identity, verb, kind.name, fields.equals)
        namespace = _namespace(kind, request.namespace)
        node = fields.equals.get("spec.nodeName", "") if kind.name == "Pod" else ""
        matches = _matcher(request.label_selector, fields, only_node=bool(node) and len(fields.terms) == 1)
        selector = f"{request.label_selector}\n{request.field_selector}" if matches is not None else ""
        return Interest(kind.name, namespace, node, selector, matches)


def _by(identity: Identity, request: wire.WriteRequest) -> Writer:
    return Writer(identity, request.cause if request.HasField("cause") else None)


def _matcher(label_selector: str, fields: FieldSelector, *, only_node: bool) -> Callable[[AnyObject], bool] | None:
    """What selectors ask of an object, beyond what the index answers; None: nothing."""
    labels = parse_selector(label_selector)
    by_labels, by_fields = not labels.is_empty, not fields.is_empty and not only_node
    if by_labels and by_fields:
        return lambda obj: labels.matches(obj.metadata.labels) and fields.matches(obj)
    if by_labels:
        return lambda obj: labels.matches(obj.metadata.labels)
    return fields.matches if by_fields else None


def _namespace(kind: Kind, namespace: str) -> str:
    if namespace and not kind.namespaced:
        raise Invalid(f"{kind.plural} have no namespace")
    return namespace
