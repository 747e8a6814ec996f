"""Candidates for a lease as processes: each has a clock of its own pace, can be suspended, and reaches the cluster late
or not at all.

While a process is suspended nothing of it runs, but its clock goes on: what it waits for it gets when it goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, cast

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import Conflict, Unavailable
from cluster.api.leases import COMPONENT_LEASES
from cluster.client.election import ElectionTimers
from cluster.client.interface import DEFAULT_TIMEOUT_S, ClusterClient, WriteOutcome
from cluster.client.leader_election import LeaderElection, Term
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster

KEY = COMPONENT_LEASES["controllers"]
TIMERS = ElectionTimers(lease_duration_s=3, renew_deadline_s=2.0, retry_s=0.5)
ACT_EVERY_S = 0.1


class OwnClock:
    """A clock that goes `pace` times as fast as the true one, of a process that may be suspended."""

    def __init__(self, true: VirtualClock, pace: float, awake: asyncio.Event) -> None:
        self._true, self._pace, self._awake = true, pace, awake

    def monotonic(self) -> float:
        return self._true.monotonic() * self._pace

    def wall(self) -> float:
        return self._true.wall() * self._pace

    async def sleep(self, seconds: float) -> None:
        await self._true.sleep(seconds / self._pace)
        await self._awake.wait()


class Network:
    """How calls fare: how long each way takes, and which way they are lost."""

    def __init__(self, rng: random.Random, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self._rng = rng
        self.delay_s = delay_s
        """At most, each way."""
        self.loss = loss
        """The share of calls that do not arrive, and of answers that do not."""
        self.on_write: Callable[[], None] = lambda: None
        """Called when somebody begins to write."""

    def way_s(self) -> float:
        return self._rng.uniform(0.0, self.delay_s)

    def loses(self) -> bool:
        return self._rng.random() < self.loss


class FarClient:
    """A candidate's client. Only what an election asks for."""

    def __init__(self, near: MemoryClient, network: Network, true: VirtualClock, awake: asyncio.Event) -> None:
        self._near, self._network, self._true, self._awake = near, network, true, awake
        self.dead = False
        """Its process is gone: it says nothing any more."""

    async def get(self, kind: type[Any], name: str, namespace: str = "", *, timeout_s: float = 10.0) -> Any:
        return await self._call(lambda: self._near.get(kind, name, namespace))

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        self._network.on_write()
        written: WriteOutcome = await self._call(lambda: self._near.write(operations))
        return written

    async def _call(self, call: Callable[[], Any]) -> Any:
        """What was sent arrives and has its effect, even if its sender is suspended meanwhile."""
        if self.dead:
            raise Unavailable("nobody calls")
        try:
            await self._true.sleep(self._network.way_s())
            if self._network.loses():
                raise Unavailable("the call was lost")
            answer = await call()
            await self._true.sleep(self._network.way_s())
            if self._network.loses():
                raise Unavailable("the answer was lost")
            return answer
        finally:
            await self._awake.wait()


class Arena:
    """A cluster and what stands for its lease."""

    def __init__(self, seed: int = 0) -> None:
        self.clock = VirtualClock()
        self.rng = random.Random(seed)
        self.cluster = MemoryCluster(self.clock, self.rng)
        self.network = Network(self.rng)
        self.candidates: list[Candidate] = []
        self.acts: list[tuple[float, str]] = []
        """When somebody acted, and who."""
        self.broken = ""
        """When two led, and which."""

    def add(self, name: str, pace: float = 1.0, timers: ElectionTimers = TIMERS) -> Candidate:
        candidate = Candidate(self, name, pace, timers)
        self.candidates.append(candidate)
        return candidate

    def leaders(self) -> list[str]:
        """Who may act at this moment, each by its own clock."""
        return [candidate.name for candidate in self.candidates if candidate.leads()]

    def check(self) -> None:
        """At most one leads, whoever is suspended."""
        leaders = self.leaders()
        if len(leaders) > 1 and not self.broken:  # found by a candidate that acts: the test must hear of it
            self.broken = f"at {self.clock.monotonic():.3f} {' and '.join(leaders)} lead; {self.acts[-5:]}"
        assert not self.broken, self.broken

    async def run(self, seconds: float, step_s: float = 0.05) -> None:
        """Lets time pass, and checks on the way."""
        until_s = self.clock.monotonic() + seconds
        while (left_s := until_s - self.clock.monotonic()) > 1e-9:
            await self.clock.run_for(min(step_s, left_s))
            self.check()

    @property
    def lease(self) -> core.Lease | None:
        return self.cluster.find(core.Lease, KEY.name, KEY.namespace)

    @property
    def holder(self) -> str:
        return self.lease.spec.holderIdentity if self.lease is not None else ""

    async def close(self) -> None:
        for candidate in self.candidates:
            await candidate.kill()


class Candidate:
    """One process that stands for the lease, and acts as long as it may."""

    def __init__(self, arena: Arena, name: str, pace: float, timers: ElectionTimers) -> None:
        self.name = name
        self.terms: list[Term] = []
        self.linger_s = 0.0
        """What it runs takes so long to end, and acts meanwhile if it may."""
        self.crash: Exception | None = None
        """What it runs ends with this at the next opportunity."""
        self._arena = arena
        self._awake = asyncio.Event()
        self._awake.set()
        self._tasks = Tasks(name, on_crash=lambda task, error: None)
        self.clock: Clock = OwnClock(arena.clock, pace, self._awake)
        self._client = FarClient(arena.cluster.client(name), arena.network, arena.clock, self._awake)
        self._election = LeaderElection(
            cast(ClusterClient, self._client), KEY, name, timers, clock=self.clock, rng=arena.rng
        )
        self.task = self._tasks.spawn(self._election.run(self._lead), name="election")

    def leads(self) -> bool:
        return any(term.leads() for term in self.terms)

    def suspend(self) -> None:
        self._awake.clear()

    def resume(self) -> None:
        self._awake.set()

    async def kill(self) -> None:
        """It is gone, without a word."""
        self._client.dead = True
        self._awake.set()
        for term in self.terms:
            term.end("killed")
        await self._tasks.cancel_all()

    async def stop(self) -> None:
        """It ends in good order."""
        stopping = self._tasks.spawn(self._tasks.cancel_all(timeout_s=60.0), name="stop")
        while not self.task.done():
            await self._arena.run(0.05)
        stopping.cancel()

    async def _lead(self, term: Term) -> None:
        self.terms.append(term)
        try:
            while True:
                self._act(term)
                crash, self.crash = self.crash, None
                if crash is not None:
                    raise crash
                await self.clock.sleep(ACT_EVERY_S)
        except asyncio.CancelledError:
            until_s = self.clock.monotonic() + self.linger_s
            while self.clock.monotonic() < until_s:
                self._act(term)
                await self.clock.sleep(ACT_EVERY_S)
            raise

    def _act(self, term: Term) -> None:
        try:
            term.check()
        except Conflict:
            return
        self._arena.acts.append((self._arena.clock.monotonic(), self.name))
        self._arena.check()
