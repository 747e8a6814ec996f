"""HTTP to pods and services, through the API: a real server stands for the pod, and a played agent leads to it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from cluster.api.errors import BadRequest, Forbidden
from cluster.kubernetes import outgoing
from cluster.kubernetes.listener import tls_context
from cluster.pb.v1 import core_pb2 as core
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, pod, running

PROXY = "/api/v1/namespaces/default/pods/web/proxy"
SERVICE = "/api/v1/namespaces/default/services/web:http/proxy"


class Agent:
    """Connects to a server here, as if it were the pod."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.closed = 0
        self.error: Exception | None = None

    async def port_forward(
        self, namespace: str, pod: str, port: int, sent: AsyncIterable[bytes]
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append((pod, port))
        if self.error is not None:
            raise self.error
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def feed() -> None:
            async for piece in sent:
                writer.write(piece)
                await writer.drain()

        feeding = asyncio.ensure_future(feed())
        try:
            yield b""
            while data := await reader.read(65536):
                yield data
        finally:
            feeding.cancel()
            writer.close()

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def agent(api: Api, cluster: MemoryCluster) -> Agent:
    placed = running(cluster)
    placed.spec.containers[0].ports.add(containerPort=8080)
    placed.status.podIP = "127.9.9.9"
    cluster.put(placed)
    cluster.put(pod("nowhere"))
    service = core.Service(metadata=core.ObjectMeta(name="web", namespace="default"))
    service.spec.ports.add(name="http", port=80)
    cluster.put(service)
    endpoints = core.Endpoints(metadata=core.ObjectMeta(name="web", namespace="default"))
    subset = endpoints.subsets.add()
    subset.ports.add(name="http", port=9090)
    subset.addresses.add(ip="127.9.9.9").targetRef.CopyFrom(
        core.ObjectReference(kind="Pod", name="web", namespace="default")
    )
    cluster.put(endpoints)
    found = api.agent = Agent()
    return found


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    if request.headers.get("Upgrade"):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket
    if request.path == "/moved":
        return web.Response(status=302, headers={"Location": "/there"})
    if request.path == "/endless":
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path if isinstance(request, web.Request) else request.rel_url.raw_path_qs,
            "headers": dict(request.headers),
            "body": body.decode(),
        },
        status=int(request.query.get("status", 200)),
        headers={"X-Own": "1", "Keep-Alive": "5"},
    )


@pytest.fixture
async def backend(agent: Agent) -> AsyncIterator[Agent]:
    runner = web.ServerRunner(web.Server(echo), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    agent.port = runner.addresses[0][1]
    yield agent
    await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_any_method_with_its_path_query_and_body(api: Api, backend: Agent, method: str) -> None:
    body = b"" if method in ("GET", "OPTIONS") else b"hello"
    reply = await api.ask(
        method, f"{PROXY}/a//b%20c?x=1&y=%26&status=418", body or None, headers={"Authorization": "Bearer ", "X-A": "b"}
    )
    assert reply.code == 418
    assert (reply.body["method"], reply.body["body"]) == (method, body.decode())
    assert reply.body["path"] == "/a//b%20c?x=1&y=%26&status=418"
    headers = reply.body["headers"]
    assert headers["Host"] == "127.9.9.9:8080"
    assert headers["X-A"] == "b"
    assert "Authorization" not in headers
    assert headers["X-Forwarded-Uri"] == f"{PROXY}/a//b%20c"
    assert reply.headers["X-Own"] == "1"
    assert "Keep-Alive" not in reply.headers
    assert backend.asked == [("web", 8080)]
    assert backend.closed == 1
    assert api.callers[-1] == "admin at 127.1.0.10:10250"


async def test_a_service_leads_to_a_pod_behind_it(api: Api, backend: Agent) -> None:
    assert (await api.get(SERVICE)).body["path"] == "/"
    assert (await api.get(SERVICE.replace(":http", ":80"))).code == 200
    assert backend.asked == [("web", 9090)] * 2


async def test_head_redirections_and_long_bodies(api: Api, backend: Agent) -> None:
    async with api.session.head(f"https://{api.address}{PROXY}/x") as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 10
    reply = await api.get(f"{PROXY}/moved", allow_redirects=False)
    assert (reply.code, reply.headers["Location"]) == (302, f"{PROXY}/there")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"y" * 10_000

    async with api.session.post(f"https://{api.address}{PROXY}/", data=pieces()) as response:
        assert (await response.json())["body"] == "y" * 1_000_000


async def test_packed_bodies_are_the_pods_business(api: Api, backend: Agent) -> None:
    packed = {"Content-Encoding": "gzip"}
    reply = await api.ask("POST", f"{PROXY}/", gzip.compress(b"hello"), headers=packed)
    assert reply.body["body"] == "hello", "unpacked there, and once"
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n\r\n"
    async with await raw(backend, answer + gzip.compress(b'{"a":1}')):
        assert (await api.get(f"{PROXY}/")).body == {"a": 1}


async def test_a_reader_who_goes_ends_the_connection(api: Api, backend: Agent) -> None:
    async with api.stream(f"{PROXY}/endless") as response:
        assert len(await response.content.readexactly(1_000_000)) == 1_000_000
        response.close()
    async with asyncio.timeout(20):
        while not backend.closed:
            await asyncio.sleep(0.01)


async def test_a_reader_who_takes_nothing_is_cut_off(api: Api, backend: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "WRITE_TIMEOUT_S", 0.05)
    async with api.stream(f"{PROXY}/endless") as response:
        assert len(await response.content.readexactly(1_000_000)) == 1_000_000
        response.content._protocol.transport.pause_reading()
        async with asyncio.timeout(20):
            while not backend.closed:
                await asyncio.sleep(0.01)


async def test_a_websocket(api: Api, backend: Agent) -> None:
    async with api.session.ws_connect(f"https://{api.address}{SERVICE}/socket") as socket:
        for word in ("one", "two"):
            await socket.send_str(word)
            assert await socket.receive_str() == word.upper()
    async with asyncio.timeout(20):
        while not backend.closed:
            await asyncio.sleep(0.01)


@pytest.fixture
async def secure(api: Api, agent: Agent) -> AsyncIterator[Agent]:
    api.issue("proxy", "127.0.0.1")
    runner = web.ServerRunner(web.Server(echo), shutdown_timeout=0.1)
    await runner.setup()
    context = tls_context(api.directory / "proxy")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    agent.port = runner.addresses[0][1]
    yield agent
    await runner.cleanup()


async def test_https_and_its_websockets(api: Api, secure: Agent) -> None:
    there = PROXY.replace("/web/", "/https:web:8443/")
    reply = await api.ask("POST", f"{there}/a", b"z" * 300_000)
    assert (reply.code, len(reply.body["body"])) == (200, 300_000)
    assert secure.asked == [("web", 8443)]
    async with api.session.ws_connect(f"https://{api.address}{there}/socket") as socket:
        await socket.send_str("one")
        assert await socket.receive_str() == "ONE"


async def test_tls_where_there_is_none(api: Api, backend: Agent) -> None:
    reply = await api.get(f"{PROXY.replace('/web/', '/https:web:8443/')}/")
    assert (reply.code, reply.reason) == (503, "ServiceUnavailable"), reply.body
    assert reply.body["message"].startswith("error trying to reach service: ")


async def test_a_pod_that_never_says_a_word_of_tls(api: Api, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.kubernetes.proxying.PATIENCE_S", 0.05)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        agent.port = server.sockets[0].getsockname()[1]
        reply = await api.get(f"{PROXY.replace('/web/', '/https:web:8443/')}/")
    assert (reply.code, reply.body["message"]) == (
        503,
        "error trying to reach service: no connection within 0.05 s",
    )


async def test_who_waits_to_be_told_to_go_on_is_told(api: Api, backend: Agent) -> None:
    async with api.session.post(f"https://{api.address}{PROXY}/", data=b"hello", expect100=True) as response:
        assert (await response.json())["body"] == "hello"


async def raw(agent: Agent, answer: bytes) -> asyncio.Server:
    """A pod that says just that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    agent.port = server.sockets[0].getsockname()[1]
    return server


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "service: EOF"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "malformed HTTP response"),
    ],
)
async def test_what_is_no_answer_is_503(api: Api, agent: Agent, answer: bytes, message: str) -> None:
    async with await raw(agent, answer):
        reply = await api.get(f"{PROXY}/")
    assert (reply.code, reply.reason) == (503, "ServiceUnavailable")
    assert reply.body["message"].startswith("error trying to reach service: ")
    assert message in reply.body["message"]


async def test_an_answer_that_breaks_off_does_not_look_whole(api: Api, agent: Agent) -> None:
    async with await raw(agent, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"):
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
            await api.get(f"{PROXY}/")


async def test_an_answer_to_the_end_of_the_connection(api: Api, agent: Agent) -> None:
    async with await raw(agent, b"HTTP/1.0 200 OK\r\n\r\nall of it"), api.stream(f"{PROXY}/") as response:
        assert await response.read() == b"all of it"


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("pods/nope/proxy/", 404, 'pods "nope" not found'),
        ("pods/nowhere/proxy/", 400, "does not have a host assigned"),
        ("pods/web:http/proxy/", 400, "a port is a number"),
        ("services/nope/proxy/", 404, 'services "nope" not found'),
        ("services/web/proxy/", 503, 'no endpoints available for service "web"'),
        ("services/web:99/proxy/", 503, 'no service port 99 found for service "web"'),
    ],
)
async def test_where_nothing_is(api: Api, agent: Agent, path: str, code: int, message: str) -> None:
    reply = await api.get(f"/api/v1/namespaces/default/{path}")
    assert reply.code == code, reply.body
    assert message in reply.body["message"]
    assert agent.asked == []


async def test_what_the_agent_refuses(api: Api, agent: Agent) -> None:
    agent.error = BadRequest("nothing accepts at 127.9.9.9:8080 of pod web: Connection refused")
    reply = await api.get(f"{PROXY}/")
    assert (reply.code, reply.reason) == (503, "ServiceUnavailable")
    assert "error trying to reach service: nothing accepts" in reply.body["message"]
    agent.error = Forbidden("nobody may")
    assert (await api.get(f"{PROXY}/")).code == 403


async def test_nodes_are_not_proxied(api: Api) -> None:
    reply = await api.get("/api/v1/nodes/n1/proxy/metrics")
    assert (reply.code, reply.reason) == (404, "NotFound")
    assert "nodes/proxy is not served" in reply.body["message"]
