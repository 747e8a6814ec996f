"""The suite's part about deleting, and about several operations in one write."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from cluster.api.errors import (
    Aborted,
    AlreadyExists,
    BadRequest,
    NotFound,
)
from cluster.api.meta import Key, from_time, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient, WriteOutcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import (
    ClusterClientFactory,
    bound_pod,
    controller,
    create_pod,
    error_of,
    key,
    node,
    pod,
    write,
)


class DeleteContract:
    """Delete; all or nothing; dry run."""

    # --- delete

    async def test_a_pod_that_runs_nowhere_goes_at_once(self, client: ClusterClient) -> None:
        created = await create_pod(client)
        written = await client.write([operations.delete(key())])
        last = written.outcomes[0].unwrap()
        assert last.metadata.uid == created.metadata.uid
        assert revision_of(last) == written.revision > revision_of(created)
        with pytest.raises(NotFound):
            await client.get(core.Pod, "a")

    async def test_a_pod_that_runs_is_given_time_that_can_only_get_shorter(self, client: ClusterClient) -> None:
        bound = await bound_pod(client)
        (found,) = await write(client, operations.delete(key(), grace_period_s=20))
        assert found.metadata.deletionGracePeriodSeconds == 20
        assert found.metadata.generation == bound.metadata.generation + 1
        deadline = found.metadata.deletionTimestamp
        written = await client.write([operations.delete(key(), grace_period_s=25), operations.delete(key())])
        assert [outcome.unchanged for outcome in written.outcomes] == [True, True]
        (found,) = await write(client, operations.delete(key(), grace_period_s=5))
        assert found.metadata.deletionGracePeriodSeconds == 5
        assert from_time(deadline) - from_time(found.metadata.deletionTimestamp) == pytest.approx(15)
        (found,) = await write(client, operations.delete(key(), grace_period_s=-7))
        assert found.metadata.deletionGracePeriodSeconds == 1, "what is negative is a second, as in Kubernetes"
        await write(client, operations.delete(key(), grace_period_s=0))
        with pytest.raises(NotFound):
            await client.get(core.Pod, "a")

    async def test_the_pods_own_period_counts_if_none_is_named(self, client: ClusterClient) -> None:
        slow = pod()
        slow.spec.terminationGracePeriodSeconds = 77
        await write(client, operations.create(node()), operations.create(slow), operations.bind(key(), "node-1"))
        (found,) = await write(client, operations.delete(key()))
        assert found.metadata.deletionGracePeriodSeconds == 77

    async def test_a_finished_pod_goes_at_once(self, client: ClusterClient) -> None:
        found = await bound_pod(client)
        found.status.phase = "Succeeded"
        await write(client, operations.update_status(found), operations.delete(key()))
        with pytest.raises(NotFound):
            await client.get(core.Pod, "a")

    async def test_a_finalizer_holds_an_object_until_it_is_taken_away(self, client: ClusterClient) -> None:
        held = controller()
        held.metadata.finalizers.append("example.com/hold")
        rc = Key("ReplicationController", "default", "rc")
        _, marked = await write(client, operations.create(held), operations.delete(rc))
        assert marked.metadata.HasField("deletionTimestamp")
        assert (await client.get(core.ReplicationController, "rc")) == marked
        await write(client, operations.patch(rc, {"metadata": {"finalizers": None}}))
        with pytest.raises(NotFound):
            await client.get(core.ReplicationController, "rc")

    async def test_what_an_object_owned_can_be_left_in_peace(self, client: ClusterClient) -> None:
        (owner,) = await write(client, operations.create(controller()))
        reference = core.OwnerReference(
            kind="ReplicationController", name="rc", uid=owner.metadata.uid, apiVersion="v1", controller=True
        )
        for name in ("mine", "too"):
            owned = pod(name)
            owned.metadata.ownerReferences.append(reference)
            await write(client, operations.create(owned))
        rc = Key("ReplicationController", "default", "rc")
        await write(client, operations.delete(rc, propagation="Orphan"))
        found = (await client.list(core.Pod)).items
        assert [list(orphan.metadata.ownerReferences) for orphan in found] == [[], []]

    async def test_what_is_deleted_in_the_foreground_waits(self, client: ClusterClient) -> None:
        await write(client, operations.create(controller()))
        rc = Key("ReplicationController", "default", "rc")
        (marked,) = await write(client, operations.delete(rc, propagation="Foreground"))
        assert list(marked.metadata.finalizers) == ["foregroundDeletion"]
        assert (await client.get(core.ReplicationController, "rc")) == marked
        await write(client, operations.delete(rc, propagation="Background"))
        with pytest.raises(NotFound):
            await client.get(core.ReplicationController, "rc")

    # --- several operations

    async def test_each_operation_stands_for_itself(self, client: ClusterClient) -> None:
        written = await client.write(
            [operations.create(pod("a")), operations.create(pod("a")), operations.create(pod("b"))]
        )
        assert [type(outcome.error) for outcome in written.outcomes] == [type(None), AlreadyExists, type(None)]
        first, third = written.outcomes[0].unwrap(), written.outcomes[2].unwrap()
        assert revision_of(third) == revision_of(first) + 1 == written.revision

    async def test_all_or_nothing(self, client: ClusterClient) -> None:
        before = (await client.list(core.Pod)).revision
        written = await client.write([operations.create(pod("a")), operations.delete(key("nope"))], atomic=True)
        assert [type(outcome.error) for outcome in written.outcomes] == [Aborted, NotFound]
        assert written.revision == before
        assert (await client.list(core.Pod)).items == []
        written = await client.write([operations.create(pod("a")), operations.create(pod("b"))], atomic=True)
        assert {revision_of(outcome.unwrap()) for outcome in written.outcomes} == {written.revision} == {before + 1}

    async def test_of_two_who_acted_on_the_same_version_one_writes(
        self, client: ClusterClient, cluster_client_factory: ClusterClientFactory
    ) -> None:
        (created,) = await write(client, operations.create(controller()))
        other = cluster_client_factory("controllers")

        async def scale_up(whose: ClusterClient, number: int) -> WriteOutcome:
            status = core.ReplicationController()
            status.CopyFrom(cast(core.ReplicationController, created))
            status.status.createdReplicas = 3
            pods = [operations.create(pod(f"rc-{number}-{n}")) for n in range(3)]
            return await whose.write([*pods, operations.update_status(status)], atomic=True)

        written = await asyncio.gather(*[scale_up(client if n % 2 else other, n) for n in range(8)])
        assert sum(outcome.outcomes[-1].error is None for outcome in written) == 1
        assert len((await client.list(core.Pod)).items) == 3

    async def test_a_dry_run_answers_as_usual_and_writes_nothing(self, client: ClusterClient) -> None:
        before = (await client.list(core.Pod)).revision
        written = await client.write([operations.create(pod("a")), operations.create(pod("a"))], dry_run=True)
        assert written.outcomes[0].unwrap().metadata.uid
        assert isinstance(written.outcomes[1].error, AlreadyExists)
        found = await client.list(core.Pod)
        assert (found.items, found.revision) == ([], before)

    async def test_a_write_of_nothing_is_fine(self, client: ClusterClient) -> None:
        assert (await client.write([])).outcomes == []
        assert isinstance(await error_of(client, wire.Operation()), BadRequest)
