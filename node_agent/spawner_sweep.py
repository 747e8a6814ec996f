"""Ending trees: whatever belongs to a run that is to end is killed, looked for again, and named if it does not die.

A process belongs to a run if it is in one of the run's control groups or descends from its leader; or, adopted by the
spawner because that is a child-subreaper, if it is in the leader's session, carries the run's marker in its
environment, or writes to the run's pipe. A run is over when nothing of that is left, however long that takes: what is
in an uninterruptible wait, and still lives after LIMIT_S, is named, and looked after until it is gone.

Standard library only: the spawner loads this file.
"""

from __future__ import annotations

import os
import signal

from node_agent import process_tree as tree
from node_agent.cgroup_files import kill_all_in, pids_in
from node_agent.spawner_records import MARKER
from node_agent.spawner_runs import Run, now

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LIMIT_S = 5.0
"""What of a tree has not died then is named."""
PAUSE_S = (0.002, 0.1)
"""Shortest and longest pause between two looks at a tree that is being killed."""
SURVIVORS_PAUSE_S = 1.0
"""Longest pause when nobody is left to be killed but those that were named: uninterruptible waits may be long."""


class Sweeper:
    """Of all runs that are to end."""

    def __init__(
        self,
        by_pid: Mapping[int, Run],
        session: int,
        *,
        on_survivors: Callable[[Run], None],
        on_over: Callable[[Run], None],
    ) -> None:
        """`by_pid`: leaders that have not been reaped. Processes of `session`, the spawner's, are spared.
        `on_survivors(run)` is called once for a run of which something does not die, `on_over(run)` when nothing of it
        is left.
        """
        self._by_pid, self._session = by_pid, session
        self._on_survivors, self._on_over = on_survivors, on_over
        self._sweeping: dict[str, Run] = {}
        self._ending: list[int] = []
        self._pause_s, self._next = PAUSE_S[0], 0.0

    @property
    def due(self) -> float:
        """When the next look is, monotonic."""
        return self._next if self._sweeping else float("inf")

    def begin(self, run: Run) -> None:
        """Ends the run's tree, from now until nothing of it is left. Again is fine."""
        if not run.deadline:
            run.deadline = now() + LIMIT_S
            self._sweeping[run.id] = run
            # Before anything is looked up, which takes its time beside a fork bomb: most trees are one group.
            tree.send_group(run.pid, signal.SIGKILL)
        self._pause_s, self._next = PAUSE_S[0], 0.0  # all of them in one look, when the loop comes round

    def go_on(self, run: Run) -> None:
        """With one that an earlier spawner had begun to end."""
        self._sweeping[run.id] = run

    def sweep(self) -> None:
        """Kills what is left of the runs that are to end; reports those of which nothing is left."""
        sweeping = list(self._sweeping.values())
        members = self._members(sweeping)
        for run in sweeping:
            if members[run.id] and run.cgroups:
                kill_all_in(run.cgroups)
            tree.kill_all(members[run.id], self._session)
            if members[run.id] and not run.survivors and now() > run.deadline:
                run.survivors = list(members[run.id])
                self._on_survivors(run)
        over = [run for run in sweeping if run.end is not None and self._is_over(run, members)]
        # The list of children may skip one when another ends while it is read: look twice before saying so.
        members = self._members(over) if over else {}
        for run in over:
            if self._is_over(run, members):
                del self._sweeping[run.id]
                self._on_over(run)
        self._next = now() + self._pause_s
        waiting = all(run.survivors for run in self._sweeping.values())
        self._pause_s = min(self._pause_s * 2, SURVIVORS_PAUSE_S if waiting else PAUSE_S[1])

    def _is_over(self, run: Run, members: dict[str, dict[int, int]]) -> bool:
        return not members[run.id] and (not self._ending or now() > run.deadline)

    def _members(self, runs: list[Run]) -> dict[str, dict[int, int]]:
        """Of each run, the processes that live, each with its start time. Orphans that are just ending belong to
        somebody, but if they have left their session nobody can tell to whom: they go to `ending`, and whoever wants to
        be sure that a run is over waits for them, for a while."""
        self._ending = []
        roots: dict[str, list[int]] = {run.id: [run.pid] if run.pid in self._by_pid else [] for run in runs}
        for run in runs:
            if run.cgroups:
                roots[run.id] += pids_in(run.cgroups)
            roots[run.id] += [pid for pid, ticks in run.left.items() if tree.start_ticks_of(pid) == ticks]
        for pid in tree.children_of(os.getpid()):
            if pid in self._by_pid:
                continue
            stat = tree.stat_of(pid)
            if stat is None or stat[0] in tree.DEAD:
                continue
            is_ending = stat[5]
            marker, pipes = ("", []) if is_ending else (tree.environ_value(pid, MARKER), tree.output_pipes(pid))
            for run in runs:
                if stat[3] == run.pid or marker == run.id or (run.pipe and run.pipe in pipes):
                    roots[run.id].append(pid)
                    break
            else:
                if is_ending:
                    self._ending.append(pid)
        return {id: tree.living(tree.descendants_of(pids)) if pids else {} for id, pids in roots.items()}
