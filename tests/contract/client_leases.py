"""The suite's part about leases: whoever changes the version that it has read wins, and nobody else."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from cluster.actor.clock import SystemClock
from cluster.actor.tasks import Tasks
from cluster.api.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from cluster.api.leases import COMPONENT_LEASES
from cluster.client import operations
from cluster.client.election import ElectionTimers
from cluster.client.interface import ClusterClient
from cluster.client.leader_election import LeaderElection, Term
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import error_of, write

LEASE = COMPONENT_LEASES["scheduler"]


def lease(holder: str) -> core.Lease:
    spec = core.LeaseSpec(
        holderIdentity=holder,
        leaseDurationSeconds=15,
        acquireTime=core.MicroTime(seconds=1_700_000_000, nanos=250_000),
        leaseTransitions=0,
    )
    return core.Lease(metadata=core.ObjectMeta(name=LEASE.name, namespace=LEASE.namespace), spec=spec)


class LeaseContract:
    """Leases, which have a group of their own, no status, and no generation."""

    async def test_of_two_that_take_one_version_one_has_it(self, client: ClusterClient) -> None:
        with pytest.raises(NotFound):
            await client.get(core.Lease, LEASE.name, LEASE.namespace)
        made = cast(core.Lease, (await write(client, operations.create(lease("a"))))[0])
        assert made.spec == lease("a").spec
        assert not made.metadata.HasField("generation")
        assert isinstance(await error_of(client, operations.create(lease("b"))), AlreadyExists)
        made.spec.holderIdentity, made.spec.leaseTransitions = "b", 1
        taken = cast(core.Lease, (await write(client, operations.update(made)))[0])
        assert not taken.metadata.HasField("generation")
        made.spec.holderIdentity = "c"
        assert isinstance(await error_of(client, operations.update(made)), Conflict)
        assert await client.get(core.Lease, LEASE.name, LEASE.namespace) == taken
        assert (await client.list(core.Lease, LEASE.namespace)).items == [taken]

    async def test_of_two_that_stand_for_a_lease_one_leads_and_then_the_other(self, client: ClusterClient) -> None:
        timers, leaders = ElectionTimers(15, 10.0, 0.1), list[str]()
        tasks = Tasks("candidates")

        def stand(name: str) -> asyncio.Task[None]:
            async def lead(term: Term) -> None:
                leaders.append(name)
                await asyncio.get_running_loop().create_future()

            election = LeaderElection(client, LEASE, name, timers, clock=SystemClock(), rng=random.Random(0))
            return tasks.spawn(election.run(lead), name=name)

        async with asyncio.timeout(30):
            first = stand("a")
            while leaders != ["a"]:
                await asyncio.sleep(0.01)
            stand("b")
            await asyncio.sleep(0.3)
            assert leaders == ["a"]
            first.cancel()
            while leaders != ["a", "b"]:
                await asyncio.sleep(0.01)
            await tasks.cancel_all()
        left = await client.get(core.Lease, LEASE.name, LEASE.namespace)
        assert (left.spec.holderIdentity, left.spec.leaseTransitions) == ("", 1)

    async def test_what_a_lease_may_not_be(self, client: ClusterClient) -> None:
        made = cast(core.Lease, (await write(client, operations.create(lease("a"))))[0])
        assert isinstance(await error_of(client, operations.update_status(made)), BadRequest)
        made.spec.leaseDurationSeconds = 0
        assert isinstance(await error_of(client, operations.update(made)), Invalid)

    async def test_who_held_a_lease_is_history_and_does_not_come_back(self, client: ClusterClient) -> None:
        made = cast(core.Lease, (await write(client, operations.create(lease("a"))))[0])
        made.spec.holderIdentity = "b"
        await write(client, operations.update(made))
        found = await client.history(core.Lease, LEASE.name, LEASE.namespace)
        assert [entry.object.lease.spec.holderIdentity for entry in found.entries] == ["b", "a"]
        with pytest.raises(BadRequest, match=f"podium delete lease/{LEASE.name} -n {LEASE.namespace}"):
            await client.undo(core.Lease, LEASE.name, LEASE.namespace)
