"""The Node objects of all nodes that a process plays: registered together, said to be Ready again when somebody took
that away, made again when somebody deleted them, and removed in the end.

It is what an agent does for its own Node, for many at a time: the status goes with the creation, a write carries
hundreds. Nodes that are there already, from an earlier life of this process, are brought up to date.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.api.conditions import is_node_ready
from cluster.api.errors import AlreadyExists, ApiError, Forbidden, NotFound
from cluster.api.meta import Key
from cluster.api.pods import BASELINE, SECURITY_PROFILES, profile_label
from cluster.client import operations
from cluster.client.interface import ClusterClient, EventType, WatchEvent
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import node_object
from node_agent.hollow.node import HollowNode
from node_agent.node_object import Machine

BATCH = 200
"""Nodes in one write."""
WRITE_TIMEOUT_S = 20.0
REPAIR_PAUSE_S = 0.2
"""Shortest time between two rounds of writes of nodes' own statuses."""
IMAGE_RUNTIME_LABEL = "podium.dev/image-runtime"
"""Pods that name an image go to nodes that have it, with the value "true"."""
_MISSING = "everything: this node is only played, and runs no processes"

log = get_logger("node_agent.hollow")


class TakenName(Exception):
    """A node of such a name is there, and is not this process' to play."""


class Registry:
    """See the head of this file. Is the sink of the watch of its nodes."""

    def __init__(
        self,
        client: ClusterClient,
        nodes: Mapping[str, HollowNode],
        *,
        host: str,
        resources: Mapping[str, core.Quantity],
        taints: Sequence[core.Taint],
        machine: Machine,
        clock: Clock,
        rng: random.Random,
        port: Callable[[], int],
    ) -> None:
        """`machine` is what the nodes say of where they run; `port` where their logs are asked for."""
        self._client, self._nodes, self._clock, self._rng = client, nodes, clock, rng
        self._host, self._resources, self._taints, self._machine, self._port = host, resources, taints, machine, port
        self._isolation = core.Isolation(enforcement="none", volumes="", profiles=SECURITY_PROFILES, missing=[_MISSING])
        offered = [profile_label(each) for each in SECURITY_PROFILES if each != BASELINE]
        self._offers = dict.fromkeys([IMAGE_RUNTIME_LABEL, *offered], "true")
        self._unwell: dict[str, core.NodeStatus | None] = {}
        """Nodes that are not there (None), or do not say that they are Ready, and what they say; at most all."""
        self._old: set[str] = set()
        """Nodes that were there before, whose labels are not brought up to date yet."""
        self._work = asyncio.Event()

    # --- what the watch of the nodes says (a Sink)

    def replace(self, objects: Sequence[core.Node], revision: int) -> None:
        """These are all the nodes of the prefix."""
        there = {node.metadata.name for node in objects}
        for name in self._nodes:
            if name not in there:
                self._gone(name)
        for node in objects:
            self._seen(node)

    def apply(self, events: Sequence[WatchEvent[core.Node]], revision: int) -> None:
        """This has happened to them."""
        for event in events:
            assert event.object is not None
            if event.type is EventType.DELETED:
                self._gone(event.object.metadata.name)
            else:
                self._seen(event.object)

    def _gone(self, name: str) -> None:
        mine = self._nodes.get(name)
        if mine is not None:
            mine.uid = ""
            self._needs(name, None)

    def _seen(self, node: core.Node) -> None:
        mine = self._nodes.get(node.metadata.name)
        if mine is None:
            return  # another process of this prefix plays it
        mine.uid = node.metadata.uid
        if dict(node.metadata.labels) != mine.labels:
            mine.labels = dict(node.metadata.labels)
        mine.set_addresses(node.spec.podCIDR)
        if is_node_ready(node):
            self._unwell.pop(node.metadata.name, None)
        else:
            status = core.NodeStatus()
            status.CopyFrom(node.status)
            self._needs(node.metadata.name, status)

    def unknown(self, names: Iterable[str]) -> None:
        """The master has heard of these, and knows no such nodes."""
        for name in names:
            self._gone(name)

    def _needs(self, name: str, status: core.NodeStatus | None) -> None:
        self._unwell[name] = status
        self._work.set()

    # --- writing

    async def register(self) -> None:
        """Returns when all nodes are there and say that they are Ready. Raises TakenName."""
        self._unwell = dict.fromkeys(self._nodes)
        await self._mend_until_done()

    async def keep(self) -> None:
        """Mends what is to be mended, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._mend_until_done()
            except TakenName as error:
                log.error("a node cannot be played any more", error=str(error))
            await self._clock.sleep(REPAIR_PAUSE_S)

    async def _mend_until_done(self) -> None:
        backoff = Backoff(0.1, 2.0, jitter=0.2, rng=self._rng)
        while self._unwell:
            names = list(self._unwell)[:BATCH]
            try:
                await self._mend({name: self._unwell.pop(name) for name in names})
                backoff.reset()
            except ApiError as error:
                log.warning("cannot register yet", nodes=len(self._unwell), error=str(error))
                await self._clock.sleep(backoff.next())

    async def _mend(self, unwell: dict[str, core.NodeStatus | None]) -> None:
        """One write; what has failed is unwell again. Raises ApiError, and then all are; TakenName."""
        writes: list[tuple[str, wire.Operation]] = []
        for name, status in unwell.items():
            if name in self._old:
                labels = {"metadata": {"labels": self._labels(name)}}
                writes.append((name, operations.patch(Key("Node", "", name), labels)))
            writes.append((name, self._write_of(name, status)))
        try:
            written = await self._client.write(
                [operation for _, operation in writes], cause=core.Cause(reason="register"), timeout_s=WRITE_TIMEOUT_S
            )
        except ApiError:
            for name, status in unwell.items():
                self._unwell.setdefault(name, status)
            raise
        for (name, _), outcome in zip(writes, written.outcomes, strict=True):
            if outcome.error is None:
                node = outcome.object
                assert isinstance(node, core.Node)
                self._old.discard(name)
                self._seen(node)
            else:
                self._failed(name, unwell[name], outcome.error)

    def _failed(self, name: str, status: core.NodeStatus | None, error: ApiError) -> None:
        if isinstance(error, AlreadyExists):  # from an earlier life: what it says is brought up to date
            self._old.add(name)
            self._unwell[name] = core.NodeStatus()
        elif isinstance(error, NotFound):
            self._old.discard(name)
            self._unwell[name] = None
        elif isinstance(error, Forbidden):
            raise TakenName(
                f'node "{name}" is there and is not to be played: {error}. Choose another --prefix, or delete the node'
            )
        else:
            self._unwell.setdefault(name, status)
            raise error

    def _write_of(self, name: str, before: core.NodeStatus | None) -> wire.Operation:
        if before is None:
            node = node_object.make_node(name, self._labels(name))
            node.spec.taints.extend(self._taints)
            node.status.CopyFrom(self._status(name, core.NodeStatus()))
            return operations.create(node)
        return operations.update_status(
            core.Node(metadata=core.ObjectMeta(name=name), status=self._status(name, before))
        )

    def _labels(self, name: str) -> dict[str, str]:
        return node_object.node_labels(name, self._machine, {**self._offers, **self._nodes[name].labels})

    def _status(self, name: str, before: core.NodeStatus) -> core.NodeStatus:
        return node_object.make_node_status(
            before,
            name=name,
            host=self._host,
            port=self._port(),
            machine=self._machine,
            resources=self._resources,
            isolation=self._isolation,
            pressures=(),
            data_directories=(),
            now_s=self._clock.wall(),
            runtime="hollow",
        )

    async def remove(self) -> int:
        """Removes the nodes; returns how many are left, because the master did not do it."""
        left = 0
        names = [name for name, node in self._nodes.items() if node.uid]
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            uids = {name: self._nodes[name].uid for name in some}
            writes = [operations.delete(Key("Node", "", name), uid=uid, grace_period_s=0) for name, uid in uids.items()]
            try:
                written = await self._client.write(
                    writes, cause=core.Cause(reason="stopping"), timeout_s=WRITE_TIMEOUT_S
                )
            except ApiError as error:
                log.warning("the master does not remove nodes", error=str(error))
                return left + len(names) - start
            for name, outcome in zip(some, written.outcomes, strict=True):
                if outcome.error is None or isinstance(outcome.error, NotFound):
                    self._nodes[name].uid = ""
                else:
                    left += 1
                    log.warning("a node is not removed", node=name, error=str(outcome.error))
        return left
