"""Messages with sockets between two processes, seen from one."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from proxy import wire
from proxy.policies import Target
from proxy.routing import Route
from proxy.wire import Wire
from tests.unit.proxy.rig import DEADLINE_S, KEY


class End:
    """One end of a wire, and what it has heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[Any] = []
        self.sockets: list[socket.socket] = []
        self.is_over = asyncio.Event()
        self.wire = Wire(sock, self._hear, self.is_over.set)

    def _hear(self, message: Any, sockets: list[socket.socket]) -> None:
        self.heard.append(message)
        self.sockets += sockets

    async def until(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.heard) < count:
                await asyncio.sleep(0)


async def test_messages_arrive_whole_and_in_order_with_their_sockets() -> None:
    one, two = (End(sock) for sock in socket.socketpair())
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    route = Route(KEY, Target(*address), tuple(Target(f"127.0.{n}.1", 80) for n in range(200)))
    one.wire.send(route, [listening, listening.dup()])
    big = os.urandom(3_000_000)  # more than the kernel takes at once
    one.wire.send(big)
    one.wire.send("last", [socket.socket()])
    two.wire.send("answer")
    await two.until(3)
    await one.until(1)
    assert two.heard == [route, big, "last"]
    assert one.heard == ["answer"]
    assert [sock.getsockname() for sock in two.sockets[:2]] == [address, address]
    assert len(two.sockets) == 3
    assert listening.fileno() == -1, "the sender has no copy any more"
    for sock in two.sockets:
        sock.close()
    one.wire.close()
    async with asyncio.timeout(DEADLINE_S):
        await two.is_over.wait()
    assert not one.is_over.is_set()


async def test_who_takes_nothing_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 1_000_000)
    mine, theirs = socket.socketpair()
    one = End(mine)
    extra = socket.socket()
    for _ in range(4):
        one.wire.send(bytes(400_000))
    one.wire.send("too late", [extra])
    assert one.is_over.is_set()
    assert extra.fileno() == -1
    theirs.close()
