"""What everyone may ask of a cluster: the one client interface, whatever carries it.

Actors hold a `ClusterClient` and never learn whether it is gRPC to a master in another process
(`cluster.client.grpc_client`) or a master in this one (tests, simulation). One contract suite
(`tests/contract`) runs against every implementation.

Errors are those of `cluster.api.errors`. `Unavailable` and `DeadlineExceeded` leave open whether a write happened;
every other error says that it did not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from cluster.api.errors import ApiError
from cluster.api.kinds import AnyObject
from cluster.client.resolved import ServiceView
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

T = TypeVar("T", bound=AnyObject)

DEFAULT_TIMEOUT_S = 10.0
"""Deadline of a unary call when the caller names none."""


class EventType(Enum):
    """What a watch event says; the names of wire.WatchEvent.Type."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    INITIAL_STATE_END = "INITIAL_STATE_END"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One change. `object` is None for BOOKMARK and INITIAL_STATE_END only; it must not be modified."""

    type: EventType
    revision: int
    object: T | None


@dataclass(frozen=True, slots=True)
class ListResult(Generic[T]):
    """Objects of one snapshot, sorted by namespace and name."""

    items: list[T]
    revision: int
    continue_token: str = ""
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class OperationOutcome:
    """What became of one operation of a write: an error, or the object as it is now."""

    error: ApiError | None
    object: AnyObject | None
    """After the operation; for a delete, the last content."""
    unchanged: bool = False

    def unwrap(self) -> AnyObject:
        """The object. Raises the operation's error."""
        if self.error is not None:
            raise self.error
        assert self.object is not None
        return self.object


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What became of a write: one outcome per operation, in order."""

    outcomes: list[OperationOutcome]
    revision: int


class WatchStream(Protocol[T]):
    """What a watch yields: batches of events, and which store they come from."""

    @property
    def store_id(self) -> str:
        """The store that answers; empty until the first batch. Revisions of two stores cannot be compared."""
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[T]]]: ...

    async def __anext__(self) -> Sequence[WatchEvent[T]]: ...


class WatchListener(Protocol[T]):
    """Who is told by calls what a watch has to say. Neither call may wait or raise."""

    def heard(self, batch: Sequence[WatchEvent[T]], store_id: str) -> None:
        """A batch, as a `WatchStream` would yield it, and the store that it comes from."""
        ...

    def ended(self, error: ApiError) -> None:
        """The watch is over; nothing more is heard. Another may be begun at once."""
        ...


class HeartbeatLine(Protocol):
    """Says to the master that nodes are alive. After an error the line is dead; open another."""

    async def beat(
        self, heartbeats: Sequence[wire.NodeHeartbeat], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Sequence[str]:
        """Says that these nodes are alive, and returns names of nodes that have no Node object and must register.

        The first beat of a line waits for the master's answer. Later ones only send, and return what the master has
        said since the beat before: that a node is unknown is known one or two beats late. Raises what ended the line
        (Unavailable, Forbidden ...), or DeadlineExceeded.
        """
        ...


class ClusterClient(Protocol):
    """A connection to a cluster. Safe to use from many tasks of one event loop.

    What is read is never older than what was written before, whoever is asked. With `allow_stale` the master that is
    asked answers from what it knows, without asking whether there is something newer: for when etcd, or the leading
    master, cannot be reached. It may then be old, and two reads at two masters may go back in time. It makes no
    difference where there is a single master, nor for a `revision` or a page after the first.
    """

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
        """The object of that name: now, as of `revision`, or as of `time_s` (seconds since 1970, the master's clock).

        Raises NotFound if there is, or was, none; Expired for a past that is no longer kept, StoreRewound for a
        revision that has not happened.
        """
        ...

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
        """Objects of one kind, in all namespaces if none is named, as one snapshot: now, as of `revision`, or as of
        `time_s` (seconds since 1970, the master's clock).

        With `limit`, a page of at most that many, and a token for the next page of the same snapshot; without, all
        of them (fetched in pages underneath). Raises Expired when the token or the revision is no longer kept.
        """
        ...

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
        """Changes in the order of revisions, in batches; one revision is never split over two batches.

        `async with client.watch(core.Pod, initial_state=True) as batches: async for batch in batches: ...`

        With `initial_state`, first an ADDED per object, then INITIAL_STATE_END, then the changes; with
        `after_revision`, every change with a greater revision; with neither, from now on. `store_id` says of which
        store `after_revision` is: of another one, or one that was restored, it means something else. The iterator ends
        by raising: Expired (list again; with a `last_revision`, the reader was only too slow, and may go on after it),
        StoreRewound (list again), Unavailable (connect again, from the last revision seen), Forbidden. Leaving the
        context ends the watch at the server. A watch that hears nothing, not even a bookmark, for 15 s raises
        Unavailable.
        """
        ...

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
        """The same as `watch`, told by calls, and over one stream for all that this client listens to: for a process
        that watches for thousands. Returns what ends it; called twice, or when it has ended, that does nothing.

        What `watch` would raise is told to the listener. All that a client listens to breaks together: when its stream
        does, and when the process is too slow for it. Raises Unavailable if the client is closed.
        """
        ...

    async def resolve(
        self,
        name: str,
        namespace: str = "",
        *,
        allow_stale: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ServiceView:
        """Who is behind the service of that name, in the namespace "default" if none is named. Raises NotFound."""
        ...

    def watch_service(
        self, name: str, namespace: str = "", *, allow_stale: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[ServiceView]]:
        """Who is behind the service, at first and after each change; also while there is none (`exists`).

        `async with client.watch_service("web") as views: async for view in views: ...`

        Each view is the whole set, with the revision up to which it knows everything; who is slow gets the newest, and
        not each one before it. Ends like `watch`; who begins anew has missed nothing.
        `cluster.client.balancing` does that, and chooses among the endpoints.
        """
        ...

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        """Applies the operations in order, each for itself, or all or nothing if `atomic`.

        An error of one operation is in its outcome; only what hits the whole call (Unavailable, Forbidden ...) is
        raised. Build operations with `cluster.client.operations`.
        """
        ...

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
        """What became of an object, newest first: its kept changes after one revision and up to another, at most
        `limit` (0: 100), or fewer if they are large. `without_status`: not the changes of the status alone.

        What was compacted may show as one change without its fields. Of secret values, words in their place. Raises
        NotFound if nothing of that name is kept, StoreRewound for a revision that has not happened.
        """
        ...

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
        """Writes labels, annotations and specification as they were at a revision; by default as they were before the
        last change of them. An object that is gone is made again.

        Raises NotFound, Invalid (what cannot be changed, or nothing to undo), Conflict (being deleted, or changed
        meanwhile), Expired (no longer kept).
        """
        ...

    async def trace(
        self, kind: type[T], name: str, namespace: str = "", *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> wire.TraceResponse:
        """How an object came to be what it is: what caused what, in the order of revisions. Raises NotFound."""
        ...

    def heartbeats(self) -> AbstractAsyncContextManager[HeartbeatLine]:
        """A line on which to say that nodes are alive, for as long as they are.

        `async with client.heartbeats() as line: while True: await line.beat([...]); await clock.sleep(0.5)`
        """
        ...

    def watch_heartbeats(self) -> AbstractAsyncContextManager[AsyncIterator[wire.HeartbeatBatch]]:
        """Which nodes were heard of, in batches; see the proto. Ends like `watch`."""
        ...

    async def close(self) -> None:
        """Ends all watches and calls. Twice is fine."""
        ...
