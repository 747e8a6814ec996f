"""Many watches with one reader, who takes what there is of all of them at once.

A process that watches for thousands (one that simulates nodes: a watch for each) would pay for thousands of streams,
and for a message per event, since each event concerns one watch. Here those that have something to say stand in a row,
and a message takes from the head of it as much as fits:

    row      7  12  31                    watches with news
    message  7: e40 e41 | 12: e42         up to MESSAGE_BYTES; taken as a whole
    row      31  12                       12 had more to say, and stands at the end again

Each watch goes its way as it would alone (`watches.py`): what is on disk or the initial state, then its lane. A few at
a time are at that beginning (OPENERS), so that what waits for the reader is bounded; what comes later waits in the
lanes, where the ring bounds it. A watch that ends says why, and the others go on. But since there is one reader, they
are slow together: when one is ended for it while a message waits, `interrupt` is told, and who owns the bundle ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple, Protocol

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Overloaded
from cluster.store.mvcc import State
from cluster.store.watchers import Interest, Watcher, Watchers
from cluster.store.watches import Watches

_log = logging.getLogger("podium.store")

MESSAGE_BYTES = 512 * 1024
"""About how much goes into one message: less than this, and one batch."""
OPENERS = 32
"""So many watches of a bundle are told their beginning at a time, of which each may have one batch waiting."""
MOST_WATCHES = 20_000
"""In one bundle; more are refused with Overloaded."""


class Said(NamedTuple):
    """Something about one watch: an encoded WatchBatch, or what has ended it."""

    number: int
    batch: bytes | None
    error: ApiError | None


class Source(Protocol):
    """What is watched: the store."""

    @property
    def state(self) -> State: ...

    async def barrier(self) -> None: ...


class _Member:
    """One watch of the bundle."""

    __slots__ = (
        "after",
        "batch",
        "bundle",
        "error",
        "fresh",
        "gone",
        "initial_state",
        "interest",
        "live",
        "number",
        "prefix",
        "room",
        "store_id",
        "watcher",
    )

    def __init__(self, bundle: Bundle, number: int, interest: Interest, after: int | None, store_id: str) -> None:
        self.bundle = bundle
        self.number = number
        self.interest = interest
        self.after = after
        self.store_id = store_id
        self.initial_state = self.fresh = False
        self.watcher: Watcher | None = None
        self.prefix = b""
        self.batch: bytes | None = None
        """Of its beginning: waits to be taken; then `room` is set."""
        self.room: asyncio.Event | None = None
        self.live = False
        """It goes on from its lane."""
        self.gone = False
        self.error: ApiError | None = None
        """It has ended, and its reader is not told yet."""

    def has_left(self) -> bool:
        """Nobody is to hear of it any more."""
        return self.gone

    def wake(self) -> None:
        """It may have something to say."""
        self.bundle._stand_in_row(self)


class Bundle:
    """See the head of this file. Use from one event loop, with one reader: `next`, then `taken`, and again."""

    def __init__(
        self,
        source: Source,
        watches: Watches,
        watchers: Watchers,
        clock: Clock,
        interrupt: Callable[[ApiError], None] | None,
    ) -> None:
        self._source, self._watches, self._watchers, self._clock = source, watches, watchers, clock
        self._interrupt = interrupt
        self._members: dict[int, _Member] = {}
        self._row: OrderedDict[_Member, None] = OrderedDict()  # at most all members, each once
        self._handed: list[_Member] = []
        self._to_open: deque[_Member] = deque()  # at most all members, and those that left before their turn
        self._opening = 0
        self._news = asyncio.Event()
        self._tasks = Tasks("bundle of watches")
        self._finished = False
        self._failure: ApiError | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, number: object) -> bool:
        return number in self._members

    # --- coming and going

    def add(
        self,
        number: int,
        interest: Interest,
        *,
        after: int | None = None,
        initial_state: bool = False,
        store_id: str = "",
        fresh: bool = True,
    ) -> None:
        """Begins a watch under a number that no other of them has; see `Store.watch`. `fresh`: it begins with what is
        as new as the log. Raises Overloaded if there are too many."""
        assert number not in self._members, f"there is a watch {number} already"
        if len(self._members) >= MOST_WATCHES:
            raise Overloaded(f"there are {MOST_WATCHES} watches in this stream already; open another")
        member = _Member(self, number, interest, after, store_id)
        member.initial_state, member.fresh = initial_state, fresh
        self._members[number] = member
        self._to_open.append(member)
        if self._opening < OPENERS:
            self._opening += 1
            self._tasks.spawn(self._open_some(), name="open watches")

    def remove(self, number: int) -> None:
        """Ends a watch without a word. Nothing happens if there is none of this number."""
        member = self._members.get(number)
        if member is not None:
            self._forget(member)

    def refuse(self, number: int, error: ApiError) -> None:
        """A watch of this number was asked for, and is not to be: its reader is told."""
        member = _Member(self, number, Interest(""), None, "")
        self._end(member, error)

    def finish(self, error: ApiError | None = None) -> None:
        """No more are added: `next` says so when none is left; or raises the error, at once."""
        self._finished, self._failure = True, error
        self._news.set()

    async def close(self) -> None:
        """Ends all. Twice is fine."""
        for member in list(self._members.values()):
            self._forget(member)
        await self._tasks.cancel_all()

    # --- for the reader

    async def next(self) -> list[Said]:
        """What there is to say, as much as fits into a message; empty when no watch is left, after `finish`. Raises the
        error that `finish` was given."""
        while True:
            self._news.clear()
            if self._failure is not None:
                raise self._failure
            if said := self._gather():
                return said
            if self._finished and not self._members:
                return []
            await self._news.wait()

    def taken(self) -> None:
        """The reader has taken what `next` has returned last."""
        handed, self._handed = self._handed, []
        for member in handed:
            if member.room is not None:
                member.room.set()
            elif member.watcher is not None and not member.gone:
                self._watchers.taken(member.watcher)

    def _gather(self) -> list[Said]:
        said: list[Said] = []
        size, now_s, revision = 0, self._clock.monotonic(), self._source.state.revision
        row, watchers = self._row, self._watchers
        while row and size < MESSAGE_BYTES:
            member, _ = row.popitem(last=False)
            if member.error is not None:
                said.append(Said(member.number, None, member.error))
                self._forget(member)
                continue
            batch, member.batch = member.batch, None
            if batch is None:
                watcher = member.watcher
                if not member.live or watcher is None:
                    continue
                try:
                    batch = watcher.read(revision)
                except ApiError as error:
                    said.append(Said(member.number, None, error))
                    self._forget(member)
                    continue
                if batch is None:
                    continue
                watchers.handing(watcher, now_s)
                if watcher.behind:
                    row[member] = None
            said.append(Said(member.number, member.prefix + batch, None))
            member.prefix = b""
            size += len(batch)
            self._handed.append(member)
        return said

    # --- beginnings

    async def _open_some(self) -> None:
        try:
            while self._to_open:
                member = self._to_open.popleft()
                if not member.gone:
                    await self._open(member)
        finally:
            self._opening -= 1

    async def _open(self, member: _Member) -> None:
        """From its first word to where it goes on from its lane."""
        try:
            if member.after is None and member.fresh:
                await self._source.barrier()
            watcher = await self._watches.enter(member.after, member.store_id, member.wake, self._interrupt)
            if member.has_left():
                self._watchers.leave(watcher)
                return
            member.watcher, member.prefix = watcher, self._watches.prefix
            try:
                batches = self._watches.open(watcher, member.interest, member.after, member.initial_state)
                async with aclosing(batches):
                    async for batch in batches:
                        if not await self._say(member, batch):
                            return
            finally:
                if member.has_left():  # it may have gone on for a moment since it was let go
                    self._watchers.leave(watcher)
            member.live = True
            member.wake()
        except ApiError as error:
            self._end(member, error)
        except Exception as error:  # a bug must not take the other watches with it
            _log.exception("a watch could not begin")
            self._end(member, Internal(f"the watch failed: {type(error).__name__}"))

    async def _say(self, member: _Member, batch: bytes) -> bool:
        """Returns when the reader has taken it. False: the watch has ended meanwhile."""
        if member.has_left():
            return False
        member.batch, member.room = batch, asyncio.Event()
        self._stand_in_row(member)
        await member.room.wait()
        member.room = None
        return not member.has_left()

    def _end(self, member: _Member, error: ApiError) -> None:
        if not member.gone:
            member.error, member.batch = error, None
            self._stand_in_row(member)

    def _stand_in_row(self, member: _Member) -> None:
        if not member.gone:
            self._row[member] = None
            self._news.set()

    def _forget(self, member: _Member) -> None:
        member.gone = True
        self._row.pop(member, None)
        if self._members.get(member.number) is member:
            del self._members[member.number]
        if member.watcher is not None:
            self._watchers.leave(member.watcher)
        if member.room is not None:
            member.room.set()
        if self._finished:
            self._news.set()
