"""Reads what a decision was made from, and explains it: for the service Scheduler and for the command line.

For a pod that is placed, nodes and pods are read as of the revision just before its binding (the Scheduled event knows
it), so the scheduler's own functions see what the scheduler saw. For a pod that waits, and when that revision is no
longer kept, the cluster as it is now.
"""

from __future__ import annotations

from cluster.api.errors import Expired, NotFound
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.explain import Explanation, explain
from cluster.scheduler.picture import Picture
from cluster.scheduler.rules import Rules


async def replay(
    client: ClusterClient, pod: core.Pod, rules: Rules | None = None, *, not_on: str = ""
) -> tuple[Explanation, str]:
    """The decision, and in words what it was computed from. `rules`: of the pod's profile; None: those that ship.
    `not_on`: what would have to change for this node.

    Raises NotFound if there was no such node.
    """
    revision: int | None = None
    basis = "the cluster as it is now"
    if pod.spec.nodeName:
        selector = f"involvedObject.uid={pod.metadata.uid},reason=Scheduled"
        events = (await client.list(core.Event, pod.metadata.namespace, field_selector=selector)).items
        if events:
            revision = int(events[0].involvedObject.resourceVersion or 1) - 1
            basis = f"the cluster as it was at revision {revision}, just before the binding"
        else:
            basis = "the cluster as it is now (its binding was not recorded)"
    while True:
        try:
            picture = await read_picture(client, revision)
        except Expired:
            basis = f"the cluster as it is now (revision {revision} is no longer kept)"
            revision = None
            continue
        explanation = explain(
            pod,
            picture.nodes,
            picture.pods,
            services=picture.services,
            controllers=picture.controllers,
            namespaces=picture.namespaces,
            rules=rules,
            not_on=not_on,
        )
        if not_on and all(verdict.node != not_on for verdict in explanation.verdicts):
            raise NotFound(f'nodes "{not_on}" not found in {basis}')
        return explanation, basis


async def read_picture(client: ClusterClient, revision: int | None = None) -> Picture:
    """What placement looks at, all of one revision; None: of now. Raises Expired."""
    nodes = await client.list(core.Node, revision=revision)
    at = nodes.revision if revision is None else revision
    return Picture(
        nodes.items,
        (await client.list(core.Pod, revision=at)).items,
        (await client.list(core.Service, revision=at)).items,
        (await client.list(core.ReplicationController, revision=at)).items,
        (await client.list(core.Namespace, revision=at)).items,
    )
