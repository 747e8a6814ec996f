"""Services as their clients meet them: named ports, stickiness, no address, endpoints by hand, readiness."""

from __future__ import annotations

import collections
import contextlib
import http.server
import itertools
import os
import socket
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.workloads import fetch

PROGRAM = (
    "import os, socket, threading\n"
    "def serve(port, listener):\n"
    "    while True:\n"
    "        connection, _ = listener.accept()\n"
    "        connection.sendall((os.environ['HOSTNAME'] + ' ' + str(port)).encode())\n"
    "        connection.close()\n"
    "for port in (7000, 7001):\n"
    "    listener = socket.create_server((os.environ['POD_IP'], port))\n"
    "    threading.Thread(target=serve, args=(port, listener)).start()\n"
    "open(os.environ['HOME'] + '/ready', 'w').close()\n"
)


def answering(name: str, replicas: int, service: str) -> str:
    """A service, and pods that say their name and port on two ports; they are ready while $HOME/ready exists."""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Service
        metadata: {{name: {name}}}
        spec: {service}
        ---
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          template:
            metadata: {{labels: {{app: {name}}}}}
            spec:
              terminationGracePeriodSeconds: 1
              containers:
              - name: main
                command: [python3, -S, -c, {PROGRAM!r}]
                ports: [{{name: main, containerPort: 7000}}, {{name: other, containerPort: 7001}}]
                readinessProbe:
                  exec: {{command: [sh, -c, "test -e $HOME/ready"]}}
                  periodSeconds: 1
                  failureThreshold: 1
        """)


def ask(address: tuple[str, int], source: str = "") -> tuple[str, int]:
    """Which pod answered, and on which of its ports."""
    with socket.create_connection(address, timeout=10.0, source_address=(source, 0) if source else None) as connection:
        text = b""
        while data := connection.recv(1000):
            text += data
    name, _, port = text.decode().partition(" ")
    return name, int(port)


def who(address: tuple[str, int], times: int = 6) -> set[str]:
    """Which pods answer; none as long as the proxy has not heard of the service."""
    try:
        return {ask(address)[0] for _ in range(times)}
    except OSError:
        return set()


def started(cluster: Cluster, name: str, namespace: str, replicas: int) -> None:
    cluster.wait(f"rc/{name}", namespace, ready=replicas)
    cluster.wait(f"svc/{name}", namespace, ready=replicas)


def test_several_ports_by_name_and_number_each_in_turn(shared_cluster: Cluster, namespace: str) -> None:
    ports = "[{name: a, port: 8080, targetPort: other}, {name: b, port: 8081, targetPort: 7000}]"
    shared_cluster.apply(answering("two", 3, f"{{selector: {{app: two}}, ports: {ports}}}"), namespace)
    started(shared_cluster, "two", namespace, 3)
    host, _ = shared_cluster.address("two", namespace)
    for port, target in ((8080, 7001), (8081, 7000)):
        shared_cluster.wait_until(lambda p=port: len(who((host, p))) == 3, "all answer")  # type: ignore[misc]
        answers = collections.Counter(ask((host, port)) for _ in range(9))
        assert {port for _, port in answers} == {target}
        assert sorted(answers.values()) == [3, 3, 3]
    names = shared_cluster.podium("get", "ep", "two", "-n", namespace, "-o", "yaml").stdout
    assert "name: a" in names
    assert "app: two" in names, "a client learns what stands behind an address"


def test_a_client_sticks_to_its_endpoint_until_that_goes(shared_cluster: Cluster, namespace: str) -> None:
    service = "{selector: {app: st}, sessionAffinity: ClientIP, ports: [{port: 8080, targetPort: main}]}"
    shared_cluster.apply(answering("st", 3, service), namespace)
    started(shared_cluster, "st", namespace, 3)
    address = shared_cluster.address("st", namespace)
    block, numbers = f"127.{address[0].split('.')[1]}", itertools.count(1)
    clients = [f"{block}.200.{number}" for number in range(1, 7)]

    def newcomers() -> set[str]:
        """Who serves clients that were never here."""
        return {ask(address, f"{block}.201.{next(numbers) % 250 + 1}")[0] for _ in range(6)} if who(address) else set()

    shared_cluster.wait_until(lambda: len(newcomers()) == 3, "all answer")
    first = {client: ask(address, client) for client in clients}
    assert len(set(first.values())) == 3
    assert all(ask(address, client) == first[client] for client in clients for _ in range(3))
    gone = first[clients[0]][0]
    shared_cluster.delete("pod", gone, namespace)
    started(shared_cluster, "st", namespace, 3)
    shared_cluster.wait_until(lambda: ask(address, clients[0])[0] != gone, "it is sent elsewhere")
    again = {client: ask(address, client) for client in clients}
    for client in clients:
        assert again[client] == first[client] or first[client][0] == gone, "those of the others stay"


def test_an_unready_pod_gets_no_new_connections_and_no_restart(shared_cluster: Cluster, namespace: str) -> None:
    service = "{selector: {app: rd}, ports: [{port: 8080, targetPort: main}]}"
    shared_cluster.apply(answering("rd", 2, service), namespace)
    started(shared_cluster, "rd", namespace, 2)
    address = shared_cluster.address("rd", namespace)
    out, stays = (found.metadata.name for found in shared_cluster.pods("app=rd", namespace))
    shared_cluster.exec(out, ["sh", "-c", "rm $HOME/ready"], namespace)
    shared_cluster.wait("svc/rd", namespace, ready=1)
    shared_cluster.wait_until(lambda: who(address) == {stays}, "only the ready one answers")
    assert "0/1" in shared_cluster.podium("get", "pod", out, "-n", namespace).stdout
    assert len(shared_cluster.get("endpoints", "rd", namespace).subsets[0].notReadyAddresses) == 1
    shared_cluster.exec(out, ["sh", "-c", "touch $HOME/ready"], namespace)
    shared_cluster.wait("svc/rd", namespace, ready=2)
    shared_cluster.wait_until(lambda: who(address) == {out, stays}, "both answer")
    assert shared_cluster.get("pod", out, namespace).status.containerStatuses[0].restartCount == 0


def test_a_headless_service_has_endpoints_and_no_address(shared_cluster: Cluster, namespace: str) -> None:
    service = "{clusterIP: None, selector: {app: hl}, ports: [{port: 8080, targetPort: main}]}"
    shared_cluster.apply(answering("hl", 2, service), namespace)
    started(shared_cluster, "hl", namespace, 2)
    subset = shared_cluster.get("endpoints", "hl", namespace).subsets[0]
    for endpoint in subset.addresses:
        assert ask((endpoint.ip, subset.ports[0].port)) == (endpoint.targetRef.name, 7000)
    urls = shared_cluster.podium("url", "svc/hl", "-n", namespace).stdout.splitlines()
    assert urls == [f"http://{endpoint.ip}:7000" for endpoint in subset.addresses]
    assert "None" in shared_cluster.podium("get", "svc", "hl", "-n", namespace).stdout.splitlines()[1]


@pytest.fixture
def outside() -> Iterator[int]:
    """The port of a server that is no pod."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from outside")

    def log_message(self, *_: object) -> None:
        pass


def test_endpoints_by_hand_and_the_counters(shared_cluster: Cluster, namespace: str, outside: int) -> None:
    shared_cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: out}, spec: {ports: [{port: 8080}]}}\n---\n"
        "{apiVersion: v1, kind: Endpoints, metadata: {name: out}, "
        f"subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{port: {outside}}}]}}]}}\n",
        namespace,
    )
    address = shared_cluster.address("out", namespace)
    shared_cluster.wait_until(lambda: _text(address) == "from outside", "it answers")
    with socket.socket(socket.AF_UNIX) as connection, directory_fd(shared_cluster.directory / "run") as run:
        connection.settimeout(10.0)
        connection.connect(f"/proc/self/fd/{run}/proxy.metrics.sock")  # a path of any length, in 107 bytes
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    counted = [line for line in text.splitlines() if f'namespace="{namespace}"' in line and 'service="out"' in line]
    connections = next(line for line in counted if line.startswith("podium_proxy_connections_total{"))
    assert float(connections.split()[-1]) >= 1
    assert any(line.startswith("podium_proxy_bytes_total{") and 'direction="to-clients"' in line for line in counted)


@contextlib.contextmanager
def directory_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _text(address: tuple[str, int]) -> str:
    try:
        return fetch(address)[1]
    except OSError:
        return ""
