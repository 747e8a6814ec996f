"""Deleting: how long a pod may take to end, what keeps an object from going, and what becomes of what it owns.

The table for pods, Kubernetes' (semantics K8); "period" is the request's, 1 if that is negative, or else the pod's own:

    unscheduled, or Succeeded or Failed          period is 0
    period 0                                     removed now, unless finalizers hold it
    not yet terminating                          deletionTimestamp = now + period, generation + 1
    terminating, shorter period than before      deletionTimestamp moves forward
    terminating, same or longer, or none named   nothing

Everything else has no period: it goes at once, or when the last finalizer is taken away. A namespace goes in two steps
(admission.py), a definition of a kind when its objects are gone (definitions.py). What becomes of what an object owns:

    Background      the garbage collector removes it when it sees that the owner is gone
    Foreground      the owner gets the finalizer foregroundDeletion; when the garbage collector has removed what blocks
                    the owner's deletion, it deletes the owner once more, in the background, which takes the finalizer
    Orphan          the references to the owner are taken out in the same revision
    none named      as the object's finalizers say (foregroundDeletion, orphan), or else Background

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.api.errors import Conflict, Forbidden, Invalid
from cluster.api.kinds import BY_NAME, AnyObject, kind_of
from cluster.api.leases import SYSTEM_NAMESPACE
from cluster.api.meta import from_time, is_terminating, to_time
from cluster.api.owners import FOREGROUND, ORPHAN, WATCHED
from cluster.api.pods import is_finished
from cluster.master import definitions
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.priorities import check_removal
from cluster.master.stage import Stage, copy_of
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version

_DEFAULT_GRACE_S = 30
_LASTING_NAMESPACES = (DEFAULT_NAMESPACE, SYSTEM_NAMESPACE)
"""What is in no other namespace is in the first; the leases of the managers are in the second."""
_POLICIES = ("Background", "Foreground", "Orphan")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delete comes to: remove the object, keep it as `changed`, or (neither) leave everything as it is."""

    remove: bool = False
    changed: AnyObject | None = None


def decide(obj: AnyObject, request: wire.DeleteOperation, stage: Stage) -> Verdict:
    """What deleting this object means now. Raises Conflict, Forbidden, Invalid."""
    if request.propagation_policy not in ("", *_POLICIES):
        raise Invalid(f'propagation policy "{request.propagation_policy}" is not one of {", ".join(_POLICIES)}')
    if isinstance(obj, core.Namespace):
        return _namespace(obj, request, stage)
    if isinstance(obj, core.PriorityClass):
        check_removal(obj)
    grace_s = _grace_s(obj, request)
    finalizers = _finalizers(obj, request, stage)
    if not is_terminating(obj):
        waits = isinstance(obj, core.CustomResourceDefinition) and definitions.objects_of(stage, obj) > 0
        if not grace_s and not finalizers and not waits:
            return Verdict(remove=True)
        changed = _marked(obj, stage.now_s + grace_s, grace_s, finalizers)
        changed.metadata.generation += 1
        if waits and isinstance(changed, core.CustomResourceDefinition):
            definitions.mark(changed, stage.now_s)
        return Verdict(changed=changed)
    before_s = obj.metadata.deletionGracePeriodSeconds
    if not finalizers and (grace_s == 0 or before_s == 0):
        return Verdict(remove=True)
    if grace_s < before_s:
        deadline_s = from_time(obj.metadata.deletionTimestamp) - before_s + grace_s
        return Verdict(changed=_marked(obj, deadline_s, grace_s, finalizers))
    return _held_by(obj, finalizers)


def may_go(obj: AnyObject) -> bool:
    """It is terminating, and nothing holds it any more. (A namespace is held by what is in it, so another delete must
    ask for its end.)"""
    meta = obj.metadata
    ended = is_terminating(obj) and not meta.finalizers and not meta.deletionGracePeriodSeconds
    return ended and not isinstance(obj, core.Namespace)


def orphans(obj: AnyObject, request: wire.DeleteOperation) -> bool:
    """Whether this delete leaves what the object owns in peace."""
    return request.propagation_policy == "Orphan" or (
        not request.propagation_policy and ORPHAN in obj.metadata.finalizers
    )


def _finalizers(obj: AnyObject, request: wire.DeleteOperation, stage: Stage) -> list[str]:
    """What holds the object from now on. Raises Invalid for an owner that nobody would let go."""
    before = list(obj.metadata.finalizers)
    if not request.propagation_policy:
        return [each for each in before if each != ORPHAN]
    others = [each for each in before if each not in (ORPHAN, FOREGROUND)]
    if request.propagation_policy != "Foreground":
        return others
    kind = kind_of(obj)
    if kind.name in WATCHED:
        return [*others, FOREGROUND]
    if next(orphaned(obj, stage), None) is not None:
        raise Invalid(
            f'propagation policy "Foreground": {kind.plural} "{obj.metadata.name}" owns other objects, and '
            f"{kind.plural} can only be deleted in the background then, or orphan what they own"
        )
    return others


def _held_by(obj: AnyObject, finalizers: list[str]) -> Verdict:
    """The same, held by these."""
    if finalizers == list(obj.metadata.finalizers):
        return Verdict()
    changed = copy_of(obj)
    changed.metadata.finalizers[:] = finalizers
    return Verdict(changed=changed)


def _grace_s(obj: AnyObject, request: wire.DeleteOperation) -> int:
    """The period of a delete; for a pod that is terminating already and a request that names none, what it has."""
    if not isinstance(obj, core.Pod) or not obj.spec.nodeName or is_finished(obj):
        return 0
    if request.HasField("grace_period_seconds"):
        return request.grace_period_seconds if request.grace_period_seconds >= 0 else 1
    if is_terminating(obj):
        return obj.metadata.deletionGracePeriodSeconds
    if obj.spec.HasField("terminationGracePeriodSeconds"):
        return obj.spec.terminationGracePeriodSeconds
    return _DEFAULT_GRACE_S


def _marked(obj: AnyObject, deadline_s: float, grace_s: int, finalizers: list[str]) -> AnyObject:
    changed = copy_of(obj)
    changed.metadata.finalizers[:] = finalizers
    changed.metadata.deletionTimestamp.CopyFrom(to_time(deadline_s))
    changed.metadata.deletionGracePeriodSeconds = grace_s
    return changed


def _namespace(namespace: core.Namespace, request: wire.DeleteOperation, stage: Stage) -> Verdict:
    name = namespace.metadata.name
    if name in _LASTING_NAMESPACES and not is_terminating(namespace):
        raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
    finalizers = _finalizers(namespace, request, stage)
    if not is_terminating(namespace):
        changed = _marked(namespace, stage.now_s, 0, finalizers)
        assert isinstance(changed, core.Namespace)
        changed.metadata.generation += 1
        changed.status.phase = "Terminating"
        return Verdict(changed=changed)
    if finalizers != list(namespace.metadata.finalizers):
        return _held_by(namespace, finalizers)
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
        if namespace and not kind.namespaced:
            continue
        for version in stage.list(kind.name, namespace):
            found = version.parse()
            references = found.metadata.ownerReferences
            if any(reference.uid == uid for reference in references):
                changed = copy_of(found)
                del changed.metadata.ownerReferences[:]
                changed.metadata.ownerReferences.extend(r for r in references if r.uid != uid)
                yield version, changed
