"""What a pod does that is only played: the lifecycle of a real one, fed with events that nobody caused. Pure.

    command of the lifecycle    what comes of it
    Start                       Started, after the start delay
    ... once started            Exited, after `podium.dev/hollow-run-seconds`; an init container at once, with 0
    StartProbes                 ProbeChanged(healthy) after the probe's initialDelaySeconds; no probe ever fails
    RunHook                     HookDone at once, or after its seconds if it sleeps
    Signal                      Exited with 128 + signal, at once
    Kill                        the same with SIGKILL
    Note, Finish                are told to whoever plays

What happens at once is played on at once; what happens later is returned, to be played when it is due. By then the
pod may be elsewhere: the lifecycle ignores what comes of an earlier run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_lifecycle import step
from node_agent.pod_state import (
    POST_START,
    Command,
    Exited,
    Finish,
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
    StartProbes,
)
from node_agent.probe_state import READINESS, STARTUP

SIGKILL = 9


@dataclass(frozen=True, slots=True)
class Script:
    """What is played with the pods of a shape."""

    containers: Mapping[str, core.Container]
    run_s: float | None
    """How long containers seem to run; None: until they are told to end."""
    exit_code: int
    """With what they seem to end then."""


@dataclass(frozen=True, slots=True)
class Later:
    """Something that happens to the pod after a while."""

    after_s: float
    event: PodEvent


@dataclass(slots=True)
class Played:
    """What has come of an event."""

    state: PodState
    later: list[Later] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    finished: Finish | None = None
    """Nothing of the pod is left on this node."""


def container_id(uid: str, container: str, run: int) -> str:
    """How the status names a container that is only played."""
    return f"hollow://{uid}.{container}.{run}"


def play(
    state: PodState, event: PodEvent, script: Script, *, now: float, now_s: float, delay: Callable[[], float]
) -> Played:
    """The pod after an event and all that follows from it at once.

    `now` is monotonic, `now_s` in seconds since 1970; `delay` says how long the next start takes, in seconds.
    """
    played = Played(state)
    events: deque[PodEvent] = deque([event])
    while events:
        current = events.popleft()
        played.state, commands = step(played.state, current, now)
        for command in commands:
            if isinstance(command, Note):
                played.notes.append(command)
            elif isinstance(command, Finish):
                played.finished = command
        for later in _follow(played.state, current, commands, script, now_s, delay):
            if later.after_s <= 0:
                events.append(later.event)
            else:
                played.later.append(later)
    return played


def _follow(
    state: PodState,
    event: PodEvent,
    commands: list[Command],
    script: Script,
    now_s: float,
    delay: Callable[[], float],
) -> Iterator[Later]:
    """What the world, if there were one, would do now."""
    if isinstance(event, Started):
        yield from _end(state, event, script, now_s)
    for command in commands:
        match command:
            case Start(container, run):
                after_s = delay()
                yield Later(after_s, started(state.uid, container, run, now_s + after_s))
            case StartProbes(container, run, startup):
                yield from _probes(script.containers[container], run, startup)
            case RunHook(container, run, hook):
                lifecycle = script.containers[container].lifecycle
                handler = lifecycle.postStart if hook == POST_START else lifecycle.preStop
                yield Later(float(handler.sleep.seconds), HookDone(container, run, hook))
            case Signal(container, run, number):
                yield Later(0.0, Exited(container, run, now_s, 128 + number, number))
            case Kill(container, run):
                yield Later(0.0, Exited(container, run, now_s, 128 + SIGKILL, SIGKILL))


def started(uid: str, container: str, run: int, at_s: float) -> Started:
    """A container seems to run since then."""
    return Started(container, run, at_s, container_id(uid, container, run))


def _end(state: PodState, event: Started, script: Script, now_s: float) -> Iterator[Later]:
    """How the run ends by itself, if it does."""
    role = state[event.container].role
    if role is Role.INIT:
        yield Later(0.0, Exited(event.container, event.run, now_s, 0))
    elif role is Role.MAIN and script.run_s is not None:
        end = Exited(event.container, event.run, now_s + script.run_s, script.exit_code)
        yield Later(script.run_s, end)


def resumed(state: PodState, script: Script, now_s: float) -> Iterator[Later]:
    """What is still to come of containers that were taken over and seem to run on."""
    for c in state.containers:
        if c.phase is not Phase.RUNNING:
            continue
        if not c.started:
            yield from _probes(script.containers[c.name], c.run, startup=True)
        elif not c.ready and c.role is not Role.INIT:
            yield from _probes(script.containers[c.name], c.run, startup=False)
        if c.role is Role.MAIN and script.run_s is not None:
            end_s = max(c.started_at_s + script.run_s, now_s)
            yield Later(end_s - now_s, Exited(c.name, c.run, end_s, script.exit_code))


def _probes(container: core.Container, run: int, startup: bool) -> Iterator[Later]:
    """They find what they look for, once their first delay is over."""
    if startup:
        yield Later(
            float(container.startupProbe.initialDelaySeconds), ProbeChanged(container.name, run, STARTUP, healthy=True)
        )
    elif container.HasField("readinessProbe"):
        after_s = float(container.readinessProbe.initialDelaySeconds)
        yield Later(after_s, ProbeChanged(container.name, run, READINESS, healthy=True))
