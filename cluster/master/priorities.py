"""Which priority a new pod has: that of the class that it names, or of the default class, or 0.

    names a class                   the class' value and preemption policy; Forbidden if there is none of that name
    names none, one is the default  that class, by name
    names none, none is             0, PreemptLowerPriority

A number or a policy that says otherwise is refused: a priority is given by a class, and classes are the admin's. The
two classes of the system exist always (`server.py` makes them) and cannot be deleted. A pod keeps what it was given,
whatever becomes of its class. Kubernetes' rules and words (plugin/pkg/admission/priority).

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.api.errors import Forbidden
from cluster.api.meta import Key
from cluster.api.priorities import DEFAULT_PRIORITY, PREEMPT_LOWER_PRIORITY, SYSTEM_CLASSES
from cluster.master.stage import Reader
from cluster.pb.v1 import core_pb2 as core

_KIND = "PriorityClass"


def set_priority(state: Reader, pod: core.Pod) -> None:
    """Gives a new pod its priority, in place. Raises Forbidden."""
    spec = pod.spec
    priority, policy = DEFAULT_PRIORITY, PREEMPT_LOWER_PRIORITY
    if spec.priorityClassName:
        version = state.get(Key(_KIND, "", spec.priorityClassName))
        if version is None:
            raise _forbidden(pod, f"no PriorityClass with name {spec.priorityClassName} was found")
        found = version.object
        assert isinstance(found, core.PriorityClass)
        priority, policy = found.value, found.preemptionPolicy
    else:
        default = default_class(state)
        if default is not None:
            spec.priorityClassName = default.metadata.name
            priority, policy = default.value, default.preemptionPolicy
    if spec.HasField("priority") and spec.priority != priority:
        raise _forbidden(pod, _contradiction("integer value of priority", spec.priority, priority))
    if spec.preemptionPolicy and spec.preemptionPolicy != policy:
        raise _forbidden(pod, _contradiction("string value of PreemptionPolicy", spec.preemptionPolicy, policy))
    spec.priority = priority
    spec.preemptionPolicy = policy


def keep_priority(new: core.PodSpec, old: core.PodSpec) -> None:
    """What the master gave a pod stays, in place, if an update does not name it."""
    if old.HasField("priority") and not new.HasField("priority"):
        new.priority = old.priority
    for field in ("preemptionPolicy", "priorityClassName"):
        if getattr(old, field) and not getattr(new, field):
            setattr(new, field, getattr(old, field))


def default_class(state: Reader) -> core.PriorityClass | None:
    """The class of pods that name none. (There is one at most; of several the lowest would be it.)"""
    return min((each for each in _classes(state) if each.globalDefault), key=lambda each: each.value, default=None)


def check_only_default(state: Reader, wanted: core.PriorityClass) -> None:
    """There can be one default. Raises Forbidden if this class wants to be a second one."""
    if not wanted.globalDefault:
        return
    default = default_class(state)
    if default is not None and default.metadata.name != wanted.metadata.name:
        raise Forbidden(
            f'priorityclasses "{wanted.metadata.name}" is forbidden: PriorityClass {default.metadata.name} is already'
            " marked as default. Only one default can exist"
        )


def check_removal(doomed: core.PriorityClass) -> None:
    """Raises Forbidden for the system's classes."""
    name = doomed.metadata.name
    if name in SYSTEM_CLASSES:
        raise Forbidden(f'priorityclasses "{name}" is forbidden: this is a system priority class and cannot be deleted')


def _classes(state: Reader) -> Iterator[core.PriorityClass]:
    for version in state.list(_KIND):
        found = version.parse()
        assert isinstance(found, core.PriorityClass)
        yield found


def _contradiction(what: str, given: object, computed: object) -> str:
    return (
        f"the {what} ({given}) must not be provided in pod spec; priority admission controller computed {computed} from"
        " the given PriorityClass name"
    )


def _forbidden(pod: core.Pod, why: str) -> Forbidden:
    name = pod.metadata.name or pod.metadata.generateName
    return Forbidden(f'pods "{name}" is forbidden: {why}')
