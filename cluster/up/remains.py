"""The end of a cluster whose supervisor died before it could end it.

The daemons notice by their lifelines and stop by themselves, their pods with them; so they get a while for it. Whatever
is still there then is killed: the daemons that `cluster.json` names, and all that descended from them when we came.
Processes are compared with their start times, since pids are used again.
"""

from __future__ import annotations

import time

import psutil

from cluster.actor.clock import Clock
from cluster.up.layout import ClusterState

PATIENCE_S = 5.0
"""How long they may take to end by themselves."""
KILL_LIMIT_S = 3.0
"""How long killed processes may take to be gone."""


def end_remains(state: ClusterState, clock: Clock, *, now: bool = False) -> list[psutil.Process]:
    """Waits for the end of all that is left of the cluster, kills it in the end, or at once if `now`.

    Returns the processes that withstood.
    """
    left = _family(state)
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


def _family(state: ClusterState) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for entry in state.processes:
        if not entry.is_alive():
            continue
        try:
            process = psutil.Process(entry.pid)
            found |= {one.pid: one for one in (process, *process.children(recursive=True))}
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
