"""Small rules of the in-memory cluster: what is copied, what is kept, what is refused. Pure."""

from __future__ import annotations

from typing import TypeVar

from cluster.api.defaults import apply_defaults
from cluster.api.disruption import covers
from cluster.api.errors import Conflict, FieldError, Internal, Invalid, TooManyRequests
from cluster.api.kinds import KINDS, AnyObject, Kind
from cluster.api.meta import Key
from cluster.api.validation import validate, validate_update
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

T = TypeVar("T", bound=AnyObject)


def own_copy(obj: T) -> T:
    copy = type(obj)()
    copy.CopyFrom(obj)  # type: ignore[arg-type]
    return copy


def full_key(kind: Kind, namespace: str, name: str) -> Key:
    return Key(kind.name, (namespace or "default") if kind.namespaced else "", name)


def take_status(target: AnyObject, source: AnyObject) -> None:
    target.ClearField("status")
    if isinstance(target, core.CustomObject) and isinstance(source, core.CustomObject):
        if source.HasField("status"):
            target.status = source.status
    elif source.HasField("status"):
        target.status.CopyFrom(source.status)  # type: ignore[union-attr, arg-type]


def take_writer(target: core.ObjectMeta, source: core.ObjectMeta) -> None:
    target.ClearField("actor")
    target.ClearField("cause")
    if source.HasField("actor"):
        target.actor = source.actor
    if source.HasField("cause"):
        target.cause.CopyFrom(source.cause)


def check_preconditions(obj: AnyObject, wanted: wire.Preconditions) -> None:
    meta = obj.metadata
    if wanted.uid and wanted.uid != meta.uid:
        raise Conflict(f'"{meta.name}" is another object: its uid is {meta.uid}, not {wanted.uid}')
    if wanted.resource_version and wanted.resource_version != meta.resourceVersion:
        raise Conflict(
            f'"{meta.name}": the object has been modified; '
            "please apply your changes to the latest version and try again"
        )


def spend_budget(
    pod: core.Pod, budgets: list[core.PodDisruptionBudget], now: core.Time
) -> core.PodDisruptionBudget | None:
    """The budget that an eviction spends from, as it is afterwards; None if it costs nothing."""
    if pod.status.phase not in ("Running", "Unknown") or pod.metadata.HasField("deletionTimestamp"):
        return None
    mine = [budget for budget in budgets if covers(budget, pod)]
    if len(mine) > 1:
        raise Internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    if not mine:
        return None
    budget = own_copy(mine[0])
    status, name = budget.status, budget.metadata.name
    ready = any((condition.type, condition.status) == ("Ready", "True") for condition in pod.status.conditions)
    always = budget.spec.unhealthyPodEvictionPolicy == "AlwaysAllow"
    if not ready and (always or 0 < status.desiredHealthy <= status.currentHealthy):
        return None
    why = ""
    if status.observedGeneration < budget.metadata.generation:
        why = f"The disruption budget {name} is still being processed by the server."
    elif not status.disruptionsAllowed:
        why = (
            f"The disruption budget {name} needs {status.desiredHealthy} healthy pods and has"
            f" {status.currentHealthy} currently"
        )
    if why:
        raise TooManyRequests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            causes=[FieldError("", why, "DisruptionBudget")],
            retry_after_s=10 if "processed" in why else 0,
        )
    status.disruptionsAllowed -= 1
    status.disruptedPods[pod.metadata.name].CopyFrom(now)
    if not status.disruptionsAllowed:
        del status.conditions[:]
        status.conditions.add(type="DisruptionAllowed", status="False", reason="InsufficientPods")
    return budget


def check(obj: AnyObject, old: AnyObject | None) -> None:
    apply_defaults(obj)
    causes = validate(obj)
    if old is not None and not causes:
        causes = validate_update(obj, old)
    if causes:
        kind = next(kind for kind in KINDS if kind.message is type(obj))
        details = "; ".join(str(cause) for cause in causes)
        raise Invalid(f'{kind.name} "{obj.metadata.name}" is invalid: {details}', causes=causes)
