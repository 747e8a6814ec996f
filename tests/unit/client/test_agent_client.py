"""Logs and exec as a client sees them, over a real connection to a scripted agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.api.errors import Forbidden, NotFound, Unavailable
from cluster.client.agent_client import NodeAgentClient
from cluster.pb.v1 import agent_pb2
from cluster.rpc.identity import Identity, issue, make_ca
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import node_agent_service

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class ScriptedAgent:
    def __init__(self) -> None:
        self.request: agent_pb2.LogsRequest | None = None
        self.follower_left = asyncio.Event()
        self.missing = False

    async def logs(self, identity: Identity, request: agent_pb2.LogsRequest) -> AsyncIterator[agent_pb2.LogsChunk]:
        self.request = request
        if request.pod == "nope":
            raise NotFound('pods "nope" not found')
        for data in (b"one\n", b"two"):
            yield agent_pb2.LogsChunk(data=data)
        if request.follow:
            try:
                await asyncio.Event().wait()
            finally:
                self.follower_left.set()

    async def exec(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """Says what it got, and exits with the number of inputs."""
        if self.missing:
            await anext(aiter(inputs))
            raise NotFound('pods "nope" not found')
        count = 0
        async for item in inputs:
            count += 1
            yield agent_pb2.ExecOutput(stdout=f"{item.WhichOneof('input')}\n".encode())
            if item.WhichOneof("input") == "start" and list(item.start.command) == ["exit"]:
                break
        yield agent_pb2.ExecOutput(exit_code=count)

    async def attach(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """The same, of a container's own program."""
        async for item in inputs:
            if item.WhichOneof("input") == "stdin":
                yield agent_pb2.ExecOutput(stdout=item.stdin.upper())
        yield agent_pb2.ExecOutput(exit_code=7)

    async def stats(self, identity: Identity, request: agent_pb2.StatsRequest) -> agent_pb2.StatsResponse:
        return agent_pb2.StatsResponse(node=request.namespace)

    async def port_forward(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.PortForwardInput]
    ) -> AsyncIterator[agent_pb2.PortForwardOutput]:
        """Echoes."""
        async for item in inputs:
            kind = item.WhichOneof("input")
            if kind == "start":
                yield agent_pb2.PortForwardOutput(connected=True)
            elif kind == "data":
                yield agent_pb2.PortForwardOutput(data=item.data)
        yield agent_pb2.PortForwardOutput(closed=True)


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
async def client(agent: ScriptedAgent, tmp_path: Path) -> AsyncIterator[NodeAgentClient]:
    make_ca(tmp_path / "ca", "demo")
    server_credentials = issue(tmp_path / "ca", tmp_path / "node", Identity("node", "node-1"), hosts=[HOST])
    server = RpcServer(f"{HOST}:0", server_credentials, [node_agent_service(agent)], lambda *call: _rule(*call))
    address = await server.start()
    client = NodeAgentClient(address, issue(tmp_path / "ca", tmp_path / "admin", Identity("admin")))
    yield client
    await client.close()
    await client.close()
    await server.stop(0.1)


def _rule(identity: Identity, method: str, message: Message | None) -> None:
    assert identity == Identity("admin")


async def test_logs_come_in_order_and_end(client: NodeAgentClient, agent: ScriptedAgent) -> None:
    found = [data async for data in client.logs("default", "web", container="c", tail_lines=0, previous=True)]
    assert found == [b"one\n", b"two"]
    assert agent.request is not None
    assert agent.request == agent_pb2.LogsRequest(
        namespace="default", pod="web", container="c", tail_lines=0, previous=True
    )
    assert not agent.request.HasField("follow")


async def test_leaving_a_followed_log_ends_it_at_the_agent(client: NodeAgentClient, agent: ScriptedAgent) -> None:
    async with contextlib.aclosing(client.logs("default", "web", follow=True, one_run=True)) as chunks:
        assert await anext(chunks) == b"one\n"
        assert agent.request == agent_pb2.LogsRequest(
            namespace="default", pod="web", container="", follow=True, one_run=True
        )
    async with asyncio.timeout(PATIENCE_S):
        await agent.follower_left.wait()


async def test_the_agents_errors_are_raised(client: NodeAgentClient) -> None:
    with pytest.raises(NotFound, match="nope"):
        await anext(client.logs("default", "nope"))


async def test_exec_sends_input_and_signals_and_yields_output(client: NodeAgentClient) -> None:
    async def stdin() -> AsyncIterator[bytes | signal.Signals]:
        yield b"hello"
        yield signal.SIGINT

    outputs = [output async for output in client.exec("default", "web", ["cat"], stdin=stdin())]
    assert [output.stdout for output in outputs[:-1]] == [b"start\n", b"stdin\n", b"signal\n", b"stdin_closed\n"]
    assert outputs[-1].exit_code == 4


async def test_a_command_may_end_before_its_input(client: NodeAgentClient) -> None:
    async def endless() -> AsyncIterator[bytes | signal.Signals]:
        while True:
            yield b"more"
            await asyncio.sleep(0)

    outputs = [output async for output in client.exec("default", "web", ["exit"], stdin=endless())]
    assert outputs[-1].exit_code == 1


async def test_a_refusal_is_not_lost_in_a_flood_of_input(client: NodeAgentClient, agent: ScriptedAgent) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes | signal.Signals]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 10_000

    agent.missing = True
    for _ in range(20):
        with pytest.raises(NotFound, match="nope"):
            await anext(client.exec("default", "nope", ["cat"], stdin=endless()))
    assert sent == 0


async def test_who_may_not_exec_hears_so(client: NodeAgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(identity: Identity, method: str, message: Message | None) -> None:
        raise Forbidden(f"{identity} may not call {method}")

    monkeypatch.setattr("tests.unit.client.test_agent_client._rule", refuse)
    for _ in range(20):
        with pytest.raises(Forbidden):
            await anext(client.exec("default", "web", ["cat"]))


async def test_an_agent_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "demo")
    client = NodeAgentClient(f"{HOST}:1", issue(tmp_path / "ca", tmp_path / "admin", Identity("admin")))
    with pytest.raises(Unavailable):
        await anext(client.logs("default", "web"))
    await client.close()


async def test_attach_and_port_forward(client: NodeAgentClient) -> None:
    async def typed() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    outputs = [output async for output in client.exec("default", "web", (), stdin=typed(), attach=True)]
    assert [output.stdout for output in outputs[:-1]] == [b"ONE", b"TWO"]
    assert outputs[-1].exit_code == 7
    assert [data async for data in client.port_forward("default", "web", 80, typed())] == [b"", b"one", b"two"]


async def test_stats(client: NodeAgentClient) -> None:
    assert (await client.stats("a-namespace")).node == "a-namespace"
