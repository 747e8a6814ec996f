"""Empties namespaces that are being deleted, and then removes them.

A deleted namespace stays, Terminating, as long as anything is in it; the master takes in nothing new there. What is in
it is deleted kind by kind, first what makes other things. When nothing is left, the namespace is deleted once more,
and now the master lets it go: it looks for itself, in the same write, so nothing can be left behind.
"""

from __future__ import annotations

from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, is_terminating, key_of
from cluster.client import operations
from cluster.controllers.context import Context
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause, delete_all
from cluster.pb.v1 import core_pb2 as core

CONTENTS: tuple[type[AnyObject], ...] = (
    core.CustomObject,
    core.ReplicationController,
    core.Service,
    core.PodDisruptionBudget,
    core.Fault,
    core.Pod,
    core.Endpoints,
    core.ConfigMap,
    core.Secret,
    core.ServiceAccount,
    core.Lease,
    core.Event,
)
"""Kinds with a namespace, in the order in which they are deleted."""

WORKERS = 2
GATHER_S = 0.02
"""Waits so long after something has gone: things go in crowds."""
RECHECK_S = 5.0
"""Looks again after so long while pods are ending. A safety net: their end normally wakes us."""


class NamespaceController:
    """The actor; its keys are names of namespaces. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches = context.caches
        self._client = context.client
        self._namespaces = caches.namespaces
        self._reconciler: Reconciler[str] = Reconciler(
            "namespaces", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.namespaces.add_handler(self._on_namespace)
        for informer in caches.owned:
            informer.add_handler(self._on_content)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    def _add_all(self) -> None:
        for namespace in self._namespaces.indexer.list():
            self._on_namespace(None, namespace)

    def _on_namespace(self, old: core.Namespace | None, new: core.Namespace | None) -> None:
        if new is not None and is_terminating(new):
            self._reconciler.queue.add(new.metadata.name)

    def _on_content(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None and old is not None:
            name = old.metadata.namespace
            namespace = self._namespaces.indexer.get(Key("Namespace", "", name))
            if namespace is not None and is_terminating(namespace):
                self._reconciler.queue.add_after(name, GATHER_S)

    async def _sync(self, name: str) -> bool:
        namespace = self._namespaces.indexer.get(Key("Namespace", "", name))
        if namespace is None or not is_terminating(namespace):
            return True
        ending = 0
        for kind in CONTENTS:
            ending += await self._delete_all(kind, namespace)
        if ending:
            self._reconciler.queue.add_after(name, RECHECK_S)
            return True
        written = await self._client.write(
            [operations.delete(key_of(namespace), uid=namespace.metadata.uid)], cause=cause(namespace, "empty")
        )
        # A Conflict says that something is left after all: again, soon.
        written.outcomes[0].unwrap()
        return True

    async def _delete_all(self, kind: type[AnyObject], namespace: core.Namespace) -> int:
        """Deletes all objects of a kind; returns how many of them are still on their way out."""
        listed = await self._client.list(kind, namespace.metadata.name)
        return await delete_all(self._client, listed.items, cause(namespace, "namespace-deleted"))
