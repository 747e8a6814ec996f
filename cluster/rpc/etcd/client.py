"""A client of etcd (version 3) for as much of it as a log that several masters share needs.

What it promises beyond passing messages on, because no existing client for asyncio does:

- The caller always knows whether a change may have been made (`errors`). A change is sent once, to a member that has
  just answered; until it is sent, the next member may be asked. Repeating it is the caller's business, who knows
  whether that is harmless.
- Reads, and what is harmless when done twice (asking for a lease, renewing one), are asked of one endpoint after the
  other until the caller's time is up, each for `try_s` at most. So a member that was suspended, or is cut off from the
  others, costs a second. All calls and watches stay with one endpoint as long as it answers (`rotation`).
- Every call has a deadline. A member without a leader is told to say so at once instead of waiting for one.
- Watches mend themselves, are bounded, and deliver complete revisions, in order, each once (`watch`).
- What answers is the same cluster for as long as the client lives, or ClusterChanged is raised.

Left out: user names and passwords (certificates say who is calling), and the parts of the API that nobody here needs.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock, SystemClock
from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc.etcd import codec
from cluster.rpc.etcd.endpoint import Endpoint
from cluster.rpc.etcd.errors import ClusterChanged, EtcdError, LeaseNotFound, OutcomeUnknown, Unreachable
from cluster.rpc.etcd.faults import SILENT
from cluster.rpc.etcd.model import (
    Alarm,
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Lease,
    LeaseStatus,
    Operation,
    Put,
    PutResult,
    Status,
    TxnResult,
)
from cluster.rpc.etcd.rotation import Rotation
from cluster.rpc.etcd.watch import Watch
from cluster.rpc.identity import Credentials

Failpoint = Callable[[str], None]

FAILPOINTS = tuple(f"etcd.{when}_{what}" for what in ("ask", "change", "watch") for when in ("before", "after"))
"""What `failpoint` is called with: before something is asked (again) or changed, and after the answer or its failure
has come; before a watch is made (again), and after each answer of it that was read."""

_ALARMS = {Alarm.NOSPACE: pb.NOSPACE, Alarm.CORRUPT: pb.CORRUPT}


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How patient the client is. Seconds."""

    try_s: float = 1.0
    """A read that one endpoint has not answered by then is asked of the next one. So is everything when a connection
    does not come about in this time. In the second round through all endpoints twice as much, and so on."""
    read_s: float = 5.0
    """A read fails (Unreachable) after this, if the call gives no timeout of its own."""
    write_s: float = 3.0
    """A change is given up (OutcomeUnknown) after this, if the call gives no timeout of its own."""
    quiet_s: float = 2.0
    """A watch that has heard nothing for so long asks its endpoint whether it is still a part of the cluster."""
    retry_first_s: float = 0.05
    """Pause after every endpoint has failed once, stretched at random by up to a half and doubled ..."""
    retry_max_s: float = 1.0
    """... up to this."""


class EtcdClient:
    """Connections to the members of one etcd cluster. Made when first used; must be closed.

    Cancelling a call leaves a change as open as OutcomeUnknown does.
    """

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
        """`endpoints` are "host:port", used in this order. Without credentials, no TLS; credentials whose certificate
        and key are empty (see `load_credentials`) identify nobody. `failpoint` is called with the names in FAILPOINTS.
        Raises ValueError if there is no endpoint."""
        self.settings = settings or EtcdSettings()
        self.clock = clock or SystemClock()
        self.rotation = Rotation(endpoints)
        self._rng = rng or random.Random()
        self._endpoints = {address: Endpoint(address, credentials) for address in endpoints}
        self._failpoint = failpoint
        self._cluster_id = 0
        self._watches: set[Watch] = set()
        self._closed = False

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def get(self, get: Get, *, timeout_s: float | None = None) -> GetResult:
        """Reads. Linearizable unless it is `serializable`.

        Raises Compacted, Refused (a revision that has not happened), Unreachable, PermissionDenied, ClusterChanged.
        """
        request = codec.range_request(get)
        # Without a leader, a member still answers what need not be new.
        leader = not get.serializable
        message = await self._ask("KV/Range", request, timeout_s, require_leader=leader)
        return codec.get_result(message)

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
        """`get`, with the fields of Get as arguments."""
        get = Get(key, range_end, limit, revision, serializable, keys_only, count_only, descending)
        return await self.get(get, timeout_s=timeout_s)

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        """All of `success` if all comparisons are true, else all of `failure`; as one revision. Sent once.

        Raises OutcomeUnknown; and when nothing was done Unreachable, TooLarge, Refused, PermissionDenied. NoSpace
        nearly always means that nothing was done, too; see there.
        """
        message = await self._change("KV/Txn", codec.txn_request(compares, success, failure), timeout_s)
        return codec.txn_result(message)

    async def put(self, key: bytes, value: bytes, *, lease: int = 0, timeout_s: float | None = None) -> PutResult:
        """Raises as `txn`, and LeaseNotFound."""
        message = await self._change("KV/Put", codec.put_request(Put(key, value, lease)), timeout_s)
        return PutResult(codec.header(message.header))

    async def delete(self, key: bytes, range_end: bytes = b"", *, timeout_s: float | None = None) -> DeleteResult:
        """Raises as `txn`."""
        request = codec.delete_request(Delete(key, range_end))
        message = await self._change("KV/DeleteRange", request, timeout_s)
        return DeleteResult(codec.header(message.header), message.deleted)

    async def compact(self, revision: int, *, physical: bool = False, timeout_s: float | None = None) -> None:
        """Forgets what was replaced or deleted before `revision`, for everybody who uses this etcd. `physical`: waits
        until it is off the disk. Sent once, but harmless when repeated.

        Raises Compacted if that has been done before, Refused if that revision has not happened.
        """
        await self._change("KV/Compact", pb.CompactionRequest(revision=revision, physical=physical), timeout_s)

    def watch(self, key: bytes, range_end: bytes = b"", *, start_revision: int) -> Watch:
        """Every change of a range from a revision (at least 1) on; it may lie in the future.

        async with client.watch(b"a", start_revision=5) as watch:
            async for batch in watch:
                ...
        """
        return Watch(self, key, range_end, start_revision)

    # --- leases -------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease:
        """A new lease. If an answer is lost, another one is asked for; what nobody renews expires by itself.
        Raises Unreachable, NoSpace."""
        request = pb.LeaseGrantRequest(TTL=ttl_s)
        message = await self._ask("Lease/LeaseGrant", request, timeout_s)
        return Lease(message.ID, message.TTL)

    async def lease_keep_alive(self, lease_id: int, *, timeout_s: float | None = None) -> int:
        """Renews a lease once. Returns the seconds that it has from now on.

        Raises LeaseNotFound, and Unreachable: it may have been renewed.
        """
        request = pb.LeaseKeepAliveRequest(ID=lease_id)

        async def renew(endpoint: Endpoint, left_s: float) -> Any:
            return await endpoint.exchange("Lease/LeaseKeepAlive", request, left_s)

        message = await self._try_all("ask", renew, self._read_s(timeout_s))
        if message is None or message.TTL <= 0:
            raise LeaseNotFound(f"the lease {lease_id:x} is gone")
        return int(message.TTL)

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        """Ends a lease, and deletes the keys that were put with it. Sent once, but harmless when repeated.
        Raises LeaseNotFound, OutcomeUnknown, Unreachable."""
        await self._change("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease_id), timeout_s)

    async def lease_time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout_s: float | None = None
    ) -> LeaseStatus:
        """How a lease is. Raises LeaseNotFound, Unreachable."""
        request = pb.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        message = await self._ask("Lease/LeaseTimeToLive", request, timeout_s)
        if message.TTL < 0:
            raise LeaseNotFound(f"the lease {lease_id:x} is gone")
        return LeaseStatus(message.ID, message.TTL, message.grantedTTL, tuple(message.keys))

    # --- the cluster --------------------------------------------------------------------------------------------------

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status:
        """Of the member that is in use, or the next one that answers; or of one that is named (KeyError if it is none
        of the client's). Also without a leader. Raises Unreachable."""
        if endpoint is not None:
            message = await self._status(self._endpoints[endpoint], self._read_s(timeout_s))
            return _read_status(endpoint, message)
        asked: list[str] = []

        async def ask(one: Endpoint, left_s: float) -> Any:
            asked.append(one.address)
            return await self._status(one, left_s)

        message = await self._try_all("ask", ask, self._read_s(timeout_s))
        return _read_status(asked[-1], message)

    async def alarms(self, *, timeout_s: float | None = None) -> Sequence[tuple[int, Alarm]]:
        """The alarms that are raised, each with its member's id."""
        message = await self._ask("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), timeout_s)
        names = {number: alarm for alarm, number in _ALARMS.items()}
        return tuple((one.memberID, names[one.alarm]) for one in message.alarms if one.alarm in names)

    async def disarm(self, member_id: int, alarm: Alarm, *, timeout_s: float | None = None) -> None:
        """Says that the cause of an alarm is gone. etcd raises it again if that is not so."""
        action = pb.AlarmRequest.DEACTIVATE
        request = pb.AlarmRequest(action=action, memberID=member_id, alarm=_ALARMS[alarm])
        await self._change("Maintenance/Alarm", request, timeout_s)

    async def close(self) -> None:
        """Ends everything, watches too. Twice is fine; afterwards every use raises Unreachable."""
        self._closed = True
        for watch in tuple(self._watches):
            await watch.close()
        for endpoint in self._endpoints.values():
            await endpoint.close()

    # --- for watch and lease ------------------------------------------------------------------------------------------

    def backoff(self) -> Backoff:
        """Pauses between rounds through all endpoints."""
        return Backoff(self.settings.retry_first_s, self.settings.retry_max_s, jitter=0.5, rng=self._rng)

    def endpoint(self, address: str) -> Endpoint:
        return self._endpoints[address]

    def register(self, watch: Watch) -> None:
        """It is closed with the client. Raises Unreachable if that has happened."""
        if self._closed:
            raise Unreachable("the client is closed")
        self._watches.add(watch)

    def unregister(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def hit(self, when: str, what: str) -> None:
        """A place for tests to make things go wrong."""
        if self._failpoint is not None:
            self._failpoint(f"etcd.{when}_{what}")

    def check_cluster(self, cluster_id: int, endpoint: str) -> None:
        """Raises ClusterChanged if this is not the cluster that answered before."""
        if not self._cluster_id:
            self._cluster_id = cluster_id
        elif cluster_id and cluster_id != self._cluster_id:  # some answers name none
            raise ClusterChanged(
                f"{endpoint} belongs to the cluster {cluster_id:x}, and not to {self._cluster_id:x}, which answered "
                "before: the endpoints are those of different clusters, or etcd was restored from a snapshot"
            )

    # --- how calls are made -------------------------------------------------------------------------------------------

    async def _ask(self, method: str, request: Message, timeout_s: float | None, *, require_leader: bool = True) -> Any:
        """What may be asked twice, of one endpoint after the other."""

        async def call(endpoint: Endpoint, left_s: float) -> Any:
            return await endpoint.call(method, request, left_s, changes=False, require_leader=require_leader)

        return await self._try_all("ask", call, self._read_s(timeout_s))

    async def _change(self, method: str, request: Message, timeout_s: float | None) -> Any:
        """What is sent once; of several endpoints, to the first that is there."""
        timeout_s = self.settings.write_s if timeout_s is None else timeout_s
        deadline_s = self.clock.monotonic() + timeout_s

        async def call(endpoint: Endpoint, try_s: float) -> Any:
            if self.rotation.is_suspect(endpoint.address) or not endpoint.is_connected:
                status = await self._status(endpoint, try_s)
                if not status.leader:
                    raise Unreachable(f"{endpoint.address}: it has no leader")
            left_s = deadline_s - self.clock.monotonic()
            if left_s <= 0:
                raise Unreachable(f"{endpoint.address}: no time was left")
            return await endpoint.call(method, request, left_s, changes=True)

        return await self._try_all("change", call, timeout_s)

    async def _try_all(self, what: str, call: Callable[[Endpoint, float], Awaitable[Any]], timeout_s: float) -> Any:
        """Asks the endpoint in use, and the next when it is Unreachable, until the time is up.

        In the first round each gets its share of the time, and `try_s` at most; in the next twice as much, and so on:
        if all of them are slow, that must not look as if none were there.
        """
        deadline_s = self.clock.monotonic() + timeout_s
        try_s = min(self.settings.try_s, timeout_s / len(self._endpoints))
        backoff = self.backoff()
        failures: dict[str, str] = {}
        tried: set[str] = set()
        while True:
            left_s = deadline_s - self.clock.monotonic()
            if left_s <= 0 or self._closed:
                raise Unreachable(_describe_failures(failures, timeout_s, self._closed))
            endpoint = self._endpoints[self.rotation.current]
            self.hit("before", what)
            try:
                message = await call(endpoint, min(left_s, try_s))
            except Unreachable as error:
                self.hit("after", what)
                self.rotation.failed(endpoint.address)
                if SILENT not in str(error) or endpoint.address not in failures:  # the better reason stays
                    failures[endpoint.address] = str(error)
                tried.add(endpoint.address)
                if self.rotation.current in tried:
                    tried.clear()
                    try_s *= 2
                    await self.clock.sleep(min(backoff.next(), max(0.0, deadline_s - self.clock.monotonic())))
                continue
            except EtcdError as error:
                self.hit("after", what)
                if isinstance(error, OutcomeUnknown):
                    self.rotation.failed(endpoint.address)
                raise
            self.hit("after", what)
            self.rotation.answered(endpoint.address)
            if message is not None:
                self.check_cluster(message.header.cluster_id, endpoint.address)
            return message

    async def _status(self, endpoint: Endpoint, timeout_s: float) -> Any:
        """Answered by the member alone, without a leader and without looking at data."""
        return await endpoint.call(
            "Maintenance/Status", pb.StatusRequest(), timeout_s, changes=False, require_leader=False
        )

    def _read_s(self, timeout_s: float | None) -> float:
        return self.settings.read_s if timeout_s is None else timeout_s


def _read_status(endpoint: str, message: Any) -> Status:
    return Status(
        endpoint,
        codec.header(message.header),
        message.version,
        message.dbSize,
        message.dbSizeInUse,
        message.leader,
        tuple(message.errors),
    )


def _describe_failures(failures: dict[str, str], timeout_s: float, closed: bool) -> str:
    if closed:
        return "the client of etcd is closed"
    return f"no etcd answered within {timeout_s:g} s" + (f" ({'; '.join(failures.values())})" if failures else "")
