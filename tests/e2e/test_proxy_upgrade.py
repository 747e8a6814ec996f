"""The proxy is restarted, and all pods are replaced, under load: no connection fails, and those there are finish."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cluster.testing import Cluster
from cluster.up.layout import process_start_time
from tests.e2e.test_faults_proxy import answers, draining_web, load_on
from tests.e2e.workloads import fetch, web
from tests.kit.processes import alive, family

RESTARTS = 10


@pytest.mark.podium(nodes=1)
def test_ten_restarts_of_the_proxy_without_a_failed_connection(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 2).replace("spec:\n", "spec:\n  accessLog: true\n", 1))
    podium_cluster.wait("svc/web", ready=2)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    lasting = http.client.HTTPConnection(*address, timeout=20)
    lasting.request("GET", "/")
    served_by = lasting.getresponse().read()
    pids = [podium_cluster.pid("proxy")]
    with load_on(address) as load:
        for _ in range(RESTARTS):
            seen = len(load.answers)
            podium_cluster.podium("restart", "proxy")
            pids.append(podium_cluster.pid("proxy"))
            podium_cluster.wait_until(partial(_has_more, load.answers, seen + 20), "the new proxy answers")
    assert load.failures == [], _not_in_order(podium_cluster)
    assert len(set(pids)) == RESTARTS + 1
    lasting.request("GET", "/")
    assert lasting.getresponse().read() == served_by, "the first proxy still carries its connection"
    assert _is_alive(pids[0])
    lasting.close()
    podium_cluster.wait_until(lambda: not any(_is_alive(pid) for pid in pids[:-1]), "the old proxies have ended")
    podium_cluster.scale("web", 3)
    podium_cluster.wait("svc/web", ready=3)
    names = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    podium_cluster.wait_until(lambda: {fetch(address)[1] for _ in range(6)} == names, "the new proxy heeds changes")


@pytest.mark.podium(nodes=1)
def test_a_cluster_ends_with_a_proxy_that_still_carries_a_connection(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 1))
    podium_cluster.wait("svc/web", ready=1)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    lasting = http.client.HTTPConnection(*address, timeout=20)
    lasting.request("GET", "/")
    lasting.getresponse().read()
    old = podium_cluster.pid("proxy")
    podium_cluster.podium("restart", "proxy")
    assert _is_alive(old)
    result = podium_cluster.podium("down")
    assert not _is_alive(old)
    assert "survived" not in result.stdout + result.stderr
    lasting.close()


@pytest.mark.podium(nodes=1)
def test_a_proxy_that_is_killed_after_a_restart_comes_back(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 1))
    podium_cluster.wait("svc/web", ready=1)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    podium_cluster.podium("restart", "proxy")
    podium_cluster.kill_process("proxy")
    podium_cluster.wait_until(lambda: answers(address), "the service answers again")
    podium_cluster.podium("restart", "proxy")
    assert answers(address)


@pytest.mark.podium(nodes=1, options=("--proxy-arg", "workers=2"))
def test_workers_carry_connections_and_are_replaced_with_the_proxy(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 2))
    podium_cluster.wait("svc/web", ready=2)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    lasting = http.client.HTTPConnection(*address, timeout=20)
    lasting.request("GET", "/")
    lasting.getresponse().read()
    before = family(podium_cluster.pid("proxy"))
    assert len(before) == 3
    with load_on(address) as load:
        for _ in range(2):
            seen = len(load.answers)
            podium_cluster.podium("restart", "proxy")
            podium_cluster.wait_until(partial(_has_more, load.answers, seen + 20), "the new workers answer")
    assert load.failures == []
    lasting.request("GET", "/")
    lasting.getresponse().read()
    assert len(alive(before)) == 3, "its worker still carries the connection"
    lasting.close()
    podium_cluster.wait_until(lambda: not alive(before), "the first proxy and its workers have ended")


class Wrk:
    """wrk, until told to stop."""

    def __init__(self, address: tuple[str, int], *, close: bool) -> None:
        header = ["-H", "Connection: close"] if close else []
        self._process = subprocess.Popen(
            ["wrk", "-t", "1", "-c", "8", "-d", "600s", *header, f"http://{address[0]}:{address[1]}/"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.requests = 0
        self.errors = ""

    def stop(self) -> None:
        self._process.send_signal(2)  # it prints what it has seen
        self.output = self._process.communicate(timeout=60)[0]
        found = re.search(r"(\d+) requests in", self.output)
        self.requests = int(found.group(1)) if found else 0
        self.errors = "\n".join(
            line for line in self.output.splitlines() if "Socket errors" in line or "Non-2xx" in line
        )


@contextmanager
def wrk_on(address: tuple[str, int], *, close: bool) -> Iterator[Wrk]:
    load = Wrk(address, close=close)
    try:
        yield load
    finally:
        load.stop()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk")
@pytest.mark.podium(nodes=2)
def test_no_request_of_a_load_generator_fails_while_all_pods_are_replaced(podium_cluster: Cluster) -> None:
    # wrk takes the end of a connection for an error, unless the server has announced it.
    announced = "self.send_header('Connection', 'close'); self.send_header('Content-Length'"
    podium_cluster.apply(draining_web("web", 3).replace("self.send_header('Content-Length'", announced))
    podium_cluster.wait("svc/web", ready=3)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    old = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    with wrk_on(address, close=True) as load:
        podium_cluster.podium("restart", "rc/web", timeout_s=240)
        podium_cluster.podium("restart", "proxy")
    assert not old & {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    assert load.errors == "", load.output
    assert load.requests > 100, load.output


def _not_in_order(cluster: Cluster) -> str:
    """What the proxies say of connections that did not end in order."""
    lines = [line for log in Path(cluster.home).rglob("access*.log*") for line in log.read_text().splitlines()]
    return "\n".join(line for line in lines if '"outcome": "closed"' not in line)


def _has_more(answers: list[str], count: int) -> bool:
    return len(answers) > count


def _is_alive(pid: int) -> bool:
    return process_start_time(pid) != 0


@pytest.mark.podium(nodes=1)
def test_top_services_and_the_access_log(podium_cluster: Cluster) -> None:
    podium_cluster.apply(
        web("web", 2).replace("selector: {app: web}\n  ports", "accessLog: true\n  selector: {app: web}\n  ports", 1)
    )
    podium_cluster.wait("svc/web", ready=2)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    with load_on(address):
        table = podium_cluster.podium("top", "services", "--interval", "2").stdout.splitlines()
        by_endpoint = podium_cluster.podium("top", "services", "--endpoints").stdout.splitlines()
    assert table[0].split()[:6] == ["NAME", "PORT", "ACTIVE", "CONN/s", "IN/s", "OUT/s"]
    assert table[1].split()[:2] == ["web", "8080"]
    assert float(table[1].split()[3]) > 0
    assert len(by_endpoint) == 3
    assert all(line.endswith("fit") for line in by_endpoint[1:])
    (log,) = Path(podium_cluster.home).rglob("access.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    pods = {f"{pod.status.podIP}:8080" for pod in podium_cluster.pods("app=web")}
    assert {line["endpoint"] for line in lines if line["outcome"] == "closed"} == pods
