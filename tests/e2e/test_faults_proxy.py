"""The proxy dies, pods come and go under load: services answer, and connections that are there stay there."""

from __future__ import annotations

import http.client
import json
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.testing import Cluster
from tests.e2e.workloads import fetch, web
from tests.kit.processes import alive, family

DRAINING = """\
import http.server as h, os, signal, threading, time
lock, busy = threading.Lock(), {"connections": 0, "last": 0.0}
def count(change):
    with lock:
        busy["connections"] += change
        busy["last"] = time.monotonic()
class H(h.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def setup(self): count(1); super().setup()
    def finish(self): super().finish(); count(-1)
    def do_GET(self):
        body = os.environ['HOSTNAME'].encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class Server(h.ThreadingHTTPServer):
    request_queue_size = 128
def end():
    count(0)
    while busy["connections"] or time.monotonic() - busy["last"] < 2: time.sleep(0.05)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=end).start())
Server((os.environ['POD_IP'], 8080), H).serve_forever()
"""
"""A web server that ends as they should: told to, it goes on until it has had no connection for two seconds."""


def draining_web(name: str, replicas: int) -> str:
    """A replication controller of such servers, and its service."""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Service
        metadata: {{name: {name}}}
        spec:
          selector: {{app: {name}}}
          ports: [{{port: 8080, targetPort: 8080}}]
        ---
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          selector: {{app: {name}}}
          template:
            metadata: {{labels: {{app: {name}}}}}
            spec:
              terminationGracePeriodSeconds: 30
              containers:
              - name: web
                command: [python3, -S, -c, {json.dumps(DRAINING)}]
                ports: [{{containerPort: 8080}}]
                readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        """)


class Load:
    """Clients that ask over and over, each time on a new connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._stop = threading.Event()
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, name=f"client {number}") for number in range(3)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(fetch(self._address)[1])
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))


@contextmanager
def load_on(address: tuple[str, int]) -> Iterator[Load]:
    """Load within the block; all of it has been answered afterwards."""
    load = Load(address)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def answers(address: tuple[str, int]) -> bool:
    """A new connection is served."""
    try:
        return fetch(address, timeout_s=1.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.podium(nodes=1)
def test_a_killed_proxy_is_restarted_and_serves_again(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 2))
    podium_cluster.wait("svc/web", ready=2)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    for kills in (1, 2):
        before = podium_cluster.kill_process("proxy")
        podium_cluster.wait_until(lambda: answers(address), "the service answers again")
        assert podium_cluster.pid("proxy") != before
        proxy = next(process for process in podium_cluster.info()["processes"] if process["name"] == "proxy")
        assert proxy["restarts"] == kills
    podium_cluster.scale("web", 3)
    podium_cluster.wait("svc/web", ready=3)
    names = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    podium_cluster.wait_until(lambda: {fetch(address)[1] for _ in range(6)} == names, "the new endpoint is served too")


@pytest.mark.podium(nodes=1)
def test_established_connections_outlive_their_endpoint_and_the_master(podium_cluster: Cluster) -> None:
    podium_cluster.apply(draining_web("web", 3))
    podium_cluster.wait("svc/web", ready=3)
    address = podium_cluster.address("web")
    names = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    podium_cluster.wait_until(lambda: {fetch(address)[1] for _ in range(6)} == names, "all pods answer")
    connections = [http.client.HTTPConnection(*address, timeout=20) for _ in range(6)]

    def ask_all() -> list[str]:
        names = []
        for connection in connections:
            connection.request("GET", "/")
            names.append(connection.getresponse().read().decode())
        return names

    try:
        served_by = ask_all()
        assert sorted(served_by) == sorted(2 * list(names))
        podium_cluster.scale("web", 1)
        podium_cluster.wait_until(lambda: ask_all() and len(endpoints(podium_cluster, "web")) == 1, "two are leaving")
        assert ask_all() == served_by, "the pods that leave stay until their connections are closed"
        (remaining,) = endpoints(podium_cluster, "web")
        podium_cluster.wait_until(
            lambda: ask_all() and {fetch(address)[1] for _ in range(4)} == {remaining},
            "new ones go to the third",
        )
        podium_cluster.kill_process("master")
        assert ask_all() == served_by
        podium_cluster.wait_until(lambda: ask_all() and podium_cluster.pods("app=web"), "the master is back")
        assert ask_all() == served_by
    finally:
        for connection in connections:
            connection.close()
    podium_cluster.wait_until(lambda: len(podium_cluster.list("pods")) == 1, "left alone, they end")


def endpoints(cluster: Cluster, service: str) -> set[str]:
    """The pods that the service leads to."""
    subsets = cluster.get("endpoints", service).subsets
    return {address.targetRef.name for subset in subsets for address in subset.addresses}


@pytest.mark.podium(nodes=2)
def test_no_request_fails_while_all_pods_are_replaced_under_load(podium_cluster: Cluster) -> None:
    podium_cluster.apply(draining_web("web", 3))
    podium_cluster.wait("svc/web", ready=3)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    old = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
    with load_on(address) as load:
        for name in sorted(old):
            podium_cluster.delete("pod", name)
            podium_cluster.wait("rc/web", ready=3)
            podium_cluster.wait("svc/web", ready=3)
        new = {pod.metadata.name for pod in podium_cluster.pods("app=web")}
        assert not new & old
        podium_cluster.wait_until(lambda: new <= set(load.answers), "all new pods have answered")
    assert load.failures == []
    assert old <= set(load.answers)


@pytest.mark.podium(nodes=2)
def test_a_killed_endpoint_costs_no_new_connection(podium_cluster: Cluster) -> None:
    """Between its death and the next look at its readiness it refuses; the proxy goes to the next one at once."""
    podium_cluster.apply(web("web", 3))
    podium_cluster.wait("svc/web", ready=3)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    victim = podium_cluster.pods("app=web")[0].metadata.name
    processes = family(*podium_cluster.pod_pids(victim))
    podium_cluster.kill_pod(victim)
    # Until it is really dead it may still take a connection, and this one is lost.
    podium_cluster.wait_until(lambda: not alive(processes), "it is dead", every_s=0.001)
    for _ in range(30):
        assert fetch(address)[0] == 200
    podium_cluster.wait("rc/web", ready=3)
    podium_cluster.wait("svc/web", ready=3)
    podium_cluster.wait_until(lambda: fetch(address)[1] == victim, "the restarted container serves again")
