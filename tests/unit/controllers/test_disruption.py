"""What a disruption budget allows: the reckoning, and the controller that keeps it true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.conditions import get_condition
from cluster.api.errors import TooManyRequests
from cluster.api.meta import key_of, to_time
from cluster.client import operations
from cluster.controllers.disruption import DISRUPTION_LIMIT_S, count
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import NOW_S, controller, meta, owned_by, pod
from tests.unit.controllers.rig import Rig, running


def share(text: str) -> core.IntOrString:
    if text.endswith("%"):
        return core.IntOrString(type=1, strVal=text)
    return core.IntOrString(type=0, intVal=int(text))


def budget(*, least: str = "", most: str = "", name: str = "web") -> core.PodDisruptionBudget:
    made = core.PodDisruptionBudget(metadata=meta(name, generation=1, resourceVersion="1"))
    made.spec.selector.matchLabels["app"] = "web"
    if least:
        made.spec.minAvailable.CopyFrom(share(least))
    if most:
        made.spec.maxUnavailable.CopyFrom(share(most))
    return made


def replicas(count: int, ready: int, *, asked: int | None = None) -> tuple[core.ReplicationController, list[core.Pod]]:
    rc = controller(replicas=count if asked is None else asked)
    return rc, [pod(f"p{n}", owner=rc, ready_since_s=1 if n < ready else None) for n in range(count)]


@pytest.mark.parametrize(
    ("limit", "there", "ready", "asked", "expected", "desired", "allowed"),
    [
        ({"least": "2"}, 3, 3, 3, 3, 2, 1),
        ({"least": "2"}, 3, 1, 3, 3, 2, 0),
        ({"least": "5"}, 3, 3, 3, 3, 5, 0),
        ({"least": "0"}, 3, 3, 3, 3, 0, 3),
        ({"least": "80%"}, 5, 4, 5, 5, 4, 0),
        ({"least": "50%"}, 3, 3, 3, 3, 2, 1),  # rounded up
        ({"least": "50%"}, 3, 3, 10, 10, 5, 0),  # of what the controller is told to keep, not of what is there
        ({"most": "1"}, 3, 3, 3, 3, 2, 1),
        ({"most": "1"}, 3, 2, 3, 3, 2, 0),
        ({"most": "30%"}, 10, 10, 10, 10, 7, 3),
        ({"most": "25%"}, 3, 3, 3, 3, 2, 1),  # rounded up
        ({"most": "100%"}, 3, 3, 3, 3, 0, 3),
        ({"most": "5"}, 3, 3, 3, 3, 0, 3),
        ({"most": "0"}, 3, 3, 3, 3, 3, 0),
        ({"most": "1"}, 0, 0, 0, 0, 0, 0),
    ],
)
def test_the_reckoning(
    limit: dict[str, str], there: int, ready: int, asked: int, expected: int, desired: int, allowed: int
) -> None:
    rc, pods = replicas(there, ready, asked=asked)
    counted = count(budget(**limit), [*pods, pod("other", labels={"app": "db"})], {rc.metadata.uid: rc}, NOW_S)
    status = counted.status
    assert (status.expectedPods, status.desiredHealthy, status.disruptionsAllowed) == (expected, desired, allowed)
    assert status.currentHealthy == ready
    condition = get_condition(status, "DisruptionAllowed")
    assert condition is not None
    assert condition.status == ("True" if allowed else "False")
    assert counted.again_at_s is None


def test_pods_that_go_or_were_let_go_are_not_counted() -> None:
    rc, pods = replicas(4, 4)
    pods[0].metadata.deletionTimestamp.CopyFrom(to_time(NOW_S))
    asked = budget(least="1")
    for name in ("p0", "p1", "gone"):
        asked.status.disruptedPods[name].CopyFrom(to_time(NOW_S - 10))
    asked.status.disruptedPods["p2"].CopyFrom(to_time(NOW_S - DISRUPTION_LIMIT_S))
    counted = count(asked, pods, {rc.metadata.uid: rc}, NOW_S)
    assert counted.status.currentHealthy == 2, "p2, who should have gone long ago, and p3"
    assert list(counted.status.disruptedPods) == ["p1"], "p0 is seen going, gone is gone"
    assert counted.overdue == ("p2",)
    assert counted.again_at_s == NOW_S - 10 + DISRUPTION_LIMIT_S


def test_pods_without_a_controller_are_named_where_that_matters() -> None:
    alone = [pod("a", ready_since_s=1), pod("b", ready_since_s=1)]
    assert count(budget(most="1"), alone, {}, NOW_S).unmanaged == ("a", "b")
    assert count(budget(most="1"), alone, {}, NOW_S).status.disruptionsAllowed == 0
    counted = count(budget(least="1"), alone, {}, NOW_S)
    assert (counted.unmanaged, counted.status.disruptionsAllowed) == ((), 1)


@given(
    ready=st.lists(st.booleans(), max_size=12),
    asked=st.integers(0, 15),
    limit=st.one_of(
        st.tuples(st.sampled_from(["least", "most"]), st.integers(0, 12).map(str)),
        st.tuples(st.sampled_from(["least", "most"]), st.integers(0, 100).map(lambda n: f"{n}%")),
    ),
)
def test_evicting_all_that_is_allowed_leaves_what_is_desired(
    ready: list[bool], asked: int, limit: tuple[str, str]
) -> None:
    rc = controller(replicas=asked)
    pods = [pod(f"p{n}", owner=rc, ready_since_s=1 if is_ready else None) for n, is_ready in enumerate(ready)]
    status = count(budget(**{limit[0]: limit[1]}), pods, {rc.metadata.uid: rc}, NOW_S).status
    assert 0 <= status.disruptionsAllowed <= status.currentHealthy == sum(ready)
    if status.disruptionsAllowed:
        assert status.currentHealthy - status.disruptionsAllowed >= status.desiredHealthy
    whole = sum(ready) - status.desiredHealthy
    assert status.disruptionsAllowed == (max(0, whole) if status.expectedPods > 0 else 0)


# --- the controller


def stored(rig: Rig, name: str = "web") -> core.PodDisruptionBudget:
    found = rig.cluster.find(core.PodDisruptionBudget, name)
    assert found is not None
    return found


async def make(rig: Rig, made: core.PodDisruptionBudget) -> None:
    for field in ("uid", "resourceVersion", "generation"):
        made.metadata.ClearField(field)
    (await rig.admin.write([operations.create(made)])).outcomes[0].unwrap()


async def three_ready(rig: Rig) -> list[core.Pod]:
    await rig.create(controller(replicas=3))
    await rig.run(0.1)
    return [
        rig.change(one, lambda p: (p.status.conditions.add(type="Ready", status="True"), _run(p)))  # type: ignore[func-returns-value]
        for one in rig.active()
    ]


def _run(pod: core.Pod) -> None:
    pod.status.phase = "Running"


async def test_it_follows_pods_and_controllers() -> None:
    async with running() as rig:
        await make(rig, budget(most="1"))
        await rig.run(0.1)
        assert stored(rig).status.disruptionsAllowed == 0
        pods = await three_ready(rig)
        await rig.run(0.1)
        status = stored(rig).status
        assert (status.expectedPods, status.desiredHealthy, status.currentHealthy) == (3, 2, 3)
        assert (status.disruptionsAllowed, status.observedGeneration) == (1, 1)
        rig.change(pods[0], lambda p: p.status.conditions.pop())
        await rig.run(0.1)
        assert stored(rig).status.disruptionsAllowed == 0
        await rig.scale(2)
        await rig.run(0.1)
        assert stored(rig).status.expectedPods == 2


async def test_what_is_allowed_is_spent_once_and_comes_back_with_the_replacement() -> None:
    async with running() as rig:
        pods = await three_ready(rig)
        await make(rig, budget(least="2"))
        await rig.run(0.1)
        outcomes = (await rig.admin.write([operations.evict(key_of(one)) for one in pods])).outcomes
        assert [outcome.error is None for outcome in outcomes] == [True, False, False]
        assert isinstance(outcomes[1].error, TooManyRequests)
        await rig.run(0.1)
        assert stored(rig).status.disruptionsAllowed == 0
        assert not stored(rig).status.disruptedPods, "it is seen going"
        fresh = next(one for one in rig.active() if one.status.phase != "Running")
        rig.change(fresh, lambda p: (p.status.conditions.add(type="Ready", status="True"), _run(p)))  # type: ignore[func-returns-value]
        await rig.run(0.1)
        assert stored(rig).status.disruptionsAllowed == 1


async def test_a_late_controller_gives_out_nothing_twice() -> None:
    async with running() as rig:
        pods = await three_ready(rig)
        await make(rig, budget(least="2"))
        await rig.run(0.1)
        rig.client.shut(core.Pod)  # it sees no pod go any more
        (await rig.admin.write([operations.evict(key_of(pods[0]))])).outcomes[0].unwrap()
        await rig.run(1.0)
        assert stored(rig).status.disruptionsAllowed == 0
        refused = (await rig.admin.write([operations.evict(key_of(pods[1]))])).outcomes[0]
        assert isinstance(refused.error, TooManyRequests)
        rig.client.open()


async def test_a_pod_that_does_not_go_counts_again_and_is_told() -> None:
    async with running() as rig:
        await three_ready(rig)
        await make(rig, budget(least="2"))
        await rig.run(0.1)
        noted = core.PodDisruptionBudget()
        noted.CopyFrom(stored(rig))
        name = rig.active()[0].metadata.name
        noted.status.disruptedPods[name].CopyFrom(to_time(rig.clock.wall()))
        noted.status.disruptionsAllowed = 0
        rig.cluster.put(noted)
        await rig.run(1.0)
        assert stored(rig).status.disruptionsAllowed == 0
        await rig.run(DISRUPTION_LIMIT_S + 1)
        assert stored(rig).status.disruptionsAllowed == 1
        assert [event.involvedObject.name for event in rig.events("NotDeleted")] == [name]


async def test_it_says_that_nobody_expects_pods_without_a_controller() -> None:
    async with running() as rig:
        await make(rig, budget(most="1"))
        rig.cluster.put(pod("alone", ready_since_s=1))
        await rig.run(0.1)
        assert [event.involvedObject.name for event in rig.events("UnmanagedPods")] == ["web"]


def test_pods_of_a_controller_that_is_gone_are_not_expected() -> None:
    rc = controller()
    orphan = pod("p", ready_since_s=1)
    orphan.metadata.ownerReferences.append(owned_by(rc))
    assert count(budget(most="1"), [orphan], {}, NOW_S).status.disruptionsAllowed == 0
