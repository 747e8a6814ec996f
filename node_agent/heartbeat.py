"""Signs of life: what the node uses, sent at a steady pace, whatever else goes on.

A heartbeat is soft state at the master and shares nothing with the writes of statuses: neither a slow disk there nor a
crowd of pods here holds it up. Usage is that of the machine as psutil sees it (agents that share a machine report the
same), but the number of pods is the node's own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError
from cluster.api.pods import CPU, MEMORY, PODS
from cluster.api.quantities import format_bytes, format_milli
from cluster.client.interface import ClusterClient, HeartbeatLine
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.telemetry.log import get_logger
from node_agent.node_object import STORAGE

SAMPLE_INTERVAL_S = 1.0
"""Shortest time between two looks at the machine: a look costs 0.2 ms, and averages over less say little."""

log = get_logger("node_agent.heartbeat")


class Usage:
    """What the machine uses, looked at no more often than once a second."""

    def __init__(self, clock: Clock, directory: Path) -> None:
        self._clock, self._directory = clock, directory
        self._sampled_at = float("-inf")
        self._busy_s, self._total_s = self._cpu_times()
        self._cpu_milli = self._memory_bytes = self._disk_bytes = 0

    def sample(self, pods: int) -> dict[str, str]:
        """Amounts in use now, as quantities; cpu is the average since the sample before."""
        now = self._clock.monotonic()
        if now - self._sampled_at >= SAMPLE_INTERVAL_S:
            self._sampled_at = now
            busy_s, total_s = self._cpu_times()
            if total_s > self._total_s:
                share = (busy_s - self._busy_s) / (total_s - self._total_s)
                self._cpu_milli = max(0, round(share * 1000 * (os.cpu_count() or 1)))
            self._busy_s, self._total_s = busy_s, total_s
            memory = psutil.virtual_memory()
            self._memory_bytes = memory.total - memory.available
            disk = os.statvfs(self._directory)
            self._disk_bytes = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        return {
            CPU: format_milli(self._cpu_milli),
            MEMORY: format_bytes(self._memory_bytes),
            STORAGE: format_bytes(self._disk_bytes),
            PODS: str(pods),
        }

    @staticmethod
    def _cpu_times() -> tuple[float, float]:
        times = psutil.cpu_times()
        total_s = sum(times)
        return total_s - times.idle - getattr(times, "iowait", 0.0), total_s


def make_heartbeat(node: str, sequence: int, usage: Mapping[str, str]) -> wire.NodeHeartbeat:
    """What a node says of itself, the sequence-th time."""
    beat = wire.NodeHeartbeat(node=node, sequence=sequence)
    for resource, used in usage.items():
        beat.usage[resource].string = used
    return beat


class Heart:
    """Beats until it is stopped, for one node or for several."""

    def __init__(
        self,
        client: ClusterClient,
        *,
        clock: Clock,
        interval_s: float,
        beats: Callable[[int], Sequence[wire.NodeHeartbeat]],
        on_unknown: Callable[[Sequence[str]], Awaitable[None]],
        heard_at_s: float,
        delay_s: float = 0.0,
    ) -> None:
        """`beats` says what to send the n-th time, from 1; `on_unknown` is awaited with those of its nodes that the
        master does not know. `heard_at_s`: when an earlier life of this process heard of the master, monotonic. The
        first beat comes after `delay_s`."""
        self._client, self._clock, self._interval_s = client, clock, interval_s
        self._beats, self._on_unknown, self._delay_s = beats, on_unknown, delay_s
        self.heard_at_s = heard_at_s
        """When the master answered last, monotonic."""
        self._sequence = 0
        self._failures = 0
        self._next_s = clock.monotonic()
        self._tasks = Tasks("heart")

    async def start(self) -> None:
        """Begins to beat."""
        self._next_s = self._clock.monotonic() + self._delay_s
        self._tasks.spawn(self._beat_forever(), name="heartbeat")

    async def stop(self) -> None:
        """Ends. Twice is fine."""
        await self._tasks.cancel_all()

    async def _beat_forever(self) -> None:
        if self._delay_s:
            await self._clock.sleep(self._delay_s)
        while True:
            try:
                async with self._client.heartbeats() as line:
                    while True:
                        await self._beat(line)
                        await self._pause()
            except ApiError as error:
                self._failures += 1
                if self._failures in (1, 10) or self._failures % 100 == 0:
                    log.warning("heartbeat failed", failures=self._failures, error=str(error))
            await self._pause()

    async def _beat(self, line: HeartbeatLine) -> None:
        self._sequence += 1
        unknown = await line.beat(self._beats(self._sequence), timeout_s=max(1.0, self._interval_s))
        self.heard_at_s = self._clock.monotonic()
        if self._failures:
            log.info("heartbeats reach the master again", failures=self._failures)
            self._failures = 0
        if unknown:
            await self._on_unknown(unknown)

    async def _pause(self) -> None:
        # A steady pace; but after a pause (a suspended machine) no burst to make up for it.
        now = self._clock.monotonic()
        self._next_s = max(self._next_s + self._interval_s, now)
        await self._clock.sleep(self._next_s - now)
