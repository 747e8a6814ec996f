"""A cluster in memory and one agent, whose runtime runs nothing."""

from __future__ import annotations

import random
from pathlib import Path

from cluster.actor.clock import SystemClock
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.config.profiles import PROFILES, Profile
from cluster.pb.v1 import core_pb2 as core
from node_agent.agent import NodeAgent
from node_agent.settings import AgentSettings
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import FakeRuntime, make_pod, until


class World:
    """A cluster and one agent."""

    def __init__(self, directory: Path, *, readiness_by_port: bool = True, profile: Profile = PROFILES["test"]) -> None:
        self.cluster = MemoryCluster()
        self.directory = directory
        self.readiness_by_port, self.profile = readiness_by_port, profile
        self.admin = self.cluster.client()
        self.runtime = FakeRuntime()
        self.agent = self.make_agent()

    def make_agent(self) -> NodeAgent:
        settings = AgentSettings(
            name="node-1",
            master="",
            listen="127.7.0.10:10250",
            credentials=self.directory,
            dir=self.directory / "node-1",
            profile=self.profile,
            cpu="2",
            memory="1Gi",
            pods=10,
            labels={"disk": "ssd"},
            resources={"gpu": "2"},
            status_tick_s=0.001,
            readiness_by_port=self.readiness_by_port,
        )
        client = self.cluster.client("node:node-1")
        self.runtime = FakeRuntime()
        return NodeAgent(
            settings, client, self.runtime, clock=SystemClock(), rng=random.Random(1), environ={"PATH": "/bin"}
        )

    async def crash(self, *, pods_live: bool = False) -> None:
        """The agent is killed: nobody says goodbye; and its pods are dead, unless the spawner lives."""
        for informer in self.agent._informers:
            await informer.stop()
        await self.agent._faults.stop()
        await self.agent._tasks.cancel_all()
        await self.agent._pods.stop_reconciling()
        await self.agent._checkpoints._tasks.cancel_all()
        await self.agent._heart.stop()
        await self.agent.writer.stop()
        for worker in self.agent.workers.values():
            if not pods_live:
                await worker._around.runtime.stop()
            await worker._own.cancel_all()
            await worker.tasks.cancel_all()
        await self.agent._recorder.stop()

    async def restart(self, *, adopt: bool = False) -> None:
        """A new agent in place of the one that crashed."""
        before = self.runtime
        self.agent = self.make_agent()
        if adopt:
            self.runtime.adopt_from(before)
        await self.agent.start()

    def is_adopted(self, pod: core.Pod) -> bool:
        worker = self.agent.workers.get(pod.metadata.uid)
        return worker is not None and worker.is_running("c1")

    async def saved(self, pod: core.Pod) -> None:
        """The pod's last status is written, at the master and on disk."""
        await until(lambda: not self.agent.writer.is_pending(pod.metadata.uid) and not self.agent._checkpoints._waiting)

    def pod(self, name: str = "web") -> core.Pod | None:
        return self.cluster.find(core.Pod, name)

    def status(self, name: str = "web") -> core.PodStatus:
        pod = self.pod(name)
        assert pod is not None
        return pod.status

    @property
    def node(self) -> core.Node | None:
        return self.cluster.find(core.Node, "node-1", "")

    async def create(self, pod: core.Pod) -> core.Pod:
        outcome = await self.admin.write([operations.create(pod)])
        created = outcome.outcomes[0].unwrap()
        assert isinstance(created, core.Pod)
        return created

    async def run(self, pod: core.Pod | None = None) -> core.Pod:
        """Creates a pod and waits until it is Running."""
        created = await self.create(pod or make_pod())
        await until(lambda: self.status(created.metadata.name).phase == "Running")
        return created

    async def delete(self, pod: core.Pod, grace_s: int | None = None) -> None:
        outcome = await self.admin.write([operations.delete(key_of(pod), grace_period_s=grace_s)])
        outcome.outcomes[0].unwrap()

    def run_id(self, pod: core.Pod, run: int = 0, container: str = "c1") -> str:
        return f"{pod.metadata.uid}.{container}.{run}"

    def reasons(self) -> list[str]:
        return [event.reason for event in self.cluster.objects(core.Event)]
