"""Blocking calls over the asynchronous client: one event loop in one thread, shared by all clusters of a test process.

gRPC wants a single event loop per process, and tests want plain calls; so the loop runs in a thread of its own, and
each call waits for its answer, with a deadline.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TypeVar

from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import ClusterClient
from cluster.rpc.identity import Credentials

R = TypeVar("R")


class _Loop:
    """The thread with the loop; started at first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="podium-testing", daemon=True).start()
            return self._loop


_loop = _Loop()


class Connection:
    """A client of one cluster, for blocking callers."""

    def __init__(self, address: str, credentials: Path) -> None:
        self._address = address
        self._credentials = Credentials.load(credentials)
        self.client: ClusterClient = self._call(self._connect, 30.0)

    async def _connect(self) -> GrpcClusterClient:
        return GrpcClusterClient(self._address, self._credentials)

    def run(self, body: Callable[[ClusterClient], Awaitable[R]], timeout_s: float = 30.0) -> R:
        """The result of `body(client)`. Raises what it raises, or TimeoutError after `timeout_s`."""

        async def call() -> R:
            return await body(self.client)

        return self._call(call, timeout_s)

    def close(self) -> None:
        """Ends the connection."""
        self._call(self.client.close, 30.0)

    def _call(self, body: Callable[[], Awaitable[R]], timeout_s: float) -> R:
        async def call() -> R:
            return await asyncio.wait_for(body(), timeout_s)

        future = asyncio.run_coroutine_threadsafe(call(), _loop.get())
        try:
            return future.result(timeout_s + 5.0)
        except FutureTimeout:
            future.cancel()
            raise
