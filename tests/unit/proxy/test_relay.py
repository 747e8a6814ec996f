"""What one side does is what the other side sees: real sockets, every step by hand."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct

import pytest

from proxy import relay
from proxy.pipes import PipePool
from tests.unit.proxy.rig import Peer, relayed, rig


async def test_bytes_go_both_ways_and_are_counted() -> None:
    async with relayed() as (it, client, backend):
        await client.say(b"ping")
        assert await backend.hear(4) == b"ping"
        await backend.say(b"pong!")
        assert await client.hear(5) == b"pong!"
        assert (it.stats.accepted, it.stats.active) == (1, 1)
        assert (it.stats.bytes_to_endpoints, it.stats.bytes_to_clients) == (4, 5)


async def test_the_client_ends_first_and_still_gets_its_answer() -> None:
    async with relayed() as (it, client, backend):
        await client.say(b"question")
        client.end()
        assert await backend.hear_all() == b"question"
        await backend.say(b"answer")
        backend.close()
        assert await client.hear_all() == b"answer"
        await it.until(lambda: len(it.path) == 0)
        assert (it.stats.active, it.stats.resets) == (0, 0)


async def test_the_endpoint_ends_first_and_still_hears() -> None:
    async with relayed() as (it, client, backend):
        await backend.say(b"greeting")
        backend.end()
        assert await client.hear_all() == b"greeting"
        await client.say(b"late words")
        client.close()
        assert await backend.hear_all() == b"late words"
        await it.until(lambda: len(it.path) == 0)
        assert it.stats.resets == 0


async def test_an_end_that_comes_with_the_last_bytes_is_passed_on_with_them() -> None:
    async with relayed() as (it, client, backend):
        await it.until(lambda: it.stats.active == 1)
        before = segments_heard(client)
        backend.sock.send(b"answer")
        backend.close()  # both are there before the proxy has its turn
        assert await client.hear_all() == b"answer"
        assert segments_heard(client) == before + 1


def segments_heard(peer: Peer) -> int:
    """Packets that came, as the kernel counts them: tcpi_segs_in of struct tcp_info."""
    info = peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("I", info, 140)[0])


async def test_a_reset_by_the_client_reaches_the_endpoint() -> None:
    async with relayed() as (it, client, backend):
        client.break_off()
        with pytest.raises(ConnectionResetError):
            await backend.hear_all()
        assert (it.stats.active, it.stats.resets) == (0, 1)


async def test_a_reset_by_the_endpoint_reaches_the_client() -> None:
    async with relayed() as (it, client, backend):
        await client.say(b"x")
        await backend.hear(1)
        backend.break_off()
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert (it.stats.active, it.stats.resets) == (0, 1)


async def test_a_client_that_ended_and_then_breaks_off() -> None:
    async with relayed() as (it, client, backend):
        client.end()
        assert await backend.hear_all() == b""
        client.break_off()
        await it.until(lambda: len(it.path) == 0)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await backend.say(b"anybody there?")


async def test_a_client_that_breaks_off_while_the_endpoint_does_not_read() -> None:
    async with relayed() as (it, client, _):
        quiet = 0
        while quiet < 50:
            quiet = 0 if client.fill() else quiet + 1
            await asyncio.sleep(0)
        client.break_off()
        await it.until(lambda: len(it.path) == 0)
        assert it.stats.resets == 1


async def test_a_slow_reader_slows_its_writer_down() -> None:
    async with rig() as it:
        endpoint = it.endpoint(receive_buffer_bytes=1 << 14)
        it.lead_to(endpoint)
        client, backend = await it.pair(endpoint)
        said = quiet = 0
        while quiet < 50:  # until nothing is taken any more
            taken = client.fill()
            said, quiet = said + taken, 0 if taken else quiet + 1
            await asyncio.sleep(0)
        stalled_at = it.stats.bytes_to_endpoints
        assert stalled_at < said, "some of it is still in the client's own kernel buffers"
        heard = len(await backend.hear(said))
        assert heard == said == it.stats.bytes_to_endpoints


@pytest.mark.parametrize("pipes", [0, 32], ids=["copied", "spliced"])
async def test_bulk_in_both_directions_at_once_arrives_as_it_was_said(pipes: int) -> None:
    async with rig() as it:
        it.path.pipes = PipePool(pipes)
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        client, backend = await it.pair(endpoint)
        words = random.Random(7).randbytes(8_000_003)

        async def talk(peer: Peer, data: bytes) -> None:
            await peer.say(data)
            peer.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(talk(client, words))
            group.create_task(talk(backend, words[::-1]))
            up = group.create_task(backend.hear_all())
            down = group.create_task(client.hear_all())
        assert hashlib.sha256(up.result()).digest() == hashlib.sha256(words).digest()
        assert hashlib.sha256(down.result()).digest() == hashlib.sha256(words[::-1]).digest()
        await it.until(lambda: len(it.path) == 0)
        assert it.stats.bytes_to_endpoints == it.stats.bytes_to_clients == len(words)


async def test_pipes_come_back_when_the_bulk_is_over() -> None:
    async with rig() as it:
        pool = it.path.pipes = PipePool(1)
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        client, backend = await it.pair(endpoint)
        talking = asyncio.gather(client.say(bytes(4_000_000)), backend.hear(4_000_000))
        await talking
        await it.until(lambda: it.stats.bytes_to_endpoints == 4_000_000)
        client.end()
        assert await backend.hear_all() == b""
        pipe = pool.take()
        assert pipe is not None
        pool.give_back(pipe, empty=True)


async def test_a_pipe_with_something_in_it_is_not_used_again() -> None:
    pool = PipePool(1)
    pipe = pool.take()
    assert pipe is not None
    assert pool.take() is None
    pool.give_back(pipe, empty=False)
    other = pool.take()
    assert other is not None
    pool.give_back(other, empty=True)
    pool.close()


async def test_many_flows_share_one_buffer_without_mixing() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        pairs = [await it.pair(endpoint) for _ in range(20)]
        for round_ in range(5):
            for number, (client, _) in enumerate(pairs):
                await client.say(b"%d-%d." % (number, round_))
            for number, (_, backend) in enumerate(pairs):
                expected = b"%d-%d." % (number, round_)
                assert await backend.hear(len(expected)) == expected
        assert len(relay._buffer) == relay.BUFFER_BYTES
