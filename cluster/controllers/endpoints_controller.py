"""Keeps the Endpoints of every service with a selector true.

What they should be is decided in `endpoints.py`. A change of a pod wakes the services that match its labels, old or
new, if it can matter to them at all; changes within a few milliseconds share one write. A service's Endpoints go when
the service goes, or comes to stand for something outside (ExternalName). Those of a service without selector are left
alone, for whoever writes them; those that were ours before its selector was taken away stay as they are, to go on from.
Endpoints that nobody's service owns are somebody else's too.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.api.kinds import AnyObject
from cluster.api.labels import selector_from_map
from cluster.api.meta import Key, is_terminating, key_of
from cluster.api.owners import controller_of
from cluster.api.services import EXTERNAL_NAME, is_managed
from cluster.client import operations
from cluster.controllers.caches import LABEL, WISH, label_word, wish_of
from cluster.controllers.context import Context
from cluster.controllers.endpoints import desired_endpoints, has_changed, matters, replacement
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

KIND = "Service"
WORKERS = 5
COALESCE_S = 0.003
"""Changes that come within this time are written together; short enough that nobody notices the wait."""


class EndpointsController:
    """The actor; its keys are those of services. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches = context.caches
        self._client = context.client
        self._services = caches.services
        self._pods = caches.pods
        self._endpoints = caches.endpoints
        self._namespaces = caches.namespaces
        # The change that made the next write necessary, per service.
        self._causes: dict[Key, core.Cause] = {}
        # The version that our last write made, per service: its echo is no news.
        self._written: dict[Key, str] = {}
        self._reconciler: Reconciler[Key] = Reconciler(
            "endpoints", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.services.add_handler(self._on_service)
        caches.pods.add_handler(self._on_pod)
        caches.endpoints.add_handler(self._on_endpoints)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    # --- what wakes us

    def _add_all(self) -> None:
        for service in self._services.indexer.list():
            self._reconciler.queue.add(key_of(service))

    def _wake(self, key: Key, because: AnyObject) -> None:
        self._causes[key] = cause(because, "endpoints")
        self._reconciler.queue.add_after(key, COALESCE_S)

    def _on_service(self, old: core.Service | None, new: core.Service | None) -> None:
        current = new or old
        assert current is not None
        if old is None or new is None or old.spec != new.spec or old.metadata.labels != new.metadata.labels:
            self._wake(key_of(current), current)

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        current = new or old
        assert current is not None
        if not matters(old, new):
            return
        for pod in (old, new):
            if pod is not None:
                for service in self._services_of(pod):
                    self._wake(key_of(service), current)

    def _on_endpoints(self, old: core.Endpoints | None, new: core.Endpoints | None) -> None:
        current = new or old
        assert current is not None
        key = Key(KIND, current.metadata.namespace, current.metadata.name)
        if new is None or self._written.get(key) != new.metadata.resourceVersion:
            self._wake(key, current)

    def _services_of(self, pod: core.Pod) -> Iterator[core.Service]:
        """Those whose selector matches the pod: among ten thousand pods and a thousand services, few are looked at."""
        labels, namespace = pod.metadata.labels, pod.metadata.namespace
        for key in sorted(labels):
            for service in self._services.indexer.by_index(WISH, label_word(namespace, key, labels[key])):
                if selector_from_map(service.spec.selector).matches(labels):
                    yield service

    # --- one service

    async def _sync(self, key: Key) -> None:
        service = self._services.indexer.get(key)
        present = self._endpoints.indexer.get(Key("Endpoints", key.namespace, key.name))
        if service is None or service.spec.type == EXTERNAL_NAME:
            if present is not None:
                await self._remove_leftover(key, present)
            self._causes.pop(key, None)
            self._written.pop(key, None)
            return
        if not is_managed(service.spec) or is_terminating(service):
            return
        wanted = desired_endpoints(service, self._pods.indexer.by_index(LABEL, wish_of(service)))
        if present is None:
            namespace = self._namespaces.indexer.get(Key("Namespace", "", key.namespace))
            if namespace is None or not is_terminating(namespace):
                await self._write(key, operations.create(wanted))
        elif has_changed(present, wanted):
            await self._write(key, operations.update(replacement(present, wanted)))

    async def _write(self, key: Key, operation: wire.Operation) -> None:
        written = await self._client.write([operation], cause=self._causes.get(key))
        # Conflict and AlreadyExists: the cache is behind our own last write; it will have caught up shortly.
        self._written[key] = written.outcomes[0].unwrap().metadata.resourceVersion
        self._causes.pop(key, None)

    async def _remove_leftover(self, key: Key, endpoints: core.Endpoints) -> None:
        """The service has none any more: they go, if they were made for a service at all."""
        owner = controller_of(endpoints)
        if owner is None or owner.kind != KIND:
            return
        meta = endpoints.metadata
        operation = operations.delete(key_of(endpoints), uid=meta.uid, version=meta.resourceVersion)
        written = await self._client.write([operation], cause=self._causes.get(key))
        written.outcomes[0].unwrap()
