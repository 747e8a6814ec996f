"""What a reader must wait for so that it sees what was acknowledged before it began, by whichever master.

A store shows what it has read of the log, and others may have appended to that. So whoever must not miss anything asks
the log how far it goes (its head), and waits until that is visible here:

    head 17, visible 15      wait for 17 to arrive
    head 17, visible 17      nothing to wait for; with one master it is always so

Both have a deadline. What cannot be known in time is said: a read that may be stale is no answer to one that must not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from cluster.api.errors import StoreRewound, Unavailable
from cluster.store import failpoints
from cluster.store.interface import Journal, JournalFailed, Unreachable

BARRIER_S = 3.0
"""A read that cannot be sure within this time says so."""
_MANY = 1_000


class Barrier:
    """Use from one event loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._visible = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def reached(self, revision: int) -> None:
        """Everything up to this revision is visible."""
        self._visible = revision
        while self._waiting and self._waiting[0][0] <= revision:
            _, _, arrival = heapq.heappop(self._waiting)
            if not arrival.done():
                arrival.set_result(None)

    async def head(self, timeout_s: float) -> int:
        """The newest revision of the log, as of some moment during this call. Raises Unavailable."""
        failpoints.hit("store.before_head")
        try:
            async with asyncio.timeout(timeout_s):
                head = await self._journal.head()
        except TimeoutError:
            raise _unsure(f"no answer within {timeout_s:g} s") from None
        except (Unreachable, JournalFailed) as error:
            raise _unsure(str(error)) from error
        failpoints.hit("store.after_head")
        return head

    async def everything(self, timeout_s: float) -> None:
        """Returns when everything is visible that was in the log when this was called. Raises Unavailable."""
        head = await self.head(timeout_s)
        if head > self._visible:
            await self._arrived(head, timeout_s)

    async def reach(self, revision: int, timeout_s: float) -> None:
        """Returns when a revision that somebody has heard of is visible. Raises StoreRewound if the log does not go so
        far, Unavailable."""
        if revision <= self._visible:
            return
        head = await self.head(timeout_s)
        if revision > head:
            raise StoreRewound(
                f"revision {revision} has not happened: this store is at {head}; it was restored, or is another one; "
                "list again"
            )
        if revision > self._visible:
            await self._arrived(revision, timeout_s)

    async def _arrived(self, revision: int, timeout_s: float) -> None:
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= _MANY:  # those who have given up are not in the way of the others, only in memory
            self._waiting = [waiter for waiter in self._waiting if not waiter[2].done()]
            heapq.heapify(self._waiting)
        heapq.heappush(self._waiting, (revision, next(self._order), arrival))
        try:
            async with asyncio.timeout(timeout_s):
                await arrival
        except TimeoutError:
            raise _unsure(f"it is at revision {self._visible}, and the log at {revision}") from None


def _unsure(why: str) -> Unavailable:
    return Unavailable(
        f"this master cannot know now what the newest state is ({why}); "
        "what it knew last is given to those who allow stale reads"
    )
