"""Where the log ends and who leads, read linearizably: one read serves everybody who waits at that moment.

A reader may share a read that was begun after it asked, never one that was under way already: that one may have seen
the log before the reader's last write. So there is one read in flight, and the next begins when it has come back:

    read 1      |----------|
    A, B, C ask    A  B  C |
    read 2                 |----------|     answers A, B and C

However many reads a master serves, etcd sees about one per round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd import EtcdError, Get
from cluster.store import failpoints
from cluster.store.etcd.election import Holder
from cluster.store.etcd.engine import Etcd, as_store_error, is_final
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.values import Damaged, Head
from cluster.store.interface import JournalFailed, Unreachable

_PAUSE_S = 0.05


class Seen(NamedTuple):
    """What one read has seen."""

    head: Head
    modified: int
    """etcd's revision of the head's newest change."""
    holder: Holder | None
    revision: int
    """etcd's revision of the read."""


class Front:
    """See the head of this file."""

    def __init__(self, etcd: Etcd, keys: Keys, settings: EtcdSettings, clock: Clock, tasks: Tasks) -> None:
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._tasks = tasks
        self._waiting: asyncio.Future[Seen] | None = None
        self._busy = False
        self._closed = False
        self.on_seen: Callable[[Head], None] = lambda head: None
        """Told of every head that was read."""

    async def read(self) -> Seen:
        """As of some moment during this call. Raises Unreachable, JournalFailed."""
        if self._closed:
            raise JournalFailed("the journal is closed")
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            if not self._busy:
                self._busy = True
                self._tasks.spawn(self._serve(), name="etcd.front")
        return await asyncio.shield(self._waiting)  # one who goes away does not take the read from the others

    def close(self) -> None:
        """Nothing is read any more: who follows ends."""
        self._closed = True

    async def _serve(self) -> None:
        answering: asyncio.Future[Seen] | None = None
        try:
            while self._waiting is not None:
                answering, self._waiting = self._waiting, None
                try:
                    seen = await self._read()
                except (Unreachable, JournalFailed) as error:
                    _fail(answering, error)
                    continue
                self.on_seen(seen.head)
                answering.set_result(seen)
        finally:
            self._busy = False
            for future in (answering, self._waiting):
                if future is not None and not future.done():
                    _fail(future, Unreachable("the read was given up"))
            self._waiting = None

    async def _read(self) -> Seen:
        """Tries until the time is up: each try asks another member of etcd if the one before did not answer."""
        until_s = self._clock.monotonic() + self._settings.read_timeout_s
        get = Get(*self._keys.front)
        while True:
            left_s = until_s - self._clock.monotonic()
            try:
                failpoints.hit("etcd.before_read")
                answer = await self._etcd.get(get, timeout_s=min(left_s, self._settings.call_timeout_s))
                failpoints.hit("etcd.after_read")
            except EtcdError as error:
                if is_final(error) or self._clock.monotonic() + _PAUSE_S >= until_s:
                    raise as_store_error(error, self._settings.read_timeout_s) from error
                await self._clock.sleep(_PAUSE_S)
                continue
            items = {item.key: item for item in answer.kvs}
            head, leader = items.get(self._keys.head), items.get(self._keys.leader)
            if head is None:
                raise JournalFailed(f"{self._keys.head.decode()} is gone from etcd: somebody has removed the log")
            holder = Holder(leader.create_revision, leader.lease, leader.value.decode()) if leader is not None else None
            try:
                return Seen(Head.decode(head.value), head.mod_revision, holder, answer.header.revision)
            except Damaged as error:
                raise JournalFailed(str(error)) from error


def _fail(future: asyncio.Future[Seen], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # those who asked may all have gone: that is no crash
