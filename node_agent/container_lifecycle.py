"""The life of one container of a pod: what each event does to it in each of its states. Pure; a table.

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

A handler is given the pod as it is, for what depends on it: whether it is to stop, its policy, its grace. It changes
nothing but its container. Whose turn it is, among all of the pod, is in `node_agent.pod_order`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from node_agent import restart_policy
from node_agent.pod_order import is_over, serves_to_the_end
from node_agent.pod_state import (
    NEVER,
    NORMAL,
    POST_START,
    PRE_STOP,
    WARNING,
    Command,
    ContainerState,
    Exited,
    HookDone,
    Kill,
    Note,
    Phase,
    PodEvent,
    PodState,
    ProbeChanged,
    Role,
    RunHook,
    Signal,
    Start,
    Started,
    StartFailed,
    StartProbes,
    StopAsked,
    StopProbes,
    Termination,
    Ticked,
    Unprepared,
)
from node_agent.probe_state import READINESS, STARTUP
from node_agent.restart_policy import ALWAYS, ON_FAILURE, format_duration, should_restart

SIGTERM = 15
MIN_GRACE_S = 2.0
"""However short the grace period, a program gets this long to end after SIGTERM."""
RETRY_S = 2.0
"""After something that a container needs was not there."""

Change: TypeAlias = tuple[ContainerState, list[Command]]


def start(c: ContainerState) -> Change:
    """Begins its next run."""
    return replace(c, phase=Phase.STARTING, ready=False, started=False, deadline=NEVER), [Start(c.name, c.run)]


def _started(state: PodState, c: ContainerState, event: Started, now: float) -> Change:
    at_mono_s = now if event.at_mono_s is None else event.at_mono_s
    c = replace(c, phase=Phase.RUNNING, started_at_s=event.at_s, started_mono_s=at_mono_s, deadline=NEVER)
    c = replace(c, container_id=event.container_id)
    note = Note(NORMAL, "Started", f"Started container {c.name}")
    if state.stop is not None:
        stopping, commands = terminate(c, state.stop.deadline, now, serves=serves_to_the_end(state))
        return stopping, [note, *commands]
    if c.post_start:
        return replace(c, phase=Phase.HOOKED), [note, RunHook(c.name, c.run, POST_START)]
    c, commands = _run(c)
    return c, [note, *commands]


def _run(c: ContainerState) -> Change:
    """It runs, and what asks how it is begins to."""
    if c.probes_startup:
        return replace(c, phase=Phase.RUNNING), [StartProbes(c.name, c.run, startup=True)]
    return _started_well(replace(c, phase=Phase.RUNNING))


def _started_well(c: ContainerState) -> Change:
    ready = not c.probes_readiness and c.role is not Role.INIT
    return replace(c, started=True, was_started=True, ready=ready), [StartProbes(c.name, c.run)]


def _start_failed(state: PodState, c: ContainerState, event: StartFailed, now: float) -> Change:
    end = Termination(event.exit_code, 0, "ContainerCannotRun", event.message, event.at_s, event.at_s)
    note = Note(WARNING, "Failed", f'Error: failed to start container "{c.name}": {event.message}')
    c, commands = _after(state, c, end, ended_at=now, ran_s=0.0, now=now)
    return c, [note, *commands]


def _unprepared(state: PodState, c: ContainerState, event: Unprepared, now: float) -> Change:
    if state.stop is not None:
        return end_idle(state, replace(c, phase=Phase.UNPREPARED), event, now)
    waiting = (event.reason, event.message)
    notes: list[Command] = [Note(WARNING, "Failed", f"Error: {event.message}")] if c.waiting != waiting else []
    return replace(c, phase=Phase.UNPREPARED, waiting=waiting, deadline=now + RETRY_S), notes


def _exited(state: PodState, c: ContainerState, event: Exited, now: float) -> Change:
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
        return restart_policy.NEVER if is_over(state) else ALWAYS
    if c.role is Role.INIT and state.policy != restart_policy.NEVER:
        return ON_FAILURE
    return state.policy


def _after(
    state: PodState, c: ContainerState, end: Termination, *, ended_at: float, ran_s: float, now: float
) -> Change:
    """What comes after a run that has ended, which may have been a while ago: the wait counts from then."""
    if not should_restart(_policy_of(state, c), end.exit_code, stopping=state.stop is not None):
        return replace(c, phase=Phase.ENDED, ready=False, started=False, ended=end, deadline=NEVER), []
    row = state.backoff.row_after(c.restarts_in_row, ran_s)
    delay_s = state.backoff.delay_s(row)
    c = replace(c, run=c.run + 1, last=end, ended=None, restarts_in_row=row + 1, started_mono_s=None, container_id="")
    if delay_s == 0 or ended_at + delay_s <= now:
        return start(c)
    pod = f"{state.name}_{state.namespace}({state.uid})"
    wait = f"back-off {format_duration(delay_s)} restarting failed container={c.name} pod={pod}"
    cannot_run = end.reason == "ContainerCannotRun"
    waiting = ("RunContainerError", f"{end.message}; {wait}") if cannot_run else ("CrashLoopBackOff", wait)
    note = Note(WARNING, "BackOff", f"Back-off restarting failed container {c.name} in pod {pod}")
    return replace(c, phase=Phase.BACKOFF, ready=False, started=False, waiting=waiting, deadline=ended_at + delay_s), [
        note
    ]


def _hook_done(state: PodState, c: ContainerState, event: HookDone, now: float) -> Change:
    if event.hook != POST_START:
        return c, []
    if not event.error:
        return _run(c)
    note = Note(WARNING, "FailedPostStartHook", f"PostStartHook failed: {event.error}")
    c, commands = terminate(c, now + state.grace_s, now)
    return c, [note, *commands]


def _pre_stop_done(state: PodState, c: ContainerState, event: HookDone, now: float) -> Change:
    if event.hook != PRE_STOP:
        return c, []
    notes: list[Command] = []
    if event.error:
        notes.append(Note(WARNING, "FailedPreStopHook", f"PreStopHook failed: {event.error}"))
    c, commands = _send_term(c, c.deadline, now)
    return c, [*notes, *commands]


def _probe_changed(state: PodState, c: ContainerState, event: ProbeChanged, now: float) -> Change:
    if event.kind == READINESS:
        return replace(c, ready=event.healthy), []
    if event.healthy:
        if event.kind == STARTUP and not c.started:
            return _started_well(c)
        return c, []
    then = "" if _policy_of(state, c) == restart_policy.NEVER else ", will be restarted"
    note = Note(NORMAL, "Killing", f"Container {c.name} failed {event.kind} probe{then}")
    grace_s = state.grace_s if event.grace_s is None else event.grace_s
    c, commands = terminate(c, now + grace_s, now)
    return c, [note, *(command for command in commands if not isinstance(command, Note))]


def terminate(c: ContainerState, deadline: float, now: float, *, serves: bool = False) -> Change:
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


def _send_term(c: ContainerState, deadline: float, now: float) -> Change:
    c = replace(c, phase=Phase.STOPPING, deadline=max(deadline, now + MIN_GRACE_S))
    return c, [StopProbes(c.name, c.run), Signal(c.name, c.run, SIGTERM)]


def _stop_running(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    assert state.stop is not None
    if c.role is Role.SIDECAR:  # its turn comes: when the others are over (`_advance`), or with the end of the grace
        return replace(c, deadline=min(c.deadline, state.stop.deadline)), []
    return terminate(c, state.stop.deadline, now, serves=serves_to_the_end(state))


def _shorten(state: PodState, c: ContainerState, event: StopAsked, now: float) -> Change:
    return replace(c, deadline=min(c.deadline, now + max(event.grace_s, MIN_GRACE_S))), []


def end_idle(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    """It does not run: the run that was to come never happens, the one before was the last."""
    return replace(c, run=c.newest_run, phase=Phase.ENDED, ended=c.last, deadline=NEVER), []


def _tick_start(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    return start(c) if now >= c.deadline else (c, [])


def _tick_turn(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    """A sidecar whose turn did not come within the grace: SIGTERM comes first all the same."""
    return terminate(c, now, now, serves=serves_to_the_end(state)) if now >= c.deadline else (c, [])


def _tick_kill(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    return (replace(c, deadline=NEVER), [Kill(c.name, c.run)]) if now >= c.deadline else (c, [])


def _tick_pre_stop(state: PodState, c: ContainerState, event: PodEvent, now: float) -> Change:
    if now < c.deadline:
        return c, []
    note = Note(WARNING, "FailedPreStopHook", "PreStopHook did not end within the grace period")
    c, commands = _send_term(c, now, now)
    return c, [note, *commands]


Handler: TypeAlias = Callable[[PodState, ContainerState, PodEvent, float], Change]
TABLE: dict[tuple[Phase, type], Handler] = {
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
    (Phase.WAITING, StopAsked): end_idle,
    (Phase.UNPREPARED, StopAsked): end_idle,
    (Phase.BACKOFF, StopAsked): end_idle,
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
"""By state and kind of event; what is not there is ignored."""
