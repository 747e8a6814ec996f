"""Counters of a process, served as Prometheus text on a Unix socket in the cluster's private directory.

    curl --unix-socket DIR/run/proxy.metrics.sock http://localhost/metrics

Only two paths are answered, /metrics and /healthz, one request per connection, of at most 4 KiB.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

_REQUEST_LIMIT = 4096
_REQUEST_TIMEOUT_S = 5.0


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._inode = 0

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows."""
        return Counter(name, help_text, labels, registry=self._registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return Gauge(name, help_text, labels, registry=self._registry)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Histogram:
        """A distribution."""
        return Histogram(name, help_text, labels, registry=self._registry)

    def register(self, collector: Collector) -> None:
        """A source of metrics that counts by itself and is asked at each scrape: for counters on a hot path."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        text: bytes = generate_latest(self._registry)
        return text

    async def serve(self, path: Path) -> None:
        """Answers on a Unix socket at that path, 0600; a stale one is replaced."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (a local directory, once)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # AF_UNIX paths end at 107 bytes; through the open directory any path is short.
            short = f"/proc/self/fd/{directory}/{path.name}"
            self._server = await asyncio.start_unix_server(self._answer, short, limit=_REQUEST_LIMIT)
            path.chmod(0o600)  # noqa: ASYNC240
            self._inode = path.stat().st_ino  # noqa: ASYNC240
        finally:
            os.close(directory)
        self._path = path

    async def stop(self) -> None:
        """Ends the server; a socket that another process has put in its place stays. Twice is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path is not None:
            try:
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            except FileNotFoundError:
                pass
            self._path = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                request = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = [*request.split(b" ", 2), b"", b""]
                status = b"200 OK"
                if method != b"GET":
                    status, body = b"405 Method Not Allowed", b"only GET is answered\n"
                elif path == b"/metrics":
                    body = self.render()
                elif path == b"/healthz":
                    body = b"ok\n"
                else:
                    status, body = b"404 Not Found", b"not found; ask for /metrics or /healthz\n"
                head = b"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n"
                writer.write(head % (status, len(body)) + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            writer.close()
