"""The agent against an in-memory cluster: the pods that it takes up, reports and lets go."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cluster.api.conditions import get_condition, is_pod_ready, set_condition
from cluster.api.errors import Unavailable
from cluster.api.meta import to_time
from cluster.api.quantities import quantity
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from node_agent.runtime.interface import StartFailure
from node_agent.runtime.logs import log_path
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.kit import make_pod, until


async def test_a_pod_runs_and_is_reported(world: World) -> None:
    pod = await world.run()
    status = world.status()
    assert world.node is not None
    assert status.podIP.startswith(world.node.spec.podCIDR.rpartition(".")[0])
    assert status.hostIP == "127.7.0.10"
    assert status.containerStatuses[0].ready
    assert get_condition(status, "Ready") is not None
    program = world.runtime.programs[world.run_id(pod)]
    assert program.argv == ("serve",)
    assert program.env["POD_IP"] == status.podIP
    assert program.env["PODIUM_POD_UID"] == pod.metadata.uid
    assert program.cwd == program.env["HOME"] == str(world.directory / "node-1" / "pods" / pod.metadata.uid)
    await until(lambda: "Started" in world.reasons())


async def test_pods_of_other_nodes_are_left_alone(world: World) -> None:
    await world.create(make_pod("other", node="node-2"))
    await world.run()
    assert len(world.agent.workers) == 1


async def test_services_that_exist_are_in_the_environment(world: World) -> None:
    service = core.Service()
    service.metadata.name, service.metadata.namespace = "backend", "default"
    service.spec.clusterIP = "127.7.1.9"
    service.spec.ports.add(port=80)
    await world.admin.write([operations.create(service)])
    await until(lambda: bool(world.agent._services.indexer.list()))
    pod = await world.run()
    assert world.runtime.programs[world.run_id(pod)].env["BACKEND_SERVICE_HOST"] == "127.7.1.9"


async def test_a_crash_is_restarted_and_counted(world: World) -> None:
    pod = await world.run()
    world.runtime.end(world.run_id(pod), 3, tail="boom\n")
    await until(lambda: world.status().containerStatuses[0].restartCount == 1)
    await until(lambda: world.status().containerStatuses[0].state.HasField("running"))
    last = world.status().containerStatuses[0].lastState.terminated
    assert (last.exitCode, last.reason, last.message) == (3, "Error", "boom")
    world.runtime.end(world.run_id(pod, 1), 3)
    await until(lambda: world.status().containerStatuses[0].state.waiting.reason == "CrashLoopBackOff")
    await until(lambda: "BackOff" in world.reasons())
    await until(lambda: world.run_id(pod, 2) in world.runtime.programs)


async def test_a_job_succeeds_and_stays_to_be_read(world: World) -> None:
    pod = await world.run(make_pod(policy="OnFailure"))
    world.runtime.end(world.run_id(pod), 0)
    await until(lambda: world.status().phase == "Succeeded")
    assert not is_pod_ready(world.pod() or core.Pod())
    assert world.agent.log_file(pod, "c1", previous=False) is not None


async def test_the_log_of_an_init_container_that_ran_again_is_found_when_its_pod_is_over(world: World) -> None:
    pod = make_pod()
    pod.metadata.uid = "over"
    pod.status.initContainerStatuses.add(name="init", restartCount=1)
    path = log_path(world.agent.settings.dir / "pods" / "over", "init", 1)
    path.parent.mkdir(parents=True)
    path.touch()
    assert world.agent.log_file(pod, "init", previous=False) == path
    assert world.agent.log_file(pod, "init", previous=True) is None


async def test_a_program_that_is_not_there(world: World) -> None:
    world.runtime.refuse["serve"] = StartFailure(127, 'exec: "serve": executable file not found in PATH=/bin')
    await world.create(make_pod(policy="Never"))
    await until(lambda: world.status().phase == "Failed")
    end = world.status().containerStatuses[0].state.terminated
    assert (end.exitCode, end.reason) == (127, "ContainerCannotRun")
    assert "executable file not found in PATH=/bin" in end.message
    await until(lambda: "Failed" in world.reasons())


async def test_deletion_is_graceful_and_removes_the_object(world: World) -> None:
    pod = await world.run()
    await world.delete(pod)
    await until(lambda: world.pod() is None)
    assert world.runtime.signals == [(world.run_id(pod), 15)]
    await until(lambda: not world.agent.workers)
    assert not list((world.directory / "node-1" / "pods").iterdir())


async def test_a_pod_removed_by_force_is_ended_all_the_same(world: World) -> None:
    pod = await world.run()
    await world.delete(pod, grace_s=0)
    assert world.pod() is None
    await until(lambda: not world.runtime.running)
    await until(lambda: not world.agent.workers)


async def test_a_new_pod_of_the_same_name_is_another_pod(world: World) -> None:
    world.runtime.deaf = True
    old = await world.run()
    await world.delete(old, grace_s=0)
    new = await world.run()
    assert new.metadata.uid != old.metadata.uid
    assert len(world.agent.workers) == 2
    await until(lambda: world.runtime.killed == [world.run_id(old)])
    await until(lambda: len(world.agent.workers) == 1)
    assert world.pod() is not None


async def test_what_does_not_die_keeps_its_pod_terminating(world: World) -> None:
    pod = await world.run()
    run_id = world.run_id(pod)
    world.runtime.deaf = world.runtime.undying = True
    await world.delete(pod, grace_s=1)
    await until(lambda: world.runtime.killed == [run_id])
    world.runtime.on_survivors[run_id]([4711])
    await until(lambda: "FailedKillPod" in world.reasons())
    (said,) = (event.message for event in world.cluster.objects(core.Event) if event.reason == "FailedKillPod")
    assert "4711" in said
    await world.saved(pod)
    assert (world.directory / "node-1" / "pods" / pod.metadata.uid).exists()
    assert world.pod() is not None
    world.runtime.end(run_id, 137, 9)
    await until(lambda: world.pod() is None)


@pytest.mark.parametrize("by_port", [True, False])
async def test_ready_when_its_port_listens_or_as_soon_as_it_runs(tmp_path: Path, by_port: bool) -> None:
    """By a setting; a readiness probe of its own makes it one or the other anyway."""
    world = World(tmp_path, readiness_by_port=by_port)
    await world.agent.start()
    try:
        pod = make_pod()
        pod.spec.containers[0].ports.add(containerPort=18080)
        await world.run(pod)
        assert is_pod_ready(world.pod() or core.Pod()) is not by_port
        with socket.create_server((world.status().podIP, 18080)):
            await until(lambda: is_pod_ready(world.pod() or core.Pod()))
    finally:
        await world.agent.stop()


async def test_a_pod_that_does_not_fit_fails(world: World) -> None:
    pod = make_pod()
    pod.spec.containers[0].resources.requests["cpu"].CopyFrom(quantity("3"))
    await world.create(pod)
    await until(lambda: world.status().phase == "Failed")
    assert world.status().reason == "OutOfcpu"
    assert not world.runtime.programs
    await world.delete(pod)
    await until(lambda: not world.agent.workers)


async def test_an_image_that_needs_a_runtime_keeps_the_pod_pending(world: World) -> None:
    pod = make_pod()
    pod.spec.containers[0].image = "nginx:1"
    await world.create(pod)
    await until(lambda: world.status().containerStatuses[:] != [])
    assert world.status().phase == "Pending"
    waiting = world.status().containerStatuses[0].state.waiting
    assert waiting.reason == "ErrImageNeverPull"
    assert "nginx:1" in waiting.message


async def test_what_others_said_about_a_pod_is_corrected(world: World) -> None:
    pod = await world.run()
    await until(lambda: not world.agent.writer.is_pending(pod.metadata.uid))
    lie = core.Pod(metadata=core.ObjectMeta(name="web", namespace="default"))
    lie.status.CopyFrom(world.status())
    set_condition(lie.status, "Ready", "False", 1.0, "NodeNotReady")
    await world.admin.write([operations.update_status(lie)])
    await until(lambda: is_pod_ready(world.pod() or core.Pod()))


async def test_without_the_master_pods_run_on_and_are_reported_afterwards(world: World) -> None:
    pod = await world.run()
    world.cluster.fail_next(Unavailable("the master is away"), times=3)
    world.runtime.end(world.run_id(pod), 1)
    await until(lambda: world.run_id(pod, 1) in world.runtime.programs)
    await until(lambda: world.status().containerStatuses[0].restartCount == 1)


async def test_a_pod_deleted_before_it_ran_here_goes_without_running(world: World) -> None:
    await world.crash()
    pod = await world.create(make_pod())
    await world.delete(pod)
    await world.restart()
    await until(lambda: world.pod() is None)
    assert not world.runtime.programs, "nothing was started for it"


async def test_a_worker_that_crashes_loses_its_pod_which_runs_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.node_pods.CRASH_PAUSE_S", 0.01)
    pod = await world.run()
    await until(lambda: not world.agent.writer.is_pending(pod.metadata.uid))

    def broken(run_id: str, number: int) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.runtime, "signal", broken)
    await world.delete(pod)
    await until(lambda: world.pod() is None)
    await until(lambda: not world.agent.workers)
    assert world.runtime.killed == [world.run_id(pod)]


def test_time_of_a_reported_pod_survives() -> None:
    pod = make_pod()
    pod.status.startTime.CopyFrom(to_time(123.0))
    from node_agent.status import start_time_of

    assert start_time_of(pod) == 123.0
