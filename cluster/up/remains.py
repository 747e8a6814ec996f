"""The end of a cluster whose supervisor died before it could end it.

The daemons notice by their lifelines and stop by themselves, in the lifetime "dev" their pods with them; so they get a
while for it. Whatever is still there then is killed: the daemons that `cluster.json` names, the spawners, and all that
descended from them when we came.
Processes are compared with their start times, since pids are used again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from cluster.actor.clock import Clock
from cluster.up.layout import ClusterDir, ClusterState, Process
from cluster.up.spawners import end_spawners, family_of, spawners_of

PATIENCE_S = 5.0
"""How long they may take to end by themselves."""
KILL_LIMIT_S = 3.0
"""How long killed processes may take to be gone."""


def end_remains(
    directory: ClusterDir, state: ClusterState, clock: Clock, *, now: bool = False, pods: bool = True
) -> list[psutil.Process]:
    """Waits for the end of all that is left of the cluster, kills it in the end, or at once if `now`.

    Without `pods`, these and what owns them are left alone. Returns the processes that withstood.
    """
    spawners = spawners_of(directory)
    if not pods:
        left = _family(state.processes, {process.pid for each in spawners for process in family_of(each)})
    else:
        left = _family([*state.processes, *spawners], set())
        if state.lifetime == "service":
            end_spawners(spawners, clock, now=now)
    kill_at_s = clock.monotonic() + (0.0 if now else PATIENCE_S)
    killed = False
    while left := [process for process in left if _runs(process)]:
        if clock.monotonic() >= kill_at_s + KILL_LIMIT_S:
            break
        if not killed and clock.monotonic() >= kill_at_s:
            killed = True
            for process in left:
                _kill(process)
        time.sleep(0.02)
    return left


def _family(processes: Iterable[Process], but: set[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for entry in processes:
        if not entry.is_alive():
            continue
        try:
            process = psutil.Process(entry.pid)
            family = (process, *process.children(recursive=True))
            found |= {one.pid: one for one in family if one.pid not in but}
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def _runs(process: psutil.Process) -> bool:
    """`is_running` compares start times; a zombie is as good as gone."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
