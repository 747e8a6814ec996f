"""`EtcdJournal`: the log in etcd, as interface.Journal wants it.

The door of this package: it opens the store, knows whether this process leads, and hands each question to the part that
answers it. What it holds itself is small: the client, the term with its writer, and where the log was loaded up to.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd import Alarm, EtcdError, Get, GetResult, Put, created_at, refuse, warn_about
from cluster.store import chain as chains
from cluster.store import failpoints
from cluster.store.chain import Base
from cluster.store.etcd.candidate import Candidate
from cluster.store.etcd.engine import Etcd, as_store_error, is_final
from cluster.store.etcd.follower import Flight, Follower
from cluster.store.etcd.front import Front, Seen
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.reader import Forgotten, Reader
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.sweeper import Sweeper
from cluster.store.etcd.term import EtcdTerm
from cluster.store.etcd.values import Damaged, Head, StoreMark
from cluster.store.etcd.writer import Writer
from cluster.store.interface import (
    Appended,
    Compacted,
    Copy,
    JournalFailed,
    NotLeading,
    Opening,
    Request,
    StoreError,
    StoreRefused,
    Undecided,
    Unreachable,
)
from cluster.store.version import Record

_log = logging.getLogger("podium.store.etcd")

_PAUSE_S = 0.1
_ALARM_EVERY_S = 2.0
OUT_OF_SPACE = (
    "DiskFull: etcd's database has used up its quota; compact and defragment it or raise the quota, "
    "then disarm the alarm (etcdctl alarm disarm)"
)


class EtcdJournal:
    """See interface.Journal. Use from one event loop."""

    engine = "etcd"

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        settings: EtcdSettings,
        clock: Clock,
        rng: random.Random,
        new_store_id: Callable[[], str],
    ) -> None:
        """`etcd` is closed with the journal. `prefix` as in "/podium/demo/". `new_store_id` is asked once, when the
        store is created."""
        self.version = ""
        self._etcd = etcd
        self._keys = Keys(prefix)
        self._settings = settings
        self._clock = clock
        self._new_store_id = new_store_id
        self._tasks = Tasks("etcd", on_crash=lambda task, error: None)  # whoever waits for one gets its error
        self._front = Front(etcd, self._keys, settings, clock, self._tasks)
        self._front.on_seen = self._on_seen
        self._reader = Reader(etcd, self._keys, settings, clock, self._front, self._tasks)
        self._candidate = Candidate(etcd, self._keys, settings, clock, rng, self._front, self._on_space)
        self._flight = Flight()
        self._followers: list[Follower] = []
        self._writer: Writer | None = None
        self._sweeper: Sweeper | None = None
        self._opened = Head()
        self._opened_at = 0
        """etcd's revision at which the store was opened, and is loaded."""
        self._newest = 0
        """The newest revision of the log that was seen by anybody here."""
        self._no_space = False
        self._closed = False

    @property
    def problems(self) -> Sequence[str]:
        return [OUT_OF_SPACE] if self._no_space else []

    # --- opening and loading

    async def open(self) -> Opening:
        """See interface.Journal.open. Again, later: everything is to be loaded anew."""
        until_s = self._clock.monotonic() + self._settings.append_timeout_s
        while True:
            try:
                return await self._open()
            except EtcdError as error:
                if is_final(error) or self._clock.monotonic() + _PAUSE_S >= until_s:
                    raise as_store_error(error, self._settings.append_timeout_s) from error
                await self._clock.sleep(_PAUSE_S)

    async def _open(self) -> Opening:
        timeout_s = self._settings.call_timeout_s
        if not self.version:
            version = (await self._etcd.status(timeout_s=timeout_s)).version
            if reason := refuse(version):
                raise StoreRefused(reason)
            for warning in warn_about(version):
                _log.warning("%s", warning)
            self.version = version
            self._on_space(Alarm.NOSPACE not in [kind for _, kind in await self._etcd.alarms(timeout_s=timeout_s)])
        keys = self._keys
        look = [Get(keys.store), Get(keys.head), Get(*keys.all, limit=1, keys_only=True)]
        answer = await self._etcd.txn([], look, timeout_s=timeout_s)
        marks, heads, anything = (r.kvs for r in answer.results if isinstance(r, GetResult))
        if not marks and anything:
            raise StoreRefused(
                f"there is something else below {keys.prefix} in this etcd ({anything[0].key.decode(errors='replace')})"
                "; choose another prefix"
            )
        if not marks:
            mark = StoreMark(self._new_store_id(), answer.header.cluster_id)
            guards = [created_at(keys.store, 0), created_at(keys.head, 0)]
            puts = [Put(keys.store, mark.encode()), Put(keys.head, Head().encode())]
            failpoints.hit("etcd.before_create")
            await self._etcd.txn(guards, puts, timeout_s=timeout_s)
            failpoints.hit("etcd.after_create")
            return await self._open()  # somebody else may have created it at the same moment
        try:
            mark = StoreMark.decode(marks[0].value)
            if mark.folder != keys.folder:
                keys.folder = mark.folder  # the parts share these keys
                return await self._open()
            if not heads:
                raise Damaged("the head of the log is missing")
            self._opened = Head.decode(heads[0].value)
        except Damaged as error:
            raise StoreRefused(f"the store below {keys.prefix} in this etcd cannot be used: {error}") from error
        self._opened_at = answer.header.revision
        self._on_seen(self._opened)
        return Opening(mark.incarnation(answer.header.cluster_id), self._opened.compacted)

    async def load(self) -> AsyncIterator[Sequence[Record]]:
        """See interface.Journal.load: as of the moment of `open`. Raises StoreRefused, Unreachable."""
        head = self._opened
        revision, chain = head.swept, head.chain_swept
        count = total = 0
        try:
            async with aclosing(self._reader.walk(0, head.revision, self._opened_at)) as pages:
                async for page in pages:
                    records: list[Record] = []
                    for chunk in page:
                        if chunk.last <= head.swept:
                            count += len(chunk.records)
                            total = chains.add(total, map(chains.digest, chunk.records))
                        elif chunk.first != revision + 1:
                            raise Damaged(f"revisions {revision + 1} to {chunk.first - 1} are missing")
                        else:
                            chunk.verify(chain)
                            revision, chain = chunk.last, chunk.after
                        records += chunk.records
                    yield records
                    await asyncio.sleep(0)
            if (count, total) != (head.count, head.total):
                raise Damaged(f"what is left of revisions up to {head.swept} is not what was kept of them")
            if (revision, chain) != (head.revision, head.chain):
                raise Damaged(f"it ends at revision {revision} and should end at {head.revision}")
        except (Damaged, JournalFailed) as error:
            raise StoreRefused(
                f"the log below {self._keys.prefix} in this etcd is damaged: {error}; "
                "restore etcd from a snapshot, or the cluster from a backup (podium restore)"
            ) from error
        except Forgotten as error:
            raise Unreachable(f"etcd has forgotten the moment of the opening: {error}; open again") from error

    async def load_requests(self) -> Sequence[Request]:
        try:
            return await self._reader.requests(0, self._opened.revision, self._opened_at)
        except Forgotten as error:
            raise Unreachable(f"etcd has forgotten the moment of the opening: {error}; open again") from error

    # --- writing

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        """See interface.Journal.append. `frees` changes nothing: etcd keeps no space for that."""
        writer = self._need_writer()
        if not records:
            return
        self._flight.begin(records[0].revision)
        landed: int | None = None
        try:
            await writer.append(records, requests)
            landed = records[-1].revision
            self._newest = max(self._newest, landed)
        finally:
            self._flight.end(landed)
            self._note_end(writer)

    async def compact(self, revision: int, limit: int) -> bool:
        writer = self._need_writer()
        assert self._sweeper is not None
        try:
            return await self._sweeper.compact(revision, limit)
        except Undecided as error:  # whoever sweeps next goes on from what is there
            raise Unreachable(str(error)) from error
        finally:
            self._note_end(writer)

    def _need_writer(self) -> Writer:
        if self._writer is None:
            raise NotLeading("this master does not lead")
        return self._writer

    # --- leading

    async def campaign(self, address: str) -> EtcdTerm:
        while True:
            tenure, seen = await self._candidate.stand(address)
            term = EtcdTerm(self._etcd, self._keys, self._settings, self._clock, self._front, tenure)
            writer = Writer(
                self._etcd, self._keys, self._settings, self._clock, term, seen.head, seen.modified, self._on_space
            )
            try:
                if seen.head.revision < self._newest:
                    raise JournalFailed(
                        f"the log in etcd ends at revision {seen.head.revision} and was at {self._newest} before: "
                        "etcd was restored from a backup; start the master again"
                    )
                await writer.clean()
            except BaseException as error:
                self._candidate.retire(tenure.token)
                await term.resign()
                if isinstance(error, StoreError) and not isinstance(error, JournalFailed):
                    _log.info("the term was over before it began: %s", error)
                    continue
                raise
            sweeper = Sweeper(self._etcd, self._settings, self._clock, self._front, self._reader, writer)
            self._writer, self._sweeper = writer, sweeper
            term.start()
            term.also(sweeper.keep_house(), "house")
            self._tasks.spawn(self._see_off(writer), name="etcd.term")
            _log.info("leading from revision %d on, with token %d", seen.head.revision, tenure.token)
            return term

    async def _see_off(self, writer: Writer) -> None:
        """Waits for the end of a term."""
        try:
            reason = await writer.term.ended()
            _log.info("leading has ended: %s", reason)
            self._note_end(writer)
        finally:
            await writer.term.close()

    def _note_end(self, writer: Writer) -> None:
        if writer.term.reason and self._writer is writer:
            self._candidate.retire(writer.term.tenure.token)
            self._writer = self._sweeper = None

    async def leader(self) -> str:
        holder = (await self._front.read()).holder
        return holder.address if holder is not None else ""

    # --- reading

    async def head(self) -> int:
        return (await self._front.read()).head.revision

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        """See interface.Journal.read. Raises Compacted, Unreachable; a master that follows may learn of a compaction
        only by this."""
        return await self._reader.read(after, limit, kind)

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        """See interface.Journal.read_at: reads the log from its beginning. Raises Compacted, Unreachable."""
        return await self._reader.read_at(revision, kind, namespace)

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        return await self._reader.read_key(kind, namespace, name, after, until, limit)

    async def copy(self, revision: int) -> Copy:
        """See interface.Journal.copy: as of one moment of etcd, whatever the leader compacts meanwhile."""
        seen = await self._front.read()
        if revision < seen.head.swept:
            raise Compacted(f"revision {revision} is no longer kept")
        head = seen.head
        base = Base(head.swept, head.chain_swept, head.count, head.total)
        return Copy(base, revision, self._copied(seen, base, revision))

    async def _copied(self, seen: Seen, base: Base, revision: int) -> AsyncGenerator[Sequence[Record], None]:
        sums = chains.Sums(base)
        try:
            async with aclosing(self._reader.walk(0, seen.head.revision, seen.revision)) as pages:
                async for page in pages:
                    for chunk in page:
                        if chunk.first > revision:
                            break  # nothing of it is wanted, and it does not follow on the part of a chunk
                        if chunk.last > base.compacted:
                            chunk.verify(sums.chain)
                        records = [record for record in chunk.records if record.revision <= revision]
                        sums.add(records)
                        if records:
                            yield records
                    if page[-1].last >= revision:
                        break
            sums.finish(revision)
        except Forgotten as error:
            raise Compacted(f"etcd has forgotten the moment at which the copy began: {error}") from error
        except ValueError as error:
            raise JournalFailed(f"the log below {self._keys.prefix} in this etcd is damaged: {error}") from error

    async def revision_at(self, time_s: float) -> int:
        return await self._reader.revision_at(time_s)

    async def follow(self, after: int) -> AsyncGenerator[Appended, None]:
        """See interface.Journal.follow. What this process has appended itself is left out."""
        follower = Follower(
            self._etcd, self._keys, self._settings, self._clock, self._front, self._reader, self._flight
        )
        chain = self._opened.chain if after == self._opened.revision else None
        self._followers.append(follower)
        try:
            async with aclosing(follower.follow(after, chain, self._opened.compacted)) as news:
                async for appended in news:
                    if appended.records:
                        self._newest = max(self._newest, appended.records[-1].revision)
                    yield appended
        finally:
            self._followers.remove(follower)

    # --- life

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        writer = self._writer
        if writer is not None:
            await writer.term.resign()
            self._note_end(writer)
        self._front.close()
        await self._tasks.cancel_all()
        await self._etcd.close()

    def _on_seen(self, head: Head) -> None:
        for follower in self._followers:
            follower.seen(head)

    def _on_space(self, there_is: bool) -> None:
        if self._no_space == (not there_is):
            return
        self._no_space = not there_is
        if not there_is:
            _log.error("%s", OUT_OF_SPACE)
            self._tasks.spawn(self._watch_alarm(), name="etcd.alarm")
        else:
            _log.info("etcd takes writes again")

    async def _watch_alarm(self) -> None:
        """Looks whether the alarm was disarmed, for as long as it is raised."""
        while self._no_space:
            await self._clock.sleep(_ALARM_EVERY_S)
            try:
                alarms = await self._etcd.alarms(timeout_s=self._settings.call_timeout_s)
            except EtcdError:
                continue
            if Alarm.NOSPACE not in [kind for _, kind in alarms]:
                self._on_space(True)
