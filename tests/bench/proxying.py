"""The proxy beside HAProxy in TCP mode, and beside nginx's stream module: same backend, same client, in turns.

Each has one process and one thread that carries connections.

Requests are made by wrk against an HTTP backend; the backend is another HAProxy that answers by itself (a backend in
Python would be the bottleneck, and hide the proxies), or asyncio where HAProxy is missing. Bulk is a socket that reads
as fast as it can from one that sends.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Measure, Sides, Unavailable, benchmark
from tests.bench.placing import write
from tests.bench.stage import Stage, listen, stage, start_program

PORT = 8080
BULK_BYTES = 1 << 30
WRK_S = 3
CONNECTIONS = 32
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nok\n"

COMMON = """
global
  maxconn %d
  nbthread 1
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
"""


async def start_haproxy(stack: AsyncExitStack, directory: Path, name: str, rules: str, maxconn: int = 4000) -> None:
    """An HAProxy with these rules; ends with the stack."""
    path = directory / f"{name}.cfg"
    path.write_text(COMMON % maxconn + rules)
    await start_program(stack, "haproxy", "-db", "-q", "-f", str(path))


async def until_it_answers(host: str, port: int) -> None:
    """Returns when somebody accepts connections there."""
    async with asyncio.timeout(20.0):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def start_http_backend(stack: AsyncExitStack, scene: Stage) -> tuple[str, int]:
    """Something that answers every request with "ok"."""
    host = f"{scene.block}.200.1"
    if shutil.which("haproxy"):
        rules = f"""
frontend ok
  mode http
  bind {host}:{PORT}
  http-request return status 200 content-type text/plain string "ok"
"""
        await start_haproxy(stack, scene.directory, "backend", rules)
    else:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(ANSWER)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(answer, host, PORT)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
    await until_it_answers(host, PORT)
    return host, PORT


async def start_bulk_backend(stack: AsyncExitStack, scene: Stage) -> tuple[str, int]:
    """Something that sends BULK_BYTES to whoever connects, from threads of its own."""
    listener = listen(stack, (f"{scene.block}.200.2", PORT))
    block = bytes(1 << 20)

    def send(connection: socket.socket) -> None:
        with connection:
            try:
                for _ in range(BULK_BYTES // len(block)):
                    connection.sendall(block)
            except OSError:
                pass  # the reader went away: so be it

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=send, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"{scene.block}.200.2", PORT


async def start_podium(stack: AsyncExitStack, scene: Stage, backend: tuple[str, int]) -> tuple[str, int]:
    """Master and proxy with one service that leads to the backend; its address."""
    await scene.start_master()
    await scene.start_proxy()
    client = scene.client()
    stack.push_async_callback(client.close)
    service = core.Service()
    service.metadata.name, service.metadata.namespace = "bench", "default"
    service.spec.ports.add(port=PORT, protocol="TCP")
    endpoints = core.Endpoints()
    endpoints.metadata.name, endpoints.metadata.namespace = "bench", "default"
    subset = endpoints.subsets.add()
    subset.addresses.add(ip=backend[0])
    subset.ports.add(port=backend[1], protocol="TCP")
    await write(client, [operations.create(service), operations.create(endpoints)])
    address = (await client.get(core.Service, "bench", "default")).spec.clusterIP
    await until_it_answers(address, PORT)
    return address, PORT


async def start_peer(stack: AsyncExitStack, scene: Stage, backend: tuple[str, int]) -> tuple[str, int] | None:
    """HAProxy in TCP mode in front of the backend, or None if it is not installed."""
    if not shutil.which("haproxy"):
        return None
    host = f"{scene.block}.201.1"
    rules = f"""
listen peer
  mode tcp
  balance roundrobin
  bind {host}:{PORT}
  server backend {backend[0]}:{backend[1]}
"""
    await start_haproxy(stack, scene.directory, "peer", rules)
    await until_it_answers(host, PORT)
    return host, PORT


NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


async def start_nginx(stack: AsyncExitStack, scene: Stage, backend: tuple[str, int]) -> tuple[str, int] | None:
    """nginx as a TCP proxy in front of the backend, or None if it is not installed."""
    if not shutil.which("nginx") or not NGINX_MODULE.exists():
        return None
    host = f"{scene.block}.202.1"
    path = scene.directory / "nginx.conf"
    path.write_text(f"""
load_module {NGINX_MODULE};
daemon off;
worker_processes 1;
pid {scene.directory}/nginx.pid;
error_log {scene.directory}/nginx.log;
events {{ worker_connections 4000; }}
stream {{
  upstream backend {{ server {backend[0]}:{backend[1]}; }}
  server {{ listen {host}:{PORT} backlog=1024; tcp_nodelay on; proxy_pass backend; }}
}}
""")
    await start_program(stack, "nginx", "-c", str(path), "-p", str(scene.directory))
    await until_it_answers(host, PORT)
    return host, PORT


StartPeer = Callable[[AsyncExitStack, Stage, tuple[str, int]], Awaitable[tuple[str, int] | None]]
PEERS: dict[str, StartPeer] = {"haproxy": start_peer, "nginx": start_nginx}


async def wrk(address: tuple[str, int], *, close: bool) -> float:
    """Requests per second. Raises RuntimeError if requests failed."""
    header = ["-H", "Connection: close"] if close else []
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{WRK_S}s", *header),
        f"http://{address[0]}:{address[1]}/",
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    found = re.search(r"Requests/sec:\s*([0-9.]+)", output)
    errors = re.search(r"Socket errors: connect (\d+), read \d+, write \d+, timeout (\d+)", output)
    failed = errors is not None and (errors.group(1), errors.group(2)) != ("0", "0")
    if found is None or failed or "Non-2xx" in output:
        raise RuntimeError(f"wrk said:\n{output}")
    return float(found.group(1))


def receive(address: tuple[str, int]) -> float:
    """Megabytes (10^6) per second of one connection."""
    buffer = bytearray(1 << 20)
    total = 0
    begun = time.perf_counter()
    with socket.create_connection(address) as connection:
        while count := connection.recv_into(buffer):
            total += count
    if total != BULK_BYTES:
        raise RuntimeError(f"{total} bytes came of {BULK_BYTES}")
    return total / 1e6 / (time.perf_counter() - begun)


@asynccontextmanager
async def beside(
    name: str,
    backend: Callable[[AsyncExitStack, Stage], Awaitable[tuple[str, int]]],
    measure: Callable[[tuple[str, int]], Awaitable[float]],
) -> AsyncIterator[Sides]:
    """The same measurement through our proxy and through the peer of that name."""
    async with stage() as scene, AsyncExitStack() as stack:
        behind = await backend(stack, scene)
        ours = await start_podium(stack, scene, behind)
        peer = await PEERS[name](stack, scene, behind)
        peers: Measure | None = None if peer is None else (lambda: measure(peer))
        yield Sides(lambda: measure(ours), peers, name)


def need(program: str) -> None:
    """Raises Unavailable if it is not installed."""
    if not shutil.which(program):
        raise Unavailable(f"{program} is not installed")


def register(peer: str, suffix: str, aims: tuple[str, str, str]) -> None:
    """Requests on kept connections, on new ones, and bulk, beside this peer."""

    @benchmark(
        f"proxy_requests_keepalive{suffix}",
        unit="requests/s",
        what=f"wrk, {CONNECTIONS} connections that stay, through the proxy",
        aim=aims[0],
    )
    @asynccontextmanager
    async def keepalive() -> AsyncIterator[Sides]:
        need("wrk")
        async with beside(peer, start_http_backend, lambda address: wrk(address, close=False)) as sides:
            yield sides

    @benchmark(
        f"proxy_requests_new_connections{suffix}",
        unit="requests/s",
        what="wrk, a new connection for each request",
        aim=aims[1],
    )
    @asynccontextmanager
    async def new_connections() -> AsyncIterator[Sides]:
        need("wrk")
        async with beside(peer, start_http_backend, lambda address: wrk(address, close=True)) as sides:
            yield sides

    @benchmark(f"proxy_bulk{suffix}", unit="MB/s", what="1 GiB over one connection through the proxy", aim=aims[2])
    @asynccontextmanager
    async def bulk() -> AsyncIterator[Sides]:
        async with beside(peer, start_bulk_backend, lambda address: asyncio.to_thread(receive, address)) as sides:
            yield sides


register("haproxy", "", (">= 1.0 x haproxy", ">= 1.0 x haproxy", ">= 1.5 x haproxy"))
register("nginx", "_nginx", ("", "", ""))
