"""Which pods are of one group, and shall be spread apart: those of the same services and the same controller.

A pod's group is the merged selector of every service that selects it and of the controller that owns it, as in
Kubernetes' default spreading. A pod that nobody selects and nobody owns belongs to no group. Here are selectors only;
the counting per node is that of a tally.
"""

from __future__ import annotations

from cluster.api.labels import selector_from_map
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.podclass import PodClass, Terms, terms_of
from cluster.scheduler.tallies import InNamespace


class SpreadSelectors:
    """Keeps the selectors of services and controllers and answers with a pod's group."""

    def __init__(self, cache_limit: int = 4096) -> None:
        self._services: dict[str, dict[str, Terms]] = {}
        self._controllers: dict[str, Terms] = {}
        self._cache: dict[PodClass, InNamespace | None] = {}
        self._cache_limit = cache_limit
        self.version = 0
        """Grows whenever a group may have become another one."""

    def set_service(self, service: core.Service) -> None:
        """A service is there, or has changed."""
        in_namespace = self._services.setdefault(service.metadata.namespace, {})
        self._put(in_namespace, service.metadata.name, terms_of(service.spec.selector.items()))

    def remove_service(self, service: core.Service) -> None:
        """A service is gone."""
        in_namespace = self._services.get(service.metadata.namespace, {})
        if in_namespace.pop(service.metadata.name, None) is not None:
            self._changed()
        if not in_namespace:
            self._services.pop(service.metadata.namespace, None)

    def set_controller(self, controller: core.ReplicationController) -> None:
        """A controller is there, or has changed."""
        self._put(self._controllers, controller.metadata.uid, terms_of(controller.spec.selector.items()))

    def remove_controller(self, controller: core.ReplicationController) -> None:
        """A controller is gone."""
        if self._controllers.pop(controller.metadata.uid, None) is not None:
            self._changed()

    def group_of(self, pod_class: PodClass) -> InNamespace | None:
        """The group of a class of pods as things are now, or None if it belongs to none."""
        if pod_class not in self._cache:
            if len(self._cache) >= self._cache_limit:
                self._cache.clear()
            self._cache[pod_class] = self._group(pod_class)
        return self._cache[pod_class]

    def _group(self, pod_class: PodClass) -> InNamespace | None:
        terms: set[tuple[str, str]] = set()
        for selector in self._services.get(pod_class.namespace, {}).values():
            if selector <= pod_class.labels:
                terms |= selector
        if pod_class.owner_uid:
            terms |= self._controllers.get(pod_class.owner_uid, frozenset())
        return InNamespace(pod_class.namespace, selector_from_map(dict(sorted(terms)))) if terms else None

    def _put(self, table: dict[str, Terms], name: str, selector: Terms) -> None:
        if table.get(name) != selector:
            table[name] = selector
            self._changed()

    def _changed(self) -> None:
        self._cache.clear()
        self.version += 1
