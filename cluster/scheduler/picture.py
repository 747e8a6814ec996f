"""A snapshot from lists of objects: for those who ask what the scheduler would do, outside of it.

What the scheduler itself hears piece by piece is here read at once. Pods that have ended take nothing, nodes that are
being deleted get nothing; everything else counts as it does there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.api.meta import is_terminating
from cluster.api.pods import is_finished
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.facts import facts_of, placed_pod
from cluster.scheduler.podclass import PodClasses
from cluster.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Picture:
    """The objects that placement looks at, of one moment."""

    nodes: Iterable[core.Node]
    pods: Iterable[core.Pod]
    services: Iterable[core.Service] = ()
    """Needed for default spreading only, as are `controllers`."""
    controllers: Iterable[core.ReplicationController] = ()
    namespaces: Iterable[core.Namespace] = ()
    """Needed for affinity that selects namespaces."""

    def snapshot(self, *, without_uid: str = "", classes: PodClasses | None = None) -> Snapshot:
        """What the scheduler would have made of it, but for the pod with that uid."""
        classes = classes or PodClasses()
        snapshot = Snapshot()
        for node in self.nodes:
            if not is_terminating(node):
                snapshot.set_node(node.metadata.name, facts_of(node))
        for namespace in self.namespaces:
            snapshot.tallies.namespaces.set(namespace.metadata.name, dict(namespace.metadata.labels))
        for pod in self.pods:
            if pod.spec.nodeName and not is_finished(pod) and pod.metadata.uid != without_uid:
                snapshot.place(placed_pod(pod, classes.of(pod, placed=True)), pod.spec.nodeName)
        for service in self.services:
            snapshot.selectors.set_service(service)
        for controller in self.controllers:
            snapshot.selectors.set_controller(controller)
        return snapshot
