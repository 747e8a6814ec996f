"""Taking up what an earlier life of the agent left: a pod's last checkpoint and the runs that the spawner has. Pure.

The checkpoint may be a moment older than the runs; never younger, for a run is started only after its pod was known.
So for each container, its newest run tells where it is:

    checkpoint says        the spawner has                  then
    STARTING or later, n   run n, alive                     it runs: followed, as if nothing had been
    STARTING or later, n   run n, ended                     it has ended: what a run's end always leads to
    WAITING or BACKOFF, n  run n                            it was started after the checkpoint: as above
    anything, n            run m > n                        the same, m - n restarts later
    STARTING, n            nothing                          it was never started: started now
    RUNNING, STOPPING, n   nothing                          its status says how it ended; or nobody knows: lost
    BACKOFF, ENDED, n      run n - 1 at most                nothing to do

What stands in no checkpoint is seen by what came after it: where one of the others was tried, all sidecars had started
before.

Of a command that ran in the place of a container nothing is left to decide: whom it ran for is gone with the agent. It
is on its way out, and the pod is not over before it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from node_agent.pod_state import ALIVE, IDLE, NEVER, ContainerState, Exited, Phase, PodEvent, PodState, Role, Started
from node_agent.run_ids import CommandId, RunId
from node_agent.runtime.interface import UNKNOWN_EXIT_CODE, Adopted

_ON = (Phase.STARTING, *ALIVE)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is to be done for one container."""

    container: str
    run_id: RunId | None
    """The run to be followed: it is alive, or its end has not been noted yet."""
    events: tuple[PodEvent, ...]
    """To be fed to the lifecycle, in order."""
    restart: bool = False
    """Its start was decided and never happened."""


def those_of(uid: str, adopted: Mapping[str, Adopted]) -> tuple[dict[RunId, Adopted], list[CommandId]]:
    """Of what the spawner has, the runs of this pod's containers, and what ran in their place."""
    runs: dict[RunId, Adopted] = {}
    commands = []
    for text, found in adopted.items():
        if (run_id := RunId.parse(text)) is not None and run_id.uid == uid:
            runs[run_id] = found
        elif (command_id := CommandId.parse(text)) is not None and command_id.uid == uid:
            commands.append(command_id)
    return runs, commands


def adopt(
    state: PodState,
    runs: Mapping[RunId, Adopted],
    commands: Iterable[CommandId] = (),
    *,
    same_boot: bool,
    now: float,
    now_s: float,
) -> tuple[PodState, list[Adoption]]:
    """The pod's state, brought up to the newest run of each container, and what is to be done about them.

    `commands`: those that ran in the place of a container, and whose end was not noted. `now` is monotonic;
    `now_s` in seconds since 1970 is the time of ends that nobody saw.
    """
    if not same_boot:
        state = _due_now(state, now)
    containers, adoptions = [], []
    for c in state.containers:
        mine = sorted(id for id in runs if (id.uid, id.container) == (state.uid, c.name))
        newest = mine[-1] if mine else None
        if newest is not None and (newest.run > c.run or (newest.run == c.run and c.phase in IDLE)):
            c = replace(c, run=newest.run, phase=Phase.STARTING, ready=False, deadline=NEVER)
        containers.append(c)
        if c.phase in _ON:
            run_id = newest if newest is not None and newest.run == c.run else None
            adoptions.append(_adoption(c, run_id, runs[run_id] if run_id else None, now_s))
    state = replace(state, containers=_with_started_sidecars(containers), stand_ins=tuple(map(str, commands)))
    return state, adoptions


def _with_started_sidecars(containers: list[ContainerState]) -> tuple[ContainerState, ...]:
    initialized = any(c.role is Role.MAIN and _was_tried(c) for c in containers)
    return tuple(
        replace(c, was_started=c.was_started or c.started or initialized) if c.role is Role.SIDECAR else c
        for c in containers
    )


def _was_tried(c: ContainerState) -> bool:
    """A run of it was started, or could not be."""
    return c.run > 0 or c.phase not in (Phase.WAITING, Phase.ENDED) or c.last is not None or c.ended is not None


def _adoption(c: ContainerState, run_id: RunId | None, found: Adopted | None, now_s: float) -> Adoption:
    if found is None:
        if c.phase is Phase.STARTING:
            return Adoption(c.name, None, (), restart=True)
        return Adoption(c.name, None, (_unseen(c, now_s),))
    events: list[PodEvent] = []
    if c.phase is Phase.STARTING:
        started = found.started
        events.append(Started(c.name, c.run, started.at_s, container_id(found), started.at_mono_s))
    return Adoption(c.name, run_id, tuple(events))


def container_id(found: Adopted) -> str:
    """How the status names the container's process: by pid and start time."""
    return f"process://{found.started.pid}/{found.started.start_ticks}"


def _unseen(c: ContainerState, now_s: float) -> Exited:
    """How a run ended of which the spawner knows nothing (any more)."""
    if c.ended is not None:
        return Exited(c.name, c.run, c.ended.finished_at_s, c.ended.exit_code, c.ended.signal, c.ended.message)
    message = "The container could not be located when its node agent started again"
    return Exited(c.name, c.run, now_s, UNKNOWN_EXIT_CODE, message=message, lost=True)


def _due_now(state: PodState, now: float) -> PodState:
    """Monotonic times of another boot mean nothing: whatever was to be done at one is due."""
    containers = tuple(
        replace(c, started_mono_s=None, deadline=now if c.deadline < NEVER else NEVER) for c in state.containers
    )
    stop = replace(state.stop, deadline=now) if state.stop is not None else None
    return replace(state, containers=containers, active_deadline=NEVER, stop=stop)
