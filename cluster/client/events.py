"""Tells the cluster what happened to an object, without ever holding up whoever tells it.

`event()` is a plain function: it decides (`event_correlator`), puts the result into a bounded table and returns. One
task writes the table in batches, 50 ms after the first entry, at most 200 operations per write. An Event that happens
again before it was written is written once, with its count. Events are for people: they may be lost (a full table, a
rejected write), and each loss is counted in `dropped`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock, SystemClock
from cluster.actor.tasks import Tasks
from cluster.api.errors import AlreadyExists, ApiError, DeadlineExceeded, NotFound, Overloaded, Unavailable
from cluster.api.kinds import AnyObject
from cluster.api.meta import reference_to
from cluster.client import operations
from cluster.client.event_correlator import EventCorrelator
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

_log = logging.getLogger("podium.client")

BATCH_DELAY_S = 0.05
BATCH_LIMIT = 200
RETRY_INITIAL_S = 0.2
RETRY_MAX_S = 5.0
FLUSH_TIMEOUT_S = 2.0

_TRY_AGAIN = (Unavailable, DeadlineExceeded, Overloaded)


class EventRecorder:
    """Records events on behalf of one component ("scheduler", "node-agent" ...) on one host."""

    def __init__(
        self,
        client: ClusterClient,
        component: str,
        host: str = "",
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        limit: int = 1000,
        hold_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`limit`: so many events may wait to be written. `hold_s` is asked before each batch how long that one shall
        wait, for a component whose other writes come first."""
        self._client = client
        self._clock: Clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._correlator = EventCorrelator(component, host)
        self._limit = limit
        self._hold_s = hold_s
        # By namespace and name, oldest first: the event, and whether it is to be created.
        # When full, the oldest is dropped and counted: what happened last is what people look for.
        self._pending: OrderedDict[tuple[str, str], tuple[core.Event, bool]] = OrderedDict()
        self._work = asyncio.Event()
        self._tasks = Tasks(f"events of {component}")
        self._overflowed = 0
        self._rejected = 0

    @property
    def dropped(self) -> int:
        """Events that nobody will read: spam, a full table, or refused by the master."""
        return self._correlator.dropped + self._overflowed + self._rejected

    def event(
        self,
        about: AnyObject | core.ObjectReference,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        at_s: float | None = None,
    ) -> None:
        """Records that `reason` (a CamelCase word) happened to an object, now or at `at_s` (seconds since 1970).
        Returns at once; never raises or waits."""
        reference = about if isinstance(about, core.ObjectReference) else reference_to(about)
        now_s = self._clock.wall() if at_s is None else at_s
        # Lists are in the order of names, so the events of an object are in the order in which they happened, as in
        # Kubernetes. The dice tell those apart that happened in the same microsecond.
        suffix = f"{int(now_s * 1e6):014x}{self._rng.getrandbits(32):08x}"
        found = self._correlator.observe(reference, type, reason, message, now_s=now_s, suffix=suffix)
        if found is not None:
            self._put(found.event, found.is_new)

    async def start(self) -> None:
        """Begins to write. Events recorded before are kept until then."""
        self._tasks.spawn(self._run(), name="event writer")

    async def stop(self) -> None:
        """Writes what is pending, for at most 2 s, and ends. Twice is fine."""
        await self._tasks.cancel_all()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                while self._pending:
                    await self._write_batch()
        except (ApiError, TimeoutError) as error:
            _log.info("%d events were not written: %s", len(self._pending), error)
            self._overflowed += len(self._pending)
            self._pending.clear()

    def _put(self, event: core.Event, is_new: bool) -> None:
        key = (event.metadata.namespace, event.metadata.name)
        waiting = self._pending.get(key)
        self._pending[key] = (event, is_new or (waiting is not None and waiting[1]))
        if len(self._pending) > self._limit:
            _, (lost, lost_is_new) = self._pending.popitem(last=False)
            self._overflowed += 1
            if lost_is_new:
                self._correlator.forget(lost)
        self._work.set()

    async def _run(self) -> None:
        retry = Backoff(RETRY_INITIAL_S, RETRY_MAX_S, jitter=0.5, rng=self._rng)
        while True:
            await self._work.wait()
            await self._clock.sleep(BATCH_DELAY_S)
            self._work.clear()
            try:
                while self._pending:
                    if (hold_s := self._hold_s()) > 0:
                        await self._clock.sleep(hold_s)
                    await self._write_batch()
                retry.reset()
            except ApiError as error:
                _log.debug("%d events wait: %s", len(self._pending), error)
                self._work.set()
                await self._clock.sleep(retry.next())

    async def _write_batch(self) -> None:
        """Writes the oldest pending events. Raises what is worth a retry; the events are pending again then."""
        batch = [self._pending.popitem(last=False)[1] for _ in range(min(BATCH_LIMIT, len(self._pending)))]
        try:
            written = await self._client.write(
                [operations.create(event) if is_new else operations.update(event) for event, is_new in batch]
            )
        except _TRY_AGAIN:
            # It may have happened all the same; then the create is answered with AlreadyExists, which is fine.
            self._restore(batch)
            raise
        except ApiError as error:
            self._rejected += len(batch)
            _log.warning("%d events were refused: %s", len(batch), error)
            return
        except BaseException:
            self._restore(batch)
            raise
        for (event, is_new), outcome in zip(batch, written.outcomes, strict=True):
            if outcome.error is None:
                continue
            if isinstance(outcome.error, AlreadyExists) and is_new:
                self._put_if_absent(event, False)
            elif isinstance(outcome.error, NotFound) and not is_new:
                # The stored one has expired meanwhile. The name is free again.
                self._put_if_absent(event, True)
            elif isinstance(outcome.error, _TRY_AGAIN):
                self._put_if_absent(event, is_new)
            else:
                self._rejected += 1
                _log.warning("the event %s about %s was refused: %s", event.reason, event.metadata.name, outcome.error)

    def _restore(self, batch: list[tuple[core.Event, bool]]) -> None:
        for event, is_new in reversed(batch):
            key = (event.metadata.namespace, event.metadata.name)
            newer = self._pending.pop(key, None)
            if newer is None and len(self._pending) >= self._limit:
                self._overflowed += 1
                continue
            self._pending[key] = (newer[0], newer[1] or is_new) if newer else (event, is_new)
            self._pending.move_to_end(key, last=False)
        self._work.set()

    def _put_if_absent(self, event: core.Event, is_new: bool) -> None:
        waiting = self._pending.get((event.metadata.namespace, event.metadata.name))
        self._put(waiting[0] if waiting else event, is_new)
