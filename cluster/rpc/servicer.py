"""From handlers (`cluster.rpc.handlers`) to what a gRPC server serves; driven by the descriptors, so that an RPC that
was added to protos/ cannot be forgotten: it is missing here at the first start.

An answer that is bytes already is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cluster.api.errors import ApiError
from cluster.rpc.handlers import ClusterHandler, NodeAgentHandler, SchedulerHandler
from cluster.rpc.identity import Identity
from cluster.rpc.stub import CLUSTER, NODE_AGENT, SCHEDULER

CALLER: ContextVar[Identity] = ContextVar("caller")
"""Who calls; set by the server's gate before any behaviour runs."""

ON_BEHALF_OF = "podium-on-behalf-of"
"""Metadata of a call that is made for somebody else: the identity that made it. Believed of a master, which hands a
call on to another, and of who serves Kubernetes' REST API; of anybody else it is refused."""

FORWARDED: ContextVar[bool] = ContextVar("forwarded", default=False)
"""Whether another master handed this call on; CALLER is who made it. Such a call is not handed on again."""

END_STREAM: ContextVar[Callable[[ApiError], None] | None] = ContextVar("end_stream", default=None)
"""For the handler of a stream: ends it with this error at once, even while its reader takes a message. None: nobody
listens, as when a handler is called without a server."""

FORWARDED_METHODS = ("Write", "WriteStream", "Undo", "Heartbeat", "WatchHeartbeats")
"""What only the master that leads can do; the others hand it on."""
REPRESENTED_METHODS = (
    *("Get", "List", "Watch", "WatchStream", "Write", "WriteStream"),
    *("Logs", "Exec", "Attach", "PortForward", "Stats"),
)
"""What who serves Kubernetes' REST API may call for those who call it, and nothing else: what that API can say."""

HEARTBEAT_WRITE_TIMEOUT_S = 5.0
"""A reader that takes nothing for this long is closed. Logs may be paged by a person: no limit."""
BACKUP_WRITE_TIMEOUT_S = 10.0
"""While a backup is made nothing is forgotten: a reader that takes nothing shall not make that last."""
WATCH_WRITE_TIMEOUT_S = 10.0
"""A watch is closed by the store itself, sooner and with the revision to resume from; this is for when that fails."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service to be served."""

    name: str
    """In full, such as cluster.pb.v1.Cluster."""
    methods: dict[str, grpc.RpcMethodHandler]
    write_timeouts_s: Mapping[str, float]
    """By full method name: how long one message may wait for its reader."""
    forwarded: frozenset[str] = frozenset()
    """By full method name: what a master may hand on to another."""
    represented: frozenset[str] = frozenset()
    """By full method name: what the identity `kubernetes` may call for others."""


def cluster_service(handler: ClusterHandler) -> Service:
    """The service Cluster, carried out by a handler."""
    limits_s = dict.fromkeys(("Heartbeat", "WatchHeartbeats"), HEARTBEAT_WRITE_TIMEOUT_S)
    limits_s |= dict.fromkeys(("Watch", "WatchStream", "WatchService"), WATCH_WRITE_TIMEOUT_S) | {
        "Backup": BACKUP_WRITE_TIMEOUT_S
    }
    service = _service(CLUSTER, handler, limits_s)
    return replace(service, forwarded=frozenset(f"/{service.name}/{method}" for method in FORWARDED_METHODS))


def node_agent_service(handler: NodeAgentHandler) -> Service:
    """The service NodeAgent, carried out by a handler."""
    return _service(NODE_AGENT, handler, {})


def scheduler_service(handler: SchedulerHandler) -> Service:
    """The service Scheduler, carried out by a handler."""
    return _service(SCHEDULER, handler, {})


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
        represented=frozenset(
            f"/{descriptor.full_name}/{method.name}"
            for method in descriptor.methods
            if method.name in REPRESENTED_METHODS
        ),
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
