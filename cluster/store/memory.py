"""A journal that keeps its log in a list: as long as the object lives, it has what was appended.

For tests and simulation. Opening it again after a close is the restart of a store whose disk survived.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from cluster.api.meta import Key
from cluster.store import chain
from cluster.store.alone import Alone
from cluster.store.chain import Base
from cluster.store.interface import Compacted, Copy, Opening, Request
from cluster.store.version import Record

_PIECE = 2000


class MemoryJournal(Alone):
    """See interface.Journal."""

    def __init__(self, store_id: str, records: Iterable[Record] = (), compacted: int = 0) -> None:
        """`records`, in the order of their revisions, are what it begins with: those up to the revision `compacted` are
        what the history before it led to."""
        super().__init__()
        self._store_id = store_id
        self._compacted = compacted
        self._records: list[Record] = list(records)
        self._requests: list[Request] = []

    engine = "memory"
    version = "1"
    problems: Sequence[str] = ()

    async def open(self) -> Opening:
        return Opening(self._store_id, self._compacted)

    async def load(self) -> AsyncIterator[Sequence[Record]]:
        yield list(self._records)

    async def load_requests(self) -> Sequence[Request]:
        return list(self._requests)

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        self._records.extend(records)
        self._requests.extend(requests)

    async def head(self) -> int:
        return max(self._compacted, self._records[-1].revision if self._records else 0)

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        last: dict[Key, Record] = {}
        found: list[tuple[Record, Record | None]] = []
        for record in self._records:
            key = Key(record.kind, record.namespace, record.name)
            if record.revision > after and kind in ("", record.kind):
                if len(found) >= limit and record.revision != found[-1][0].revision:
                    break
                found.append((record, last.get(key) if record.previous else None))
            last[key] = record
        return found

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        last: dict[Key, Record] = {}
        for record in self._records:
            if record.revision <= revision and record.kind == kind and namespace in ("", record.namespace):
                last[Key(record.kind, record.namespace, record.name)] = record
        return [record for record in last.values() if not record.deleted]

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        key = (kind, namespace, name)
        found = [r for r in self._records if (r.kind, r.namespace, r.name) == key and after < r.revision <= until]
        return found[::-1][:limit]

    async def revision_at(self, time_s: float) -> int:
        return max((record.revision for record in self._records if record.time_s <= time_s), default=0)

    async def copy(self, revision: int) -> Copy:
        compacted = self._compacted
        if revision < compacted:
            raise Compacted(f"revision {revision} is no longer kept")
        records = [record for record in self._records if record.revision <= revision]
        left = [record for record in records if record.revision <= compacted]
        total = chain.add(0, map(chain.digest, left))

        async def pieces() -> AsyncGenerator[Sequence[Record], None]:
            for start in range(0, len(records), _PIECE):
                if self._compacted != compacted:
                    raise Compacted(f"revision {compacted} is no longer kept")
                yield records[start : start + _PIECE]

        return Copy(Base(compacted, count=len(left), total=total), revision, pieces())

    async def compact(self, revision: int, limit: int) -> bool:
        if revision <= self._compacted:
            return True
        last: dict[Key, Record] = {}
        for record in self._records:
            if record.revision <= revision:
                last[Key(record.kind, record.namespace, record.name)] = record
        kept = {id(record) for record in last.values() if not record.deleted}
        self._records = [r for r in self._records if r.revision > revision or id(r) in kept]
        self._compacted = revision
        return True

    async def close(self) -> None:
        pass
