"""What the journal needs of a client of etcd; `cluster.rpc.etcd.EtcdClient` is one.

A protocol, so that the journal can be tried against an etcd in memory, on a virtual clock, that loses answers on
purpose (tests/unit/store/etcd/fake.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from cluster.rpc.etcd import (
    Alarm,
    ClusterChanged,
    Compare,
    Corrupt,
    EtcdError,
    Get,
    GetResult,
    Lease,
    Operation,
    PermissionDenied,
    Status,
    TxnResult,
    WatchBatch,
)
from cluster.store.interface import JournalFailed, StoreError, Unreachable


class Watching(Protocol):
    """See cluster.rpc.etcd.Watch."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def next(self, timeout_s: float) -> WatchBatch | None:
        """The next batch, or None if nothing came in time. Raises Compacted, ..."""
        ...

    def restart(self, reason: str) -> None:
        """Asks again, of another member, from where it is."""
        ...


class Etcd(Protocol):
    """See cluster.rpc.etcd.EtcdClient: the meaning of each call, and its errors."""

    async def get(self, get: Get, *, timeout_s: float | None = None) -> GetResult: ...

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult: ...

    def watch(self, key: bytes, range_end: bytes = b"", *, start_revision: int) -> Watching: ...

    async def lease_grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease: ...

    async def lease_keep_alive(self, lease_id: int, *, timeout_s: float | None = None) -> int: ...

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None: ...

    async def compact(self, revision: int, *, physical: bool = False, timeout_s: float | None = None) -> None: ...

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status: ...

    async def alarms(self, *, timeout_s: float | None = None) -> Sequence[tuple[int, Alarm]]: ...

    async def close(self) -> None: ...


def is_final(error: EtcdError) -> bool:
    """Asking again will not help."""
    return isinstance(error, (ClusterChanged, Corrupt, PermissionDenied))


def as_store_error(error: EtcdError, waited_s: float) -> StoreError:
    """What a read that failed means to the store."""
    if isinstance(error, (ClusterChanged, Corrupt)):
        return JournalFailed(f"the etcd below has changed: {error}")
    if isinstance(error, PermissionDenied):
        return Unreachable(f"etcd does not let this master in: {error}")
    return Unreachable(f"etcd did not answer within {waited_s:g} s: {error}")
