"""Watching what a node has left, and ending pods before it has nothing: the eviction loop.

A look every few seconds. What is too little, which pod goes, and what is said is decided in `node_agent.eviction`. One
pod at a time: the next look is taken when it is gone, since that may have been enough. A condition stays for a while
after the shortage, so that it does not come and go with every pod.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.actor.clock import Clock
from cluster.api.pods import MEMORY, amount, requests_of
from cluster.api.priorities import priority_of
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.eviction import (
    CONDITIONS,
    DISK_LEFT,
    FILES_LEFT,
    MEMORY_LEFT,
    PROCESSES_LEFT,
    Reading,
    Share,
    Threshold,
    message,
    met,
    victims,
)
from node_agent.node_object import STORAGE
from node_agent.pod_state import FailAsked
from node_agent.pod_worker import PodWorker
from node_agent.process_tree import proportional_bytes, resident_bytes
from node_agent.volumes import bytes_in
from node_agent.wishes import tell

log = get_logger("node_agent.pressure")


@dataclass(frozen=True, slots=True)
class Hands:
    """What the loop sees and does."""

    read: Callable[[], Mapping[str, Reading]]
    """What is left, by signal. Raises OSError."""
    shares: Callable[[str], list[Share]]
    """What each pod that runs has of what this signal measures."""
    evict: Callable[[str, str], Awaitable[None]]
    """Ends the pod of that uid, with that message."""
    is_gone: Callable[[str], bool]
    """Nothing of the pod of that uid runs any more."""
    on_conditions: Callable[[tuple[str, ...]], None]
    """These are the node's conditions now; called when they change."""


async def watch_pressure(
    thresholds: tuple[Threshold, ...], hands: Hands, *, clock: Clock, period_s: float, transition_s: float
) -> None:
    """Looks every `period_s` until it is cancelled; a condition ends `transition_s` after it was last true."""
    last_met: dict[str, float] = {}
    told: tuple[str, ...] = ()
    victim = ""
    while thresholds:
        try:
            readings = hands.read()
        except OSError as error:
            log.warning("cannot see what the node has left", error=str(error))
            readings = {}
        short = met(thresholds, readings)
        now = clock.monotonic()
        last_met |= {CONDITIONS[threshold.signal]: now for threshold in short}
        conditions = tuple(sorted(name for name, at in last_met.items() if now - at < transition_s or at == now))
        if conditions != told:
            told = conditions
            log.warning("node conditions changed", conditions=list(conditions))
            hands.on_conditions(conditions)
        if not victim or hands.is_gone(victim):
            victim = ""
            for threshold in short:
                ranked = victims(hands.shares(threshold.signal))
                if ranked:
                    victim = ranked[0].uid
                    await hands.evict(victim, message(threshold, readings[threshold.signal], ranked[0]))
                    break
        await clock.sleep(period_s)


def hands_of(
    directory: Path,
    memory_bytes: int,
    workers: Mapping[str, PodWorker],
    on_conditions: Callable[[tuple[str, ...]], None],
) -> Hands:
    """Those of a node with this directory, so much memory and these pods, by uid."""

    async def evict(uid: str, text: str) -> None:
        await tell(workers[uid].ref, FailAsked("Evicted", text, 0.0))

    def is_gone(uid: str) -> bool:
        return uid not in workers or workers[uid].runs_nothing

    return Hands(
        read=lambda: read_node(directory, memory_bytes, lambda: memory_of(workers.values(), memory_bytes // 2)),
        shares=lambda signal: shares_of(workers.values(), signal),
        evict=evict,
        is_gone=is_gone,
        on_conditions=on_conditions,
    )


def shares_of(workers: Iterable[PodWorker], signal: str) -> list[Share]:
    """What each pod that runs has of what a signal measures. Memory that processes have in common is shared out."""
    return [
        _share_of(worker, signal)
        for worker in workers
        if worker.holds_resources and worker.state.failed is None and worker.state.stop is None
    ]


def _share_of(worker: PodWorker, signal: str) -> Share:
    pod = worker.pod
    priority = priority_of(pod)
    if signal == MEMORY_LEFT:
        wanted = {each.name: _asked(each, MEMORY) for each in (*pod.spec.initContainers, *pod.spec.containers)}
        each = tuple((name, proportional_bytes(pids), wanted[name]) for name, pids in worker.processes())
        return Share(worker.uid, sum(used for _, used, _ in each), requests_of(pod).get(MEMORY, 0), each, priority)
    if signal == PROCESSES_LEFT:
        return Share(worker.uid, sum(len(pids) for _, pids in worker.processes()), 0, priority=priority)
    if signal == FILES_LEFT:
        files = sum(len(files) for _, _, files in os.walk(worker.pod_dir))
        return Share(worker.uid, files, 0, priority=priority)
    return Share(worker.uid, bytes_in(worker.pod_dir), requests_of(pod).get(STORAGE, 0), priority=priority)


def _asked(container: core.Container, resource: str) -> int:
    requests, limits = container.resources.requests, container.resources.limits
    found = requests.get(resource) or limits.get(resource)
    return amount(resource, found) if found is not None else 0


def memory_of(workers: Iterable[PodWorker], enough: int) -> int:
    """What all pods hold. What processes have in common is counted for each of them unless that makes it more than
    `enough`: the exact sum costs a hundred times as much."""
    pids = [pid for worker in workers for _, found in worker.processes() for pid in found]
    held = resident_bytes(pids)
    return held if held <= enough else proportional_bytes(pids)


def read_node(directory: Path, memory_bytes: int, used_bytes: Callable[[], int]) -> dict[str, Reading]:
    """What the machine has left; of memory, if the node has been given so much of it and not all, what its pods leave
    of that. Raises OSError."""
    memory = psutil.virtual_memory()
    left, whole = memory.available, memory.total
    if memory_bytes < whole:
        left, whole = min(left, memory_bytes - used_bytes()), memory_bytes
    disk = os.statvfs(directory)
    readings = {
        MEMORY_LEFT: Reading(left, whole),
        DISK_LEFT: Reading(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize),
    }
    if disk.f_files:  # some file systems have no limit
        readings[FILES_LEFT] = Reading(disk.f_favail, disk.f_files)
    most = min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max"))
    running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    readings[PROCESSES_LEFT] = Reading(most - running, most)
    return readings
