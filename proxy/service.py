"""A proxy with its wire to the master and its metrics, as a child of a supervisor."""

from __future__ import annotations

import random

from cluster.actor.clock import Clock
from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.identity import Credentials
from cluster.telemetry.metrics import Metrics
from proxy.exposition import Exposition
from proxy.limits import raise_file_limit
from proxy.server import ProxyServer
from proxy.settings import ProxySettings
from proxy.stats import Stats


class ProxyService:
    """Made anew for each start: a stopped one is not started again."""

    def __init__(self, settings: ProxySettings, *, clock: Clock, rng: random.Random) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._metrics = Metrics()
        self._client: GrpcClusterClient | None = None
        self._server: ProxyServer | None = None

    @property
    def listeners(self) -> int:
        """Addresses that it listens on now."""
        return 0 if self._server is None else len(self._server.listeners)

    async def start(self) -> None:
        """Serves. Raises CredentialsError, and OSError if the metrics' socket cannot be made."""
        settings = self._settings
        stats = Stats()
        self._metrics.register(Exposition(lambda: stats))
        if settings.metrics_socket is not None:
            await self._metrics.serve(settings.metrics_socket)
        self._client = GrpcClusterClient(settings.master, Credentials.load(settings.credentials), clock=self._clock)
        self._server = ProxyServer(
            self._client,
            settings.data_path(),
            clock=self._clock,
            rng=self._rng,
            stats=stats,
            file_limit=raise_file_limit(),
        )
        await self._server.start()

    async def run(self) -> None:
        """Returns when it was stopped."""
        if self._server is not None:
            await self._server.run()

    async def stop(self) -> None:
        """Drains, and closes everything. Twice is fine."""
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()
        await self._metrics.stop()
