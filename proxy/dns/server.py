"""The DNS server as a whole: watches services, endpoints and namespaces, and answers by UDP and TCP.

Everything is driven by the informers' callbacks: a change goes into the zone in the turn of the loop in which it is
heard of, and what was kept of the names that it touches is dropped in the same turn. While the master is away nothing
changes. Before the zone has been read once, it is not said of any name that there is none: whoever is told so remembers
it. An address that is taken is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import DeadlineExceeded
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from proxy.dns.labels import Name
from proxy.dns.listeners import Forward, TcpServer, UdpServer
from proxy.dns.responder import Responder
from proxy.dns.settings import DnsSettings, Server
from proxy.dns.stats import DnsStats
from proxy.dns.upstream import Upstream
from proxy.dns.zone import Zone

_log = logging.getLogger("podium.dns")

_FIRST_SYNC_S = 2.0
"""How long `start` waits for the first state; the master may be away, and then the names come later."""
_BIND_RETRY_MIN_S, _BIND_RETRY_MAX_S = 0.2, 10.0


class DnsServer:
    """A service for the supervisor; between `start` and `stop` it works by itself."""

    def __init__(
        self, client: ClusterClient, settings: DnsSettings, *, clock: Clock, rng: random.Random, stats: DnsStats
    ) -> None:
        """Raises ConfigError: somebody who is to be asked cannot be."""
        self._settings, self._clock, self._stats = settings, clock, stats
        host, _ = settings.address
        zone = Zone(
            domain=settings.cluster_domain,
            block=".".join(host.split(".")[:2]),
            address=host,
            pod_names=settings.pod_names,
            ttl_s=settings.ttl_s,
        )
        servers = settings.upstreams()
        self.zone, self.responder = zone, Responder(zone, stats, forwards=bool(servers))
        forward: Forward | None = None
        if servers:
            timeout_s = settings.upstream_timeout_s
            forward = Upstream(servers, self.responder, rng=rng, timeout_s=timeout_s).answer
        self._tasks = Tasks("dns")
        self._udp = UdpServer(self.responder, forward, self._tasks)
        self._tcp = TcpServer(
            self.responder,
            forward,
            self._tasks,
            max_connections=settings.max_connections,
            idle_s=settings.idle_s,
        )
        self._services = Informer(client, core.Service, clock=clock, rng=rng)
        self._endpoints = Informer(client, core.Endpoints, clock=clock, rng=rng)
        self._namespaces = Informer(client, core.Namespace, clock=clock, rng=rng)
        self._pods = Informer(client, core.Pod, clock=clock, rng=rng) if settings.pod_names == "verified" else None
        self._unread = 4 if self._pods is not None else 3
        self._stopped = asyncio.Event()
        self.address: Server | None = None
        """Where it listens; None: it does not, yet."""

    async def start(self) -> None:
        """Returns when every name that is known to the master is answered for, or after 2 s if it does not answer; and
        if its address is taken, without it."""
        self._services.add_handler(self._service_changed)
        self._endpoints.add_handler(self._endpoints_changed)
        self._namespaces.add_handler(self._namespace_changed)
        informers: list[
            Informer[core.Endpoints] | Informer[core.Namespace] | Informer[core.Pod] | Informer[core.Service]
        ]
        informers = [self._endpoints, self._namespaces]
        if self._pods is not None:
            self._pods.add_handler(self._pod_changed)
            informers.append(self._pods)
        informers.append(self._services)
        for informer in informers:
            informer.on_synced(self._read)
            await informer.start()
        try:
            for informer in informers:
                await informer.wait_synced(_FIRST_SYNC_S)
        except DeadlineExceeded:
            _log.warning("the master does not answer; names are answered as soon as it does")
        try:
            await self._listen()
        except OSError as error:
            _log.error("%s; it is tried again and again", why_it_cannot_listen(self._settings.address, error))
            self._tasks.spawn(self._listen_later(), name="listen")

    async def run(self) -> None:
        """Returns when it was stopped."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Answers no more. Twice is fine."""
        self._stopped.set()
        self._udp.close()
        self._tcp.close()
        for informer in (self._services, self._endpoints, self._namespaces, self._pods):
            if informer is not None:
                await informer.stop()
        await self._tasks.cancel_all()

    # --- listening

    async def _listen(self) -> None:
        """Raises OSError."""
        host, port = self._settings.address
        try:
            _, port = self._udp.open(host, port)
            await self._tcp.open(host, port)
        except OSError:
            self._udp.close()
            raise
        self.address = Server(host, port)

    async def _listen_later(self) -> None:
        pauses = Backoff(_BIND_RETRY_MIN_S, _BIND_RETRY_MAX_S)
        while self.address is None:
            await self._clock.sleep(pauses.next())
            try:
                await self._listen()
            except OSError:
                continue
            _log.warning("listening on %s now", self.address)

    # --- changes

    def _read(self) -> None:
        """One more of the kinds has been read."""
        self._unread -= 1
        self.responder.ready = self._unread == 0

    def _service_changed(self, old: core.Service | None, new: core.Service | None) -> None:
        meta = (new or old or core.Service()).metadata
        self._forget(self.zone.set_service(meta.namespace, meta.name, new))

    def _endpoints_changed(self, old: core.Endpoints | None, new: core.Endpoints | None) -> None:
        meta = (new or old or core.Endpoints()).metadata
        self._forget(self.zone.set_endpoints(meta.namespace, meta.name, new))

    def _namespace_changed(self, old: core.Namespace | None, new: core.Namespace | None) -> None:
        meta = (new or old or core.Namespace()).metadata
        if self.zone.set_namespace(meta.name, exists=new is not None):
            self.responder.forget_all()

    def _pod_changed(self, old: core.Pod | None, new: core.Pod | None) -> None:
        meta = (new or old or core.Pod()).metadata
        before, after = (pod.status.podIP if pod is not None else "" for pod in (old, new))
        self._forget(self.zone.move_pod(meta.namespace, before, after))

    def _forget(self, names: set[Name]) -> None:
        self.responder.forget(names)
        self._stats.names = len(self.zone)


def why_it_cannot_listen(address: Server, error: OSError) -> str:
    """Says what went wrong, why, and what helps."""
    what = f"cannot listen on {address}"
    if error.errno == errno.EADDRINUSE:
        return f"{what}: it is in use, probably by a DNS server on 0.0.0.0:{address.port}; choose another: --dns port=N"
    if error.errno == errno.EACCES:
        cure = f"sysctl net.ipv4.ip_unprivileged_port_start={address.port}"
        return (
            f"{what}: low ports are for privileged users only; choose another, --dns port=N, or allow it with: {cure}"
        )
    return f"{what}: {error.strerror or error}"
