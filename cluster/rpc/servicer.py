"""From handlers (`cluster.rpc.handlers`) to what a gRPC server serves; driven by the descriptors, so that an RPC that
was added to protos/ cannot be forgotten: it is missing here at the first start.

An answer that is bytes already is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cluster.rpc.handlers import ClusterHandler, NodeAgentHandler
from cluster.rpc.identity import Identity
from cluster.rpc.stub import CLUSTER, NODE_AGENT

CALLER: ContextVar[Identity] = ContextVar("caller")
"""Who calls; set by the server's gate before any behaviour runs."""

WATCH_WRITE_TIMEOUT_S = 5.0
"""A watcher that takes nothing for this long is closed, and lists again. Logs may be paged by a person: no limit."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service to be served."""

    name: str
    """In full, such as cluster.pb.v1.Cluster."""
    methods: dict[str, grpc.RpcMethodHandler]
    write_timeouts_s: Mapping[str, float]
    """By full method name: how long one message may wait for its reader."""


def cluster_service(handler: ClusterHandler) -> Service:
    """The service Cluster, carried out by a handler."""
    limited = ("Watch", "Heartbeat", "WatchHeartbeats")
    return _service(CLUSTER, handler, dict.fromkeys(limited, WATCH_WRITE_TIMEOUT_S))


def node_agent_service(handler: NodeAgentHandler) -> Service:
    """The service NodeAgent, carried out by a handler."""
    return _service(NODE_AGENT, handler, {})


def encode_response(response: Message | bytes) -> bytes:
    """The bytes to send."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def _service(descriptor: ServiceDescriptor, handler: object, write_timeouts_s: Mapping[str, float]) -> Service:
    return Service(
        name=descriptor.full_name,
        methods={
            method.name: _method(method, getattr(handler, _snake_case(method.name))) for method in descriptor.methods
        },
        write_timeouts_s={f"/{descriptor.full_name}/{name}": limit_s for name, limit_s in write_timeouts_s.items()},
    )


def _method(method: MethodDescriptor, handle: Callable[[Identity, Any], Any]) -> grpc.RpcMethodHandler:
    decode = GetMessageClass(method.input_type).FromString
    if not method.server_streaming:
        answer: Callable[[Identity, Any], Awaitable[Message | bytes]] = handle

        async def unary(request: Message, context: object) -> Message | bytes:
            return await answer(CALLER.get(), request)

        return grpc.unary_unary_rpc_method_handler(unary, decode, encode_response)

    def stream(request: Any, context: object) -> AsyncIterator[Message | bytes]:
        messages: AsyncIterator[Message | bytes] = handle(CALLER.get(), request)
        return messages

    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, decode, encode_response)
    return grpc.unary_stream_rpc_method_handler(stream, decode, encode_response)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
