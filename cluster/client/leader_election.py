"""Runs something in one process at a time: whoever has the lease runs it, the others stand by.

    election = LeaderElection(client, COMPONENT_LEASES["scheduler"], identity, timers, clock=clock, rng=rng)
    await election.run(lead)        # calls lead(term) each time that it has got the lease, until it is cancelled

`election.py` decides; here is the asking. While it leads, three tasks go on side by side: what is run, the renewing,
and an alarm clock for the moment at which the term is over if no renewal is confirmed. A term that is lost is over at
once (`Term.check` says so before each write, see `leading.py`); then what is run is ended, and only when nothing of it
is left this candidate stands again. A term that is given up goes the other way round: first what is run is ended, while
the lease is still renewed, and then the lease is given back, so that the next one starts into silence.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.election import ElectionTimers, Sight, Tenure, attempt_s, decide, given_back, held, pause_s, seen
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

_log = logging.getLogger("podium.election")

STOP_S = 15.0
GIVE_BACK_S = 3.0
"""Giving the lease back may take so long, with what must be read for it; otherwise it runs out."""
REASON = "LeaderElection"

Lead = Callable[["Term"], Awaitable[None]]


class Term:
    """A time of leading. What is run asks it whether it may still act."""

    def __init__(self, key: Key, identity: str, lease: core.Lease, tenure: Tenure, clock: Clock) -> None:
        self.lease = lease
        """As it was last written; belongs to the term."""
        self.reason = ""
        """Why it was ended; empty: it was not, but it may have run out."""
        self._key = key
        self._identity = identity
        self._tenure = tenure
        self._clock = clock

    @property
    def until_s(self) -> float:
        """It lasts until then, by the monotonic clock, if no more renewals are confirmed."""
        return self._tenure.until_s

    def leads(self) -> bool:
        """Whether its holder may act now."""
        return not self.reason and self._tenure.leads(self._clock.monotonic())

    def check(self) -> None:
        """Raises Conflict unless its holder may act now."""
        if not self.leads():
            why = self.reason or "it was not renewed in time"
            raise Conflict(f"{self._identity} does not hold the lease {self._key.name} any more: {why}")

    def confirm(self, lease: core.Lease, tenure: Tenure) -> None:
        """A renewal succeeded."""
        self.lease, self._tenure = lease, tenure

    def end(self, reason: str) -> None:
        """It is over, for good; the first reason counts."""
        self.reason = self.reason or reason


class LeaderElection:
    """One candidate for one lease."""

    def __init__(
        self,
        client: ClusterClient,
        key: Key,
        identity: str,
        timers: ElectionTimers,
        *,
        clock: Clock,
        rng: random.Random,
        events: EventRecorder | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        """`identity` must be this process's own: of two that bear the same, both would lead. `events` tells people
        who became leader, and who stopped. What is run has `stop_s` to end when it is cancelled."""
        self._client = client
        self._key = key
        self._identity = identity
        self._timers = timers
        self._clock = clock
        self._rng = rng
        self._events = events
        self._stop_s = stop_s
        self._holder: str | None = None

    async def run(self, lead: Lead) -> None:
        """Stands for the lease, and awaits `lead(term)` whenever it has got it; cancels that when it has lost it, and
        stands again.

        Returns when `lead` returns, and raises what it raises; the lease is given back then, and also when `run` is
        cancelled. Raises RuntimeError if `lead` does not end within `stop_s` of its cancellation.
        """
        while True:
            term = await self._stand()
            if await self._serve(term, lead):
                return

    # --- standing

    async def _stand(self) -> Term:
        """Returns when this candidate has the lease."""
        sight: Sight | None = None
        failing = False
        while True:
            wait_s = self._timers.retry_s * (1 + self._rng.random())
            try:
                lease = await self._read(self._timers.renew_deadline_s)
                now_s = self._clock.monotonic()
                sight = seen(sight, lease, self._identity, now_s, self._timers.lease_duration_s)
                self._note_holder(sight.holder)
                decision = decide(sight, now_s)
                if decision.take:
                    term = await self._take(lease)
                    if term is not None and term.leads():  # if the answer did not take longer than the term
                        return term
                wait_s = pause_s(decision, now_s, self._timers.retry_s, self._rng.random())
                failing = False
            except ApiError as error:
                # A claim may have had effect all the same: the next look says whose the lease is.
                _log.log(logging.DEBUG if failing else logging.WARNING, "%s waits: %s", self._key.name, error)
                failing = True
            await self._clock.sleep(wait_s)

    async def _take(self, lease: core.Lease | None) -> Term | None:
        """The term, if nobody was faster."""
        asked_s = self._clock.monotonic()
        try:
            taken = await self._put(lease, self._timers.renew_deadline_s)
        except asyncio.CancelledError:
            if lease is not None:
                # The claim may have effect all the same, and nobody would lead until it has run out.
                await self._give_back(lease)
            raise
        if taken is None:
            return None
        self._note_holder(self._identity)
        return Term(self._key, self._identity, taken, self._tenure(asked_s), self._clock)

    def _note_holder(self, holder: str) -> None:
        if holder != self._holder and holder != self._identity:
            _log.info("%s: %s leads", self._key.name, holder or "nobody")
        self._holder = holder

    # --- leading

    async def _serve(self, term: Term, lead: Lead) -> bool:
        """One term, to its end; True if what is run has ended by itself."""
        self._tell(term, "became leader")
        bodies, keepers = Tasks(self._key.name, on_crash=lambda task, error: None), Tasks(self._key.name)
        body = bodies.spawn(_awaited(lead, term), name="lead")
        keeping = [
            keepers.spawn(self._renew(term), name="renew"),
            keepers.spawn(self._run_out(term), name="run out"),
        ]
        try:
            await asyncio.wait([body, *keeping], return_when=asyncio.FIRST_COMPLETED)
            lost = not term.leads() or not body.done()
            if lost:
                term.end("nobody renews it any more")  # unless there is a reason already
                _log.warning("%s: %s stops leading: %s", self._key.name, self._identity, term.reason)
        finally:
            # Until what is run has ended, the lease is renewed, if it still is this candidate's.
            try:
                await bodies.cancel_all(self._stop_s)
            finally:
                await keepers.cancel_all()
            if term.leads() and body.done():
                term.end("it was given back")
                await self._give_back(term.lease)
            self._tell(term, "stopped leading")
            term.end("what was run has ended")
        if not body.done():
            raise RuntimeError(f"what {self._key.name} runs does not end within {self._stop_s:g} s of its cancellation")
        if not lost:
            body.result()
        elif not body.cancelled() and (error := body.exception()) is not None:
            _log.info("%s: what was run ended with %r", self._key.name, error)
        return not lost

    async def _renew(self, term: Term) -> None:
        """Goes on until the term is over."""
        wait_s = self._timers.renew_every_s
        while True:
            await self._clock.sleep(wait_s)
            asked_s = self._clock.monotonic()
            if not term.leads():
                break
            try:
                lease = await self._keep(term.lease, attempt_s(term.until_s - asked_s, self._timers.retry_s))
            except ApiError as error:
                _log.warning("%s was not renewed: %s", self._key.name, error)
                wait_s = max(0.0, asked_s + self._timers.retry_s - self._clock.monotonic())
                continue
            if lease is None:
                term.end("it is not in its holder's name any more")
                break
            term.confirm(lease, self._tenure(asked_s))
            wait_s = self._timers.renew_every_s

    async def _keep(self, lease: core.Lease | None, timeout_s: float) -> core.Lease | None:
        """The lease after its renewal; None: it is not this candidate's any more."""
        until_s = self._clock.monotonic() + timeout_s
        while True:
            kept = await self._put(lease, until_s - self._clock.monotonic())
            if kept is not None:
                return kept
            # Written by another, deleted, or renewed by a call of ours whose answer was lost.
            lease = await self._read(until_s - self._clock.monotonic())
            if lease is not None and lease.spec.holderIdentity != self._identity:
                return None

    async def _run_out(self, term: Term) -> None:
        """Returns when the term is over by time."""
        while (left_s := term.until_s - self._clock.monotonic()) > 0:
            await self._clock.sleep(left_s)
        term.end(f"it could not be renewed for {self._timers.renew_deadline_s:g} s")

    async def _give_back(self, lease: core.Lease) -> None:
        """Leaves the lease to whoever comes next; it is this candidate's, or may be by now."""
        until_s = self._clock.monotonic() + GIVE_BACK_S
        try:
            while True:
                back = operations.update(given_back(lease, self._clock.wall()))
                left_s = max(until_s - self._clock.monotonic(), 0.001)
                try:
                    (await self._client.write([back], timeout_s=left_s)).outcomes[0].unwrap()
                    return
                except Conflict:
                    # A claim or a renewal was under way when its task was ended: it had effect, and nobody heard the
                    # answer.
                    found = await self._read(until_s - self._clock.monotonic())
                if found is None or found.spec.holderIdentity != self._identity:
                    return
                lease = found
        except ApiError as error:
            _log.info("%s is left to run out: %s", self._key.name, error)

    # --- the lease

    def _tenure(self, asked_s: float) -> Tenure:
        return Tenure(asked_s, self._timers.renew_deadline_s)

    async def _read(self, timeout_s: float) -> core.Lease | None:
        try:
            return await self._client.get(
                core.Lease, self._key.name, self._key.namespace, timeout_s=max(timeout_s, 0.001)
            )
        except NotFound:
            return None

    async def _put(self, lease: core.Lease | None, timeout_s: float) -> core.Lease | None:
        """Writes this candidate into the version that it has read; None: that is not the version any more."""
        new = held(self._key, lease, self._identity, self._timers.lease_duration_s, self._clock.wall())
        operation: wire.Operation = operations.create(new) if lease is None else operations.update(new)
        written = await self._client.write([operation], timeout_s=max(timeout_s, 0.001))
        try:
            stored = written.outcomes[0].unwrap()
        except (AlreadyExists, Conflict):
            return None
        except NotFound:
            if lease is None:
                raise  # not the lease is missing, but its namespace
            return None
        assert isinstance(stored, core.Lease)
        return stored

    def _tell(self, term: Term, what: str) -> None:
        _log.info("%s: %s %s", self._key.name, self._identity, what)
        if self._events is not None:
            self._events.event(term.lease, "Normal", REASON, f"{self._identity} {what}")


async def _awaited(lead: Lead, term: Term) -> None:
    await lead(term)
