"""The one writer: takes requests in order, stages as many as are waiting, commits them together, then answers.

While a group is on its way to the disk, the next gathers in the mailbox: one fsync for all of them, and the more
callers there are, the more share it (group commit). The mailbox is bounded; when it is full a request is refused with
Overloaded before anything was done, and the caller tries again later.

A full disk fails the group, and reading goes on. Any other failure to commit means that nobody knows what is on the
disk, and a bug here means that nobody knows what is staged: `on_failure` is called, which ends the process; the next
start reads what is there. Whoever waits is answered all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.actor.mailbox import Full, Mailbox, MailboxClosed
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Overloaded, Unavailable
from cluster.master.answers import write_response
from cluster.master.commands import Commands, Outcome, Writer
from cluster.master.stage import Stage
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.store.interface import DiskFull
from cluster.store.store import Store

WAITING_REQUESTS = 2000
"""Requests that may wait for the disk; more are refused."""
GROUP_REQUESTS = 512
GROUP_OPERATIONS = 4000
"""Staged together at most: what is staged is seen by nobody, so a group may not take long."""
_YIELD_S = 0.02
"""Readers and heartbeats get their turn this often while a group is staged."""


@dataclass(slots=True)
class _Request:
    request: wire.WriteRequest
    writer: Writer
    answer: asyncio.Future[bytes]


class WriterActor:
    """See the head of this file."""

    def __init__(self, store: Store, commands: Commands, clock: Clock, on_failure: Callable[[BaseException], None]):
        self._store = store
        self._commands = commands
        self._clock = clock
        self._on_failure = on_failure
        self._mailbox: Mailbox[_Request] = Mailbox(WAITING_REQUESTS, Full.REFUSE)
        self._tasks = Tasks("writer")
        self._loop_done: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to take requests."""
        self._loop_done = self._tasks.spawn(self._run(), name="master.writer")

    async def stop(self) -> None:
        """Takes no more requests, finishes those that are waiting, and ends. Twice is fine."""
        self._mailbox.close()
        if self._loop_done is not None:
            await asyncio.wait([self._loop_done])
        await self._tasks.cancel_all()

    async def write(self, request: wire.WriteRequest, writer: Writer) -> bytes:
        """An encoded WriteResponse, when all of it is durable. Raises Overloaded, Unavailable, BadRequest, Internal.

        A caller that goes away before its turn has written nothing; after that, it is written whoever listens.
        """
        return await self.begin(request, writer)

    def begin(self, request: wire.WriteRequest, writer: Writer) -> asyncio.Future[bytes]:
        """The same without waiting: the future gets what `write` returns or raises. Cancelling it is going away."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            taken = self._mailbox.offer(_Request(request, writer, answer))
        except MailboxClosed:
            raise Unavailable("the master is stopping; nothing was written") from None
        if not taken:
            raise Overloaded(f"{WAITING_REQUESTS} writes are waiting already; try again later", retry_after_s=1)
        return answer

    async def _run(self) -> None:
        batch: list[_Request] = []
        try:
            while True:
                batch = await self._mailbox.get_batch(GROUP_REQUESTS)
                waiting: Sequence[_Request] = batch
                while waiting:
                    waiting = await self._group(waiting)
        except MailboxClosed:
            return
        except Exception as error:
            self._mailbox.close()
            self._on_failure(error)
            failure = Internal(f"the master cannot go on: {error}")
            for item in (*batch, *self._mailbox.drain()):
                if not item.answer.done():
                    item.answer.set_exception(failure)

    async def _group(self, waiting: Sequence[_Request]) -> Sequence[_Request]:
        """Writes a group, and returns those that are left for the next. Raises JournalFailed."""
        stage = Stage(self._store.state, self._clock.wall())
        staged: list[tuple[_Request, list[Outcome], int]] = []
        began_s, operations, taken = self._clock.monotonic(), 0, 0
        while taken < len(waiting) and operations < GROUP_OPERATIONS:
            item = waiting[taken]
            taken += 1
            if item.answer.done():
                continue  # the caller has gone
            operations += len(item.request.operations)
            try:
                outcomes = self._commands.run(stage, item.request, item.writer)
            except ApiError as error:
                item.answer.set_exception(error)
                continue
            staged.append((item, outcomes, stage.revision))
            if self._clock.monotonic() - began_s > _YIELD_S:
                await asyncio.sleep(0)
                began_s = self._clock.monotonic()
        failure = await self._commit(stage)
        stage.release()
        store_id = self._store.store_id
        for item, outcomes, revision in staged:
            if item.answer.done():
                continue
            if failure is not None:
                item.answer.set_exception(failure)
            else:
                item.answer.set_result(write_response(outcomes, revision, store_id))
        return waiting[taken:]

    async def _commit(self, stage: Stage) -> ApiError | None:
        try:
            await self._store.commit(stage.changes)
        except DiskFull as error:
            stage.discard()
            return Overloaded(f"the disk is full, nothing was written ({error}); reading works", retry_after_s=5)
        return None
