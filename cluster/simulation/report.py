"""What a simulation found out: values, with their times in virtual seconds since the changes were made.

`reckoning.py` makes a report out of a snapshot and a log; `document` turns it into plain data for JSON and YAML, with
the same names in Kubernetes' spelling. Lists are in the order of time, then of namespace and name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AppliedObject:
    """What became of one manifest."""

    kind: str
    namespace: str
    name: str
    verb: str
    """created, configured, unchanged or refused; if any was refused, nothing was applied."""
    differences: tuple[str, ...] = ()
    """What was changed of an object that was there: "spec.replicas: 3 -> 5". Secret values are left out."""
    message: str = ""
    """Why it was refused."""
    source: str = ""
    """The manifest's file."""
    line: int = 0
    """Where it begins, from 1."""


@dataclass(frozen=True, slots=True)
class NodeStory:
    """What became of a node. None: that did not happen."""

    name: str
    joined_s: float | None = None
    """It is new, and was ready then."""
    failed_s: float | None = None
    """It was taken for dead."""
    evicted_s: float | None = None
    """Its pods were told to go. A failed node without this keeps its pods: evictions have stopped, or wait."""
    cordoned: bool | None = None
    """It was cordoned (True) or uncordoned (False)."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A pod that has found its node: a new one, or one that was pending before."""

    namespace: str
    pod: str
    node: str
    bound_s: float
    ready_s: float | None
    """None: it is not ready."""
    owner: str = ""
    """Who made it: "ReplicationController/web"; empty: nobody."""
    replaces: str = ""
    """The pod whose place it takes among those of its owner; empty: it is one more."""
    was_pending: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """A pod that was there, and is gone or on its way out."""

    namespace: str
    pod: str
    node: str
    """Where it was; empty: nowhere yet."""
    why: str
    """evicted (its node failed, or does not want it any more), preempted (it made room), scaled down, deleted."""
    because: str
    """What made it go: "nodes/n2", "pods/default/big"; empty: that is not known."""
    left_s: float
    """When it was told to go."""
    gone_s: float | None
    """None: it is not gone, for its node does not answer."""
    owner: str = ""
    replaced_by: str = ""
    """The pod that takes its place; empty: none does."""
    replaced_on: str = ""
    """That one's node; empty: it is pending, or there is none."""
    ready_s: float | None = None
    """When that one was ready."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod without a node."""

    namespace: str
    pod: str
    message: str
    """The scheduler's, as in the pod's condition PodScheduled."""
    since_s: float
    """0 if it was pending before."""
    owner: str = ""
    was_pending: bool = False


@dataclass(frozen=True, slots=True)
class Stuck:
    """Pods that have a node and do not run there, alike in owner and reason."""

    namespace: str
    owner: str
    """Or the pod itself, "Pod/web", if nobody made it."""
    reason: str
    """OutOfcpu, NodePorts (refused by the node), CreateContainerConfigError ..."""
    message: str
    """Of the first one."""
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a service had no ready endpoint."""

    namespace: str
    service: str
    from_s: float
    until_s: float | None
    """None: it is left without."""


@dataclass(frozen=True, slots=True)
class Restless:
    """What kept a simulation from becoming quiet."""

    what: str
    """ "ReplicationController/web"; objects count for their owner."""
    namespace: str
    changes: int
    """Within the last minute of virtual time."""


@dataclass(frozen=True, slots=True)
class Report:
    """See above."""

    revision: int
    """Of the snapshot."""
    seed: int
    changes: tuple[str, ...]
    """What was changed, in words."""
    ending: str
    """quiet; limit (of virtual time) or deadline (of real time): it was ended before it was quiet, and what is told is
    as of then; refused: a manifest was refused, and nothing was simulated."""
    quiet_at_s: float = 0.0
    """When the last change happened."""
    elapsed_s: float = 0.0
    """How long it was looked on."""
    revisions: int = 0
    """How many changes followed, those that were asked for included."""
    applied: tuple[AppliedObject, ...] = ()
    nodes: tuple[NodeStory, ...] = ()
    """Those to which anything happened."""
    placed: tuple[Placed, ...] = ()
    removed: tuple[Removed, ...] = ()
    pending: tuple[Pending, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    outages: tuple[Outage, ...] = ()
    passing: int = 0
    """Pods that were made, and are gone again or on their way out: placed on a node that failed later, for example."""
    restless: tuple[Restless, ...] = ()
    """If it did not become quiet: who went on, the busiest first."""
    notes: tuple[str, ...] = ()
    """What should be known about it beside."""

    @property
    def is_quiet(self) -> bool:
        """Nothing more would happen."""
        return self.ending == "quiet"

    @property
    def fits(self) -> bool:
        """Every pod has a node that runs it."""
        return not self.pending and not self.stuck


def document(value: Any) -> Any:
    """A report, or a part of it, as dicts, lists and plain values; names like `gone_s` become "goneS"; times are
    rounded to the millisecond; what is None, False or empty is left out of parts, not of the report itself."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, document(getattr(value, field.name))) for field in fields(value))
        whole = isinstance(value, Report)
        found = {_camel(name): inner for name, inner in pairs if whole or inner not in (None, "", [], False)}
        return found | {"fits": value.fits} if isinstance(value, Report) else found
    if isinstance(value, tuple):
        return [document(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join("Seconds" if word == "s" else word.capitalize() for word in rest)
