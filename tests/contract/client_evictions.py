"""The suite's part about evictions within disruption budgets, and pods that gates hold back."""

from __future__ import annotations

from typing import cast

import pytest

from cluster.api.errors import Conflict, Internal, NotFound, TooManyRequests
from cluster.api.meta import Key, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import bound_pod, create_pod, error_of, key, node, pod, write

READY = core.PodCondition(type="Ready", status="True")


def budget(name: str = "pdb", **selector: str) -> core.PodDisruptionBudget:
    made = core.PodDisruptionBudget(metadata=core.ObjectMeta(name=name, namespace="default"))
    made.spec.minAvailable.intVal = 1
    made.spec.selector.SetInParent()
    made.spec.selector.matchLabels.update(selector)
    return made


async def running_pod(client: ClusterClient, name: str = "a", ready: bool = True) -> core.Pod:
    found = await bound_pod(client, name)
    found.status.phase = "Running"
    if ready:
        found.status.conditions.append(READY)
    (after,) = await write(client, operations.update_status(found))
    return cast(core.Pod, after)


async def allow(client: ClusterClient, allowed: int, healthy: int = 2, name: str = "pdb") -> None:
    """Says what the disruption controller would say."""
    found = await client.get(core.PodDisruptionBudget, name)
    found.status.observedGeneration = found.metadata.generation
    found.status.disruptionsAllowed = allowed
    found.status.currentHealthy = healthy
    found.status.desiredHealthy = 2
    found.metadata.ClearField("resourceVersion")
    await write(client, operations.update_status(found))


class EvictContract:
    """Evict; gates."""

    async def test_an_eviction_spends_what_the_budget_allows(self, client: ClusterClient) -> None:
        await running_pod(client)
        await write(client, operations.create(budget()))
        await allow(client, 1)
        written = await client.write([operations.evict(key(), grace_period_s=9)])
        evicted = written.outcomes[0].unwrap()
        assert evicted.metadata.deletionGracePeriodSeconds == 9
        assert await client.get(core.Pod, "a") == evicted
        spent = await client.get(core.PodDisruptionBudget, "pdb")
        assert revision_of(spent) == revision_of(evicted) == written.revision, "one step"
        assert (spent.status.disruptionsAllowed, list(spent.status.disruptedPods)) == (0, ["a"])
        (condition,) = spent.status.conditions
        assert (condition.type, condition.status) == ("DisruptionAllowed", "False")
        (again,) = await write(client, operations.evict(key()))
        assert again == evicted

    async def test_an_eviction_beyond_the_budget_is_refused(self, client: ClusterClient) -> None:
        await running_pod(client)
        (made,) = await write(client, operations.create(budget()))
        error = await error_of(client, operations.evict(key()))
        assert isinstance(error, TooManyRequests)
        assert error.message == "Cannot evict pod as it would violate the pod's disruption budget."
        assert [(cause.reason, cause.message) for cause in error.causes] == [
            ("DisruptionBudget", "The disruption budget pdb is still being processed by the server.")
        ]
        assert error.retry_after_s == 10
        await allow(client, 0)
        error = await error_of(client, operations.evict(key()))
        assert isinstance(error, TooManyRequests)
        assert [cause.message for cause in error.causes] == [
            "The disruption budget pdb needs 2 healthy pods and has 2 currently"
        ]
        assert not (await client.get(core.Pod, "a")).metadata.HasField("deletionTimestamp")
        await write(client, operations.delete(key()))
        assert made.metadata.generation == 1

    async def test_what_a_budget_does_not_cover_goes(self, client: ClusterClient) -> None:
        await running_pod(client)
        await write(client, operations.create(budget(app="other")))
        (evicted,) = await write(client, operations.evict(key()))
        assert evicted.metadata.HasField("deletionTimestamp")

    async def test_pending_and_finished_pods_go_without_a_budget(self, client: ClusterClient) -> None:
        await write(client, operations.create(budget()))
        await create_pod(client, "waiting")
        done = await running_pod(client, "done")
        done.status.phase = "Failed"
        await write(client, operations.update_status(done))
        await write(client, operations.evict(key("waiting")), operations.evict(key("done")))
        assert (await client.list(core.Pod)).items == []

    async def test_a_pod_of_two_budgets_stays(self, client: ClusterClient) -> None:
        await running_pod(client)
        await write(client, operations.create(budget()), operations.create(budget("other")))
        await allow(client, 1)
        await allow(client, 1, name="other")
        error = await error_of(client, operations.evict(key()))
        assert isinstance(error, Internal)
        assert error.message == (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )

    async def test_a_pod_that_is_not_ready(self, client: ClusterClient) -> None:
        await running_pod(client, ready=False)
        await running_pod(client, "b", ready=False)
        await write(client, operations.create(budget()))
        await allow(client, 0, healthy=1)
        assert isinstance(await error_of(client, operations.evict(key())), TooManyRequests)
        await allow(client, 0, healthy=2)
        await write(client, operations.evict(key()))
        pdb = Key("PodDisruptionBudget", "default", "pdb")
        always = operations.patch(pdb, {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
        await write(client, always, operations.evict(key("b")))
        spent = await client.get(core.PodDisruptionBudget, "pdb")
        assert not spent.status.disruptedPods

    async def test_all_or_nothing_with_evictions(self, client: ClusterClient) -> None:
        await running_pod(client)
        await running_pod(client, "b")
        await write(client, operations.create(budget()))
        await allow(client, 1)
        both = [operations.evict(key()), operations.evict(key("b"))]
        written = await client.write(both, atomic=True)
        assert isinstance(written.outcomes[1].error, TooManyRequests)
        assert not (await client.get(core.Pod, "a")).metadata.HasField("deletionTimestamp")
        assert (await client.get(core.PodDisruptionBudget, "pdb")).status.disruptionsAllowed == 1
        written = await client.write(both, dry_run=True)
        assert [type(outcome.error) for outcome in written.outcomes] == [type(None), TooManyRequests]
        assert (await client.get(core.PodDisruptionBudget, "pdb")).status.disruptionsAllowed == 1

    async def test_evictions_that_make_no_sense(self, client: ClusterClient) -> None:
        found = await running_pod(client)
        assert isinstance(await error_of(client, operations.evict(key("nope"))), NotFound)
        assert isinstance(await error_of(client, operations.evict(key(), uid="another")), Conflict)
        assert isinstance(await error_of(client, operations.evict(key(), version="1000000")), Conflict)
        await write(client, operations.evict(key(), uid=found.metadata.uid, grace_period_s=0))
        with pytest.raises(NotFound):
            await client.get(core.Pod, "a")

    async def test_a_gated_pod_is_not_bound(self, client: ClusterClient) -> None:
        held = pod()
        held.spec.schedulingGates.add(name="example.com/quota")
        created, _ = await write(client, operations.create(held), operations.create(node()))
        (condition,) = cast(core.Pod, created).status.conditions
        assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "SchedulingGated")
        error = await error_of(client, operations.bind(key(), "node-1"))
        assert isinstance(error, Conflict)
        assert "example.com/quota" in error.message
        open_ = operations.patch(key(), {"spec": {"schedulingGates": None}})
        _, bound = await write(client, open_, operations.bind(key(), "node-1"))
        assert [each.status for each in cast(core.Pod, bound).status.conditions] == ["True"]
