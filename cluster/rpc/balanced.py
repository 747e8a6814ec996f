"""A gRPC channel that is many: each call goes to the endpoint whose turn it is, over a connection to that one alone.

gRPC in Python takes no name resolver of one's own, and its built-in balancing knows a list of addresses that is fixed
when the channel is made. So this is a `grpc.aio.Channel` over one ordinary channel per endpoint, each made when it is
first needed and closed when its endpoint is gone and its last call has ended. Stubs take it like any other.

    stub.Call(request)                                     whose turn it is
    stub.Call(request, metadata=[("podium-key", "u7")])    by key, with a policy that goes by keys
    stub.Call(request, metadata=[("podium-shard", "2")])   one that serves shard 2

A call without an endpoint ends with UNAVAILABLE at once (it does not wait for one to come). A call that ends with
UNAVAILABLE tells whoever gives out turns that its endpoint could not be reached; it is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError

KEY, SHARD = "podium-key", "podium-shard"
"""Metadata that says what a call is about; it is sent on, for the server may want to know as well."""
_CLOSE_GRACE_S = 5.0


class Turn(Protocol):
    """Whose turn it is: one call, from now until `end`."""

    target: str
    """host:port."""

    def end(self, *, failed: bool) -> None: ...


class BalancedChannel(grpc.aio.Channel):  # type: ignore[misc]  # grpc has no types
    """See the head of this file. Closing it ends its calls."""

    def __init__(
        self,
        turn: Callable[[str, str], Turn],
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] | None = None,
    ) -> None:
        """`turn(key, shard)` gives the next turn, or raises an ApiError. Without credentials: no TLS."""
        self._turn = turn
        self._credentials = credentials
        self._options = list(options or ())
        self._channels: dict[str, _Connection] = {}
        self._kept: Collection[str] = ()
        self._tasks = Tasks("balanced channel")
        self._closed = False

    @property
    def targets(self) -> list[str]:
        """The endpoints to which there are connections."""
        return sorted(self._channels)

    def keep(self, targets: Collection[str]) -> None:
        """These are all endpoints that there are: connections to others are closed when their calls have ended."""
        self._kept = targets
        for target in list(self._channels):
            self._let_go(target)

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _Callable(self, "unary_unary", method, serializers, more)

    def unary_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _Callable(self, "unary_stream", method, serializers, more)

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _Callable(self, "stream_unary", method, serializers, more)

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _Callable(self, "stream_stream", method, serializers, more)

    async def close(self, grace: float | None = None) -> None:
        """Ends all calls, after the grace (seconds). Twice is fine."""
        self._closed = True
        connections = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(connection.channel.close(grace) for connection in connections))
        await self._tasks.cancel_all()

    async def __aenter__(self) -> BalancedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY if any connection is, else the state that is nearest to it."""
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        states = {connection.channel.get_state(try_to_connect) for connection in self._channels.values()}
        return next((state for state in _NEAREST_FIRST if state in states), grpc.ChannelConnectivity.IDLE)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Of any of the connections that there are now."""
        await self._any(lambda channel: channel.wait_for_state_change(channel.get_state()))

    async def channel_ready(self) -> None:
        """Returns when one of the connections is ready; the first is made by this, if there is none."""
        if not self._channels:
            turn = self._next("", "")
            turn.end(failed=False)
            self.to(turn.target)
        await self._any(lambda channel: channel.channel_ready())

    async def _any(self, wait: Callable[[grpc.aio.Channel], Any]) -> None:
        waiting = [self._tasks.spawn(wait(each.channel), name="state") for each in self._channels.values()]
        if not waiting:
            return
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    # --- for calls

    def begin(self, kind: str, method: str, serializers: Any, more: Any, arguments: Any, words: Any) -> Any:
        """Begins a call where the next turn says; returns the call. Raises AioRpcError (UNAVAILABLE)."""
        said = dict(words.get("metadata") or ())
        turn = self._next(str(said.get(KEY, "")), str(said.get(SHARD, "")))
        connection = self.to(turn.target)
        call = connection.callable(kind, method, serializers, more)(*arguments, **words)
        connection.calls += 1
        self._tasks.spawn(self._until_over(call, turn), name="call")
        return call

    def _next(self, key: str, shard: str) -> Turn:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        try:
            return self._turn(key, shard)
        except ApiError as error:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=str(error)) from error

    def to(self, target: str) -> _Connection:
        """The connection to an endpoint."""
        connection = self._channels.get(target)
        if connection is None:
            channel = (
                grpc.aio.insecure_channel(target, options=self._options)
                if self._credentials is None
                else grpc.aio.secure_channel(target, self._credentials, options=self._options)
            )
            connection = self._channels[target] = _Connection(channel)
        return connection

    async def _until_over(self, call: Any, turn: Turn) -> None:
        failed = False
        try:
            failed = await call.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            turn.end(failed=failed)
            connection = self._channels.get(turn.target)
            if connection is not None:
                connection.calls -= 1
                self._let_go(turn.target)

    def _let_go(self, target: str) -> None:
        connection = self._channels[target]
        if target not in self._kept and connection.calls == 0:
            del self._channels[target]
            self._tasks.spawn(connection.channel.close(_CLOSE_GRACE_S), name=f"close {target}")


_NEAREST_FIRST = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
)


class _Connection:
    """A channel to one endpoint, and what it was asked for."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self._callables: dict[tuple[str, str], Any] = {}

    def callable(self, kind: str, method: str, serializers: Any, more: Any) -> Any:
        """What a stub would have got of this channel."""
        found = self._callables.get((kind, method))
        if found is None:
            found = self._callables[kind, method] = getattr(self.channel, kind)(method, *serializers, **more)
        return found


class _Callable(
    grpc.aio.UnaryUnaryMultiCallable,  # type: ignore[misc]
    grpc.aio.UnaryStreamMultiCallable,  # type: ignore[misc]
    grpc.aio.StreamUnaryMultiCallable,  # type: ignore[misc]
    grpc.aio.StreamStreamMultiCallable,  # type: ignore[misc]
):
    """A method of a stub: who is called is decided anew for each call."""

    def __init__(self, channel: BalancedChannel, kind: str, method: str, serializers: Any, more: Any) -> None:
        self._channel, self._kind, self._method = channel, kind, method
        self._serializers, self._more = serializers, more

    def __call__(self, *arguments: Any, **words: Any) -> Any:
        return self._channel.begin(self._kind, self._method, self._serializers, self._more, arguments, words)
