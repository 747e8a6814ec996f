"""What the controllers see of the cluster: one informer per kind, shared by all of them.

Each kind is watched once, whatever the number of controllers. The indexes answer the questions that controllers ask
all the time: whose pod is this, what runs on that node, which services are in this namespace.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from cluster.actor.clock import Clock
from cluster.api.kinds import AnyObject
from cluster.api.owners import controller_of
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

OWNER = "owner"
"""Index: objects by the uid of each of their owners."""
ORPHANS = "orphans"
"""Index: pods that nobody controls, by namespace."""
NODE = "node"
"""Index: pods by the node that they are bound to."""
NAMESPACE = "namespace"
"""Index: objects by namespace."""
DEFINES = "defines"
"""Index: definitions by KIND.GROUP."""
LABEL = "label"
"""Index: pods by each of their labels (`label_word`)."""
WISH = "wish"
"""Index: services by one of the labels that their selector asks for (`wish_of`): whatever it selects has that one."""


def label_word(namespace: str, key: str, value: str) -> str:
    """How a label of an object of that namespace is called in an index."""
    return f"{namespace}/{key}={value}"


def wish_of(service: core.Service) -> str:
    """One of the labels that the service's selector asks for; empty if it has no selector."""
    if not service.spec.selector:
        return ""
    key = min(service.spec.selector)
    return label_word(service.metadata.namespace, key, service.spec.selector[key])


def _wishes(service: core.Service) -> Iterable[str]:
    return [wish_of(service)]


def _labels(pod: core.Pod) -> Iterable[str]:
    meta = pod.metadata
    return [label_word(meta.namespace, key, value) for key, value in meta.labels.items()]


def _owners(obj: AnyObject) -> Iterable[str]:
    return [owner.uid for owner in obj.metadata.ownerReferences]


def _namespace(obj: AnyObject) -> Iterable[str]:
    return [obj.metadata.namespace]


def _defines(definition: core.CustomResourceDefinition) -> Iterable[str]:
    return [f"{definition.spec.names.kind}.{definition.spec.group}"]


def _bare(obj: Any) -> Any:
    """Who it is and whose, of objects that are watched for nothing else: the values of secrets stay where they are."""
    bare = type(obj)(metadata=obj.metadata)
    if isinstance(obj, core.CustomObject):
        bare.resource, bare.apiVersion, bare.kind = obj.resource, obj.apiVersion, obj.kind
    return bare


def _orphans(pod: core.Pod) -> Iterable[str]:
    return [pod.metadata.namespace] if controller_of(pod) is None else []


def _node(pod: core.Pod) -> Iterable[str]:
    return [pod.spec.nodeName] if pod.spec.nodeName else []


class Caches:
    """The informers. All handlers are added before `start`."""

    def __init__(self, client: ClusterClient, *, clock: Clock, rng: random.Random) -> None:
        owned = {OWNER: _owners, NAMESPACE: _namespace}
        self.pods: Informer[core.Pod] = Informer(
            client, core.Pod, indexes={**owned, ORPHANS: _orphans, NODE: _node, LABEL: _labels}, clock=clock, rng=rng
        )
        self.nodes: Informer[core.Node] = Informer(client, core.Node, clock=clock, rng=rng)
        self.controllers: Informer[core.ReplicationController] = Informer(
            client, core.ReplicationController, indexes=owned, clock=clock, rng=rng
        )
        self.services: Informer[core.Service] = Informer(
            client, core.Service, indexes={**owned, WISH: _wishes}, clock=clock, rng=rng
        )
        self.endpoints: Informer[core.Endpoints] = Informer(client, core.Endpoints, indexes=owned, clock=clock, rng=rng)
        self.budgets: Informer[core.PodDisruptionBudget] = Informer(
            client, core.PodDisruptionBudget, indexes=owned, clock=clock, rng=rng
        )
        self.faults: Informer[core.Fault] = Informer(client, core.Fault, clock=clock, rng=rng)
        self.namespaces: Informer[core.Namespace] = Informer(client, core.Namespace, clock=clock, rng=rng)
        self.definitions: Informer[core.CustomResourceDefinition] = Informer(
            client, core.CustomResourceDefinition, indexes={DEFINES: _defines}, clock=clock, rng=rng
        )
        self.customs: Informer[core.CustomObject] = Informer(
            client, core.CustomObject, indexes=owned, trim=_bare, clock=clock, rng=rng
        )
        self._bare: list[Informer[Any]] = [
            Informer(client, kind, indexes=owned, trim=_bare, clock=clock, rng=rng)
            for kind in (core.ConfigMap, core.Secret, core.ServiceAccount)
        ]
        self._owners_only: list[Informer[Any]] = [
            Informer(client, kind, trim=_bare, clock=clock, rng=rng) for kind in (core.Lease, core.PriorityClass)
        ]

        self.by_kind: dict[str, Informer[Any]] = {
            "CustomResourceDefinition": self.definitions,
            "Namespace": self.namespaces,
            "Node": self.nodes,
            "ReplicationController": self.controllers,
            "Service": self.services,
            "Endpoints": self.endpoints,
            "PodDisruptionBudget": self.budgets,
            "Fault": self.faults,
            "Pod": self.pods,
            "CustomObject": self.customs,
            **dict(zip(("ConfigMap", "Secret", "ServiceAccount"), self._bare, strict=True)),
            **dict(zip(("Lease", "PriorityClass"), self._owners_only, strict=True)),
        }
        self.owned: list[Informer[Any]] = [
            self.pods,
            self.endpoints,
            self.controllers,
            self.services,
            self.budgets,
            self.customs,
            *self._bare,
        ]
        """The kinds whose objects may belong to others; they have the indexes OWNER and NAMESPACE."""

    async def start(self) -> None:
        """Begins to watch everything."""
        for informer in self.by_kind.values():
            await informer.start()

    async def wait_synced(self, timeout_s: float) -> None:
        """Returns once every cache holds a complete state. Raises DeadlineExceeded."""
        for informer in self.by_kind.values():
            await informer.wait_synced(timeout_s)

    async def stop(self) -> None:
        """Ends all watches. Twice is fine."""
        for informer in self.by_kind.values():
            await informer.stop()
