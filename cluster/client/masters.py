"""The masters that a client may talk to: one of them, for as long as it answers, and then the next.

    masters = Masters(("127.5.0.1:6443", "127.5.0.2:6443", "127.5.0.3:6443"), credentials, clock)
    response = await masters.call(lambda master, timeout_s: master.stub.get(request, timeout_s), timeout_s)

Every master serves everything (one that does not lead hands on what only the leader can do), so a client needs no more
than one that works. Which is the first is left to chance, so that clients spread. A master is left when it cannot be
reached, says that it cannot serve, or does not answer within a part of the caller's time; its connections are closed,
so that everything on them ends, and begins again at the next:

    refused, reset, being stopped           at once
    suspended, or cut off without a word    within 3 s: the connection itself asks, each second (rpc/options.py)
    answers other calls, not this one       TRY_S, doubling with each round

A call that may be repeated is sent to the next master, and so on in rounds, until the caller's time is over; then what
happened last is raised. What may be repeated is for the caller to say: reads are, and writes that have a name.

With a single address nothing of this happens: an error is told as it comes, and the connection mends itself.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, DeadlineExceeded, Unavailable
from cluster.client.shared_watches import SharedWatches
from cluster.client.write_stream import WriteStream
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from cluster.rpc.stub import ClusterStub, Metadata

R = TypeVar("R")

TRY_S = 3.0
"""Of a call's time, given to a master in the first round; a follower waits for 2 s for somebody to lead."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
"""After a round in which no master has answered."""


class Master:
    """The connections to one."""

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        clock: Clock,
        on_break: Callable[[Master], None],
        *,
        watchful: bool = False,
        metadata: Metadata = (),
    ) -> None:
        """`on_break` is told when it is not to be reached; `watchful`: that is noticed soon; `metadata` goes with every
        call."""
        self.address = address
        self._channels = Channels(address, credentials, watchful=watchful)
        self._on_break = on_break
        self.stub = ClusterStub(self._channels, metadata)
        self.writes = WriteStream(self.stub)
        self.watches = SharedWatches(self.stub, clock, self._watches_broke)

    def _watches_broke(self, error: ApiError) -> None:
        if isinstance(error, Unavailable | DeadlineExceeded):
            self._on_break(self)

    async def close(self) -> None:
        """Ends all that is under way, with Unavailable. Twice is fine."""
        await self.writes.close()
        await self.watches.close()
        await self._channels.close()


class Masters:
    """See the head of this file. Use from one event loop; nothing is connected before the first use."""

    def __init__(
        self,
        addresses: Sequence[str],
        credentials: Credentials,
        clock: Clock,
        rng: random.Random | None = None,
        metadata: Metadata = (),
    ) -> None:
        self.addresses = tuple(addresses)
        self.several = len(self.addresses) > 1
        self._credentials = credentials
        self._clock = clock
        self._metadata = metadata
        self._rng = rng or random.Random()
        self._number = self._rng.randrange(len(self.addresses))
        self._tasks = Tasks("masters")
        self._closed = False
        self.current = self._connect()
        """Whom to ask now."""

    async def call(self, ask: Callable[[Master, float], Awaitable[R]], timeout_s: float) -> R:
        """What `ask(master, timeout_s)` returns or raises; with several masters see the head of this file."""
        if not self.several:
            return await ask(self.current, timeout_s)
        deadline_s = self._clock.monotonic() + timeout_s
        pause = Backoff(_PAUSE_S, _LONGEST_PAUSE_S, jitter=0.5, rng=self._rng)
        tries, left_s = 0, timeout_s
        said: Unavailable | None = None
        while True:
            master, limit_s = self.current, min(left_s, TRY_S * 2.0 ** min(tries // len(self.addresses), 8))
            try:
                return await ask(master, limit_s)
            except (Unavailable, DeadlineExceeded) as error:
                left_s = deadline_s - self._clock.monotonic()
                if self._closed:
                    raise
                if left_s <= 0:
                    if isinstance(error, Unavailable) or said is None:
                        raise
                    raise DeadlineExceeded(f"no master could do it within {timeout_s:g} s; one said: {said}") from error
                said = error if isinstance(error, Unavailable) else said
                self.leave(master)
            tries += 1
            if tries % len(self.addresses) == 0:
                await self._clock.sleep(min(pause.next(), left_s))
                left_s = max(0.01, deadline_s - self._clock.monotonic())

    def leave(self, master: Master) -> None:
        """It does not answer: the next is asked from now on. Said of one that was left already, it does nothing."""
        if master is not self.current or not self.several or self._closed:
            return
        self._number = (self._number + 1) % len(self.addresses)
        self.current = self._connect()
        self._tasks.spawn(master.close(), name=f"leave {master.address}")

    async def close(self) -> None:
        """Ends everything. Twice is fine; afterwards every use raises Unavailable."""
        self._closed = True
        await self.current.close()
        await self._tasks.cancel_all()

    def _connect(self) -> Master:
        address = self.addresses[self._number]
        return Master(
            address, self._credentials, self._clock, self.leave, watchful=self.several, metadata=self._metadata
        )
