"""What a spawner that was killed left behind: found and ended by the next one, before it does anything else.

Nobody holds the output of such processes any more, and nobody would see their end, so they are killed, and their runs
are reported as lost. They are not our children: a leader is found by pid and start time, all others by the control
groups of the run, or by its marker in their environment. What SIGKILL does not end at once (an uninterruptible wait) is
looked after by the new spawner until it is gone: until then its run is not over.

Standard library only: the spawner loads this file.
"""

from __future__ import annotations

import os
import time

from node_agent import process_tree as tree
from node_agent.cgroup_files import kill_all_in, pids_in
from node_agent.spawner_records import MARKER, Records

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PAUSE_S = 0.002
"""Between two looks."""
LOST_CODE, LOST_SIGNAL = 137, 9
"""Kubernetes' exit code for a container of which nobody knows how it ended."""


def end_left_behind(records: Records, boot: str, limit_s: float) -> dict[str, dict[int, int]]:
    """Kills what there is of the runs that the records know no end of, and notes their ends as lost.

    Returns what still lives `limit_s` after it was killed, by run: pid and start time. Those runs have no end yet. To
    be called before this process confines itself: afterwards it can signal nobody but its own.
    """
    left = {id: entry for id, entry in records.runs.items() if "end" not in entry}
    here = {id: entry for id, entry in left.items() if entry["boot"] == boot}
    deadline = float("inf")
    found: dict[str, dict[int, int]] = {}
    while here and (found := _left_of(here)) and _now() < deadline:
        for id, processes in found.items():
            kill_all_in(here[id].get("cgroups", ()))
            tree.kill_all(processes, os.getsid(0))
        deadline = min(deadline, _now() + limit_s)  # from the first kill: on a busy machine, looking takes its time
        time.sleep(PAUSE_S)
    for id in left:
        if id not in found:
            at = time.time()  # noqa: TID251  (no Clock here, as in the spawner)
            how = {"code": LOST_CODE, "signal": LOST_SIGNAL, "at": at, "mono": _now(), "tail": "", "usage": {}}
            records.ended(id, **how, lost=True)
    return found


def _left_of(runs: Mapping[str, dict[str, Any]]) -> dict[str, dict[int, int]]:
    """What lives of each run, if anything does, with what descends from it."""
    roots: dict[str, list[int]] = {id: pids_in(entry.get("cgroups", ())) for id, entry in runs.items()}
    for id, entry in runs.items():
        if tree.start_ticks_of(entry["pid"]) == entry["ticks"]:
            roots[id].append(entry["pid"])
    for name in os.listdir("/proc"):
        if name.isdigit() and (id := tree.environ_value(int(name), MARKER)) in roots:
            roots[id].append(int(name))
    found = {id: tree.living(tree.descendants_of(pids)) for id, pids in roots.items()}
    return {id: processes for id, processes in found.items() if processes}


def _now() -> float:
    return time.monotonic()  # noqa: TID251
