"""The door: what each call of the service Cluster does. Authorises, translates, and leaves the work to others.

Reads are answered from the store's memory, with the bytes of the objects as they were written; only selectors look
inside. A watch or list that asks for the pods of one node (spec.nodeName=...) goes by the index, a watch of one object
(metadata.name=...) as well. Before a read, the end of the log is asked for, unless the caller allows stale answers, or
asks for a revision: that never changes.

What only the leader does (writes, heartbeats) is handed on to it, if this master is not the one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

from cluster.api.errors import ApiError, BadRequest, Forbidden, Invalid, NotFound, StoreRewound, Unavailable
from cluster.api.fields import FieldSelector, asked_for, parse_field_selector
from cluster.api.kinds import AnyObject, Kind, kind_named
from cluster.api.labels import Selector, parse_selector
from cluster.api.meta import Key, called, from_time
from cluster.api.names import dns1035_label_problems, dns1123_label_problems
from cluster.master import service_watch, watch_stream
from cluster.master.actor import WriterActor
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.answers import get_response
from cluster.master.authorization import (
    authorize_call,
    authorize_get,
    authorize_heartbeat,
    authorize_name,
    authorize_selection,
    authorize_write,
    is_unrestricted,
)
from cluster.master.customs import Customs
from cluster.master.forwarding import Forwarding, Peer
from cluster.master.heartbeats import Heartbeats
from cluster.master.known import Facts, Prefixes
from cluster.master.leadership import Leadership
from cluster.master.operations import Writer
from cluster.master.paging import Asked, Place, Snapshots, page, read_token, write_token
from cluster.master.travel import TimeTravel
from cluster.master.watch_stream import reader_is_slow
from cluster.master.write_stream import Call, serve
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.servicer import END_STREAM, FORWARDED
from cluster.store.backup import Backups
from cluster.store.bundle import Bundle
from cluster.store.encoding import list_response
from cluster.store.interface import Unreachable
from cluster.store.store import Store
from cluster.store.watchers import Interest

_CLUSTER = "/cluster.pb.v1.Cluster/"
_INDEXED = {"Pod": "spec.nodeName", "CustomObject": "resource"}
"""What the index knows of a kind, besides names: see `cluster.api.meta.place_of`."""
_STATUS_S = 2.0
"""How long a question about the store's health may take."""


class ApiServer:
    """Implements `cluster.rpc.handlers.ClusterHandler`."""

    def __init__(
        self,
        store: Store,
        writer: WriterActor,
        heartbeats: Heartbeats,
        leadership: Leadership,
        forwarding: Forwarding,
        backups: Backups,
    ) -> None:
        self._store = store
        self._writer = writer
        self._heartbeats = heartbeats
        self._leadership = leadership
        self._forwarding = forwarding
        self._backups = backups
        self._of_this_term: set[Callable[[ApiError], None]] = set()
        """How to end the streams that this master serves because it leads."""
        self._snapshots = Snapshots()
        self._known = Facts(store, Prefixes())
        self._customs = Customs()
        self._travel = TimeTravel(store, self.write)

    def complete(self, error: ApiError) -> None:
        """An error that leaves says which store says so, and where it is; what was handed on says so already."""
        if not error.store_id:
            error.store_id, error.revision = self._store.store_id, self._store.revision

    def end_term(self, error: ApiError) -> None:
        """Ends the streams that only a leader serves."""
        self._heartbeats.end(error)
        for end in list(self._of_this_term):
            end(error)

    # --- reading

    async def get(self, identity: Identity, request: wire.GetRequest) -> bytes:
        """One object, now or as it was. Raises NotFound, Forbidden, BadRequest, Expired, StoreRewound, Unavailable."""
        kind = kind_named(request.kind)
        # First whether it may read any: who may not learns nothing about what exists.
        authorize_write(identity, "get", kind.name, None, None, self._known)
        store, key = self._store, self._key(kind, request)
        authorize_name(identity, kind.name, key, self._pods_of)
        revision = await self._as_of(request)
        if revision is None:
            version, revision = store.get(key), store.revision
        else:
            version = await store.get_at(revision, key)
        if version is None:
            raise NotFound(f"{called(key)} not found")
        authorize_get(identity, kind.name, version.parse(), self._known)
        return get_response(version, revision, store.store_id)

    async def list(self, identity: Identity, request: wire.ListRequest) -> bytes:
        """A page of one snapshot. Raises Forbidden, BadRequest, Expired, StoreRewound, Unavailable."""
        kind = kind_named(request.kind)
        interest = self._interest(identity, "list", kind, request)
        if request.limit < 0:
            raise BadRequest(f"limit must not be negative, but is {request.limit}")
        store = self._store
        token, after = getattr(request, "continue"), None
        if token:
            if request.HasField("revision") or request.HasField("time"):
                raise BadRequest("a continue token and a revision or time cannot be given together")
            place = read_token(token, kind.name)
            if place.store_id != store.store_id:
                raise StoreRewound(f"this is store {store.store_id}, the token is of {place.store_id}; begin again")
            revision, after = place.revision, place.after
        else:
            asked = await self._as_of(request)
            revision = store.revision if asked is None else asked
        show = Asked(store.store_id, revision, kind.name, interest.namespace, interest.node)
        now_s = store.now()
        versions = self._snapshots.find(show, now_s) if after is not None and revision >= store.oldest else None
        if versions is None:
            versions = await store.list_at(revision, show.kind, show.namespace, show.node)
        found = page(versions, request.limit, after, interest.matches)
        if found.last is not None:
            self._snapshots.keep(show, versions, now_s)
        return list_response(
            [(kind.name, version.data) for version in found.versions],
            revision,
            store.store_id,
            write_token(Place(revision, found.last, store.store_id)) if found.last is not None else "",
            found.remaining,
        )

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncGenerator[bytes, None]:
        """See `Store.watch`. Raises Forbidden, BadRequest, Expired, StoreRewound, Unavailable."""
        interest, after = self._wish(identity, request)
        if after is None and not request.allow_stale:
            await self._store.barrier()
        batches = self._store.watch(
            interest,
            after=after,
            initial_state=request.initial_state,
            store_id=request.store_id,
            interrupt=END_STREAM.get(),
        )
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    async def watch_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WatchCalls]
    ) -> AsyncGenerator[bytes, None]:
        """See `watch_stream.serve`; each watch is served, or refused, as `watch` would."""
        end = END_STREAM.get()
        bundle = self._store.bundle(None if end is None else lambda error: end(reader_is_slow(error)))
        answers = watch_stream.serve(
            bundle, lambda *asked: self._begin_watch(identity, *asked), requests, self.complete
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    def _begin_watch(self, identity: Identity, bundle: Bundle, number: int, request: wire.WatchRequest) -> None:
        interest, after = self._wish(identity, request)
        bundle.add(
            number,
            interest,
            after=after,
            initial_state=request.initial_state,
            store_id=request.store_id,
            fresh=not request.allow_stale,
        )

    def _wish(self, identity: Identity, request: wire.WatchRequest) -> tuple[Interest, int | None]:
        """What a watch asks for, and after which revision (None: from now on). Raises BadRequest, Forbidden."""
        interest = self._interest(identity, "watch", kind_named(request.kind), request)
        if request.initial_state and request.HasField("after_revision"):
            raise BadRequest("initial_state and after_revision cannot be given together")
        return interest, request.after_revision if request.HasField("after_revision") else None

    async def resolve(self, identity: Identity, request: wire.ResolveRequest) -> wire.ResolveResponse:
        """Who is behind a service now. Raises NotFound, Forbidden, Unavailable."""
        namespace, name = self._service_asked_for(identity, "get", request)
        if not request.allow_stale:
            await self._store.barrier()
        service = service_watch.look(self._store.get, namespace, name)
        if service is None:
            raise NotFound(f'services "{name}" not found')
        return wire.ResolveResponse(service=service, revision=self._store.revision, store_id=self._store.store_id)

    async def watch_service(
        self, identity: Identity, request: wire.ResolveRequest
    ) -> AsyncGenerator[wire.ServiceUpdate, None]:
        """See `service_watch.serve`. Raises Forbidden, Expired, Unavailable."""
        namespace, name = self._service_asked_for(identity, "watch", request)
        store, bundle = self._store, self._store.bundle(END_STREAM.get())
        for number, kind in enumerate(service_watch.WATCHED):
            one = wire.WatchRequest(kind=kind, namespace=namespace, field_selector=f"metadata.name={name}")
            bundle.add(number, self._wish(identity, one)[0], fresh=not request.allow_stale)
        updates = service_watch.serve(
            bundle,
            lambda: service_watch.look(store.get, namespace, name),
            lambda: (store.store_id, store.revision),
        )
        async with aclosing(updates):
            async for update in updates:
                yield update

    @staticmethod
    def _service_asked_for(identity: Identity, verb: str, request: wire.ResolveRequest) -> tuple[str, str]:
        """Its namespace and name, if this identity may read services and who is behind them. Raises BadRequest,
        Forbidden."""
        for kind in service_watch.WATCHED:
            if not is_unrestricted(identity, verb, kind):
                raise Forbidden(f"{identity} may not {verb} all {kind}, and so it may not resolve them")
        namespace = request.namespace or DEFAULT_NAMESPACE
        if dns1035_label_problems(request.name) or dns1123_label_problems(namespace):
            raise BadRequest(f'"{request.name}" in "{namespace}" cannot be the name of a service')
        return namespace, request.name

    async def _as_of(self, request: wire.GetRequest | wire.ListRequest) -> int | None:
        """The revision that is asked for, None: now; and now is as new as the log, unless stale answers are allowed."""
        if request.HasField("revision"):
            if request.HasField("time"):
                raise BadRequest("a revision and a time cannot be given together")
            if request.revision < 0:
                raise BadRequest(f"revision must not be negative, but is {request.revision}")
            return request.revision
        if not request.allow_stale:
            await self._store.barrier()
        if request.HasField("time"):
            return await self._store.revision_at(from_time(request.time))
        return None

    # --- writing

    async def _leader(self) -> Peer | None:
        """Who is to be asked for what only the leader does; None: nobody else. Raises Unavailable."""
        if self._leadership.leads:
            return None
        if FORWARDED.get():
            raise Unavailable("this master does not lead, or no more; nothing was written; try again")
        return await self._forwarding.leader()

    async def write(self, identity: Identity, request: wire.WriteRequest) -> bytes:
        """See `Commands`. Raises Overloaded, Unavailable, BadRequest, Invalid."""
        leader = await self._leader()
        if leader is not None:
            return await leader.write(identity, request)
        return await self._writer.write(request, _by(identity, request))

    async def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncGenerator[bytes, None]:
        """See `write_stream.serve`; each call is answered as `write` would answer it."""
        leader = await self._leader()
        if leader is not None:
            answers = leader.write_stream(identity, requests)
        else:
            writer = Writer(identity)
            answers = serve(lambda request, call: self._begin(writer, request, call), requests, self.complete)
        with self._in_this_term(leader):
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

    def _begin(self, writer: Writer, request: wire.WriteRequest, call: Call) -> None:
        self._writer.begin(request, writer if not request.HasField("cause") else _by(writer.identity, request), call)

    @contextmanager
    def _in_this_term(self, leader: Peer | None) -> Iterator[None]:
        """While a stream is served because this master leads: it ends with the term, so that its client looks for the
        next leader."""
        end = END_STREAM.get()
        if leader is not None or end is None:
            yield
            return
        self._of_this_term.add(end)
        try:
            yield
        finally:
            self._of_this_term.discard(end)

    # --- time travel

    async def history(self, identity: Identity, request: wire.HistoryRequest) -> wire.HistoryResponse:
        """See `TimeTravel`."""
        authorize_call(identity, _CLUSTER + "History")
        return await self._travel.history(request)

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        """See `TimeTravel`. It writes as its caller, by the rules of `write`."""
        authorize_call(identity, _CLUSTER + "Undo")
        leader = await self._leader()
        if leader is not None:
            return await leader.undo(identity, request)
        return await self._travel.undo(identity, request)

    async def trace(self, identity: Identity, request: wire.TraceRequest) -> wire.TraceResponse:
        """See `TimeTravel`."""
        authorize_call(identity, _CLUSTER + "Trace")
        return await self._travel.trace(request)

    async def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncGenerator[wire.HeartbeatResponse, None]:
        """Notes what it hears; see `hear`. Answers the first request, and those that name an unknown node."""
        authorize_call(identity, _CLUSTER + "Heartbeat")
        leader = await self._leader()
        with self._in_this_term(leader):
            if leader is not None:
                async with aclosing(leader.heartbeat(identity, requests)) as answers:
                    async for answer in answers:
                        yield answer
                return
            first = True
            async for request in requests:
                if not self._leadership.leads:
                    raise Unavailable("this master leads no more; connect again")
                answer = self.hear(identity, request)
                if first or answer.unknown_nodes:
                    first = False
                    yield answer

    def hear(self, identity: Identity, request: wire.HeartbeatRequest) -> wire.HeartbeatResponse:
        """Notes that nodes are alive. Raises Forbidden if one of them is not the caller's; then none is noted."""
        authorize_call(identity, _CLUSTER + "Heartbeat")
        for heartbeat in request.heartbeats:
            authorize_heartbeat(identity, heartbeat.node, self._known)
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
        leader = await self._leader()
        batches = self._heartbeats.watch() if leader is None else leader.watch_heartbeats(identity, request)
        async with aclosing(batches):
            async for batch in batches:
                yield batch

    async def store_status(self, identity: Identity, request: wire.StoreStatusRequest) -> wire.StoreStatusResponse:
        """How this master's store is, as far as this master knows by itself. Answers whatever is wrong."""
        authorize_call(identity, _CLUSTER + "StoreStatus")
        store, journal = self._store, self._store.journal
        problems = list(journal.problems)
        try:
            async with asyncio.timeout(_STATUS_S):
                leader = await journal.leader()
        except (Unreachable, TimeoutError) as error:
            leader = ""
            problems.append(f"Unreachable: who leads is not known: {error or 'no answer'}")
        return wire.StoreStatusResponse(
            store_id=store.store_id,
            revision=store.revision,
            oldest_revision=store.oldest,
            engine=journal.engine,
            engine_version=journal.version,
            leader=self._leadership.leads,
            leader_address=leader,
            problems=problems,
            watches=store.watchers,
        )

    async def backup(self, identity: Identity, request: wire.BackupRequest) -> AsyncGenerator[wire.BackupChunk, None]:
        """See `Backups.run`. Any master makes one, whoever leads."""
        authorize_call(identity, _CLUSTER + "Backup")
        async with aclosing(self._backups.run()) as pieces:
            async for piece in pieces:
                yield wire.BackupChunk(data=piece)

    def _key(self, kind: Kind, request: wire.GetRequest) -> Key:
        """The object that is asked for. Raises BadRequest, Invalid, NotFound."""
        namespace = request.namespace
        if kind.message is core.CustomObject:
            if request.HasField("revision") or request.HasField("time"):
                # Whether it has a namespace is said by its definition, which may have gone since.
                version = self._store.get(Key("CustomResourceDefinition", "", request.name.partition("/")[0]))
                if version is None:
                    return Key(kind.name, namespace or DEFAULT_NAMESPACE, request.name)
            return self._customs.key(self._store, namespace, request.name)
        return Key(
            kind.name, _namespace(kind, namespace) or (DEFAULT_NAMESPACE if kind.namespaced else ""), request.name
        )

    def _pods_of(self, namespace: str, node: str) -> Iterator[core.Pod]:
        for version in self._store.state.list("Pod", namespace, node):
            pod = version.parse()
            assert isinstance(pod, core.Pod)
            yield pod

    def _selectable(self, kind: Kind, selector: str) -> Sequence[str]:
        """The fields that a selector of objects of a kind may name because the kind's definition says so."""
        resource = asked_for("resource", selector) if selector and kind.message is core.CustomObject else ""
        try:
            return self._customs.definition(self._store, resource).selectable if resource else ()
        except NotFound:
            return ()  # then there is nothing of it, either

    def _interest(
        self, identity: Identity, verb: str, kind: Kind, request: wire.ListRequest | wire.WatchRequest
    ) -> Interest:
        """What a list or watch asks for, if this identity may. Raises BadRequest, Forbidden."""
        more = self._selectable(kind, request.field_selector)
        fields = parse_field_selector(kind.name, request.field_selector, more)
        labels = parse_selector(request.label_selector)
        namespace = _namespace(kind, request.namespace)
        authorize_selection(identity, verb, kind.name, namespace, fields.equals, labels.equals, self._known)
        # Of pods the index knows those of a node, of objects of kinds that users define those of a definition.
        node = fields.equals.get(_INDEXED.get(kind.name, ""), "")
        name = fields.equals.get("metadata.name", "") if verb == "watch" else ""
        asked = len(fields.terms)
        if name and kind.message is core.CustomObject:
            name, node, asked = (f"{node}/{name}", "", asked - 1) if node else ("", "", asked)
        elif node:
            name = ""
        matches = _matcher(labels, fields, by_index=bool(node or name) and asked == 1)
        selector = f"{request.label_selector}\n{request.field_selector}" if matches is not None else ""
        return Interest(kind.name, namespace, node, name, selector, matches)


def _by(identity: Identity, request: wire.WriteRequest) -> Writer:
    return Writer(identity, request.cause if request.HasField("cause") else None)


def _matcher(labels: Selector, fields: FieldSelector, *, by_index: bool) -> Callable[[AnyObject], bool] | None:
    """What selectors ask of an object, beyond what the index answers (`by_index`: the fields); None: nothing."""
    by_labels, by_fields = not labels.is_empty, not fields.is_empty and not by_index
    if by_labels and by_fields:
        return lambda obj: labels.matches(obj.metadata.labels) and fields.matches(obj)
    if by_labels:
        return lambda obj: labels.matches(obj.metadata.labels)
    return fields.matches if by_fields else None


def _namespace(kind: Kind, namespace: str) -> str:
    if namespace and not kind.namespaced:
        raise Invalid(f"{kind.plural} have no namespace")
    return namespace
