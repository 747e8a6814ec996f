"""The proxy that misbehaves does what it is told, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.kit.chaos_proxy import ChaosProxy

pytestmark = pytest.mark.usefixtures("no_leaks")

DEADLINE_S = 30.0


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[ChaosProxy]:
    """In front of a server that sends back what it gets."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with ChaosProxy(server.sockets[0].getsockname()) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


class Line:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, proxy: ChaosProxy) -> Line:
        host, _, port = proxy.address.partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def echo(self, text: bytes) -> bytes:
        self.writer.write(text)
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readexactly(len(text))

    def close(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def line(proxy: ChaosProxy) -> AsyncIterator[Line]:
    line = await Line.open(proxy)
    yield line
    line.close()


async def test_it_passes_everything_on(proxy: ChaosProxy, line: Line) -> None:
    text = bytes(range(256)) * 4000
    assert await line.echo(text) == text
    assert (proxy.accepted, proxy.connections) == (1, 1)
    assert proxy.up.passed_bytes == proxy.down.passed_bytes == proxy.up.heard_bytes == len(text)
    proxy.up.delay_s = proxy.down.delay_s = 0.01
    proxy.down.rate_bytes_per_s = 1_000_000
    assert await line.echo(b"slowly" * 1000) == b"slowly" * 1000


async def test_what_is_held_arrives_when_it_is_released(proxy: ChaosProxy, line: Line) -> None:
    await line.echo(b"1")
    proxy.down.hold()
    echo = asyncio.ensure_future(line.echo(b"2"))
    async with asyncio.timeout(DEADLINE_S):
        while proxy.down.heard_bytes < 2:  # the answer is there, and does not get through
            await asyncio.sleep(0.005)
    assert proxy.down.passed_bytes == 1
    assert not echo.done()
    proxy.down.release()
    assert await echo == b"2"


async def test_what_is_held_does_not_pile_up(proxy: ChaosProxy, line: Line) -> None:
    proxy.up.hold()
    line.writer.write(b"x" * 50_000_000)
    before = -1
    async with asyncio.timeout(DEADLINE_S):
        while proxy.up.heard_bytes != before or before == 0:  # until it takes no more
            before = proxy.up.heard_bytes
            await asyncio.sleep(0.1)
    assert before < 20_000_000


@pytest.mark.parametrize("politely", [True, False])
async def test_all_connections_are_ended(proxy: ChaosProxy, politely: bool) -> None:
    lines = [await Line.open(proxy) for _ in range(3)]
    for line in lines:
        await line.echo(b"1")
    if politely:
        proxy.cut()
    else:
        proxy.reset()
    for line in lines:
        async with asyncio.timeout(DEADLINE_S):
            if politely:
                assert await line.reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await line.reader.read()
        line.close()
    assert proxy.accepted == 3
    async with asyncio.timeout(DEADLINE_S):
        while proxy.connections:
            await asyncio.sleep(0.005)


async def test_a_connection_is_cut_after_some_bytes(proxy: ChaosProxy, line: Line) -> None:
    assert await line.echo(b"12345") == b"12345"
    proxy.up.cut_after(3)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await line.echo(b"67890")
    assert proxy.up.passed_bytes == 8
    again = await Line.open(proxy)
    assert await again.echo(b"1234567890") == b"1234567890"
    again.close()


async def test_new_connections_are_refused_and_accepted_again(proxy: ChaosProxy, line: Line) -> None:
    await line.echo(b"1")
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Line.open(proxy)
    assert await line.echo(b"2") == b"2"
    await proxy.accept()
    again = await Line.open(proxy)
    assert await again.echo(b"3") == b"3"
    again.close()


async def test_a_target_that_is_not_there() -> None:
    async with ChaosProxy(("127.0.0.1", 1)) as proxy:
        line = await Line.open(proxy)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await line.echo(b"1")
        line.close()
