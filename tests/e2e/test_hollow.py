"""Hollow nodes beside real daemons: pods run there as anywhere, nodes fail and go, and nothing is left of them."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator

import psutil
import pytest

from cluster.api import hollow
from cluster.api.conditions import get_condition, is_node_ready
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.foreground import Foreground
from tests.kit.processes import Proc, alive


def replicas(name: str, count: int, annotations: str = "", **spec: str) -> str:
    """A controller of pods that run on hollow nodes only."""
    more = "".join(f"\n              {field}: {value}" for field, value in spec.items())
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {count}
          selector: {{app: {name}}}
          template:
            metadata: {{labels: {{app: {name}}}, annotations: {{{annotations}}}}}
            spec:
              nodeSelector: {{podium.dev/hollow: "true"}}{more}
              containers:
              - {{name: main, image: "nginx:1.27", resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}}}
        """)


def played(cluster: Cluster, prefix: str = "hollow") -> list[core.Node]:
    """The hollow nodes of a prefix."""
    return [node for node in cluster.list("nodes", "") if hollow.prefix_of(node) == prefix]


def all_ready(cluster: Cluster, count: int, prefix: str = "hollow") -> bool:
    nodes = played(cluster, prefix)
    return len(nodes) == count and all(is_node_ready(node) and not node.spec.taints for node in nodes)


def ready_status(node: core.Node) -> str:
    condition = get_condition(node.status, "Ready")
    return condition.status if condition is not None else ""


class Playing(Foreground):
    """A `podium hollow` in the foreground."""

    def __init__(self, cluster: Cluster, *arguments: str) -> None:
        super().__init__(cluster.home, "hollow", "--cluster", cluster.name, *arguments)

    def ready(self) -> set[Proc]:
        """Returns, once it has said that all nodes are there, its processes."""
        self.wait_for("READY")
        return self.everything()

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        self.signal_group(signal.SIGINT)
        return self.wait()


@pytest.fixture
def fifty(podium_cluster: Cluster) -> Iterator[tuple[Cluster, Playing]]:
    """A cluster with one real node, and 50 hollow ones in 3 zones, played by two processes."""
    with Playing(podium_cluster, "--nodes", "50", "--zones", "3", "--processes", "2") as playing:
        assert len(playing.ready()) == 3
        podium_cluster.wait_until(lambda: all_ready(podium_cluster, 50), "all nodes take pods")
        yield podium_cluster, playing


def test_pods_run_are_moved_and_go_and_ctrl_c_leaves_nothing(fifty: tuple[Cluster, Playing]) -> None:
    cluster, playing = fifty
    processes = playing.everything()
    assert "READY 50 hollow nodes (hollow-1 to hollow-50) in 2 processes" in playing.text
    assert cluster.podium("get", "nodes").stdout.count(" hollow ") == 50
    cluster.apply(replicas("web", 200))
    cluster.wait("rc/web", ready=200, timeout_s=60.0)
    pods = cluster.pods("app=web")
    assert len({pod.status.podIP for pod in pods}) == 200
    assert len({pod.spec.nodeName for pod in pods}) == 50, "spread over all of them"
    assert all(hollow.is_address(pod.status.podIP) for pod in pods)
    # What has no processes has no logs.
    one = pods[0].metadata.name
    for words in (["logs", one], ["exec", one, "--", "ls"], ["attach", one]):
        said = cluster.podium(*words, check=False)
        assert said.returncode != 0
        assert f'pod "{one}" runs on a hollow node: it has no processes' in said.stderr
    assert "hollow nodes are left out" in cluster.podium("top", "nodes").stderr
    # A drained node's pods move, a deleted node registers again.
    cluster.podium("drain", "hollow-1")
    cluster.wait("rc/web", ready=200, timeout_s=60.0)
    assert "hollow-1" not in {pod.spec.nodeName for pod in cluster.pods("app=web")}
    cluster.podium("uncordon", "hollow-1")
    uid = cluster.get("node", "hollow-2").metadata.uid
    cluster.delete("node", "hollow-2", wait=False)
    cluster.wait_until(lambda: cluster.get("node", "hollow-2").metadata.uid != uid, "hollow-2 registers again")
    cluster.wait_until(lambda: all_ready(cluster, 50), "all nodes take pods")
    cluster.delete("rc", "web")
    cluster.wait_until(lambda: not cluster.list("pods"), "all pods are gone")
    cluster.apply(replicas("again", 20))
    cluster.wait("rc/again", ready=20)
    assert playing.interrupt() == 0, playing.text
    assert "50 hollow nodes removed · 20 pods were bound to them" in playing.text
    assert not alive(processes)
    assert not played(cluster)
    cluster.wait_until(
        lambda: not [pod for pod in cluster.list("pods") if pod.spec.nodeName], "the pods of nodes that are gone go"
    )


def test_jobs_end_as_their_annotations_say(fifty: tuple[Cluster, Playing]) -> None:
    cluster, _ = fifty
    for name, code in (("good", 0), ("bad", 3)):
        cluster.apply(
            textwrap.dedent(f"""\
            apiVersion: v1
            kind: Pod
            metadata:
              name: {name}
              annotations: {{{hollow.RUN_SECONDS}: "0.5", {hollow.EXIT_CODE}: "{code}"}}
            spec:
              restartPolicy: Never
              nodeSelector: {{podium.dev/hollow: "true"}}
              containers: [{{name: main, command: [work]}}]
            """)
        )
    cluster.wait("pod/good", phase="Succeeded")
    cluster.wait("pod/bad", phase="Failed")
    assert cluster.get("pod", "bad").status.containerStatuses[0].state.terminated.exitCode == 3
    cluster.apply(replicas("crashing", 1, f'{hollow.RUN_SECONDS}: "0.1", {hollow.EXIT_CODE}: "1"'))
    cluster.wait_until(
        lambda: [
            pod
            for pod in cluster.pods("app=crashing")
            if any(c.restartCount >= 2 for c in pod.status.containerStatuses)
        ],
        "it crashes and runs again",
    )
    cluster.apply(replicas("odd", 1, f'{hollow.RUN_SECONDS}: "soon"'))
    cluster.wait_until(lambda: cluster.events("InvalidAnnotation"), "what makes no sense is said")


def test_a_killed_process_is_a_mass_failure_of_nodes_and_another_takes_them_up(
    fifty: tuple[Cluster, Playing],
) -> None:
    cluster, playing = fifty
    cluster.apply(replicas("web", 100))
    cluster.wait("rc/web", ready=100, timeout_s=60.0)
    children = psutil.Process(playing.pid).children()
    os.kill(children[1].pid, signal.SIGKILL)
    playing.wait_for("25 nodes have fallen silent")
    silent = {f"hollow-{number}" for number in range(26, 51)}
    cluster.wait_until(
        lambda: {node.metadata.name for node in played(cluster) if ready_status(node) == "Unknown"} == silent,
        "half of the nodes are unknown",
    )
    children[0].kill()
    assert playing.wait() == 1, playing.text
    with Playing(cluster, "--nodes", "50", "--zones", "3") as again:
        again.ready()
        cluster.wait_until(lambda: all_ready(cluster, 50), "all nodes are back")
        cluster.wait("rc/web", ready=100, timeout_s=60.0)
        cluster.wait_until(lambda: len(cluster.pods("app=web")) == 100, "those that were evicted are gone")
        assert again.interrupt() == 0, again.text


def test_nodes_that_are_kept_run_on_when_they_are_played_again(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    with Playing(cluster, "--nodes", "10", "--keep") as playing:
        processes = playing.ready()
        cluster.apply(replicas("web", 20, tolerations="[{operator: Exists}]"))
        cluster.wait("rc/web", ready=20)
        before = {pod.metadata.uid: pod.status.containerStatuses[0].restartCount for pod in cluster.pods("app=web")}
        assert playing.interrupt() == 0, playing.text
        assert "10 left · with 20 pods" in playing.text
        assert not alive(processes)
    assert len(played(cluster)) == 10
    cluster.wait_until(lambda: not any(map(is_node_ready, played(cluster))), "they are silent")
    with Playing(cluster, "--nodes", "10") as playing:
        playing.ready()
        cluster.wait("rc/web", ready=20)
        after = {pod.metadata.uid: pod.status.containerStatuses[0].restartCount for pod in cluster.pods("app=web")}
        assert after == before
        playing.interrupt()


def test_what_is_wrong_is_said_before_anything_is_started(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    with Playing(cluster, "--nodes", "3") as playing:
        playing.ready()
        second = cluster.podium("hollow", "--nodes", "3", check=False)
        assert second.returncode == 1
        assert 'another `podium hollow` plays nodes of the prefix "hollow"; choose another --prefix' in second.stderr
        with Playing(cluster, "--nodes", "2", "--prefix", "more") as more:
            more.ready()
            assert len(played(cluster, "more")) == 2
            more.interrupt()
        playing.interrupt()
    for words, said in (
        (("--nodes", "0"), "--nodes"),
        (("--nodes", "3", "--prefix", "No"), "--prefix"),
        (("--nodes", "3", "--node-cpu", "many"), '--node-cpu "many"'),
        (("--nodes", "3", "--taint", "a"), "--taint"),
        (("--nodes", "3", "--start-delay", "2-1"), "--start-delay"),
        (("--nodes", "60000"), "--nodes 60000"),
    ):
        refused = cluster.podium("hollow", *words, check=False)
        assert refused.returncode == 2, words
        assert said in refused.stderr
    for words, said in (
        (("--nodes", "0"), "add --hollow N"),
        (("--hollow-arg", "zones=3"), "--hollow-arg is for --hollow"),
        (("--hollow", "3", "--hollow-arg", "prefix=a"), "prefix is not to be set here"),
        (("--hollow", "3", "--hollow-arg", "cpu=many"), "--hollow-arg"),
    ):
        refused = cluster.podium("up", "--cluster", "other", *words, check=False)
        assert refused.returncode == 2, words
        assert said in refused.stderr
    # A name that a real node has.
    taken = cluster.podium("hollow", "--nodes", "3", "--prefix", "node", check=False)
    assert taken.returncode == 1
    assert 'node "node-1" is there and is not to be played' in taken.stderr
    assert is_node_ready(cluster.get("node", "node-1"))
    assert not played(cluster, "node")


def test_they_end_with_the_command_and_with_the_cluster(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    with Playing(cluster, "--nodes", "5", "--prefix", "a") as killed, Playing(cluster, "--nodes", "5") as left:
        doomed, others = killed.ready(), left.ready()
        killed.signal(signal.SIGKILL)
        cluster.wait_until(lambda: not alive(doomed), "they end with the command")
        assert len(played(cluster, "a")) == 5, "as nodes that fail"
        cluster.wait_until(lambda: not any(map(is_node_ready, played(cluster, "a"))), "and fall silent")
        cluster.stop()
        left.wait_for("the cluster has been stopped")
        assert left.wait() == 0, left.text
        assert not alive(others)


@pytest.mark.podium(nodes=0, options=("--hollow", "40", "--hollow-arg", "zones=2", "--hollow-arg", "cpu=2"))
def test_a_cluster_without_real_nodes(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    assert all_ready(cluster, 40)
    assert {node.status.capacity["cpu"].string for node in played(cluster)} == {"2"}
    cluster.apply(replicas("web", 80))
    cluster.wait("rc/web", ready=80, timeout_s=60.0)
    assert cluster.podium("hollow", "--nodes", "3", check=False).returncode == 1, "it plays this prefix itself"
    pid = cluster.pid("hollow")
    cluster.kill_process("hollow")
    cluster.wait_until(lambda: not any(map(is_node_ready, played(cluster))), "all nodes have failed")
    cluster.podium("up", "--cluster", cluster.name)
    assert cluster.pid("hollow") != pid
    cluster.wait_until(lambda: all_ready(cluster, 40), "all nodes are back")
    cluster.wait("rc/web", ready=80, timeout_s=60.0)
