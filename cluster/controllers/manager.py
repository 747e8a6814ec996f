"""All controllers together: shared caches, shared event recorder, started in order and stopped in reverse.

They are one child of a supervisor, not several, because they share their view of the cluster: when a part of it
crashes, all of it starts again from a fresh list. What a single object can do to a controller is caught per object in
`reconciler.py`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Protocol

from cluster.actor.clock import Clock
from cluster.actor.supervisor import ChildSpec, Restart
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.config.profiles import Profile
from cluster.controllers.caches import Caches
from cluster.controllers.context import Context
from cluster.controllers.definitions import DefinitionController
from cluster.controllers.disruption_controller import DisruptionController
from cluster.controllers.endpoints_controller import EndpointsController
from cluster.controllers.faults import FaultController
from cluster.controllers.garbage_collector import GarbageCollector
from cluster.controllers.namespaces import NamespaceController
from cluster.controllers.node_lifecycle import NodeLifecycle
from cluster.controllers.replication_controller import ReplicationManager
from cluster.controllers.taint_eviction import TaintEviction

SYNC_TIMEOUT_S = 60.0
"""A master that has not shown its state by then is a failure of this start."""

COMPONENT = "controllers"

_log = logging.getLogger(__name__)


class Startable(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


CONTROLLERS: tuple[Callable[[Context], Startable], ...] = (
    NodeLifecycle,
    TaintEviction,
    ReplicationManager,
    EndpointsController,
    DisruptionController,
    FaultController,
    DefinitionController,
    NamespaceController,
    GarbageCollector,
)
"""All there are, in the order in which they start. To add a controller: write it, and name it here."""


class ControllerManager:
    """A service for a supervisor. Made anew for each start: a stopped one is not started again."""

    def __init__(self, client: ClusterClient, profile: Profile, *, clock: Clock, rng: random.Random) -> None:
        self._caches = Caches(client, clock=clock, rng=rng)
        self._events = EventRecorder(client, COMPONENT, clock=clock, rng=rng)
        self._over: asyncio.Future[None] | None = None
        context = Context(client, self._caches, self._events, profile, clock, rng, self._on_crash)
        self._controllers: list[Startable] = [make(context) for make in CONTROLLERS]

    async def start(self) -> None:
        """Returns when the caches are complete and all controllers work. Raises DeadlineExceeded."""
        self._over = asyncio.get_running_loop().create_future()
        await self._events.start()
        await self._caches.start()
        await self._caches.wait_synced(SYNC_TIMEOUT_S)
        for controller in self._controllers:
            await controller.start()

    async def run(self) -> None:
        """Goes on until `stop`. Raises what a task died of that should not have ended."""
        assert self._over is not None, "not started"
        await asyncio.shield(self._over)

    async def stop(self) -> None:
        """Ends everything, and writes the events that are pending. Twice is fine."""
        for controller in reversed(self._controllers):
            await controller.stop()
        await self._caches.stop()
        await self._events.stop()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _on_crash(self, task: asyncio.Task[Any], error: BaseException) -> None:
        _log.error("%s died", task.get_name(), exc_info=error)
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)
            self._over.exception()  # Looked at, should nobody be waiting in `run`.


def build_controllers(client: ClusterClient, profile: Profile, clock: Clock, rng: random.Random) -> list[ChildSpec]:
    """What a supervisor needs to run the controllers; `client` has the identity `controllers`."""
    return [
        ChildSpec(
            name="controllers",
            make=lambda: ControllerManager(client, profile, clock=clock, rng=rng),
            restart=Restart.ALWAYS,
        )
    ]
