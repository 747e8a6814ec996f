"""The life of a pod on its node: events in, commands out. Pure, total, driven by a table.

    state, commands = step(state, event, now)

The states of one container:

    WAITING    has not run yet: it is to be started, or something stands in the way (`waiting`)
    STARTING   the runtime was told to start it
    RUNNING    it runs
    STOPPING   it runs, was sent SIGTERM, and is killed at `deadline`
    BACKOFF    it ended and runs again at `deadline`
    ENDED      it will not run again in this pod

The events, and what they do to a container in each state (- : late news of an earlier run, or of no meaning; ignored):

                   WAITING     STARTING    RUNNING     STOPPING     BACKOFF     ENDED
    Admitted       STARTING    -           -           -            -           -
    Started        -           RUNNING(1)  -           -            -           -
    StartFailed    -           (2)         -           -            -           -
    Exited         -           (2)         (2)         (2)          -           -
    ProbeChanged   -           -           (3)         -            -           -
    StopAsked      ENDED       (1)         STOPPING    shortened    ENDED       -
    Ticked         -           -           -           killed(4)    STARTING(4) -

(1) STOPPING if the pod was asked to stop in between. (2) STARTING at once, BACKOFF or ENDED, by restart policy and
back-off. (3) readiness: sets `ready`; liveness that failed: STOPPING, then as after any exit. (4) when due.

A pod that was asked to stop and whose containers are all ENDED yields Finish, once. Times: `now` is monotonic and only
for deadlines; what people read (started, finished) comes with the events, in seconds since 1970. Whoever carries out
the commands (`node_agent.pod_worker`) keeps one timer, for `next_deadline(state)`, and sends Ticked when it rings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from node_agent.restart_policy import CrashBackoff, format_duration, should_restart

SIGTERM = 15
MIN_GRACE_S = 2.0
"""However short the grace period, a program gets this long to end after SIGTERM."""
NEVER = float("inf")
NORMAL, WARNING = "Normal", "Warning"


class Phase(Enum):
    """States of a container; see the head of this file."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Termination:
    """How a run of a container ended."""

    exit_code: int
    signal: int
    reason: str
    """Completed, Error, ContainerCannotRun, ContainerStatusUnknown."""
    message: str
    started_at_s: float
    finished_at_s: float
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as its node sees it."""

    name: str
    run: int = 0
    """Number of restarts: names the run that events speak of."""
    phase: Phase = Phase.WAITING
    probes_readiness: bool = False
    ready: bool = False
    waiting: tuple[str, str] = ("ContainerCreating", "")
    """Reason and message while it is WAITING or in BACKOFF."""
    blocked: bool = False
    """It cannot be started on this node, ever; `waiting` says why."""
    started_at_s: float = 0.0
    container_id: str = ""
    ended: Termination | None = None
    """How it ended, once it is ENDED."""
    last: Termination | None = None
    """How the run before ended."""
    restarts_in_row: int = 0
    deadline: float = NEVER


@dataclass(frozen=True, slots=True)
class Stop:
    """The pod is to end."""

    deadline: float
    """Monotonic: what still runs then is killed."""
    remove: bool
    """Afterwards the object is to be removed: the pod was deleted, not just interrupted."""


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod as its node sees it."""

    uid: str
    namespace: str
    name: str
    policy: str
    grace_s: float
    backoff: CrashBackoff
    containers: tuple[ContainerState, ...]
    stop: Stop | None = None
    finished: bool = False
    """Finish was yielded."""

    def __getitem__(self, name: str) -> ContainerState:
        return next(container for container in self.containers if container.name == name)


# --- events


@dataclass(frozen=True, slots=True)
class Admitted:
    """The node takes the pod."""


@dataclass(frozen=True, slots=True)
class Started:
    container: str
    run: int
    at_s: float
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class StartFailed:
    container: str
    run: int
    at_s: float
    exit_code: int
    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The container ended and nothing of its tree is left."""

    container: str
    run: int
    at_s: float
    exit_code: int
    signal: int = 0
    message: str = ""
    """The last lines of its output."""
    lost: bool = False
    """Nobody saw how it ended."""


@dataclass(frozen=True, slots=True)
class ProbeChanged:
    container: str
    run: int
    liveness: bool
    healthy: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The pod was deleted, or the agent stops. Asked again, it can only become shorter."""

    grace_s: float
    remove: bool


@dataclass(frozen=True, slots=True)
class Ticked:
    """A deadline may be due."""


PodEvent: TypeAlias = Admitted | Started | StartFailed | Exited | ProbeChanged | StopAsked | Ticked

# --- commands


@dataclass(frozen=True, slots=True)
class Start:
    container: str
    run: int


@dataclass(frozen=True, slots=True)
class Signal:
    container: str
    run: int
    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """The whole tree, now."""

    container: str
    run: int


@dataclass(frozen=True, slots=True)
class StartProbes:
    container: str
    run: int


@dataclass(frozen=True, slots=True)
class StopProbes:
    container: str
    run: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people want to see: an Event about the pod."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All is over on this node. `remove`: the object can go."""

    remove: bool


Command: TypeAlias = Start | Signal | Kill | StartProbes | StopProbes | Note | Finish
_Change: TypeAlias = tuple[ContainerState, list[Command]]


def next_deadline(state: PodState) -> float:
    """The monotonic time at which Ticked is due next; infinite if it is not."""
    return min((container.deadline for container in state.containers), default=NEVER)


def step(state: PodState, event: PodEvent, now: float) -> tuple[PodState, list[Command]]:
    """The pod after the event, and what is to be done, in order."""
    commands: list[Command] = []
    if isinstance(event, StopAsked):
        asked = Stop(now + max(event.grace_s, MIN_GRACE_S), event.remove)
        before = state.stop or asked
        state = replace(state, stop=Stop(min(asked.deadline, before.deadline), asked.remove or before.remove))
    for container in _meant(state, event):
        handle = _TABLE.get((container.phase, type(event)))
        if handle is not None:
            changed, more = handle(state, container, event, now)
            containers = tuple(changed if c is container else c for c in state.containers)
            state = replace(state, containers=containers)
            commands += more
    all_ended = all(container.phase is Phase.ENDED for container in state.containers)
    stop = state.stop
    if stop is not None and all_ended and (not state.finished or isinstance(event, StopAsked)):
        state = replace(state, finished=True)
        commands.append(Finish(stop.remove))
    return state, commands


def _meant(state: PodState, event: PodEvent) -> Iterator[ContainerState]:
    if isinstance(event, Started | StartFailed | Exited | ProbeChanged):
        return (c for c in state.containers if (c.name, c.run) == (event.container, event.run))
    return iter(state.containers)


# --- the entries of the table: (pod, container, event, now) -> (container, commands)


def _start(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    if c.blocked:
        return c, [Note(WARNING, "Failed", f"Error: {c.waiting[1]}")]
    return replace(c, phase=Phase.STARTING, ready=False), [Start(c.name, c.run)]


def _started(state: PodState, c: ContainerState, event: Started, now: float) -> _Change:
    c = replace(c, phase=Phase.RUNNING, started_at_s=event.at_s, container_id=event.container_id, deadline=NEVER)
    started = Note(NORMAL, "Started", f"Started container {c.name}")
    if state.stop is not None:
        stopping, commands = _terminate(state, c, state.stop.deadline)
        return stopping, [started, *commands]
    return replace(c, ready=not c.probes_readiness), [started, StartProbes(c.name, c.run)]


def _start_failed(state: PodState, c: ContainerState, event: StartFailed, now: float) -> _Change:
    end = Termination(event.exit_code, 0, "ContainerCannotRun", event.message, event.at_s, event.at_s)
    note = Note(WARNING, "Failed", f'Error: failed to start container "{c.name}": {event.message}')
    c, commands = _after(state, c, end, now)
    return c, [note, *commands]


def _exited(state: PodState, c: ContainerState, event: Exited, now: float) -> _Change:
    if event.lost:
        reason, message = "ContainerStatusUnknown", event.message or "The container could not be located"
    else:
        reason = "Completed" if event.exit_code == 0 else "Error"
        message = event.message if event.exit_code else ""
    end = Termination(
        event.exit_code, event.signal, reason, message, c.started_at_s or event.at_s, event.at_s, c.container_id
    )
    c, commands = _after(state, c, end, now)
    return c, [StopProbes(c.name, event.run), *commands]


def _after(state: PodState, c: ContainerState, end: Termination, now: float) -> _Change:
    """What comes after a run that has ended."""
    if not should_restart(state.policy, end.exit_code, stopping=state.stop is not None):
        return replace(c, phase=Phase.ENDED, ready=False, ended=end, deadline=NEVER), []
    row = state.backoff.row_after(c.restarts_in_row, end.finished_at_s - end.started_at_s)
    delay_s = state.backoff.delay_s(row)
    c = replace(c, run=c.run + 1, ready=False, last=end, restarts_in_row=row + 1, container_id="", deadline=NEVER)
    if delay_s == 0:
        return replace(c, phase=Phase.STARTING), [Start(c.name, c.run)]
    pod = f"{state.name}_{state.namespace}({state.uid})"
    wait = f"back-off {format_duration(delay_s)} restarting failed container={c.name} pod={pod}"
    cannot_run = end.reason == "ContainerCannotRun"
    waiting = ("RunContainerError", f"{end.message}; {wait}") if cannot_run else ("CrashLoopBackOff", wait)
    note = Note(WARNING, "BackOff", f"Back-off restarting failed container {c.name} in pod {pod}")
    return replace(c, phase=Phase.BACKOFF, waiting=waiting, deadline=now + delay_s), [note]


def _probe_changed(state: PodState, c: ContainerState, event: ProbeChanged, now: float) -> _Change:
    if not event.liveness:
        return replace(c, ready=event.healthy), []
    if event.healthy:
        return c, []
    note = Note(NORMAL, "Killing", f"Container {c.name} failed liveness probe, will be restarted")
    c, commands = _terminate(state, c, now + max(state.grace_s, MIN_GRACE_S))
    return c, [note, *(command for command in commands if not isinstance(command, Note))]


def _terminate(state: PodState, c: ContainerState, deadline: float) -> _Change:
    return replace(c, phase=Phase.STOPPING, ready=False, deadline=deadline), [
        Note(NORMAL, "Killing", f"Stopping container {c.name}"),
        StopProbes(c.name, c.run),
        Signal(c.name, c.run, SIGTERM),
    ]


def _stop_running(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    assert state.stop is not None
    return _terminate(state, c, state.stop.deadline)


def _shorten(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    assert state.stop is not None
    return replace(c, deadline=min(c.deadline, state.stop.deadline)), []


def _end_idle(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    """It does not run: the run that was to come never happens, the one before was the last."""
    if c.phase is Phase.BACKOFF:
        c = replace(c, run=c.run - 1)
    return replace(c, phase=Phase.ENDED, ended=c.last, deadline=NEVER), []


def _tick_backoff(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    if now < c.deadline:
        return c, []
    return replace(c, phase=Phase.STARTING, deadline=NEVER), [Start(c.name, c.run)]


def _tick_stopping(state: PodState, c: ContainerState, event: PodEvent, now: float) -> _Change:
    if now < c.deadline:
        return c, []
    return replace(c, deadline=NEVER), [Kill(c.name, c.run)]


_Handler: TypeAlias = Callable[[PodState, ContainerState, PodEvent, float], _Change]
_TABLE: dict[tuple[Phase, type], _Handler] = {
    (Phase.WAITING, Admitted): _start,
    (Phase.STARTING, Started): _started,  # type: ignore[dict-item]
    (Phase.STARTING, StartFailed): _start_failed,  # type: ignore[dict-item]
    (Phase.STARTING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.RUNNING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.STOPPING, Exited): _exited,  # type: ignore[dict-item]
    (Phase.RUNNING, ProbeChanged): _probe_changed,  # type: ignore[dict-item]
    (Phase.WAITING, StopAsked): _end_idle,
    (Phase.BACKOFF, StopAsked): _end_idle,
    (Phase.RUNNING, StopAsked): _stop_running,
    (Phase.STOPPING, StopAsked): _shorten,
    (Phase.BACKOFF, Ticked): _tick_backoff,
    (Phase.STOPPING, Ticked): _tick_stopping,
}
