"""What a service says of its traffic is done: near endpoints first, weights, time-outs, UDP."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import textwrap
from collections import Counter
from functools import partial

import pytest

from cluster.testing import Cluster
from tests.e2e.test_faults_proxy import answers
from tests.e2e.workloads import web

ECHO = """\
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((os.environ['POD_IP'], 9000))
while True:
    data, who = s.recvfrom(65536)
    s.sendto(os.environ['HOSTNAME'].encode() + b' ' + data, who)
"""


def with_spec(manifest: str, lines: str) -> str:
    """The manifest, whose first object's spec says this, too."""
    return manifest.replace("spec:\n", "spec:\n" + textwrap.indent(lines, "  ") + "\n", 1)


def ask(address: tuple[str, int], source: str = "") -> str:
    """The name of the pod that answers, over a new connection from that address."""
    connection = http.client.HTTPConnection(*address, timeout=5, source_address=(source, 0) if source else None)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _is_served_by(address: tuple[str, int], source: str, pods: set[str]) -> bool:
    return {ask(address, source) for _ in range(8)} <= pods


@pytest.mark.podium(nodes=2)
def test_clients_of_a_node_get_its_own_endpoints(podium_cluster: Cluster) -> None:
    podium_cluster.apply(with_spec(web("web", 4), "trafficDistribution: PreferSameNode"))
    podium_cluster.wait("svc/web", ready=4)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    on = {
        node: {pod.metadata.name for pod in podium_cluster.pods("app=web") if pod.spec.nodeName == node}
        for node in ("node-1", "node-2")
    }
    assert all(on.values()), "both nodes have some"
    for node, pods in on.items():
        network = ipaddress.ip_network(podium_cluster.get("node", node).spec.podCIDR)
        source = str(network[-2])
        podium_cluster.wait_until(partial(_is_served_by, address, source, pods), f"{node} is served by its own")
        assert {ask(address, source) for _ in range(8)} == pods
    assert {ask(address) for _ in range(8)} == on["node-1"] | on["node-2"], "from nowhere, all"


@pytest.mark.podium(nodes=1)
def test_weights_of_pods(podium_cluster: Cluster) -> None:
    light = web("web", 1)
    heavy = web("web", 1).split("---\n")[1].replace("metadata: {name: web}", "metadata: {name: heavy}", 1)
    heavy = heavy.replace(
        "metadata: {labels: {app: web}}",
        "metadata: {labels: {app: web, size: heavy}, annotations: {podium.dev/weight: '3'}}",
    )
    podium_cluster.apply(
        with_spec(light, "balancing: {policy: Weighted}").replace(
            "metadata: {labels: {app: web}}", "metadata: {labels: {app: web, size: light}}"
        )
    )
    podium_cluster.apply(heavy)
    podium_cluster.wait("svc/web", ready=2)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: len({ask(address) for _ in range(8)}) == 2, "both answer")
    shares = Counter(ask(address) for _ in range(16))
    (heavy_pod,) = podium_cluster.pods("size=heavy")
    assert shares[heavy_pod.metadata.name] == 12


@pytest.mark.podium(nodes=1)
def test_a_connection_that_is_silent_for_too_long_is_cut(podium_cluster: Cluster) -> None:
    podium_cluster.apply(with_spec(web("web", 1), "timeouts: {idleSeconds: 1}"))
    podium_cluster.wait("svc/web", ready=1)
    address = podium_cluster.address("web")
    podium_cluster.wait_until(lambda: answers(address), "the service answers")
    with socket.create_connection(address, timeout=20) as silent, pytest.raises(ConnectionResetError):
        silent.recv(1)


@pytest.mark.podium(nodes=1)
def test_a_service_of_udp(podium_cluster: Cluster) -> None:
    podium_cluster.apply(
        textwrap.dedent(f"""\
        apiVersion: v1
        kind: Service
        metadata: {{name: echo}}
        spec:
          selector: {{app: echo}}
          ports: [{{port: 9000, protocol: UDP}}]
          timeouts: {{udpIdleSeconds: 30}}
        ---
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: echo}}
        spec:
          replicas: 2
          selector: {{app: echo}}
          template:
            metadata: {{labels: {{app: echo}}}}
            spec:
              terminationGracePeriodSeconds: 1
              containers:
              - name: echo
                command: [python3, -S, -c, {json.dumps(ECHO)}]
                ports: [{{containerPort: 9000, protocol: UDP}}]
        """)
    )
    podium_cluster.wait("svc/echo", ready=2)
    address = (podium_cluster.get("svc", "echo").spec.clusterIP, 9000)
    served = set()

    def is_echoed() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1.0)
            names = []
            for word in (b"one", b"two"):
                client.sendto(word, address)
                try:
                    answer, who = client.recvfrom(100)
                except (TimeoutError, ConnectionRefusedError):
                    return False
                assert who == address
                name, _, said = answer.partition(b" ")
                assert said == word
                names.append(name)
            assert names[0] == names[1], "a client stays with its endpoint"
            served.add(names[0])
            return len(served) == 2

    podium_cluster.wait_until(is_echoed, "both pods have answered")
