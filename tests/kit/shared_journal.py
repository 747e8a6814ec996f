"""Journals of several masters on one log, in memory: one leads at a time, and everything that can go wrong on demand.

log = SharedLog("store")
a, b = SharedJournal(log), SharedJournal(log)
a.unreachable = True              nothing is known any more: head, leader, campaign; an append is Undecided
a.holding.clear()                 appends wait at the door until it is set again
a.lost_answer = True              the next append is written, and its answer lost: Undecided
a.following.clear()               nothing is heard of the log until it is set again
log.depose()                      whoever leads leads no more: told at once, or by the next append (silently)
a.compact(...)                    as the leader does; who follows from further back gets Compacted
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from cluster.store.interface import (
    Appended,
    Compacted,
    Copy,
    NotLeading,
    Opening,
    Request,
    TooLarge,
    Undecided,
    Unreachable,
)
from cluster.store.memory import MemoryJournal
from cluster.store.version import Record


class SharedLog:
    """What all of them see."""

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self.memory = MemoryJournal(store_id)
        self.appends: list[tuple[int, Appended]] = []
        """With the newest revision of each."""
        self.compacted = 0
        self.holder: SharedTerm | None = None
        self.candidates: list[SharedJournal] = []
        self.revision = 0
        self.news = asyncio.Event()

    def tell(self) -> None:
        """Wakes all who wait for something."""
        self.news.set()
        self.news = asyncio.Event()

    def depose(self, reason: str = "another leads", *, silently: bool = False) -> None:
        """The term is over."""
        term, self.holder = self.holder, None
        assert term is not None, "nobody leads"
        if not silently:
            term.over(reason)
        self.tell()


class SharedTerm:
    """See interface.Term."""

    def __init__(self, log: SharedLog, journal: SharedJournal, address: str) -> None:
        self.log, self.journal, self.address = log, journal, address
        self._reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def over(self, reason: str) -> None:
        if not self._reason.done():
            self._reason.set_result(reason)

    async def ended(self) -> str:
        return await asyncio.shield(self._reason)

    async def resign(self) -> None:
        self.over("resigned")
        if self.log.holder is self:
            self.log.holder = None
            self.log.tell()


class SharedJournal:
    """See interface.Journal."""

    engine = "etcd"
    version = "0"

    def __init__(self, log: SharedLog) -> None:
        self.log = log
        self.problems: list[str] = []
        self.unreachable = False
        self.lost_answer = False
        self.too_large = 1 << 30
        """Records that an append may have."""
        self.holding = asyncio.Event()
        self.holding.set()
        self.following = asyncio.Event()
        self.following.set()
        self.opened = 0
        self.heads = 0
        self._term: SharedTerm | None = None

    async def open(self) -> Opening:
        self._check()
        self.opened += 1
        return Opening(self.log.store_id, self.log.compacted)

    def load(self) -> AsyncIterator[Sequence[Record]]:
        return self.log.memory.load()

    async def load_requests(self) -> Sequence[Request]:
        return await self.log.memory.load_requests()

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        await self.holding.wait()
        if self._term is None or self.log.holder is not self._term:
            raise NotLeading("another leads")
        if self.unreachable:
            self._term.over("unreachable")
            raise Undecided("no answer within 5 s")
        if len(records) > self.too_large:
            raise TooLarge(f"{len(records)} changes")
        assert records[0].revision == self.log.revision + 1, "not what follows"
        await self.log.memory.append(records, requests)
        self.log.revision = records[-1].revision
        self.log.appends.append((records[-1].revision, Appended(list(records), list(requests), self.log.compacted)))
        self.log.tell()
        if self.lost_answer:
            self.lost_answer = False
            self._term.over("unreachable")
            raise Undecided("no answer within 5 s")
        await asyncio.sleep(0)  # followers, and our own echo, may be sooner than the answer

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        self._check(after)
        return await self.log.memory.read(after, limit, kind)

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        self._check(revision)
        return await self.log.memory.read_at(revision, kind, namespace)

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        self._check()
        return await self.log.memory.read_key(kind, namespace, name, after, until, limit)

    async def revision_at(self, time_s: float) -> int:
        self._check()
        return await self.log.memory.revision_at(time_s)

    async def copy(self, revision: int) -> Copy:
        self._check(revision)
        return await self.log.memory.copy(revision)

    async def compact(self, revision: int, limit: int) -> bool:
        self._check()
        if self._term is None or self.log.holder is not self._term:
            raise NotLeading("another leads")
        await self.log.memory.compact(revision, limit)
        self.log.compacted = revision
        self.log.appends = [(last, appended) for last, appended in self.log.appends if last > revision]
        self.log.appends.append((self.log.revision, Appended((), (), revision)))
        self.log.tell()
        return True

    async def campaign(self, address: str) -> SharedTerm:
        self.log.candidates.append(self)
        try:
            while True:
                self._check()
                # Who has waited longest is next.
                if self.log.holder is None and self.log.candidates[0] is self:
                    self._term = self.log.holder = SharedTerm(self.log, self, address)
                    return self._term
                await self.log.news.wait()
        finally:
            self.log.candidates.remove(self)
            self.log.tell()

    async def leader(self) -> str:
        self._check()
        return self.log.holder.address if self.log.holder is not None else ""

    async def head(self) -> int:
        self.heads += 1
        self._check()
        return self.log.revision

    async def follow(self, after: int) -> AsyncIterator[Appended]:
        compacted = 0
        while True:
            await self.following.wait()
            if after < self.log.compacted:
                raise Compacted(f"{after} is too old")
            fresh = [(last, item) for last, item in self.log.appends if last > after or item.compacted > compacted]
            for last, appended in fresh:
                await self.following.wait()
                after, compacted = max(after, last), max(compacted, appended.compacted)
                yield appended
            if not fresh:
                await self.log.news.wait()

    async def close(self) -> None:
        if self._term is not None:
            await self._term.resign()

    def _check(self, revision: int | None = None) -> None:
        if self.unreachable:
            raise Unreachable("no answer within 3 s")
        if revision is not None and revision < self.log.compacted:
            raise Compacted(f"{revision} is too old")
