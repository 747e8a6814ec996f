"""Who was heard of lately: soft state, in memory only, handed on in batches.

A heartbeat is not written to the log: five hundred nodes that say twice a second that they are alive would be a
thousand revisions a second that change nothing. The node lifecycle controller watches heartbeats here and writes what
follows from them (a condition, a taint), when something does.

A reader gets, at first, the latest heartbeat of every node ever heard of; then, at most every `batch_s`, the latest of
each node heard of since; and an empty batch as a sign of life when there was nothing for a while. A reader who is slow
gets fewer, newer heartbeats: only the latest matters. Per reader, that is a set of names, at most one per node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire


class Heartbeats:
    """The latest heartbeat of each node, and its readers."""

    def __init__(self, clock: Clock, *, batch_s: float, sign_of_life_s: float, store_id: Callable[[], str]) -> None:
        """Readers are told at most every `batch_s`, and left in silence for at most one and a half `sign_of_life_s`."""
        self._clock = clock
        self._batch_s = batch_s
        self._sign_of_life_s = sign_of_life_s
        self._store_id = store_id
        self._latest: dict[str, wire.NodeHeartbeat] = {}
        self._readers: set[_Reader] = set()
        self._tasks = Tasks("heartbeats")
        self._flushing = False
        self._stopping = False

    async def start(self) -> None:
        """Begins to give signs of life."""
        self._tasks.spawn(self._give_signs_of_life(), name="heartbeats.signs-of-life")

    async def stop(self) -> None:
        """Ends all readers with Unavailable. Twice is fine."""
        self._stopping = True
        for reader in self._readers:
            reader.wake.set()
        await self._tasks.cancel_all()

    def end(self, error: ApiError) -> None:
        """Ends all readers with this error, and forgets what was heard: another master hears it now."""
        self._latest.clear()
        for reader in self._readers:
            reader.ended = error
            reader.wake.set()

    def beat(self, heartbeat: wire.NodeHeartbeat) -> None:
        """A node is alive."""
        mine = wire.NodeHeartbeat()
        mine.CopyFrom(heartbeat)
        self._latest[heartbeat.node] = mine
        for reader in self._readers:
            reader.heard_of.add(heartbeat.node)
        if self._readers and not self._flushing:
            self._flushing = True
            self._tasks.spawn(self._flush(), name="heartbeats.flush")

    def forget(self, node: str) -> None:
        """The node is no longer part of the cluster."""
        self._latest.pop(node, None)

    async def watch(self) -> AsyncGenerator[wire.HeartbeatBatch, None]:
        """Batches for one reader; see the head of this file. Ends by raising Unavailable."""
        reader = _Reader(set(self._latest))
        self._readers.add(reader)
        try:
            first = True
            while True:
                if reader.ended is not None:
                    raise reader.ended
                if self._stopping:
                    raise Unavailable("the master is stopping")
                reader.wake.clear()
                names, reader.heard_of = reader.heard_of, set()
                batch = wire.HeartbeatBatch(
                    heartbeats=[self._latest[name] for name in sorted(names) if name in self._latest]
                )
                if first:
                    batch.store_id = self._store_id()
                    first = False
                reader.told_at_s = self._clock.monotonic()
                yield batch
                await reader.wake.wait()
        finally:
            self._readers.discard(reader)

    async def _flush(self) -> None:
        await self._clock.sleep(self._batch_s)
        self._flushing = False
        for reader in self._readers:
            if reader.heard_of:
                reader.wake.set()

    async def _give_signs_of_life(self) -> None:
        while True:
            await self._clock.sleep(self._sign_of_life_s / 2)
            now = self._clock.monotonic()
            for reader in self._readers:
                if now - reader.told_at_s >= self._sign_of_life_s:
                    reader.wake.set()


class _Reader:
    """What one reader has not been told."""

    __slots__ = ("ended", "heard_of", "told_at_s", "wake")

    def __init__(self, heard_of: set[str]) -> None:
        self.heard_of = heard_of
        self.told_at_s = float("-inf")
        self.ended: ApiError | None = None
        self.wake = asyncio.Event()
