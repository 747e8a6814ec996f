"""A proxy with its wire to the master, its metrics and its successor, as a child of a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal

from cluster.actor.clock import Clock
from cluster.actor.open_files import raise_file_limit
from cluster.actor.tasks import Tasks
from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.identity import Credentials
from cluster.telemetry.metrics import Metrics
from proxy.access_log import AccessLog
from proxy.engine import Engine
from proxy.exposition import Exposition
from proxy.handover import SERVING_S, HandoverError, HandoverServer, Takeover, take_over
from proxy.server import Engines, OneEngine, ProxyServer
from proxy.settings import ProxySettings
from proxy.sockets import ListenSockets
from proxy.stats import Stats
from proxy.workers import Workers

_log = logging.getLogger("podium.proxy.service")


class ProxyService:
    """Made anew for each start: a stopped one is not started again."""

    def __init__(self, settings: ProxySettings, *, clock: Clock, rng: random.Random) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._metrics = Metrics()
        self._client: GrpcClusterClient | None = None
        self._server: ProxyServer | None = None
        self._handover: HandoverServer | None = None
        self._takeover: Takeover | None = None
        self._access_log: AccessLog | None = None
        self._tasks = Tasks("proxy service")

    @property
    def listeners(self) -> int:
        """Addresses that it listens on now."""
        return 0 if self._server is None else len(self._server.listeners)

    async def start(self) -> None:
        """Serves; in place of a proxy that served before, if there is one. Raises CredentialsError, OSError if a Unix
        socket cannot be made, and HandoverError if the master is away while another proxy serves: that one goes on."""
        settings = self._settings
        file_limit = raise_file_limit()
        credentials = Credentials.load(settings.credentials)
        sockets = ListenSockets(settings.workers, settings.data_path().backlog)
        await self._ask_for_sockets(sockets)
        engines = self._make_engines(sockets, file_limit)
        self._client = GrpcClusterClient(settings.master, credentials, clock=self._clock)
        self._server = ProxyServer(
            self._client, engines, sockets, settings.data_path(), clock=self._clock, rng=self._rng
        )
        if self._takeover is None:
            await self._server.start()
        elif await self._server.start(first_sync_s=SERVING_S - 1):
            await self._takeover.serving()
            _log.info("took over from the proxy before")
        else:
            raise HandoverError("the master does not answer; the proxy that serves now goes on")
        self._metrics.register(Exposition(engines.observe))
        if settings.metrics_socket is not None:
            await self._metrics.serve(settings.metrics_socket)
        if settings.handover_socket is not None:
            self._handover = HandoverServer(settings.handover_socket, self._server.sockets, self._taken_over)
            self._handover.start()

    async def run(self) -> None:
        """Returns when it was stopped."""
        if self._server is not None:
            await self._server.run()

    async def stop(self) -> None:
        """Drains, and closes everything. Twice is fine."""
        await self._tasks.cancel_all()
        if self._takeover is not None:
            self._takeover.close()
        if self._handover is not None:
            await self._handover.stop()
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()
        await self._metrics.stop()
        if self._access_log is not None:
            self._access_log.close()

    def _make_engines(self, sockets: ListenSockets, file_limit: int) -> Engines:
        settings = self._settings
        if settings.workers > 1:
            return Workers(settings, sockets.copies, clock=self._clock)
        if settings.access_log is not None:
            self._access_log = AccessLog(settings.access_log, self._clock)
        engine = Engine(
            settings.data_path(),
            clock=self._clock,
            rng=self._rng,
            stats=Stats(),
            file_limit=file_limit,
            access_log=None if self._access_log is None else self._access_log.write,
        )
        return OneEngine(engine)

    async def _ask_for_sockets(self, sockets: ListenSockets) -> None:
        path = self._settings.handover_socket
        if path is None or not path.exists():
            return
        try:
            self._takeover = await asyncio.to_thread(take_over, path)
        except HandoverError as error:
            _log.info("%s", error)
            return
        sockets.inherit(self._takeover.sockets)

    def _taken_over(self) -> None:
        self._tasks.spawn(self._finish(), name="finish")

    async def _finish(self) -> None:
        """A successor serves: what is connected may finish here, and then this process ends in order."""
        assert self._server is not None
        _log.info("another proxy serves now; %d connections finish here", self._server.connections)
        await self._server.finish(self._settings.finish_s)
        os.kill(os.getpid(), signal.SIGTERM)
