"""What the processes of pods use: two looks at /proc, half a second apart, when somebody asks.

Nothing is sampled when nobody asks. A container's processes are those of its control groups, if it has any, and all
that descend from its first one. A process that ends between the two looks counts no processor time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node_agent.process_tree import resident_bytes

LOOK_S = 0.5
"""Between the two looks."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Used:
    """What a container uses."""

    cpu_cores: float
    memory_bytes: int
    processes: int


def cpu_times(pids: Iterable[int]) -> dict[int, float]:
    """Processor time of each process until now, in seconds; without those that are gone."""
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                text = file.read()
        except OSError:
            continue
        fields = text[text.rindex(b")") + 2 :].split()
        found[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return found


def used(before: Mapping[int, float], pids: Iterable[int], passed_s: float) -> Used:
    """What these processes use, given their processor times so many seconds ago."""
    pids = list(pids)
    now = cpu_times(pids)
    spent_s = sum(time_s - before.get(pid, 0.0) for pid, time_s in now.items())  # one that is new has used all of its
    return Used(spent_s / passed_s, resident_bytes(pids), len(now))
