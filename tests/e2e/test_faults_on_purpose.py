"""`podium fault`: what goes wrong with services, for as long as it was asked for."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil
import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.test_ambassadors import web
from tests.e2e.workloads import fetch


@pytest.fixture
def served(shared_cluster: Cluster, namespace: str) -> tuple[Cluster, str, tuple[str, int]]:
    """Two pods behind a service that answers."""
    cluster = shared_cluster
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 8080}]}}"
    )
    cluster.apply(f"{service}\n---\n" + web("web", {"stable": 2}), namespace)
    cluster.wait("svc/web", namespace, ready=2)
    address = cluster.address("web", namespace)
    cluster.wait_until(lambda: _answers(address), "it answers")
    return cluster, namespace, address


def _answers(address: tuple[str, int]) -> bool:
    try:
        return fetch(address)[0] == 200
    except OSError:
        return False


def _seconds(address: tuple[str, int]) -> float:
    began = time.monotonic()
    fetch(address)
    return time.monotonic() - began


def _faults(cluster: Cluster, namespace: str) -> list[core.Fault]:
    return cluster.list("faults", namespace)


def test_a_service_becomes_slow_and_quick_again_by_itself(served: tuple[Cluster, str, tuple[str, int]]) -> None:
    cluster, namespace, address = served
    slow = ("fault", "svc/web", "--delay", "200ms", "--jitter", "10ms", "-n", namespace)
    said = cluster.podium(*slow, "--for", "10m", "--name", "slow").stdout
    assert "fault/slow: service/web: delay 200ms, jitter 10ms, for 600 s" in said, said
    cluster.wait_until(lambda: _seconds(address) >= 0.4, "there and back again, 200 ms each")
    line = cluster.podium("get", "faults", "-n", namespace).stdout.splitlines()[1]
    assert line.split()[:2] == ["slow", "service/web"]
    assert "Active" in line
    assert "delay 200ms" in cluster.podium("describe", "fault", "slow", "-n", namespace).stdout
    cluster.podium("delete", "fault", "slow", "-n", namespace)
    cluster.podium(*slow, "--for", "1s", "--name", "short")
    cluster.wait_until(lambda: not _faults(cluster, namespace), "it is removed")
    assert _answers(address)
    history = cluster.podium("history", "fault/short", "-n", namespace).stdout
    assert "fault-ended" in history, history


def test_refused_until_it_is_deleted(served: tuple[Cluster, str, tuple[str, int]]) -> None:
    cluster, namespace, address = served
    cluster.podium("fault", "service/web", "--refuse", "--for", "10m", "--name", "shut", "-n", namespace)
    cluster.wait_until(lambda: not _answers(address), "it is refused")
    cluster.podium("delete", "fault", "shut", "-n", namespace)
    cluster.wait_until(lambda: _answers(address), "and served again")


def test_one_link_breaks_and_the_others_do_not(served: tuple[Cluster, str, tuple[str, int]]) -> None:
    cluster, namespace, address = served
    bad, good = (pod.metadata.name for pod in cluster.pods("app=web", namespace))
    cluster.podium("fault", "svc/web", "--pod", bad, "--refuse", "--for", "1m", "--name", "link", "-n", namespace)
    cluster.wait_until(lambda: {fetch(address)[1] for _ in range(6)} == {good}, "the other pod serves all")


def test_half_open_says_nothing_until_it_is_over(served: tuple[Cluster, str, tuple[str, int]]) -> None:
    cluster, namespace, address = served
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        cluster.podium("fault", "svc/web", "--half-open", "--for", "10m", "--name", "hole", "-n", namespace)

        def is_silent() -> bool:
            with socket.create_connection(address, timeout=30) as other:
                other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                other.settimeout(0.3)
                try:
                    other.recv(100)
                except TimeoutError:
                    return True
                return False

        cluster.wait_until(is_silent, "nothing is answered")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        cluster.podium("delete", "fault", "hole", "-n", namespace)
        text = b""
        while b"HTTP/1.1 200" not in text:
            data = connection.recv(65536)
            assert data, "the connection that was there goes on"
            text += data


def test_what_makes_no_sense(shared_cluster: Cluster, namespace: str) -> None:
    headless = "{apiVersion: v1, kind: Service, metadata: {name: head}, spec: {clusterIP: None, selector: {a: b}}}"
    shared_cluster.apply(headless, namespace)
    for words, message in (
        (("svc/none", "--reset", "--for", "5s"), "Not found"),
        (("svc/head", "--reset", "--for", "5s"), "do not pass the proxy"),
        (("node/node-1", "--for", "5s"), "at least one of"),
        (("svc/web", "--reset", "--for", "2h"), "a number with ms, s or m"),
        (("rc/web", "--reset", "--for", "2s"), "one service or one node"),
        (("node/node-1", "--delay", "5ms", "--for", "2s"), "goes with the target `service`"),
    ):
        refused = shared_cluster.podium("fault", *words, "-n", namespace, check=False)
        assert refused.returncode != 0
        assert message in refused.stderr, refused.stderr


def _ready(cluster: Cluster, node: str) -> str:
    conditions = cluster.get("node", node).status.conditions
    return next((condition.status for condition in conditions if condition.type == "Ready"), "")


@pytest.mark.podium(nodes=2)
def test_a_node_is_cut_off_and_comes_back_by_itself(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 8080}]}}"
    )
    cluster.apply(f"{service}\n---\n" + web("web", {"stable": 2}))
    cluster.wait("svc/web", ready=2)
    address = cluster.address("web")
    cluster.wait_until(lambda: _answers(address), "it answers")
    by_node = {pod.spec.nodeName: pod.metadata.name for pod in cluster.pods("app=web")}
    assert set(by_node) == {"node-1", "node-2"}
    cluster.podium("fault", "node/node-2", "--partition", "--for", "15s", "--name", "cut")
    cluster.wait_until(lambda: _ready(cluster, "node-2") == "Unknown", "the master hears nothing of it")
    cluster.wait_until(
        lambda: {fetch(address)[1] for _ in range(6)} == {by_node["node-1"]}, "and the proxy leads nobody there"
    )
    refused = cluster.podium("logs", by_node["node-2"], check=False)
    assert refused.returncode != 0, "and it answers nobody"
    cluster.wait_until(lambda: _ready(cluster, "node-2") == "True", "it comes back", timeout_s=40.0)
    cluster.wait_until(lambda: not cluster.list("faults"), "the fault is gone")
    cluster.wait("svc/web", ready=2)


@pytest.mark.podium(nodes=2)
def test_a_node_stands_still_and_wakes_up_with_its_pods(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(web("web", {"stable": 2}))
    cluster.wait("rc/web-stable", ready=2)
    (pod,) = (pod for pod in cluster.pods("app=web") if pod.spec.nodeName == "node-2")
    (pid,) = cluster.pod_pids(pod.metadata.name)
    agent = cluster.pid("node-2")
    cluster.podium("fault", "node/node-2", "--pause", "--for", "10s", "--name", "still")
    cluster.wait_until(lambda: _stopped(pid) and _stopped(agent), "agent and pod stand still")
    cluster.wait_until(lambda: _ready(cluster, "node-2") == "Unknown", "the master hears nothing of it")
    cluster.wait_until(lambda: _ready(cluster, "node-2") == "True", "it wakes up", timeout_s=40.0)
    cluster.wait_until(lambda: not cluster.list("faults"), "the fault is gone")
    assert cluster.pid("node-2") == agent


def _stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_a_cluster_is_stopped_while_a_node_stands_still(tmp_path: Path) -> None:
    with Cluster.start(nodes=1, home=tmp_path / "podium") as cluster:
        cluster.apply(web("web", {"stable": 1}))
        cluster.wait("rc/web-stable", ready=1)
        agent = cluster.pid("node-1")
        cluster.podium("fault", "node/node-1", "--pause", "--for", "10m", "--name", "still")
        cluster.wait_until(lambda: _stopped(agent), "it stands still")
    # And nothing is left: the fixture looks.
