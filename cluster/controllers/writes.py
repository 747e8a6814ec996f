"""Small words that the controllers' writes share: causes, patches of owners, lists cut into pieces, and the deletion of
everything in a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from cluster.api.errors import Aborted, ApiError, NotFound
from cluster.api.kinds import AnyObject
from cluster.api.meta import is_terminating, key_of, path_of, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient, WriteOutcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

X = TypeVar("X")

WRITE_LIMIT = 200
"""Operations per write, where nothing else limits them: large enough to share the cost of a commit, small enough not to
hold up everyone else's."""


def cause(obj: AnyObject, reason: str) -> core.Cause:
    """ "We did this because of that object, as it was at its revision"."""
    return core.Cause(revision=revision_of(obj), object=path_of(key_of(obj)), reason=reason)


def patch_owners(obj: AnyObject, owners: Iterable[core.OwnerReference]) -> wire.Operation:
    """Replaces the owners of exactly this version of the object."""
    owners_json: list[dict[str, Any]] = [
        {descriptor.name: value for descriptor, value in owner.ListFields()} for owner in owners
    ]
    return operations.patch(
        key_of(obj),
        {"metadata": {"ownerReferences": owners_json or None}},
        uid=obj.metadata.uid,
        version=obj.metadata.resourceVersion,
    )


def chunks(items: Sequence[X], size: int = WRITE_LIMIT) -> Iterator[Sequence[X]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def delete_all(client: ClusterClient, objects: Sequence[AnyObject], why: core.Cause) -> int:
    """Deletes these very objects; returns how many of them are still on their way out."""
    ending = sum(is_terminating(obj) for obj in objects)
    for some in chunks([obj for obj in objects if not is_terminating(obj)]):
        written = await client.write([operations.delete(key_of(obj), uid=obj.metadata.uid) for obj in some], cause=why)
        for outcome in written.outcomes:
            if outcome.error is None:
                ending += outcome.object is not None and is_terminating(outcome.object)
            elif not isinstance(outcome.error, NotFound):
                ending += 1
    return ending


def root_error(written: WriteOutcome) -> ApiError | None:
    """The error that made an atomic write fail, not what it did to the other operations; None if it succeeded."""
    errors = [outcome.error for outcome in written.outcomes if outcome.error is not None]
    return next((error for error in errors if not isinstance(error, Aborted)), errors[0] if errors else None)
