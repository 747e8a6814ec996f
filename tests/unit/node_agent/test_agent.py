"""The agent against an in-memory cluster: what it registers, takes up, reports, repairs and lets go."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.conditions import get_condition, is_node_ready, is_pod_ready, set_condition
from cluster.api.errors import Unavailable
from cluster.api.meta import key_of, to_time
from cluster.api.quantities import quantity
from cluster.client import operations
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core
from node_agent.agent import NodeAgent
from node_agent.flags import parse
from node_agent.runtime.cgroups import Cgroups, Limits
from node_agent.runtime.interface import StartFailure
from node_agent.settings import AgentSettings
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import FakeRuntime, make_pod

LIMIT_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


class World:
    """A cluster and one agent."""

    def __init__(self, directory: Path, *, readiness_by_port: bool = True) -> None:
        self.cluster = MemoryCluster()
        self.directory = directory
        self.readiness_by_port = readiness_by_port
        self.admin = self.cluster.client()
        self.runtime = FakeRuntime()
        self.agent = self.make_agent()

    def make_agent(self) -> NodeAgent:
        settings = AgentSettings(
            name="node-1",
            master="",
            listen="127.7.0.10:10250",
            credentials=self.directory,
            dir=self.directory / "node-1",
            profile=PROFILES["test"],
            cpu="2",
            memory="1Gi",
            pods=10,
            labels={"disk": "ssd"},
            resources={"gpu": "2"},
            status_tick_s=0.001,
            readiness_by_port=self.readiness_by_port,
        )
        client = self.cluster.client("node:node-1")
        self.runtime = FakeRuntime()
        return NodeAgent(
            settings, client, self.runtime, clock=SystemClock(), rng=random.Random(1), environ={"PATH": "/bin"}
        )

    async def crash(self, *, pods_live: bool = False) -> None:
        """The agent is killed: nobody says goodbye; and its pods are dead, unless the spawner lives."""
        for informer in self.agent._informers:
            await informer.stop()
        await self.agent._faults.stop()
        await self.agent._tasks.cancel_all()
        await self.agent._pods.stop_reconciling()
        await self.agent._checkpoints._tasks.cancel_all()
        await self.agent._heart.stop()
        await self.agent.writer.stop()
        for worker in self.agent.workers.values():
            if not pods_live:
                await worker._around.runtime.stop()
            await worker._own.cancel_all()
            await worker.tasks.cancel_all()
        await self.agent._recorder.stop()

    async def restart(self, *, adopt: bool = False) -> None:
        """A new agent in place of the one that crashed."""
        before = self.runtime
        self.agent = self.make_agent()
        if adopt:
            self.runtime.adopt_from(before)
        await self.agent.start()

    def is_adopted(self, pod: core.Pod) -> bool:
        worker = self.agent.workers.get(pod.metadata.uid)
        return worker is not None and worker.is_running("c1")

    async def saved(self, pod: core.Pod) -> None:
        """The pod's last status is written, at the master and on disk."""
        await until(lambda: not self.agent.writer.is_pending(pod.metadata.uid) and not self.agent._checkpoints._waiting)

    def pod(self, name: str = "web") -> core.Pod | None:
        return self.cluster.find(core.Pod, name)

    def status(self, name: str = "web") -> core.PodStatus:
        pod = self.pod(name)
        assert pod is not None
        return pod.status

    @property
    def node(self) -> core.Node | None:
        return self.cluster.find(core.Node, "node-1", "")

    async def create(self, pod: core.Pod) -> core.Pod:
        outcome = await self.admin.write([operations.create(pod)])
        created = outcome.outcomes[0].unwrap()
        assert isinstance(created, core.Pod)
        return created

    async def run(self, pod: core.Pod | None = None) -> core.Pod:
        """Creates a pod and waits until it is Running."""
        created = await self.create(pod or make_pod())
        await until(lambda: self.status(created.metadata.name).phase == "Running")
        return created

    async def delete(self, pod: core.Pod, grace_s: int | None = None) -> None:
        outcome = await self.admin.write([operations.delete(key_of(pod), grace_period_s=grace_s)])
        outcome.outcomes[0].unwrap()

    def run_id(self, pod: core.Pod, run: int = 0, container: str = "c1") -> str:
        return f"{pod.metadata.uid}.{container}.{run}"

    def reasons(self) -> list[str]:
        return [event.reason for event in self.cluster.objects(core.Event)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.agent.start()
    yield world
    await world.agent.stop()


async def test_it_registers_its_node(world: World) -> None:
    node = world.node
    assert node is not None
    assert is_node_ready(node)
    assert node.metadata.labels["kubernetes.io/hostname"] == "node-1"
    assert node.metadata.labels["disk"] == "ssd"
    assert {name: q.string for name, q in node.status.capacity.items()}.items() >= {
        ("cpu", "2"),
        ("memory", "1Gi"),
        ("pods", "10"),
        ("gpu", "2"),
    }
    assert node.status.allocatable == node.status.capacity
    assert [(a.type, a.address) for a in node.status.addresses] == [
        ("InternalIP", "127.7.0.10"),
        ("Hostname", "node-1"),
    ]
    assert node.status.daemonEndpoints.kubeletEndpoint.Port == 10250
    assert node.status.nodeInfo.operatingSystem == "linux"


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


def test_the_profile_kubernetes_does_not_take_a_port_for_readiness(tmp_path: Path) -> None:
    needed = ["--name=n", "--master=m:1", "--listen=h:1", f"--credentials={tmp_path}", f"--dir={tmp_path}"]
    by_port = {
        options: parse([*needed, *options])[0].readiness_by_port
        for options in [
            (),
            ("--no-readiness-by-port",),
            ("--profile=kubernetes",),
            ("--profile=kubernetes", "--readiness-by-port"),
        ]
    }
    assert list(by_port.values()) == [True, False, False, True]


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


async def test_a_node_that_was_declared_lost_speaks_up(world: World) -> None:
    assert world.node is not None
    node = core.Node()
    node.CopyFrom(world.node)
    set_condition(node.status, "Ready", "Unknown", 1.0, "NodeStatusUnknown", "Kubelet stopped posting node status.")
    node.metadata.resourceVersion = ""
    await world.admin.write([operations.update_status(node)])
    await until(lambda: world.node is not None and is_node_ready(world.node))


async def test_a_node_that_was_deleted_registers_again(world: World) -> None:
    assert world.node is not None
    before = world.node.metadata.uid
    world.cluster.remove(world.node)
    await until(lambda: world.node is not None and is_node_ready(world.node) and world.node.metadata.uid != before)


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


async def test_stop_ends_all_pods_reports_and_says_goodbye(world: World) -> None:
    await world.run()
    await world.agent.stop()
    await world.agent.stop()
    assert world.runtime.stopped
    assert not world.runtime.running
    assert world.node is not None
    assert not is_node_ready(world.node)
    assert world.status().containerStatuses[0].state.terminated.exitCode == 143
    assert not is_pod_ready(world.pod() or core.Pod())
    assert world.pod() is not None


async def test_the_node_says_which_data_directories_lie_there(world: World) -> None:
    def told() -> list[str]:
        assert world.node is not None
        return list(world.node.status.dataDirectories)

    data = world.directory / "node-1" / "data"
    assert told() == []
    keeper = make_pod("keeper")
    keeper.spec.volumes.add(name="store").volumeSource.dataDirectory.name = "db"
    keeper.spec.volumes.add(name="unused").volumeSource.dataDirectory.name = "other"
    keeper.spec.containers[0].volumeMounts.add(name="store", mountPath="/data")
    running = await world.run(keeper)
    await until(lambda: told() == ["default/db"])
    await world.delete(running, 0)
    await until(lambda: world.pod("keeper") is None)
    assert told() == ["default/db"], "it outlives its pods"
    (data / "team" / "logs").mkdir(parents=True)
    (data / "team" / "Not A Name").mkdir()
    (data / "team" / "file").touch()
    (data / "team" / "link").symlink_to(data)
    await world.crash()
    await world.restart()
    await until(lambda: told() == ["default/db", "team/logs"])


async def test_heartbeats_carry_usage(world: World) -> None:
    async with world.admin.watch_heartbeats() as batches:
        async for batch in batches:
            if batch.heartbeats:
                break
    (beat,) = batch.heartbeats
    assert beat.node == "node-1"
    assert {"cpu", "memory", "pods", "ephemeral-storage"} <= set(beat.usage)


def test_time_of_a_reported_pod_survives() -> None:
    pod = make_pod()
    pod.status.startTime.CopyFrom(to_time(123.0))
    from node_agent.status import start_time_of

    assert start_time_of(pod) == 123.0


# --- pods that outlive their agent


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


async def test_a_node_that_cannot_hide_the_clusters_keys_does_not_call_its_pods_contained(world: World) -> None:
    await world.run(make_pod("before"))
    await until(lambda: "Started" in world.reasons())
    assert "NotContained" not in world.reasons()
    world.runtime.hides = False
    await world.run(make_pod("web"))
    await until(lambda: "NotContained" in world.reasons())
    told = [event for event in world.cluster.objects(core.Event) if event.reason == "NotContained"]
    assert [(each.type, each.involvedObject.name) for each in told] == [("Warning", "web")]
    assert "it can read the cluster's keys" in told[0].message
