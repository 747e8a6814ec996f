"""Reading the log: whole, on from a place, one object's part of it, and as of a revision or a time.

A log has as many keys as there were appends, of a few hundred bytes or of a megabyte; etcd limits an answer by number
only. So a page grows while its chunks are small and shrinks at once when they are not (`Pager`). Never is a range read
in descending order: etcd would load all of it for each page; going back is done in steps of revisions.

What it costs, in a log of N chunks: `walk` reads all from where it begins. `read` reads what it returns, and one chunk
for each record that was replaced, if it is not in the cache. `read_at` reads the log from its beginning up to the
revision. `read_key` reads backwards until it has enough, but decodes only chunks in which the name occurs.
`revision_at` reads about log2(N) chunks.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd import Compacted as EtcdCompacted
from cluster.rpc.etcd import EtcdError, Get, GetResult, KeyValue
from cluster.store.etcd.chunks import Chunk, decode_requests
from cluster.store.etcd.engine import Etcd, as_store_error, is_final
from cluster.store.etcd.front import Front, Seen
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.values import Damaged
from cluster.store.interface import Compacted, JournalFailed, Request, Unreachable
from cluster.store.version import Record

T = TypeVar("T")

_PAGE_BYTES = 2 * 1024 * 1024
_PAGE_START, _PAGE_MOST = 16, 256
"""Keys of a page. The most bounds what a page may come to when large chunks follow on small ones: some 256 MiB."""
_LOOKUPS_AT_ONCE = 16
_PAUSE_S = 0.05


class Pager:
    """How many keys to ask for next."""

    def __init__(self) -> None:
        self.limit = _PAGE_START

    def note(self, items: Sequence[KeyValue]) -> None:
        """A page came back."""
        size = sum(len(item.value) for item in items) // max(1, len(items))
        self.limit = max(1, min(_PAGE_BYTES // max(1, size), 2 * self.limit, _PAGE_MOST))


class Reader:
    """See the head of this file. All raise Unreachable, and JournalFailed for a log that is damaged."""

    def __init__(
        self, etcd: Etcd, keys: Keys, settings: EtcdSettings, clock: Clock, front: Front, tasks: Tasks
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._front = front
        self._tasks = tasks
        self._cache = Cache(settings.cache_bytes)

    # --- pages

    async def walk(self, first: int, last: int, at: int) -> AsyncGenerator[list[Chunk], None]:
        """Chunks with revisions from `first` to `last`, as of etcd's revision `at`, in order, a page at a time.

        The next page is asked for while the caller works on one. Raises Forgotten.
        """
        pager = Pager()

        def ask(first: int) -> asyncio.Task[GetResult]:
            get = Get(*self._keys.chunks(first, last), limit=pager.limit, revision=at)
            return self._tasks.spawn(self._get(get), name="etcd.page")

        if first > last:
            return
        asking = ask(first)
        try:
            while True:
                page = await asking
                if not page.kvs:
                    return
                pager.note(page.kvs)
                if page.more:
                    asking = ask(self._keys.last_of(page.kvs[-1].key) + 1)
                yield [self._decode(item) for item in page.kvs]
                if not page.more:
                    return
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def requests(self, first: int, last: int, at: int) -> list[Request]:
        """Requests of appends that ended within these revisions, as of etcd's revision `at`, in order."""
        found: list[Request] = []
        pager = Pager()
        while True:
            page = await self._get(Get(*self._keys.all_requests(first, last), limit=pager.limit, revision=at))
            for item in page.kvs:
                found += self._decode_requests(item)
            if not page.more:
                return found
            pager.note(page.kvs)
            first = self._keys.last_of(page.kvs[-1].key) + 1

    async def oldest_requests(self, limit: int, last: int) -> OldRequests:
        """The appends with requests, up to a revision, the oldest first, and how many there are."""
        page = await self._get(Get(*self._keys.all_requests(0, last), limit=limit))
        appends = []
        for item in page.kvs:
            newest_s = max((request.time_s for request in self._decode_requests(item)), default=0.0)
            appends.append((self._keys.last_of(item.key), newest_s))
        return OldRequests(appends, page.count)

    async def holding(self, revisions: Iterable[int], *, cached: bool) -> list[Chunk]:
        """The chunks that hold these revisions, or held them, if anything is left of them; each once, in order.

        A cached one may have more than is left of it by now: good to look something up, not to be written back.
        """
        chunks: dict[int, Chunk] = {}
        wanted = sorted(set(revisions))
        for start in range(0, len(wanted), _LOOKUPS_AT_ONCE):
            asked = []
            covered = 0
            for revision in wanted[start : start + _LOOKUPS_AT_ONCE]:
                known = self._cache.holding(revision) if cached else None
                if known is not None:
                    chunks[known.last] = known
                    covered = known.last
                elif revision > covered:
                    asked.append(Get(*self._keys.chunks(revision), limit=1))
            answers = await asyncio.gather(*map(self._get, asked))
            for answer in answers:
                for item in answer.kvs:
                    chunk = self._decode(item)
                    chunks[chunk.last] = chunk
                    if cached:
                        self._cache.put(chunk, len(item.value))
        return [chunks[last] for last in sorted(chunks)]

    # --- questions

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        """See interface.Journal.read. Raises Compacted."""

        async def attempt(seen: Seen) -> Sequence[tuple[Record, Record | None]]:
            _check(seen, after)
            records: list[Record] = []
            async with aclosing(self.walk(after + 1, seen.head.revision, seen.revision)) as pages:
                async for page in pages:
                    records += [
                        record
                        for record in chain.from_iterable(chunk.records for chunk in page)
                        if record.revision > after and kind in ("", record.kind)
                    ]
                    if len(records) > limit:
                        end = next((n for n in range(limit, len(records)) if _ends(records, n)), len(records))
                        del records[end:]
                        break
            return await self._with_old(records)

        return await self._at_present(attempt)

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        """See interface.Journal.read_at. Raises Compacted."""

        async def attempt(seen: Seen) -> Sequence[Record]:
            _check(seen, revision)
            last: dict[tuple[str, str], Record] = {}
            async with aclosing(self.walk(0, seen.head.revision, seen.revision)) as pages:
                async for page in pages:
                    for record in chain.from_iterable(chunk.records for chunk in page):
                        if record.kind == kind and record.revision <= revision and namespace in ("", record.namespace):
                            last[record.namespace, record.name] = record
                    if page[-1].last >= revision:
                        break
            return sorted(
                (record for record in last.values() if not record.deleted),
                key=lambda record: (record.revision, record.position),
            )

        return await self._at_present(attempt)

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        """See interface.Journal.read_key."""

        async def attempt(seen: Seen) -> Sequence[Record]:
            found: list[Record] = []
            needle = name.encode()
            # A chunk that begins at or before `until` may end after it.
            end = min(seen.head.revision, await self._end_of_chunk(until, seen))
            step = _PAGE_START
            while end > after and len(found) < limit:
                if end <= seen.head.swept and found:
                    # Of what is swept there is at most one record: it was found, or the oldest that was says where.
                    oldest = found[-1]
                    if oldest.revision > seen.head.swept and oldest.previous > after:
                        chunks = await self.holding([oldest.previous], cached=True)
                        older = _of_object(chunks, kind, namespace, name, after, oldest.previous)
                        found += older[:1]
                    break
                start = max(end - step, seen.head.swept if end > seen.head.swept else 0, 0)
                get = Get(*self._keys.chunks(start + 1, end), limit=_PAGE_MOST, revision=seen.revision)
                page = await self._get(get)
                if page.more:  # where little was left of the log the steps grew large
                    step //= 4
                    continue
                chunks = [self._decode(item) for item in page.kvs if needle in item.value]
                found += _of_object(chunks, kind, namespace, name, after, until)
                size = sum(len(item.value) for item in page.kvs)
                most = _PAGE_MOST * step // max(1, len(page.kvs))
                step = min(2 * step, most) if size < _PAGE_BYTES // 2 else max(1, step // 2)
                end = start
            return found[:limit]

        return await self._at_present(attempt)

    async def revision_at(self, time_s: float) -> int:
        """See interface.Journal.revision_at."""

        async def attempt(seen: Seen) -> int:
            # Invariant: the newest record up to `low` was made in time, it is `best`; the first from `high` on was not.
            low, high, best = 0, seen.head.revision + 1, 0
            while low + 1 < high:
                middle = (low + high) // 2
                get = Get(*self._keys.chunks(middle, high - 1), limit=1, revision=seen.revision)
                page = await self._get(get)
                if not page.kvs:
                    high = middle
                    continue
                chunk = self._decode(page.kvs[0])
                in_time = [record.revision for record in chunk.records if record.time_s <= time_s]
                if chunk.records[-1].time_s <= time_s:
                    low, best = chunk.last, in_time[-1]
                elif chunk.records[0].time_s > time_s:
                    high = middle
                else:  # it passed within this chunk
                    return in_time[-1]
            return best

        return await self._at_present(attempt)

    # --- what they share

    async def _with_old(self, records: Sequence[Record]) -> list[tuple[Record, Record | None]]:
        by_id = {_id(record, record.revision): record for record in records}
        missing = {r.previous for r in records if r.previous and _id(r, r.previous) not in by_id}
        for chunk in await self.holding(missing, cached=True):
            for record in chunk.records:
                by_id[_id(record, record.revision)] = record
        return [(record, by_id.get(_id(record, record.previous)) if record.previous else None) for record in records]

    async def _end_of_chunk(self, revision: int, seen: Seen) -> int:
        """The last revision of the chunk that holds a revision."""
        get = Get(*self._keys.chunks(revision), limit=1, revision=seen.revision, keys_only=True)
        page = await self._get(get)
        return self._keys.last_of(page.kvs[0].key) if page.kvs else seen.head.revision

    async def _at_present(self, attempt: Callable[[Seen], Coroutine[Any, Any, T]]) -> T:
        """Reads at one revision of etcd: the newest when it begins; once more if etcd has forgotten it meanwhile."""
        try:
            return await attempt(await self._front.read())
        except Forgotten:
            try:
                return await attempt(await self._front.read())
            except Forgotten as error:
                raise Unreachable(f"etcd forgets faster than it can be read: {error}") from error

    async def _get(self, get: Get) -> GetResult:
        """Tries until the time is up."""
        until_s = self._clock.monotonic() + self._settings.read_timeout_s
        while True:
            left_s = until_s - self._clock.monotonic()
            try:
                return await self._etcd.get(get, timeout_s=left_s)
            except EtcdCompacted as error:
                raise Forgotten(str(error)) from error
            except EtcdError as error:
                if is_final(error) or self._clock.monotonic() + _PAUSE_S >= until_s:
                    raise as_store_error(error, self._settings.read_timeout_s) from error
                await self._clock.sleep(_PAUSE_S)

    @staticmethod
    def _decode(item: KeyValue) -> Chunk:
        try:
            return Chunk.decode(item.value)
        except Damaged as error:
            raise JournalFailed(f"{item.key.decode()}: {error}") from error

    @staticmethod
    def _decode_requests(item: KeyValue) -> list[Request]:
        try:
            return decode_requests(item.value)
        except Damaged as error:
            raise JournalFailed(f"{item.key.decode()}: {error}") from error


class OldRequests(NamedTuple):
    """See Reader.oldest_requests."""

    appends: Sequence[tuple[int, float]]
    """Revision and time of each."""
    total: int
    """Of all, not only of these."""


class Forgotten(Exception):
    """etcd has compacted the revision of its own at which was read."""


class Cache:
    """Decoded chunks, as many as fit; those that were used longest ago go first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._chunks: OrderedDict[int, tuple[Chunk, int]] = OrderedDict()
        self._lasts: list[int] = []

    def holding(self, revision: int) -> Chunk | None:
        """The chunk with that revision in it."""
        index = bisect_left(self._lasts, revision)
        if index == len(self._lasts):
            return None
        last = self._lasts[index]
        chunk, _ = self._chunks[last]
        if chunk.first > revision:
            return None
        self._chunks.move_to_end(last)
        return chunk

    def put(self, chunk: Chunk, size_bytes: int) -> None:
        self.drop(chunk.last)
        self._chunks[chunk.last] = chunk, size_bytes
        insort(self._lasts, chunk.last)
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes and len(self._chunks) > 1:
            self.drop(next(iter(self._chunks)))

    def drop(self, last: int) -> None:
        found = self._chunks.pop(last, None)
        if found is not None:
            self._size_bytes -= found[1]
            del self._lasts[bisect_left(self._lasts, last)]


def _check(seen: Seen, revision: int) -> None:
    if revision < seen.head.compacted:
        raise Compacted(f"revision {revision} is no longer kept; the oldest is {seen.head.compacted}")


def _ends(records: Sequence[Record], count: int) -> bool:
    """Whether a revision ends after so many records."""
    return count == len(records) or records[count - 1].revision != records[count].revision


def _id(record: Record, revision: int) -> tuple[int, str, str, str]:
    return revision, record.kind, record.namespace, record.name


def _of_object(chunks: Sequence[Chunk], kind: str, namespace: str, name: str, after: int, until: int) -> list[Record]:
    """One object's records, the newest first."""
    wanted = (kind, namespace, name)
    return [
        record
        for chunk in reversed(chunks)
        for record in reversed(chunk.records)
        if (record.kind, record.namespace, record.name) == wanted and after < record.revision <= until
    ]
