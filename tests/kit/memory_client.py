"""A whole cluster's state in memory, and a `ClusterClient` to it: for unit tests of everything that talks to a cluster.

    cluster = MemoryCluster(clock=clock, rng=random.Random(1))
    client = cluster.client("controllers")
    cluster.put(pod)                      # set the scene, past all rules
    await client.write([create(rc)])      # by the rules; tests/contract proves that they are the master's
    cluster.hold_watches()                # from here on caches are stale, until release_watches()
    cluster.break_watches()               # every watch raises Unavailable, as when the master restarts
    cluster.fail_next(Unavailable("no"))  # the next call of any client raises it
    cluster.on_write = lambda actor, operations: ...   # look at writes, or raise to refuse them

Everything happens on the caller's event loop, without threads, and each call takes effect at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar, cast

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, NotFound, StoreRewound, Unavailable
from cluster.api.kinds import AnyObject, kind_of, kind_of_type
from cluster.api.meta import Key
from cluster.api.resolved import resolved
from cluster.client.interface import (
    DEFAULT_TIMEOUT_S,
    HeartbeatLine,
    ListResult,
    OperationOutcome,
    WatchListener,
    WatchStream,
    WriteOutcome,
)
from cluster.client.resolved import ServiceView, absent, view_of
from cluster.master.travel import TimeTravel
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from tests.kit.memory_past import MemoryPast, Travels, write_response
from tests.kit.memory_rules import own_copy
from tests.kit.memory_store import MemoryStore
from tests.kit.memory_watch import Filter, MemoryWatch

T = TypeVar("T", bound=AnyObject)


class MemoryCluster:
    """The state, its clients, and the faults that a test injects."""

    def __init__(self, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.rng = rng or random.Random(0)
        self.store = MemoryStore(self.clock, self.rng, new_uid(self.rng))
        self.on_write: Callable[[str, Sequence[wire.Operation]], None] | None = None
        """Called before each write with the writer and its operations; what it raises is what the writer gets."""
        self.writes: list[tuple[str, list[wire.Operation]]] = []
        """Every write that was asked for, in order."""
        self.heartbeats: dict[str, wire.NodeHeartbeat] = {}
        self._failures: list[ApiError] = []
        self.changed = asyncio.Event()
        self.epoch = 0
        self.held = False
        self.bookmarks = 0

    def client(self, identity: str = "admin") -> MemoryClient:
        """A client that writes under this name."""
        return MemoryClient(self, identity)

    def put(self, obj: T) -> T:
        """Stores an object as it is, past all rules, and returns what is stored."""
        stored = self.store.put(obj)
        self._notify()
        return stored

    def remove(self, obj: AnyObject) -> None:
        """Takes an object away, past all rules."""
        self.store.remove(Key(kind_of(obj).name, obj.metadata.namespace, obj.metadata.name))
        self._notify()

    def objects(self, kind: type[T]) -> list[T]:
        """What is stored of a kind, sorted by namespace and name."""
        found = [obj for obj in self.store.objects.values() if isinstance(obj, kind)]
        return sorted(found, key=lambda obj: (obj.metadata.namespace, obj.metadata.name))

    def find(self, kind: type[T], name: str, namespace: str = "default") -> T | None:
        """The stored object of that name, or None."""
        row = kind_of_type(kind)
        found = self.store.objects.get(Key(row.name, namespace if row.namespaced else "", name))
        return cast("T | None", found)

    def hold_watches(self) -> None:
        """From now on no watch tells anything, so that every cache grows stale."""
        self.held = True

    def release_watches(self) -> None:
        """Watches catch up."""
        self.held = False
        self._notify()

    def break_watches(self) -> None:
        """Every open watch raises Unavailable."""
        self.epoch += 1
        self._notify()

    def replace_store(self) -> None:
        """The cluster is rebuilt from nothing: no objects, other revisions, another store_id. Watches break."""
        self.store = MemoryStore(self.clock, self.rng, new_uid(self.rng))
        self.break_watches()

    def compact(self) -> None:
        """Forgets the history: a watch from before, and a list of the past, is answered with Expired."""
        self.store.compacted = self.store.revision
        self.store.history.clear()

    def bookmark(self) -> None:
        """Sends a bookmark to every watch that has nothing else to tell."""
        self._notify(bookmark=True)

    def fail_next(self, error: ApiError, times: int = 1) -> None:
        """The next calls of any client (get, list, write, heartbeat, or the start of a watch) raise `error`."""
        self._failures.extend([error] * times)

    def resolved(self, namespace: str, name: str) -> wire.ResolvedService | None:
        """Who is behind a service; None if there is none of that name."""
        service = self.find(core.Service, name, namespace)
        return None if service is None else resolved(service, self.find(core.Endpoints, name, namespace))

    async def service_updates(
        self, namespace: str, name: str, is_open: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[wire.ServiceUpdate, None]:
        """At first, and after each change of the service, who is behind it; while `is_open`."""
        self.check()
        told: wire.ResolvedService | None = None
        begun, epoch = False, self.epoch
        while True:
            changed = self.changed
            if self.epoch != epoch or not is_open():
                raise Unavailable("the connection broke")
            found = None if self.held and begun else self.resolved(namespace, name)
            if not begun or (found != told and not self.held):
                begun, told = True, found
                update = wire.ServiceUpdate(absent=True) if found is None else wire.ServiceUpdate(service=found)
                update.revision, update.store_id = self.store.revision, self.store.store_id
                yield update
            else:
                await changed.wait()

    # --- for MemoryClient

    def check(self) -> None:
        if self._failures:
            raise self._failures.pop(0)

    def _notify(self, bookmark: bool = False) -> None:
        self.bookmarks += bookmark
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def write(
        self,
        actor: str,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool,
        cause: core.Cause | None,
        dry_run: bool,
    ) -> WriteOutcome:
        self.check()
        self.writes.append((actor, list(operations)))
        if self.on_write is not None:
            self.on_write(actor, operations)
        written = self.store.write(actor, operations, atomic=atomic, cause=cause, dry_run=dry_run)
        self._notify()
        # What a caller gets is its own, as it would be from the wire.
        return WriteOutcome(
            [
                OperationOutcome(o.error, None if o.object is None else own_copy(o.object), o.unchanged)
                for o in written.outcomes
            ],
            written.revision,
        )

    def travel(self, actor: str) -> TimeTravel:
        """History, undo and trace as the master does them, on what is kept here."""

        async def write(identity: Identity, request: wire.WriteRequest) -> bytes:
            cause = request.cause if request.HasField("cause") else None
            written = self.write(actor, request.operations, atomic=request.atomic, cause=cause, dry_run=request.dry_run)
            return write_response(written, self.store.store_id).SerializeToString()

        self.check()
        return TimeTravel(MemoryPast(self.store), write)

    def beat(self, heartbeats: Sequence[wire.NodeHeartbeat]) -> list[str]:
        """Notes them, and returns the names of nodes that do not exist."""
        self.check()
        for heartbeat in heartbeats:
            said = wire.NodeHeartbeat()
            said.CopyFrom(heartbeat)  # as on a wire: the caller may use its message again
            self.heartbeats[heartbeat.node] = said
        self._notify()
        return [beat.node for beat in heartbeats if self.find(core.Node, beat.node) is None]


class MemoryClient(Travels):
    """One identity's `ClusterClient`."""

    def __init__(self, cluster: MemoryCluster, identity: str) -> None:
        self._cluster = cluster
        self.identity = identity
        self.closed = False
        self._listening = Tasks("listening")

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
        self._check()
        row, store = kind_of_type(kind), self._cluster.store
        at = store.revision_at(time_s) if time_s is not None else revision
        return cast(T, own_copy(store.get(row, namespace or "default", name, at)))

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
        self._check()
        store, offset = self._cluster.store, 0
        at = store.revision_at(time_s) if time_s is not None else revision
        if continue_token:
            try:
                at, offset = (int(part) for part in continue_token.split(":"))
            except ValueError as error:
                raise BadRequest(f"{continue_token!r} is not a continue token of this cluster") from error
        if at is None:
            at = store.revision
        store.check_kept(at)
        wanted = Filter(kind_of_type(kind), namespace, label_selector, field_selector)
        found = [obj for obj in store.at(at).values() if wanted.matches(obj)]
        found.sort(key=lambda obj: (obj.metadata.namespace, obj.metadata.name))
        page = found[offset : offset + limit] if limit else found[offset:]
        remaining = len(found) - offset - len(page)
        token = f"{at}:{offset + len(page)}" if remaining else ""
        return ListResult([cast(T, own_copy(obj)) for obj in page], at, token, remaining)

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
        wanted = Filter(kind_of_type(kind), namespace, label_selector, field_selector)
        return self._watch(kind, wanted, after_revision, initial_state, store_id)

    @asynccontextmanager
    async def _watch(
        self, kind: type[T], wanted: Filter, after_revision: int | None, initial_state: bool, store_id: str
    ) -> AsyncIterator[WatchStream[T]]:
        self._check()
        known = self._cluster.store.store_id
        if after_revision is not None and store_id and store_id != known:
            raise StoreRewound(f"this is store {known}, not {store_id}: revisions mean something else here; list again")
        if initial_state and after_revision is not None:
            raise BadRequest("a watch begins with the initial state or after a revision, not both")
        yield MemoryWatch(self, self._cluster, wanted, after_revision, initial_state)

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
        if self.closed:
            raise Unavailable("the client is closed")

        async def tell() -> None:
            try:
                wanted = Filter(kind_of_type(kind), namespace, label_selector, field_selector)
                async with self._watch(kind, wanted, after_revision, initial_state, store_id) as batches:
                    async for batch in batches:
                        listener.heard(batch, batches.store_id)
            except ApiError as error:
                listener.ended(error)

        task = self._listening.spawn(tell(), name=f"listen to {kind.__name__}")

        def end() -> None:
            task.cancel()

        return end

    async def resolve(
        self,
        name: str,
        namespace: str = "",
        *,
        allow_stale: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ServiceView:
        self._check()
        found, store = self._cluster.resolved(namespace or "default", name), self._cluster.store
        if found is None:
            raise NotFound(f'services "{name}" not found')
        return view_of(found, store.revision, store.store_id)

    @asynccontextmanager
    async def watch_service(
        self, name: str, namespace: str = "", *, allow_stale: bool = False
    ) -> AsyncIterator[AsyncIterator[ServiceView]]:
        self._check()
        updates = self._cluster.service_updates(namespace or "default", name, lambda: not self.closed)

        async def views() -> AsyncGenerator[ServiceView, None]:
            async for update in updates:
                if update.HasField("service"):
                    yield view_of(update.service, update.revision, update.store_id)
                else:
                    yield absent(namespace or "default", name, update.revision, update.store_id)

        try:
            yield views()
        finally:
            await updates.aclose()

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        if self.closed:
            raise Unavailable("the client is closed")
        return self._cluster.write(self.identity, operations, atomic=atomic, cause=cause, dry_run=dry_run)

    def _travel(self) -> TimeTravel:
        if self.closed:
            raise Unavailable("the client is closed")
        return self._cluster.travel(self.identity)

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[HeartbeatLine]:
        yield _MemoryHeartbeats(self, self._cluster)

    @asynccontextmanager
    async def watch_heartbeats(self) -> AsyncIterator[AsyncIterator[wire.HeartbeatBatch]]:
        self._check()
        batches = self._heartbeat_batches()
        try:
            yield batches
        finally:
            await batches.aclose()

    async def _heartbeat_batches(self) -> AsyncGenerator[wire.HeartbeatBatch, None]:
        cluster, told = self._cluster, dict[str, int]()
        epoch = cluster.epoch
        while True:
            changed = cluster.changed
            if cluster.epoch != epoch or self.closed:
                raise Unavailable("the connection broke")
            news = [beat for node, beat in cluster.heartbeats.items() if told.get(node) != id(beat)]
            if news:
                told.update((beat.node, id(beat)) for beat in news)
                yield wire.HeartbeatBatch(heartbeats=news, store_id=cluster.store.store_id)
            else:
                await changed.wait()

    async def close(self) -> None:
        self.closed = True
        self._cluster._notify()

    def _check(self) -> None:
        if self.closed:
            raise Unavailable("the client is closed")
        self._cluster.check()


class _MemoryHeartbeats:
    """A line that is told at once which nodes are unknown."""

    def __init__(self, client: MemoryClient, cluster: MemoryCluster) -> None:
        self._client = client
        self._cluster = cluster

    async def beat(
        self, heartbeats: Sequence[wire.NodeHeartbeat], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Sequence[str]:
        if self._client.closed:
            raise Unavailable("the client is closed")
        return self._cluster.beat(heartbeats)
