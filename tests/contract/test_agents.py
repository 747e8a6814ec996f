"""What a node says of its pods is the same, whether an agent runs them or they are only played."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from cluster.api import hollow
from cluster.api.conditions import set_condition
from cluster.api.quantities import quantity
from cluster.pb.v1 import core_pb2 as core
from tests.contract.agent_worlds import HOST, HollowWorld, RealWorld, Scene, words
from tests.unit.node_agent.kit import make_pod


def job(policy: str, run_s: str, code: str = "0", containers: int = 1) -> core.Pod:
    pod = make_pod(policy=policy, containers=containers)
    pod.metadata.annotations.update({hollow.RUN_SECONDS: run_s, hollow.EXIT_CODE: code})
    return pod


def with_sidecar(pod: core.Pod) -> core.Pod:
    pod.spec.initContainers.add(name="first", command=["prepare"])
    pod.spec.initContainers.add(name="beside", command=["help"], restartPolicy="Always")
    return pod


def asking(**requests: str) -> core.Pod:
    pod = make_pod()
    for name, amount in requests.items():
        pod.spec.containers[0].resources.requests[name].CopyFrom(quantity(amount))
    return pod


def choosing(disk: str) -> core.Pod:
    pod = make_pod()
    pod.spec.nodeSelector["disk"] = disk
    return pod


def with_deadline(pod: core.Pod, seconds: int) -> core.Pod:
    pod.spec.activeDeadlineSeconds = seconds
    return pod


Reached = Callable[[core.PodStatus], bool]


def is_phase(phase: str) -> Reached:
    return lambda status: (
        status.phase == phase and all(each.status == "True" for each in status.conditions if phase == "Running")
    )


def is_over(status: core.PodStatus) -> bool:
    """Sidecars too."""
    every = (*status.initContainerStatuses, *status.containerStatuses)
    return status.phase == "Succeeded" and all(each.state.HasField("terminated") for each in every)


def waits(reason: str) -> Reached:
    return lambda status: any(each.state.waiting.reason == reason for each in status.containerStatuses)


CASES: dict[str, tuple[core.Pod, Reached]] = {
    "one container": (make_pod(), is_phase("Running")),
    "three containers": (make_pod(containers=3), is_phase("Running")),
    "with requests": (asking(cpu="1", memory="1Gi"), is_phase("Running")),
    "an init container and a sidecar": (with_sidecar(make_pod()), is_phase("Running")),
    "a node selector that fits": (choosing("ssd"), is_phase("Running")),
    "a job that ends well": (job("Never", "0.05"), is_phase("Succeeded")),
    "a job that ends badly": (job("Never", "0.05", "3"), is_phase("Failed")),
    "a job that is tried until it ends well": (job("OnFailure", "0.05"), is_phase("Succeeded")),
    "a job of two containers": (job("Never", "0.05", "0", 2), is_phase("Succeeded")),
    "a job with a sidecar": (with_sidecar(job("Never", "0.05")), is_over),
    "a crash loop": (job("Always", "0.02", "1"), waits("CrashLoopBackOff")),
    "a job that fails again and again": (job("OnFailure", "0.02", "2"), waits("CrashLoopBackOff")),
    "a deadline": (with_deadline(make_pod(), 1), is_phase("Failed")),
    "no room": (asking(cpu="5"), is_phase("Failed")),
    "a resource that is not there": (asking(fpga="1"), is_phase("Failed")),
    "a node selector that does not fit": (choosing("hdd"), is_phase("Failed")),
}


@pytest.fixture(params=[0.0, 0.05], ids=["at once", "with a delay"])
async def scenes(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Scene, Scene]]:
    """A real node and a hollow one."""
    real, played = RealWorld(tmp_path), HollowWorld(tmp_path, request.param)
    for world in (real, played):
        await world.start()
    yield Scene(real), Scene(played)
    for world in (real, played):
        await world.stop()


@pytest.mark.parametrize("case", CASES)
async def test_what_is_said_of_pods(scenes: tuple[Scene, Scene], case: str) -> None:
    pod, reached = CASES[case]
    said = []
    for scene in scenes:
        await scene.create(pod)
        status = await scene.reach(reached)
        said.append(words(status))
        assert status.hostIP == HOST
    assert said[0] == said[1]


@pytest.mark.parametrize("before_s", [None, 600])
async def test_a_deadline_that_is_set_while_a_pod_runs(scenes: tuple[Scene, Scene], before_s: int | None) -> None:
    said = []
    for scene in scenes:
        await scene.create(with_deadline(make_pod(), before_s) if before_s else make_pod())
        await scene.reach(is_phase("Running"))
        await scene.patch({"spec": {"activeDeadlineSeconds": 1}})
        said.append(words(await scene.reach(is_phase("Failed"))))
    assert said[0] == said[1]


@pytest.mark.parametrize("case", ["one container", "three containers", "an init container and a sidecar"])
async def test_how_deleted_pods_end(scenes: tuple[Scene, Scene], case: str) -> None:
    pod, reached = CASES[case]
    said = []
    for scene in scenes:
        created = await scene.create(pod)
        await scene.reach(reached)
        await scene.delete()
        await scene.until_gone()
        status, removal = scene.last_words()
        said.append(words(status))
        assert removal.preconditions.uid == created.metadata.uid
        assert removal.HasField("grace_period_seconds")
        assert removal.grace_period_seconds == 0
    assert said[0] == said[1]


async def test_what_somebody_else_said_is_put_right(scenes: tuple[Scene, Scene]) -> None:
    for scene in scenes:
        await scene.create(make_pod())
        before = core.PodStatus()
        before.CopyFrom(await scene.reach(is_phase("Running")))
        other = core.Pod()
        other.CopyFrom(scene.pod() or core.Pod())
        other.metadata.resourceVersion = ""
        set_condition(other.status, "Ready", "False", 1.0)
        await scene.patch_status(other)
        await scene.reach(before.__eq__)


async def test_what_the_node_says_of_itself(scenes: tuple[Scene, Scene]) -> None:
    real, played = ((scene.cluster.find(core.Node, "h-1", "") or core.Node()) for scene in scenes)
    told = []
    for node in (real, played):
        conditions = [(each.type, each.status, each.reason, each.message) for each in node.status.conditions]
        addresses = [(each.type, each.address) for each in node.status.addresses]
        capacity = {name: each.string for name, each in node.status.capacity.items() if name != "ephemeral-storage"}
        told.append((conditions, addresses, capacity, set(node.status.allocatable), node.status.daemonEndpoints))
    assert told[0] == told[1]
    assert set(real.metadata.labels) - {key for key in real.metadata.labels if "security-profile" in key} <= set(
        played.metadata.labels
    )


def has_beaten(scene: Scene) -> bool:
    beat = scene.cluster.heartbeats.get("h-1")
    return beat is not None and beat.sequence > 1 and beat.usage["pods"].string == "1"


async def test_signs_of_life(scenes: tuple[Scene, Scene]) -> None:
    for scene in scenes:
        await scene.create(make_pod())
        await scene.until(partial(has_beaten, scene))
    real, played = (set(scene.cluster.heartbeats["h-1"].usage) for scene in scenes)
    assert real == played
