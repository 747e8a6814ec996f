"""Deleting: how long a pod may take to end, what keeps an object from going, and what becomes of what it owns.

The table for pods, Kubernetes' (semantics K8); "period" is the request's, or else the pod's own:

    unscheduled, or Succeeded or Failed          period is 0
    period 0                                     removed now, unless finalizers hold it
    not yet terminating                          deletionTimestamp = now + period, generation + 1
    terminating, shorter period than before      deletionTimestamp moves forward
    terminating, same or longer, or none named   nothing

Everything else has no period: it goes at once, or when the last finalizer is taken away. A namespace goes in two steps
(admission.py), a definition of a kind when its objects are gone (definitions.py). What an object owned is removed by
the garbage collector when it sees that the owner is gone ("Background"), or is left in peace if the references to the
owner are taken out in the same revision ("Orphan").
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.api.errors import Conflict, Forbidden, Invalid
from cluster.api.kinds import BY_NAME, AnyObject, kind_of
from cluster.api.meta import from_time, is_terminating, to_time
from cluster.api.pods import is_finished
from cluster.master import definitions
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.priorities import check_removal
from cluster.master.stage import Stage, copy_of
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version

_DEFAULT_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delete comes to: remove the object, keep it as `changed`, or (neither) leave everything as it is."""

    remove: bool = False
    changed: AnyObject | None = None


def decide(obj: AnyObject, request: wire.DeleteOperation, stage: Stage) -> Verdict:
    """What deleting this object means now. Raises Conflict, Forbidden, Invalid."""
    if request.propagation_policy not in ("", "Background", "Orphan"):
        raise Invalid(f'propagation policy "{request.propagation_policy}" is not one of Background, Orphan')
    if request.grace_period_seconds < 0:
        raise Invalid(f"the grace period must not be negative, but is {request.grace_period_seconds}")
    if isinstance(obj, core.Namespace):
        return _namespace(obj, stage)
    if isinstance(obj, core.PriorityClass):
        check_removal(obj)
    grace_s = _grace_s(obj, request)
    if not is_terminating(obj):
        waits = isinstance(obj, core.CustomResourceDefinition) and definitions.kept_back(stage, obj)
        if not grace_s and not obj.metadata.finalizers and not waits:
            return Verdict(remove=True)
        changed = _marked(obj, stage.now_s + grace_s, grace_s)
        changed.metadata.generation += 1
        if waits and isinstance(changed, core.CustomResourceDefinition):
            definitions.mark(changed, stage.now_s)
        return Verdict(changed=changed)
    if may_go(obj) or (grace_s == 0 and not obj.metadata.finalizers):
        return Verdict(remove=True)
    before_s = obj.metadata.deletionGracePeriodSeconds
    if grace_s is None or grace_s >= before_s:
        return Verdict()
    return Verdict(changed=_marked(obj, from_time(obj.metadata.deletionTimestamp) - before_s + grace_s, grace_s))


def may_go(obj: AnyObject) -> bool:
    """It is terminating, and nothing holds it any more."""
    return is_terminating(obj) and not obj.metadata.finalizers and not obj.metadata.deletionGracePeriodSeconds


def _grace_s(obj: AnyObject, request: wire.DeleteOperation) -> int:
    """The period of a delete; for a pod that is terminating already and a request that names none, what it has."""
    if not isinstance(obj, core.Pod) or not obj.spec.nodeName or is_finished(obj):
        return 0
    if request.HasField("grace_period_seconds"):
        return request.grace_period_seconds
    if is_terminating(obj):
        return obj.metadata.deletionGracePeriodSeconds
    if obj.spec.HasField("terminationGracePeriodSeconds"):
        return obj.spec.terminationGracePeriodSeconds
    return _DEFAULT_GRACE_S


def _marked(obj: AnyObject, deadline_s: float, grace_s: int) -> AnyObject:
    changed = copy_of(obj)
    changed.metadata.deletionTimestamp.CopyFrom(to_time(deadline_s))
    changed.metadata.deletionGracePeriodSeconds = grace_s
    return changed


def _namespace(namespace: core.Namespace, stage: Stage) -> Verdict:
    name = namespace.metadata.name
    if name == DEFAULT_NAMESPACE:
        raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
    if not is_terminating(namespace):
        changed = _marked(namespace, stage.now_s, 0)
        assert isinstance(changed, core.Namespace)
        changed.metadata.generation += 1
        changed.status.phase = "Terminating"
        return Verdict(changed=changed)
    left = [
        f"{count} {kind.plural}"
        for kind in BY_NAME.values()
        if kind.namespaced and (count := len(stage.list(kind.name, name)))
    ]
    if left:
        raise Conflict(f'namespaces "{name}" is being terminated, and still holds {", ".join(left)}')
    return Verdict() if namespace.metadata.finalizers else Verdict(remove=True)


def orphaned(owner: AnyObject, stage: Stage) -> Iterator[tuple[Version, AnyObject]]:
    """What the object owns, and the same without the references to it."""
    uid, namespace = owner.metadata.uid, owner.metadata.namespace
    for kind in BY_NAME.values():
        if (kind is kind_of(owner) and not isinstance(owner, core.CustomObject)) or (namespace and not kind.namespaced):
            continue
        for version in stage.list(kind.name, namespace):
            found = version.parse()
            references = found.metadata.ownerReferences
            if any(reference.uid == uid for reference in references):
                changed = copy_of(found)
                del changed.metadata.ownerReferences[:]
                changed.metadata.ownerReferences.extend(r for r in references if r.uid != uid)
                yield version, changed
