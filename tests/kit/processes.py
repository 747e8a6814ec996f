"""Which processes a test has brought about, and whether they are gone.

A pid alone names nothing, for pids are used again: a process is its pid together with its start time. Two ways to find
processes: by descent, for as long as their parents live; and by a word in their command line, which no amount of
forking, setsid and dying parents can hide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Proc:
    """One process, now and later."""

    pid: int
    started: float
    """Seconds since 1970, as psutil has it."""
    title: str = ""

    def is_alive(self) -> bool:
        """This very process runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def family(*pids: int) -> set[Proc]:
    """These processes and all their descendants."""
    found: set[Proc] = set()
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found |= {proc for one in (process, *process.children(recursive=True)) if (proc := _proc(one))}
        except psutil.NoSuchProcess:
            continue
    return found


def mentioning(*words: str) -> set[Proc]:
    """All processes of this machine whose command line contains one of the words."""
    everyone = (proc for process in psutil.process_iter() if (proc := _proc(process)))
    return {proc for proc in everyone if any(word in proc.title for word in words)}


def alive(processes: Iterable[Proc]) -> list[Proc]:
    """Those that still run, sorted by pid."""
    return sorted((process for process in processes if process.is_alive()), key=lambda process: process.pid)


def _proc(process: psutil.Process) -> Proc | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Proc(process.pid, process.create_time(), " ".join(process.cmdline()))
    except psutil.NoSuchProcess:
        return None
