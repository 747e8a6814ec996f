"""A bounded queue of messages with an explicit policy for when it is full.

WAIT      `put` waits for room: back-pressure on the sender.
REFUSE    `put` and `offer` fail at once: the sender decides (the master answers "overloaded").
COALESCE  a message replaces the waiting one with the same key, in its place; a new key waits for room.

An unbounded queue is a memory leak that waits for a slow day; so there is no such policy.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Generic, TypeVar

M = TypeVar("M")


class Full(Enum):
    """What happens to a message when the mailbox is full."""

    WAIT = "wait"
    REFUSE = "refuse"
    COALESCE = "coalesce"


class MailboxFull(Exception):
    """There is no room, and the policy is not to wait."""


class MailboxClosed(Exception):
    """The reader is gone; nothing more is accepted, and what is left has been read."""


class Mailbox(Generic[M]):
    """Messages of many senders for one reader, in the order in which they came."""

    def __init__(self, limit: int, full: Full = Full.WAIT, key: Callable[[M], Hashable] | None = None) -> None:
        if limit < 1:
            raise ValueError("a mailbox holds at least one message")
        if (full is Full.COALESCE) != (key is not None):
            raise ValueError("COALESCE, and only that, needs a key")
        self._limit, self._full, self._key = limit, full, key
        self._items: OrderedDict[Hashable, M] = OrderedDict()
        self._count = 0
        self._closed = False
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._limit

    @property
    def is_closed(self) -> bool:
        return self._closed

    def offer(self, message: M) -> bool:
        """Adds a message if that is possible without waiting; says whether it was. Raises MailboxClosed."""
        if self._closed:
            raise MailboxClosed
        if self._key is not None:
            key = self._key(message)
            if key in self._items:
                self._items[key] = message
                return True
        else:
            key = self._count
        if self.is_full:
            return False
        self._count += 1
        self._items[key] = message
        _wake(self._readers)
        return True

    async def put(self, message: M) -> None:
        """Adds a message; when full, waits or raises MailboxFull, as the policy says. Raises MailboxClosed."""
        again = False
        while not self.offer(message):
            if self._full is Full.REFUSE:
                raise MailboxFull(f"{self._limit} messages are waiting")
            await _sleep_on(self._writers, first=again)
            again = True  # who was overtaken on waking up does not lose its place

    async def get(self) -> M:
        """The oldest message; waits for one. Raises MailboxClosed when closed and empty."""
        return (await self.get_batch(1))[0]

    async def get_batch(self, limit: int) -> list[M]:
        """Up to `limit` of the oldest messages; waits for the first. Raises MailboxClosed when closed and empty."""
        while not self._items:
            if self._closed:
                raise MailboxClosed
            await _sleep_on(self._readers)
        batch: list[M] = []
        while self._items and len(batch) < limit:
            batch.append(self._items.popitem(last=False)[1])
            _wake(self._writers)
        if self._items:
            _wake(self._readers)
        return batch

    def close(self) -> None:
        """Accepts nothing more; wakes everyone who waits. Twice is fine."""
        self._closed = True
        for waiters in (self._readers, self._writers):
            while waiters:
                _wake(waiters)

    def drain(self) -> list[M]:
        """Takes out all that is left, for the owner to answer."""
        left = list(self._items.values())
        self._items.clear()
        return left


async def _sleep_on(waiters: deque[asyncio.Future[None]], *, first: bool = False) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if first:
        waiters.appendleft(waiter)
    else:
        waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter in waiters:
            waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled():
            _wake(waiters)  # this one was woken and cannot use it: the next may
        raise


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
