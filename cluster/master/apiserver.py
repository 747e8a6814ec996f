"""The door: what each call of the service Cluster does. Authorises, translates, and leaves the work to others.

Reads are answered from the store's memory, with the bytes of the objects as they were written; only selectors look
inside (`asking.py`). Before a read, the end of the log is asked for, unless the caller allows stale answers, or asks
for a revision: that never changes.

What only the leader does (writes, heartbeats) is handed on to it, if this master is not the one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager

from cluster.api.errors import ApiError, BadRequest, NotFound, StoreRewound, Unavailable
from cluster.api.kinds import kind_named
from cluster.api.meta import Key, called, from_time
from cluster.master import service_watch, watch_stream
from cluster.master.actor import WriterActor
from cluster.master.answers import get_response
from cluster.master.asking import Asking
from cluster.master.authorization import (
    authorize_call,
    authorize_get,
    authorize_heartbeat,
    authorize_name,
    authorize_write,
)
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
from cluster.rpc.identity import Identity
from cluster.rpc.servicer import END_STREAM, FORWARDED
from cluster.store.backup import Backups
from cluster.store.bundle import Bundle
from cluster.store.encoding import list_response
from cluster.store.interface import Unreachable
from cluster.store.store import Store

_CLUSTER = "/cluster.pb.v1.Cluster/"
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
        self._asking = Asking(store, self._known)
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
        store, key = self._store, self._asking.key(kind, request)
        authorize_name(identity, kind.name, key, self._asking.pods_of)
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
        interest = self._asking.interest(identity, "list", kind, request)
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
        interest, after = self._asking.wish(identity, request)
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
        interest, after = self._asking.wish(identity, request)
        bundle.add(
            number,
            interest,
            after=after,
            initial_state=request.initial_state,
            store_id=request.store_id,
            fresh=not request.allow_stale,
        )

    async def resolve(self, identity: Identity, request: wire.ResolveRequest) -> wire.ResolveResponse:
        """Who is behind a service now. Raises NotFound, Forbidden, Unavailable."""
        namespace, name = self._asking.service(identity, "get", request)
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
        namespace, name = self._asking.service(identity, "watch", request)
        store, bundle = self._store, self._store.bundle(END_STREAM.get())
        for number, kind in enumerate(service_watch.WATCHED):
            one = wire.WatchRequest(kind=kind, namespace=namespace, field_selector=f"metadata.name={name}")
            bundle.add(number, self._asking.wish(identity, one)[0], fresh=not request.allow_stale)
        updates = service_watch.serve(
            bundle,
            lambda: service_watch.look(store.get, namespace, name),
            lambda: (store.store_id, store.revision),
        )
        async with aclosing(updates):
            async for update in updates:
                yield update

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


def _by(identity: Identity, request: wire.WriteRequest) -> Writer:
    return Writer(identity, request.cause if request.HasField("cause") else None)
