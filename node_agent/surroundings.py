"""What a pod's worker is given: by its node, what the workers of all pods share; and what its own parts share.

A worker is one actor, and has its work done by a few objects (`node_agent.container_runs`, `container_probes`,
`pod_commands`), none of which knows the worker. They see the pod and act through `PodHands`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cluster.actor.clock import Clock
from cluster.api.kinds import AnyObject
from cluster.pb.v1 import core_pb2 as core
from node_agent.checkpoint import Checkpoint
from node_agent.host import Home, Host
from node_agent.pod_state import PodEvent, PodState
from node_agent.restart_policy import CrashBackoff
from node_agent.runtime.interface import Runtime


class Recorder(Protocol):
    """Where events for people go (`cluster.client.events.EventRecorder`)."""

    def event(
        self, about: AnyObject | core.ObjectReference, type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None: ...


class StatusSink(Protocol):
    """Where statuses go (`node_agent.status_writer.StatusWriter`)."""

    def put(self, pod: core.Pod, status: core.PodStatus) -> None:
        """This is the pod's status now."""
        ...

    def remove(self, pod: core.Pod) -> None:
        """All is over on this node: the object can go."""
        ...


class WaitForDependencies(Protocol):
    """`node_agent.dependencies.wait_for_dependencies`, given a client and a clock."""

    async def __call__(
        self, namespace: str, names: Sequence[str], on_change: Callable[[tuple[str, ...]], Awaitable[None]]
    ) -> None: ...


class CheckpointSink(Protocol):
    """Where the next life of this agent learns of pods (`node_agent.checkpoint.Checkpoints`)."""

    def put(self, uid: str, make: Callable[[], Checkpoint], ended_runs: Iterable[str] = ()) -> None:
        """The pod has changed; `ended_runs` need not be remembered once that is written."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the workers of one node share."""

    runtime: Runtime
    recorder: Recorder
    statuses: StatusSink
    clock: Clock
    rng: random.Random
    checkpoints: CheckpointSink
    host: Host
    boot_id: str
    backoff: CrashBackoff
    dependencies: WaitForDependencies
    eager_readiness: bool
    readiness_by_port: bool
    listener_check_s: float


class Spawn(Protocol):
    """`cluster.actor.actor.Actor.spawn`: starts a task that ends with the worker."""

    def __call__(self, coro: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[object]: ...


class TakeNote(Protocol):
    """Makes an Event about the pod, while somebody is to be told about it."""

    def __call__(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class PodHands:
    """What the parts of one pod's worker see and do."""

    around: Surroundings
    home: Home
    specs: Mapping[str, core.Container]
    """Its containers, init containers included, by name."""
    state: Callable[[], PodState]
    run_id: Callable[[str, int], str]
    """The name of a container's run."""
    step: Callable[[PodEvent], None]
    """Feeds the lifecycle now."""
    tell: Callable[[PodEvent], Awaitable[None]]
    """Has it fed in its turn: for what comes home from a task. Raises ActorStopped."""
    note: TakeNote
    spawn: Spawn
