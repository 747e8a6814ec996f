"""What cannot be done to the process that serves Kubernetes' API: nonsense by its own document, watches that hang."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml

from cluster.actor.open_files import raise_file_limit
from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster

GROWTH = 64 * 2**20
"""Bytes that the process may have more when everything is over; what it keeps of encoded objects is in there."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory, nodes=1, options=["--rest"]) as found:
        yield found


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> tuple[str, str]:
    """The server, host:port, and a token of the admin."""
    config = yaml.safe_load(cluster.podium("kubeconfig", "--token").stdout)
    return config["clusters"][0]["cluster"]["server"].removeprefix("https://"), config["users"][0]["user"]["token"]


def memory(cluster: Cluster) -> int:
    return int(psutil.Process(cluster.pid("kubernetes")).memory_info().rss)


def log_of(cluster: Cluster) -> str:
    return (cluster.directory / "log" / "kubernetes.log").read_text()


@pytest.mark.parametrize(
    ("group", "operations"), [("api/v1", 70), ("apis/policy/v1", 8), ("apis/apiextensions.k8s.io/v1", 7)]
)
def test_nonsense_that_is_made_of_its_own_document(
    cluster: Cluster, token: tuple[str, str], tmp_path: Path, group: str, operations: int
) -> None:
    pytest.importorskip("schemathesis")
    server, secret = token
    pid, before = cluster.pid("kubernetes"), memory(cluster)
    # So that it comes to what there is, and not only to names that there are not.
    (tmp_path / "schemathesis.toml").write_text('[parameters]\nnamespace = "default"\nname = "probe"\n')
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"https://{server}/openapi/v3/{group}"),
            *("--url", f"https://{server}", "--tls-verify", "false", "-H", f"Authorization: Bearer {secret}"),
            *("--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", "2", "--workers", "2"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", result.stdout)
    assert tested is not None
    assert int(tested[1]) >= operations, result.stdout[-3000:]
    assert cluster.pid("kubernetes") == pid, "it is the same process"
    assert "Traceback" not in log_of(cluster)
    assert memory(cluster) - before < GROWTH


def test_a_thousand_watches_of_one_client(cluster: Cluster, token: tuple[str, str]) -> None:
    raise_file_limit()
    server, secret = token
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))
    request = (
        f"GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: {server}\r\n"
        f"Authorization: Bearer {secret}\r\n\r\n"
    ).encode()

    def open_watch(_: int) -> ssl.SSLSocket:
        wrapped = context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host)
        wrapped.sendall(request)
        assert wrapped.recv(12) == b"HTTP/1.1 200"
        return wrapped

    def hears(watch: ssl.SSLSocket, word: bytes) -> bool:
        heard = b""
        while word not in heard:
            heard += (part := watch.recv(65536))
            if not part:
                return False
        return True

    sizes = [memory(cluster)]
    for turn in range(2):
        with ThreadPoolExecutor(16) as pool:
            watches = list(pool.map(open_watch, range(1000)))
            word = f"turn-{turn}"
            cluster.apply(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: watched}}, data: {{a: {word}}}}}")
            assert all(pool.map(hears, watches, [word.encode()] * len(watches)))
        sizes.append(memory(cluster))
        for watch in watches:
            watch.close()
    start, first, second = sizes
    assert first - start < 192 * 2**20, "some hundred KiB for each"
    assert second - first < 32 * 2**20, "what the first ones had is used again"
    assert "Traceback" not in log_of(cluster)


def test_watches_whose_readers_take_nothing_or_vanish(cluster: Cluster, token: tuple[str, str]) -> None:
    server, secret = token
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))
    request = (
        f"GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: {server}\r\n"
        f"Authorization: Bearer {secret}\r\n\r\n"
    ).encode()

    def open_watch(_: int) -> ssl.SSLSocket:
        raw = socket.create_connection((host, int(port)), timeout=20)
        wrapped = context.wrap_socket(raw, server_hostname=host)
        wrapped.sendall(request)
        assert wrapped.recv(12) == b"HTTP/1.1 200"
        return wrapped

    before = memory(cluster)
    with ThreadPoolExecutor(16) as pool:
        watches = list(pool.map(open_watch, range(100)))
    big = "x" * 50_000
    for number in range(40):
        cluster.apply(
            f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big}}, data: {{a: {big}, n: '{number}'}}}}"
        )
    for watch in watches[:50]:
        watch.close()
    assert cluster.podium("get", "configmaps").returncode == 0
    grown = memory(cluster) - before
    assert grown < 100 * 40 * 50_000 / 2 + GROWTH, "not each of them has a copy of everything"
    for watch in watches[50:]:
        watch.close()
    assert "Traceback" not in log_of(cluster)


def test_half_of_a_request(cluster: Cluster, token: tuple[str, str]) -> None:
    server, _ = token
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))
    halves = [b"", b"GET", b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"]
    open_ones: list[socket.socket] = []
    for half in halves * 20:
        raw = socket.create_connection((host, int(port)), timeout=20)
        wrapped = context.wrap_socket(raw, server_hostname=host)
        wrapped.sendall(half)
        open_ones.append(wrapped)
    open_ones += [socket.create_connection((host, int(port)), timeout=20) for _ in range(20)]  # not even TLS
    assert cluster.podium("kubeconfig").returncode == 0
    with context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host) as fine:
        fine.sendall(f"GET /healthz HTTP/1.1\r\nHost: {server}\r\n\r\n".encode())
        assert fine.recv(12) == b"HTTP/1.1 200"
    for connection in open_ones:
        connection.close()
    assert "Traceback" not in log_of(cluster)
