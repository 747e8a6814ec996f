"""Ambassadors in a whole cluster: Redis as pods, a failover by labels, HTTP with canaries, a policy of one's own."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import EXAMPLES
from tests.e2e.workloads import fetch

EXAMPLE = EXAMPLES / "ambassadors"


class Redis:
    """A connection of a client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._stream = self._socket.makefile("rwb")

    def __call__(self, line: str) -> str:
        """The answer to a command; of a bulk string, its text."""
        self._stream.write(line.encode() + b"\r\n")
        self._stream.flush()
        answer = self._stream.readline().decode().strip()
        if answer[:1] == "$" and answer != "$-1":
            return self._stream.read(int(answer[1:]) + 2).decode().strip()
        return answer

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@contextlib.contextmanager
def redis(address: tuple[str, int]) -> Iterator[Redis]:
    connection = Redis(address)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed (.ci/run installs it)")
def test_redis_reads_at_replicas_and_follows_labels(shared_cluster: Cluster, namespace: str) -> None:
    cluster = shared_cluster
    cluster.apply(EXAMPLE / "redis.yaml", namespace)
    cluster.wait("rc/redis-a", namespace, ready=1)
    cluster.wait("rc/redis-b", namespace, ready=2)
    cluster.wait("svc/redis", namespace, ready=3)
    address = cluster.address("redis", namespace)
    (master,) = cluster.pods("role=master", namespace)
    replicas = cluster.pods("role=replica", namespace)
    for pod in replicas:
        with redis((pod.status.podIP, 6379)) as replica:
            cluster.wait_until(lambda r=replica: "link_status:up" in r("INFO replication"), "the replica follows")  # type: ignore[misc]
    with redis(address) as client:
        assert client("SET k before") == "+OK"
        cluster.wait_until(lambda: client("GET k") == "before", "the replica has it")
        with redis((master.status.podIP, 6379)) as at_master:
            assert "cmdstat_get" not in at_master("INFO commandstats")
        new = replicas[0]
        with redis((new.status.podIP, 6379)) as promoted:
            assert promoted("REPLICAOF NO ONE") == "+OK"
        with redis((master.status.podIP, 6379)) as demoted:
            assert demoted(f"REPLICAOF {new.status.podIP} 6379") == "+OK"
        cluster.podium("label", "pod", master.metadata.name, "role=replica", "--overwrite", "-n", namespace)
        cluster.podium("label", "pod", new.metadata.name, "role=master", "--overwrite", "-n", namespace)
        cluster.wait_until(lambda: client("SET k after") == "+OK", "writes go to the new master")
        cluster.wait_until(lambda: client("GET k") == "after", "reads go on")
        with redis((new.status.podIP, 6379)) as promoted:
            assert promoted("GET k") == "after"


def web(name: str, tracks: dict[str, int]) -> str:
    """One RC for each track, whose pods say their name."""
    program = (
        "import http.server, os\n"
        "class Hello(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        body = os.environ['HOSTNAME'].encode()\n"
        "        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "    def log_message(self, *_): pass\n"
        "http.server.ThreadingHTTPServer((os.environ['POD_IP'], 8080), Hello).serve_forever()\n"
    )
    parts = [
        textwrap.dedent(f"""\
            apiVersion: v1
            kind: ReplicationController
            metadata: {{name: {name}-{track}}}
            spec:
              replicas: {replicas}
              template:
                metadata: {{labels: {{app: {name}, track: {track}}}}}
                spec:
                  terminationGracePeriodSeconds: 1
                  containers:
                  - name: main
                    command: [python3, -S, -c, {program!r}]
                    ports: [{{containerPort: 8080}}]
                    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
            """)
        for track, replicas in tracks.items()
    ]
    return "---\n".join(parts)


def service(name: str, policy: str, options: dict[str, str]) -> str:
    listed = ", ".join(f"{key!r}: {value!r}" for key, value in options.items())
    return (
        f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{app: {name}}}, "
        f"ports: [{{port: 8080}}], ambassador: {{policy: {policy!r}, options: {{{listed}}}}}}}}}\n"
    )


def test_http_by_header_and_weight(shared_cluster: Cluster, namespace: str) -> None:
    cluster = shared_cluster
    rules = {"rule.1": "path=/canary => track=canary", "rule.2": "=> track=stable @ 80 | track=canary @ 20"}
    cluster.apply(service("web", "http", rules) + "---\n" + web("web", {"stable": 2, "canary": 1}), namespace)
    cluster.wait("svc/web", namespace, ready=3)
    address = cluster.address("web", namespace)
    cluster.wait_until(lambda: _status(address, "/canary") == 200, "it answers")
    assert {fetch(address, "/canary")[1].rpartition("-")[0] for _ in range(5)} == {"web-canary"}
    answers = collections.Counter(fetch(address, "/")[1].rpartition("-")[0] for _ in range(100))
    assert 0 < answers["web-canary"] < 50
    assert answers["web-canary"] + answers["web-stable"] == 100
    cluster.apply(service("web", "http", {"rule.1": "=> track=stable"}), namespace)
    cluster.wait_until(lambda: fetch(address, "/canary")[1].startswith("web-stable"), "the new rules hold")
    told = cluster.podium("describe", "svc", "web", "-n", namespace).stdout
    assert 'rule.1="=> track=stable"' in told or "rule.1==> track=stable" in told, told


def _status(address: tuple[str, int], path: str) -> int:
    try:
        return fetch(address, path)[0]
    except OSError:
        return 0


def test_what_makes_no_sense_is_refused_when_it_is_applied(shared_cluster: Cluster, namespace: str) -> None:
    for policy, options, message in (
        ("reddis", {}, "module:Class"),
        ("http", {"rule.1": "path=x => a=b"}, "a path begins with /"),
        ("redis", {"rolelabel": "x"}, "there are role-label"),
    ):
        refused = shared_cluster.podium(
            "apply", "-f", "-", "-n", namespace, check=False, stdin=service("wrong", policy, options)
        )
        assert refused.returncode != 0
        assert message in refused.stderr, refused.stderr


def say(address: tuple[str, int], text: bytes) -> bytes:
    """What is answered; nothing if it is refused with a reset."""
    try:
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return b""


def test_a_policy_of_ones_own_is_reloaded_and_cut_out_and_takes_nothing_down(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(EXAMPLE, policies)
    with Cluster.start(nodes=1, home=tmp_path / "podium", options=("--policies", str(policies))) as cluster:
        cluster.apply(EXAMPLE / "shards.yaml")
        cluster.apply(service("plain", "http", {}) + "---\n" + web("plain", {"stable": 1}))
        for name in ("shard-0", "shard-1", "plain-stable"):
            cluster.wait(f"rc/{name}", ready=1)
        cluster.wait("svc/tenants", ready=2)
        address, plain = cluster.address("tenants"), cluster.address("plain")
        cluster.wait_until(lambda: say(address, b"alice\n"), "it answers")
        names = ("alice", "bob", "carol", "dave", "eve")
        served = {name: say(address, f"{name}\n".encode()).split()[0] for name in names}
        assert {name.rpartition(b"-")[0] for name in served.values()} == {b"shard-0", b"shard-1"}
        assert all(say(address, f"{name}\n".encode()).split()[0] == served[name] for name in names), "always the same"
        assert say(address, b"\n") == b"the name of the tenant comes first\n"

        with socket.create_connection(address, timeout=20) as running:
            stream = running.makefile("rwb")
            stream.write(b"alice\n")
            stream.flush()
            assert stream.readline().startswith(served["alice"])
            _exchange(policies / "shards.py", "comes first", "is missing")
            cluster.wait_until(lambda: b"is missing" in say(address, b"\n"), "the new class answers")
            _exchange(policies / "shards.py", "tenant = line.strip()", "tenant = line.strop()")
            cluster.wait_until(lambda: not say(address, b"bob\n") and "AttributeError" in _told(cluster), "cut out")
            stream.write(b"still here\n")
            stream.flush()
            assert stream.readline().endswith(b"heard still here\n"), "a connection that runs has not been dropped"
            assert fetch(plain)[0] == 200, "and other services are served"
            endless = "def open(self, *_):\n        while True: pass\n    def was("
            _exchange(policies / "shards.py", "def open(", endless)
            cluster.wait_until(lambda: not say(address, b"bob\n") and "was interrupted" in _told(cluster), "cut out")
            assert fetch(plain)[0] == 200, "an endless loop is interrupted"
            shutil.copy(EXAMPLE / "shards.py", policies / "shards.py")
            cluster.wait_until(lambda: say(address, b"bob\n").startswith(served["bob"]), "the right one is back")
            stream.write(b"to the end\n")
            stream.flush()
            assert stream.readline().endswith(b"heard to the end\n")
            stream.close()


def test_several_workers_carry_ambassadors_and_faults(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(EXAMPLE, policies)
    options = ("--policies", str(policies), "--proxy-arg", "workers=2")
    with Cluster.start(nodes=1, home=tmp_path / "podium", options=options) as cluster:
        cluster.apply(EXAMPLE / "shards.yaml")
        cluster.wait("svc/tenants", ready=2)
        address = cluster.address("tenants")
        cluster.wait_until(lambda: say(address, b"alice\n"), "it answers")
        assert len({say(address, b"alice\n").split()[0] for _ in range(20)}) == 1
        cluster.podium("fault", "svc/tenants", "--refuse", "--for", "10m", "--name", "shut")
        cluster.wait_until(lambda: not any(say(address, b"alice\n") for _ in range(10)), "no worker serves")
        cluster.podium("delete", "fault", "shut")
        cluster.wait_until(lambda: all(say(address, b"alice\n") for _ in range(10)), "all serve")
        _exchange(policies / "shards.py", "tenant = line.strip()", "tenant = line.strop()")
        cluster.wait_until(lambda: not say(address, b"bob\n") and "AttributeError" in _told(cluster), "cut out")


def _exchange(path: Path, old: str, new: str) -> None:
    """As an editor does: another file in its place."""
    text = path.read_text()
    assert old in text
    path.with_suffix(".new").write_text(text.replace(old, new))
    os.replace(path.with_suffix(".new"), path)


def _told(cluster: Cluster) -> str:
    """What the events of policies that were cut out say."""
    return " ".join(event.message for event in cluster.events("PolicyCutOut"))
