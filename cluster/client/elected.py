"""Children of a supervisor that run in one process at a time, by a lease.

The daemon starts at once and stands by; the children start when the lease is got, and are stopped, all of them, before
somebody else may act (`leader_election.py`). Each term makes them anew, with a client that writes for this term only:
what is left of an earlier one, however long it was asleep, can do nothing. The process lives on and stands again, so
that one that has lost the lease of one component goes on leading the other, and is ready without being started.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from cluster.actor.clock import Clock
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.actor.tasks import Tasks
from cluster.api.meta import Key
from cluster.client.election import ElectionTimers
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.client.leader_election import GIVE_BACK_S, STOP_S, LeaderElection, Term
from cluster.client.leading import leading


class Elected:
    """A service for a supervisor: `start` returns while it stands by."""

    def __init__(
        self,
        client: ClusterClient,
        key: Key,
        identity: str,
        timers: ElectionTimers,
        make: Callable[[ClusterClient], Sequence[ChildSpec]],
        *,
        clock: Clock,
        rng: random.Random,
        election_client: ClusterClient | None = None,
    ) -> None:
        """`make` gets a term's client and says what to run. `election_client`: another connection, so that no renewal
        waits for what the children have to write."""
        self._client = client
        self._name = key.name
        self._make = make
        self._clock = clock
        own = election_client or client
        self._events = EventRecorder(own, key.name, clock=clock, rng=rng)
        self._election = LeaderElection(own, key, identity, timers, clock=clock, rng=rng, events=self._events)
        self._tasks = Tasks(key.name, on_crash=lambda task, error: None)  # `run` tells the supervisor
        self._standing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to stand."""
        await self._events.start()
        self._standing = self._tasks.spawn(self._election.run(self._lead), name="election")

    async def run(self) -> None:
        """Goes on until `stop`. Raises what the children ended with."""
        assert self._standing is not None, "not started"
        await asyncio.wait([self._standing])
        if not self._standing.cancelled():
            self._standing.result()

    async def stop(self) -> None:
        """Stops the children if they run, and gives the lease back. Twice is fine."""
        await self._tasks.cancel_all(STOP_S + GIVE_BACK_S)
        await self._events.stop()

    async def _lead(self, term: Term) -> None:
        supervisor = Supervisor(self._name, self._make(leading(self._client, term)), clock=self._clock)
        try:
            await supervisor.start()
            await supervisor.run()
        finally:
            await supervisor.stop()
