"""Owners: which object made another one, and is answerable for it.

At most one owner of an object is its controller. Identity is the uid, never the name: a new object of the same name is
another owner.
"""

from __future__ import annotations

from cluster.api.kinds import AnyObject
from cluster.api.meta import type_of
from cluster.pb.v1 import core_pb2 as core


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
