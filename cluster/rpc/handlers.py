"""What a daemon implements to be called: the services of protos/, said without gRPC.

The master implements `ClusterHandler`, the node agent `NodeAgentHandler`, the scheduler `SchedulerHandler`;
`cluster.rpc.servicer` carries them over gRPC, and a test may call them directly. A handler is told who calls (from the
certificate, never from the message) and raises the errors of `cluster.api.errors`.

A handler that has its answer encoded already returns the bytes, and they are sent as they are: an event that a hundred
watchers want is encoded once.

Rules for streams: the iterator is advanced only after the message before it was taken by the transport, so a handler
keeps a cursor, not a queue; it is closed (`aclose`) when the caller has gone or the server stops; it lets
CancelledError and GeneratorExit pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from cluster.pb.v1 import agent_pb2, scheduler_pb2
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity


class ClusterHandler(Protocol):
    """The master, as its callers see it. See the service Cluster in cluster.proto for what each call promises."""

    async def get(self, identity: Identity, request: wire.GetRequest) -> wire.GetResponse | bytes: ...

    async def list(self, identity: Identity, request: wire.ListRequest) -> wire.ListResponse | bytes: ...

    def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        """Encoded WatchBatch messages; two encoded batches put end to end are one batch, so pieces can be shared."""
        ...

    def watch_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WatchCalls]
    ) -> AsyncIterator[wire.WatchAnswers | bytes]: ...

    async def resolve(self, identity: Identity, request: wire.ResolveRequest) -> wire.ResolveResponse: ...

    def watch_service(self, identity: Identity, request: wire.ResolveRequest) -> AsyncIterator[wire.ServiceUpdate]: ...

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse | bytes: ...

    def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncIterator[wire.WriteAnswers | bytes]: ...

    async def history(self, identity: Identity, request: wire.HistoryRequest) -> wire.HistoryResponse: ...

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse: ...

    async def trace(self, identity: Identity, request: wire.TraceRequest) -> wire.TraceResponse: ...

    async def store_status(self, identity: Identity, request: wire.StoreStatusRequest) -> wire.StoreStatusResponse: ...

    def backup(self, identity: Identity, request: wire.BackupRequest) -> AsyncIterator[wire.BackupChunk]: ...

    def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncIterator[wire.HeartbeatResponse]: ...

    def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncIterator[wire.HeartbeatBatch]: ...


class NodeAgentHandler(Protocol):
    """A node agent, as its callers see it. See agent.proto."""

    def logs(self, identity: Identity, request: agent_pb2.LogsRequest) -> AsyncIterator[agent_pb2.LogsChunk]: ...

    def exec(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """`inputs` ends when the caller has closed its side."""
        ...

    def attach(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]: ...

    async def stats(self, identity: Identity, request: agent_pb2.StatsRequest) -> agent_pb2.StatsResponse: ...

    def port_forward(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.PortForwardInput]
    ) -> AsyncIterator[agent_pb2.PortForwardOutput]: ...


class SchedulerHandler(Protocol):
    """A scheduler, as its callers see it. See scheduler.proto."""

    async def explain(
        self, identity: Identity, request: scheduler_pb2.ExplainRequest
    ) -> scheduler_pb2.ExplainResponse: ...

    async def decisions(
        self, identity: Identity, request: scheduler_pb2.DecisionsRequest
    ) -> scheduler_pb2.DecisionsResponse: ...
