"""Who writes: campaigns for the right to append, and lets the writer work while this master has it.

    follow                 the store shows what others append; writes are handed on (forwarding.py)
    won                    ask where the log ends, wait until all of it is here; nobody else can append any more
    take over              what the writer gives out (addresses) is reckoned anew from the state; the writer begins
    lead                   namespaces that every cluster has are made, if they are missing
    the term is over       because the journal says so, or an append was refused, or nobody knows what became of one:
                           the writer stops, streams that only a leader serves are ended, the state stays; follow

A journal that nobody shares gives the right at once and for good, and all this is a moment at the start. Nothing here
keeps two masters from writing: each append proves its right. This is here so that one of them can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Unavailable
from cluster.master.actor import WriterActor
from cluster.store import failpoints
from cluster.store.interface import Term, Unreachable
from cluster.store.store import Store

_log = logging.getLogger("podium.master")

FIRST_S = 2.0
"""How long a start waits to be told who leads."""
_LOOK_EVERY_S = 0.1
_RETRY_S = 1.0
_HOME_RETRY_S = 5.0


class Leadership:
    """See the head of this file."""

    def __init__(
        self,
        store: Store,
        writer: WriterActor,
        clock: Clock,
        *,
        take_over: Callable[[], None],
        make_home: Callable[[], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`take_over` is called when the state is as new as the log, before the first write; `make_home` writes what
        every cluster has, and may raise ApiError: then it is called again later."""
        self._store = store
        self._writer = writer
        self._clock = clock
        self._take_over = take_over
        self._make_home = make_home
        self._tasks = Tasks("leadership", on_crash=lambda _, error: on_failure(error))
        self._at_home = asyncio.Event()
        self._stopping = False
        self.leads = False
        """Whether this master writes."""
        self.address = ""
        """Where the others reach this master."""
        self.on_end: Callable[[ApiError], None] = lambda error: None
        """Told when this master leads no more, with what those should hear whom only a leader serves."""

    async def start(self, address: str) -> None:
        """Begins to campaign. Returns when this master leads, or knows that another does, or after a while."""
        self.address = address
        campaign = self._tasks.spawn(self._run(), name="campaign")
        waits = [
            campaign,
            self._tasks.spawn(self._at_home.wait(), name="at home"),
            self._tasks.spawn(self._somebody_leads(), name="look"),
            self._tasks.spawn(self._clock.sleep(FIRST_S), name="long enough"),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits[1:]:
            wait.cancel()

    async def stop(self) -> None:
        """Finishes the writes that wait, and gives the right to write to somebody else. Twice is fine."""
        self._stopping = True
        await self._writer.stop()
        await self._tasks.cancel_all()

    async def _somebody_leads(self) -> None:
        while True:
            try:
                if await self._store.journal.leader() not in ("", self.address):
                    return
            except Unreachable:
                return  # nobody can be elected now: there is nothing to wait for
            await self._clock.sleep(_LOOK_EVERY_S)

    async def _run(self) -> None:
        while not self._stopping:
            try:
                failpoints.hit("master.before_campaign")
                term = await self._store.journal.campaign(self.address)
                failpoints.hit("master.after_campaign")
            except Unreachable as error:
                _log.warning("nobody can be elected: %s", error)
                await self._clock.sleep(_RETRY_S)
                continue
            tasks = Tasks("term")
            reason = "the master is stopping"
            try:
                reason = await self._lead(term, tasks)
            finally:
                await self._end(term, tasks, reason)

    async def _lead(self, term: Term, tasks: Tasks) -> str:
        """Until the term is over; returns why."""
        deposed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._writer.on_deposed = lambda reason: None if deposed.done() else deposed.set_result(reason)
        ended = tasks.spawn(term.ended(), name="end of the term")
        leading = tasks.spawn(self._catch_up_and_lead(tasks), name="lead")
        await asyncio.wait({ended, leading}, return_when=asyncio.FIRST_COMPLETED)
        if leading.done():
            leading.result()  # a bug in taking over ends the process
            await asyncio.wait({ended, deposed}, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else deposed.result()

    async def _catch_up_and_lead(self, tasks: Tasks) -> None:
        while True:
            try:
                await self._store.barrier()
                break
            except Unavailable as error:
                _log.warning("elected, but the end of the log is not known yet: %s", error)
                await self._clock.sleep(_LOOK_EVERY_S)
        failpoints.hit("master.after_catch_up")
        self._take_over()
        self._writer.lead()
        self.leads = self._store.leading = True
        _log.info("leads from revision %d on", self._store.revision)
        tasks.spawn(self._settle(), name="settle")

    async def _settle(self) -> None:
        while True:
            try:
                await self._make_home()
                break
            except Unavailable:
                break  # the term is over
            except ApiError as error:
                _log.error("the namespaces that every cluster has could not be made: %s", error)
                self._at_home.set()  # reading works
                await self._clock.sleep(_HOME_RETRY_S)
        self._at_home.set()

    async def _end(self, term: Term, tasks: Tasks, reason: str) -> None:
        led, self.leads, self._store.leading = self.leads, False, False
        if led:
            _log.log(logging.INFO if self._stopping else logging.WARNING, "leads no more: %s", reason)
        await self._writer.step_down()
        await tasks.cancel_all()
        self.on_end(Unavailable(f"this master leads no more ({reason}); connect again"))
        await term.resign()
