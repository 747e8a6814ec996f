"""Several masters in this process, on one log and one virtual clock; who follows calls who leads without a wire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from cluster.api.errors import Unavailable
from cluster.master.server import Master
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.rpc.servicer import FORWARDED
from tests.kit.clock import VirtualClock
from tests.kit.shared_journal import SharedJournal, SharedLog
from tests.unit.master.rig import Rig, settings

M = TypeVar("M")


class Several:
    """Masters "m0:1", "m1:1" ..."""

    def __init__(self, count: int, **changes: object) -> None:
        self.clock = VirtualClock()
        self.log = SharedLog("store")
        self.failures: list[BaseException] = []
        self.peers: list[LocalPeer] = []
        self.journals = [SharedJournal(self.log) for _ in range(count)]
        self.masters = [
            Master(
                settings(**changes),
                journal,
                clock=self.clock,
                rng=random.Random(number),
                on_failure=self.failures.append,
                connect=self.connect,
            )
            for number, journal in enumerate(self.journals)
        ]
        self.rigs = [Rig(master, self.clock) for master in self.masters]

    def connect(self, address: str) -> LocalPeer:
        peer = LocalPeer(self.masters[int(address[1])])
        self.peers.append(peer)
        return peer

    @property
    def leaders(self) -> list[int]:
        return [number for number, master in enumerate(self.masters) if master.leadership.leads]

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


@asynccontextmanager
async def several(count: int = 2, **changes: object) -> AsyncIterator[Several]:
    made = Several(count, **changes)
    for number, master in enumerate(made.masters):
        await master.start(f"m{number}:1")
    await made.settle()
    try:
        yield made
    finally:
        for journal in made.journals:
            journal.holding.set()
            journal.following.set()
        for master in made.masters:
            await master.stop()
        assert made.failures == []


class LocalPeer:
    """See forwarding.Peer."""

    def __init__(self, master: Master) -> None:
        self._api = master.api
        self.closed = asyncio.Event()
        self.calls = 0

    async def write(self, identity: Identity, request: wire.WriteRequest) -> bytes:
        self.calls += 1
        token = FORWARDED.set(True)
        try:
            return await self._api.write(identity, request)
        finally:
            FORWARDED.reset(token)

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        token = FORWARDED.set(True)
        try:
            return await self._api.undo(identity, request)
        finally:
            FORWARDED.reset(token)

    def write_stream(self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]) -> AsyncGenerator[bytes, None]:
        return self._stream(lambda: self._api.write_stream(identity, requests))

    def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncGenerator[wire.HeartbeatResponse, None]:
        return self._stream(lambda: self._api.heartbeat(identity, requests))

    def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncGenerator[wire.HeartbeatBatch, None]:
        return self._stream(lambda: self._api.watch_heartbeats(identity, request))

    async def close(self) -> None:
        self.closed.set()

    async def _stream(self, make: Callable[[], AsyncGenerator[M, None]]) -> AsyncGenerator[M, None]:
        messages = make()
        try:
            while True:
                token = FORWARDED.set(True)
                try:
                    coming = asyncio.ensure_future(anext(messages))  # in a copy of this context
                finally:
                    FORWARDED.reset(token)
                closed = asyncio.ensure_future(self.closed.wait())
                await asyncio.wait({coming, closed}, return_when=asyncio.FIRST_COMPLETED)
                closed.cancel()
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    raise Unavailable("another master leads now, or nobody")
                try:
                    yield coming.result()
                except StopAsyncIteration:
                    return
        finally:
            await messages.aclose()
