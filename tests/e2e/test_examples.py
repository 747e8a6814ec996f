"""The examples, as their README says, on a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import EXAMPLES
from tests.e2e.workloads import fetch


def test_guestbook_is_spread_balanced_and_keeps_entries(
    shared_cluster: Cluster, namespace: str, guestbook: Path
) -> None:
    shared_cluster.apply(guestbook, namespace)
    shared_cluster.wait("rc/frontend", namespace, ready=3)
    shared_cluster.wait("rc/backend", namespace, ready=1)
    shared_cluster.wait("svc/frontend", namespace, ready=3)

    frontends = shared_cluster.pods("tier=fe", namespace)
    assert {pod.spec.nodeName for pod in frontends} == set(shared_cluster.nodes)
    assert all(pod.metadata.labels["env"] == "prod" for pod in frontends)

    address = shared_cluster.address("frontend", namespace)
    shared_cluster.wait_until(lambda: _answers(address), "the service answers")

    def served(times: int) -> list[str]:
        return [json.loads(fetch(address, "/api")[1])["pod"] for _ in range(times)]

    # The proxy hears of the pods after the service has them.
    shared_cluster.wait_until(lambda: len(set(served(3))) == 3, "all of them answer")
    served_by = served(9)
    assert sorted(served_by) == sorted(3 * [pod.metadata.name for pod in frontends])

    add = f"/add?text=hello%20from%20{namespace}"
    connection = socket.create_connection(address, timeout=20)
    with connection:
        body = f"text=hello+{namespace}".encode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body)
        while connection.recv(65536):
            pass
    entries = [json.dumps(json.loads(fetch(address, "/api")[1])["entries"]) for _ in range(3)]
    assert all(f"hello {namespace}" in text for text in entries), (entries, add)


def _answers(address: tuple[str, int]) -> bool:
    try:
        return fetch(address, "/api")[0] == 200
    except OSError:
        return False


def _is_redis(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100) == b"+PONG\r\n"
    except OSError:
        return False


def test_a_client_that_knows_the_shards(podium_cluster: Cluster) -> None:
    podium_cluster.apply(EXAMPLES / "shards" / "shards.yaml")
    podium_cluster.wait("svc/shards", ready=2)
    environment = os.environ | {"PODIUM_HOME": str(podium_cluster.home), "PODIUM_CLUSTER": podium_cluster.name}

    def client(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "shards" / "client.py"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    pods = {pod.metadata.labels["podium.dev/shard"]: pod.metadata.name for pod in podium_cluster.pods("app=shards")}
    for key, value in (("color", "green"), ("shape", "round"), ("size", "3")):
        assert client("put", key, value).returncode == 0
        found = client("get", key)
        shard = found.stdout.split("shard ")[1].partition(",")[0]
        assert found.stdout == f"{key} is of shard {shard}, pod {pods[shard]}: {value}\n", found.stderr
    missing = client("get", "nothing")
    assert (missing.returncode, missing.stdout.endswith(": Not Found\n")) == (1, True), missing.stderr


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed (.ci/run installs it)")
def test_redis_unmodified_behind_its_service(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(EXAMPLES / "redis", namespace)
    shared_cluster.wait("rc/redis", namespace, ready=1)
    shared_cluster.wait("svc/redis", namespace, ready=1)
    address = shared_cluster.address("redis", namespace)
    assert address[1] == 6379
    shared_cluster.wait_until(lambda: _is_redis(address), "the service answers")
    with socket.create_connection(address, timeout=20) as connection:
        stream = connection.makefile("rwb")

        def command(*words: bytes) -> bytes:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            stream.write(b"*%d\r\n%s" % (len(words), parts))
            stream.flush()
            return stream.readline()

        assert command(b"SET", b"greeting", b"hello") == b"+OK\r\n"
        assert command(b"GET", b"greeting") == b"$5\r\n"
        assert stream.readline() == b"hello\r\n"
        assert command(b"INCR", b"n") == b":1\r\n"
