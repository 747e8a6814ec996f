"""What the master adds to definitions of kinds, and what of a definition must not go: CustomResourceDefinitions.

A definition counts from the write that makes it: its names are accepted in the same revision, or refused if another one
has them. When that one goes, or gives a name up, the others of its group are looked at again, in the same revision.

A deleted definition stays until its objects are gone: a finalizer keeps it, which the controllers take away when they
see none left. While there are any, nobody can take it away: an object without its definition is nobody's any more. A
definition without objects goes at once. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.api.definitions import CLEANUP, accept_names, mark_terminating, remember_stored
from cluster.api.errors import Conflict
from cluster.api.meta import Key
from cluster.master.stage import Reader, Stage, copy_of
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version

KIND = "CustomResourceDefinition"


def before_create(stage: Stage, definition: core.CustomResourceDefinition) -> None:
    """A new definition: its status is the master's."""
    definition.ClearField("status")
    _complete(stage, definition)


def before_update(stage: Stage, new: core.CustomResourceDefinition, old: core.CustomResourceDefinition) -> None:
    """A changed one. Raises Conflict if it gives up what keeps it while there are objects."""
    if CLEANUP in old.metadata.finalizers and CLEANUP not in new.metadata.finalizers:
        count = len(objects_of(stage, new.metadata.name))
        if count:
            raise Conflict(
                f'Operation cannot be fulfilled on customresourcedefinitions "{new.metadata.name}": it still has '
                f"{count} objects, and keeps its finalizer {CLEANUP} until they are deleted"
            )
    _complete(stage, new)


def before_update_status(stage: Stage, new: core.CustomResourceDefinition, old: core.CustomResourceDefinition) -> None:
    """A changed status: whoever migrates objects says which versions are stored somewhere; the rest is ours."""
    stored = list(new.status.storedVersions)
    new.status.CopyFrom(old.status)
    del new.status.storedVersions[:]
    new.status.storedVersions.extend(stored)
    _complete(stage, new)


def _complete(stage: Reader, definition: core.CustomResourceDefinition) -> None:
    now_s = stage.now_s if isinstance(stage, Stage) else 0.0
    accept_names(definition, _all(stage), now_s)
    remember_stored(definition)


def _all(reader: Reader) -> Iterator[core.CustomResourceDefinition]:
    for version in reader.list(KIND):
        definition = version.parse()
        assert isinstance(definition, core.CustomResourceDefinition)
        yield definition


def others_accepted(
    stage: Stage, changed: core.CustomResourceDefinition
) -> Iterator[tuple[Key, core.CustomResourceDefinition]]:
    """Definitions of the group of one that was changed or removed, whose names are accepted now and were not before."""
    for version in list(stage.list(KIND)):
        other = version.parse()
        assert isinstance(other, core.CustomResourceDefinition)
        if other.spec.group != changed.spec.group or other.metadata.name == changed.metadata.name:
            continue
        again = copy_of(other)
        assert isinstance(again, core.CustomResourceDefinition)
        _complete(stage, again)
        if again.status != other.status:
            yield version.key, again


def objects_of(reader: Reader, resource: str) -> list[Version]:
    """The objects of the kind that this definition describes."""
    return list(reader.list("CustomObject", node=resource))


def kept_back(stage: Stage, definition: core.CustomResourceDefinition) -> bool:
    """There are objects, so the definition has to wait for them."""
    return bool(stage.list("CustomObject", node=definition.metadata.name))


def mark(definition: core.CustomResourceDefinition, now_s: float) -> None:
    """A definition that is being deleted and has objects; in place."""
    if CLEANUP not in definition.metadata.finalizers:
        definition.metadata.finalizers.append(CLEANUP)
    mark_terminating(definition, now_s)
