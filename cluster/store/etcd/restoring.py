"""A backup becomes the log of a cluster whose store is in etcd. No master may lead meanwhile.

    1  look         store, head and leader, as of one moment. Somebody leads: refused
    2  stage        the chunks of the backup go to a folder of their own, and are read back and verified
    3  switch       one transaction:  if    nobody leads, store and head are as they were looked at, the stage is whole
                                      then  put store (new id, new folder), put the new head, delete the old head
    4  clean        the log before is removed

Why this is safe. Until 3 nothing that any master reads has changed, and whoever dies leaves a folder that the next
restore removes. The switch is one transaction: before it the old log is the cluster's, after it the new one. A master
that has begun to lead since 1 has created the leader's key, or has moved the head, so the switch is refused. One that
has slept since before 1 and still believes that it leads cannot write: its appends compare the head's last change, and
the head that it knows is gone. It cannot show old state as new either: a read asks for the head, finds none, and the
master ends; its next start reads `store`, and with that the new log under a new id.

As ever, an answer that was lost is settled by looking: `store` has the new id, or it has not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd import (
    Compare,
    Delete,
    EtcdError,
    Get,
    GetResult,
    Operation,
    OutcomeUnknown,
    Put,
    TxnResult,
    Unreachable,
    created_at,
    modified_at,
    refuse,
)
from cluster.store import failpoints
from cluster.store.backup_file import Census
from cluster.store.backup_format import End, Header, Part, Records
from cluster.store.chain import GENESIS, Sums
from cluster.store.etcd.chunks import PART_BYTES, encode_requests, split
from cluster.store.etcd.engine import Etcd, as_store_error
from cluster.store.etcd.front import Front
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.reader import Reader
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.values import Damaged, Head, StoreMark
from cluster.store.interface import Request, StoreRefused
from cluster.store.restoring import Staged, incarnation
from cluster.store.version import Record

_log = logging.getLogger("podium.store.etcd")

_TRIES = 5
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class _Found:
    """What was there when the restore began."""

    keys: Keys
    store: int
    """etcd's revision of its last change; 0: there is none."""
    head: int
    cluster_id: int


async def restore(etcd: Etcd, prefix: str, parts: Iterable[Part], suffix: str, clock: Clock) -> Staged:
    """Replaces the log below a prefix by that of a backup, or makes one where there is none.

    `suffix`: 8 hex digits, new for each restore. Raises StoreRefused, BadBackup, TooLarge, Unreachable: then the log is
    the one from before.
    """
    try:
        return await _Restore(etcd, prefix, suffix, clock).run(parts)
    except EtcdError as error:
        raise as_store_error(error, EtcdSettings().call_timeout_s) from error


class _Restore:
    def __init__(self, etcd: Etcd, prefix: str, suffix: str, clock: Clock) -> None:
        self._etcd = etcd
        self._suffix = suffix
        self._clock = clock
        self._settings = EtcdSettings()
        self._keys = Keys(prefix, f"at-{suffix}/")
        self._header: Header | None = None
        self._records: list[Record] = []
        """Read from the backup, and not written."""
        self._size = 0
        self._chain = GENESIS
        self._requests: list[Request] = []
        self._census = Census()

    async def run(self, parts: Iterable[Part]) -> Staged:
        found = await self._look()
        await self._remove_stages(found)
        await self._change([created_at(self._keys.stage, 0)], [Put(self._keys.stage, b"")])
        try:
            end = await self._stage(parts)
            header = self._header
            assert header is not None, "the end comes after it"
            await self._verify(header)
            store_id = incarnation(header.store_id, self._suffix)
            failpoints.hit("restore.etcd_before_switch")
            await self._switch(found, header, end, StoreMark(store_id, found.cluster_id, self._keys.folder))
            failpoints.hit("restore.etcd_after_switch")
        except BaseException:
            if not await self._is_switched():
                await self._change([], [Delete(*self._keys.everything)])
            raise
        try:
            await self._remove_log(found.keys)
        except EtcdError as error:
            _log.warning("the log before could not be removed, the next restore will: %s", error)
        return Staged(header, store_id, end.records, self._census.objects)

    # --- before

    async def _look(self) -> _Found:
        """Raises StoreRefused if somebody leads, or something else is there."""
        if reason := refuse((await self._etcd.status()).version):
            raise StoreRefused(reason)
        keys = Keys(self._keys.prefix)
        while True:
            look = [Get(keys.store), Get(keys.head), Get(keys.leader), Get(*keys.all, limit=1, keys_only=True)]
            answer = await self._etcd.txn([], look)
            stores, heads, leaders, anything = (r.kvs for r in answer.results if isinstance(r, GetResult))
            try:
                folder = StoreMark.decode(stores[0].value).folder if stores else ""
            except Damaged as error:
                raise StoreRefused(f"below {keys.prefix} there is no store of Podium: {error}") from error
            if folder == keys.folder:
                break
            keys = Keys(keys.prefix, folder)
        if leaders:
            raise StoreRefused(
                f"a master leads, at {leaders[0].value.decode(errors='replace')}; stop all masters of this cluster and "
                "try again (one that was killed is forgotten when its lease has run out)"
            )
        if not stores and anything and not anything[0].key.startswith(keys.folders[0]):
            raise StoreRefused(f"there is something else below {keys.prefix} in this etcd; choose another prefix")
        return _Found(
            keys,
            stores[0].mod_revision if stores else 0,
            heads[0].mod_revision if heads else 0,
            answer.header.cluster_id,
        )

    async def _remove_stages(self, found: _Found) -> None:
        """What restores left that were killed, and logs that were replaced."""
        seen = await self._etcd.get(Get(*self._keys.folders, keys_only=True))
        folders = {self._keys.folder_of(item.key) for item in seen.kvs} - {found.keys.folder}
        for folder in sorted(folders):
            await self._remove_log(Keys(self._keys.prefix, folder))
        if found.keys.folder:
            await self._remove_log(Keys(self._keys.prefix))

    async def _remove_log(self, keys: Keys) -> None:
        """One that is not the cluster's, or not any more."""
        gone = [Delete(*keys.everything)] if keys.folder else [Delete(*keys.chunks()), Delete(*keys.all_requests())]
        await self._change([], gone)

    # --- the stage

    async def _stage(self, parts: Iterable[Part]) -> End:
        end: End | None = None
        for part in parts:
            if isinstance(part, Header):
                self._header = part
            elif isinstance(part, Records):
                self._census.add(part)
                for record in part.records:
                    await self._add(record)
            elif isinstance(part, End):
                end = part
            else:
                self._requests += part
        assert end is not None, "whoever reads a backup raises if it has none"
        await self._flush()
        await self._put_requests()
        return end

    async def _add(self, record: Record) -> None:
        """Writes what has gathered when it is a chunk's worth, but never a part of a revision."""
        assert self._header is not None
        records, compacted = self._records, self._header.base.compacted
        if records and record.revision != records[-1].revision:
            begins_log = records[-1].revision <= compacted < record.revision
            if self._size >= PART_BYTES // 2 or begins_log:
                await self._flush()
                if begins_log:
                    self._chain = self._header.base.chain
        elif not records and record.revision > compacted and self._chain == GENESIS:
            self._chain = self._header.base.chain
        self._records.append(record)
        self._size += len(record.data) + 200

    async def _flush(self) -> None:
        """For what is left of the compacted beginning, the chain means nothing; its sum does."""
        if not self._records:
            return
        for part in split(self._records, [], self._chain):
            await self._change([], [Put(self._keys.chunk(part.chunk.last), part.value)])
            self._chain = part.chunk.after
            failpoints.hit("restore.etcd_between_chunks")
        self._records, self._size = [], 0

    async def _put_requests(self) -> None:
        """Some hundreds to a key, named by the last one's revision."""
        group: list[Request] = []
        for request in self._requests:
            if len(group) >= 500 and request.revision != group[-1].revision:
                await self._put_group(group)
                group = []
            group.append(request)
        if group:
            await self._put_group(group)

    async def _put_group(self, group: Sequence[Request]) -> None:
        await self._change([], [Put(self._keys.requests(group[-1].revision), encode_requests(group))])

    async def _verify(self, header: Header) -> None:
        """Reads it back. Raises StoreRefused."""
        tasks = Tasks("verifying")
        front = Front(self._etcd, self._keys, self._settings, self._clock, tasks)
        reader = Reader(self._etcd, self._keys, self._settings, self._clock, front, tasks)
        at = (await self._etcd.get(Get(self._keys.stage))).header.revision
        sums = Sums(header.base)
        try:
            async with aclosing(reader.walk(0, header.revision, at)) as chunks:
                async for page in chunks:
                    for chunk in page:
                        if chunk.last > header.base.compacted:
                            chunk.verify(sums.chain)
                        sums.add(chunk.records)
            sums.finish(header.revision)
        except ValueError as error:
            raise StoreRefused(f"what etcd has kept of the backup is damaged: {error}") from error
        finally:
            await tasks.cancel_all()

    # --- the switch

    async def _switch(self, found: _Found, header: Header, end: End, mark: StoreMark) -> None:
        base = header.base
        head = Head(header.revision, end.chain, base.compacted, base.compacted, base.chain, base.count, base.total)
        guards = [
            created_at(found.keys.leader, 0),
            modified_at(found.keys.store, found.store),
            modified_at(found.keys.head, found.head),
            modified_at(self._keys.head, 0),
        ]
        stage = (await self._etcd.get(Get(self._keys.stage))).kvs
        if not stage:
            raise StoreRefused("another restore of this cluster has removed what this one had made")
        guards.append(created_at(self._keys.stage, stage[0].create_revision))
        operations: list[Operation] = [
            Put(self._keys.store, mark.encode()),
            Put(self._keys.head, head.encode()),
            Delete(self._keys.stage),
        ]
        if found.head:
            operations.append(Delete(found.keys.head))
        answer = await self._settled(guards, operations)
        if not answer and not await self._is_switched():
            raise StoreRefused("a master has begun to lead meanwhile, or another restore was faster")

    async def _is_switched(self) -> bool:
        """The log in this folder is the cluster's."""
        marks = (await self._retried(Get(self._keys.store))).kvs
        try:
            return bool(marks) and StoreMark.decode(marks[0].value).folder == self._keys.folder
        except Damaged:
            return False

    # --- asking

    async def _change(self, guards: Sequence[Compare], operations: Sequence[Operation]) -> None:
        """Something that may be repeated: it touches nothing but this restore's own keys, or what is garbage."""
        await self._settled(guards, operations)

    async def _settled(self, guards: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        """Repeats a transaction until it has an answer. Returns whether its guards held, that time."""
        for number in range(_TRIES):
            try:
                answer: TxnResult = await self._etcd.txn(guards, operations)
                return answer.succeeded
            except (OutcomeUnknown, Unreachable):
                if number == _TRIES - 1:
                    raise
            await self._clock.sleep(_PAUSE_S)
        raise AssertionError("the last try raises or returns")

    async def _retried(self, get: Get) -> GetResult:
        for number in range(_TRIES):
            try:
                return await self._etcd.get(get)
            except Unreachable:
                if number == _TRIES - 1:
                    raise
            await self._clock.sleep(_PAUSE_S)
        raise AssertionError("the last try raises or returns")
