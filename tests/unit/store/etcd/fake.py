"""An etcd in memory: revisions, transactions, leases, watches; on a virtual clock, with answers that get lost.

`FakeEtcd` is the cluster, `FakeClient` one process's client of it. A client's `weather` is asked before each call that
changes something, and says what becomes of it; everything else works unless the client is `cut_off`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from types import TracebackType

from cluster.actor.clock import Clock
from cluster.rpc.etcd import (
    Alarm,
    Compacted,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    GetResult,
    Header,
    KeyValue,
    Lease,
    LeaseNotFound,
    NoSpace,
    Operation,
    OperationResult,
    OutcomeUnknown,
    Put,
    PutResult,
    Status,
    Target,
    TxnResult,
    Unreachable,
    WatchBatch,
)


class Weather(Enum):
    """What becomes of a call."""

    FINE = "fine"
    LOST = "the question is lost: it is not done, and nobody knows"
    UNANSWERED = "it is done, the answer is lost"
    LATE = "no answer; it is done when `deliver` is called"
    DOWN = "nothing can be reached"


class FakeEtcd:
    """The cluster."""

    def __init__(self, clock: Clock, cluster_id: int = 0xC0FFEE) -> None:
        self.clock = clock
        self.cluster_id = cluster_id
        self.revision = 1
        self.compacted = 0
        self.full = False
        """The quota is used up: the alarm is raised."""
        self.carries_out_what_raises_the_alarm = False
        self.late: list[Callable[[], object]] = []
        self.news = asyncio.Event()
        self._live: dict[bytes, KeyValue] = {}
        self._past: dict[bytes, list[tuple[int, KeyValue | None]]] = {}
        self.log: list[tuple[int, list[Event]]] = []
        self._leases: dict[int, tuple[float, float]] = {}
        self._next_lease = 100

    # --- what tests do to it

    def deliver(self) -> None:
        """What was late arrives now."""
        late, self.late = self.late, []
        for call in late:
            call()

    def expire(self) -> None:
        """Leases that have run out by now take their keys along."""
        now_s = self.clock.monotonic()
        for lease, (until_s, _) in list(self._leases.items()):
            if until_s <= now_s:
                self.revoke(lease)

    def names(self) -> list[bytes]:
        return sorted(self._live)

    def value(self, key: bytes) -> bytes:
        return self._live[key].value

    def flip(self, key: bytes, index: int) -> None:
        """Damages a value where it lies."""
        old = self._live[key]
        value = bytearray(old.value)
        value[index] ^= 1
        self._live[key] = old._replace(value=bytes(value))
        self._past[key][-1] = (self._past[key][-1][0], self._live[key])

    # --- calls

    def header(self) -> Header:
        return Header(self.cluster_id, 1, self.revision, 1)

    def get(self, get: Get) -> GetResult:
        revision = get.revision or self.revision
        if revision < self.compacted:
            raise Compacted("required revision has been compacted", self.compacted)
        keys = sorted(key for key in self._past if _within(key, get.key, get.range_end))
        found = [item for key in keys if (item := self._at(key, revision)) is not None]
        count = len(found)
        if get.limit:
            found = found[: get.limit]
        if get.keys_only:
            found = [item._replace(value=b"") for item in found]
        return GetResult(self.header(), tuple(found), len(found) < count, count)

    def _at(self, key: bytes, revision: int) -> KeyValue | None:
        return next((item for changed, item in reversed(self._past[key]) if changed <= revision), None)

    def txn(self, compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]) -> TxnResult:
        self.expire()
        succeeded = all(self._compare(compare) for compare in compares)
        operations = success if succeeded else failure
        puts = [operation.key for operation in operations if isinstance(operation, Put)]
        assert len(puts) == len(set(puts)), "etcd refuses two puts of one key"
        assert len(operations) <= 128, "etcd refuses so many operations"
        assert sum(len(o.value) for o in operations if isinstance(o, Put)) <= 1_572_864 - 1000, "etcd refuses that much"
        for operation in operations:
            if isinstance(operation, Put) and operation.lease and operation.lease not in self._leases:
                raise LeaseNotFound("requested lease not found")
        alarm = self.full and bool(puts)
        if alarm and not self.carries_out_what_raises_the_alarm:
            raise NoSpace("database space exceeded")
        revision, events = self.revision + 1, list[Event]()
        results: list[OperationResult] = []
        for operation in operations:
            if isinstance(operation, Get):
                results.append(self.get(operation))
            elif isinstance(operation, Put):
                old = self._live.get(operation.key)
                created, version = (old.create_revision, old.version + 1) if old is not None else (revision, 1)
                item = KeyValue(operation.key, operation.value, created, revision, version, operation.lease)
                self._set(operation.key, item, revision, events)
                results.append(PutResult(self.header()))
            else:
                doomed = [key for key in self.names() if _within(key, operation.key, operation.range_end)]
                for key in doomed:
                    self._set(key, None, revision, events)
                results.append(DeleteResult(self.header(), len(doomed)))
        self._commit(revision, events)
        if alarm:
            self.carries_out_what_raises_the_alarm = False
            raise NoSpace("database space exceeded")
        return TxnResult(self.header(), succeeded, results)

    def _set(self, key: bytes, item: KeyValue | None, revision: int, events: list[Event]) -> None:
        if item is None:
            del self._live[key]
            events.append(Event(True, KeyValue(key, b"", 0, revision, 0, 0)))
        else:
            self._live[key] = item
            events.append(Event(False, item))
        self._past.setdefault(key, []).append((revision, item))

    def _commit(self, revision: int, events: list[Event]) -> None:
        if events:
            self.revision = revision
            self.log.append((revision, events))
            self.news.set()
            self.news = asyncio.Event()

    def _compare(self, compare: Compare) -> bool:
        item = self._live.get(compare.key)
        if compare.target is Target.CREATE:
            return (item.create_revision if item else 0) == compare.expected
        assert compare.target is Target.MOD
        return (item.mod_revision if item else 0) == compare.expected

    def grant(self, ttl_s: int) -> Lease:
        if self.full:
            raise NoSpace("database space exceeded")
        self._next_lease += 1
        self._leases[self._next_lease] = self.clock.monotonic() + ttl_s, ttl_s
        return Lease(self._next_lease, ttl_s)

    def renew(self, lease: int) -> int:
        self.expire()
        if lease not in self._leases:
            raise LeaseNotFound("requested lease not found")
        _, ttl_s = self._leases[lease]
        self._leases[lease] = self.clock.monotonic() + ttl_s, ttl_s
        return int(ttl_s)

    def revoke(self, lease: int) -> None:
        if self._leases.pop(lease, None) is None:
            raise LeaseNotFound("requested lease not found")
        revision, events = self.revision + 1, list[Event]()
        for key, item in list(self._live.items()):
            if item.lease == lease:
                self._set(key, None, revision, events)
        self._commit(revision, events)

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Compacted("required revision has been compacted", self.compacted)
        self.compacted = revision


def _within(key: bytes, start: bytes, end: bytes) -> bool:
    return start <= key < end if end else key == start


class FakeClient:
    """One process's client."""

    def __init__(self, etcd: FakeEtcd, weather: Callable[[], Weather] = lambda: Weather.FINE) -> None:
        self.weather = weather
        self.cut_off = False
        self.drops: Callable[[int], bool] = lambda revision: False
        """Whether watches lose the events of a revision of etcd."""
        self.deaf = False
        """Watches say nothing."""
        self.watches = 0
        self.gets = 0
        self._etcd = etcd

    def _check(self) -> None:
        if self.cut_off:
            raise Unreachable("cut off")

    async def get(self, get: Get, *, timeout_s: float | None = None) -> GetResult:
        self.gets += 1
        await asyncio.sleep(0)
        self._check()
        self._etcd.expire()
        found = self._etcd.get(get)
        await asyncio.sleep(0)
        return found

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        await asyncio.sleep(0)
        changes = any(isinstance(operation, (Put, Delete)) for operation in success)
        weather = self.weather() if changes else Weather.FINE
        if self.cut_off or weather is Weather.DOWN:
            await self._etcd.clock.sleep(min(0.5, timeout_s or 0.5))
            raise OutcomeUnknown("no answer") if self.cut_off and changes else Unreachable("nobody is there")
        if weather is Weather.LATE:
            self._etcd.late.append(lambda: self._etcd.txn(compares, success, failure))
        if weather in (Weather.LOST, Weather.LATE):
            raise OutcomeUnknown("no answer")
        answer = self._etcd.txn(compares, success, failure)
        await asyncio.sleep(0)
        if weather is Weather.UNANSWERED:
            raise OutcomeUnknown("no answer")
        return answer

    def watch(self, key: bytes, range_end: bytes = b"", *, start_revision: int) -> FakeWatch:
        self.watches += 1
        return FakeWatch(self, self._etcd, key, range_end, start_revision)

    async def lease_grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease:
        self._check()
        return self._etcd.grant(ttl_s)

    async def lease_keep_alive(self, lease_id: int, *, timeout_s: float | None = None) -> int:
        await asyncio.sleep(0)
        self._check()
        return self._etcd.renew(lease_id)

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        self._check()
        self._etcd.revoke(lease_id)

    async def compact(self, revision: int, *, physical: bool = False, timeout_s: float | None = None) -> None:
        self._check()
        self._etcd.compact(revision)

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status:
        self._check()
        return Status("fake", self._etcd.header(), "3.6.1", 0, 0, 1, ())

    async def alarms(self, *, timeout_s: float | None = None) -> Sequence[tuple[int, Alarm]]:
        self._check()
        return [(1, Alarm.NOSPACE)] if self._etcd.full else []

    async def close(self) -> None:
        self.cut_off = True


class FakeWatch:
    """Hears of everything from a revision on, several revisions at once if there are."""

    def __init__(self, client: FakeClient, etcd: FakeEtcd, key: bytes, end: bytes, start: int) -> None:
        self._client, self._etcd = client, etcd
        self._key, self._end, self._next = key, end, start

    async def __aenter__(self) -> FakeWatch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def next(self, timeout_s: float) -> WatchBatch | None:
        until_s = self._etcd.clock.monotonic() + timeout_s
        while True:
            self._etcd.expire()
            if not self._client.cut_off and not self._client.deaf:
                if self._next <= self._etcd.compacted:
                    raise Compacted("required revision has been compacted", self._etcd.compacted)
                events = [
                    event
                    for revision, changed in self._etcd.log
                    if revision >= self._next and not self._client.drops(revision)
                    for event in changed
                    if _within(event.kv.key, self._key, self._end)
                ]
                self._next = self._etcd.revision + 1
                if events:
                    return WatchBatch(events[-1].kv.mod_revision, tuple(events))
            left_s = until_s - self._etcd.clock.monotonic()
            if left_s <= 0:
                return None
            news = self._etcd.news.wait()
            waits = [asyncio.create_task(news), asyncio.create_task(_nap(self._etcd.clock, min(0.1, left_s)))]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    def restart(self, reason: str) -> None:
        pass


async def _nap(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)
