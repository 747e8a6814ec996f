"""Calling a server: the services of protos/ as methods that raise domain errors.

Every call with one answer has a deadline; streams have none, their readers decide how long silence may last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cluster.api.errors import Unavailable
from cluster.pb.v1 import agent_pb2, scheduler_pb2
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.line import Line
from cluster.rpc.status import decode
from cluster.rpc.stream import ResponseStream

Metadata = Sequence[tuple[str, str]]

CLUSTER = wire.DESCRIPTOR.services_by_name["Cluster"]
NODE_AGENT = agent_pb2.DESCRIPTOR.services_by_name["NodeAgent"]
SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]


class _Stub:
    def __init__(self, channels: Channels, service: ServiceDescriptor, metadata: Metadata = ()) -> None:
        """`metadata` goes with every call."""
        self._channels = channels
        self._service = service
        self._metadata = metadata or None
        self._calls: dict[str, Any] = {}

    async def _unary(self, name: str, request: Message, timeout_s: float) -> Any:
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._make(self._channels.unary.unary_unary, name)
        try:
            return await call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise decode(error) from error
        except grpc.aio.UsageError as error:
            raise Unavailable(f"the client is closed: {error}") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                raise
            # Not the caller was cancelled, but the call, because its channel was closed.
            raise Unavailable("the client was closed during the call") from None

    def _stream(self, name: str, request: Message) -> ResponseStream[Any]:
        try:
            call = self._make(self._channels.watch.unary_stream, name)(request, metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise Unavailable(f"the client is closed: {error}") from error
        return ResponseStream(call, f"{self._service.name}.{name}")

    def _duplex(self, name: str, requests: AsyncIterable[Message] | None) -> ResponseStream[Any]:
        try:
            call = self._make(self._channels.watch.stream_stream, name)(metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise Unavailable(f"the client is closed: {error}") from error
        return ResponseStream(call, f"{self._service.name}.{name}", requests)

    def _make(self, factory: Any, name: str) -> Any:
        method = self._service.methods_by_name[name]
        return factory(
            f"/{self._service.full_name}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )


class ClusterStub(_Stub):
    """The service Cluster; see cluster.proto for what each call promises."""

    def __init__(self, channels: Channels, metadata: Metadata = ()) -> None:
        super().__init__(channels, CLUSTER, metadata)

    async def get(self, request: wire.GetRequest, timeout_s: float) -> wire.GetResponse:
        response: wire.GetResponse = await self._unary("Get", request, timeout_s)
        return response

    async def list(self, request: wire.ListRequest, timeout_s: float) -> wire.ListResponse:
        response: wire.ListResponse = await self._unary("List", request, timeout_s)
        return response

    async def resolve(self, request: wire.ResolveRequest, timeout_s: float) -> wire.ResolveResponse:
        response: wire.ResolveResponse = await self._unary("Resolve", request, timeout_s)
        return response

    def watch_service(self, request: wire.ResolveRequest) -> ResponseStream[wire.ServiceUpdate]:
        return self._stream("WatchService", request)

    async def write(self, request: wire.WriteRequest, timeout_s: float) -> wire.WriteResponse:
        response: wire.WriteResponse = await self._unary("Write", request, timeout_s)
        return response

    def write_stream(self, on_message: Callable[[bytes], None]) -> Line:
        """For encoded WriteCalls; what comes is encoded WriteAnswers (see frames.py). Raises Unavailable."""
        return self._line("WriteStream", lambda: self._channels.unary, on_message)

    def watch_stream(self, on_message: Callable[[bytes], None]) -> Line:
        """For encoded WatchCalls; what comes is encoded WatchAnswers (see frames.py). Raises Unavailable."""
        return self._line("WatchStream", lambda: self._channels.watch, on_message)

    def _line(self, name: str, channel: Callable[[], grpc.aio.Channel], on_message: Callable[[bytes], None]) -> Line:
        try:
            call = channel().stream_stream(f"/{CLUSTER.full_name}/{name}")(metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise Unavailable(f"the client is closed: {error}") from error
        return Line(call, f"{CLUSTER.name}.{name}", on_message)

    async def history(self, request: wire.HistoryRequest, timeout_s: float) -> wire.HistoryResponse:
        response: wire.HistoryResponse = await self._unary("History", request, timeout_s)
        return response

    async def undo(self, request: wire.UndoRequest, timeout_s: float) -> wire.UndoResponse:
        response: wire.UndoResponse = await self._unary("Undo", request, timeout_s)
        return response

    async def trace(self, request: wire.TraceRequest, timeout_s: float) -> wire.TraceResponse:
        response: wire.TraceResponse = await self._unary("Trace", request, timeout_s)
        return response

    async def store_status(self, request: wire.StoreStatusRequest, timeout_s: float) -> wire.StoreStatusResponse:
        response: wire.StoreStatusResponse = await self._unary("StoreStatus", request, timeout_s)
        return response

    def backup(self, request: wire.BackupRequest) -> ResponseStream[wire.BackupChunk]:
        return self._stream("Backup", request)

    def watch(self, request: wire.WatchRequest) -> ResponseStream[wire.WatchBatch]:
        return self._stream("Watch", request)

    def heartbeat(
        self, requests: AsyncIterable[wire.HeartbeatRequest] | None = None
    ) -> ResponseStream[wire.HeartbeatResponse]:
        """Sends these requests; without, those that are sent by `ResponseStream.send`, not before the first was
        answered."""
        return self._duplex("Heartbeat", requests)

    def watch_heartbeats(self, request: wire.WatchHeartbeatsRequest) -> ResponseStream[wire.HeartbeatBatch]:
        return self._stream("WatchHeartbeats", request)


class NodeAgentStub(_Stub):
    """The service NodeAgent; see agent.proto."""

    def __init__(self, channels: Channels, metadata: Metadata = ()) -> None:
        super().__init__(channels, NODE_AGENT, metadata)

    def logs(self, request: agent_pb2.LogsRequest) -> ResponseStream[agent_pb2.LogsChunk]:
        return self._stream("Logs", request)

    def exec(self, inputs: AsyncIterable[agent_pb2.ExecInput]) -> ResponseStream[agent_pb2.ExecOutput]:
        return self._duplex("Exec", inputs)

    def attach(self, inputs: AsyncIterable[agent_pb2.ExecInput]) -> ResponseStream[agent_pb2.ExecOutput]:
        return self._duplex("Attach", inputs)

    async def stats(self, request: agent_pb2.StatsRequest, timeout_s: float) -> agent_pb2.StatsResponse:
        response: agent_pb2.StatsResponse = await self._unary("Stats", request, timeout_s)
        return response

    def port_forward(
        self, inputs: AsyncIterable[agent_pb2.PortForwardInput]
    ) -> ResponseStream[agent_pb2.PortForwardOutput]:
        return self._duplex("PortForward", inputs)


class SchedulerStub(_Stub):
    """The service Scheduler; see scheduler.proto."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels, SCHEDULER)

    async def explain(self, request: scheduler_pb2.ExplainRequest, timeout_s: float) -> scheduler_pb2.ExplainResponse:
        response: scheduler_pb2.ExplainResponse = await self._unary("Explain", request, timeout_s)
        return response

    async def decisions(
        self, request: scheduler_pb2.DecisionsRequest, timeout_s: float
    ) -> scheduler_pb2.DecisionsResponse:
        response: scheduler_pb2.DecisionsResponse = await self._unary("Decisions", request, timeout_s)
        return response
