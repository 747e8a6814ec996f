"""From settings to a running process that plays nodes: which objects there are, in which order they start and stop."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from cluster.actor.clock import Clock, SystemClock
from cluster.actor.supervisor import ChildSpec, Restart, Supervisor
from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.identity import Credentials
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import node_agent_service
from cluster.telemetry.metrics import Metrics
from node_agent.hollow.fleet import Fleet
from node_agent.hollow.service import HollowService
from node_agent.hollow.settings import HollowSettings
from node_agent.node_object import Machine
from node_agent.service import authorize

STOP_LIMIT_S = 60.0
"""For removing thousands of nodes."""


class HollowDaemon:
    """Builds the supervisor of `python -m node_agent.hollow`."""

    def __init__(self, settings: HollowSettings, *, rng: random.Random) -> None:
        self._settings, self._rng = settings, rng
        self._address = settings.listen
        self._fleet: Fleet | None = None

    def on_stop(self, reason: str) -> None:
        """Before the stop: whoever started it has died, and then the nodes just fall silent."""
        if reason in ("lifeline", "SIGHUP") and self._fleet is not None:
            self._fleet.leave_nodes()

    def ready(self) -> Mapping[str, str]:
        """What the READY line says."""
        return {"role": "hollow", "nodes": str(self._settings.count), "address": self._address}

    def left(self) -> Mapping[str, int]:
        """After the stop: what is still there of what was played."""
        fleet = self._fleet
        return {"nodes": fleet.nodes_left, "pods": fleet.pod_count} if fleet is not None else {"nodes": 0, "pods": 0}

    async def build(self) -> Supervisor:
        """None of the children is restarted alone: what has crashed is a mass failure of nodes."""
        clock: Clock = SystemClock()
        settings = self._settings
        credentials = Credentials.load(settings.credentials)
        client = GrpcClusterClient(settings.master, credentials, clock=clock)
        fleet = self._fleet = Fleet(settings, client, Machine.read(Path("/")), clock=clock, rng=self._rng)
        server = RpcServer(settings.listen, credentials, [node_agent_service(HollowService())], authorize)
        children = [
            ChildSpec("client", lambda: _Client(client), Restart.NEVER),
            ChildSpec("server", lambda: _Server(self, server, fleet), Restart.NEVER),
            ChildSpec("fleet", lambda: fleet, Restart.NEVER),
        ]
        if settings.metrics_socket is not None:
            children.append(ChildSpec("metrics", lambda: _MetricsServer(settings, fleet)))
        return Supervisor(f"hollow nodes {settings.prefix}", children, stop_timeout_s=STOP_LIMIT_S, clock=clock)

    def bound(self, address: str) -> None:
        """The server listens there."""
        self._address = address


class _Client:
    """Closes the connection to the master, last."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._client = client

    async def start(self) -> None:
        pass

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        await self._client.close()


class _Server:
    """The service NodeAgent of all nodes; they tell the master its port."""

    def __init__(self, daemon: HollowDaemon, server: RpcServer, fleet: Fleet) -> None:
        self._daemon, self._server, self._fleet = daemon, server, fleet

    async def start(self) -> None:
        address = await self._server.start()
        self._fleet.port = int(address.rpartition(":")[2])
        self._daemon.bound(address)

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        await self._server.stop(0.5)


class _MetricsServer:
    """Counters, for whoever may read the socket."""

    def __init__(self, settings: HollowSettings, fleet: Fleet) -> None:
        assert settings.metrics_socket is not None
        self._path, self._metrics = settings.metrics_socket, Metrics()
        self._metrics.gauge("podium_hollow_nodes", "Nodes that this process plays.").set(settings.count)
        self._metrics.gauge("podium_hollow_pods", "Pods that it plays.").set_function(lambda: float(fleet.pod_count))
        written = self._metrics.counter("podium_hollow_status_operations", "Statuses and removals written.")
        fleet.writer.on_written = written.inc

    async def start(self) -> None:
        await self._metrics.serve(self._path)

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        await self._metrics.stop()
