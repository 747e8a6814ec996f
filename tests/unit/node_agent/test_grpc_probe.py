"""The gRPC probe: asked of real servers of the health protocol, and of what is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.pb.v1 import core_pb2 as core
from node_agent.prober import Outcome, Result, Target, probe_once
from node_agent.runtime.interface import ExecProcess
from tests.unit.node_agent.kit import serve

HOST = "127.0.0.1"
LIMIT_S = 20.0
Status = health_pb2.HealthCheckResponse.ServingStatus


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers as it is told to; a service that it does not know is NOT_FOUND, as the protocol has it."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []
        self.hangs = False

    async def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> object:
        self.asked.append(request.service)
        if self.hangs:
            await asyncio.Event().wait()
        if request.service not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=self.statuses[request.service])


@asynccontextmanager
async def serving(health: Health) -> AsyncIterator[int]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def probe(port: int, service: str = "", timeout_s: float = LIMIT_S) -> Result:
    async def no_command(command: Sequence[str]) -> ExecProcess:
        raise AssertionError(f"no command was to be run: {command}")

    handler = core.Handler(grpc=core.GRPCAction(port=port, service=service))
    async with asyncio.timeout(2 * LIMIT_S):
        return await probe_once(handler, Target(HOST, core.Container(name="c"), no_command), timeout_s)


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        (Status.SERVING, Outcome.SUCCESS, ""),
        (Status.NOT_SERVING, Outcome.FAILURE, "NOT_SERVING"),
        (Status.UNKNOWN, Outcome.FAILURE, "UNKNOWN"),
        (Status.SERVICE_UNKNOWN, Outcome.FAILURE, "SERVICE_UNKNOWN"),
        (99, Outcome.FAILURE, "99"),
    ],
)
async def test_what_a_program_says_of_itself(status: int, outcome: Outcome, said: str) -> None:
    health = Health()
    health.statuses[""] = status
    async with serving(health) as port:
        result = await probe(port)
    assert health.asked == [""]
    assert result.outcome is outcome
    assert result.message == (f"gRPC health of the program at {HOST}:{port}: {said}" if said else "")


async def test_a_service_is_asked_for_by_its_name() -> None:
    health = Health()
    health.statuses |= {"": Status.SERVING, "store": Status.NOT_SERVING}
    async with serving(health) as port:
        store, other = await probe(port, "store"), await probe(port, "nobody")
        assert (await probe(port)).outcome is Outcome.SUCCESS
        health.statuses["store"] = Status.SERVING
        assert (await probe(port, "store")).outcome is Outcome.SUCCESS
    assert health.asked == ["store", "nobody", "", "store"]
    assert (store.outcome, other.outcome) == (Outcome.FAILURE, Outcome.FAILURE)
    assert store.message == f'gRPC health of service "store" at {HOST}:{port}: NOT_SERVING'
    assert other.message == f'gRPC health of service "nobody" at {HOST}:{port}: NOT_FOUND: unknown service'


async def test_who_does_not_answer_has_failed_when_the_time_is_over() -> None:
    health = Health()
    health.hangs = True
    async with serving(health) as port:
        thinks = await probe(port, timeout_s=0.5)
    silent_server, port = await serve(lambda head: None)
    async with silent_server:
        silent = await probe(port, timeout_s=0.5)
    for result in (thinks, silent):
        assert result.outcome is Outcome.FAILURE
        assert "DEADLINE_EXCEEDED" in result.message or "UNAVAILABLE" in result.message, result.message
    assert "DEADLINE_EXCEEDED" in thinks.message


async def test_who_is_not_there_or_speaks_otherwise_has_failed() -> None:
    http, port = await serve(lambda head: b"HTTP/1.1 200 OK\r\n\r\n")
    async with http:
        otherwise = await probe(port, timeout_s=2.0)
    absent = await probe(port)
    server = grpc.aio.server()  # gRPC, but without the health protocol
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    without = await probe(port)
    await server.stop(None)
    for result in (otherwise, absent, without):
        assert result.outcome is Outcome.FAILURE
        assert len(result.message) < 1000
    assert "UNAVAILABLE" in absent.message
    assert "UNIMPLEMENTED" in without.message


async def test_a_program_whose_error_has_no_end_is_cut_short() -> None:
    class Talkative(Health):
        async def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> object:
            return await context.abort(grpc.StatusCode.INTERNAL, "x" * 5000)

    async with serving(Talkative()) as port:
        result = await probe(port)
    assert result.outcome is Outcome.FAILURE
    assert len(result.message) < 1000


async def test_the_way_to_a_pod_leads_over_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    proxy, proxy_port = await serve(lambda head: seen.append(head) or b"HTTP/1.1 403 No\r\n\r\n")  # type: ignore[func-returns-value]
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:{proxy_port}")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    health = Health()
    health.statuses[""] = Status.SERVING
    async with proxy, serving(health) as port:
        result = await probe(port)
    assert (result.outcome, seen) == (Outcome.SUCCESS, [])
