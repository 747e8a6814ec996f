"""Datagrams through the proxy: flows, answers, limits, endpoints that go and that refuse."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.actor.clock import SystemClock
from cluster.actor.open_files import raise_file_limit
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.policies import Target
from proxy.routing import UDP, Route
from proxy.settings import DataPathSettings
from proxy.stats import Stats
from proxy.timeouts import Timeouts
from proxy.udp import UdpListener
from tests.unit.proxy.rig import DEADLINE_S, KEY, Rig


class Party:
    """Somebody with a UDP socket."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.address = Target(*self.sock.getsockname())

    def say(self, data: bytes, to: tuple[str, int]) -> None:
        self.sock.sendto(data, to)

    async def hear(self) -> tuple[bytes, tuple[str, int]]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.get_running_loop().sock_recvfrom(self.sock, 1 << 16)


class UdpRig:
    """A port of UDP and who talks through it."""

    def __init__(self, *, idle_s: float, flows: int) -> None:
        self.totals = Stats()
        settings = DataPathSettings(udp_flows=flows)
        self.path = DataPath(settings, SystemClock(), self.totals, file_limit=raise_file_limit())
        self._timeouts = Timeouts(udp_idle_s=idle_s)
        route = Route(KEY, Target("127.0.0.1", 0), (), protocol=UDP, timeouts=self._timeouts)
        self.frontend = Frontend(route, settings, self.totals.of(KEY))
        self.listener = UdpListener(self.path, self.frontend)
        self.listener.open()
        self.address = self.listener.address
        self.stats = self.frontend.stats
        self._parties: list[Party] = []

    def party(self) -> Party:
        party = Party()
        self._parties.append(party)
        return party

    def lead_to(self, *endpoints: Party) -> None:
        targets = tuple(endpoint.address for endpoint in endpoints)
        self.frontend.update(Route(KEY, self.address, targets, protocol=UDP, timeouts=self._timeouts))
        self.listener.changed()

    async def until(self, condition: object) -> None:
        await Rig.until(self, condition)  # type: ignore[arg-type]

    def close(self) -> None:
        self.listener.close()
        for party in self._parties:
            party.sock.close()
        self.path.close()


@asynccontextmanager
async def udp_rig(*, idle_s: float = DEADLINE_S, flows: int = 100) -> AsyncIterator[UdpRig]:
    it = UdpRig(idle_s=idle_s, flows=flows)
    try:
        yield it
    finally:
        it.close()
        assert it.stats.active == 0
        assert len(it.path) == 0


async def test_a_client_keeps_its_endpoint_and_is_answered_from_where_it_asked() -> None:
    async with udp_rig() as it:
        one, two = it.party(), it.party()
        it.lead_to(one, two)
        for endpoint in (one, two, one, two):
            client = it.party()
            for word in (b"a", b"bb"):
                client.say(word, it.address)
            heard, back = await endpoint.hear()
            assert heard == b"a"
            assert await endpoint.hear() == (b"bb", back)
            endpoint.say(b"answer", back)
            assert await client.hear() == (b"answer", it.address)
        assert (it.stats.accepted, it.stats.bytes_to_endpoints, it.stats.bytes_to_clients) == (4, 12, 24)


async def test_datagrams_stay_whole() -> None:
    async with udp_rig() as it:
        endpoint, client = it.party(), it.party()
        it.lead_to(endpoint)
        for size in (0, 1, 1400, 65_507):
            client.say(bytes(size), it.address)
            heard, back = await endpoint.hear()
            assert len(heard) == size
            endpoint.say(heard, back)
            assert len((await client.hear())[0]) == size


async def test_a_silent_flow_ends_and_the_next_datagram_begins_another() -> None:
    async with udp_rig(idle_s=0.01) as it:
        one, two, client = it.party(), it.party(), it.party()
        it.lead_to(one, two)
        client.say(b"1", it.address)
        await one.hear()
        await it.until(lambda: len(it.listener) == 0)
        client.say(b"2", it.address)
        assert (await two.hear())[0] == b"2"


async def test_one_too_many_takes_the_place_of_the_one_that_was_silent_longest() -> None:
    async with udp_rig(flows=2) as it:
        endpoint = it.party()
        it.lead_to(endpoint)
        clients = [it.party() for _ in range(3)]
        backs = []
        for client in (clients[0], clients[1]):
            client.say(b"1", it.address)
            backs.append((await endpoint.hear())[1])
        clients[0].say(b"2", it.address)  # now the other one is the longest silent
        await endpoint.hear()
        clients[2].say(b"3", it.address)
        await endpoint.hear()
        assert len(it.listener) == 2
        endpoint.say(b"late", backs[1])
        endpoint.say(b"fine", backs[0])
        assert (await clients[0].hear())[0] == b"fine"
        with_nothing = clients[1].sock
        try:
            with_nothing.recv(10)
            raise AssertionError("its flow had ended")
        except BlockingIOError:
            pass


async def test_flows_of_an_endpoint_that_is_gone_end() -> None:
    async with udp_rig() as it:
        one, two, client = it.party(), it.party(), it.party()
        it.lead_to(one)
        client.say(b"1", it.address)
        await one.hear()
        it.lead_to(two)
        assert len(it.listener) == 0
        client.say(b"2", it.address)
        assert (await two.hear())[0] == b"2"


async def test_an_endpoint_that_refuses_is_left_for_another() -> None:
    async with udp_rig() as it:
        dead, alive, client = it.party(), it.party(), it.party()
        it.lead_to(dead, alive)
        dead.sock.close()
        client.say(b"lost: nobody can know of it before", it.address)
        await it.until(lambda: it.stats.dial_failures == 1)
        client.say(b"another", it.address)
        assert (await alive.hear())[0] == b"another"


async def test_nobody_there() -> None:
    async with udp_rig() as it:
        client = it.party()
        client.say(b"anybody?", it.address)
        await it.until(lambda: it.stats.gave_up_no_endpoint == 1)
        assert len(it.listener) == 0


async def test_the_file_limit_is_kept() -> None:
    async with udp_rig() as it:
        endpoint = it.party()
        it.lead_to(endpoint)
        it.totals.connections_limit = 1
        for _ in range(3):
            client = it.party()
            client.say(b"1", it.address)
            await endpoint.hear()
        assert len(it.listener) == 1
