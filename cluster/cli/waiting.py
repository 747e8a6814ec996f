"""Waiting for objects to be ready, and what to say about those that are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.actor.clock import SystemClock
from cluster.api.columns import pod_reason, pod_status
from cluster.api.conditions import is_pod_ready
from cluster.api.kinds import AnyObject
from cluster.api.labels import selector_from_map
from cluster.api.owners import is_controlled_by
from cluster.api.services import is_managed
from cluster.cli.urls import urls_of
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

_clock = SystemClock()


async def wait_until_ready(client: ClusterClient, objects: Sequence[AnyObject], timeout_s: float) -> list[str]:
    """Waits until the pods and controllers among the objects are ready, and services that select pods have an endpoint.

    A pod that completed counts as ready. Returns a line about each object that is not ready in time; none is success.
    """
    pods: Informer[core.Pod] = Informer(client, core.Pod)
    controllers: Informer[core.ReplicationController] = Informer(client, core.ReplicationController)
    endpoints: Informer[core.Endpoints] = Informer(client, core.Endpoints)
    informers = (pods, controllers, endpoints)
    changed = asyncio.Event()
    for informer in informers:
        informer.add_handler(lambda old, new: changed.set())
        await informer.start()
    deadline = _clock.monotonic() + timeout_s
    try:
        while True:
            changed.clear()
            if all(informer.has_synced for informer in informers):
                slow = _not_ready(objects, pods.indexer.list(), controllers.indexer.list(), endpoints.indexer.list())
                if not slow:
                    return []
            else:
                slow = ["the master has not answered yet"]
            left = deadline - _clock.monotonic()
            if left <= 0:
                return slow
            try:
                await asyncio.wait_for(changed.wait(), min(left, 0.5))
            except TimeoutError:
                pass
    finally:
        for informer in informers:
            await informer.stop()


def _not_ready(
    objects: Sequence[AnyObject],
    pods: Sequence[core.Pod],
    controllers: Sequence[core.ReplicationController],
    endpoints: Sequence[core.Endpoints],
) -> list[str]:
    by_uid: dict[str, AnyObject] = {pod.metadata.uid: pod for pod in pods}
    by_uid |= {rc.metadata.uid: rc for rc in controllers}
    lines = []
    for obj in objects:
        live = by_uid.get(obj.metadata.uid)
        if isinstance(obj, core.Pod):
            if not isinstance(live, core.Pod):
                lines.append(f"pod/{obj.metadata.name}: gone")
            elif not (is_pod_ready(live) or live.status.phase == "Succeeded"):
                lines.append(_about(live))
        elif isinstance(obj, core.ReplicationController):
            if not isinstance(live, core.ReplicationController):
                lines.append(f"rc/{obj.metadata.name}: gone")
            elif not is_rolled_out(live):
                lines.append(f"rc/{live.metadata.name}: {live.status.readyReplicas} of {live.spec.replicas} ready")
                lines += [
                    f"  {_about(pod)}"
                    for pod in pods
                    if is_controlled_by(pod, live.metadata.uid) and not is_pod_ready(pod)
                ][:3]
        elif isinstance(obj, core.Service) and is_managed(obj.spec):
            selector = selector_from_map(obj.spec.selector)
            expected = any(
                selector.matches(pod.metadata.labels)
                for pod in pods
                if pod.metadata.namespace == obj.metadata.namespace
            )
            behind = [
                e
                for e in endpoints
                if (e.metadata.namespace, e.metadata.name) == (obj.metadata.namespace, obj.metadata.name)
            ]
            if expected and not any(subset.addresses for e in behind for subset in e.subsets):
                lines.append(f"svc/{obj.metadata.name}: no endpoint is ready")
    return lines


def is_rolled_out(rc: core.ReplicationController) -> bool:
    """Its controller has seen the newest spec, and so many pods as asked for exist and are ready."""
    return (
        rc.status.observedGeneration >= rc.metadata.generation
        and rc.status.readyReplicas == rc.spec.replicas
        and rc.status.replicas == rc.spec.replicas
    )


def _about(pod: core.Pod) -> str:
    reason = pod_reason(pod)
    return f"pod/{pod.metadata.name}: {pod_status(pod)}{f' ({reason})' if reason else ''}"


async def service_urls(client: ClusterClient, objects: Sequence[AnyObject]) -> list[tuple[str, str]]:
    """(name, URL) of each service among the objects, in order."""
    pairs = []
    for obj in objects:
        if isinstance(obj, core.Service):
            live = await client.get(core.Service, obj.metadata.name, obj.metadata.namespace)
            pairs += [(live.metadata.name, url) for url in urls_of(live)]
    return pairs
