"""Empties definitions of kinds that are being deleted, and then lets them go.

A deleted definition that has objects stays, held by a finalizer (`cluster.master.definitions`); the master makes no new
ones. They are deleted like others, each with its own finalizers, which an operator may still have to take away. When
none is left, the finalizer of the definition is taken away, and now the master lets it go: it looks for itself, in the
same write, so no object can be left behind without its definition.
"""

from __future__ import annotations

from cluster.api.definitions import CLEANUP
from cluster.api.meta import Key, is_terminating, key_of
from cluster.client import operations
from cluster.controllers.context import Context
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause, delete_all
from cluster.pb.v1 import core_pb2 as core

WORKERS = 1
GATHER_S = 0.02
"""Waits so long after an object has gone: they go in crowds."""
RECHECK_S = 5.0
"""Looks again after so long while objects are ending. A safety net: their end normally wakes us."""


class DefinitionController:
    """The actor; its keys are names of definitions. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._definitions = context.caches.definitions
        self._reconciler: Reconciler[str] = Reconciler(
            "definitions", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        context.caches.definitions.add_handler(self._on_definition)
        context.caches.customs.add_handler(self._on_object)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    def _add_all(self) -> None:
        for definition in self._definitions.indexer.list():
            self._on_definition(None, definition)

    def _on_definition(
        self, old: core.CustomResourceDefinition | None, new: core.CustomResourceDefinition | None
    ) -> None:
        if new is not None and _ends(new):
            self._reconciler.queue.add(new.metadata.name)

    def _on_object(self, old: core.CustomObject | None, new: core.CustomObject | None) -> None:
        if new is None and old is not None:
            definition = self._find(old.resource)
            if definition is not None and _ends(definition):
                self._reconciler.queue.add_after(old.resource, GATHER_S)

    def _find(self, name: str) -> core.CustomResourceDefinition | None:
        return self._definitions.indexer.get(Key("CustomResourceDefinition", "", name))

    async def _sync(self, name: str) -> bool:
        definition = self._find(name)
        if definition is None or not _ends(definition):
            return True
        if await self._delete_all(definition):
            self._reconciler.queue.add_after(name, RECHECK_S)
            return True
        kept = [finalizer for finalizer in definition.metadata.finalizers if finalizer != CLEANUP]
        operation = operations.patch(
            key_of(definition),
            {"metadata": {"finalizers": kept or None}},
            uid=definition.metadata.uid,
            version=definition.metadata.resourceVersion,
        )
        written = await self._client.write([operation], cause=cause(definition, "empty"))
        # A Conflict says that an object is left after all, or that the definition is another by now: again, soon.
        written.outcomes[0].unwrap()
        return True

    async def _delete_all(self, definition: core.CustomResourceDefinition) -> int:
        """Deletes all its objects; returns how many of them are still on their way out."""
        listed = await self._client.list(core.CustomObject, field_selector=f"resource={definition.metadata.name}")
        return await delete_all(self._client, listed.items, cause(definition, "definition-deleted"))


def _ends(definition: core.CustomResourceDefinition) -> bool:
    """It is being deleted, and waits for its objects."""
    return is_terminating(definition) and CLEANUP in definition.metadata.finalizers
