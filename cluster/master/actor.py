"""The one writer: takes requests in order, stages as many as are waiting, commits them together, then answers.

While a group is on its way to the disk, the next gathers in the mailbox: one fsync for all of them, and the more
callers there are, the more share it (group commit). The mailbox is bounded; when it is full a request is refused with
Overloaded before anything was done, and the caller tries again later.

What becomes of a group:

    durable                        everyone is answered
    the disk is full               nothing was written: Overloaded; what deletes is tried again alone, for it makes room
    too large for the log          nothing was written: each request is tried alone, and who is too large is told so
    this master leads no more      nothing was written: Unavailable; those who wait are told the same
    nobody knows                   Unavailable, it may have been written; those who wait: nothing was
    the disk has failed, a bug     nobody knows what is on the disk, or staged: `on_failure` is called, which ends the
                                   process; the next start reads what is there

A request with an id happens once: sent again, in the same group or ten minutes later, it is answered as it was
(`replay.py`). Between two terms the actor takes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cluster.actor.clock import Clock
from cluster.actor.mailbox import Full, Mailbox, MailboxClosed
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Invalid, Overloaded, Unavailable
from cluster.master import replay
from cluster.master.answers import write_response
from cluster.master.commands import Commands
from cluster.master.operations import Outcome, Writer
from cluster.master.stage import Stage
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.store import failpoints
from cluster.store.interface import DiskFull, NotLeading, Request, TooLarge, Undecided, Unreachable
from cluster.store.store import Store

WAITING_REQUESTS = 2000
"""Requests that may wait for the disk; more are refused."""
GROUP_REQUESTS = 512
GROUP_OPERATIONS = 4000
"""Staged together at most: what is staged is seen by nobody, so a group may not take long."""
_YIELD_S = 0.02
"""Readers and heartbeats get their turn this often while a group is staged."""
_NOT_LEADING = "this master does not lead; nothing was written"


class Answer(Protocol):
    """Who waits for an answer: a future, or what does the same."""

    def done(self) -> bool:
        """It has its answer, or the caller has gone away."""
        ...

    def set_result(self, response: bytes, /) -> None: ...

    def set_exception(self, error: ApiError, /) -> None: ...


@dataclass(slots=True)
class _Request:
    request: wire.WriteRequest
    writer: Writer
    answer: Answer
    key: str
    """Names the request among those that must not happen twice; empty: it may."""
    fingerprint: bytes

    @property
    def frees(self) -> bool:
        """It only deletes and evicts."""
        operations = self.request.operations
        return bool(operations) and all(each.WhichOneof("operation") in ("delete", "evict") for each in operations)

    def fail(self, error: ApiError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class _Group:
    """Requests that are committed together."""

    stage: Stage
    staged: list[tuple[_Request, list[Outcome], int]] = field(default_factory=list)
    """With their outcomes, and the revision as of then."""
    asked: dict[str, bytes] = field(default_factory=dict)
    """Key and fingerprint of those that must not happen twice, and that changed something."""
    repeated: list[_Request] = field(default_factory=list)
    """The same as one of those: answered as it is."""
    refused: list[tuple[_Request, ApiError]] = field(default_factory=list)
    """A refusal says something of the state, so it is not told before that is known to be durable, and the newest."""
    requests: list[Request] = field(default_factory=list)
    """What is kept of those."""

    @property
    def members(self) -> list[_Request]:
        return [item for item, _, _ in self.staged] + self.repeated + [item for item, _ in self.refused]


class _TermOver(Exception):
    """The message is for who waits."""


class WriterActor:
    """See the head of this file."""

    def __init__(self, store: Store, commands: Commands, clock: Clock, on_failure: Callable[[BaseException], None]):
        self._store = store
        self._commands = commands
        self._clock = clock
        self._on_failure = on_failure
        self._mailbox: Mailbox[_Request] | None = None
        self._stopping = False
        self._tasks = Tasks("writer")
        self._loop: asyncio.Task[None] | None = None
        self.on_deposed: Callable[[str], None] = lambda reason: None
        """Told, with the reason, when the log says that this master leads no more."""

    def lead(self) -> None:
        """Begins to take requests. The state must be as new as the log, and nobody else may append."""
        if self._stopping:
            return
        assert self._mailbox is None, "it leads already"
        self._mailbox = Mailbox(WAITING_REQUESTS, Full.REFUSE)
        self._loop = self._tasks.spawn(self._run(self._mailbox), name="master.writer")

    async def step_down(self) -> None:
        """Takes no more requests; those that wait are told that nothing was written. Returns when what was on its way
        to the log is there, or is not. Twice is fine."""
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.close()
            for item in mailbox.drain():
                item.fail(Unavailable(_NOT_LEADING))
        if self._loop is not None:
            await asyncio.wait([self._loop])

    async def stop(self) -> None:
        """Takes no more requests, finishes those that are waiting, and ends. Twice is fine."""
        self._stopping = True
        if self._mailbox is not None:
            self._mailbox.close()
        if self._loop is not None:
            await asyncio.wait([self._loop])
        await self._tasks.cancel_all()

    async def write(self, request: wire.WriteRequest, writer: Writer) -> bytes:
        """An encoded WriteResponse, when all of it is durable. Raises Overloaded, Unavailable, BadRequest, Invalid,
        Internal.

        A caller that goes away before its turn has written nothing; after that, it is written whoever listens.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.begin(request, writer, answer)
        return await answer

    def begin(self, request: wire.WriteRequest, writer: Writer, answer: Answer) -> None:
        """The same without waiting: `answer` gets what `write` returns or raises, unless this raises at once."""
        key, fingerprint = "", b""
        if request.request_id:
            key = replay.request_key(writer.identity, request.request_id)
            fingerprint = replay.fingerprint(request)
        mailbox = self._mailbox
        if mailbox is None:
            raise Unavailable(_NOT_LEADING)
        try:
            taken = mailbox.offer(_Request(request, writer, answer, "" if request.dry_run else key, fingerprint))
        except MailboxClosed:
            raise Unavailable("the master is stopping; nothing was written") from None
        if not taken:
            raise Overloaded(f"{WAITING_REQUESTS} writes are waiting already; try again later", retry_after_s=1)

    # --- the loop

    async def _run(self, mailbox: Mailbox[_Request]) -> None:
        batch: list[_Request] = []
        try:
            while True:
                batch = await mailbox.get_batch(GROUP_REQUESTS)
                groups: deque[Sequence[_Request]] = deque([batch])
                while groups:
                    groups.extendleft(reversed(await self._group(groups.popleft())))
        except MailboxClosed:
            return
        except _TermOver as over:
            if self._mailbox is mailbox:
                self._mailbox = None
            self._give_up(mailbox, batch, Unavailable(_NOT_LEADING))
            self.on_deposed(str(over))
        except Exception as error:
            self._on_failure(error)
            self._give_up(mailbox, batch, Internal(f"the master cannot go on: {error}"))

    @staticmethod
    def _give_up(mailbox: Mailbox[_Request], batch: Iterable[_Request], failure: ApiError) -> None:
        mailbox.close()
        for item in (*batch, *mailbox.drain()):
            item.fail(failure)

    async def _group(self, waiting: Sequence[_Request]) -> Sequence[Sequence[_Request]]:
        """Writes a group; returns what is to be written next, group by group. Raises _TermOver, JournalFailed."""
        # To the microsecond, as every API shows it: a time that was shown means this revision when it is asked for.
        group = _Group(Stage(self._store.state, round(self._clock.wall(), 6)))
        rest = await self._stage(group, waiting)
        try:
            again = await self._commit(group)
        finally:
            group.stage.release()
        store_id = self._store.store_id
        for item, outcomes, revision in group.staged:
            if not again and not item.answer.done():
                item.answer.set_result(write_response(outcomes, revision, store_id))
        for item, error in group.refused:
            if not again:
                item.fail(error)
        for item in group.repeated:
            if not again:
                self._repeat(item)
        return [*again, rest] if rest else again

    async def _stage(self, group: _Group, waiting: Sequence[_Request]) -> Sequence[_Request]:
        """Stages as many as make a group; returns the rest."""
        stage, began_s, operations = group.stage, self._clock.monotonic(), 0
        for taken, item in enumerate(waiting):
            if operations >= GROUP_OPERATIONS:
                return waiting[taken:]
            if item.answer.done():
                continue  # the caller has gone
            operations += len(item.request.operations)
            before = stage.revision
            try:
                if item.key and self._is_known(group, item):
                    continue
                outcomes = self._commands.run(stage, item.request, item.writer)
            except ApiError as error:
                group.refused.append((item, error))
                continue
            group.staged.append((item, outcomes, stage.revision))
            if item.key and stage.revision > before:
                group.asked[item.key] = item.fingerprint
                kept = replay.outcome_of(item.fingerprint, outcomes, stage.revision)
                group.requests.append(Request(item.key, stage.revision, stage.now_s, kept))
            if self._clock.monotonic() - began_s > _YIELD_S:
                await asyncio.sleep(0)
                began_s = self._clock.monotonic()
        return ()

    async def _commit(self, group: _Group) -> Sequence[Sequence[_Request]]:
        """Save, then show. Returns groups to be tried again, whose members are not to be answered yet."""
        stage, members = group.stage, group.members
        try:
            failpoints.hit("master.before_commit")
            frees = bool(stage.changes) and all(item.frees for item in members)
            if members and not stage.changes:
                await self._prove()
            await self._store.commit(stage.changes, group.requests, frees=frees)
            failpoints.hit("master.after_commit")
        except DiskFull as error:
            stage.discard()
            full = Overloaded(
                f"the disk is full, nothing was written ({error}); reading works, and so does deleting", retry_after_s=5
            )
            freeing = [] if frees else [item for item in members if item.frees]
            for item in members:
                if frees or not item.frees:
                    item.fail(full)
            return [freeing] if freeing else []
        except Unavailable as error:
            for item in members:
                item.fail(Unavailable(f"{error}; nothing was written"))
        except TooLarge as error:
            stage.discard()
            if len(members) > 1:
                return [[item] for item in members]
            for item in members:
                item.fail(Invalid(f"nothing was written: {error}"))
        except NotLeading as error:
            stage.discard()
            for item in members:
                item.fail(Unavailable(f"this master leads no more ({error}); nothing was written"))
            raise _TermOver(str(error)) from error
        except (Undecided, Unreachable) as error:
            stage.discard()
            for item in members:
                item.fail(Unavailable(f"this may have been written, or not; nobody knows yet: {error}"))
            raise _TermOver(str(error)) from error
        return []

    async def _prove(self) -> None:
        """An append proves that this master leads, and so that its state is the newest. Where nothing is appended (all
        is refused, or as it was), the log is asked: a master that slept may not know that another leads.

        Raises NotLeading, Unavailable.
        """
        head = await self._store.head()
        if head > self._store.revision:
            raise NotLeading(f"another has written up to revision {head}")

    # --- requests that are sent again

    def _is_known(self, group: _Group, item: _Request) -> bool:
        """Whether it was sent before; then it is answered as it was. Raises BadRequest if something else was."""
        asked = group.asked.get(item.key)
        if asked is not None:
            replay.check_same(asked, item.fingerprint)
            group.repeated.append(item)
            return True
        known = self._store.requests.find(item.key, group.stage.now_s)
        if known is None:
            return False
        replay.check_same(known.outcome, item.fingerprint)
        self._repeat(item)
        return True

    def _repeat(self, item: _Request) -> None:
        if not item.answer.done():
            self._tasks.spawn(self._answer_again(item), name="answer again")

    async def _answer_again(self, item: _Request) -> None:
        known = self._store.requests.find(item.key, 0.0)
        if known is None:  # twenty thousand others came in between
            item.fail(Unavailable("this was written before, and what was answered has just been forgotten"))
            return
        try:
            answer = await self._read_again(known.outcome)
            if not item.answer.done():
                item.answer.set_result(answer)
        except asyncio.CancelledError:
            item.fail(Unavailable("the master is stopping; this was written before"))
            raise
        except Exception as error:
            item.fail(Internal(f"this was written before, but the answer cannot be given again: {error}"))
            raise

    async def _read_again(self, kept: bytes) -> bytes:
        response = replay.answer_again(kept, self._store.store_id)
        try:
            for place, key, revision in replay.missing(response):
                version = self._store.get(key)
                if version is not None and version.revision == revision:
                    replay.put_back(place, key, version.data)
                    continue
                for record in await self._store.read_key(key, revision, 1):
                    if record.revision == revision:
                        replay.put_back(place, key, record.data)
        except ApiError:
            pass  # the log cannot be read now: it is answered without the contents
        return response.SerializeToString()
