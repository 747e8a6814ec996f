"""A node agent against an in-memory cluster, and a hollow node against another: what both must say alike.

The programs of the real one are played by its runtime, to the same script: the annotations that a hollow node reads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cluster.actor.clock import SystemClock
from cluster.actor.tasks import Tasks
from cluster.api import hollow
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from node_agent.agent import NodeAgent
from node_agent.hollow.fleet import Fleet
from node_agent.hollow.settings import HollowSettings
from node_agent.node_object import Machine
from node_agent.runtime.interface import Program, Started
from node_agent.settings import AgentSettings
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import FakeRuntime

LIMIT_S = 20.0
NODE = "h-1"
HOST = "127.7.0.10"
CAPACITY = {"cpu": "4", "memory": "8Gi"}
LABELS = {"disk": "ssd"}


class World(Protocol):
    """Somebody who speaks for the node h-1."""

    cluster: MemoryCluster
    actor: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Scene:
    """What a test does to a cluster, and hears of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = world.cluster
        self._admin = world.cluster.client()

    async def create(self, pod: core.Pod) -> core.Pod:
        """Makes a pod and binds it to the node."""
        made = core.Pod()
        made.CopyFrom(pod)
        made.spec.ClearField("nodeName")
        written = await self._admin.write([operations.create(made), operations.bind(key_of(made), NODE)])
        bound = [outcome.unwrap() for outcome in written.outcomes][-1]
        assert isinstance(bound, core.Pod)
        return bound

    async def delete(self, name: str = "web") -> None:
        outcome = await self._admin.write([operations.delete(Key("Pod", "default", name))])
        outcome.outcomes[0].unwrap()

    async def patch(self, patch: dict[str, Any], name: str = "web") -> None:
        outcome = await self._admin.write([operations.patch(Key("Pod", "default", name), patch)])
        outcome.outcomes[0].unwrap()

    async def patch_status(self, pod: core.Pod) -> None:
        outcome = await self._admin.write([operations.update_status(pod)])
        outcome.outcomes[0].unwrap()

    def pod(self, name: str = "web") -> core.Pod | None:
        return self.cluster.find(core.Pod, name)

    def status(self, name: str = "web") -> core.PodStatus:
        pod = self.pod(name)
        return pod.status if pod is not None else core.PodStatus()

    async def reach(self, reached: Callable[[core.PodStatus], bool]) -> core.PodStatus:
        """The status of the pod, once it is so."""
        await self.until(lambda: reached(self.status()))
        return self.status()

    async def until_gone(self) -> None:
        await self.until(lambda: self.pod() is None)

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"it did not come so far:\n{self.status()}") from None

    def last_words(self, name: str = "web") -> tuple[core.PodStatus, wire.DeleteOperation]:
        """The last status that was written of a pod that is gone, and how it was removed."""
        said = [each for who, each in self.cluster.writes if who == self.world.actor]
        flat = [operation for each in said for operation in each]
        statuses = [op.update_status.object.pod for op in flat if op.update_status.object.HasField("pod")]
        (removal,) = [op.delete for op in flat if op.HasField("delete") and op.delete.name == name]
        return next(pod.status for pod in reversed(statuses) if pod.metadata.name == name), removal


class PlayingRuntime(FakeRuntime):
    """Its programs do what the annotations of their pods say, and end when they are told to."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__()
        self._cluster = cluster
        self._tasks = Tasks("programs")

    async def run(self, program: Program) -> Started:
        started = await super().run(program)
        if program.run_id.startswith("trial-"):  # of a security profile: no pod's
            return started
        uid, container = program.run_id.split(".")[:2]
        pod = next((pod for pod in self._cluster.objects(core.Pod) if pod.metadata.uid == uid), core.Pod())
        is_init = any(each.name == container and each.restartPolicy != "Always" for each in pod.spec.initContainers)
        run_s = 0.0 if is_init else hollow.seconds_of(pod.metadata.annotations)
        code = 0 if is_init else hollow.exit_code_of(pod.metadata.annotations)
        if run_s is not None and (is_init or any(each.name == container for each in pod.spec.containers)):
            self._tasks.spawn(self._play(program.run_id, run_s, code), name=program.run_id)
        return started

    async def _play(self, run_id: str, run_s: float, code: int) -> None:
        await asyncio.sleep(run_s)
        self.end(run_id, code)


class RealWorld:
    """A node agent, as it is, but for its runtime."""

    actor = f"node:{NODE}"

    def __init__(self, directory: Path) -> None:
        self.cluster = MemoryCluster()
        settings = AgentSettings(
            name=NODE,
            master="",
            listen=f"{HOST}:10250",
            credentials=directory,
            dir=directory / NODE,
            profile=PROFILES["test"],
            cpu=CAPACITY["cpu"],
            memory=CAPACITY["memory"],
            pods=10,
            labels=LABELS,
            status_tick_s=0.001,
            readiness_by_port=False,
            eviction_hard="none",
        )
        client = self.cluster.client(self.actor)
        self.agent = NodeAgent(
            settings,
            client,
            PlayingRuntime(self.cluster),
            clock=SystemClock(),
            rng=random.Random(1),
            environ={"PATH": "/bin"},
        )

    async def start(self) -> None:
        await self.agent.start()

    async def stop(self) -> None:
        await self.agent.stop()


class HollowWorld:
    """The same node, played."""

    actor = "hollow:h"

    def __init__(self, directory: Path, start_delay_s: float = 0.0) -> None:
        self.cluster = MemoryCluster()
        settings = HollowSettings(
            master="",
            listen=f"{HOST}:10250",
            credentials=directory,
            profile=PROFILES["test"],
            prefix="h",
            count=1,
            pods=10,
            labels=LABELS,
            status_tick_s=0.001,
            start_delay_s=(start_delay_s, start_delay_s),
            cpu=CAPACITY["cpu"],
            memory=CAPACITY["memory"],
        )
        machine = Machine.read(directory)
        client = self.cluster.client(self.actor)
        self.fleet = Fleet(settings, client, machine, clock=SystemClock(), rng=random.Random(1))

    async def start(self) -> None:
        await self.fleet.start()

    async def stop(self) -> None:
        await self.fleet.stop()


def words(status: core.PodStatus) -> core.PodStatus:
    """A status without what differs from node to node and from moment to moment: times, addresses, ids."""
    said = core.PodStatus()
    said.CopyFrom(status)
    assert bool(said.podIP) == bool(said.podIPs)
    for condition in said.conditions:
        condition.ClearField("lastTransitionTime")
    if said.podIP:
        said.podIP, said.podIPs[0].ip = "IP", "IP"
    if said.HasField("startTime"):
        said.startTime.CopyFrom(core.Time())
    for container in (*said.initContainerStatuses, *said.containerStatuses):
        container.containerID = "ID" if container.containerID else ""
        for state in (container.state, container.lastState):
            if state.HasField("running"):
                state.running.startedAt.CopyFrom(core.Time())
            if state.HasField("terminated"):
                state.terminated.startedAt.CopyFrom(core.Time())
                state.terminated.finishedAt.CopyFrom(core.Time())
                state.terminated.containerID = "ID" if state.terminated.containerID else ""
            if " pod=" in state.waiting.message:  # it names the pod, uid and all
                state.waiting.message = state.waiting.message.partition(" pod=")[0]
    return said
