"""The DNS server as a whole, on a cluster in memory and real sockets; and those who are asked upstream."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

from cluster.actor.clock import SystemClock
from cluster.api.errors import Unavailable
from cluster.config.errors import ConfigError
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.metrics import Metrics
from proxy.dns import listeners, upstream
from proxy.dns import server as server_module
from proxy.dns.flags import read_options
from proxy.dns.server import DnsServer
from proxy.dns.settings import DnsSettings, Server, parse_server
from proxy.dns.stats import DnsStats
from tests.kit.memory_client import MemoryCluster
from tests.unit.proxy.dns.scene import endpoints, said, service

DEADLINE_S = 20.0
WEB = "web.default.svc.cluster.local"


class World:
    """A cluster, its DNS server, and who asks."""

    def __init__(self, cluster: MemoryCluster, server: DnsServer, stats: DnsStats) -> None:
        self.cluster, self.server, self.stats = cluster, server, stats

    async def ask(self, name: str, type_: str = "A", *, tcp: bool = False, **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, type_, **options)
        assert self.server.address is not None
        host, port = self.server.address
        way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await way(query, host, timeout=DEADLINE_S, port=port)

    async def until(self, name: str, expected: list[str], type_: str = "A") -> None:
        """Waits for the answer."""
        async with asyncio.timeout(DEADLINE_S):
            while said(await self.ask(name, type_)) != expected:
                await asyncio.sleep(0.005)

    async def open_tcp(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.server.address is not None
        return await asyncio.open_connection(*self.server.address)


@asynccontextmanager
async def world(
    listen: str = "127.28.0.253:0", cluster: MemoryCluster | None = None, **options: Any
) -> AsyncIterator[World]:
    cluster, stats = cluster or MemoryCluster(), DnsStats()
    for name in ("default", "kube-system"):
        cluster.put(core.Namespace(metadata=core.ObjectMeta(name=name)))
    settings = DnsSettings(master="x:1", credentials=Path(), listen=listen, **options)
    server = DnsServer(cluster.client("dns"), settings, clock=SystemClock(), rng=random.Random(5), stats=stats)
    await server.start()
    try:
        yield World(cluster, server, stats)
    finally:
        await server.stop()
        await server.stop()


async def test_services_are_answered_for_as_they_come_and_go() -> None:
    async with world() as it:
        answer = await it.ask(WEB)
        assert answer.rcode() == dns.rcode.NXDOMAIN
        it.cluster.put(service())
        await it.until(WEB, ["127.28.1.1"])
        it.cluster.put(service(ip="None"))
        it.cluster.put(endpoints(("127.28.16.1", "web-0")))
        await it.until("web-0." + WEB, ["127.28.16.1"])
        it.cluster.put(endpoints(("127.28.16.2", "web-0")))
        await it.until("web-0." + WEB, ["127.28.16.2"])
        assert said(await it.ask("2.16.28.127.in-addr.arpa", "PTR")) == [f"web-0.{WEB}."]
        it.cluster.remove(service())
        await it.until(WEB, [])
        assert said(await it.ask("127-28-16-9.default.pod.cluster.local")) == ["127.28.16.9"]
        it.cluster.remove(core.Namespace(metadata=core.ObjectMeta(name="default")))
        await it.until("127-28-16-9.default.pod.cluster.local", [])


async def test_names_of_pods_are_verified_if_that_is_asked_for() -> None:
    async with world(pod_names="verified") as it:
        name = "127-28-16-1.default.pod.cluster.local"
        assert (await it.ask(name)).rcode() == dns.rcode.NXDOMAIN
        pod = core.Pod(metadata=core.ObjectMeta(name="p", namespace="default"))
        it.cluster.put(pod)
        pod = core.Pod(metadata=pod.metadata, status=core.PodStatus(podIP="127.28.16.1"))
        it.cluster.put(pod)
        await it.until(name, ["127.28.16.1"])
        it.cluster.remove(pod)
        await it.until(name, [])


async def test_while_the_master_is_away_nobody_is_told_that_a_name_does_not_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_FIRST_SYNC_S", 0.05)
    cluster = MemoryCluster()
    cluster.put(service())
    cluster.hold_watches()
    async with world(cluster=cluster) as it:
        assert (await it.ask(WEB)).rcode() == dns.rcode.SERVFAIL
        cluster.release_watches()
        await it.until(WEB, ["127.28.1.1"])
        cluster.fail_next(Unavailable("away"), times=3)
        cluster.break_watches()
        assert said(await it.ask(WEB)) == ["127.28.1.1"], "what is known stays known"


async def test_by_tcp_several_questions_may_be_asked_at_once() -> None:
    async with world() as it:
        it.cluster.put(service())
        await it.until(WEB, ["127.28.1.1"])
        reader, writer = await it.open_tcp()
        queries = [dns.message.make_query(name, "A", id=n).to_wire() for n, name in enumerate((WEB, "x." + WEB, WEB))]
        everything = b"".join(len(query).to_bytes(2, "big") + query for query in queries)
        writer.write(everything[:30])
        await asyncio.sleep(0)
        writer.write(everything[30:])
        answers = []
        async with asyncio.timeout(DEADLINE_S):
            for _ in queries:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answers.append(dns.message.from_wire(await reader.readexactly(size)))
        assert [(answer.id, said(answer)) for answer in answers] == [(0, ["127.28.1.1"]), (1, []), (2, ["127.28.1.1"])]
        writer.close()


async def test_long_answers_come_by_tcp() -> None:
    async with world() as it:
        it.cluster.put(service(ip="None"))
        it.cluster.put(endpoints(*((f"127.28.16.{n}", "") for n in range(1, 201))))
        async with asyncio.timeout(DEADLINE_S):
            while not (answer := await it.ask(WEB)).answer:
                await asyncio.sleep(0.005)
        assert answer.flags & dns.flags.TC
        whole = await it.ask(WEB, tcp=True)
        assert len(said(whole)) == 200


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with world(idle_s=0.05) as it:
        reader, writer = await it.open_tcp()
        writer.write(b"\0")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_asks_no_question_is_closed() -> None:
    async with world() as it:
        reader, writer = await it.open_tcp()
        writer.write(b"\0\3abc")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()


async def closed_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Nobody serves this connection."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
    finally:
        writer.close()


async def test_there_are_so_many_connections_at_most() -> None:
    async with world(max_connections=3) as it:
        opened = [await it.open_tcp() for _ in range(3)]
        async with asyncio.timeout(DEADLINE_S):
            while it.stats.connections < 3:
                await asyncio.sleep(0.005)
            assert await closed_at_once(*await it.open_tcp())
        assert it.stats.connections_refused == 1
        for _, writer in opened:
            writer.close()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await it.ask(WEB, tcp=True)
                    break
                except (OSError, EOFError):
                    await asyncio.sleep(0.005)


async def test_one_question_that_fails_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as it:
        it.cluster.put(service())
        await it.until(WEB, ["127.28.1.1"])
        ask = type(it.server.zone).ask

        def fail(self: Any, name: bytes, type_: int) -> Any:
            if type_ == 13:
                raise RuntimeError("on purpose")
            return ask(self, name, type_)

        monkeypatch.setattr(type(it.server.zone), "ask", fail)
        for tcp in (False, True):
            answer = await it.ask(WEB, "HINFO", tcp=tcp)
            assert answer.rcode() == dns.rcode.SERVFAIL
            assert said(await it.ask(WEB, tcp=tcp)) == ["127.28.1.1"]
        assert it.stats.failures == 2


def listens(server: DnsServer) -> bool:
    return server.address is not None


async def test_an_address_that_is_taken_is_tried_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.28.0.253", 0))
        port = holder.getsockname()[1]
        async with world(f"127.28.0.253:{port}") as it:
            assert not listens(it.server)
            it.cluster.put(service())
            holder.close()
            async with asyncio.timeout(DEADLINE_S):
                while not listens(it.server):
                    await asyncio.sleep(0.01)
            await it.until(WEB, ["127.28.1.1"])


async def test_what_happened_can_be_counted() -> None:
    async with world() as it:
        metrics = Metrics()
        metrics.register(it.stats)
        await it.ask(WEB)
        await it.ask("example.com")
        text = metrics.render().decode()
        assert 'podium_dns_answers_total{code="NXDOMAIN"} 1.0' in text
        assert 'podium_dns_answers_total{code="REFUSED"} 1.0' in text
        assert "podium_dns_names " in text


# --- asking others


class Other(asyncio.DatagramProtocol):
    """A DNS server that knows www.example.com, by UDP; what it does with a question can be changed."""

    def __init__(self) -> None:
        self.heard: list[dns.message.Message] = []
        self.distort: Callable[[dns.message.Message, dns.message.Message], list[bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        self.heard.append(query)
        answer = dns.message.make_response(query, recursion_available=True)
        if query.question[0].name.to_text().lower() == "www.example.com.":
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.1"))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        for wire in self.distort(query, answer) if self.distort else [answer.to_wire()]:
            self.transport.sendto(wire, addr)


@asynccontextmanager
async def other() -> AsyncIterator[tuple[Other, str]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Other, local_addr=("127.0.0.1", 0))
    try:
        host, port = transport.get_extra_info("sockname")
        yield server, f"{host}:{port}"
    finally:
        transport.close()


async def test_other_names_are_asked_elsewhere_if_there_is_somebody() -> None:
    async with other() as (there, where), world(upstream=(where,)) as it:
        answer = await it.ask("wWw.example.com", use_edns=0)
        assert said(answer) == ["192.0.2.1"]
        assert answer.question[0].name.to_text() == "wWw.example.com."
        assert answer.flags & dns.flags.RA
        assert (await it.ask("no.example.com")).rcode() == dns.rcode.NXDOMAIN
        assert (await it.ask(WEB)).rcode() == dns.rcode.NXDOMAIN
        assert {query.question[0].name.to_text().lower() for query in there.heard} == {
            "www.example.com.",
            "no.example.com.",
        }, "what is ours stays here"
        assert it.stats.forwarded == 2


async def test_an_external_name_is_followed() -> None:
    async with other() as (there, where), world(upstream=(where,)) as it:
        it.cluster.put(service("ext", external="www.example.com"))
        it.cluster.put(service("gone", external="no.example.com"))
        name = "ext.default.svc.cluster.local"
        await it.until(name, ["www.example.com."], "CNAME")
        assert said(await it.ask(name)) == ["www.example.com.", "192.0.2.1"]
        missing = await it.ask("gone.default.svc.cluster.local")
        assert (said(missing), missing.rcode()) == (["no.example.com."], dns.rcode.NXDOMAIN)
        assert len(there.heard) == 2


async def test_what_is_not_the_answer_is_not_taken_for_it() -> None:
    def lie(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        false = dns.message.make_response(query)
        false.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "198.51.100.66"))
        wire = false.to_wire()
        another = dns.message.make_response(dns.message.make_query("other.example.com", "A", id=query.id))
        wrong_id = bytes((wire[0] ^ 1,)) + wire[1:]
        return [wrong_id, another.to_wire(), query.to_wire(), wire[:20], b"", answer.to_wire()]

    async with other() as (there, where), world(upstream=(where,)) as it:
        there.distort = lie
        assert said(await it.ask("www.example.com")) == ["192.0.2.1"]


async def test_when_nobody_answers_the_asker_is_told() -> None:
    async with other() as (there, where), world(upstream=(where,), upstream_timeout_s=0.05) as it:
        there.distort = lambda query, answer: []
        for tcp in (False, True):
            answer = await it.ask("www.example.com", tcp=tcp)
            assert answer.rcode() == dns.rcode.SERVFAIL
        assert len(there.heard) == upstream.TRIES, "by TCP nobody was there"
        assert it.stats.forward_failures == 2
        it.cluster.put(service("ext", external="www.example.com"))
        await it.until("ext.default.svc.cluster.local", ["www.example.com."], "CNAME")
        assert (await it.ask("ext.default.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL


async def test_the_next_one_is_asked_when_the_first_is_gone() -> None:
    async with other() as (_, where), world(upstream=("127.0.0.1:1", where), upstream_timeout_s=10.0) as it:
        assert said(await it.ask("www.example.com")) == ["192.0.2.1"]


async def test_a_cut_answer_from_elsewhere_is_handed_on_as_such() -> None:
    def cut(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        answer.flags |= dns.flags.TC
        return [answer.to_wire()]

    async with other() as (there, where), world(upstream=(where,)) as it:
        there.distort = cut
        assert (await it.ask("www.example.com")).flags & dns.flags.TC


async def test_questions_under_way_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "MAX_UNDER_WAY", 5)
    async with other() as (there, where), world(upstream=(where,), upstream_timeout_s=2 * DEADLINE_S) as it:
        there.distort = lambda query, answer: []
        waiting = [asyncio.ensure_future(it.ask(f"n{n}.example.com")) for n in range(5)]
        async with asyncio.timeout(DEADLINE_S):
            while len(there.heard) < 5:
                await asyncio.sleep(0.005)
        asked: list[Awaitable[dns.message.Message]] = [it.ask(f"m{n}.example.com") for n in range(15)]
        answers = await asyncio.gather(*asked)
        assert {answer.rcode() for answer in answers} == {dns.rcode.SERVFAIL}
        assert not any(each.done() for each in waiting)
        assert it.stats.forwarded == len(there.heard) == 5
        assert it.stats.forward_failures == 15
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


async def test_by_tcp_what_is_known_does_not_wait_for_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_ASKED_AT_ONCE", 2)
    loop = asyncio.get_running_loop()
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = dns.message.from_wire(await reader.readexactly(size))
        await release.wait()
        wire = dns.message.make_response(query).to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    elsewhere = await asyncio.start_server(slow, "127.0.0.1", 0)
    where = "127.0.0.1:" + str(elsewhere.sockets[0].getsockname()[1])
    try:
        async with world(upstream=(where,)) as it:
            reader, writer = await it.open_tcp()
            for number, name in enumerate(("a.example.com", WEB)):
                wire = dns.message.make_query(name, "A", id=number).to_wire()
                writer.write(len(wire).to_bytes(2, "big") + wire)
            writer.write_eof()
            ids = []
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(2):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    ids.append(dns.message.from_wire(await reader.readexactly(size)).id)
                    release.set()
                assert await reader.read() == b""
            assert ids == [1, 0]
            writer.close()
    finally:
        elsewhere.close()
        await loop.create_task(elsewhere.wait_closed())


# --- settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"listen": "10.0.0.1:53"}, "10.0.0.1 is no address of 127.0.0.0/8"),
        ({"listen": "127.0.0.1:x"}, '"x" is not a port'),
        ({"upstream": ("dns.example.com",)}, "must be ADDRESS or ADDRESS:PORT"),
        ({"upstream": ("/does/not/exist",)}, "/does/not/exist: No such file"),
        ({"cluster_domain": "Cluster.local"}, "lower-case"),
        ({"cluster_domain": "a..b"}, "not a name"),
        ({"cluster_domain": ""}, "lower-case"),
        ({"ttl_s": -1}, "from 0 to 3600"),
        ({"idle_s": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DnsSettings("x:1", Path(), **({"listen": "127.0.0.1:53"} | options))


def test_who_is_asked_may_be_written_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# of the machine\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n")
    settings = DnsSettings("x:1", Path(), "127.0.0.1:53", upstream=(str(file), "192.0.2.9:5353"))
    assert settings.upstreams() == (Server("192.0.2.1", 53), Server("2001:db8::1", 53), Server("192.0.2.9", 5353))
    file.write_text("search example.com\n")
    with pytest.raises(ConfigError, match="names no server"):
        settings.upstreams()


def test_nobody_asks_himself() -> None:
    with pytest.raises(ConfigError, match="itself"):
        DnsSettings("x:1", Path(), "127.0.0.1:53", upstream=("127.0.0.1",)).upstreams()


def test_servers_as_they_are_written() -> None:
    assert parse_server("192.0.2.1", "x") == ("192.0.2.1", 53)
    assert parse_server("[::1]:54", "x") == ("::1", 54)
    assert parse_server("::1", "x") == ("::1", 53)
    assert str(Server("::1", 53)) == "[::1]:53"


def test_options_of_podium_up() -> None:
    assert read_options(["port=1053", "ttl-s=30"]) == {"port": "1053", "ttl-s": "30"}
    for word, message in (
        ("port", "NAME=VALUE"),
        ("listen=127.0.0.1:1", "names are port, "),
        ("port=0", "from 1 to 65535"),
        ("ttl-s=x", "whole number"),
        ("pod-names=some", "one of insecure, verified, disabled"),
        ("upstream=x", "must be ADDRESS"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_options([word])
    with pytest.raises(ConfigError, match="twice"):
        read_options(["port=1", "port=2"])
