"""Draining a node against disruption budgets, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cluster.api.meta import Key, key_of
from cluster.cli.drain import Drain
from cluster.cli.exits import CommandError, ExitCode
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster

CAUSE = core.Cause(object="nodes/n1", reason="drain")
NEEDS = "The disruption budget web needs 2 healthy pods and has 2 currently"


class Scene:
    """A node with pods that run, a budget, and a drain of it."""

    def __init__(self, *names: str, allowed: int = 0) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock)
        self.pods = [self.cluster.put(self._pod(name)) for name in names]
        self.allow(allowed)
        self.told: list[str] = []
        self.warned: list[str] = []

    @staticmethod
    def _pod(name: str) -> core.Pod:
        made = core.Pod(metadata=core.ObjectMeta(name=name, namespace="default", labels={"app": "web"}))
        made.spec.nodeName = "n1"
        made.status.phase = "Running"
        made.status.conditions.add(type="Ready", status="True")
        return made

    def allow(self, allowed: int, name: str = "web") -> None:
        """What the disruption controller would say."""
        budget = core.PodDisruptionBudget(metadata=core.ObjectMeta(name=name, namespace="default", generation=1))
        budget.spec.minAvailable.intVal = 2
        budget.spec.selector.matchLabels["app"] = "web"
        budget.status.MergeFrom(
            core.PodDisruptionBudgetStatus(
                observedGeneration=1, disruptionsAllowed=allowed, currentHealthy=2, desiredHealthy=2
            )
        )
        self.cluster.put(budget)

    def drain(self, timeout_s: float = 60.0, by_eviction: bool = True) -> asyncio.Task[dict[Key, str]]:
        drain = Drain(
            self.cluster.client(),
            self.clock,
            "n1",
            CAUSE,
            5,
            by_eviction=by_eviction,
            tell=self.told.append,
            warn=self.warned.append,
        )
        return asyncio.get_running_loop().create_task(drain.evict(self.pods, timeout_s))

    def leaving(self) -> list[str]:
        pods: Sequence[core.Pod] = self.cluster.objects(core.Pod)
        return [pod.metadata.name for pod in pods if pod.metadata.HasField("deletionTimestamp")]


async def test_all_that_may_go_go_at_once() -> None:
    scene = Scene("a", "b", allowed=2)
    leaving = await scene.drain()
    assert leaving == {key_of(pod): pod.metadata.uid for pod in scene.pods}
    assert scene.told == ["pod/a evicted", "pod/b evicted"]
    assert scene.warned == []
    assert scene.cluster.find(core.Pod, "a").metadata.deletionGracePeriodSeconds == 5  # type: ignore[union-attr]
    assert [[op.WhichOneof("operation") for op in ops] for _, ops in scene.cluster.writes] == [["evict", "evict"]]


async def test_what_a_budget_holds_is_tried_again_and_told_once() -> None:
    scene = Scene("a", "b", allowed=1)
    drain = scene.drain()
    await scene.clock.run_for(10.0)
    assert scene.leaving() == ["a"]
    assert scene.warned == [f"pod/b stays for now: {NEEDS}"], "once, however often it is tried"
    scene.allow(1)
    await scene.clock.run_for(2.0)
    assert sorted(key.name for key in await drain) == ["a", "b"]
    assert scene.told == ["pod/a evicted", "pod/b evicted"]


async def test_another_reason_is_told_as_well() -> None:
    scene = Scene("a")
    drain = scene.drain()
    await scene.clock.run_for(1.0)
    stale = scene.cluster.find(core.PodDisruptionBudget, "web")
    assert stale is not None
    changed = core.PodDisruptionBudget()
    changed.CopyFrom(stale)
    changed.metadata.generation = 2
    scene.cluster.put(changed)
    await scene.clock.run_for(3.0)
    assert scene.warned == [
        f"pod/a stays for now: {NEEDS}",
        "pod/a stays for now: The disruption budget web is still being processed by the server.",
    ]
    scene.allow(1)
    await scene.clock.run_for(3.0)
    await drain


async def test_when_the_time_is_over_it_says_what_held_it_up_and_what_to_do() -> None:
    scene = Scene("a", "b", allowed=1)
    drain = scene.drain(timeout_s=30.0)
    await scene.clock.run_for(29.0)
    assert not drain.done()
    await scene.clock.run_for(1.0)
    with pytest.raises(CommandError) as caught:
        await drain
    assert caught.value.code == ExitCode.TIMEOUT
    assert str(caught.value).splitlines()[:2] == [
        "node/n1 is cordoned, but not drained after 30 s:",
        f"  pod/b of namespace default: {NEEDS}",
    ]
    assert "--disable-eviction" in str(caught.value)
    assert scene.leaving() == ["a"]


async def test_what_time_does_not_help_ends_it_when_the_others_are_on_their_way() -> None:
    scene = Scene("a", "b")
    scene.allow(0, "other")
    scene.cluster.put(core.Pod(metadata=core.ObjectMeta(name="c", namespace="default")))
    scene.pods.append(scene.cluster.objects(core.Pod)[2])
    with pytest.raises(CommandError, match="pod/a of namespace default: This pod has more than one") as caught:
        await scene.drain()
    assert caught.value.code == ExitCode.ERROR
    assert scene.told == ["pod/c evicted"]


async def test_pods_that_are_gone_or_replaced_are_no_trouble() -> None:
    scene = Scene("a", "b", "c", allowed=1)
    scene.cluster.remove(scene.pods[0])
    scene.cluster.remove(scene.pods[1])
    scene.cluster.put(Scene._pod("b"))
    assert [key.name for key in await scene.drain()] == ["c"]
    assert scene.leaving() == ["c"], "the new b is another pod"


async def test_without_eviction_no_budget_is_asked() -> None:
    scene = Scene("a", "b")
    assert len(await scene.drain(by_eviction=False)) == 2
    assert scene.leaving() == ["a", "b"]
    assert scene.warned == []
