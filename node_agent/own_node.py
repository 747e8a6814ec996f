"""The node's own object at the master: made, brought up to date, kept as it is to be, and said goodbye with.

It is level-triggered, as with pods: the Node is watched. If it is gone, it is registered again; if it says anything but
Ready, Ready is said again; what is new on the node is said in the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.api.conditions import is_node_ready
from cluster.api.errors import AlreadyExists, ApiError
from cluster.api.meta import Key, key_of
from cluster.api.pods import BASELINE, SECURITY_PROFILES, profile_label
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import node_object
from node_agent.facilities import Facilities
from node_agent.settings import AgentSettings
from node_agent.volumes import data_directories

REPAIR_PAUSE_S = 0.2
"""Shortest time between two writes of the node's own status."""

log = get_logger("node_agent")


class OwnNode:
    """Speaks for one node. `on_block(cidr)` is told the block of its pods' addresses, whenever the Node is heard of."""

    def __init__(
        self,
        settings: AgentSettings,
        client: ClusterClient,
        facilities: Facilities,
        on_block: Callable[[str], None],
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings, self._client, self._facilities = settings, client, facilities
        self._on_block, self._clock, self._rng = on_block, clock, rng
        self.port = int(settings.listen.rpartition(":")[2])
        """Where the service NodeAgent is served."""
        self.pressures: tuple[str, ...] = ()
        """What the node is short of: its conditions."""
        self._said = core.NodeStatus()
        self._repair = asyncio.Event()
        by_name = f"metadata.name={settings.name}"
        self.informer = Informer(client, core.Node, field_selector=by_name, clock=clock, rng=rng)
        self.informer.add_handler(self._on_node)

    @property
    def now(self) -> core.Node | None:
        """The Node as the master has it; not to be modified."""
        return self.informer.indexer.get(Key("Node", "", self._settings.name))

    @property
    def labels(self) -> dict[str, str]:
        """As the master has them, or as they will be."""
        return dict(self.now.metadata.labels if self.now is not None else self._settings.labels)

    def say_again(self) -> None:
        """Something of the node is new, or the master does not know it (any more)."""
        self._repair.set()

    async def on_unknown(self, nodes: Sequence[str]) -> None:
        """The master does not know whose heartbeats these are."""
        self.say_again()

    async def repair_forever(self) -> None:
        """Says again what somebody else took away (the Node itself, or that it is ready), and says what is new."""
        while True:
            await self._repair.wait()
            self._repair.clear()
            await self.register()
            await self._clock.sleep(REPAIR_PAUSE_S)
            if self.now is not None and not is_node_ready(self.now):
                self.say_again()

    async def register(self) -> None:
        """Creates the Node, or brings its labels and its status up to date: however long the master takes."""
        backoff = Backoff(0.1, 2.0, jitter=0.2, rng=self._rng)
        while True:
            try:
                await self._register()
                return
            except ApiError as error:
                log.warning("cannot register yet", node=self._settings.name, error=str(error))
            await self._clock.sleep(backoff.next())

    async def _register(self) -> None:
        machine, profiles = self._facilities.machine, self._facilities.profiles
        assert machine is not None
        offered = {profile_label(each): "true" for each in profiles.offered if each != BASELINE}
        labels = node_object.node_labels(self._settings.name, machine, {**self._settings.labels, **offered})
        gone: dict[str, str | None] = {profile_label(each): None for each in SECURITY_PROFILES}
        node = node_object.make_node(self._settings.name, labels)
        status = core.Node(metadata=core.ObjectMeta(name=self._settings.name), status=self._make_status())
        written = await self._client.write(
            [
                operations.create(node),
                operations.patch(key_of(node), {"metadata": {"labels": gone | labels}}),
                operations.update_status(status),
            ],
            cause=core.Cause(reason="register"),
        )
        created, *others = written.outcomes
        if created.error is not None and not isinstance(created.error, AlreadyExists):
            raise created.error
        node_now = [outcome.unwrap() for outcome in others][-1]
        assert isinstance(node_now, core.Node)
        self._on_block(node_now.spec.podCIDR)
        log.info("registered", node=self._settings.name, pod_cidr=node_now.spec.podCIDR)

    async def say_goodbye(self, timeout_s: float) -> None:
        """That the node stops; if the master does not hear it, that is all."""
        if self._facilities.machine is None:
            return  # it was never said that it is there
        try:
            status = self._make_status(stopping=True)
            node = core.Node(metadata=core.ObjectMeta(name=self._settings.name), status=status)
            cause = core.Cause(reason="stopping")
            await self._client.write([operations.update_status(node)], cause=cause, timeout_s=timeout_s)
        except ApiError as error:
            log.info("the master does not hear that this node stops", error=str(error))

    def _make_status(self, *, stopping: bool = False) -> core.NodeStatus:
        machine, known = self._facilities.machine, self.now
        assert machine is not None
        status = node_object.make_node_status(
            known.status if known is not None else self._said,
            name=self._settings.name,
            host=self._settings.host,
            port=self.port,
            machine=machine,
            resources=self._facilities.resources,
            isolation=self._facilities.isolation(),
            pressures=self.pressures,
            data_directories=data_directories(self._facilities.data_dir),
            now_s=self._clock.wall(),
            stopping=stopping,
        )
        self._said.CopyFrom(status)
        return status

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        if new is not None:
            self._on_block(new.spec.podCIDR)
        if new is None or not is_node_ready(new):
            self.say_again()
