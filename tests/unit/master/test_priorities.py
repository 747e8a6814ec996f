"""What priority pods get, what gates do, and the classes that are always there."""

from __future__ import annotations

import pytest

from cluster.api.errors import Conflict, Forbidden, Invalid
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.pb.v1 import core_pb2 as core
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, pod, running

WEB = Key("Pod", "default", "web")
HIGH = Key("PriorityClass", "", "high")


def priority_class(
    name: str = "high", value: int = 1000, default: bool = False, policy: str = ""
) -> core.PriorityClass:
    made = core.PriorityClass(metadata=core.ObjectMeta(name=name), value=value, globalDefault=default)
    if policy:
        made.preemptionPolicy = policy
    return made


async def _made(rig: Rig, wanted: core.Pod) -> tuple[str, int, str]:
    made = await rig.create(wanted)
    assert isinstance(made, core.Pod)
    return made.spec.priorityClassName, made.spec.priority, made.spec.preemptionPolicy


def of_class(name: str, pod_name: str = "web") -> core.Pod:
    made = pod(pod_name)
    made.spec.priorityClassName = name
    return made


async def test_without_a_class_the_priority_is_zero(rig: Rig) -> None:
    assert await _made(rig, pod()) == ("", 0, "PreemptLowerPriority")
    stored = rig.find("Pod", "web")
    assert isinstance(stored, core.Pod)
    assert stored.spec.HasField("priority"), "said, so that nobody has to know"


async def test_a_pod_gets_what_its_class_says(rig: Rig) -> None:
    await rig.create(priority_class(policy="Never"))
    assert await _made(rig, of_class("high")) == ("high", 1000, "Never")
    assert await _made(rig, of_class("system-node-critical", "a")) == (
        "system-node-critical",
        2_000_001_000,
        "PreemptLowerPriority",
    )


async def test_a_class_that_does_not_exist_is_refused(rig: Rig) -> None:
    with pytest.raises(Forbidden) as caught:
        await rig.create(of_class("high"))
    assert caught.value.message == 'pods "web" is forbidden: no PriorityClass with name high was found'
    nameless = of_class("high")
    nameless.metadata.ClearField("name")
    nameless.metadata.generateName = "web-"
    with pytest.raises(Forbidden, match='pods "web-'):
        await rig.create(nameless)


async def test_a_number_or_a_policy_that_says_otherwise_is_refused(rig: Rig) -> None:
    await rig.create(priority_class())
    for name, number, computed in (("high", 5, 1000), ("", 5, 0)):
        wanted = of_class(name)
        wanted.spec.priority = number
        message = f"priority \\({number}\\) must not be provided in pod spec; .* computed {computed}"
        with pytest.raises(Forbidden, match=message):
            await rig.create(wanted)
    wanted = of_class("high")
    wanted.spec.preemptionPolicy = "Never"
    with pytest.raises(Forbidden, match=r"PreemptionPolicy \(Never\) must not be provided in pod spec"):
        await rig.create(wanted)
    wanted.spec.preemptionPolicy = "PreemptLowerPriority"
    wanted.spec.priority = 1000
    assert await _made(rig, wanted) == ("high", 1000, "PreemptLowerPriority"), "the same is no contradiction"


async def test_the_default_class_is_for_pods_that_name_none(rig: Rig) -> None:
    await rig.create(priority_class())
    await rig.create(priority_class("usual", 10, default=True, policy="Never"))
    assert await _made(rig, pod("a")) == ("usual", 10, "Never")
    assert await _made(rig, of_class("high", "b")) == ("high", 1000, "PreemptLowerPriority")
    await rig.write(ops.delete(Key("PriorityClass", "", "usual")))
    assert await _made(rig, pod("c")) == ("", 0, "PreemptLowerPriority")
    before = rig.find("Pod", "a")
    assert isinstance(before, core.Pod)
    assert before.spec.priority == 10, "what was given stays"


async def test_a_class_of_the_same_write_counts(rig: Rig) -> None:
    made = await rig.try_write(ops.create(priority_class(default=True)), ops.create(pod()), atomic=True)
    assert isinstance(made[1], core.Pod)
    assert made[1].spec.priority == 1000


async def test_there_is_one_default(rig: Rig) -> None:
    await rig.create(priority_class("usual", 10, default=True))
    with pytest.raises(Forbidden, match=r"PriorityClass usual is already marked as default\. Only one"):
        await rig.create(priority_class(default=True))
    await rig.create(priority_class())
    with pytest.raises(Forbidden, match="Only one default"):
        await rig.write(ops.patch(HIGH, {"globalDefault": True}))
    await rig.write(ops.patch(Key("PriorityClass", "", "usual"), {"description": "it may still be changed"}))
    await rig.write(ops.patch(Key("PriorityClass", "", "usual"), {"globalDefault": False}))
    await rig.write(ops.patch(HIGH, {"globalDefault": True}))
    assert await _made(rig, pod()) == ("high", 1000, "PreemptLowerPriority")


async def test_an_update_keeps_what_the_master_gave(rig: Rig) -> None:
    await rig.create(priority_class(default=True))
    await _made(rig, pod())
    again = pod()
    stored = rig.find("Pod", "web")
    assert isinstance(stored, core.Pod)
    again.spec.tolerations.extend(stored.spec.tolerations)
    again.metadata.labels["a"] = "b"
    after = await rig.write(ops.update(again))
    assert isinstance(after, core.Pod)
    assert (after.spec.priorityClassName, after.spec.priority) == ("high", 1000)
    again.spec.priority = 7
    with pytest.raises(Invalid) as caught:
        await rig.write(ops.update(again))
    assert [cause.path for cause in caught.value.causes] == ["spec.priority"]


async def test_the_systems_classes_are_always_there(rig: Rig) -> None:
    for name in ("system-cluster-critical", "system-node-critical"):
        key = Key("PriorityClass", "", name)
        assert rig.find("PriorityClass", name) is not None
        with pytest.raises(Forbidden, match="this is a system priority class and cannot be deleted"):
            await rig.write(ops.delete(key))
        with pytest.raises(Invalid):
            await rig.write(ops.patch(key, {"globalDefault": True}))
    with pytest.raises(Invalid, match="reserved for system use"):
        await rig.create(priority_class("system-mine", 5))


async def test_a_store_from_before_them_gets_them() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        await rig.create(priority_class())
        revision = rig.revision
        listed = rig.master.store.state.list("PriorityClass")
        assert sorted(version.key.name for version in listed) == [
            "high",
            "system-cluster-critical",
            "system-node-critical",
        ]
        assert {version.revision for version in listed} == {1, 2}, "in the revision that makes the namespaces"
    async with running(journal) as rig:
        assert rig.revision == revision, "once"


async def test_a_class_has_no_generation(rig: Rig) -> None:
    made = await rig.create(priority_class())
    assert not made.metadata.HasField("generation")
    after = await rig.write(ops.patch(HIGH, {"description": "x"}))
    assert not after.metadata.HasField("generation")


# --- gates


def gated(*gates: str) -> core.Pod:
    made = pod()
    for gate in gates:
        made.spec.schedulingGates.add(name=gate)
    return made


async def test_a_gated_pod_says_so_and_is_not_bound(rig: Rig) -> None:
    await rig.node()
    made = await rig.create(gated("a", "b"))
    assert isinstance(made, core.Pod)
    (condition,) = made.status.conditions
    assert (condition.type, condition.status, condition.reason, condition.message) == (
        "PodScheduled",
        "False",
        "SchedulingGated",
        "Scheduling is blocked due to non-empty scheduling gates",
    )
    with pytest.raises(Conflict, match=r"non-empty .spec.schedulingGates.*while a, b is there"):
        await rig.write(ops.bind(WEB, "n1"))
    with pytest.raises(Invalid):
        await rig.write(ops.patch(WEB, {"spec": {"schedulingGates": [{"name": "c"}]}}))
    await rig.write(ops.patch(WEB, {"spec": {"schedulingGates": [{"name": "b"}]}}))
    with pytest.raises(Conflict, match="while b is there"):
        await rig.write(ops.bind(WEB, "n1"))
    await rig.write(ops.patch(WEB, {"spec": {"schedulingGates": None, "nodeSelector": {"disk": "ssd"}}}))
    bound = await rig.write(ops.bind(WEB, "n1"))
    assert isinstance(bound, core.Pod)
    assert [(each.type, each.status, each.reason) for each in bound.status.conditions] == [("PodScheduled", "True", "")]


async def test_a_pod_that_is_bound_is_nominated_no_more(rig: Rig) -> None:
    await rig.node()
    await rig.pod()
    await rig.write(ops.patch(WEB, {"status": {"nominatedNodeName": "n1"}}, status=True), "scheduler")
    bound = await rig.write(ops.bind(WEB, "n1"))
    assert isinstance(bound, core.Pod)
    assert not bound.status.nominatedNodeName
