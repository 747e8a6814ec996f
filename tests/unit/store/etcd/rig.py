"""What the tests of the etcd journal are built from: members of one cluster, records in a few bytes, a model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from cluster.actor.clock import Clock
from cluster.store.etcd.engine import Etcd
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.term import EtcdTerm
from cluster.store.interface import Appended, Journal, Request
from cluster.store.version import Record
from tests.kit.clock import VirtualClock
from tests.unit.store.etcd.fake import FakeClient, FakeEtcd, Weather

R = TypeVar("R")
PREFIX = "/podium/test/"


class Book:
    """Numbers revisions, remembers what is there, and what was at each revision: the model of a log."""

    def __init__(self) -> None:
        self.revision = 0
        self.records: list[Record] = []
        self.live: dict[str, int] = {}
        self.past: dict[int, dict[str, int]] = {0: {}}

    def next(self, *names: str, deleted: bool = False, size: int = 5, time_s: float | None = None) -> list[Record]:
        """The records of the next revision, which puts (or deletes) these. Counts once `keep` is told of them."""
        revision = self.revision + 1
        return [
            Record(
                revision, position, "Pod", "default", name, self.live.get(name, 0), deleted, "",
                float(revision) if time_s is None else time_s, bytes(size),
            )
            for position, name in enumerate(names)
        ]  # fmt: skip

    def keep(self, records: Sequence[Record]) -> None:
        """They were appended."""
        for record in records:
            assert record.revision in (self.revision, self.revision + 1)
            self.revision = record.revision
            if record.deleted:
                self.live.pop(record.name, None)
            else:
                self.live[record.name] = record.revision
            self.past[record.revision] = dict(self.live)
        self.records += records

    def copy(self) -> Book:
        """A book that goes on from here and leaves this one alone: for what may not come to be."""
        copy = Book()
        copy.keep(self.records)
        return copy

    def more(self, count: int, names: int = 5, size: int = 5) -> list[Record]:
        """Records of several revisions, kept already."""
        made: list[Record] = []
        for _ in range(count):
            records = self.next(f"p{self.revision % names}", size=size)
            self.keep(records)
            made += records
        return made


class Members:
    """Masters that share one etcd in memory."""

    def __init__(self, settings: EtcdSettings | None = None) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)
        self.settings = settings or EtcdSettings()
        self.clients: dict[EtcdJournal, FakeClient] = {}
        self._made = 0

    async def join(self, weather: Callable[[], Weather] = lambda: Weather.FINE) -> EtcdJournal:
        """Another member, opened."""
        client = FakeClient(self.etcd, weather)
        self._made += 1
        journal = new_journal(client, self.clock, self.settings, f"store-{self._made}")
        self.clients[journal] = client
        await self.run(journal.open())
        return journal

    async def lead(self, journal: EtcdJournal, address: str = "a:1") -> EtcdTerm:
        return await self.run(journal.campaign(address))

    async def run(self, work: Coroutine[Any, Any, R], limit_s: float = 120.0) -> R:
        """The result of something that may have to wait: time passes until it is there."""
        task = asyncio.create_task(work)
        until_s = self.clock.monotonic() + limit_s
        while not task.done():
            await self.clock.settle(30)
            if task.done():
                break
            if self.clock.monotonic() > until_s:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise AssertionError(f"not done after {limit_s} s of the clock: {work}")
            await self.clock.run_for(0.05, settle=5)
        return task.result()

    async def wait(self, seconds: float, step_s: float = 0.1) -> None:
        """Time passes in small steps, so that everybody keeps up with it."""
        until_s = self.clock.monotonic() + seconds
        while (left_s := until_s - self.clock.monotonic()) > 1e-6:
            await self.clock.run_for(min(step_s, left_s), settle=40)

    async def crash(self, journal: EtcdJournal) -> None:
        """Ends a member as kill -9 does: nothing is told to etcd."""
        self.clients[journal].cut_off = True
        await self.run(journal.close())

    async def close(self) -> None:
        for journal in self.clients:
            await self.run(journal.close())


def new_journal(
    etcd: Etcd, clock: Clock, settings: EtcdSettings, store_id: str = "a-store", prefix: str = PREFIX
) -> EtcdJournal:
    return EtcdJournal(etcd, prefix, settings, clock, random.Random(1), lambda: store_id)


async def loaded(journal: Journal) -> list[Record]:
    """Everything that is in the log."""
    await journal.open()
    return [record async for piece in journal.load() for record in piece]


def fold(records: Sequence[Record], until: int | None = None) -> dict[str, int]:
    """What exists after these records."""
    state: dict[str, int] = {}
    for record in records:
        if until is not None and record.revision > until:
            continue
        if record.deleted:
            state.pop(record.name, None)
        else:
            state[record.name] = record.revision
    return state


class Following:
    """A follower that is read in the background."""

    def __init__(self, journal: Journal, after: int = 0) -> None:
        self.records: list[Record] = []
        self.requests: list[Request] = []
        self.compacted = 0
        self.batches: list[Appended] = []
        self.error: BaseException | None = None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(journal, after))

    async def _read(self, journal: Journal, after: int) -> None:
        try:
            async for appended in journal.follow(after):
                self.batches.append(appended)
                self.records += appended.records
                self.requests += appended.requests
                self.compacted = appended.compacted
                self._news.set()
        except Exception as error:
            self.error = error
            self._news.set()

    @property
    def revision(self) -> int:
        return self.records[-1].revision if self.records else 0

    async def until(self, revision: int) -> list[Record]:
        """What was heard once that revision has been. Waits for ever: give it a deadline."""
        while self.revision < revision and self.error is None:
            self._news.clear()
            await self._news.wait()
        if self.error is not None:
            raise self.error
        return self.records

    async def ended(self) -> BaseException | None:
        await self._task
        return self.error

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
