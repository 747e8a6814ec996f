"""What a supervisor runs by a lease: stood by, made, stopped, and made anew, each time with a client of its own."""

from __future__ import annotations

import random

import pytest

from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.api.errors import Conflict
from cluster.client import operations
from cluster.client.elected import Elected
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.client.candidates import KEY, TIMERS


class Child:
    """Counts its lives."""

    def __init__(self, client: ClusterClient, clock: VirtualClock) -> None:
        self.client = client
        self.state = "made"
        self.fails = False
        self._clock = clock

    async def start(self) -> None:
        self.state = "runs"

    async def run(self) -> None:
        while True:
            await self._clock.sleep(0.1)
            if self.fails:
                raise ValueError("a bug")

    async def stop(self) -> None:
        self.state = "stopped"


class Rig:
    """One process that stands for the lease, and everybody else."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(self.clock, random.Random(1))
        self.children: list[Child] = []
        client = self.cluster.client("controllers")

        def make_child(client: ClusterClient) -> Child:
            self.children.append(Child(client, self.clock))
            return self.children[-1]

        def make() -> Elected:
            return Elected(
                client,
                KEY,
                "one",
                TIMERS,
                lambda client: [ChildSpec("child", lambda: make_child(client))],
                clock=self.clock,
                rng=random.Random(2),
            )

        self.supervisor = Supervisor("manager", [ChildSpec("by lease", make)], clock=self.clock)

    def hold(self, holder: str) -> None:
        """The lease is that one's, past all rules."""
        found = self.cluster.find(core.Lease, KEY.name, KEY.namespace)
        lease = core.Lease(metadata=core.ObjectMeta(name=KEY.name, namespace=KEY.namespace))
        if found is not None:
            lease.CopyFrom(found)
        lease.spec.holderIdentity, lease.spec.leaseDurationSeconds = holder, 3
        self.cluster.put(lease)

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            await self.clock.run_for(0.1)

    @property
    def states(self) -> list[str]:
        return [child.state for child in self.children]


async def test_the_process_is_there_while_another_has_the_lease() -> None:
    rig = Rig()
    rig.hold("other")
    await rig.supervisor.start()
    await rig.run(2)
    assert rig.states == []
    rig.hold("")
    await rig.run(1)
    assert rig.states == ["runs"]
    await rig.supervisor.stop()
    assert rig.states == ["stopped"]
    lease = rig.cluster.find(core.Lease, KEY.name, KEY.namespace)
    assert lease is not None
    assert lease.spec.holderIdentity == ""


async def test_each_term_makes_the_children_anew_and_the_old_ones_cannot_write_any_more() -> None:
    rig = Rig()
    await rig.supervisor.start()
    await rig.run(1)
    rig.hold("other")
    await rig.run(2)
    assert rig.states == ["stopped"]
    await rig.run(5)
    assert rig.states == ["stopped", "runs"], "the other never renewed it"
    event = operations.create(core.Event(metadata=core.ObjectMeta(name="a", namespace="default")))
    old, new = rig.children
    with pytest.raises(Conflict, match="does not hold the lease"):
        await old.client.write([event])
    (await new.client.write([event])).outcomes[0].unwrap()
    await rig.supervisor.stop()


async def test_a_child_that_crashes_is_restarted_within_the_term_and_too_often_ends_it() -> None:
    rig = Rig()
    await rig.supervisor.start()
    await rig.run(1)
    rig.children[0].fails = True
    await rig.run(1)
    assert rig.states == ["stopped", "runs"]
    lease = rig.cluster.find(core.Lease, KEY.name, KEY.namespace)
    assert lease is not None
    assert lease.spec.leaseTransitions == 0
    for _ in range(80):
        rig.children[-1].fails = True
        await rig.run(0.2)
    await rig.run(2)
    lease = rig.cluster.find(core.Lease, KEY.name, KEY.namespace)
    assert lease is not None
    assert lease.spec.leaseTransitions > 0, "it was given back, for others to try, and taken again"
    await rig.supervisor.stop()
    assert set(rig.states) == {"stopped"}


async def test_it_can_be_stopped_before_it_ever_had_the_lease() -> None:
    rig = Rig()
    rig.hold("other")
    await rig.supervisor.start()
    await rig.supervisor.stop()
    await rig.supervisor.stop()
    assert rig.states == []
