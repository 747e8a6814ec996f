"""Follows the log as others append to it: a watch for the news, the log itself for certainty.

`tail.Tail` decides what the news amount to; here is the waiting. It begins by reading the log on from where the reader
is, and watches from there. Whenever the news do not lead to where the head says (a gap), or the head was seen further
on and nothing is heard of it, the log is read on from the reader's place, and watched anew. When all is quiet the head
is looked at now and then. Only if the log is not kept that far back, or has become another, this ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cluster.actor.clock import Clock
from cluster.rpc.etcd import Compacted as EtcdCompacted
from cluster.rpc.etcd import EtcdError
from cluster.store.etcd.engine import Etcd, Watching, as_store_error, is_final
from cluster.store.etcd.front import Front, Seen
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.reader import Forgotten, Reader
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.tail import Missing, Own, Tail, by_transaction
from cluster.store.etcd.values import Damaged, Head
from cluster.store.interface import Appended, Compacted, JournalFailed, Unreachable

_log = logging.getLogger("podium.store.etcd")

_OVERDUE_S = 0.5
"""News of what the head was seen to hold should have come by then."""
_PAUSE_S = 0.2
_REWOUND_TRIES = 20
"""A member that was suspended may answer with an old head for a moment; for longer it is no moment."""


class Flight:
    """The append that is under way, if there is one: what is heard of it waits until its fate is known here."""

    def __init__(self) -> None:
        self.own = Own()
        self._first = 0
        self._landed = asyncio.Event()
        self._landed.set()

    def begin(self, first: int) -> None:
        self._first = first
        self._landed.clear()

    def end(self, last: int | None) -> None:
        """It was written, up to `last`; None: it was not, or nobody knows."""
        if last is not None:
            self.own.add(self._first, last)
        self._landed.set()

    async def landed(self, revision: int) -> None:
        """Returns when no append is under way that makes that revision, or one before it."""
        while not self._landed.is_set() and revision >= self._first:
            await self._landed.wait()


class Follower:
    """One reader's following. `seen` is told of every head that was read by other means."""

    def __init__(
        self, etcd: Etcd, keys: Keys, settings: EtcdSettings, clock: Clock, front: Front, reader: Reader, flight: Flight
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._front = front
        self._reader = reader
        self._flight = flight
        self._seen = 0
        self._watch_from = 0

    def seen(self, head: Head) -> None:
        """The log goes at least so far."""
        self._seen = max(self._seen, head.revision)

    async def follow(self, after: int, chain: bytes | None, compacted: int) -> AsyncGenerator[Appended, None]:
        """See interface.Journal.follow. `chain`: after that revision, if it is known."""
        tail = await self._begin(after, chain, compacted)
        while True:
            try:
                async with aclosing(self._read_on(tail)) as pages:
                    async for appended in pages:
                        yield appended
                async with (
                    self._etcd.watch(*self._keys.watched, start_revision=self._watch_from) as watch,
                    aclosing(self._listen(tail, watch)) as news,
                ):
                    async for appended in news:
                        yield appended
            except Missing as reason:
                _log.info("reading the log on from revision %d: %s", tail.revision, reason)
            except EtcdCompacted:
                _log.info("etcd has forgotten what the watch has not delivered; reading the log instead")
            except EtcdError as error:
                if is_final(error):
                    raise as_store_error(error, 0.0) from error
                _log.warning("the watch of the log broke: %s", error)
                await self._clock.sleep(_PAUSE_S)
            except Damaged as error:
                raise JournalFailed(f"the log in etcd is damaged: {error}") from error

    async def _begin(self, after: int, chain: bytes | None, compacted: int) -> Tail:
        """The reader's place. Without a chain it is learnt from the log, and what follows is held against that."""
        if chain is not None:
            return Tail(self._keys, self._flight.own, after, chain, compacted)
        seen = await self._present(after)
        if after == seen.head.revision:
            return Tail(self._keys, self._flight.own, after, seen.head.chain, compacted)
        async with aclosing(self._reader.walk(after + 1, seen.head.revision, seen.revision)) as pages:
            async for page in pages:
                # The reader's place may be within a chunk.
                return Tail(self._keys, self._flight.own, page[0].first - 1, page[0].before, compacted, floor=after)
        raise JournalFailed(f"the log in etcd is damaged: nothing follows revision {after}")

    async def _read_on(self, tail: Tail) -> AsyncGenerator[Appended, None]:
        """The log from the reader's place to where it ends now; from there on it is to be watched."""
        while True:
            seen = await self._present(tail.revision)
            head = seen.head
            try:
                async with aclosing(self._reader.walk(tail.revision + 1, head.revision, seen.revision)) as pages:
                    async for page in pages:
                        first, last = tail.revision + 1, page[-1].last
                        requests = await self._reader.requests(first, last, seen.revision)
                        await self._flight.landed(last)
                        if (appended := tail.jump(page, requests, head)) is not None:
                            yield appended
            except (Forgotten, Unreachable) as error:
                _log.info("reading the log again: %s", error)
                await self._clock.sleep(_PAUSE_S)
                continue
            if tail.revision != head.revision:
                raise Damaged(f"revisions {tail.revision + 1} to {head.revision} are missing from the log")
            if (appended := tail.advance(head)) is not None:
                yield appended
            self._watch_from = seen.revision + 1
            return

    async def _listen(self, tail: Tail, watch: Watching) -> AsyncGenerator[Appended, None]:
        """What the watch says, until it does not lead on."""
        while True:
            overdue = self._seen > tail.revision
            batch = await watch.next(_OVERDUE_S if overdue else self._settings.poll_s)
            if batch is not None:
                for events in by_transaction(batch.events):
                    head = tail.take(events)
                    if head is None:
                        continue
                    await self._flight.landed(head.revision)
                    if (appended := tail.advance(head)) is not None:
                        yield appended
            elif overdue:
                raise Missing(f"the watch says nothing of revision {self._seen}, which is there")
            else:
                try:
                    await self._front.read()  # which tells `seen`
                except Unreachable:
                    pass  # those who read are told; the watch mends itself

    async def _present(self, revision: int) -> Seen:
        """Where the log ends now, as soon as etcd says so. Raises Compacted if it is not kept from the revision on."""
        tries = 0
        while True:
            try:
                seen = await self._front.read()
            except Unreachable as error:
                _log.info("following waits: %s", error)
                await self._clock.sleep(_PAUSE_S)
                continue
            if seen.head.revision >= revision:
                break
            tries += 1
            if tries == _REWOUND_TRIES:
                raise JournalFailed(
                    f"the log in etcd ends at revision {seen.head.revision} and was at {revision} before: "
                    "etcd was restored from a backup; start the master again"
                )
            await self._clock.sleep(_PAUSE_S)
        if seen.head.compacted > revision:
            raise Compacted(f"revision {revision} is no longer kept; the oldest is {seen.head.compacted}")
        return seen
