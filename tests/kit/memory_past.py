"""History, undo and trace of the in-memory cluster: the master's own code, on the history that is kept here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from cluster.api.errors import StoreRewound
from cluster.api.kinds import AnyObject, kind_of_type, wrap
from cluster.api.meta import Key, revision_of
from cluster.client.interface import DEFAULT_TIMEOUT_S, WriteOutcome
from cluster.master.travel import TimeTravel
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import to_status
from cluster.store.requests import Requests
from cluster.store.version import Record, Version
from tests.kit.memory_store import MemoryStore
from tests.kit.memory_transaction import Change

T = TypeVar("T", bound=AnyObject)


class MemoryPast:
    """A `cluster.master.history.Past`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    @property
    def store_id(self) -> str:
        return self._store.store_id

    @property
    def revision(self) -> int:
        return self._store.revision

    @property
    def oldest(self) -> int:
        return self._store.compacted

    @property
    def requests(self) -> Requests:
        return Requests()

    async def barrier(self) -> None:
        """There is nobody else who writes."""

    async def reach(self, revision: int) -> None:
        if revision > self.revision:
            raise StoreRewound(f"revision {revision} has not happened: this store is at {self.revision}")

    def get(self, key: Key) -> Version | None:
        obj = self._store.objects.get(key)
        return None if obj is None else Version(key, revision_of(obj), obj.SerializeToString(deterministic=True))

    async def read_key(self, key: Key, until: int, limit: int) -> Sequence[Record]:
        return [record for record in self._records(key) if record.revision <= until][:limit]

    def _records(self, key: Key) -> Iterator[Record]:
        """Newest first; what is compacted, as its last state."""
        oldest = self._store.objects.get(key)
        for change in reversed(self._store.history):
            if change.key == key:
                oldest = change.old
                yield _record(change)
        if oldest is not None:
            yield _row(key, oldest, previous=1, deleted=False, time_s=0.0)


def _record(change: Change) -> Record:
    obj = change.new if change.new is not None else change.last
    assert obj is not None
    previous = revision_of(change.old) if change.old is not None else 0
    return _row(change.key, obj, previous=previous, deleted=change.new is None, time_s=change.time_s)


def _row(key: Key, obj: AnyObject, *, previous: int, deleted: bool, time_s: float) -> Record:
    data = obj.SerializeToString(deterministic=True)
    return Record(revision_of(obj), 0, key.kind, key.namespace, key.name, previous, deleted, "", time_s, data)


def write_response(written: WriteOutcome, store_id: str) -> wire.WriteResponse:
    """What a write came to, as it travels."""
    response = wire.WriteResponse(revision=written.revision, store_id=store_id)
    for outcome in written.outcomes:
        result = response.results.add(status=to_status(outcome.error))
        if outcome.object is not None:
            result.object.CopyFrom(wrap(outcome.object))
        if outcome.unchanged:
            result.unchanged = True
    return response


class Travels:
    """The part of a `ClusterClient` about the past."""

    identity: str

    def _travel(self) -> TimeTravel:
        raise NotImplementedError

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
        return await self._travel().history(request)

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
            kind=kind_of_type(kind).name, namespace=namespace, name=name, to_revision=to_revision, dry_run=dry_run
        )
        return await self._travel().undo(Identity.parse(self.identity), request)

    async def trace(
        self, kind: type[T], name: str, namespace: str = "", *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> wire.TraceResponse:
        request = wire.TraceRequest(kind=kind_of_type(kind).name, namespace=namespace, name=name)
        return await self._travel().trace(request)
