"""What cannot be done to the process that serves Kubernetes' API: nonsense by its own document, watches that hang."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPSConnection
from pathlib import Path

import psutil
import pytest
import yaml

from cluster.actor.open_files import raise_file_limit
from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster
from tests.e2e.nonsense import throw_nonsense

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


def connections(cluster: Cluster, port: int) -> int:
    """How many it has accepted and not closed."""
    found = psutil.Process(cluster.pid("kubernetes")).net_connections("tcp")
    return sum(each.laddr.port == port and each.status != psutil.CONN_LISTEN for each in found)


def log_of(cluster: Cluster) -> str:
    return (cluster.directory / "log" / "kubernetes.log").read_text()


@pytest.mark.parametrize(
    ("group", "operations"), [("api/v1", 70), ("apis/policy/v1", 8), ("apis/apiextensions.k8s.io/v1", 7)]
)
def test_nonsense_that_is_made_of_its_own_document(
    cluster: Cluster, token: tuple[str, str], tmp_path: Path, group: str, operations: int
) -> None:
    server, secret = token
    pid, before = cluster.pid("kubernetes"), memory(cluster)
    assert throw_nonsense(f"https://{server}", secret, group, "probe", tmp_path) >= operations
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
        # It takes a while to notice that a thousand have gone, and the next thousand would come on top of them.
        cluster.wait_until(lambda: not connections(cluster, int(port)), "all are closed", timeout_s=60.0)
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


def test_hundreds_of_large_bodies_that_come_slowly(cluster: Cluster, token: tuple[str, str]) -> None:
    server, secret = token
    host, _, port = server.rpartition(":")
    context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))
    path = "/api/v1/namespaces/default/configmaps"
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    size = 3 * 2**20

    def send(_: int) -> tuple[HTTPSConnection, bool]:
        """A request that stays without its end, if it is taken; and whether it was refused meanwhile."""
        line = HTTPSConnection(host, int(port), timeout=20, context=context)
        line.putrequest("POST", path)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            line.putheader(name, value)
        line.endheaders()
        assert isinstance(line.sock, ssl.SSLSocket)
        for piece in range(15):
            line.send(b" " * (size // 16))
            if piece in (0, 14):
                line.sock.settimeout(1)
                with suppress(TimeoutError):
                    assert line.sock.recv(12) == b"HTTP/1.1 429"
                    return line, True
                line.sock.settimeout(20)
        return line, False

    before = memory(cluster)
    with ThreadPoolExecutor(16) as pool:
        slow = list(pool.map(send, range(500)))
    grown = memory(cluster) - before
    print(f"{sum(is_refused for _, is_refused in slow)} of 500 were refused, grown by {grown / 2**20:.0f} MiB")
    assert grown < 160 * 2**20, "all of them together would take 1.5 GiB"
    quick = HTTPSConnection(host, int(port), timeout=20, context=context)
    for method, body in (("POST", '{"metadata": {"name": "between"}}'), ("GET", None)):
        quick.request(method, path, body, headers)
        answer = quick.getresponse()
        assert answer.status in (200, 201), answer.read()
        answer.read()
    for line, _ in (*slow, (quick, False)):
        line.close()
    assert "Traceback" not in log_of(cluster)
