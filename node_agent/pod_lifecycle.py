"""The life of a pod on its node: events in, commands out. Pure, total, driven by a table.

    state, commands = step(state, event, now)

The states of one container:

    WAITING      has not run yet: something stands in the way (`waiting`), or others come first
    STARTING     the runtime was told to start it
    UNPREPARED   something it needs is missing; tried again at `deadline`
    HOOKED       its program runs, and its postStart hook does
    RUNNING      it runs
    PRESTOP      it runs, and its preStop hook does; at `deadline` the hook has had its time
    STOPPING     it runs, was sent SIGTERM, and is killed at `deadline`
    BACKOFF      it ended and runs again at `deadline`
    ENDED        it will not run again in this pod

The events, and what they do to a container in each state (- : late news of an earlier run, or of no meaning; ignored):

                 WAITING  STARTING    UNPREPARED  HOOKED    RUNNING   PRESTOP   STOPPING   BACKOFF   ENDED
    Started      -        RUNNING(1)  -           -         -         -         -          -         -
    StartFailed  -        (2)         -           -         -         -         -          -         -
    Unprepared   -        UNPREPARED  -           -         -         -         -          -         -
    Exited       -        (2)         -           (2)       (2)       (2)       (2)        -         -
    HookDone     -        -           -           RUNNING   -         STOPPING  -          -         -
    ProbeChanged -        -           -           -         (3)       -         -          -         -
    StopAsked    ENDED    (1)         ENDED       (4)       (4)       shortened shortened  ENDED     -
    Ticked       -        -           STARTING(5) (6)       (6)       STOPPING(5) killed(5) STARTING(5) -

(1) HOOKED if it has a postStart hook; as (4) if the pod was asked to stop in between. (2) STARTING at once, BACKOFF or
ENDED, by restart policy and back-off. (3) readiness: sets `ready`; startup that succeeded: sets `started`; liveness or
startup that failed: as (4), then as after any exit. (4) PRESTOP if it has that hook, else STOPPING; a sidecar only when
its turn has come. (5) when due. (6) a sidecar whose turn did not come in time: as (4).

Between SIGTERM and SIGKILL there are at least MIN_GRACE_S, whatever the deadline was.

After each event `_advance` looks at the pod as a whole and does what the order of containers asks for: starts the next
init container when the one before has ended well (or, a sidecar, has started); starts the others when all those are
through and what they depend on is ready; ends sidecars, the last one first, when the others are over. A pod that was
asked to stop, or has failed, and whose containers are all ENDED yields Finish, once.

Commands that run in the place of a container (`stand_ins`) come and go beside all that: they have nothing to do with
the runs of the container. The last of them are killed when everything else of a pod that is to end has ended, and
Finish waits for them.

Times: `now` is monotonic, and so is all that is reckoned with; what people read (started, finished) comes with the
events, in seconds since 1970, and decides nothing: that clock may be set at any time. Whoever carries out the commands
(`node_agent.pod_worker`) keeps one timer, for `next_deadline(state)`, and sends Ticked when it rings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from node_agent import restart_policy
from node_agent.pod_state import (
    NEVER,
    NORMAL,
    POST_START,
    PRE_STOP,
    WARNING,
    Admitted,
    Command,
    ContainerState,
    DependenciesChanged,
    Exited,
    FailAsked,
    Finish,
    HookDone,
    Kill,
    KillStandIn,
    Note,
    Phase,
    PodEvent,
    PodState,
    ProbeChanged,
    Role,
    RunHook,
    Signal,
    StandInEnded,
    StandInStarted,
    Start,
    Started,
    StartFailed,
    StartProbes,
    Stop,
    StopAsked,
    StopProbes,
    Termination,
    Ticked,
    Unprepared,
)
from node_agent.restart_policy import ALWAYS, ON_FAILURE, format_duration, should_restart

SIGTERM = 15
MIN_GRACE_S = 2.0
"""However short the grace period, a program gets this long to end after SIGTERM."""
RETRY_S = 2.0
"""After something that a container needs was not there."""
READINESS, LIVENESS, STARTUP = "readiness", "liveness", "startup"

_Change: TypeAlias = tuple[ContainerState, list[Command]]


def next_deadline(state: PodState) -> float:
    """The monotonic time at which Ticked is due next; infinite if it is not."""
    own = state.active_deadline if state.stop is None else NEVER
    return min([own, *(container.deadline for container in state.containers)])


def step(state: PodState, event: PodEvent, now: float) -> tuple[PodState, list[Command]]:
    """The pod after the event, and what is to be done, in order."""
    commands: list[Command] = []
    state, more = _pod_event(state, event, now)
    commands += more
    for container in _meant(state, event):
        handle = _TABLE.get((container.phase, type(event)))
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


def is_closed(state: PodState) -> bool:
    """The pod was to end, and all its containers have: nothing runs in their place any more either."""
    return state.stop is not None and all(container.phase is Phase.ENDED for container in state.containers)


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
        case Ticked() if now >= state.active_deadline and state.stop is None:
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
        handle = _TABLE.get((c.phase, StopAsked))
        if handle is not None:
            changed, more = handle(state, c, StopAsked(deadline - now, remove=False), now)
            state = _with(state, c, changed)
            commands += more
    return state, commands


def _advance(state: PodState, now: float) -> tuple[PodState, list[Command]]:
    """What the order of the containers asks for now."""
    commands: list[Command] = []
    if state.stop is None and state.admitted:
        for c in _to_start(state):
            changed, more = _start(c)
            state = _with(state, c, changed)
            commands += more
        state = _say_why_waiting(state)
    if state.stop is not None or _is_over(state):
        sidecar = _next_sidecar_to_end(state)
        if sidecar is not None:
            deadline = state.stop.deadline if state.stop else now + state.grace_s
            changed, more = _terminate(sidecar, deadline, now, serves=_serves_to_the_end(state))
            state = _with(state, sidecar, changed)
            commands += more
        idle = (Phase.WAITING, Phase.UNPREPARED, Phase.BACKOFF)
        containers = (_end_idle(state, c, Ticked(), now)[0] if c.phase in idle else c for c in state.containers)
        state = replace(state, containers=tuple(containers))
    return state, commands


def _to_start(state: PodState) -> list[ContainerState]:
    """Those whose turn it is and that have not been started yet."""
    if state.missing:
        return []
    for c in state.containers:
        if c.role is Role.MAIN:
            break
        if c.phase is Phase.WAITING and not c.blocked:
            return [c]
        if not is_through(c):
            return []
    ready = {c.name for c in state.containers if c.ready}
    return [
        c
        for c in state.containers
        if c.role is Role.MAIN and c.phase is Phase.WAITING and not c.blocked and ready.issuperset(c.depends_on)
    ]


def is_through(c: ContainerState) -> bool:
    """An init container that lets the next one begin. A sidecar that has started once stays so, whatever becomes of it;
    one whose runs have all failed to start holds the pod back."""
    if c.role is Role.SIDECAR:
        return c.was_started or c.phase is Phase.ENDED
    return c.phase is Phase.ENDED and c.ended is not None and c.ended.exit_code == 0


def is_initialized(state: PodState) -> bool:
    """All init containers are through."""
    return all(is_through(c) for c in state.containers if c.role is not Role.MAIN)


def _say_why_waiting(state: PodState) -> PodState:
    ready = {c.name for c in state.containers if c.ready}
    initialized = is_initialized(state)
    changed = []
    for c in state.containers:
        if c.phase is Phase.WAITING and not c.blocked:
            missing = [name for name in c.depends_on if name not in ready]
            if state.missing:
                why = ("WaitingForDependency", f"waiting for {', '.join(state.missing)} to be ready")
            elif not initialized:
                why = ("PodInitializing", "")
            elif missing:
                why = ("WaitingForDependency", f"waiting for container {', '.join(missing)} to be ready")
            else:
                why = ("ContainerCreating", "")
            if c.waiting != why:
                c = replace(c, waiting=why)
        changed.append(c)
    return replace(state, containers=tuple(changed))


def _is_over(state: PodState) -> bool:
    """Nothing but sidecars will ever run again."""
    mains = [c for c in state.containers if c.role is Role.MAIN]
    if all(c.phase is Phase.ENDED for c in mains):
        return True
    return any(c.role is Role.INIT and c.phase is Phase.ENDED and not is_through(c) for c in state.containers)


def _next_sidecar_to_end(state: PodState) -> ContainerState | None:
    """The last one that runs, once the others are over; None while one before it in this order is still ending."""
    if any(c.role is not Role.SIDECAR and c.phase not in (Phase.ENDED, Phase.WAITING) for c in state.containers):
        return None
    for c in reversed(state.containers):
        if c.role is Role.SIDECAR and c.phase in (Phase.HOOKED, Phase.RUNNING):
            return c
        if c.role is Role.SIDECAR and c.phase in (Phase.STARTING, Phase.PRESTOP, Phase.STOPPING):
            return None
    return None


# --- the entries of the table: (pod, container, event, now) -> (container, commands)


def _start(c: ContainerState) -> _Change:
    return replace(c, phase=Phase.STARTING, ready=False, started=False, deadline=NEVER), [Start(c.name, c.run)]


def _started(state: PodState, c: ContainerState, event: Started, now: float) -> _Change:
    at_mono_s = now if event.at_mono_s is None else event.at_mono_s
    c = replace(c, phase=Phase.RUNNING, started_at_s=event.at_s, started_mono_s=at_mono_s, deadline=NEVER)
    c = replace(c, container_id=event.container_id)
    note = Note(NORMAL, "Started", f"Started container {c.name}")
    if state.stop is not None:
        stopping, commands = _terminate(c, state.stop.deadline, now, serves=_serves_to_the_end(state))
        return stopping, [note, *commands]
    if c.post_start:
        return replace(c, phase=Phase.HOOKED), [note, RunHook(c.name, c.run, POST_START)]
    c, commands = _run(c)
    return c, [note, *commands]


def _run(c: ContainerState) -> _Change:
    """It runs, and what asks how it is begins to."""
    if c.probes_startup:
        return replace(c, phase=Phase.RUNNING), [StartProbes(c.name, c.run, startup=True)]
    return _started_well(replace(c, phase=Phase.RUNNING))


def _started_well(c: ContainerState) -> _Change:
    ready = not c.probes_readiness and c.role is not Role.INIT
    return replace(c, started=True, was_started=True, ready=ready), [StartProbes(c.name, c.run)]


def _start_failed(state: PodState, c: ContainerState, event: StartFailed, now: float) -> _Change:
    end = Termination(event.exit_code, 0, "ContainerCannotRun", event.message, event.at_s, event.at_s)
    note = Note(WARNING, "Failed", f'Error: failed to start container "{c.name}": {event.message}')
    c, commands = _after(state, c, end, ended_at=now, ran_s=0.0, now=now)
    return c, [note, *commands]


def _unprepared(state: PodState, c: ContainerState, event: Unprepared, now: float) -> _Change:
    if state.stop is not None:
        return _end_idle(state, c, event, now)
    waiting = (event.reason, event.message)
    notes: list[Command] = [Note(WARNING, "Failed", f"Error: {event.message}")] if c.waiting != waiting else []
    return replace(c, phase=Phase.UNPREPARED, waiting=waiting, deadline=now + RETRY_S), notes


def _exited(state: PodState, c: ContainerState, event: Exited, now: float) -> _Change:
    message = event.message
    if event.lost:
        reason, message = "ContainerStatusUnknown", message or "The container could not be located"
    else:
        reason = event.reason or ("Completed" if event.exit_code == 0 else "Error")
    started_at_s = c.started_at_s or event.at_s
    ended_at = now if event.at_mono_s is None else event.at_mono_s
    # By the calendar only where nothing else is known: after a start of the machine.
    ran_s = event.at_s - started_at_s if c.started_mono_s is None else ended_at - c.started_mono_s
    end = Termination(
        event.exit_code, event.signal, reason, message, started_at_s, event.at_s, c.container_id, event.used
    )
    c, commands = _after(state, c, end, ended_at=ended_at, ran_s=ran_s, now=now)
    return c, [StopProbes(c.name, event.run), *commands]


def _policy_of(state: PodState, c: ContainerState) -> str:
    if c.role is Role.SIDECAR:
        return restart_policy.NEVER if _is_over(state) else ALWAYS
    if c.role is Role.INIT and state.policy != restart_policy.NEVER:
        return ON_FAILURE
    return state.policy


def _after(
    state: PodState, c: ContainerState, end: Termination, *, ended_at: float, ran_s: float, now: float
) -> _Change:
    """What comes after a run that has ended, which may have been a while ago: the wait counts from then."""
    if not should_restart(_policy_of(state, c), end.exit_code, stopping=state.stop is not None):
        return replace(c, phase=Phase.ENDED, ready=False, started=False, ended=end, deadline=NEVER), []
    row = state.backoff.row_after(c.restarts_in_row, ran_s)
    delay_s = state.backoff.delay_s(row)
    c = replace(c, run=c.run + 1, last=end, ended=None, restarts_in_row=row + 1, started_mono_s=None, container_id="")
    if delay_s == 0 or ended_at + delay_s <= now:
        return _start(c)
    pod = f"{state.name}_{state.namespace}({state.uid})"
    wait = f"back-off {format_duration(delay_s)} restarting failed container={c.name} pod={pod}"
    cannot_run = end.reason == "ContainerCannotRun"
    waiting = ("RunContainerError", f"{end.message}; {wait}") if cannot_run else ("CrashLoopBackOff", wait)
    note = Note(WARNING, "BackOff", f"Back-off restarting failed container {c.name} in pod {pod}")
    return replace(c, phase=Phase.BACKOFF, ready=False, started=False, waiting=waiting, deadline=ended_at + delay_s), [
        note
    ]


def _hook_done(state: PodState, c: ContainerState, event: HookDone, now: float) -> _Change:
    if event.hook != POST_START:
        return c, []
    if not event.error:
        return _run(c)
    note = Note(WARNING, "FailedPostStartHook", f"PostStartHook failed: {event.error}")
    c, commands = _terminate(c, now + state.grace_s, now)
    return c, [note, *commands]


def _pre_stop_done(state: PodState, c: ContainerState, event: HookDone, now: float) -> _Change:
    if event.hook != PRE_STOP:
        return c, []
    notes: list[Command] = []
    if event.error:
        notes.append(Note(WARNING, "FailedPreStopHook", f"PreStopHook failed: {event.error}"))
    c, commands = _send_term(c, c.deadline, now)
    return c, [*notes, *commands]


def _probe_changed(state: PodState, c: ContainerState, event: ProbeChanged, now: float) -> _Change:
    if event.kind == READINESS:
        return replace(c, ready=event.healthy), []
    if event.healthy:
        if event.kind == STARTUP and not c.started:
            return _started_well(c)
        return c, []
    then = "" if _policy_of(state, c) == restart_policy.NEVER else ", will be restarted"
    note = Note(NORMAL, "Killing", f"Container {c.name} failed {event.kind} probe{then}")
    grace_s = state.grace_s if event.grace_s is None else event.grace_s
    c, commands = _terminate(c, now + grace_s, now)
    return c, [note, *(command for command in commands if not isinstance(command, Note))]


def _terminate(c: ContainerState, deadline: float, now: float, *, serves: bool = False) -> _Change:
    """Begins to end it: by its hook, if it has one, and by SIGTERM. What still runs at the deadline is killed.

    `serves`: if it is ready it stays so until it ends; its probes ask no more.
    """
    c = replace(c, ready=c.ready and serves)
    killing = Note(NORMAL, "Killing", f"Stopping container {c.name}")
    if c.pre_stop and c.phase is not Phase.STARTING:
        c = replace(c, phase=Phase.PRESTOP, deadline=max(deadline, now + MIN_GRACE_S))
        return c, [killing, StopProbes(c.name, c.run), RunHook(c.name, c.run, PRE_STOP)]
    c, commands = _send_term(c, deadline, now)
    return c, [killing, *commands]


def _send_term(c: ContainerState, deadline: float, now: float) -> _Change:
    c = replace(c, phase=Phase.STOPPING, deadline=max(deadline, now + MIN_GRACE_S))
    return c, [StopProbes(c.name, c.run), Signal(c.name, c.run, SIGTERM)]


def _stop_running(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    assert state.stop is not None
    if c.role is Role.SIDECAR:  # its turn comes: when the others are over (`_advance`), or with the end of the grace
        return replace(c, deadline=min(c.deadline, state.stop.deadline)), []
    return _terminate(c, state.stop.deadline, now, serves=_serves_to_the_end(state))


def _serves_to_the_end(state: PodState) -> bool:
    """As in Kubernetes, a pod that was deleted says that it is ready while its programs run: some serve their clients
    to the end, and services lead to them while they have nobody else. One that is ended otherwise does not."""
    return state.stop is not None and state.stop.remove and state.failed is None


def _shorten(state: PodState, c: ContainerState, event: StopAsked, now: float) -> _Change:
    return replace(c, deadline=min(c.deadline, now + max(event.grace_s, MIN_GRACE_S))), []


def _end_idle(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    """It does not run: the run that was to come never happens, the one before was the last."""
    if c.phase is Phase.BACKOFF:
        c = replace(c, run=c.run - 1)
    return replace(c, phase=Phase.ENDED, ended=c.last, deadline=NEVER), []


def _tick_start(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    return _start(c) if now >= c.deadline else (c, [])


def _tick_turn(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    """A sidecar whose turn did not come within the grace: SIGTERM comes first all the same."""
    return _terminate(c, now, now, serves=_serves_to_the_end(state)) if now >= c.deadline else (c, [])


def _tick_kill(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    return (replace(c, deadline=NEVER), [Kill(c.name, c.run)]) if now >= c.deadline else (c, [])


def _tick_pre_stop(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    if now < c.deadline:
        return c, []
    note = Note(WARNING, "FailedPreStopHook", "PreStopHook did not end within the grace period")
    c, commands = _send_term(c, now, now)
    return c, [note, *commands]


_Handler: TypeAlias = Callable[[PodState, ContainerState, PodEvent, float], _Change]
_TABLE: dict[tuple[Phase, type], _Handler] = {
    (Phase.STARTING, Started): _started,  # type: ignore[dict-item]
    (Phase.STARTING, StartFailed): _start_failed,  # type: ignore[dict-item]
    (Phase.STARTING, Unprepared): _unprepared,  # type: ignore[dict-item]
    (Phase.HOOKED, HookDone): _hook_done,  # type: ignore[dict-item]
    (Phase.PRESTOP, HookDone): _pre_stop_done,  # type: ignore[dict-item]
    (Phase.RUNNING, ProbeChanged): _probe_changed,  # type: ignore[dict-item]
    (Phase.STARTING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.HOOKED, Exited): _exited,  # type: ignore[dict-item]
    (Phase.RUNNING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.PRESTOP, Exited): _exited,  # type: ignore[dict-item]
    (Phase.STOPPING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.WAITING, StopAsked): _end_idle,
    (Phase.UNPREPARED, StopAsked): _end_idle,
    (Phase.BACKOFF, StopAsked): _end_idle,
    (Phase.HOOKED, StopAsked): _stop_running,
    (Phase.RUNNING, StopAsked): _stop_running,
    (Phase.PRESTOP, StopAsked): _shorten,  # type: ignore[dict-item]
    (Phase.STOPPING, StopAsked): _shorten,  # type: ignore[dict-item]
    (Phase.UNPREPARED, Ticked): _tick_start,
    (Phase.BACKOFF, Ticked): _tick_start,
    (Phase.HOOKED, Ticked): _tick_turn,
    (Phase.RUNNING, Ticked): _tick_turn,
    (Phase.STOPPING, Ticked): _tick_kill,
    (Phase.PRESTOP, Ticked): _tick_pre_stop,
}
