"""From accept to relay: failing endpoints, waiting for endpoints, limits, endpoints that go, churn."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.api import hollow
from proxy.balancer import Target
from proxy.connection import Connection
from proxy.routing import Route
from tests.unit.proxy.rig import KEY, Endpoint, Peer, Rig, rig


async def test_connections_take_turns() -> None:
    async with rig() as it:
        one, two = it.endpoint(), it.endpoint()
        it.lead_to(one, two)
        first, second = await it.pair(one), await it.pair(two)
        third = await it.pair(one)
        for client, backend in (first, second, third):
            await client.say(b"!")
            assert await backend.hear(1) == b"!"


async def test_an_endpoint_that_refuses_is_passed_over() -> None:
    async with rig() as it:
        dead, alive = it.endpoint(), it.endpoint()
        it.lead_to(dead, alive)
        dead.close()
        client, backend = await it.pair(alive)
        await client.say(b"hello")
        assert await backend.hear(5) == b"hello"
        assert it.stats.dial_failures == 1


async def test_a_pod_that_is_only_played_is_passed_over_and_nothing_is_sent_to_it() -> None:
    async with rig(dial_timeouts_s=(20,)) as it:
        alive = it.endpoint()
        targets = (Target(str(hollow.NETWORK[1]), 8080), alive.target)
        it.frontend.update(Route(KEY, it.address, targets))
        for _ in range(2):
            client, backend = await it.pair(alive)  # at once: a connection that is tried would wait for 20 s
            await client.say(b"hello")
            assert await backend.hear(5) == b"hello"
        assert it.stats.dial_failures >= 1


async def test_an_endpoint_that_does_not_answer_is_passed_over() -> None:
    async with rig(dial_timeouts_s=(0.01, 20)) as it:
        deaf, alive = it.endpoint(backlog=0), it.endpoint()
        fillers = [it.new_socket() for _ in range(2)]  # its queue is full: the kernel drops whoever comes next
        for filler in fillers:
            filler.connect_ex(deaf.target)
        it.lead_to(deaf, alive)
        client = await it.connect()
        await client.say(b"early")  # said before there is anybody to hear it
        client.end()
        backend = await alive.accept()
        assert await backend.hear_all() == b"early"
        await backend.say(b"answer")
        backend.close()
        assert await client.hear_all() == b"answer"
        assert it.stats.dial_failures == 1
        for filler in fillers:
            filler.close()


async def test_nobody_answers() -> None:
    async with rig(dial_timeouts_s=(0.005, 0.005)) as it:
        deaf = it.endpoint(backlog=0)
        fillers = [it.new_socket() for _ in range(2)]
        for filler in fillers:
            filler.connect_ex(deaf.target)
        it.lead_to(deaf)
        client = await it.connect()
        with pytest.raises(ConnectionResetError):
            await client.hear(1)
        assert (it.stats.dial_failures, it.stats.gave_up_dial, it.stats.active) == (2, 1, 0)
        for filler in fillers:
            filler.close()


async def test_held_until_there_is_an_endpoint() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.say(b"I can wait")
        await it.until(lambda: it.stats.held == 1)
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        backend = await endpoint.accept()
        assert await backend.hear(10) == b"I can wait"
        await backend.say(b"thanks")
        assert await client.hear(6) == b"thanks"


async def test_held_while_the_only_endpoint_is_replaced() -> None:
    async with rig() as it:
        dead = it.endpoint()
        it.lead_to(dead)
        dead.close()
        client = await it.connect()
        await it.until(lambda: it.stats.held == 1)
        it.lead_to()
        await it.until(lambda: it.stats.held == 2)
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        backend = await endpoint.accept()
        await backend.say(b"at last")
        assert await client.hear(7) == b"at last"


async def test_held_long_enough() -> None:
    async with rig(hold_s=0.005) as it:
        client = await it.connect()
        with pytest.raises(ConnectionResetError):
            await client.hear(1)
        assert (it.stats.held, it.stats.gave_up_no_endpoint, it.stats.active) == (1, 1, 0)


async def test_a_client_that_breaks_off_while_it_is_held_is_forgotten() -> None:
    async with rig() as it:
        client = await it.connect()
        await it.until(lambda: it.stats.held == 1)
        client.break_off()
        await it.until(lambda: len(it.path) == 0)
        it.lead_to(it.endpoint())
        assert it.stats.active == 0


async def test_clients_stick_to_their_endpoint() -> None:
    async with rig() as it:
        one, two = it.endpoint(), it.endpoint()
        it.lead_to(one, two, affinity_timeout_s=60)
        for _ in range(3):
            await it.pair(one)
        sock = it.new_socket()
        sock.bind(("127.0.0.2", 0))
        await it.connect(sock)
        await two.accept()


async def test_established_connections_outlive_endpoint_and_listener() -> None:
    async with rig() as it:
        old, new = it.endpoint(), it.endpoint()
        it.lead_to(old)
        client, backend = await it.pair(old)
        it.lead_to(new)
        old.close()
        await it.pair(new)
        it.listener.close()
        await client.say(b"still here")
        assert await backend.hear(10) == b"still here"
        with pytest.raises(ConnectionRefusedError):
            await it.connect()


async def test_too_many_are_reset_at_once_and_the_others_served() -> None:
    async with rig(max_connections=2) as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        one, two = await it.pair(endpoint), await it.pair(endpoint)
        for _ in range(3):
            assert await _is_reset(it)
        assert (it.stats.refused_limit, it.stats.active) == (3, 2)
        one[0].close()
        one[1].close()
        await it.until(lambda: len(it.path) == 1)
        three = await it.pair(endpoint)
        for client, backend in (two, three):
            await client.say(b"fine")
            assert await backend.hear(4) == b"fine"


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """Lets so many more descriptors be opened, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probes = [os.open("/dev/null", os.O_RDONLY) for _ in range(spare + 1)]
    for probe in probes:
        os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probes[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accepting_rests_when_descriptors_run_out_and_goes_on_by_itself() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        served = await it.pair(endpoint)
        sock = it.new_socket()
        with no_more_files():
            waiting = await it.connect(sock)  # the kernel answers; the proxy cannot yet
            await it.until(lambda: it.totals.accept_pauses >= 1)
            await served[0].say(b"meanwhile")
            assert await served[1].hear(9) == b"meanwhile"
        backend = await endpoint.accept()
        await waiting.say(b"patience")
        assert await backend.hear(8) == b"patience"


async def test_no_descriptor_for_the_endpoint() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        sock = it.new_socket()
        with no_more_files(spare=1):
            assert await _is_reset(it, sock)
        assert (it.stats.refused_limit, it.stats.active) == (1, 0)


async def test_drain_waits_and_then_resets() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        short, long = await it.pair(endpoint), await it.pair(endpoint)
        it.listener.close()
        draining = asyncio.get_running_loop().create_task(it.path.drain(20))
        await asyncio.sleep(0)
        assert not draining.done()
        for peer in (*short, *long):
            peer.close()
        await draining
        assert len(it.path) == 0


async def test_what_is_left_after_the_drain_is_reset() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        client, backend = await it.pair(endpoint)
        it.listener.close()
        await it.path.drain(0.001)
        it.path.close()
        for peer in (client, backend):
            with pytest.raises(ConnectionResetError):
                await peer.hear(1)


async def test_peers_that_vanish_or_take_nothing_are_noticed() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        await it.pair(endpoint)
        (connection,) = it.path
        assert isinstance(connection, Connection)
        connection.tune_to_last()
        relay = connection.relay
        assert relay is not None
        for sock in relay.sockets:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 300_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_churn_leaves_nothing_behind() -> None:
    """Thousands of connections that end in every way, in an order from a seed."""
    async with rig() as it:
        rng = random.Random(20)
        endpoints = [it.endpoint(), it.endpoint()]
        dead = it.endpoint()
        it.lead_to(*endpoints, dead)
        dead.close()
        servers = [asyncio.get_running_loop().create_task(_answer(endpoint, rng)) for endpoint in endpoints]
        before = len(os.listdir("/proc/self/fd"))
        outcomes = [0, 0]
        for _ in range(40):
            for outcome in await asyncio.gather(*(_visit(it, rng) for _ in range(50))):
                outcomes[outcome] += 1
        await it.until(lambda: len(it.path) == 0)
        for server in servers:
            server.cancel()
        await asyncio.gather(*servers, return_exceptions=True)
        await it.until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)  # a pipe may stay for the next bulk
        assert len(it.path.poller) == 1, "only the listener is watched"
        assert it.stats.active == 0
        assert it.stats.accepted == 2000
        assert outcomes[1] > 500, "many were answered in full"


async def _is_reset(it: Rig, sock: socket.socket | None = None) -> bool:
    """Connects and is reset; which of the two calls hears of it is a matter of luck."""
    try:
        client = await it.connect(sock)
        await client.hear(1)
    except ConnectionResetError:
        return True
    return False


async def _visit(it: Rig, rng: random.Random) -> bool:
    """One client: True if it got its answer."""
    peer = Peer(it.new_socket())
    way = rng.randrange(6)
    question = rng.randbytes(rng.choice((1, 100, 70_000)))
    try:
        await asyncio.get_running_loop().sock_connect(peer.sock, it.address)
        if way == 0:
            peer.break_off()
            return False
        await peer.say(question)
        if way == 1:
            peer.break_off()
            return False
        if way == 2:
            return False
        peer.end()
        if way == 3:
            peer.break_off()
            return False
        return await peer.hear_all() == question
    except ConnectionError:
        return False
    finally:
        peer.close()


async def _answer(endpoint: Endpoint, rng: random.Random) -> None:
    """Echoes to each client what it said, or breaks off now and then."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_echo(await endpoint.accept(), rng.randrange(10)))


async def _echo(peer: Peer, way: int) -> None:
    try:
        if way == 0:
            peer.break_off()
            return
        await peer.say(await peer.hear_all())
    except (ConnectionError, OSError):
        pass
    finally:
        peer.close()
