"""The nouns of a pod's life on its node: its state, what happens to it, and what is to be done about it. Pure data.

What they mean together is `node_agent.pod_lifecycle`. All of it is frozen, and all of it can be written down
(`node_agent.state_json`), since an agent's next life goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from node_agent.restart_policy import CrashBackoff
from node_agent.runtime.interface import Used

NEVER = float("inf")
NORMAL, WARNING = "Normal", "Warning"
POST_START, PRE_STOP = "postStart", "preStop"


class Phase(Enum):
    """States of a container; see the head of `node_agent.pod_lifecycle`."""

    WAITING = "waiting"
    STARTING = "starting"
    UNPREPARED = "unprepared"
    HOOKED = "hooked"
    RUNNING = "running"
    PRESTOP = "prestop"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    ENDED = "ended"


IDLE = (Phase.WAITING, Phase.UNPREPARED, Phase.BACKOFF)
"""No run is on, and one is to come."""
ALIVE = (Phase.HOOKED, Phase.RUNNING, Phase.PRESTOP, Phase.STOPPING)
"""Its program runs."""


class Role(Enum):
    """What a container is to its pod."""

    INIT = "init"
    """It runs to its end before those that come after it."""
    SIDECAR = "sidecar"
    """It begins in the order of init containers, and runs beside the others as long as they do."""
    MAIN = "main"


@dataclass(frozen=True, slots=True)
class Termination:
    """How a run of a container ended."""

    exit_code: int
    signal: int
    reason: str
    """Completed, Error, OOMKilled, ContainerCannotRun, ContainerStatusUnknown."""
    message: str
    started_at_s: float
    finished_at_s: float
    container_id: str = ""
    used: Used | None = None


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as its node sees it."""

    name: str
    run: int = 0
    """Number of restarts: names the run that events speak of."""
    phase: Phase = Phase.WAITING
    role: Role = Role.MAIN
    probes_readiness: bool = False
    probes_startup: bool = False
    post_start: bool = False
    """It has this hook; also `pre_stop`."""
    pre_stop: bool = False
    depends_on: tuple[str, ...] = ()
    """Containers that must be ready before its first start."""
    ready: bool = False
    started: bool = False
    """It runs, and its startup probe, if it has one, has succeeded."""
    was_started: bool = False
    """It was `started` once, in whichever of its runs."""
    waiting: tuple[str, str] = ("ContainerCreating", "")
    """Reason and message while it does not run and will."""
    blocked: bool = False
    """It cannot be started on this node, ever; `waiting` says why."""
    started_at_s: float = 0.0
    started_mono_s: float | None = None
    """When it started, monotonic; None if it did not, or in another run of the machine."""
    container_id: str = ""
    ended: Termination | None = None
    """How it ended, once it is ENDED."""
    last: Termination | None = None
    """How the run before ended."""
    restarts_in_row: int = 0
    deadline: float = NEVER

    @property
    def newest_run(self) -> int:
        """The run that is on, or was last; `run` may be one that is still to come. 0 also if there was none."""
        return max(self.run - 1, 0) if self.phase in IDLE else self.run


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
    """Init containers and sidecars in their order, then the others."""
    admitted: bool = False
    missing: tuple[str, ...] = ()
    """What of the cluster the pod depends on and is not ready: nothing is started before it is."""
    active_deadline: float = NEVER
    """Monotonic: then the pod has failed."""
    failed: tuple[str, str] | None = None
    """Reason and message: the pod was ended for good, whatever its containers say."""
    stop: Stop | None = None
    stand_ins: tuple[str, ...] = ()
    """Ids of the commands that run in the place of a container, for somebody who wants to see what it would."""
    finished: bool = False
    """Finish was yielded."""

    def __getitem__(self, name: str) -> ContainerState:
        return next(container for container in self.containers if container.name == name)


# --- events


@dataclass(frozen=True, slots=True)
class Admitted:
    """The node takes the pod, or an agent that has just begun takes it over."""

    active_deadline: float = NEVER
    """Monotonic: when activeDeadlineSeconds are over."""


@dataclass(frozen=True, slots=True)
class Limited:
    """The pod may be active until then, by what its specification says now."""

    active_deadline: float
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class DependenciesChanged:
    """Which objects of the cluster the pod still waits for."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Started:
    container: str
    run: int
    at_s: float
    container_id: str = ""
    at_mono_s: float | None = None
    """The same moment, monotonic; None: now."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    container: str
    run: int
    at_s: float
    exit_code: int
    message: str


@dataclass(frozen=True, slots=True)
class Unprepared:
    """Something that the container needs is not there (yet)."""

    container: str
    run: int
    reason: str
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
    """Its last words."""
    lost: bool = False
    """Nobody saw how it ended."""
    reason: str = ""
    """Empty: Completed or Error, by the exit code."""
    used: Used | None = None
    at_mono_s: float | None = None
    """The moment of its end, monotonic; None: now."""


@dataclass(frozen=True, slots=True)
class HookDone:
    """A hook has run, or could not."""

    container: str
    run: int
    hook: str
    """postStart or preStop."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ProbeChanged:
    container: str
    run: int
    kind: str
    """readiness, liveness, startup."""
    healthy: bool
    grace_s: float | None = None
    """The probe's own grace period for a container that it ends."""


@dataclass(frozen=True, slots=True)
class StandInStarted:
    """A command is to run in the place of a container. From now on the pod is not over before it is."""

    run_id: str


@dataclass(frozen=True, slots=True)
class StandInEnded:
    """Nothing of it is left; or it never ran."""

    run_id: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The pod was deleted, or the agent stops. Asked again, it can only become shorter."""

    grace_s: float
    remove: bool


@dataclass(frozen=True, slots=True)
class FailAsked:
    """The pod is to be ended for good: evicted, cut off for too long."""

    reason: str
    message: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class Ticked:
    """A deadline may be due."""


PodEvent: TypeAlias = (
    Admitted
    | Limited
    | DependenciesChanged
    | Started
    | StartFailed
    | Unprepared
    | Exited
    | HookDone
    | ProbeChanged
    | StandInStarted
    | StandInEnded
    | StopAsked
    | FailAsked
    | Ticked
)

# --- commands


@dataclass(frozen=True, slots=True)
class Start:
    container: str
    run: int


@dataclass(frozen=True, slots=True)
class RunHook:
    container: str
    run: int
    hook: str
    """postStart or preStop."""


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
class KillStandIn:
    """The whole tree of a command that runs in the place of a container, now. Again is fine."""

    run_id: str


@dataclass(frozen=True, slots=True)
class StartProbes:
    """The startup probe alone, or the other two."""

    container: str
    run: int
    startup: bool = False


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


Command: TypeAlias = Start | RunHook | Signal | Kill | KillStandIn | StartProbes | StopProbes | Note | Finish
