"""The cluster keeps what was asked for: pods that die, nodes that die, nodes that are silent, scaling up and down."""

from __future__ import annotations

import os

import pytest

from cluster.api.conditions import get_condition, is_node_ready
from cluster.api.owners import controller_of
from cluster.testing import Cluster
from tests.e2e.workloads import fetch, sleeper, wait_off, web


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_deleted_pod_is_replaced_and_its_processes_end(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 3, command="sleep 1000 & (setsid sleep 1001 &) ; wait"), namespace)
    shared_cluster.wait("rc/web", namespace, ready=3)
    victim = shared_cluster.pods("app=web", namespace)[0]
    pids = shared_cluster.pod_pids(victim.metadata.name, namespace)
    shared_cluster.delete("pod", victim.metadata.name, namespace)
    assert not any(map(alive, pids))
    shared_cluster.wait("rc/web", namespace, ready=3)
    names = {pod.metadata.name for pod in shared_cluster.pods("app=web", namespace)}
    assert victim.metadata.name not in names


def test_a_crashed_container_is_restarted_in_place(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 1), namespace)
    shared_cluster.wait("rc/web", namespace, ready=1)
    before = shared_cluster.pods("app=web", namespace)[0]
    shared_cluster.kill_pod(before.metadata.name, namespace)

    def restarted() -> bool:
        status = shared_cluster.get("pod", before.metadata.name, namespace).status.containerStatuses[0]
        return bool(status.restartCount == 1 and status.state.HasField("running"))

    shared_cluster.wait_until(restarted, "the container runs again")
    after = shared_cluster.get("pod", before.metadata.name, namespace)
    assert after.metadata.uid == before.metadata.uid
    ended = after.status.containerStatuses[0].lastState.terminated
    assert (ended.exitCode, ended.signal, ended.reason) == (137, 9, "Error")


def test_scaling_up_and_down(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 1), namespace)
    shared_cluster.wait("rc/web", namespace, ready=1)
    oldest = shared_cluster.pods("app=web", namespace)[0].metadata.name
    shared_cluster.scale("web", 6, namespace)
    shared_cluster.wait("rc/web", namespace, ready=6)
    nodes = [pod.spec.nodeName for pod in shared_cluster.pods("app=web", namespace)]
    assert sorted(nodes.count(node) for node in shared_cluster.nodes) == [2, 2, 2]
    shared_cluster.scale("web", 1, namespace)
    shared_cluster.wait("rc/web", namespace, ready=1)
    shared_cluster.scale("web", 0, namespace)
    shared_cluster.wait_until(lambda: not shared_cluster.list("pods", namespace), "no pods are left")
    assert oldest


def test_a_relabelled_pod_is_released_replaced_and_adopted_again(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 2), namespace)
    shared_cluster.wait("rc/web", namespace, ready=2)
    pod = shared_cluster.pods("app=web", namespace)[0].metadata.name
    shared_cluster.patch("pod", pod, {"metadata": {"labels": {"app": "debug"}}}, namespace)
    shared_cluster.wait("rc/web", namespace, ready=2)
    shared_cluster.wait_until(
        lambda: controller_of(shared_cluster.get("pod", pod, namespace)) is None, "it is released"
    )
    assert len(shared_cluster.pods("", namespace)) == 3
    shared_cluster.patch("pod", pod, {"metadata": {"labels": {"app": "web"}}}, namespace)
    shared_cluster.wait_until(lambda: len(shared_cluster.pods("", namespace)) == 2, "one too many is removed")


def test_deleting_a_controller_takes_its_pods_along_unless_orphaned(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(sleeper("web", 2) + "---\n" + sleeper("kept", 2), namespace)
    shared_cluster.wait("rc/web", namespace, ready=2)
    shared_cluster.wait("rc/kept", namespace, ready=2)
    shared_cluster.delete("rc", "web", namespace)
    shared_cluster.wait_until(lambda: not shared_cluster.pods("app=web", namespace), "the pods of rc/web are gone")
    shared_cluster.podium("delete", "rc/kept", "-n", namespace, "--cascade", "orphan")
    orphans = shared_cluster.pods("app=kept", namespace)
    assert len(orphans) == 2
    assert all(controller_of(pod) is None for pod in orphans)
    shared_cluster.apply(sleeper("kept", 2), namespace)
    shared_cluster.wait("rc/kept", namespace, ready=2)
    assert {pod.metadata.uid for pod in shared_cluster.pods("app=kept", namespace)} == {o.metadata.uid for o in orphans}


@pytest.mark.podium(nodes=3)
def test_a_killed_node_is_replaced_and_comes_back_clean(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 3))
    podium_cluster.wait("rc/web", ready=3)
    lost = next(pod for pod in podium_cluster.pods("app=web") if pod.spec.nodeName == "node-2")
    pids = podium_cluster.pod_pids(lost.metadata.name)
    address = podium_cluster.address("web")

    podium_cluster.kill_node("node-2")

    podium_cluster.wait_until(lambda: not any(map(alive, pids)), "the dead node's processes end")
    podium_cluster.wait_until(lambda: not is_node_ready(podium_cluster.get("node", "node-2")), "the node is NotReady")
    condition = get_condition(podium_cluster.get("node", "node-2").status, "Ready")
    assert condition is not None
    assert (condition.status, condition.reason) == ("Unknown", "NodeStatusUnknown")
    wait_off(podium_cluster, "node-2")
    podium_cluster.wait("rc/web", ready=3)
    assert {pod.spec.nodeName for pod in podium_cluster.pods("app=web")} == {"node-1", "node-3"}
    names = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    # The proxy hears of the new endpoint a moment after the controller has counted it.
    podium_cluster.wait_until(lambda: {fetch(address)[1] for _ in range(12)} == names, "the new pod serves")

    podium_cluster.start_node("node-2")
    podium_cluster.wait("node/node-2")
    podium_cluster.wait(f"pod/{lost.metadata.name}", gone=True)
    podium_cluster.scale("web", 6)
    podium_cluster.wait("rc/web", ready=6)
    assert "node-2" in {pod.spec.nodeName for pod in podium_cluster.pods("app=web")}


@pytest.mark.podium(nodes=3)
def test_a_paused_node_is_evicted_and_kills_what_was_deleted_when_it_returns(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 3))
    podium_cluster.wait("rc/web", ready=3)
    stale = next(pod for pod in podium_cluster.pods("app=web") if pod.spec.nodeName == "node-3")
    pids = podium_cluster.pod_pids(stale.metadata.name)
    podium_cluster.pause_node("node-3")
    podium_cluster.wait_until(lambda: not is_node_ready(podium_cluster.get("node", "node-3")), "the node is NotReady")
    wait_off(podium_cluster, "node-3")
    podium_cluster.wait("rc/web", ready=3)
    assert "node-3" not in {pod.spec.nodeName for pod in podium_cluster.pods("app=web")}
    assert all(map(alive, pids)), "a paused agent cannot have stopped its pods"
    podium_cluster.resume_node("node-3")
    podium_cluster.wait(f"pod/{stale.metadata.name}", gone=True)
    assert not any(map(alive, pids))
    podium_cluster.wait("node/node-3")
