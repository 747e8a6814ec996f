"""Which pods are of one group, and shall be spread apart: those of the same services and the same controller.

A pod's group is the merged selector of every service that selects it and of the controller that owns it, as in
Kubernetes' default spreading. A pod that nobody selects and nobody owns belongs to no group. Here are selectors only;
the counting per node is the snapshot's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cluster.api.owners import controller_of
from cluster.pb.v1 import core_pb2 as core

Terms = frozenset[tuple[str, str]]
"""Labels, each as (key, value)."""


class GroupKey(NamedTuple):
    """Pods of this namespace that carry all of these labels."""

    namespace: str
    terms: Terms


class Member(NamedTuple):
    """What a pod's group depends on."""

    namespace: str
    labels: Terms
    owner_uid: str
    """Of its controller; empty if it has none."""


def member_of(pod: core.Pod) -> Member:
    """What the group of a pod depends on."""
    owner = controller_of(pod)
    return Member(pod.metadata.namespace, terms_of(pod.metadata.labels.items()), owner.uid if owner is not None else "")


def terms_of(labels: Iterable[tuple[str, str]]) -> Terms:
    """Labels as a set; of a map field, pass `.items()`."""
    return frozenset(labels)


class SpreadSelectors:
    """Keeps the selectors of services and controllers and answers with a pod's group."""

    def __init__(self, cache_limit: int = 4096) -> None:
        self._services: dict[str, dict[str, Terms]] = {}
        self._controllers: dict[str, Terms] = {}
        self._cache: dict[Member, GroupKey | None] = {}
        self._cache_limit = cache_limit

    def set_service(self, service: core.Service) -> None:
        """A service is there, or has changed."""
        in_namespace = self._services.setdefault(service.metadata.namespace, {})
        self._put(in_namespace, service.metadata.name, terms_of(service.spec.selector.items()))

    def remove_service(self, service: core.Service) -> None:
        """A service is gone."""
        in_namespace = self._services.get(service.metadata.namespace, {})
        if in_namespace.pop(service.metadata.name, None) is not None:
            self._cache.clear()
        if not in_namespace:
            self._services.pop(service.metadata.namespace, None)

    def set_controller(self, controller: core.ReplicationController) -> None:
        """A controller is there, or has changed."""
        self._put(self._controllers, controller.metadata.uid, terms_of(controller.spec.selector.items()))

    def remove_controller(self, controller: core.ReplicationController) -> None:
        """A controller is gone."""
        if self._controllers.pop(controller.metadata.uid, None) is not None:
            self._cache.clear()

    def group_of(self, member: Member) -> GroupKey | None:
        """The pod's group as things are now, or None if it belongs to none."""
        if member not in self._cache:
            if len(self._cache) >= self._cache_limit:
                self._cache.clear()
            self._cache[member] = self._group(*member)
        return self._cache[member]

    def _group(self, namespace: str, labels: Terms, owner_uid: str) -> GroupKey | None:
        terms: set[tuple[str, str]] = set()
        for selector in self._services.get(namespace, {}).values():
            if selector <= labels:
                terms |= selector
        if owner_uid:
            terms |= self._controllers.get(owner_uid, frozenset())
        return GroupKey(namespace, frozenset(terms)) if terms else None

    def _put(self, table: dict[str, Terms], name: str, selector: Terms) -> None:
        if table.get(name) != selector:
            table[name] = selector
            self._cache.clear()
