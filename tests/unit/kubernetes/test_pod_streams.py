"""Logs, exec, attach and port-forward, with an agent that is played."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any

import aiohttp
import pytest

from cluster.api.errors import ApiError, BadRequest, Forbidden, NotFound
from cluster.kubernetes.port_forwarding import SPDY
from cluster.pb.v1 import agent_pb2
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, pod, running
from tests.unit.kubernetes.test_spdy import Client

POD = "/api/v1/namespaces/default/pods/web"
EXEC = f"{POD}/exec?stdout=1&stderr=1&command=echo&command=hi"

NOT_RUNNING = 'Internal error occurred: unable to upgrade connection: container not found ("main")'


class Agent:
    """Answers as it is told, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.chunks: list[bytes | ApiError] = []
        self.outputs: list[agent_pb2.ExecOutput | ApiError] = []
        self.heard: list[Any] = []
        self.goes_on = False
        self.closed = 0

    async def logs(self, namespace: str, pod: str, **options: Any) -> AsyncGenerator[bytes, None]:
        self.asked = {"namespace": namespace, "pod": pod, **options}
        for chunk in self.chunks:
            if isinstance(chunk, ApiError):
                raise chunk
            yield chunk

    async def exec(
        self, namespace: str, pod: str, command: Sequence[str], **options: Any
    ) -> AsyncGenerator[agent_pb2.ExecOutput, None]:
        stdin: AsyncIterable[Any] | None = options.pop("stdin")
        self.asked = {"namespace": namespace, "pod": pod, "command": list(command), **options}
        if stdin is not None:
            async for item in stdin:
                self.heard.append(item)
        for output in self.outputs:
            if isinstance(output, ApiError):
                raise output
            yield output
        if self.goes_on:
            await asyncio.Event().wait()

    async def port_forward(
        self, namespace: str, pod: str, port: int, sent: AsyncIterable[bytes]
    ) -> AsyncGenerator[bytes, None]:
        if port != 80:
            raise NotFound(f"nothing accepts at {port}")
        yield b""
        async for piece in sent:
            yield piece.upper()

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def agent(api: Api, cluster: MemoryCluster) -> Agent:
    cluster.put(running(cluster))
    cluster.put(pod("nowhere"))
    found = api.agent = Agent()
    return found


async def test_a_log_is_text(api: Api, agent: Agent) -> None:
    agent.chunks = [b"one\n", b"two\n"]
    reply = await api.get(
        f"{POD}/log?tailLines=2&timestamps=true&previous=1&limitBytes=9&sinceTime=2026-01-01T00:00:00Z"
    )
    assert (reply.code, reply.body) == (200, "one\ntwo\n")
    assert reply.headers["Content-Type"] == "text/plain"
    assert agent.asked == {
        "namespace": "default",
        "pod": "web",
        "container": "main",
        "follow": False,
        "one_run": True,
        "tail_lines": 2,
        "previous": True,
        "since_s": 1767225600.0,
        "timestamps": True,
        "limit_bytes": 9,
    }
    assert api.callers[-1] == "admin at 127.1.0.10:10250"
    assert agent.closed == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/namespaces/default/pods/gone/log", 404),
        ("/api/v1/namespaces/default/pods/nowhere/log", 400),
        (f"{POD}/log?container=nope", 400),
        (f"{POD}/log?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 400),
        (f"{POD}/log?sinceTime=yesterday", 400),
        (f"{POD}/log?tailLines=-1", 400),
        (f"{POD}/exec?stdout=1", 400),
        (f"{POD}/exec?command=ls", 400),
        (EXEC, 400),
        (f"{POD}/portforward?ports=0", 400),
        (f"{POD}/portforward?ports=00000199999", 400),
        (f"{POD}/portforward", 400),
    ],
)
async def test_what_is_refused(api: Api, agent: Agent, path: str, code: int) -> None:
    assert (await api.get(path)).code == code
    assert not agent.asked


async def test_what_the_agent_refuses_is_a_status(api: Api, agent: Agent) -> None:
    agent.chunks = [Forbidden("not you")]
    reply = await api.get(f"{POD}/log")
    assert (reply.code, reply.reason) == (403, "Forbidden")
    assert agent.closed == 1


async def test_a_log_that_breaks_does_not_look_like_one_that_ends(api: Api, agent: Agent) -> None:
    agent.chunks = [b"one\n", NotFound("the container is gone")]
    with pytest.raises(aiohttp.ClientError):
        await api.get(f"{POD}/log?follow=true")


async def closed(agent: Agent, times: int) -> None:
    async with asyncio.timeout(20):
        while agent.closed < times:
            await asyncio.sleep(0.01)


async def frames(socket: aiohttp.ClientWebSocketResponse) -> list[bytes]:
    async with asyncio.timeout(20):
        return [message.data async for message in socket]


async def test_a_command(api: Api, agent: Agent) -> None:
    agent.outputs = [
        agent_pb2.ExecOutput(stdout=b"hi\n"),
        agent_pb2.ExecOutput(stderr=b"oh\n"),
        agent_pb2.ExecOutput(exit_code=3),
    ]
    url = f"wss://{api.address}{EXEC}"
    for protocols in (["v5.channel.k8s.io"], ["v5.channel.k8s.io", "v4.channel.k8s.io"], ["v4.channel.k8s.io"]):
        async with api.session.ws_connect(url, protocols=protocols) as socket:
            assert socket.protocol == protocols[0]
            out, err, outcome = await frames(socket)
        assert (out, err) == (b"\x01hi\n", b"\x02oh\n")
        status = json.loads(outcome[1:])
        assert (outcome[0], status["status"], status["reason"]) == (3, "Failure", "NonZeroExitCode")
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert agent.asked["command"] == ["echo", "hi"]
    await closed(agent, 3)


async def test_who_is_attached_is_told_that_it_ended_and_not_how(api: Api, agent: Agent) -> None:
    """kubectl takes a failure for one of the connection, and shows the log once more."""
    agent.outputs = [agent_pb2.ExecOutput(stdout=b"hi\n"), agent_pb2.ExecOutput(exit_code=3)]
    url = f"wss://{api.address}{POD}/attach?stdout=true"
    async with api.session.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
        _, outcome = await frames(socket)
    assert json.loads(outcome[1:])["status"] == "Success"


async def test_success_and_errors_of_a_command(api: Api, agent: Agent) -> None:
    url = f"wss://{api.address}{EXEC}"
    for output, status, message in (
        (agent_pb2.ExecOutput(exit_code=0), "Success", None),
        (Forbidden("not you"), "Failure", "not you"),
        (BadRequest('container not found ("main")'), "Failure", NOT_RUNNING),
    ):
        agent.outputs = [output]
        async with api.session.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
            (outcome,) = await frames(socket)
        told = json.loads(outcome[1:])
        assert (told["status"], told.get("message")) == (status, message)


async def test_input_and_the_size_of_the_terminal(api: Api, agent: Agent) -> None:
    agent.outputs = [agent_pb2.ExecOutput(exit_code=0)]
    url = f"wss://{api.address}{EXEC}&stdin=true&tty=true"
    async with api.session.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
        for frame in (
            b"\x00abc",
            b'\x04{"Width":80,"Height":24}',
            b"\x04nonsense",
            b"",
            b"\x09what",
            b"\x00def",
            b"\xff\x00",
            b"\x00late",
        ):
            await socket.send_bytes(frame)
        await frames(socket)
    assert agent.heard == [b"abc", agent_pb2.TerminalSize(rows=24, columns=80), b"def"]
    assert agent.asked["tty"] is True


async def test_a_caller_who_goes_ends_the_command(api: Api, agent: Agent) -> None:
    agent.goes_on = True
    async with api.session.ws_connect(f"wss://{api.address}{EXEC}", protocols=["v5.channel.k8s.io"]):
        pass
    await closed(agent, 1)


async def test_protocols_that_are_not_spoken(api: Api, agent: Agent) -> None:
    async with api.session.ws_connect(f"wss://{api.address}{EXEC}", protocols=["v1.example"]) as socket:
        assert await frames(socket) == []
    assert not agent.asked


def taken_apart(data: bytes) -> list[tuple[int, bytes, bool]]:
    """The data frames of SPDY: stream, content, whether it was the last."""
    found = []
    while data:
        length = int.from_bytes(data[5:8], "big")
        if not data[0] & 0x80:
            found.append((int.from_bytes(data[:4], "big"), data[8 : 8 + length], bool(data[4] & 1)))
        data = data[8 + length :]
    return found


async def test_ports_are_forwarded_by_spdy(api: Api, agent: Agent) -> None:
    client = Client()
    async with api.session.ws_connect(f"wss://{api.address}{POD}/portforward", protocols=[SPDY]) as socket:
        assert socket.protocol == SPDY
        for request, port in (("0", "80"), ("1", "81")):
            first = 1 + 4 * int(request)
            await socket.send_bytes(client.open(first, True, streamtype="error", port=port, requestid=request))
            await socket.send_bytes(client.open(first + 2, streamtype="data", port=port, requestid=request))
        await socket.send_bytes(client.data(3, b"hello") + client.data(3, b" there", True))
        told: list[tuple[int, bytes, bool]] = []
        async with asyncio.timeout(20):
            while sum(ended for _, _, ended in told) < 4:
                told += taken_apart(await socket.receive_bytes())
        await socket.send_bytes(b"this is no SPDY")
        assert await frames(socket) == []
    assert b"".join(content for stream, content, _ in told if stream == 3) == b"HELLO THERE"
    assert (1, b"", True) in told
    assert (5, b"an error occurred forwarding port 81: nothing accepts at 81", True) in told


async def test_and_by_channels(api: Api, agent: Agent) -> None:
    url = f"wss://{api.address}{POD}/portforward?ports=80,81"
    async with api.session.ws_connect(url, protocols=["v4.channel.k8s.io"]) as socket:
        await socket.send_bytes(b"\x00hello")
        async with asyncio.timeout(20):
            told = [await socket.receive_bytes() for _ in range(6)]
    ports = [bytes([channel]) + struct.pack("<H", 80 + channel // 2) for channel in range(4)]
    assert told[:4] == ports
    assert sorted(told[4:]) == [b"\x00HELLO", b"\x03nothing accepts at 81"]


async def raw(api: Api, path: str, protocol: str) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that shall speak SPDY, and what is answered."""
    host, _, port = api.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.trust("admin"))
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
    writer.write(f"{head}X-Stream-Protocol-Version: {protocol}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        return await reader.readuntil(b"\r\n\r\n"), reader, writer


async def test_older_callers_speak_spdy_on_the_connection_itself(api: Api, agent: Agent) -> None:
    agent.outputs = [
        agent_pb2.ExecOutput(stdout=b"hi\n"),
        agent_pb2.ExecOutput(stderr=b"oh\n"),
        agent_pb2.ExecOutput(exit_code=3),
    ]
    client = Client()
    head, reader, writer = await raw(api, f"{EXEC}&stdin=true", "v4.channel.k8s.io")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head
    for number, kind in enumerate(("error", "stdin", "stdout", "stderr", "nonsense")):
        writer.write(client.open(2 * number + 1, streamtype=kind))
    writer.write(client.data(3, b"abc") + client.data(3, b"", True))
    async with asyncio.timeout(20):
        told = taken_apart(await reader.read())
    writer.close()
    assert [(stream, content) for stream, content, _ in told if content and stream != 1] == [(5, b"hi\n"), (7, b"oh\n")]
    assert {stream for stream, _, ended in told if ended} == {1, 5, 7}
    status = json.loads(next(content for stream, content, _ in told if stream == 1))
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert agent.heard == [b"abc"]
    await closed(agent, 1)


async def test_older_callers_are_told_of_a_container_that_does_not_run(api: Api, agent: Agent) -> None:
    agent.outputs = [BadRequest('container not found ("main")')]
    client = Client()
    _, reader, writer = await raw(api, EXEC, "v4.channel.k8s.io")
    for number, kind in enumerate(("error", "stdout", "stderr")):
        writer.write(client.open(2 * number + 1, streamtype=kind))
    async with asyncio.timeout(20):
        told = taken_apart(await reader.read())
    writer.close()
    status = json.loads(next(content for stream, content, _ in told if stream == 1))
    assert (status["reason"], status["message"]) == ("InternalError", NOT_RUNNING)


async def test_an_older_caller_who_goes_ends_the_command(api: Api, agent: Agent) -> None:
    agent.goes_on = True
    client = Client()
    _, _, writer = await raw(api, EXEC, "v4.channel.k8s.io")
    for number, kind in enumerate(("error", "stdout", "stderr")):
        writer.write(client.open(2 * number + 1, streamtype=kind))
    await writer.drain()
    writer.transport.abort()
    await closed(agent, 1)


async def test_older_callers_forward_ports(api: Api, agent: Agent) -> None:
    client = Client()
    head, reader, writer = await raw(api, f"{POD}/portforward", "portforward.k8s.io")
    assert head.startswith(b"HTTP/1.1 101 ")
    writer.write(client.open(1, True, streamtype="error", port="80", requestid="0"))
    writer.write(client.open(3, streamtype="data", port="80", requestid="0"))
    writer.write(client.data(3, b"hello", True))
    told = b""
    async with asyncio.timeout(20):
        while not any(ended and stream == 3 for stream, _, ended in taken_apart(told)):
            told += await reader.read(65536)
    writer.close()
    assert (3, b"HELLO", False) in taken_apart(told)


@pytest.mark.parametrize("path", [EXEC, f"{POD}/portforward"])
async def test_of_a_protocol_that_is_spoken(api: Api, agent: Agent, path: str) -> None:
    head, _, writer = await raw(api, path, "v1.example")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
