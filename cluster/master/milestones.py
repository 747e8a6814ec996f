"""What the steps of an object mean to somebody who asks how it came to be: "Scheduled", "Started", "Ready".

    milestones(step)        what one change was, as words; a status write may be several at once (started and ready)

Worked example, a pod of a replication controller:

    ADDED by controllers                            Created
    spec.nodeName set by scheduler                  Scheduled     bound to node-2
    all containers have run, by node:node-2         Started
    condition Ready is True                         Ready
    deletionTimestamp set by controllers            Deleting      within 30 s
    DELETED by node:node-2                          Deleted

A step whose before is not known any more stands for all that happened up to it: it gives every milestone that its
object still shows, with the times that the object itself names.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.api.conditions import get_condition
from cluster.api.diff import Difference, object_differences
from cluster.api.kinds import AnyObject
from cluster.api.meta import from_time, is_terminating
from cluster.api.secrets import hide_object
from cluster.master.lineage import ADDED, DELETED, Step
from cluster.pb.v1 import core_pb2 as core

SHOWN_CHANGES = 3
"""Fields that a "Changed" names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """One thing that a step brought about."""

    word: str
    message: str = ""
    claimed_s: float | None = None
    """When the object itself says that it happened (wall time); it was written some time after that."""


def milestones(step: Step, secret: bytes) -> list[Milestone]:
    """What this step was, in the order in which such things happen. Nothing, if it was bookkeeping."""
    if step.type == DELETED:
        return [Milestone("Deleted")]
    found = list(_made(step))
    if not step.is_known:
        created = from_time(step.object.metadata.creationTimestamp)
        found = [Milestone("Created", _summary(step.object), created), *found]
    obj, before = step.object, step.before
    if isinstance(obj, core.Pod):
        assert before is None or isinstance(before, core.Pod)
        found += _pod(before or core.Pod(), obj)
    elif isinstance(obj, core.Node):
        assert before is None or isinstance(before, core.Node)
        found += _node(before or core.Node(), obj)
    elif isinstance(obj, core.ReplicationController):
        assert before is None or isinstance(before, core.ReplicationController)
        found += _controller(before or core.ReplicationController(), obj)
    if before is not None:
        if not isinstance(obj, core.Node) and step.is_wish and not any(m.word == "Scheduled" for m in found):
            found.insert(0, _wish(step, secret))
        if is_terminating(obj) and not is_terminating(before):
            found.append(Milestone("Deleting", _deleting(obj)))
    return found


def _made(step: Step) -> Iterator[Milestone]:
    if step.type == ADDED:
        word = "Undone" if step.cause.reason == "undo" else "Applied" if step.is_applied else "Created"
        yield Milestone(word, _summary(step.object))


def _summary(obj: AnyObject) -> str:
    """What is worth knowing of a new object in a few words."""
    if isinstance(obj, core.ReplicationController):
        return _count(obj.spec.replicas, "replica")
    if isinstance(obj, core.Service):
        return ", ".join(f"port {port.port}" for port in obj.spec.ports)
    if isinstance(obj, core.Endpoints):
        return _addresses(obj)
    return ""


def _addresses(endpoints: core.Endpoints) -> str:
    ready = sum(len(subset.addresses) for subset in endpoints.subsets)
    waiting = sum(len(subset.notReadyAddresses) for subset in endpoints.subsets)
    return f"{_count(ready, 'address', 'addresses')} ready" + (f", {waiting} not" if waiting else "")


def _wish(step: Step, secret: bytes) -> Milestone:
    """Somebody changed what they want."""
    obj, before = step.object, step.before
    assert before is not None
    if isinstance(obj, core.Endpoints):
        return Milestone("Endpoints", _addresses(obj))
    differences = [
        difference
        for difference in object_differences(hide_object(before, secret), hide_object(obj, secret))
        if not difference.path.startswith("status")
    ]
    word = "Applied" if step.is_applied else "Changed"
    if step.cause.reason == "undo":
        word = "Undone"
    elif word == "Changed" and [d.path for d in differences] == ["spec.replicas"]:
        word = "Scaled"
    return Milestone(word, in_short(differences))


def in_short(differences: Sequence[Difference], limit: int = SHOWN_CHANGES) -> str:
    """The first few, and how many more there are."""
    shown = "; ".join(_cut(str(difference)) for difference in differences[:limit])
    more = len(differences) - limit
    return f"{shown}; and {more} more" if more > 0 else shown


def _cut(text: str, width: int = 80) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


# --- pods


def _pod(before: core.Pod, pod: core.Pod) -> Iterator[Milestone]:
    if pod.spec.nodeName and not before.spec.nodeName:
        yield Milestone("Scheduled", f"bound to {pod.spec.nodeName}", _since(pod, "PodScheduled", "True"))
    elif _is(pod, "PodScheduled", "False") and not _is(before, "PodScheduled", "False"):
        condition = get_condition(pod.status, "PodScheduled")
        assert condition is not None
        yield Milestone("Unschedulable", _cut(condition.message, 160), _since(pod, "PodScheduled", "False"))
    if _have_run(pod) and not _have_run(before):
        yield Milestone("Started", _count(len(pod.spec.containers), "container"), _started_s(pod))
    else:
        yield from _restarts(before, pod)
    if _is(pod, "Ready", "True") and not _is(before, "Ready", "True"):
        yield Milestone("Ready", claimed_s=_since(pod, "Ready", "True"))
    elif _is(before, "Ready", "True") and not _is(pod, "Ready", "True"):
        condition = get_condition(pod.status, "Ready")
        yield Milestone("NotReady", condition.message or condition.reason if condition is not None else "")
    for phase in ("Succeeded", "Failed"):
        if pod.status.phase == phase and before.status.phase != phase:
            yield Milestone(phase, _cut(pod.status.message or pod.status.reason or _exits(pod), 160))


def _have_run(pod: core.Pod) -> bool:
    """Every container has been started at least once."""
    statuses = pod.status.containerStatuses
    return len(statuses) > 0 and len(statuses) >= len(pod.spec.containers) and all(map(_has_run, statuses))


def _has_run(status: core.ContainerStatus) -> bool:
    state = status.state
    return (
        state.HasField("running")
        or state.HasField("terminated")
        or status.restartCount > 0
        or status.lastState.HasField("terminated")
    )


def _started_s(pod: core.Pod) -> float | None:
    """When the last of the containers was started, if all of them are still in their first run."""
    times = [
        from_time(status.state.running.startedAt)
        for status in pod.status.containerStatuses
        if status.state.HasField("running") and status.restartCount == 0
    ]
    return max(times) if times and len(times) == len(pod.status.containerStatuses) else None


def _restarts(before: core.Pod, pod: core.Pod) -> Iterator[Milestone]:
    counts = {status.name: status.restartCount for status in before.status.containerStatuses}
    for status in pod.status.containerStatuses:
        if status.restartCount > counts.get(status.name, 0):
            last = status.lastState.terminated
            how = f"signal {last.signal}" if last.signal else f"exit code {last.exitCode}"
            ended = f" after {how}" if status.lastState.HasField("terminated") else ""
            yield Milestone("Restarted", f"{status.name}{ended}, {_count(status.restartCount, 'restart')}")


def _exits(pod: core.Pod) -> str:
    """ "web: exit code 1"."""
    return ", ".join(
        f"{status.name}: exit code {status.state.terminated.exitCode}"
        for status in pod.status.containerStatuses
        if status.state.HasField("terminated")
    )


def _deleting(obj: AnyObject) -> str:
    return f"within {obj.metadata.deletionGracePeriodSeconds} s" if isinstance(obj, core.Pod) else ""


# --- nodes and controllers


def _node(before: core.Node, node: core.Node) -> Iterator[Milestone]:
    ready, was = get_condition(node.status, "Ready"), get_condition(before.status, "Ready")
    if ready is not None and (was is None or was.status != ready.status):
        word = "Ready" if ready.status == "True" else "NotReady"
        yield Milestone(word, "" if ready.status == "True" else _cut(ready.message or ready.reason, 160))
    taints = {_taint(taint) for taint in before.spec.taints}
    added = [_taint(taint) for taint in node.spec.taints if _taint(taint) not in taints]
    if added:
        yield Milestone("Tainted", ", ".join(added))
    now = {_taint(taint) for taint in node.spec.taints}
    gone = [_taint(taint) for taint in before.spec.taints if _taint(taint) not in now]
    if gone:
        yield Milestone("Untainted", ", ".join(gone))


def _taint(taint: core.Taint) -> str:
    return f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}"


def _controller(before: core.ReplicationController, rc: core.ReplicationController) -> Iterator[Milestone]:
    """It has seen the newest specification, and so many pods are ready as are wished for."""
    if _is_rolled_out(rc) and not _is_rolled_out(before):
        yield Milestone("Ready", f"{rc.status.readyReplicas} of {rc.spec.replicas} ready")
    elif _is_rolled_out(before) and rc.metadata.generation == before.metadata.generation and not _is_rolled_out(rc):
        yield Milestone("NotReady", f"{rc.status.readyReplicas} of {rc.spec.replicas} ready")


def _is_rolled_out(rc: core.ReplicationController) -> bool:
    status = rc.status
    return (
        rc.metadata.generation > 0
        and status.observedGeneration >= rc.metadata.generation
        and status.replicas == status.readyReplicas == rc.spec.replicas
    )


# --- words


def _is(pod: core.Pod, condition: str, status: str) -> bool:
    found = get_condition(pod.status, condition)
    return found is not None and found.status == status


def _since(pod: core.Pod, condition: str, status: str) -> float | None:
    found = get_condition(pod.status, condition)
    if found is None or found.status != status or not found.HasField("lastTransitionTime"):
        return None
    return from_time(found.lastTransitionTime)


def _count(number: int, word: str, plural: str = "") -> str:
    return f"{number} {word if number == 1 else plural or word + 's'}"
