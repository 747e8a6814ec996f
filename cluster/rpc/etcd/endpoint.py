"""One member of etcd, as gRPC sees it: two connections, calls, streams. No status and no gRPC type leaves this file.

gRPC's settings are those of all our clients, but for one: no pings on a connection without calls. etcd takes pings
every 5 s while there are calls; of those without it takes two, and ends the connection ("too_many_pings", after 30 s).
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc import options
from cluster.rpc.etcd.errors import EtcdError, OutcomeUnknown, Unreachable
from cluster.rpc.etcd.faults import judge
from cluster.rpc.identity import Credentials

WIRE_PACKAGE = "etcdserverpb"
"""What etcd calls the package of its services; ours has another name, see etcd.proto."""

_REQUIRE_LEADER = (("hasleader", "true"),)
"""A member that has no leader says so at once, instead of letting the call wait for one; and ends its watches."""


def _options(base: options.Options) -> options.Options:
    changed = [(name, value) for name, value in base if name != "grpc.keepalive_permit_without_calls"]
    return [*changed, ("grpc.keepalive_permit_without_calls", 0)]


_UNARY, _WATCH = _options(options.UNARY_CHANNEL), _options(options.WATCH_CHANNEL)


class Endpoint:
    """Connections to one "host:port". Made when first used."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        self.address = address
        self._credentials = credentials
        self._unary: grpc.aio.Channel | None = None
        self._watch: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """There is a connection for calls, as far as gRPC knows."""
        return self._unary is not None and self._unary.get_state() is grpc.ChannelConnectivity.READY

    async def call(
        self, method: str, request: Message, timeout_s: float, *, changes: bool, require_leader: bool = True
    ) -> Any:
        """One call of "KV/Range" and the like. Raises EtcdError; Unreachable: another endpoint may do it."""
        metadata = _REQUIRE_LEADER if require_leader else None
        try:
            call = self._calls.get(method)
            if call is None:
                call = self._calls[method] = self._make(method)
            return await call(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self.error(error, changes=changes) from error
        except grpc.aio.UsageError as error:
            raise Unreachable(f"{self.address}: the client is closed") from error
        except asyncio.CancelledError:
            if _is_cancelling():
                raise
            # Not the caller was cancelled, but the call, because its channel was closed.
            closed = OutcomeUnknown if changes else Unreachable
            raise closed(f"{self.address}: the client was closed during the call") from None

    async def exchange(self, method: str, request: Message, timeout_s: float) -> Any:
        """Sends one request on a call that streams both ways, and returns its first answer, or None if there is none.
        Raises EtcdError, as for a call that changes nothing."""
        try:
            call = self._stream(self._open_unary(), method, timeout_s)
            try:
                await call.write(request)
                await call.done_writing()
                answer = await call.read()
                if answer is grpc.aio.EOF:
                    return None
                await call.read()  # the end: a call that is left open would wait for its deadline
                return answer
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as error:
            raise self.error(error, changes=False) from error
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise Unreachable(f"{self.address}: the connection has ended") from error
        except asyncio.CancelledError:
            if _is_cancelling():
                raise
            raise Unreachable(f"{self.address}: the client was closed during the call") from None

    def open_watch(self) -> WatchStream:
        """A call of Watch/Watch; must be cancelled. Raises Unreachable."""
        try:
            if self._watch is None:
                self._watch = self._open(_WATCH)
            return WatchStream(self, self._stream(self._watch, "Watch/Watch", None))
        except grpc.aio.UsageError as error:
            raise Unreachable(f"{self.address}: the client is closed") from error

    def error(self, error: grpc.aio.AioRpcError, *, changes: bool) -> EtcdError:
        """What a status means."""
        tls = self._credentials is not None
        return judge(error.code().name, error.details() or "", self.address, changes=changes, tls=tls)

    async def close(self) -> None:
        """Ends all calls and streams. Twice is fine; afterwards every use raises Unreachable."""
        self._closed = True
        channels = [channel for channel in (self._unary, self._watch) if channel is not None]
        self._unary = self._watch = None
        self._calls.clear()
        for channel in channels:
            await channel.close()

    def _make(self, method: str) -> Any:
        path, serialize, deserialize = _describe(method)
        return self._open_unary().unary_unary(path, request_serializer=serialize, response_deserializer=deserialize)

    def _stream(self, channel: grpc.aio.Channel, method: str, timeout_s: float | None) -> Any:
        path, serialize, deserialize = _describe(method)
        stub = channel.stream_stream(path, request_serializer=serialize, response_deserializer=deserialize)
        return stub(timeout=timeout_s, metadata=_REQUIRE_LEADER)

    def _open_unary(self) -> grpc.aio.Channel:
        if self._unary is None:
            self._unary = self._open(_UNARY)
        return self._unary

    def _open(self, channel_options: options.Options) -> grpc.aio.Channel:
        if self._closed:
            raise Unreachable(f"{self.address}: the client is closed")
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=channel_options)
        tls = grpc.ssl_channel_credentials(
            root_certificates=self._credentials.ca,
            private_key=self._credentials.key or None,
            certificate_chain=self._credentials.certificate or None,
        )
        return grpc.aio.secure_channel(self.address, tls, options=channel_options)


class WatchStream:
    """One call of Watch/Watch. One task reads."""

    def __init__(self, endpoint: Endpoint, call: Any) -> None:
        self._endpoint, self._call = endpoint, call
        self._reason = "the client was closed"

    async def send(self, request: pb.WatchRequest) -> None:
        """Raises EtcdError."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise self._endpoint.error(error, changes=False) from error
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise Unreachable(f"{self._endpoint.address}: the connection has ended") from error
        except asyncio.CancelledError:
            if _is_cancelling():
                raise
            raise Unreachable(f"{self._endpoint.address}: {self._reason}") from None

    async def read(self) -> Any:
        """The next response, however long it takes. Raises EtcdError; Unreachable: the call has ended."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._endpoint.error(error, changes=False) from error
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise Unreachable(f"{self._endpoint.address}: the connection has ended") from error
        except asyncio.CancelledError:
            if _is_cancelling():
                raise
            raise Unreachable(f"{self._endpoint.address}: {self._reason}") from None
        if message is grpc.aio.EOF:
            raise Unreachable(f"{self._endpoint.address}: it has ended the watch")
        return message

    def cancel(self, reason: str) -> None:
        """Ends the call; whoever reads gets Unreachable with that reason. Twice is fine: the first reason counts."""
        if not self._call.done():
            self._reason = reason
            self._call.cancel()


def _is_cancelling() -> bool:
    """The running task was cancelled; not just the call that it waits for. (A function of its own, for a task that
    stands in a frame of its own exception would keep its connection until the garbage is collected.)"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _describe(method: str) -> tuple[str, Any, Any]:
    """Path, serializer and deserializer of "KV/Range"."""
    service, _, name = method.partition("/")
    found = pb.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    request, response = GetMessageClass(found.input_type), GetMessageClass(found.output_type)
    return f"/{WIRE_PACKAGE}.{method}", request.SerializeToString, response.FromString
