"""Metadata in a write: whether its writer means this very object, and what of it is not the writer's to say. Pure."""

from __future__ import annotations

from typing import Any

from cluster.api.errors import Conflict
from cluster.api.kinds import AnyObject
from cluster.api.meta import called
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version

_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def check_version(version: Version, found: AnyObject, given: AnyObject) -> None:
    """The caller means this object (uid, if given), and this version of it (resourceVersion, if given)."""
    meta = given.metadata
    wanted = meta.uid
    if wanted and wanted != found.metadata.uid:
        _check_uid(version, wanted)
    wanted = meta.resourceVersion
    if wanted and wanted != str(version.revision):
        raise _conflict(version, _MODIFIED)


def check_preconditions(
    version: Version, request: wire.PatchOperation | wire.BindOperation | wire.DeleteOperation | wire.EvictOperation
) -> None:
    """The same, of a request that says so apart. Both raise Conflict."""
    if request.HasField("preconditions"):
        _check_uid(version, request.preconditions.uid)
        wanted = request.preconditions.resource_version
        if wanted and wanted != str(version.revision):
            raise _conflict(version, _MODIFIED)


def _check_uid(version: Version, uid: str) -> None:
    found = version.object.metadata.uid
    if uid and uid != found:
        raise _conflict(version, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {found}")


def _conflict(version: Version, why: str) -> Conflict:
    return Conflict(f"Operation cannot be fulfilled on {called(version.key)}: {why}")


def keep_owned(new: core.ObjectMeta, old: core.ObjectMeta) -> None:
    """What is not the writer's to say stays as it is."""
    for field in ("uid", "generateName", "resourceVersion", "generation", "deletionGracePeriodSeconds", "namespace"):
        if old.HasField(field):
            setattr(new, field, getattr(old, field))
        else:
            new.ClearField(field)
    for field in ("creationTimestamp", "deletionTimestamp"):
        if old.HasField(field):
            getattr(new, field).CopyFrom(getattr(old, field))
        else:
            new.ClearField(field)


def keep_stamps(new: core.ObjectMeta, old: core.ObjectMeta) -> None:
    """What says of a version which it is, who wrote it and why."""
    new.resourceVersion = old.resourceVersion
    new.actor = old.actor
    if old.HasField("cause"):
        new.cause.CopyFrom(old.cause)
    else:
        new.ClearField("cause")


_UNCOUNTED = (
    core.Endpoints | core.Event | core.Lease | core.ConfigMap | core.Secret | core.PriorityClass | core.ServiceAccount
)


def counts_generations(obj: AnyObject) -> bool:
    """Not those without a spec; and of leases, Kubernetes does not count how often they were renewed."""
    return not isinstance(obj, _UNCOUNTED)


def asks_for_more(new: Any, old: Any) -> bool:
    """Something else has changed than metadata and a status that is written apart."""
    if isinstance(new, core.CustomObject):  # where the status is apart, it is the old one here
        return bool((new.content, new.status) != (old.content, old.status))
    return bool(new.spec != old.spec)
