"""The one door of a server: every call of every service passes it, health and reflection included.

In this order: who calls (the SPIFFE URI of a certificate that our authority signed; its cluster must be ours), may they
call this (`authorize` decides; no rule, no call), carry it out, and translate what went wrong into a status, once. A
stream runs in a task of its own, so that the server, or its handler, can end it with a last word ("the server is
stopping") instead of cutting it off; a cancelled call is always re-raised as cancelled, since swallowing that leaks
memory in gRPC.

A call may be made for somebody else, and then has the rights of who made it, not of who carries it. That is believed
of two identities only: a `master` hands calls on to another master, and `kubernetes` (who serves Kubernetes' REST API)
calls for those who call it; never for a master or for itself, and nothing that its API does not need.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message

from cluster.actor.patience import Patience
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Expired, Forbidden, Internal, Unauthenticated, Unavailable
from cluster.rpc.identity import Identity, parse_spiffe
from cluster.rpc.requests import HEAR_OUT_S, HEAR_OUT_STOPPING_S, RequestStream
from cluster.rpc.servicer import CALLER, END_STREAM, FORWARDED, ON_BEHALF_OF
from cluster.rpc.status import encode

Authorize = Callable[[Identity, str, Message | None], None]
"""Called with the caller, the full name of the method ("/cluster.pb.v1.Cluster/Write") and the request (None for a
stream of requests). Raises Forbidden, or the call goes ahead; an unknown method must be refused."""

_log = logging.getLogger("podium.rpc")


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """See above."""

    def __init__(
        self,
        cluster: str,
        authorize: Authorize,
        write_timeouts_s: Mapping[str, float],
        forwarded: Collection[str] = (),
        on_error: Callable[[ApiError], None] | None = None,
        represented: Collection[str] = (),
    ) -> None:
        """`forwarded`: what a master may call on behalf of others, `represented`: what `kubernetes` may; `on_error` may
        complete errors before they leave."""
        self._authorize = authorize
        self._forwarded = forwarded
        self._on_error = on_error
        self._represented = represented
        self._write_timeouts_s = write_timeouts_s
        self._wrapped: dict[str, grpc.RpcMethodHandler] = {}
        self._tasks = Tasks("rpc server")
        self._streams: set[asyncio.Task[Exception | None]] = set()
        self._draining = False
        # Few callers, many calls: parsing is remembered.
        self._identify = lru_cache(1024)(lambda uri: _identity_in(cluster, uri))

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[grpc.RpcMethodHandler]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            wrapped = self._wrapped[details.method] = self._wrap(details.method, handler)
        return wrapped

    async def drain(self) -> None:
        """Ends every stream with Unavailable and refuses new ones. Calls with one answer go on."""
        self._draining = True
        for stream in list(self._streams):
            stream.cancel()
        if self._streams:
            await asyncio.wait(set(self._streams), timeout=1.0)

    async def close(self) -> None:
        """Cancels what is left. Call it when the server has stopped."""
        await self._tasks.cancel_all()

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            behaviour = self._streaming(method, inner, handler.request_streaming)
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(behaviour, *codecs)
            return grpc.unary_stream_rpc_method_handler(behaviour, *codecs)
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        behaviour = self._single(method, inner, handler.request_streaming)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(behaviour, *codecs)
        return grpc.unary_unary_rpc_method_handler(behaviour, *codecs)

    def _single(self, method: str, inner: Any, request_streaming: bool) -> Any:
        async def behaviour(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                self._admit(method, None if request_streaming else request, context)
                return await inner(request, context)
            except Exception as error:
                await self._fail(method, error, context)

        return behaviour

    def _streaming(self, method: str, inner: Any, request_streaming: bool) -> Any:
        timeout_s = self._write_timeouts_s.get(method)

        async def behaviour(request: Any, context: grpc.aio.ServicerContext) -> None:
            requests = RequestStream(request, context, self._tasks, method) if request_streaming else None
            write = context.write if requests is None else requests.write
            patience: _Patience | None = None

            last_word: ApiError | None = None

            def end(error: ApiError) -> None:
                nonlocal last_word
                if last_word is None and not stream.done():
                    last_word = error
                    stream.cancel()

            async def carry_out() -> Exception | None:
                try:
                    if self._draining:
                        raise Unavailable("the server is stopping")
                    END_STREAM.set(end)
                    self._admit(method, None if request_streaming else request, context)
                except Exception as error:
                    return error
                return await _send(inner, requests or request, context, write)

            if timeout_s is not None:
                patience = _Patience(write, timeout_s, end)
                write = patience.write
            stream = self._tasks.spawn(carry_out(), name=f"stream {method}")
            self._streams.add(stream)
            try:
                await asyncio.wait({stream})
                if requests is not None:
                    await requests.hear_out(HEAR_OUT_STOPPING_S if self._draining else HEAR_OUT_S)
            finally:
                # If the caller has gone: the handler tidies up before the call ends.
                if not stream.done():
                    stream.cancel()
                    await asyncio.wait({stream})
                if patience is not None:
                    patience.close()
                if requests is not None:
                    await requests.close()
                self._streams.discard(stream)
            if stream.cancelled():
                failure: Exception | None = last_word or Unavailable("the server is stopping")
            else:
                failure = stream.result()
            if failure is not None:
                await self._fail(method, failure, context)

        return behaviour

    def _admit(self, method: str, request: Message | None, context: grpc.aio.ServicerContext) -> None:
        uris = context.auth_context().get("peer_spiffe_id")
        if not uris:
            raise Unauthenticated("the certificate names no identity (a single SPIFFE URI)")
        found = self._identify(uris[0])
        if isinstance(found, str):
            raise Unauthenticated(found)
        for key, value in context.invocation_metadata() or ():
            if key == ON_BEHALF_OF:
                is_master = found.kind == "master"
                if method not in (self._forwarded if is_master else self._represented):
                    raise Forbidden(f"{method} is not called on behalf of others")
                found = _on_behalf_of(found, value)
                FORWARDED.set(is_master)
                break
        self._authorize(found, method, request)
        CALLER.set(found)

    async def _fail(self, method: str, error: Exception, context: grpc.aio.ServicerContext) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, ApiError):
            _log.error("%s failed", method, exc_info=error)
            error = Internal(f"{method} failed: {type(error).__name__}")
        if self._on_error is not None:
            self._on_error(error)
        code, message, metadata = encode(error)
        await context.abort(code, message, metadata)
        raise AssertionError("abort always raises")


class _Patience(Patience):
    """Ends a stream whose reader lets one message wait for too long."""

    __slots__ = ("_write",)

    def __init__(
        self, write: Callable[[Any], Awaitable[None]], limit_s: float, end: Callable[[ApiError], None]
    ) -> None:
        super().__init__(limit_s, lambda: end(Expired(f"the reader has taken nothing for {limit_s:g} s; list again")))
        self._write = write

    async def write(self, message: Any) -> None:
        self.begin()
        try:
            await self._write(message)
        finally:
            self.over()


async def _send(inner: Any, request: Any, context: Any, write: Callable[[Any], Awaitable[None]]) -> Exception | None:
    """Runs a streaming behaviour to its end; what it raised is the result, so that nobody reports it as a crash."""
    try:
        messages = inner(request, context)
        if inspect.isawaitable(messages):
            await messages
            return None
        try:
            async for message in messages:
                await write(message)
        finally:
            await _close(messages)
    except Exception as error:
        return error
    return None


async def _close(messages: AsyncIterator[Any]) -> None:
    close = getattr(messages, "aclose", None)
    if close is not None:
        await close()


def _on_behalf_of(caller: Identity, text: str | bytes) -> Identity:
    """For whom a call was handed on. Raises Forbidden."""
    if caller.kind not in ("master", "kubernetes"):
        raise Forbidden(f"{caller} may not call on behalf of others")
    try:
        represented = Identity.parse(text if isinstance(text, str) else text.decode())
    except ValueError as error:
        raise Forbidden(f"a call on behalf of nobody: {error}") from error
    if caller.kind == "kubernetes" and represented.kind in ("master", "kubernetes"):
        raise Forbidden(f"{caller} may not call on behalf of {represented}")
    return represented


def _identity_in(cluster: str, uri: bytes) -> Identity | str:
    """The caller, or what is wrong with it."""
    try:
        its_cluster, identity = parse_spiffe(uri.decode())
    except ValueError as error:
        return str(error)
    if its_cluster != cluster:
        return f'the certificate is of cluster "{its_cluster}", this is "{cluster}"'
    return identity
