"""A gRPC server as a daemon uses it: mutual TLS, one gate, health and reflection on, and a stop that leaves nothing.

start    bind (a port that is taken is an error, never shared), serve, health SERVING
stop     health NOT_SERVING, end the streams with a last word, let calls finish for the grace time, close
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from cluster.api.errors import ApiError
from cluster.rpc import options
from cluster.rpc.gate import Authorize, Gate
from cluster.rpc.identity import Credentials
from cluster.rpc.servicer import Service


def _methods(service: Any) -> tuple[str, ...]:
    return tuple(f"/{service.full_name}/{method.name}" for method in service.methods)


COMMON_METHODS: tuple[str, ...] = _methods(health_pb2.DESCRIPTOR.services_by_name["Health"]) + _methods(
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
)
"""Health checking and reflection: every identity of the cluster may use them, which `authorize` must say."""


class RpcServer:
    """Serves services at one address. Made and used inside one running event loop."""

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        services: Sequence[Service],
        authorize: Authorize,
        on_error: Callable[[ApiError], None] | None = None,
    ) -> None:
        """`address` is "host:port"; port 0 lets the system choose. `authorize` decides about every call, and `on_error`
        may complete an error before it leaves."""
        self._address = address
        self._credentials = credentials
        self._services = services
        self._authorize = authorize
        self._on_error = on_error
        self._server: Any = None
        self._gate: Gate | None = None
        self._health: health.aio.HealthServicer | None = None

    @property
    def methods(self) -> list[str]:
        """The full names of all methods that are served."""
        ours = [f"/{service.name}/{method}" for service in self._services for method in service.methods]
        return [*ours, *COMMON_METHODS]

    async def start(self) -> str:
        """Serves, and returns the bound address, "host:port". Raises OSError if it cannot be bound."""
        cluster, _ = self._credentials.who()
        timeouts_s = {
            method: limit_s for service in self._services for method, limit_s in service.write_timeouts_s.items()
        }
        forwarded = frozenset[str]().union(*(service.forwarded for service in self._services))
        represented = frozenset[str]().union(*(service.represented for service in self._services))
        self._gate = Gate(cluster, self._authorize, timeouts_s, forwarded, self._on_error, represented)
        server = grpc.aio.server(
            interceptors=[self._gate],
            options=options.SERVER,
            maximum_concurrent_rpcs=options.MAX_CONCURRENT_CALLS,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service.name, service.methods) for service in self._services]
        )
        names = [service.name for service in self._services]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        tls = grpc.ssl_server_credentials(
            [(self._credentials.key, self._credentials.certificate)],
            root_certificates=self._credentials.ca,
            require_client_auth=True,
        )
        try:
            port = server.add_secure_port(self._address, tls)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {self._address}: is the address in use, or not of this machine?"
            ) from error
        await server.start()
        self._server = server
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        host = self._address.rpartition(":")[0]
        return f"{host}:{port}"

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stops as described above, within about `grace_s` seconds. Twice is fine."""
        if self._server is None:
            return
        server, self._server = self._server, None
        assert self._gate is not None
        assert self._health is not None
        try:
            # A health watcher that does not read could hold this up: it is for information only.
            async with asyncio.timeout(0.5):
                await self._health.enter_graceful_shutdown()
        except TimeoutError:
            pass
        for _ in range(5):
            # Turns of the loop in which health watchers hand their last message over, before their streams end too.
            await asyncio.sleep(0)
        await self._gate.drain()
        await server.stop(grace_s)
        await self._gate.close()
