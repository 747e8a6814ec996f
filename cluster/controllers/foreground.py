"""Deletion in the foreground: what an owner waits for, and what is to be deleted meanwhile.

    web (being deleted, foregroundDeletion)  <- blocks - web-1 (being deleted)
                                             <- blocks - web-2                  is deleted now
                                             <--------- notes                   goes when web is gone

Only what names the owner with blockOwnerDeletion holds it. What owns something itself is deleted in the foreground,
too, so a tree goes from its leaves. Objects that own each other in a circle would wait for ever: whoever waits, in the
end, for the owner holds it no more. Pure; the idea is that of Kubernetes' garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cluster.api.kinds import AnyObject
from cluster.api.meta import is_terminating
from cluster.api.owners import blocks, is_in_foreground

OwnedBy = Callable[[str], Iterable[AnyObject]]
"""What an object of that uid owns."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about an owner that is deleted in the foreground."""

    delete: list[AnyObject]
    """To be deleted in the background."""
    delete_in_foreground: list[AnyObject]
    may_go: bool
    """Nothing holds the owner any more."""


def step(owner_uid: str, dependents: Sequence[AnyObject], owned_by: OwnedBy) -> Step:
    """What comes next, given what has no other owner that stays."""
    blocking = [obj for obj in dependents if blocks(obj, owner_uid)]
    doomed = [obj for obj in blocking if not is_terminating(obj)]
    waited_for = [obj for obj in blocking if not _waits_for(obj, owner_uid, owned_by)]
    owners = {obj.metadata.uid for obj in doomed if any(True for _ in owned_by(obj.metadata.uid))}
    return Step(
        [obj for obj in doomed if obj.metadata.uid not in owners],
        [obj for obj in doomed if obj.metadata.uid in owners],
        not waited_for,
    )


def _waits_for(obj: AnyObject, uid: str, owned_by: OwnedBy) -> bool:
    """Whether an object that is deleted in the foreground waits, perhaps through others, for the one of that uid."""
    seen: set[str] = set()
    waiting = [obj]
    while waiting:
        one = waiting.pop()
        if not is_in_foreground(one) or one.metadata.uid in seen:
            continue
        seen.add(one.metadata.uid)
        held_by = [each for each in owned_by(one.metadata.uid) if blocks(each, one.metadata.uid)]
        if any(each.metadata.uid == uid for each in held_by):
            return True
        waiting += held_by
    return False
