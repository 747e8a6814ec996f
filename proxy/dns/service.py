"""A DNS server with its wire to the master and its metrics, as a child of a supervisor."""

from __future__ import annotations

import random

from cluster.actor.clock import Clock
from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.identity import Credentials
from cluster.telemetry.metrics import Metrics
from proxy.dns.server import DnsServer
from proxy.dns.settings import DnsSettings
from proxy.dns.stats import DnsStats


class DnsService:
    """Made anew for each start: a stopped one is not started again."""

    def __init__(self, settings: DnsSettings, *, clock: Clock, rng: random.Random) -> None:
        self._settings, self._clock, self._rng = settings, clock, rng
        self._metrics = Metrics()
        self._client: GrpcClusterClient | None = None
        self._server: DnsServer | None = None

    @property
    def address(self) -> str:
        """Where it listens; empty if it does not, yet."""
        return str(self._server.address or "") if self._server is not None else ""

    async def start(self) -> None:
        """Serves. Raises CredentialsError, ConfigError, and OSError if the metrics' socket cannot be made."""
        stats = DnsStats()
        self._metrics.register(stats)
        if self._settings.metrics_socket is not None:
            await self._metrics.serve(self._settings.metrics_socket)
        credentials = Credentials.load(self._settings.credentials)
        self._client = GrpcClusterClient(self._settings.master, credentials, clock=self._clock)
        self._server = DnsServer(self._client, self._settings, clock=self._clock, rng=self._rng, stats=stats)
        await self._server.start()

    async def run(self) -> None:
        """Returns when it was stopped."""
        if self._server is not None:
            await self._server.run()

    async def stop(self) -> None:
        """Closes everything. Twice is fine."""
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()
        await self._metrics.stop()
