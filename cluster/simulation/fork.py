"""A cluster in memory that goes on from a snapshot: the real master, the real controllers, the real scheduler, and
simulated nodes, all on one virtual clock.

    fork.open()      the master leads, over a log that begins with the snapshot; revisions go on after it
    fork.start()     nodes, controllers and scheduler watch, and act
    ...              time passes whenever everybody waits (`idle.py`)
    fork.stop()

Everything that is left to chance is drawn from dice of one seed, a set for each part, so that one part's luck does not
change another's. Nothing leaves this process: the log is a list, the client is a function call (`client.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cluster.actor.supervisor import Service
from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_node_ready
from cluster.client.interface import ClusterClient
from cluster.config.addresses import pod_cidr_base_of, service_cidr_of
from cluster.controllers.manager import build_controllers
from cluster.master.server import Master
from cluster.master.settings import MasterSettings
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.scheduler.actor import build_scheduler
from cluster.simulation.agents import Agents
from cluster.simulation.client import LocalClient
from cluster.simulation.clock import VirtualClock
from cluster.simulation.quiet import least_s, patience_s
from cluster.simulation.settings import SimulationSettings
from cluster.simulation.snapshot import LEFT_OUT, Snapshot
from cluster.store.interface import Request
from cluster.store.memory import MemoryJournal
from cluster.store.version import Record

STORE_ID = "simulation"
_FOREVER = 10**12
"""Nothing of a simulation is forgotten: its report is made of it."""
_EPOCH_S = 1000.0
"""The monotonic clock's beginning."""


class Fork:
    """See the head of this file."""

    def __init__(self, snapshot: Snapshot, *, seed: int, settings: SimulationSettings) -> None:
        self.snapshot = snapshot
        self.settings = settings
        self.clock = VirtualClock(_EPOCH_S, snapshot.taken_at_s)
        self.crash: BaseException | None = None
        """What a part of the cluster died of, which is a bug: the simulation cannot go on."""
        self._seed = seed
        self._journal = _Log(snapshot)
        service_cidr, pod_cidr_base = _networks(snapshot, settings)
        self._master = Master(
            MasterSettings(
                "localhost:0",
                Path("nowhere"),
                Path("nowhere"),
                profile=settings.profile,
                service_cidr=service_cidr,
                pod_cidr_base=pod_cidr_base,
                history_revisions=_FOREVER,
                history_age_s=float(_FOREVER),
            ),
            self._journal,
            clock=self.clock,
            rng=self._dice("master"),
            on_failure=self._died,
        )
        self._tasks = Tasks("simulation", on_crash=lambda task, error: self._died(error))
        self._services: list[Service] = []
        self._patience: tuple[int, float] = (-1, 0.0)
        """What was reckoned last, and for which revision."""
        self.agents = Agents(
            self.client,
            clock=self.clock,
            heartbeat_interval_s=settings.timers.heartbeat_interval_s,
            pace=settings.pace,
            unread=snapshot.unread,
            on_crash=lambda task, error: self._died(error),
        )

    async def open(self) -> None:
        """The master works."""
        await self._master.start()

    async def start(self, down: Sequence[str] = ()) -> None:
        """Nodes, controllers and scheduler work. Nodes that were not ready are silent, and so are those in `down`."""
        ready = (node.metadata.name for node in self.snapshot.of(core.Node) if is_node_ready(node))
        await self.agents.start(name for name in ready if name not in down)
        specs = build_controllers(
            self.client("controllers"), self.settings.timers, self.clock, self._dice("controllers")
        )
        specs += build_scheduler(
            *(self.client("scheduler"), self.settings.timers, self.clock, self._dice("scheduler")),
            settings=self.settings.scheduler,
        )
        for spec in specs:
            service = spec.make()
            await service.start()
            self._services.append(service)
            self._tasks.spawn(_live(service), name=spec.name)

    async def stop(self) -> None:
        """Ends everything. Twice is fine."""
        await self._tasks.cancel_all()
        for service in reversed(self._services):
            await service.stop()
        await self.agents.stop()
        await self._master.stop()

    def client(self, identity: str) -> ClusterClient:
        """A client under this identity: "admin", "node:n1" ..."""
        return LocalClient(self._master.api, Identity.parse(identity), self.clock)

    # --- what became of it

    @property
    def elapsed_s(self) -> float:
        """Virtual time since the beginning."""
        return self.clock.monotonic() - _EPOCH_S

    @property
    def changed_at_s(self) -> float:
        """When anything but events was last changed, in virtual seconds since the beginning."""
        return max(0.0, self._journal.changed_at_s - self.snapshot.taken_at_s)

    @property
    def log(self) -> Sequence[Record]:
        """Every change, in order; their times are wall times of the virtual clock."""
        return self._journal.changes

    @property
    def is_quiet(self) -> bool:
        """Nothing has changed for longer than anything waits that still waits."""
        quiet_s = self.elapsed_s - self.changed_at_s
        if self.agents.is_busy or quiet_s < least_s(self.settings.timers):
            return False
        revision, patience = self._patience
        if revision != self._journal.changed_at:
            patience = self._reckon_patience()
            self._patience = (self._journal.changed_at, patience)
        return quiet_s >= patience

    def _reckon_patience(self) -> float:
        state = self._master.store.state

        def parsed(kind: str) -> list[Any]:
            return [version.parse() for version in state.list(kind)]

        def pods_on(node: str) -> list[Any]:
            if node:
                return [version.parse() for version in state.list("Pod", "", node)]
            return [version.parse() for version in state.list("Pod") if not version.node]

        return patience_s(self.settings.timers, parsed("Node"), pods_on, parsed("ReplicationController"))

    # --- inside

    def _dice(self, part: str) -> random.Random:
        return random.Random(f"{self._seed} {part}")

    def _died(self, error: BaseException) -> None:
        self.crash = self.crash or error


class _Log(MemoryJournal):
    """A journal that begins with a snapshot, and remembers when something that counts was changed."""

    def __init__(self, snapshot: Snapshot) -> None:
        records = snapshot.records()
        super().__init__(STORE_ID, records, compacted=snapshot.revision)
        self._begin = len(records)
        self.changed_at_s = snapshot.taken_at_s
        self.changed_at = snapshot.revision
        """The revision of that change."""

    @property
    def changes(self) -> Sequence[Record]:
        """What was appended since."""
        return self._records[self._begin :]

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        await super().append(records, requests, frees=frees)
        for record in records:
            if record.kind not in LEFT_OUT:
                self.changed_at_s, self.changed_at = record.time_s, record.revision


async def _live(service: Service) -> None:
    await service.run()


def _networks(snapshot: Snapshot, settings: SimulationSettings) -> tuple[str, str]:
    """The networks of services and of pods: as they are set, else as objects show them, else any."""
    services = sorted(_addresses(service.spec.clusterIP for service in snapshot.of(core.Service)))
    pods = sorted(_addresses(node.spec.podCIDR.partition("/")[0] for node in snapshot.of(core.Node)))
    first = str((services or pods or [IPv4Address("127.1.0.0")])[0])
    block = ".".join(first.split(".")[:2])
    return (
        settings.service_cidr or service_cidr_of(block),
        settings.pod_cidr_base or (str(pods[0]) if pods else pod_cidr_base_of(block)),
    )


def _addresses(texts: Iterable[str]) -> Iterator[IPv4Address]:
    for text in texts:
        try:
            yield IPv4Address(text)
        except ValueError:
            continue  # a headless service, a node without addresses
