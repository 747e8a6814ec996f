"""The proxy as a whole: watches services and endpoints, and has an open listener for every route.

Everything is driven by the informers' callbacks: a change goes into the routing table, and what the table says is to be
done is done at once, in the same turn of the loop. While the master is away nothing changes: the informers keep what
they know and go on where they were when it is back, and connections are served all the while. An address that cannot be
bound is tried again with growing pauses, and said in an event of the service.

    service or endpoints change -> RoutingTable -> Changes -> Listener / Frontend -> Connection -> Relay
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from typing import Literal

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.api.errors import DeadlineExceeded
from cluster.client.events import EventRecorder
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from proxy.ambassadors.ambassador import Ambassadors
from proxy.ambassadors.built_in import BUILT_IN
from proxy.balancer import Target
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.listener import Listener, why_it_cannot_listen
from proxy.routing import Changes, Route, RouteKey, RoutingTable, ServiceName, unserved_ports
from proxy.settings import DataPathSettings
from proxy.stats import Stats

_log = logging.getLogger("podium.proxy.server")

_FIRST_SYNC_S = 2.0
"""How long `start` waits for the first state; the master may be away, and then the routes come later."""
_BIND_RETRY_MIN_S = 0.2


class ProxyServer:
    """A service for the supervisor; between `start` and `stop` it works by itself."""

    def __init__(
        self,
        client: ClusterClient,
        settings: DataPathSettings,
        *,
        clock: Clock,
        rng: random.Random,
        stats: Stats,
        file_limit: int,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._stats = stats
        self._file_limit = file_limit
        self._table = RoutingTable()
        self._served: dict[RouteKey, _Served] = {}
        self._failing: dict[RouteKey, _Served] = {}
        """Those that could not be bound yet."""
        self._services = Informer(client, core.Service, clock=clock, rng=rng)
        self._endpoints = Informer(client, core.Endpoints, clock=clock, rng=rng)
        self._recorder = EventRecorder(client, "proxy", clock=clock, rng=rng)
        self._ambassadors = Ambassadors(settings.policies, BUILT_IN, clock=clock, rng=rng, tell=self._ambassador_event)
        self._path: DataPath | None = None
        self._stopped = asyncio.Event()

    @property
    def listeners(self) -> dict[RouteKey, Target]:
        """Where it listens now."""
        return {key: served.listener.address for key, served in self._served.items() if served.listener.is_open}

    @property
    def connections(self) -> int:
        """Connections now."""
        return 0 if self._path is None else len(self._path)

    async def start(self) -> None:
        """Returns when every service that is known to the master is served, or after 2 s if it does not answer."""
        self._path = DataPath(self._settings, self._clock, self._stats, file_limit=self._file_limit)
        self._services.add_handler(self._service_changed)
        self._endpoints.add_handler(self._endpoints_changed)
        await self._recorder.start()
        await self._endpoints.start()
        await self._services.start()
        try:
            await self._endpoints.wait_synced(_FIRST_SYNC_S)
            await self._services.wait_synced(_FIRST_SYNC_S)
        except DeadlineExceeded:
            _log.warning("the master does not answer; services are served as soon as it does")

    async def run(self) -> None:
        """Returns when it was stopped."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Accepts no more, lets connections finish for `drain_s`, and resets the rest. Twice is fine."""
        self._stopped.set()
        if self._path is None:
            return
        path, self._path = self._path, None
        await self._services.stop()
        await self._endpoints.stop()
        for served in self._served.values():
            served.close()
        try:
            await path.drain(self._settings.drain_s)
        finally:
            path.close()
            self._ambassadors.close()
            await self._recorder.stop()

    # --- Changes

    def _service_changed(self, old: core.Service | None, new: core.Service | None) -> None:
        service = new if new is not None else old
        assert service is not None
        name = ServiceName(service.metadata.namespace, service.metadata.name)
        self._apply(self._table.set_service(name, new))
        if new is not None and (old is None or old.spec != new.spec):
            for port in unserved_ports(new):
                self._recorder.event(
                    new,
                    "Warning",
                    "UnsupportedProtocol",
                    f"Port {port.port}/{port.protocol} is not served: the proxy speaks TCP only",
                )

    def _endpoints_changed(self, old: core.Endpoints | None, new: core.Endpoints | None) -> None:
        endpoints = new if new is not None else old
        assert endpoints is not None
        name = ServiceName(endpoints.metadata.namespace, endpoints.metadata.name)
        self._apply(self._table.set_endpoints(name, new))

    def _apply(self, changes: Changes) -> None:
        if self._path is None or not changes:
            return
        for key in changes.close:
            self._close(key)
        for route in changes.open:
            frontend = Frontend(route, self._settings, self._stats.of(route.key))
            self._ambassadors.serve(frontend)
            served = self._served[route.key] = _Served(Listener(self._path, frontend), self._settings)
            self._listen(served)
        for route in changes.update:
            frontend = self._served[route.key].listener.frontend
            frontend.update(route)
            self._ambassadors.serve(frontend)

    def _close(self, key: RouteKey) -> None:
        served = self._served.pop(key)
        served.close()
        self._stats.forget(key)
        self._ambassadors.forget(served.listener.frontend)
        route = served.route
        # Nobody will come for those that still wait for an endpoint; they end with their hold time.
        served.listener.frontend.update(replace(route, targets=()))
        self._failing.pop(key, None)
        for other in list(self._failing.values()):
            if other.route.listen == route.listen:
                other.cancel_retry()
                self._listen(other)

    def _listen(self, served: _Served) -> None:
        served.retry = None
        if self._path is None:
            return
        try:
            served.listener.open()
        except OSError as error:
            if not served.complained:
                served.complained = True
                self._event(served, "Warning", "ListenFailed", why_it_cannot_listen(served.route.listen, error))
            pause_s = served.backoff.next()
            _log.warning("cannot listen for %s (again in %.1f s): %s", served.route.key, pause_s, error)
            served.retry = self._path.poller.call_later(pause_s, lambda: self._listen(served))
            self._failing[served.route.key] = served
            return
        self._failing.pop(served.route.key, None)
        if served.complained:
            served.complained = False
            served.backoff.reset()
            self._event(served, "Normal", "Listening", f"Listening on {served.route.listen}")

    def _event(self, served: _Served, type: str, reason: str, message: str) -> None:
        self._ambassador_event(served.route.key, "Warning" if type == "Warning" else "Normal", reason, message)

    def _ambassador_event(self, key: RouteKey, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        service = self._table.service(key.service)
        if service is not None:
            self._recorder.event(service, type, reason, message)


class _Served:
    """A route with its listener, open or to be opened."""

    __slots__ = ("backoff", "complained", "listener", "retry")

    def __init__(self, listener: Listener, settings: DataPathSettings) -> None:
        self.listener = listener
        self.backoff = Backoff(_BIND_RETRY_MIN_S, settings.bind_retry_max_s)
        self.retry: asyncio.TimerHandle | None = None
        self.complained = False

    @property
    def route(self) -> Route:
        """As it is now."""
        return self.listener.frontend.route

    def cancel_retry(self) -> None:
        """No further try for now."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None

    def close(self) -> None:
        """Listens no more, and does not try to."""
        self.cancel_retry()
        self.listener.close()
