"""From settings to a running node agent: which objects there are, and in which order they start and stop."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import Message

from cluster.actor.clock import Clock, SystemClock
from cluster.actor.supervisor import ChildSpec, Restart, Supervisor
from cluster.client.grpc_client import GrpcClusterClient
from cluster.config.dirs import make_private_dir
from cluster.rpc.identity import Credentials, Identity
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import node_agent_service
from cluster.telemetry.metrics import Metrics
from node_agent.agent import NodeAgent
from node_agent.node_pods import STOP_MARGIN_S
from node_agent.partition import Partition, PartitionedClient
from node_agent.runtime.interface import Runtime
from node_agent.runtime.process import STOP_LIMIT_S, ProcessRuntime
from node_agent.runtime.trusting import TrustingRuntime, had_trusted
from node_agent.service import AgentService, authorize
from node_agent.settings import AgentSettings
from node_agent.spawner import TRUSTED_DIRECTORY

_REPORT_LIMIT_S = 6.0
"""For the last writes to a master that may be away."""


class NodeDaemon:
    """Builds the supervisor of `python -m node_agent`."""

    def __init__(self, settings: AgentSettings, *, rng: random.Random, environ: Mapping[str, str]) -> None:
        self._settings, self._rng, self._environ = settings, rng, environ
        self._address = settings.listen
        self._agent: NodeAgent | None = None

    def on_stop(self, reason: str) -> None:
        """Before the stop: which ends leave the pods running. SIGHUP does, and in the lifetime "service" the death of
        whoever started the agent; SIGTERM never does."""
        outlive = reason == "SIGHUP" or (reason == "lifeline" and self._settings.lifetime == "service")
        if outlive and self._agent is not None:
            self._agent.leave_pods()

    @property
    def stop_limit_s(self) -> float:
        """How long stopping may take: the pods' grace, killing what is left, and reporting it."""
        return self._settings.profile.stop_grace_s + STOP_MARGIN_S + STOP_LIMIT_S + _REPORT_LIMIT_S

    def ready(self) -> Mapping[str, str]:
        """What the READY line says."""
        return {"role": "node-agent", "address": self._address}

    async def build(self) -> Supervisor:
        """The agent and its server; neither is restarted alone: an agent that crashed is a dead node."""
        clock: Clock = SystemClock()
        settings = self._settings
        credentials = Credentials.load(settings.credentials)
        partition = Partition(clock)
        client = PartitionedClient(settings.master, credentials, partition, clock=clock)
        confined = self._runtime(settings.dir, settings.hide or settings.dir, clock)
        runtime: Runtime = confined
        if settings.allow_trusted or had_trusted(settings.dir):
            directory = settings.dir / TRUSTED_DIRECTORY
            make_private_dir(directory)
            runtime = TrustingRuntime(confined, self._runtime(directory, None, clock))
        agent = self._agent = NodeAgent(
            settings, client, runtime, clock=clock, rng=self._rng, environ=self._environ, partition=partition
        )

        def admit(identity: Identity, method: str, request: Message | None) -> None:
            partition.check()
            authorize(identity, method, request)

        service = AgentService(agent, clock=clock)
        server = RpcServer(settings.listen, credentials, [node_agent_service(service)], admit)
        children = [
            ChildSpec("client", lambda: _Client(client), Restart.NEVER),
            ChildSpec("server", lambda: _Server(self, server, agent), Restart.NEVER),
            ChildSpec("agent", lambda: agent, Restart.NEVER),
        ]
        if settings.metrics_socket is not None:
            children.append(ChildSpec("metrics", lambda: _MetricsServer(settings, agent)))
        return Supervisor(f"node {settings.name}", children, stop_timeout_s=self.stop_limit_s, clock=clock)

    def _runtime(self, directory: Path, hidden: Path | None, clock: Clock) -> ProcessRuntime:
        settings = self._settings
        return ProcessRuntime(
            directory,
            clock=clock,
            log_max_bytes=settings.log_max_bytes,
            log_files=settings.log_files,
            lifetime=settings.lifetime,
            lifeline_fd=settings.lifeline_fd,
            patience_s=self.stop_limit_s,
            hidden=hidden,
        )

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
    """The service NodeAgent; the agent tells the master its port."""

    def __init__(self, daemon: NodeDaemon, server: RpcServer, agent: NodeAgent) -> None:
        self._daemon, self._server, self._agent = daemon, server, agent

    async def start(self) -> None:
        address = await self._server.start()
        self._agent.serves_at(int(address.rpartition(":")[2]))
        self._daemon.bound(address)

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        await self._server.stop(0.5)


class _MetricsServer:
    """Counters, for whoever may read the socket."""

    def __init__(self, settings: AgentSettings, agent: NodeAgent) -> None:
        assert settings.metrics_socket is not None
        self._path, self._metrics = settings.metrics_socket, Metrics()
        self._metrics.gauge("podium_agent_pods", "Pods that this node has taken up.").set_function(
            lambda: float(len(agent.workers))
        )
        self._metrics.gauge("podium_agent_pods_alive", "Pods of which something may still run.").set_function(
            lambda: float(agent.pods_alive)
        )
        written = self._metrics.counter("podium_agent_status_operations", "Statuses and removals written.")
        agent.writer.on_written = written.inc

    async def start(self) -> None:
        await self._metrics.serve(self._path)

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        await self._metrics.stop()
