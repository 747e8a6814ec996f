"""The DNS server: how many answers it gives, beside dnsmasq, and how soon it tells of a change.

The load comes from dnsperf, which asks for every name in turn and counts what was answered; it has the other of two
processors. Both servers know the same names.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import dns.message
import psutil

from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.bench.harness import Measure, Sides, Unavailable, benchmark
from tests.bench.stage import Stage, end, stage

SERVICES, ENDPOINTS = 1000, 10
"""Every second service is headless: its name has an address for each endpoint."""
LOAD_S = 5
PORT = 10053
ANSWER_TIMEOUT_S = 60.0
_BATCH = 100


def service_name(number: int) -> str:
    return f"web-{number}.default.svc.cluster.local"


def services() -> list[core.Service]:
    made = []
    for number in range(SERVICES):
        service = core.Service(metadata=core.ObjectMeta(name=f"web-{number}", namespace="default"))
        service.spec.ports.add(name="http", port=80)
        if number % 2:
            service.spec.clusterIP = "None"
        made.append(service)
    return made


def endpoints_of(number: int, block: str) -> core.Endpoints:
    """Ten addresses."""
    endpoints = core.Endpoints(metadata=core.ObjectMeta(name=f"web-{number}", namespace="default"))
    subset = endpoints.subsets.add()
    subset.ports.add(name="http", port=8080, protocol="TCP")
    for index in range(ENDPOINTS):
        subset.addresses.add(ip=f"{block}.{16 + number // 20}.{1 + number % 20 * ENDPOINTS + index}")
    return endpoints


async def start_dns(stack: AsyncExitStack, scene: Stage) -> tuple[GrpcClusterClient, str]:
    """A master that knows all services, and a DNS server; where that is."""
    await scene.start_master()
    client = scene.client()
    stack.push_async_callback(client.close)
    everything: list[core.Service | core.Endpoints] = [
        *services(),
        *(endpoints_of(number, scene.block) for number in range(1, SERVICES, 2)),
    ]
    for begin in range(0, len(everything), _BATCH):
        answer = await client.write([operations.create(each) for each in everything[begin : begin + _BATCH]])
        for outcome in answer.outcomes:
            outcome.unwrap()
    host = f"{scene.block}.0.253"
    await scene.start(
        *("-m", "proxy.dns", "--master", scene.master, "--credentials", str(scene.credentials("dns"))),
        *("--listen", f"{host}:{PORT}", "--profile", scene.profile),
    )
    return client, host


def ask(host: str, name: str, type_: str = "A") -> list[str]:
    """The data of the answer's records, sorted. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect((host, PORT))
        sock.send(dns.message.make_query(name, type_).to_wire())
        answer = dns.message.from_wire(sock.recv(4096))
    return sorted(data.to_text() for rrset in answer.answer for data in rrset)


async def start_dnsmasq(stack: AsyncExitStack, scene: Stage) -> str | None:
    """dnsmasq with the same names, or None if it is not installed."""
    program = shutil.which("dnsmasq") or shutil.which("dnsmasq", path="/usr/sbin:/sbin")
    if program is None:
        return None
    host, hosts = f"{scene.block}.202.1", scene.directory / "hosts"
    lines = []
    for number in range(SERVICES):
        addresses = [f"{scene.block}.1.{number % 250}"]
        if number % 2:
            addresses = [address.ip for address in endpoints_of(number, scene.block).subsets[0].addresses]
        lines += [f"{address} {service_name(number)}\n" for address in addresses]
    hosts.write_text("".join(lines))
    process = await asyncio.create_subprocess_exec(
        *(program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"),
        *(f"--listen-address={host}", f"--port={PORT}", f"--addn-hosts={hosts}", "--local=/cluster.local/"),
        *("--user=", "--group=", "--pid-file=", "--local-ttl=5"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    stack.push_async_callback(end, process)
    await until(host, service_name(1), ENDPOINTS)
    return host


async def until(host: str, name: str, count: int) -> None:
    """Returns when there is an answer with so many records. Raises Unavailable."""
    deadline = time.perf_counter() + ANSWER_TIMEOUT_S
    while time.perf_counter() < deadline:
        try:
            if len(ask(host, name)) == count:
                return
        except OSError:
            pass
        await asyncio.sleep(0.02)
    raise Unavailable(f"{host}:{PORT} does not answer for {name}")


async def dnsperf(host: str, questions: Path, *, tcp: bool = False) -> float:
    """Answers per second. Raises RuntimeError if some were not given, or not what was asked for."""
    process = await asyncio.create_subprocess_exec(
        *("dnsperf", "-s", host, "-p", str(PORT), "-d", str(questions), "-l", str(LOAD_S), "-c", "4", "-T", "1"),
        *(("-m", "tcp") if tcp else ()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    rate = re.search(r"Queries per second:\s*([0-9.]+)", output)
    lost = re.search(r"Queries lost:\s*(\d+)", output)
    codes = re.search(r"Response codes:\s*NOERROR \d+ \(100\.00%\)", output)
    if rate is None or lost is None or int(lost.group(1)) or codes is None:
        raise RuntimeError(f"dnsperf said:\n{output}")
    return float(rate.group(1))


@asynccontextmanager
async def under_load(*, tcp: bool) -> AsyncIterator[Sides]:
    if not shutil.which("dnsperf"):
        raise Unavailable("dnsperf is not installed")
    async with stage() as scene, AsyncExitStack() as stack:
        questions = scene.directory / "questions"
        questions.write_text("".join(f"{service_name(number)} A\n" for number in range(SERVICES)))
        _, host = await start_dns(stack, scene)
        await until(host, service_name(SERVICES - 1), ENDPOINTS)
        if tcp:  # dnsmasq ends a connection after a hundred questions
            yield Sides(lambda: dnsperf(host, questions, tcp=True))
            return
        peer = await start_dnsmasq(stack, scene)
        peers: Measure | None = None if peer is None else (lambda: dnsperf(peer, questions))
        yield Sides(lambda: dnsperf(host, questions), peers, "dnsmasq")


@benchmark(
    "dns_answers",
    unit="answers/s",
    what="dnsperf by UDP: 1,000 services in turn, every second one headless with 10 endpoints",
    aim=">= 10000",
)
@asynccontextmanager
async def dns_answers() -> AsyncIterator[Sides]:
    async with under_load(tcp=False) as sides:
        yield sides


@benchmark("dns_answers_tcp", unit="answers/s", what="the same over four TCP connections", runs=3)
@asynccontextmanager
async def dns_answers_tcp() -> AsyncIterator[Sides]:
    async with under_load(tcp=True) as sides:
        yield sides


@benchmark(
    "dns_change_visible",
    unit="ms",
    what="the slowest of 50 changes of endpoints: from the answer to the write to the first answer that knows it",
    aim="<= 100",
    runs=3,
)
@asynccontextmanager
async def dns_change_visible() -> AsyncIterator[Sides]:
    async with stage() as scene, AsyncExitStack() as stack:
        client, host = await start_dns(stack, scene)
        await until(host, service_name(1), ENDPOINTS)
        numbers = itertools.count()

        async def ours() -> float:
            slowest = 0.0
            for turn in range(50):
                number = 1 + 2 * turn
                current = await client.get(core.Endpoints, f"web-{number}", "default")
                wanted = f"{scene.block}.250.{next(numbers) % 250 + 1}"
                changed = core.Endpoints()
                changed.CopyFrom(current)
                changed.subsets[0].addresses[0].ip = wanted
                (await client.write([operations.update(changed)])).outcomes[0].unwrap()
                begin = time.perf_counter()
                while wanted not in ask(host, service_name(number)):
                    if time.perf_counter() > begin + ANSWER_TIMEOUT_S:
                        raise TimeoutError("the change is not seen")
                    await asyncio.sleep(0.0005)
                slowest = max(slowest, time.perf_counter() - begin)
            return slowest * 1000

        yield Sides(ours)


@benchmark(
    "dns_memory",
    unit="MB",
    what="memory (PSS) of the DNS server with 1,000 services, every second one headless",
    runs=1,
)
@asynccontextmanager
async def dns_memory() -> AsyncIterator[Sides]:
    async with stage() as scene, AsyncExitStack() as stack:
        _, host = await start_dns(stack, scene)
        await until(host, service_name(SERVICES - 1), ENDPOINTS)

        async def ours() -> float:
            for number in range(SERVICES):
                ask(host, service_name(number))
            return float(psutil.Process(scene.pid("proxy.dns")).memory_full_info().pss) / 1e6

        yield Sides(ours)
