"""The proxy as a whole: watches services and endpoints, and has an open listener for every route.

Everything is driven by the informers' callbacks: a change goes into the routing table, and what the table says is to be
done is done at once, in the same turn of the loop. While the master is away nothing changes: the informers keep what
they know and go on where they were when it is back, and connections are served all the while. An address that cannot be
bound is tried again with growing pauses, and said in an event of the service.

    service or endpoints change -> RoutingTable -> Changes -> sockets -> Engine -> Connection -> Relay

The engine is in this process, or there is one in each of several workers (workers.py). Nodes are watched only when some
service prefers near endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import DeadlineExceeded
from cluster.api.meta import Key, key_of
from cluster.client.events import EventRecorder
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from proxy.engine import Engine
from proxy.policies import Target
from proxy.routing import Changes, Route, RouteKey, RoutingTable, ServiceName, unserved_ports
from proxy.settings import DataPathSettings
from proxy.sockets import Held, ListenSockets, why_it_cannot_listen
from proxy.stats import Stats

_log = logging.getLogger("podium.proxy.server")

_FIRST_SYNC_S = 2.0
"""How long `start` waits for the first state; the master may be away, and then the routes come later."""
_BIND_RETRY_MIN_S = 0.2
_SETTLE_S = 20.0
"""For workers to start, and to open what they are told to."""

Tell = Callable[[RouteKey, Literal["Normal", "Warning"], str, str], None]
"""Type, reason and message of an event about the service of a port."""


class Engines(Protocol):
    """Those who serve: one engine in this process, or many elsewhere."""

    def __len__(self) -> int:
        """Connections now, as far as is known."""
        ...

    async def start(self) -> None:
        """Returns when routes may be opened."""
        ...

    tell: Tell
    """Makes an event of a service; set before the start."""

    async def settled(self, timeout_s: float) -> None:
        """Returns when all have done what they were told so far, or after that time."""
        ...

    def open(self, route: Route, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Serves the route; of the sockets, which are its own, there are some for each worker."""
        ...

    def update(self, route: Route) -> None:
        """The route is now this."""
        ...

    def close(self, key: RouteKey) -> None:
        """Serves it no more; established connections stay."""
        ...

    def set_node(self, name: str, node: core.Node | None) -> None:
        """Where clients and endpoints are."""
        ...

    def set_fault(self, key: Key, fault: core.Fault | None, ips: frozenset[str]) -> None:
        """Something goes wrong on purpose, at these addresses if it is about some only; None: no longer."""
        ...

    def observe(self) -> Stats:
        """The counters of all."""
        ...

    def stop_accepting(self) -> None:
        """Established connections go on."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Returns when the last connection is over, or after the grace period."""
        ...

    async def stop(self) -> None:
        """Resets what is left. Twice is fine."""
        ...


class OneEngine:
    """In this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.update, self.close, self.set_node = engine.update, engine.close, engine.set_node
        self.set_fault = engine.set_fault
        self.observe, self.stop_accepting = engine.observe, engine.stop_accepting
        self.drain, self.stop = engine.drain, engine.stop

    @property
    def tell(self) -> Tell:
        """Makes an event of a service."""
        return self._engine.tell

    @tell.setter
    def tell(self, tell: Tell) -> None:
        self._engine.tell = tell

    def __len__(self) -> int:
        """Connections now."""
        return len(self._engine)

    async def start(self) -> None:
        """It is there already."""

    async def settled(self, timeout_s: float) -> None:
        """What it is told, it does at once."""

    def open(self, route: Route, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Serves the route."""
        self._engine.open(route, sockets[0])


class ProxyServer:
    """A service for the supervisor; between `start` and `stop` it works by itself."""

    def __init__(
        self,
        client: ClusterClient,
        engines: Engines,
        sockets: ListenSockets,
        settings: DataPathSettings,
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._engines = engines
        engines.tell = self._event
        self._sockets = sockets
        self._table = RoutingTable()
        self._failing: dict[RouteKey, _Failing] = {}
        """Those that could not be bound yet."""
        self._services = Informer(client, core.Service, clock=clock, rng=rng)
        self._endpoints = Informer(client, core.Endpoints, clock=clock, rng=rng)
        self._nodes = Informer(client, core.Node, clock=clock, rng=rng)
        self._faults = Informer(client, core.Fault, clock=clock, rng=rng)
        self._watches_nodes = False
        self._recorder = EventRecorder(client, "proxy", clock=clock, rng=rng)
        self._tasks = Tasks("proxy server")
        self._is_serving = False
        self._stopped = asyncio.Event()

    @property
    def listeners(self) -> dict[RouteKey, Target]:
        """Where it listens now."""
        return self._sockets.addresses

    @property
    def connections(self) -> int:
        """Connections now."""
        return len(self._engines)

    def sockets(self) -> list[Held]:
        """For a successor."""
        return self._sockets.all()

    async def start(self, *, first_sync_s: float = _FIRST_SYNC_S) -> bool:
        """Returns when every service that is known to the master is served; False if it did not answer in time."""
        await self._engines.start()
        self._is_serving = True
        self._services.add_handler(self._service_changed)
        self._endpoints.add_handler(self._endpoints_changed)
        self._nodes.add_handler(self._node_changed)
        self._faults.add_handler(self._fault_changed)
        await self._recorder.start()
        await self._endpoints.start()
        await self._services.start()
        await self._faults.start()
        try:
            await self._endpoints.wait_synced(first_sync_s)
            await self._services.wait_synced(first_sync_s)
        except DeadlineExceeded:
            _log.warning("the master does not answer; services are served as soon as it does")
            return False
        self._sockets.drop_inherited()
        await self._engines.settled(_SETTLE_S)
        return True

    async def run(self) -> None:
        """Returns when it was stopped."""
        await self._stopped.wait()

    async def finish(self, grace_s: float) -> None:
        """A successor serves: accepts no more, and returns when the last connection is over, or after that time."""
        await self._stop_watching()
        self._engines.stop_accepting()
        self._sockets.close()
        await self._engines.drain(grace_s)

    async def stop(self) -> None:
        """Accepts no more, lets connections finish for `drain_s`, and resets the rest. Twice is fine."""
        self._stopped.set()
        await self._stop_watching()
        self._engines.stop_accepting()
        self._sockets.close()
        try:
            await self._engines.drain(self._settings.drain_s)
        finally:
            await self._engines.stop()
            await self._recorder.stop()

    async def _stop_watching(self) -> None:
        self._is_serving = False
        await self._tasks.cancel_all()
        for failing in self._failing.values():
            failing.cancel_retry()
        await self._services.stop()
        await self._endpoints.stop()
        await self._nodes.stop()
        await self._faults.stop()

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
                    f"Port {port.port}/{port.protocol} is not served: the proxy speaks TCP and UDP only",
                )

    def _endpoints_changed(self, old: core.Endpoints | None, new: core.Endpoints | None) -> None:
        endpoints = new if new is not None else old
        assert endpoints is not None
        name = ServiceName(endpoints.metadata.namespace, endpoints.metadata.name)
        self._apply(self._table.set_endpoints(name, new))
        for fault in self._faults.indexer.list():
            self._fault_changed(None, fault)  # the pods that it is about may be others now

    def _fault_changed(self, old: core.Fault | None, new: core.Fault | None) -> None:
        fault = new if new is not None else old
        assert fault is not None
        if self._is_serving:
            self._engines.set_fault(
                key_of(fault), new, self._table.addresses_of(fault.metadata.namespace, fault.spec.target)
            )

    def _node_changed(self, old: core.Node | None, new: core.Node | None) -> None:
        node = new if new is not None else old
        assert node is not None
        if self._is_serving:
            self._engines.set_node(node.metadata.name, new)

    def _apply(self, changes: Changes) -> None:
        if not self._is_serving or not changes:
            return
        for key in changes.close:
            self._close(key)
        for route in changes.open:
            self._listen(_Failing(route, self._settings.bind_retry_max_s))
        for route in changes.update:
            if route.key in self._failing:
                self._failing[route.key].route = route
            else:
                self._engines.update(route)
        if not self._watches_nodes and any(route.terms.prefer for route in (*changes.open, *changes.update)):
            self._watches_nodes = True
            self._tasks.spawn(self._nodes.start(), name="watch nodes")

    def _close(self, key: RouteKey) -> None:
        failing = self._failing.pop(key, None)
        if failing is not None:
            failing.cancel_retry()
            return
        self._engines.close(key)
        self._sockets.release(key)
        for other in list(self._failing.values()):
            other.cancel_retry()
            self._listen(other)

    def _listen(self, failing: _Failing) -> None:
        failing.retry = None
        if not self._is_serving:
            return
        route = failing.route
        try:
            sockets = self._sockets.obtain(route)
        except OSError as error:
            if not failing.complained:
                failing.complained = True
                self._event(route.key, "Warning", "ListenFailed", why_it_cannot_listen(route.listen, error))
            pause_s = failing.backoff.next()
            _log.warning("cannot listen for %s (again in %.1f s): %s", route.key, pause_s, error)
            failing.retry = asyncio.get_running_loop().call_later(pause_s, lambda: self._listen(failing))
            self._failing[route.key] = failing
            return
        self._failing.pop(route.key, None)
        self._engines.open(route, sockets)
        if failing.complained:
            self._event(route.key, "Normal", "Listening", f"Listening on {route.listen}")

    def _event(self, key: RouteKey, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        service = self._table.service(key.service)
        if service is not None:
            self._recorder.event(service, type, reason, message)


class _Failing:
    """A route that has no socket yet."""

    __slots__ = ("backoff", "complained", "retry", "route")

    def __init__(self, route: Route, retry_max_s: float) -> None:
        self.route = route
        self.backoff = Backoff(_BIND_RETRY_MIN_S, retry_max_s)
        self.retry: asyncio.TimerHandle | None = None
        self.complained = False

    def cancel_retry(self) -> None:
        """No further try for now."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
