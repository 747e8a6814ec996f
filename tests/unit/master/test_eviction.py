"""Evictions: the table of decisions, and what the master makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.errors import ApiError, Conflict, Forbidden, Internal, Invalid, NotFound, TooManyRequests
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master.eviction import MAX_NOTED, spend
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.unit.master.rig import Rig, pod, service

WEB = Key("Pod", "default", "web")
BUDGET = Key("PodDisruptionBudget", "default", "pdb")
VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
READY = core.PodCondition(type="Ready", status="True")


def budget(name: str = "pdb", app: str = "web", policy: str = "", **status: Any) -> core.PodDisruptionBudget:
    """A budget of generation 1, counted."""
    made = core.PodDisruptionBudget(metadata=core.ObjectMeta(name=name, namespace="default", generation=1))
    made.spec.minAvailable.intVal = 2
    made.spec.selector.matchLabels["app"] = app
    if policy:
        made.spec.unhealthyPodEvictionPolicy = policy
    counted = {"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 2, **status}
    made.status.MergeFrom(core.PodDisruptionBudgetStatus(**counted))
    return made


def running(ready: bool = True, phase: str = "Running") -> core.Pod:
    made = pod()
    made.spec.nodeName = "n1"
    made.status.phase = phase
    if ready:
        made.status.conditions.append(READY)
    return made


# --- the table


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
def test_a_pod_that_does_not_run_costs_nothing(phase: str) -> None:
    assert spend(running(phase=phase), [budget()], 5.0) is None
    assert spend(running(phase=phase), [budget(), budget("other")], 5.0) is None


def test_a_pod_on_its_way_out_costs_nothing() -> None:
    leaving = running()
    leaving.metadata.deletionTimestamp.seconds = 1
    assert spend(leaving, [budget()], 5.0) is None


def test_a_pod_without_a_budget_costs_nothing() -> None:
    assert spend(running(), [], 5.0) is None
    absent = budget()
    absent.spec.ClearField("selector")
    foreign = budget()
    foreign.metadata.namespace = "other"
    assert spend(running(), [budget(app="db"), absent, foreign], 5.0) is None


def test_what_is_allowed_is_spent_and_noted() -> None:
    before = budget(disruptionsAllowed=2)
    kept = before.SerializeToString(deterministic=True)
    after = spend(running(), [budget("other", app="db"), before], 5.5)
    assert after is not None
    assert after.status.disruptionsAllowed == 1
    assert dict(after.status.disruptedPods) == {"web": core.Time(seconds=5, nanos=500_000_000)}
    assert not after.status.conditions
    assert before.SerializeToString(deterministic=True) == kept, "it may be shared"


def test_the_last_one_changes_the_condition() -> None:
    before = budget(disruptionsAllowed=1)
    before.status.conditions.add(type="DisruptionAllowed", status="True", reason="SufficientPods")
    after = spend(running(), [before], 5.0)
    assert after is not None
    (condition,) = after.status.conditions
    assert (condition.status, condition.reason, condition.observedGeneration) == ("False", "InsufficientPods", 1)


def test_when_none_is_allowed_the_pod_stays() -> None:
    with pytest.raises(TooManyRequests) as caught:
        spend(running(), [budget(desiredHealthy=3)], 5.0)
    assert caught.value.message == VIOLATES
    (cause,) = caught.value.causes
    assert cause.reason == "DisruptionBudget"
    assert cause.message == "The disruption budget pdb needs 3 healthy pods and has 2 currently"


def test_a_budget_that_was_changed_allows_nothing_until_it_is_counted() -> None:
    stale = budget(disruptionsAllowed=2)
    stale.metadata.generation = 2
    with pytest.raises(TooManyRequests) as caught:
        spend(running(), [stale], 5.0)
    assert caught.value.causes[0].message == "The disruption budget pdb is still being processed by the server."
    assert caught.value.retry_after_s == 10


def test_a_pod_of_several_budgets_stays() -> None:
    with pytest.raises(Internal) as caught:
        spend(running(), [budget(disruptionsAllowed=1), budget("other", disruptionsAllowed=1)], 5.0)
    assert caught.value.code == 500
    assert caught.value.message.startswith("This pod has more than one PodDisruptionBudget")
    assert caught.value.causes[0].message == "pod web is covered by other, pdb"


def test_notes_have_a_limit() -> None:
    crowded = budget(disruptionsAllowed=1)
    for number in range(MAX_NOTED + 1):
        crowded.status.disruptedPods[f"p{number}"].seconds = 1
    with pytest.raises(Forbidden, match="DisruptedPods map too big"):
        spend(running(), [crowded], 5.0)


@pytest.mark.parametrize(
    ("policy", "healthy", "desired", "goes"),
    [
        ("", 2, 2, True),
        ("", 3, 2, True),
        ("", 1, 2, False),
        ("", 0, 0, False),
        ("IfHealthyBudget", 2, 2, True),
        ("IfHealthyBudget", 1, 2, False),
        ("AlwaysAllow", 1, 2, True),
        ("AlwaysAllow", 0, 0, True),
    ],
)
def test_pods_that_run_and_are_not_ready(policy: str, healthy: int, desired: int, goes: bool) -> None:
    held = budget(policy=policy, currentHealthy=healthy, desiredHealthy=desired)
    if goes:
        assert spend(running(ready=False), [held], 5.0) is None
    else:
        with pytest.raises(TooManyRequests):
            spend(running(ready=False), [held], 5.0)
    with pytest.raises(TooManyRequests):
        spend(running(ready=True), [held], 5.0)
    spare = budget(policy=policy, currentHealthy=healthy, desiredHealthy=desired, disruptionsAllowed=1)
    after = spend(running(ready=False), [spare], 5.0)
    assert (after is None) is goes, "what need not be spent is not"


# --- what the master makes of it


async def _running(rig: Rig, *names: str, allowed: int | None = 1) -> None:
    """Pods that run on n1, and (unless `allowed` is None) a budget that allows so many evictions."""
    await rig.node()
    for name in names or ("web",):
        made = await rig.pod(name, node="n1")
        made.metadata.resourceVersion = ""
        made.status.phase = "Running"
        made.status.conditions.append(READY)
        await rig.write(ops.update_status(made))
    if allowed is not None:
        await rig.create(budget())
        await _allow(rig, allowed)


async def _allow(rig: Rig, allowed: int) -> None:
    counted = budget(disruptionsAllowed=allowed)
    await rig.write(ops.update_status(counted), "controllers")


def _status(rig: Rig) -> core.PodDisruptionBudgetStatus:
    found = rig.find("PodDisruptionBudget", "pdb")
    assert isinstance(found, core.PodDisruptionBudget)
    return found.status


def _is_leaving(rig: Rig, name: str = "web") -> bool:
    found = rig.find("Pod", name)
    assert found is not None
    return found.metadata.HasField("deletionTimestamp")


async def test_an_eviction_is_one_revision(rig: Rig) -> None:
    await _running(rig)
    before = rig.revision
    evicted = await rig.write(ops.evict(WEB), "controllers")
    assert rig.revision == before + 1
    assert isinstance(evicted, core.Pod)
    assert evicted.metadata.deletionGracePeriodSeconds == 30
    spent = rig.find("PodDisruptionBudget", "pdb")
    assert spent is not None
    assert spent.metadata.resourceVersion == evicted.metadata.resourceVersion
    assert spent.metadata.generation == 1, "what it asks for is the same"
    assert (_status(rig).disruptionsAllowed, list(_status(rig).disruptedPods)) == (0, ["web"])
    assert _status(rig).disruptedPods["web"].seconds == int(rig.clock.wall())


async def test_an_eviction_that_is_refused_changes_nothing(rig: Rig) -> None:
    await _running(rig, allowed=0)
    before = rig.revision
    with pytest.raises(TooManyRequests) as caught:
        await rig.write(ops.evict(WEB))
    assert caught.value.causes[0].message == "The disruption budget pdb needs 2 healthy pods and has 2 currently"
    assert rig.revision == before
    assert not _is_leaving(rig)
    await rig.write(ops.delete(WEB))
    assert _is_leaving(rig), "a delete asks no budget"


async def test_evictions_of_one_write_spend_one_after_the_other(rig: Rig) -> None:
    await _running(rig, "a", "b", "c", allowed=2)
    keys = [Key("Pod", "default", name) for name in "abc"]
    outcomes = await rig.try_write(*[ops.evict(key) for key in keys])
    assert [isinstance(outcome, ApiError) for outcome in outcomes] == [False, False, True]
    assert sorted(_status(rig).disruptedPods) == ["a", "b"]
    assert [_is_leaving(rig, name) for name in "abc"] == [True, True, False]


async def test_all_or_nothing_means_the_budget_too(rig: Rig) -> None:
    await _running(rig, "a", "b", allowed=1)
    keys = [Key("Pod", "default", name) for name in "ab"]
    await rig.try_write(*[ops.evict(key) for key in keys], atomic=True)
    assert not _is_leaving(rig, "a")
    assert _status(rig).disruptionsAllowed == 1
    await _allow(rig, 2)
    before = rig.revision
    await rig.try_write(*[ops.evict(key) for key in keys], atomic=True)
    assert rig.revision == before + 1
    assert _status(rig).disruptionsAllowed == 0
    assert sorted(_status(rig).disruptedPods) == ["a", "b"]


async def test_a_dry_run_spends_nothing(rig: Rig) -> None:
    await _running(rig)
    before = rig.revision
    (outcome,) = await rig.try_write(ops.evict(WEB), dry_run=True)
    assert isinstance(outcome, core.Pod)
    assert outcome.metadata.HasField("deletionTimestamp")
    assert (rig.revision, _is_leaving(rig), _status(rig).disruptionsAllowed) == (before, False, 1)
    await _allow(rig, 0)
    (refused,) = await rig.try_write(ops.evict(WEB), dry_run=True)
    assert isinstance(refused, TooManyRequests)


async def test_a_pod_is_evicted_once(rig: Rig) -> None:
    await _running(rig, allowed=2)
    await rig.write(ops.evict(WEB))
    before = rig.revision
    again = await rig.write(ops.evict(WEB))
    assert again.metadata.HasField("deletionTimestamp")
    assert (rig.revision, _status(rig).disruptionsAllowed) == (before, 1)
    await rig.write(ops.evict(WEB, grace_period_s=0))
    assert rig.find("Pod", "web") is None
    assert _status(rig).disruptionsAllowed == 1


async def test_a_pending_pod_goes_whatever_the_budget_says(rig: Rig) -> None:
    await _running(rig, allowed=0)
    await rig.pod("waiting")
    await rig.write(ops.evict(Key("Pod", "default", "waiting")))
    assert rig.find("Pod", "waiting") is None


async def test_a_grace_period_and_preconditions(rig: Rig) -> None:
    await _running(rig, allowed=1)
    with pytest.raises(Conflict):
        await rig.write(ops.evict(WEB, uid="another"))
    with pytest.raises(Conflict):
        await rig.write(ops.evict(WEB, version="1"))
    assert _status(rig).disruptionsAllowed == 1
    found = rig.find("Pod", "web")
    assert found is not None
    evicted = await rig.write(ops.evict(WEB, uid=found.metadata.uid, grace_period_s=7))
    assert evicted.metadata.deletionGracePeriodSeconds == 7
    with pytest.raises(NotFound):
        await rig.write(ops.evict(Key("Pod", "default", "missing")))


@pytest.mark.parametrize("who", ["scheduler", "node:n1", "proxy", "master"])
async def test_who_may_not_evict(rig: Rig, who: str) -> None:
    await _running(rig)
    with pytest.raises(Forbidden):
        await rig.write(ops.evict(WEB), who)


async def test_a_finalizer_holds_an_evicted_pod(rig: Rig) -> None:
    held = pod("held")
    held.metadata.finalizers.append("example.com/hold")
    await rig.create(held)
    evicted = await rig.write(ops.evict(Key("Pod", "default", "held")))
    assert evicted.metadata.HasField("deletionTimestamp")
    assert rig.find("Pod", "held") is not None


async def test_the_status_of_a_new_budget_is_empty_and_its_numbers_are_looked_at(rig: Rig) -> None:
    made = await rig.create(budget(disruptionsAllowed=5))
    assert isinstance(made, core.PodDisruptionBudget)
    assert not made.HasField("status")
    assert made.metadata.generation == 1
    with pytest.raises(Invalid) as caught:
        await rig.write(ops.update_status(budget(disruptionsAllowed=-1)), "controllers")
    assert caught.value.causes[0].path == "status.disruptionsAllowed"
    changed = await rig.write(ops.patch(BUDGET, {"spec": {"minAvailable": None, "maxUnavailable": "25%"}}))
    assert changed.metadata.generation == 2


async def test_nobody_but_the_admin_makes_budgets_and_classes(rig: Rig) -> None:
    for who in ("controllers", "scheduler", "node:n1", "proxy"):
        for made in (budget(), core.PriorityClass(metadata=core.ObjectMeta(name="high"), value=1)):
            with pytest.raises(Forbidden):
                await rig.create(made, who)


async def test_a_namespace_holds_its_budgets(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    made = budget()
    made.metadata.namespace = "team"
    await rig.create(made)
    team = Key("Namespace", "", "team")
    await rig.write(ops.delete(team))
    with pytest.raises(Conflict, match="1 poddisruptionbudgets"):
        await rig.write(ops.delete(team))


def test_what_evicts_makes_room_on_a_full_disk() -> None:
    from cluster.master.actor import _Request

    def frees(*operations: wire.Operation) -> bool:
        request = wire.WriteRequest(operations=operations)
        return _Request(request, None, None, "", b"").frees  # type: ignore[arg-type]

    assert frees(ops.delete(WEB), ops.evict(WEB))
    assert not frees(ops.evict(WEB), ops.create(service()))
