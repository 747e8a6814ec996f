"""The ambassador of HTTP between real clients and real servers: nginx, Python's http.server, websockets."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import http.client
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from proxy.ambassadors.http import HttpPolicy
from tests.contract.ambassadors.servers import Server, nginx
from tests.kit.ports import free_port
from tests.unit.proxy.ambassadors.rig import AmbassadorRig, ambassador_rig

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists(),
    reason="nginx is not installed (.ci/run installs it)",
)


async def asked(it: AmbassadorRig, *requests: tuple[str, str, bytes | None]) -> list[tuple[int, bytes]]:
    """What a client hears over one connection: (method, target, body) each."""

    def ask() -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection(*it.address, timeout=20)
        heard = []
        for method, target, body in requests:
            connection.request(method, target, body)
            response = connection.getresponse()
            heard.append((response.status, response.read()))
        connection.close()
        return heard

    return await asyncio.to_thread(ask)


@needs_nginx
async def test_each_request_of_a_connection_goes_its_own_way(tmp_path: Path) -> None:
    with nginx(tmp_path / "a", "stable") as stable, nginx(tmp_path / "b", "api") as api:
        async with ambassador_rig({"http": HttpPolicy}) as it:
            it.serve("http", forwarded="true", **{"rule.1": "path=/api => app=api", "rule.2": "=> app=web"})
            it.label((stable, {"app": "web"}), (api, {"app": "api"}))  # type: ignore[arg-type]
            heard = await asked(it, *(("GET", target, None) for target in ("/", "/api/x", "/y?z", "/api")))
            assert [body for _, body in heard] == [
                b"stable GET / 127.0.0.1\n",
                b"api GET /api/x 127.0.0.1\n",
                b"stable GET /y?z 127.0.0.1\n",
                b"api GET /api 127.0.0.1\n",
            ]


@needs_nginx
async def test_weights_and_a_mirror(tmp_path: Path) -> None:
    with nginx(tmp_path / "a", "stable") as stable, nginx(tmp_path / "b", "canary") as canary:
        async with ambassador_rig({"http": HttpPolicy}) as it:
            it.serve("http", **{"rule.1": "=> t=stable @ 3 | t=canary @ 1", "mirror": "t=canary"})
            it.label((stable, {"t": "stable"}), (canary, {"t": "canary"}))  # type: ignore[arg-type]
            heard = await asked(it, *[("GET", "/w", None)] * 200)
            count = collections.Counter(body.split()[0] for _, body in heard)
            assert 110 < count[b"stable"] < 190
            asked_at_canary = (tmp_path / "b" / "access.log").read_text().count("/w")
            assert asked_at_canary > count[b"canary"] + 150, "and nearly all of the copies have come"


@needs_nginx
async def test_large_bodies_both_ways(tmp_path: Path) -> None:
    with nginx(tmp_path / "a", "a") as server:
        async with ambassador_rig({"http": HttpPolicy}) as it:
            it.serve("http")
            it.label((server, {}))  # type: ignore[arg-type]
            sent = (tmp_path / "a" / "www" / "big").read_bytes()
            heard = await asked(
                it, ("GET", "/big", None), ("PUT", "/up/file", sent), ("HEAD", "/big", None), ("GET", "/", None)
            )
            assert [status for status, _ in heard] == [200, 201, 200, 200]
            assert hashlib.sha256(heard[0][1]).digest() == hashlib.sha256(sent).digest()
            assert (tmp_path / "a" / "www" / "up" / "file").read_bytes() == sent
            assert heard[2][1] == b""


class _Chunks(http.server.BaseHTTPRequestHandler):
    """Answers in chunks what it was sent in chunks; asks to go on when that is asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 1000):
            part = body[start : start + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def python_server(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[Server]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Server(server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join()


async def test_chunks_and_a_client_that_asks_before_it_sends() -> None:
    with python_server(_Chunks) as server:
        async with ambassador_rig({"http": HttpPolicy}) as it:
            it.serve("http")
            it.label((server, {}))  # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection(*it.address)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
            async with asyncio.timeout(20):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                for _ in range(100):
                    writer.write(b"64\r\n" + b"x" * 100 + b"\r\n")
                writer.write(b"0\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                body = await reader.readuntil(b"0\r\n\r\n")
            assert body.count(b"x") == 10_000
            writer.close()


async def test_websocket_both_ways_and_its_end() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    port = free_port()
    async with ambassador_rig({"http": HttpPolicy}) as it, serve(echo, "127.0.0.1", port):
        it.serve("http", **{"rule.1": "path=/chat => app=chat"})
        it.label((Server(port), {"app": "chat"}))  # type: ignore[arg-type]
        async with asyncio.timeout(20), connect(f"ws://{it.address}/chat") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            large = "x" * 900_000
            await client.send(large)
            assert await client.recv() == large
            await client.close()
        with pytest.raises(websockets.exceptions.InvalidStatus, match="404"):
            await connect(f"ws://{it.address}/other")
        await it.until(lambda: it.stats.active == 0)


@needs_nginx
async def test_rules_change_under_a_connection_that_goes_on(tmp_path: Path) -> None:
    with nginx(tmp_path / "a", "one") as one, nginx(tmp_path / "b", "two") as two:
        async with ambassador_rig({"http": HttpPolicy}) as it:
            it.serve("http", **{"rule.1": "=> n=1"})
            it.label((one, {"n": "1"}), (two, {"n": "2"}))  # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection(*it.address)

            async def ask() -> bytes:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(20):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert b"200" in head.splitlines()[0]
                    return (await reader.readline()).split()[0]

            assert await ask() == b"one"
            it.serve("http", **{"rule.1": "=> n=2"})
            assert await ask() == b"one", "it keeps the rules that it began with"
            assert (await asked(it, ("GET", "/", None)))[0][1].startswith(b"two")
            it.label((one, {"n": "2"}), (two, {"n": "1"}))  # type: ignore[arg-type]
            assert await ask() == b"two", "but labels are those of now"
            writer.close()
