"""Forgets the beginning of the log, piece by piece, and what etcd itself keeps of its past.

`compaction` decides what becomes of which chunk; here the chunks are read and the edits carried out, as guarded
transactions of the writer. Only the leader sweeps. A crash between two transactions leaves a log that is whole; the
next sweep, whoever does it, goes on from where the head says.

etcd keeps every old value until it is told to forget. The leader tells it, far behind: at least ten minutes and ten
thousand of etcd's revisions ago, because a follower whose watch lags behind has to read the log anew, and because some
releases lose events of a watch when they compact what it has not delivered.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import aclosing

from cluster.actor.clock import Clock
from cluster.rpc.etcd import Compacted as EtcdCompacted
from cluster.rpc.etcd import EtcdError
from cluster.store import failpoints
from cluster.store.etcd import compaction
from cluster.store.etcd.chunks import Chunk
from cluster.store.etcd.engine import Etcd
from cluster.store.etcd.front import Front
from cluster.store.etcd.reader import Forgotten, Reader
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.writer import Writer
from cluster.store.interface import StoreError, Unreachable

_log = logging.getLogger("podium.store.etcd")

HOUSEKEEPING_S = 60.0
_REQUESTS_AT_ONCE = 200


class Sweeper:
    """Housekeeping of one term."""

    def __init__(
        self, etcd: Etcd, settings: EtcdSettings, clock: Clock, front: Front, reader: Reader, writer: Writer
    ) -> None:
        self._etcd = etcd
        self._settings = settings
        self._clock = clock
        self._front = front
        self._reader = reader
        self._writer = writer
        self._past: deque[tuple[float, int]] = deque()
        """When etcd had which revision: a row per minute, those that are not old enough yet."""

    async def compact(self, revision: int, limit: int) -> bool:
        """See interface.Journal.compact."""
        await self._writer.promise(revision)
        seen = await self._front.read()
        self._writer.term.check()
        head = self._writer.head
        fresh: list[Chunk] = []
        records = 0
        done = True
        try:
            async with aclosing(self._reader.walk(head.swept + 1, head.compacted, seen.revision)) as pages:
                async for page in pages:
                    fresh += page
                    records += sum(len(chunk.records) for chunk in page)
                    if records >= limit:
                        done = False
                        break
        except Forgotten as error:
            raise Unreachable(f"etcd forgets faster than it can be read: {error}") from error
        rest = await self._cut(fresh, head.compacted) if done else None
        if not fresh:
            return True
        older = await self._reader.holding(compaction.replaced(fresh, head.swept), cached=False)
        for edits in compaction.transactions(compaction.plan(head, older, fresh, rest)):
            await self._writer.rewrite(edits)
        return done

    async def _cut(self, fresh: list[Chunk], compacted: int) -> Chunk | None:
        """The chunk in the middle of which the compacted part ends is cut in two: the front is added to `fresh`."""
        for chunk in await self._reader.holding([compacted + 1], cached=False):
            if chunk.first <= compacted:
                front, back = chunk.cut(compacted)
                fresh.append(front)
                return back
        return None

    async def keep_house(self) -> None:
        """Forgets old requests and etcd's past, each minute, until the term is over."""
        while not self._writer.term.reason:
            await self._clock.sleep(HOUSEKEEPING_S)
            try:
                await self._forget_requests()
                if self._settings.compacts_etcd:
                    await self._forget_past()
            except (StoreError, EtcdError) as error:
                _log.info("housekeeping waits: %s", error)

    async def _forget_requests(self) -> None:
        seen = await self._front.read()
        before_s = self._clock.wall() - self._settings.request_age_s
        while True:
            oldest = await self._reader.oldest_requests(_REQUESTS_AT_ONCE, seen.head.revision)
            surplus = oldest.total - self._settings.request_appends
            last = 0
            for number, (revision, time_s) in enumerate(oldest.appends):
                if time_s >= before_s and number >= surplus:
                    break
                last = revision
            if last:
                await self._writer.forget_requests(last)
            if not last or last != oldest.appends[-1][0]:
                return

    async def _forget_past(self) -> None:
        seen = await self._front.read()
        now_s = self._clock.monotonic()
        self._past.append((now_s, seen.revision))
        target = 0
        while self._past and self._past[0][0] <= now_s - self._settings.etcd_age_s:
            if self._past[0][1] > seen.revision - self._settings.etcd_revisions:
                break
            target = self._past.popleft()[1]
        if not target:
            return
        try:
            failpoints.hit("etcd.before_compact")
            await self._etcd.compact(target, timeout_s=self._settings.append_timeout_s)
            failpoints.hit("etcd.after_compact")
        except EtcdCompacted:
            pass  # somebody else keeps etcd small, too
