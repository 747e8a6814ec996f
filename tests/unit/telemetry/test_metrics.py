"""Metrics over a Unix socket: the two paths, what is not answered, and that the socket is private."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.telemetry.metrics import Metrics


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    metrics = Metrics()
    yield metrics
    await metrics.stop()


async def request(path: Path, head: bytes) -> tuple[bytes, bytes]:
    """The status line and the body."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(head)
        writer.write_eof()
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    top, _, body = answer.partition(b"\r\n\r\n")
    return top.partition(b"\r\n")[0], body


async def test_counters_gauges_and_histograms(metrics: Metrics, tmp_path: Path) -> None:
    metrics.counter("writes", "Writes.", ["verb"]).labels(verb="create").inc(2)
    metrics.gauge("watchers", "Watchers.").set(3)
    metrics.histogram("write_seconds", "Time.").observe(0.2)
    await metrics.serve(tmp_path / "m.sock")
    status, body = await request(tmp_path / "m.sock", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert body == metrics.render()
    for line in (b'writes_total{verb="create"} 2.0', b"watchers 3.0", b"write_seconds_count 1.0"):
        assert line in body.splitlines()


async def test_each_process_counts_for_itself(metrics: Metrics) -> None:
    metrics.counter("writes", "Writes.")
    Metrics().counter("writes", "Writes.")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"GET /metrics HTTP/1.1\r\n", b""),
    ],
)
async def test_what_is_answered(metrics: Metrics, tmp_path: Path, head: bytes, status: bytes) -> None:
    await metrics.serve(tmp_path / "m.sock")
    assert (await request(tmp_path / "m.sock", head))[0] == status


async def test_an_endless_request_is_cut_off(metrics: Metrics, tmp_path: Path) -> None:
    await metrics.serve(tmp_path / "m.sock")
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "m.sock"))
    try:
        writer.write(b"GET /" + b"x" * 20_000)
        assert await reader.read() == b""
    except ConnectionResetError:
        pass
    finally:
        writer.close()


async def test_the_socket_is_private_replaces_a_stale_one_and_goes(metrics: Metrics, tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / "m.sock"
    path.parent.mkdir()
    path.touch()
    await metrics.serve(path)
    status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    await metrics.stop()
    await metrics.stop()
    assert not path.exists()
