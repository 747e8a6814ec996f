"""Two managers on one master: one acts, the other takes over, and what both have done is what one would have done.

There are no agents: the test itself says that the nodes are alive. What counts is who makes pods and who binds them.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError
from cluster.api.leases import COMPONENT_LEASES
from cluster.api.meta import Key
from cluster.api.quantities import quantity
from cluster.client import operations as ops
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.manager_process import ManagerProcess
from tests.kit.master_process import MasterProcess, Pki
from tests.kit.transcript import Transcript, bound_once, never_too_many

PATIENCE_S = 40.0
NODES = ("n1", "n2")
RC = Key("ReplicationController", "default", "web")


class Scene:
    """A master, two nodes that beat, and managers."""

    def __init__(self, pki: Pki, master: MasterProcess, client: GrpcClusterClient) -> None:
        self.client = client
        self.managers: list[ManagerProcess] = []
        self._pki = pki
        self._master = master
        self._tasks = Tasks("scene")

    async def begin(self) -> None:
        for name in NODES:
            node = core.Node(metadata=core.ObjectMeta(name=name))
            for resource, amount in (("cpu", "64"), ("memory", "64Gi"), ("pods", "200")):
                node.status.capacity[resource].CopyFrom(quantity(amount))
            node.status.conditions.add(type="Ready", status="True")
            (await self.client.write([ops.create(node)])).outcomes[0].unwrap()
        self._tasks.spawn(self._beat(), name="heartbeats")

    async def _beat(self) -> None:
        sequence = 0
        while True:
            try:
                async with self.client.heartbeats() as line:
                    while True:
                        sequence += 1
                        await line.beat([wire.NodeHeartbeat(node=name, sequence=sequence) for name in NODES])
                        await asyncio.sleep(0.2)
            except ApiError:
                await asyncio.sleep(0.2)

    async def manager(self, name: str, *arguments: str) -> ManagerProcess:
        """One more, which stands for both leases."""
        made = ManagerProcess(
            self._pki, name, self._master.address, arguments or ("--leader-elect", "--identity", name)
        )
        self.managers.append(made)
        await made.start()
        return made

    async def holders(self) -> dict[str, str]:
        leases = (await self.client.list(core.Lease, "kube-system")).items
        return {lease.metadata.name: lease.spec.holderIdentity for lease in leases}

    async def led_by(self, name: str) -> None:
        """Returns when that manager has both leases."""
        wanted = {key.name: name for key in COMPONENT_LEASES.values()}
        await self.until(lambda holders: holders == wanted, f"{name} leads both parts")

    async def until(self, done: Callable[[dict[str, str]], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done(holders := await self.holders()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}; {holders}\n{self.stories()}"
            await asyncio.sleep(0.05)

    async def scale(self, replicas: int) -> None:
        patch = ops.patch(RC, {"spec": {"replicas": replicas}})
        (await self.client.write([patch])).outcomes[0].unwrap()

    async def bound(self, replicas: int) -> None:
        """Returns when there are so many pods, all of them bound."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pods = (await self.client.list(core.Pod, "default")).items
            alive = [pod for pod in pods if not pod.metadata.HasField("deletionTimestamp")]
            if len(alive) == replicas and all(pod.spec.nodeName for pod in alive):
                return
            found = f"{len(alive)} pods, {sum(bool(pod.spec.nodeName) for pod in alive)} bound"
            assert time.monotonic() < deadline, f"not {replicas} bound pods: {found}\n{self.stories()}"
            await asyncio.sleep(0.05)

    def stories(self) -> str:
        return "\n".join(f"--- {manager.name}\n{manager.story()}" for manager in self.managers)

    async def close(self) -> None:
        await self._tasks.cancel_all()
        for manager in self.managers:
            await manager.close()


def controller(replicas: int) -> core.ReplicationController:
    template = core.PodTemplateSpec(
        metadata=core.ObjectMeta(labels={"app": "web"}),
        spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
    )
    return core.ReplicationController(
        metadata=core.ObjectMeta(name="web", namespace="default"),
        spec=core.ReplicationControllerSpec(replicas=replicas, selector={"app": "web"}, template=template),
    )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    pki = Pki(tmp_path)
    async with MasterProcess(pki) as master, aclosing(master.client()) as client:
        made = Scene(pki, master, client)
        try:
            await made.begin()
            yield made
        finally:
            await made.close()


async def test_the_leading_manager_is_killed_and_the_other_goes_on(scene: Scene) -> None:
    one = await scene.manager("one")
    await scene.led_by("one")
    await scene.manager("two")
    transcript = Transcript(scene.client)
    await transcript.start()
    await scene.client.write([ops.create(controller(5))])
    await scene.bound(5)
    await scene.scale(40)
    await one.kill()  # in the middle of making and binding them
    await scene.bound(40)
    assert set((await scene.holders()).values()) == {"two"}
    changes = await transcript.stop()
    assert never_too_many(changes) >= 40
    assert bound_once(changes) >= 40


async def test_a_suspended_leader_steps_down_when_it_wakes_and_stands_again(scene: Scene) -> None:
    one = await scene.manager("one")
    await scene.led_by("one")
    two = await scene.manager("two")
    transcript = Transcript(scene.client)
    await transcript.start()
    await scene.client.write([ops.create(controller(5))])
    await scene.bound(5)
    await scene.scale(40)
    one.signal(signal.SIGSTOP)  # with decisions made and not yet written, and others written and not yet answered
    await scene.led_by("two")
    await scene.bound(40)
    one.signal(signal.SIGCONT)
    for replicas in (10, 60, 30):
        await scene.scale(replicas)
        await scene.bound(replicas)
    assert set((await scene.holders()).values()) == {"two"}
    for part in COMPONENT_LEASES.values():
        assert f"{part.name}: one stops leading" in one.said()
    assert one.runs
    await two.kill()
    await scene.led_by("one")
    await scene.scale(50)
    await scene.bound(50)
    changes = await transcript.stop()
    never_too_many(changes)
    bound_once(changes)


async def test_a_leader_that_ends_in_good_order_hands_over(scene: Scene) -> None:
    # With leases of 15 s: nobody gets one because the other was slow.
    steady = ("--leader-elect", "--profile", "kubernetes", "--identity")
    one = await scene.manager("one", *steady, "one")
    await scene.led_by("one")
    await scene.client.write([ops.create(controller(3))])
    await scene.manager("two", *steady, "two")
    await scene.bound(3)
    assert await one.terminate() == 0
    await scene.led_by("two")
    for key in COMPONENT_LEASES.values():
        history = await scene.client.history(core.Lease, key.name, key.namespace)
        held = [entry.object.lease.spec for entry in history.entries]
        assert "" in {spec.holderIdentity for spec in held}, "it was given back"
        assert held[0].leaseTransitions == 1
    await scene.scale(6)
    await scene.bound(6)
    told = {"one became leader", "one stopped leading", "two became leader"}
    deadline = time.monotonic() + PATIENCE_S
    while missing := told - {event.message for event in (await scene.client.list(core.Event, "kube-system")).items}:
        assert time.monotonic() < deadline, f"not told: {missing}\n{scene.stories()}"
        await asyncio.sleep(0.05)


async def test_one_manager_alone_takes_no_lease(scene: Scene) -> None:
    await scene.manager("one", "--no-leader-elect")
    await scene.client.write([ops.create(controller(3))])
    await scene.bound(3)
    assert await scene.holders() == {}
