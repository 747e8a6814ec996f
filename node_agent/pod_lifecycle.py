"""The life of a pod on its node: events in, commands out. Pure and total.

    state, commands = step(state, event, now)

Each container has a life of its own (`node_agent.container_lifecycle`): an event that means it changes it by a table.

After each event `_advance` looks at the pod as a whole and does what the order of containers asks for
(`node_agent.pod_order`): starts those whose turn it is, and ends sidecars when the others are over. A pod that was
asked to stop, or has failed, and whose containers are all ENDED yields Finish, once.

Commands that run in the place of a container (`stand_ins`) come and go beside all that: they have nothing to do with
the runs of the container. The last of them are killed when everything else of a pod that is to end has ended, and
Finish waits for them.

Times: `now` is monotonic, and so is all that is reckoned with; what people read (started, finished) comes with the
events, in seconds since 1970, and decides nothing: that clock may be set at any time. Whoever carries out the commands
(`node_agent.pod_worker`) keeps one timer, for `next_deadline(state)`, and sends Ticked when it rings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from node_agent.container_lifecycle import MIN_GRACE_S, TABLE, end_idle, start, terminate
from node_agent.pod_order import is_closed, is_over, next_sidecar_to_end, say_why_waiting, serves_to_the_end, to_start
from node_agent.pod_state import (
    IDLE,
    NEVER,
    WARNING,
    Admitted,
    Command,
    ContainerState,
    DependenciesChanged,
    Exited,
    FailAsked,
    Finish,
    HookDone,
    KillStandIn,
    Limited,
    Note,
    PodEvent,
    PodState,
    ProbeChanged,
    StandInEnded,
    StandInStarted,
    Started,
    StartFailed,
    Stop,
    StopAsked,
    Ticked,
    Unprepared,
)


def next_deadline(state: PodState) -> float:
    """The monotonic time at which Ticked is due next; infinite if it is not."""
    own = state.active_deadline if state.stop is None and not is_over(state) else NEVER
    return min([own, *(container.deadline for container in state.containers)])


def step(state: PodState, event: PodEvent, now: float) -> tuple[PodState, list[Command]]:
    """The pod after the event, and what is to be done, in order."""
    commands: list[Command] = []
    state, more = _pod_event(state, event, now)
    commands += more
    for container in _meant(state, event):
        handle = TABLE.get((container.phase, type(event)))
        if handle is not None:
            changed, more = handle(state, container, event, now)
            state = _with(state, container, changed)
            commands += more
    state, more = _advance(state, now)
    commands += more
    stop = state.stop
    if stop is not None and is_closed(state):
        commands += [KillStandIn(run_id) for run_id in state.stand_ins]
        if not state.stand_ins and (not state.finished or isinstance(event, StopAsked)):
            state = replace(state, finished=True)
            commands.append(Finish(stop.remove))
    return state, commands


def _with(state: PodState, old: ContainerState, new: ContainerState) -> PodState:
    return replace(state, containers=tuple(new if c is old else c for c in state.containers))


def _meant(state: PodState, event: PodEvent) -> Iterator[ContainerState]:
    if isinstance(event, Started | StartFailed | Unprepared | Exited | HookDone | ProbeChanged):
        return (c for c in state.containers if (c.name, c.run) == (event.container, event.run))
    return iter(state.containers)


# --- the pod as a whole


def _pod_event(state: PodState, event: PodEvent, now: float) -> tuple[PodState, list[Command]]:
    """What an event says of the pod and not of one container."""
    match event:
        case Admitted(active_deadline):
            notes: list[Command] = [
                Note(WARNING, "Failed", f"Error: {c.waiting[1]}") for c in state.containers if c.blocked
            ]
            return replace(state, admitted=True, active_deadline=active_deadline), [] if state.admitted else notes
        case Limited(active_deadline):
            return replace(state, active_deadline=active_deadline), []
        case DependenciesChanged(missing):
            return replace(state, missing=missing), []
        case StandInStarted(run_id):
            return replace(state, stand_ins=(*state.stand_ins, run_id)), []
        case StandInEnded(run_id):
            return replace(state, stand_ins=tuple(each for each in state.stand_ins if each != run_id)), []
        case StopAsked(grace_s, remove):
            return _ask_to_stop(state, Stop(now + max(grace_s, MIN_GRACE_S), remove)), []
        case FailAsked(reason, message, grace_s):
            return _fail(state, reason, message, now + max(grace_s, MIN_GRACE_S), now)
        case Ticked() if now >= state.active_deadline and state.stop is None and not is_over(state):
            message = "Pod was active on the node longer than the specified deadline"
            return _fail(state, "DeadlineExceeded", message, now + max(state.grace_s, MIN_GRACE_S), now)
    return state, []


def _ask_to_stop(state: PodState, asked: Stop) -> PodState:
    before = state.stop or asked
    return replace(state, stop=Stop(min(asked.deadline, before.deadline), asked.remove or before.remove))


def _fail(state: PodState, reason: str, message: str, deadline: float, now: float) -> tuple[PodState, list[Command]]:
    if state.failed is not None or state.stop is not None:
        return state, []
    state = _ask_to_stop(replace(state, failed=(reason, message)), Stop(deadline, remove=False))
    commands: list[Command] = [Note(WARNING, reason, message)]
    for c in state.containers:
        handle = TABLE.get((c.phase, StopAsked))
        if handle is not None:
            changed, more = handle(state, c, StopAsked(deadline - now, remove=False), now)
            state = _with(state, c, changed)
            commands += more
    return state, commands


def _advance(state: PodState, now: float) -> tuple[PodState, list[Command]]:
    """What the order of the containers asks for now."""
    commands: list[Command] = []
    if state.stop is None and state.admitted:
        for c in to_start(state):
            changed, more = start(c)
            state = _with(state, c, changed)
            commands += more
        state = say_why_waiting(state)
    if state.stop is not None or is_over(state):
        sidecar = next_sidecar_to_end(state)
        if sidecar is not None:
            deadline = state.stop.deadline if state.stop else now + state.grace_s
            changed, more = terminate(sidecar, deadline, now, serves=serves_to_the_end(state))
            state = _with(state, sidecar, changed)
            commands += more
        containers = (end_idle(state, c, Ticked(), now)[0] if c.phase in IDLE else c for c in state.containers)
        state = replace(state, containers=tuple(containers))
    return state, commands
