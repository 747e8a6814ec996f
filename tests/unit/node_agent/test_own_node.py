"""The agent against an in-memory cluster: what it says of its node, and says again."""

from __future__ import annotations

from pathlib import Path

from cluster.api.conditions import is_node_ready, is_pod_ready, set_condition
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from node_agent.flags import parse
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.kit import make_pod, until


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
