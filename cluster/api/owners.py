"""Owners: which object made another one, and is answerable for it.

At most one owner of an object is its controller. Identity is the uid, never the name: a new object of the same name is
another owner.

An object that is deleted in the foreground stays, with a finalizer, until what it owns and what blocks its deletion is
gone; the garbage collector sees to that. It knows the owners of `WATCHED` kinds.
"""

from __future__ import annotations

from cluster.api.kinds import AnyObject
from cluster.api.meta import is_terminating, type_of
from cluster.pb.v1 import core_pb2 as core

FOREGROUND = "foregroundDeletion"
"""The finalizer of what goes after its dependents."""
ORPHAN = "orphan"
"""The finalizer of what leaves its dependents in peace when it goes, unless the deletion says otherwise."""
WATCHED = frozenset(
    (
        *("Namespace", "ReplicationController", "Service", "Endpoints", "PodDisruptionBudget", "Fault", "Pod"),
        *("ConfigMap", "Secret", "ServiceAccount", "CustomObject"),
        *("Node", "CustomResourceDefinition", "Lease", "PriorityClass"),
    )
)
"""Kinds whose objects the garbage collector follows and may delete: all but events, which are many."""


def controller_of(obj: AnyObject) -> core.OwnerReference | None:
    """The reference to the object's controller, if it has one."""
    return next((owner for owner in obj.metadata.ownerReferences if owner.controller), None)


def owner_reference(owner: AnyObject, *, controller: bool = True) -> core.OwnerReference:
    """A reference to put into what the owner makes."""
    api_version, kind = type_of(owner)
    reference = core.OwnerReference(apiVersion=api_version, kind=kind, name=owner.metadata.name, uid=owner.metadata.uid)
    if controller:
        reference.controller = True
        reference.blockOwnerDeletion = True
    return reference


def is_controlled_by(obj: AnyObject, owner_uid: str) -> bool:
    """Whether the object's controller has that uid."""
    controller = controller_of(obj)
    return controller is not None and controller.uid == owner_uid


def blocks(obj: AnyObject, owner_uid: str) -> bool:
    """Whether an owner that is deleted in the foreground waits for this object."""
    return any(owner.uid == owner_uid and owner.blockOwnerDeletion for owner in obj.metadata.ownerReferences)


def is_in_foreground(obj: AnyObject) -> bool:
    """It is being deleted, and waits for what it owns."""
    return is_terminating(obj) and FOREGROUND in obj.metadata.finalizers
