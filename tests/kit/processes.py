"""Which processes a test has brought about, and whether they are gone.

A pid alone names nothing, for pids are used again: a process is its pid together with its start time. Two ways to find
processes: by descent, for as long as their parents live; and by a word in their command line, which no amount of
forking, setsid and dying parents can hide. And how much memory one has taken, as the kernel notes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


class MemoryPeak:
    """The most memory that a process has held since this was made: noted by the kernel, whenever one looks."""

    def __init__(self, pid: int) -> None:
        self._directory = Path(f"/proc/{pid}")
        try:
            (self._directory / "clear_refs").write_text("5")  # the peak is from now on
        except OSError:
            pass  # then it is that of its whole life, before and after
        self._before = self._peak_bytes()

    @property
    def growth_bytes(self) -> int:
        """By how much it is more than what the process held then."""
        return self._peak_bytes() - self._before

    def _peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._directory / "status").read_text())
        assert found is not None, f"{self._directory} says nothing of its memory"
        return int(found[1]) << 10
