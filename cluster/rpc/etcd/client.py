"""A client of etcd (version 3) for as much of it as a replicated log needs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.rpc.etcd.model import (
    Alarm,
    Compare,
    DeleteResult,
    Get,
    GetResult,
    Lease,
    LeaseStatus,
    Member,
    Operation,
    PutResult,
    Status,
    TxnResult,
)
from cluster.rpc.etcd.watch import Watch
from cluster.rpc.identity import Credentials

Failpoint = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How patient the client is. Seconds."""

    try_s: float = 1.0
    """A read that one endpoint has not answered by then is asked of the next one; so is a connection."""
    read_s: float = 5.0
    """A read fails (Unreachable) after this, if the call gives no timeout of its own."""
    write_s: float = 3.0
    """A change is given up (OutcomeUnknown) after this, if the call gives no timeout of its own."""
    quiet_s: float = 2.0
    """A watch that has heard nothing for so long asks its endpoint whether it is still a part of the cluster."""


class EtcdClient:
    """Connections to the members of one etcd cluster. Made when first used; must be closed."""

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: Credentials | None = None,
        *,
        settings: EtcdSettings | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        failpoint: Failpoint | None = None,
    ) -> None:
        """`endpoints` are "host:port", asked in this order. Without credentials, no TLS. `failpoint` is called with
        the names in FAILPOINTS, before and after each call that crosses the network."""
        raise NotImplementedError

    async def get(self, get: Get, *, timeout_s: float | None = None) -> GetResult:
        """Reads. Asked of one endpoint after the other until the time is up. Raises Compacted, Unreachable, ..."""
        raise NotImplementedError

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        descending: bool = False,
        timeout_s: float | None = None,
    ) -> GetResult:
        """`get` with its fields as arguments."""
        raise NotImplementedError

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        """One transaction. Sent once. Raises OutcomeUnknown, and Unreachable, NoSpace, TooLarge, ...: not done."""
        raise NotImplementedError

    async def put(self, key: bytes, value: bytes, *, lease: int = 0, timeout_s: float | None = None) -> PutResult:
        raise NotImplementedError

    async def delete(self, key: bytes, range_end: bytes = b"", *, timeout_s: float | None = None) -> DeleteResult:
        raise NotImplementedError

    async def compact(self, revision: int, *, physical: bool = False, timeout_s: float | None = None) -> None:
        """Raises Compacted if that revision is compacted already."""
        raise NotImplementedError

    def watch(self, key: bytes, range_end: bytes = b"", *, start_revision: int) -> Watch:
        """`async with client.watch(...) as watch: async for batch in watch: ...`"""
        raise NotImplementedError

    async def lease_grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease:
        raise NotImplementedError

    async def lease_keep_alive(self, lease_id: int, *, timeout_s: float | None = None) -> int:
        """Renews once; the seconds that it now has. Asked of one endpoint after the other until the time is up.
        Raises LeaseNotFound, Unreachable (it may have been renewed)."""
        raise NotImplementedError

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        """Raises LeaseNotFound, OutcomeUnknown."""
        raise NotImplementedError

    async def lease_time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout_s: float | None = None
    ) -> LeaseStatus:
        """Raises LeaseNotFound."""
        raise NotImplementedError

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status:
        """Of the member that is being used, or of a named one."""
        raise NotImplementedError

    async def alarms(self, *, timeout_s: float | None = None) -> Sequence[tuple[int, Alarm]]:
        """Which alarms are raised, each with its member's id."""
        raise NotImplementedError

    async def disarm(self, member_id: int, alarm: Alarm, *, timeout_s: float | None = None) -> None:
        raise NotImplementedError

    async def members(self, *, timeout_s: float | None = None) -> Sequence[Member]:
        raise NotImplementedError

    async def close(self) -> None:
        """Ends everything, watches too. Twice is fine; afterwards every use raises Unreachable."""
        raise NotImplementedError
