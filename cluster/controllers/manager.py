"""All controllers together: shared caches, shared event recorder, started in order and stopped in reverse.

They are one child of a supervisor, not several, because they share their view of the cluster: when a part of it
crashes, all of it starts again from a fresh list. What a single object can do to a controller is caught per object in
`reconciler.py`.
"""

from __future__ import annotations

import random
from typing import Protocol

from cluster.actor.clock import Clock
from cluster.actor.supervisor import ChildSpec, Restart
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.config.profiles import Profile
from cluster.controllers.caches import Caches
from cluster.controllers.endpoints_controller import EndpointsController
from cluster.controllers.garbage_collector import GarbageCollector
from cluster.controllers.namespaces import NamespaceController
from cluster.controllers.node_lifecycle import NodeLifecycle
from cluster.controllers.replication_controller import ReplicationManager
from cluster.controllers.taint_eviction import TaintEviction

SYNC_TIMEOUT_S = 60.0
"""A master that has not shown its state by then is a failure of this start."""

COMPONENT = "controllers"


class Startable(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class ControllerManager:
    """A service for a supervisor. Made anew for each start: a stopped one is not started again."""

    def __init__(self, client: ClusterClient, profile: Profile, *, clock: Clock, rng: random.Random) -> None:
        self._caches = caches = Caches(client, clock=clock, rng=rng)
        self._events = events = EventRecorder(client, COMPONENT, clock=clock, rng=rng)
        self._controllers: list[Startable] = [
            NodeLifecycle(client, caches, events, profile, clock=clock, rng=rng),
            TaintEviction(client, caches, events, clock=clock, rng=rng),
            ReplicationManager(client, caches, events, clock=clock, rng=rng),
            EndpointsController(client, caches, clock=clock, rng=rng),
            NamespaceController(client, caches, clock=clock, rng=rng),
            GarbageCollector(client, caches, profile, clock=clock, rng=rng),
        ]

    async def start(self) -> None:
        """Returns when the caches are complete and all controllers work. Raises DeadlineExceeded."""
        await self._events.start()
        await self._caches.start()
        await self._caches.wait_synced(SYNC_TIMEOUT_S)
        for controller in self._controllers:
            await controller.start()

    async def stop(self) -> None:
        """Ends everything, and writes the events that are pending. Twice is fine."""
        for controller in reversed(self._controllers):
            await controller.stop()
        await self._caches.stop()
        await self._events.stop()


def build_controllers(client: ClusterClient, profile: Profile, clock: Clock, rng: random.Random) -> list[ChildSpec]:
    """What a supervisor needs to run the controllers; `client` has the identity `controllers`."""
    return [
        ChildSpec(
            name="controllers",
            make=lambda: ControllerManager(client, profile, clock=clock, rng=rng),
            restart=Restart.ALWAYS,
        )
    ]
