"""`-w` and `-f`: what a user sees who looks on, while labels change, pods come and go, and the master dies."""

from __future__ import annotations

import collections
import os
import subprocess
import sys

import pytest

from cluster.testing import Cluster
from tests.e2e.foreground import Foreground
from tests.e2e.workloads import pod, sleeper


def test_a_watch_of_a_selector_shows_who_enters_and_who_leaves(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("one", "sleep 1000"), namespace)
    with watching(shared_cluster, "get", "pods", "-n", namespace, "-l", "look", "-w", "-o", "name") as look:
        for label, lines in (("look=1", 1), ("other=1", 2), ("look-", 3), ("other-", 3), ("look=2", 4)):
            shared_cluster.podium("label", "pod", "one", label, "-n", namespace)
            shared_cluster.wait_until(lambda n=lines: look.text.count("pod/one") >= n, f"line {lines}")  # type: ignore[misc]
        assert look.text.split() == 4 * ["pod/one"]


def test_a_watched_table_keeps_its_columns(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("a-pod-with-a-long-name", "sleep 1000"), namespace)
    with watching(shared_cluster, "get", "pods", "-n", namespace, "-w") as look:
        look.wait_for("NAME")
        shared_cluster.apply(pod("short", "sleep 1000"), namespace)
        shared_cluster.wait_until(lambda: "short" in look.text and "Running" in look.text.split("short")[-1], "it runs")
        lines = look.text.splitlines()
        status = lines[0].index("STATUS")
        assert all(line[status - 1] == " " != line[status] for line in lines), look.text


def test_watched_documents_are_separate(shared_cluster: Cluster, namespace: str) -> None:
    import yaml

    with watching(shared_cluster, "get", "svc", "-n", namespace, "-w", "-o", "yaml") as look:
        manifest = "{{apiVersion: v1, kind: Service, metadata: {{name: {}}}, spec: {{ports: [{{port: 80}}]}}}}"
        for number, name in enumerate(("a", "b", "c"), 1):
            shared_cluster.apply(manifest.format(name), namespace)
            shared_cluster.wait_until(lambda n=number: look.text.count("sessionAffinity") == n, name)  # type: ignore[misc]
        documents = list(yaml.safe_load_all(look.text))
    assert [document["metadata"]["name"] for document in documents] == ["a", "b", "c"]


@pytest.mark.podium(nodes=1)
def test_a_watch_outlives_the_master_without_loss_or_repetition(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 1, command="echo hello; exec sleep 1000"))
    podium_cluster.wait("rc/web", ready=1)
    with (
        watching(podium_cluster, "get", "rc", "web", "-w", "-o", "json") as look,
        watching(podium_cluster, "logs", "-f", "-l", "app=web") as follow,
    ):
        look.wait_for('"readyReplicas": 1')
        podium_cluster.kill_process("master")
        podium_cluster.podium("scale", "rc/web", "--replicas", "3")  # it waits for the next master
        podium_cluster.wait("rc/web", ready=3)
        look.wait_for('"readyReplicas": 3')
        versions = collections.Counter(
            line.split('"')[3] for line in look.text.splitlines() if '"resourceVersion"' in line
        )
        assert set(versions.values()) == {1}, "each version once"
        assert list(versions) == sorted(versions, key=int)
        for found in podium_cluster.pods("app=web"):
            follow.wait_for(f"[{found.metadata.name}] hello")


def test_logs_follow_all_that_match_and_join_those_that_come_later(shared_cluster: Cluster, namespace: str) -> None:
    talk = "echo hello; while :; do sleep 0.1; test -e $HOME/stop && echo bye && exec sleep 1000; done"
    shared_cluster.apply(sleeper("talk", 1, command=talk), namespace)
    shared_cluster.wait("rc/talk", namespace, ready=1)
    with (
        watching(shared_cluster, "logs", "-n", namespace, "-f", "-l", "app=talk") as by_label,
        watching(shared_cluster, "logs", "-n", namespace, "-f", "rc/talk") as by_controller,
    ):
        by_label.wait_for("hello")
        by_controller.wait_for("hello")
        shared_cluster.scale("talk", 2, namespace)
        shared_cluster.wait("rc/talk", namespace, ready=2)
        names = [pod.metadata.name for pod in shared_cluster.pods("app=talk", namespace)]
        for name in names:
            shared_cluster.exec(name, ["sh", "-c", "touch $HOME/stop"], namespace)
            for look in (by_label, by_controller):
                look.wait_for(f"[{name}] bye\n")
        for look in (by_label, by_controller):
            assert sorted(look.text.splitlines()) == sorted(
                f"[{name}] {word}" for name in names for word in ("hello", "bye")
            )


def test_a_reader_that_goes_away_is_no_error(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("box", "sleep 1000"), namespace)
    shared_cluster.wait("pod/box", namespace)
    command = [sys.executable, "-m", "cluster.cli.main", "exec", "-n", namespace, "box", "--", "yes"]
    variables = os.environ | {"PODIUM_HOME": str(shared_cluster.home), "PODIUM_CLUSTER": shared_cluster.name}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        assert endless.stderr is not None
        assert endless.stdout.read(2) == b"y\n"
        endless.stdout.close()
        assert endless.stderr.read() == b""
        assert endless.wait(30.0) == 0


def watching(cluster: Cluster, *arguments: str) -> Foreground:
    """A command that runs beside the test, and what it says."""
    return Foreground(cluster.home, *arguments, PODIUM_CLUSTER=cluster.name)
