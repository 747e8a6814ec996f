"""An agent that ends and comes back: what its next life makes of the pods that it left."""

from __future__ import annotations

import pytest

from cluster.api.conditions import is_node_ready
from node_agent.runtime.cgroups import Cgroups, Limits
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.kit import make_pod, until


async def test_an_agent_that_may_not_have_the_node_leaves_all_of_it_alone(world: World) -> None:
    """A second one, started by mistake; or one that does not understand the spawner that is there."""
    pod = await world.run()
    secret = world.directory / "node-1" / "memory" / "kept"
    secret.write_text("of a pod that runs")
    first, runtime = world.agent, world.runtime
    second = world.make_agent()
    world.runtime.taken = "another node agent works here"
    with pytest.raises(OSError, match="another node agent"):
        await second.start()
    await second.stop()
    assert secret.read_text() == "of a pod that runs"
    assert runtime.running == [world.run_id(pod)]
    assert not world.runtime.stopped
    assert world.node is not None
    assert is_node_ready(world.node)
    world.agent, world.runtime = first, runtime


async def test_after_a_restart_of_the_agent_its_pods_are_lost_and_run_again(world: World) -> None:
    pod = await world.run()
    job = await world.run(make_pod("job", policy="Never"))
    await until(lambda: not world.agent.writer.is_pending(job.metadata.uid))
    leftover = world.directory / "node-1" / "pods" / "leftover"
    leftover.mkdir()
    await world.crash()
    await world.restart()
    await until(lambda: world.status().containerStatuses[0].restartCount == 1)
    last = world.status().containerStatuses[0].lastState.terminated
    assert (last.exitCode, last.reason) == (137, "ContainerStatusUnknown")
    await until(lambda: world.status("job").phase == "Failed")
    assert world.run_id(pod, 1) in world.runtime.programs
    assert not leftover.exists()


async def test_a_pod_deleted_while_the_agent_was_away_goes(world: World) -> None:
    pod = await world.run()
    await until(lambda: not world.agent.writer.is_pending(pod.metadata.uid))
    await world.crash()
    await world.delete(pod)
    assert world.pod() is not None
    await world.restart()
    await until(lambda: world.pod() is None)
    assert not world.runtime.programs, "nothing was started for it"


async def test_pods_outlive_a_killed_agent_and_go_on_as_if_nothing_had_been(world: World) -> None:
    pod = await world.run(make_pod(containers=2))
    await world.saved(pod)
    before = world.status()
    await world.crash(pods_live=True)
    await world.restart(adopt=True)
    assert world.runtime.running == [f"{pod.metadata.uid}.c{number}.0" for number in (1, 2)]
    assert len(world.runtime.programs) == 2, "nothing was started again"
    assert world.status() == before
    world.runtime.end(f"{pod.metadata.uid}.c1.0", 3)
    await until(lambda: world.status().containerStatuses[0].restartCount == 1)
    assert world.status().containerStatuses[0].lastState.terminated.exitCode == 3


async def test_a_command_beside_an_adopted_container_leaves_its_control_groups_as_they_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making them again would take the container's part of the processors and its limit away."""
    made: list[str] = []

    def make(groups: Cgroups, name: str, limits: Limits) -> tuple[str, ...]:
        made.append(name)
        return ()

    monkeypatch.setattr(Cgroups, "make", make)
    pod = await world.run()
    await world.saved(pod)
    await world.crash(pods_live=True)
    await world.restart(adopt=True)
    worker = world.agent.workers[pod.metadata.uid]
    (await worker.exec("c1", ["look"])).close()
    assert list(world.runtime.attached.values()) == [world.run_id(pod)]
    assert made == [f"{pod.metadata.uid}.c1"]


async def test_an_end_that_fell_into_the_gap_is_still_known(world: World) -> None:
    pod = await world.run(make_pod(policy="Never"))
    await world.saved(pod)
    await world.crash(pods_live=True)
    world.runtime.end(f"{pod.metadata.uid}.c1.0", 5, tail="the last words\n")
    await world.restart(adopt=True)
    await until(lambda: world.status().phase == "Failed")
    terminated = world.status().containerStatuses[0].state.terminated
    assert (terminated.exitCode, terminated.reason, terminated.message) == (5, "Error", "the last words")


async def test_a_start_that_no_checkpoint_knows_is_adopted_all_the_same(world: World) -> None:
    pod = await world.run()
    await world.saved(pod)
    await world.crash(pods_live=True)
    for file in (world.directory / "node-1" / "state").iterdir():
        file.unlink()
    await world.restart(adopt=True)
    await until(lambda: world.is_adopted(pod))
    assert len(world.runtime.programs) == 1
    assert world.status().phase == "Running"
    assert world.status().containerStatuses[0].restartCount == 0


async def test_a_pod_removed_while_the_agent_was_away_is_ended_on_its_return(world: World) -> None:
    pod = await world.run()
    await world.saved(pod)
    await world.crash(pods_live=True)
    await world.delete(pod, grace_s=0)
    await until(lambda: world.pod() is None)
    await world.restart(adopt=True)
    await until(lambda: not world.runtime.running)
    await until(lambda: not list((world.directory / "node-1" / "state").iterdir()))
    assert not (world.directory / "node-1" / "pods" / pod.metadata.uid).exists()


async def test_a_pod_being_deleted_while_the_agent_was_away_ends_with_grace(world: World) -> None:
    pod = await world.run()
    await world.saved(pod)
    await world.crash(pods_live=True)
    await world.delete(pod)
    await world.restart(adopt=True)
    await until(lambda: world.pod() is None)
    assert world.runtime.signals == [(f"{pod.metadata.uid}.c1.0", 15)]
    assert not world.runtime.killed


async def test_the_agent_leaves_its_pods_when_it_is_told_to(world: World) -> None:
    pod = await world.run()
    world.agent.leave_pods()
    await world.agent.stop()
    assert world.runtime.running == [f"{pod.metadata.uid}.c1.0"]
    assert not world.runtime.signals
    await world.restart(adopt=True)
    assert world.agent.workers[pod.metadata.uid].is_running("c1")


async def test_a_damaged_checkpoint_is_put_aside(world: World) -> None:
    pod = await world.run()
    await world.saved(pod)
    await world.crash(pods_live=True)
    (file,) = (world.directory / "node-1" / "state").iterdir()
    file.write_text(file.read_text()[:-100])
    await world.restart(adopt=True)
    await until(lambda: world.is_adopted(pod))
    assert file.with_suffix(".bad").exists()
    assert len(world.runtime.programs) == 1
