"""The one who may write: every change of the log is a transaction that is guarded by the leader's token and the head.

    if    leader was created in <token>  and  head was last changed in <what I know>
    then  put the chunk, put the head
    else  read leader and head

The first guard is the fence: once another leads, nothing of this process is ever written, however late it arrives. The
second makes a transaction safe to repeat: it changes the head, so it cannot happen twice. So an answer that was lost
is settled by asking again, until it is known to be written or not, or the time is up:

    answer to the second asking    head is the one I wanted    it was written: the first time
                                   leader is another           it was not, and never will be, unless its chunk is there
                                   none, until the deadline    Undecided: the term is over, the next leader will see

etcd may say NOSPACE to a transaction that it has carried out all the same (the one that raises the alarm): that is
settled by a read, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from cluster.actor.clock import Clock
from cluster.rpc.etcd import (
    Delete,
    EtcdError,
    Get,
    GetResult,
    KeyValue,
    NoSpace,
    OutcomeUnknown,
    Put,
    TxnResult,
    Unreachable,
    created_at,
    modified_at,
)
from cluster.store import failpoints
from cluster.store.etcd.chunks import Chunk, split
from cluster.store.etcd.compaction import Edit
from cluster.store.etcd.election import Holder, lost
from cluster.store.etcd.engine import Etcd
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.term import EtcdTerm
from cluster.store.etcd.values import Damaged, Head
from cluster.store.interface import DiskFull, JournalFailed, NotLeading, Request, StoreError, Undecided
from cluster.store.version import Record

_PAUSE_S = 0.05


class Writer:
    """Writes during one term. One transaction at a time."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        settings: EtcdSettings,
        clock: Clock,
        term: EtcdTerm,
        head: Head,
        modified: int,
        on_space: Callable[[bool], None],
    ) -> None:
        """`head` and `modified` as they were read after the term had begun. `on_space`: whether etcd had space."""
        self.head = head
        self.term = term
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._modified = modified
        self._on_space = on_space
        self._lock = asyncio.Lock()
        self._staged = False
        """Something may lie beyond the head."""

    async def append(self, records: Sequence[Record], requests: Sequence[Request]) -> None:
        """See interface.Journal.append. If it is cancelled, the term is over."""
        async with self._lock:
            self.term.check()
            assert records[0].revision == self.head.revision + 1, f"{records[0]!r} does not follow on {self.head!r}"
            parts = split(records, requests, self.head.chain)
            deadline_s = self._clock.monotonic() + self._settings.append_timeout_s
            try:
                if self._staged:
                    await self._write(self.leftovers(), None, deadline_s)
                    self._staged = False
                for part in parts:
                    last = part.chunk.last
                    operations: list[Put | Delete] = [Put(self._keys.chunk(last), part.value)]
                    if part.requests:
                        operations.append(Put(self._keys.requests(last), part.requests))
                    if part is not parts[-1]:
                        self._staged = True
                        await self._write(operations, None, deadline_s)
                        failpoints.hit("etcd.between_parts")
                        continue
                    head = replace(self.head, revision=last, chain=part.chunk.after)
                    failpoints.hit("etcd.before_append")
                    await self._write(operations, head, deadline_s, part.chunk)
                    failpoints.hit("etcd.after_append")
                    self._staged = False
            except StoreError:
                raise
            except BaseException as error:
                self.term.end(f"an append was given up before its fate was known: {error!r}")
                raise

    async def promise(self, compacted: int) -> None:
        """Changes up to there are no longer served one by one."""
        async with self._lock:
            self.term.check()
            if compacted > self.head.compacted:
                failpoints.hit("etcd.before_promise")
                await self._write([], replace(self.head, compacted=compacted), self._deadline())
                failpoints.hit("etcd.after_promise")

    async def rewrite(self, edits: Sequence[Edit]) -> None:
        """Carries out edits of the swept part, in one transaction."""
        operations: list[Put | Delete] = []
        for edit in edits:
            if edit.value is None:
                operations.append(Delete(self._keys.chunk(edit.last)))
            elif edit.value:
                operations.append(Put(self._keys.chunk(edit.last), edit.value))
            if edit.rest is not None:
                operations.append(Put(self._keys.chunk(edit.rest[0]), edit.rest[1]))
        async with self._lock:
            self.term.check()
            # The plan was made beside appends: of its head only what is swept counts.
            to = edits[-1].head
            head = replace(self.head, swept=to.swept, chain_swept=to.chain_swept, count=to.count, total=to.total)
            failpoints.hit("etcd.before_rewrite")
            await self._write(operations, head, self._deadline())
            failpoints.hit("etcd.after_rewrite")

    async def forget_requests(self, last: int) -> None:
        """Those of appends up to that revision."""
        async with self._lock:
            self.term.check()
            failpoints.hit("etcd.before_forget")
            await self._write([Delete(*self._keys.all_requests(0, last))], None, self._deadline())
            failpoints.hit("etcd.after_forget")

    def leftovers(self) -> Sequence[Delete]:
        """Removes what was staged and never counted."""
        first = self.head.revision + 1
        return [Delete(*self._keys.chunks(first)), Delete(*self._keys.all_requests(first))]

    async def clean(self) -> None:
        """Removes what a former leader has staged. To be called once, at the beginning of the term."""
        async with self._lock:
            failpoints.hit("etcd.before_clean")
            await self._write(self.leftovers(), None, self._deadline())
            failpoints.hit("etcd.after_clean")

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._settings.append_timeout_s

    async def _write(
        self, operations: Sequence[Put | Delete], head: Head | None, deadline_s: float, probe: Chunk | None = None
    ) -> None:
        """One transaction, and certainty about it. Without a head it is one that may be repeated as it is.

        Raises DiskFull and NotLeading: not written. Undecided: not known, and the term is over.
        """
        guards = [created_at(self._keys.leader, self.term.tenure.token), modified_at(self._keys.head, self._modified)]
        wanted = head.encode() if head is not None else b""
        then = [*operations, Put(self._keys.head, wanted)] if head is not None else list(operations)
        look = [Get(self._keys.leader), Get(self._keys.head)]
        if probe is not None:
            look.append(Get(self._keys.chunk(probe.last)))
        unsure = no_space = False
        error: Exception | None = None
        while True:
            left_s = deadline_s - self._clock.monotonic()
            if left_s <= 0 and not unsure:
                self.term.end("etcd could not be reached in time")
                raise NotLeading(f"etcd could not be reached within {self._settings.append_timeout_s:g} s: {error}")
            if left_s <= 0:
                self.term.end("etcd did not say in time whether an append was written")
                raise Undecided(
                    f"etcd did not say within {self._settings.append_timeout_s:g} s whether it was written"
                ) from error
            timeout_s = min(left_s, self._settings.call_timeout_s)
            try:
                # After NOSPACE only a look: another try would only be refused again, and say nothing of the first.
                answer = await self._etcd.txn(guards, look if no_space else then, look, timeout_s=timeout_s)
            except NoSpace as failure:
                error, no_space = failure, True
                continue
            except (OutcomeUnknown, Unreachable) as failure:
                error, unsure = failure, unsure or (isinstance(failure, OutcomeUnknown) and not no_space)
                await self._clock.sleep(min(_PAUSE_S, max(0.0, deadline_s - self._clock.monotonic())))
                continue
            except EtcdError as failure:
                self.term.end(f"etcd refused a write: {failure}")
                raise JournalFailed(f"etcd refused a write: {failure}") from failure
            if answer.succeeded and not no_space:
                if head is not None:
                    self._written(head, answer.header.revision)
                return
            if answer.succeeded:  # the guards still hold: nothing has changed the head
                self._on_space(False)
                if unsure and head is not None:
                    # An earlier asking may still be under way, and nothing can be written to get ahead of it.
                    self.term.end("etcd ran out of space while an append was unsettled")
                    raise Undecided("etcd ran out of space before it said whether it was written") from error
                raise DiskFull(
                    "etcd's database has used up its quota: nothing is written until it is compacted and "
                    "defragmented, or the quota raised, and the alarm disarmed (etcdctl alarm disarm)"
                ) from error
            if head is not None and self._found(answer, head, wanted, probe):
                return
            self._refused(answer)

    def _written(self, head: Head, modified: int) -> None:
        self.head, self._modified = head, modified
        self._on_space(True)

    def _found(self, answer: TxnResult, head: Head, wanted: bytes, probe: Chunk | None) -> bool:
        """Whether the guards failed because it had been written before."""
        found = _kvs(answer, 1)
        if found and found[0].value == wanted:
            self.head, self._modified = head, found[0].mod_revision
            self.term.end_if(lost(_holder(answer), self.term.tenure.token))
            return True
        chunks = _kvs(answer, 2) if probe is not None else ()
        if probe is None or not chunks:
            return False
        # Another has gone on from there; or it has staged a chunk of the same name.
        try:
            there = Chunk.decode(chunks[0].value)
            mine = there.after == probe.after and Head.decode(found[0].value).revision >= probe.last
        except (Damaged, IndexError):
            return False
        if mine:
            self.term.end_if(lost(_holder(answer), self.term.tenure.token))
            self.term.end_if("another has gone on with the log")
        return mine

    def _refused(self, answer: TxnResult) -> None:
        reason = lost(_holder(answer), self.term.tenure.token)
        if reason:
            self.term.end(reason)
            raise NotLeading(reason)
        self.term.end("the log was changed by somebody who does not lead")
        raise JournalFailed(
            f"{self._keys.head.decode()} was changed by somebody who does not lead: is another program writing there?"
        )


def _holder(answer: TxnResult) -> Holder | None:
    items = _kvs(answer, 0)
    return Holder(items[0].create_revision, items[0].lease, items[0].value.decode()) if items else None


def _kvs(answer: TxnResult, index: int) -> Sequence[KeyValue]:
    result = answer.results[index]
    assert isinstance(result, GetResult), f"asked for keys, got {result!r}"
    return result.kvs
