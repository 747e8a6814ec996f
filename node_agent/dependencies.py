"""What a pod waits for elsewhere in the cluster before its first container starts: its `dependsOn`.

    replicationcontroller/db    all of its replicas are ready
    service/db                  it has a ready endpoint

The names are of the pod's own namespace. The master is asked again and again, less often with time; while it does not
answer, the pod waits. Once a container has been started nobody asks any more: a dependency that fails later is for the
program to cope with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError, NotFound
from cluster.api.kinds import kind_from_word
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

FIRST_S, LONGEST_S = 0.05, 1.0
"""Pause between two looks: at first, and at most."""


def is_ready(obj: object) -> bool:
    """Whether a pod that depends on this object may start."""
    if isinstance(obj, core.ReplicationController):
        return obj.status.observedGeneration >= obj.metadata.generation and obj.status.readyReplicas >= max(
            1, obj.spec.replicas
        )
    return isinstance(obj, core.Endpoints) and any(subset.addresses for subset in obj.subsets)


def _what(name: str) -> tuple[type[core.ReplicationController] | type[core.Endpoints], str]:
    """What is to be looked at: a service is as ready as its endpoints, which have its name."""
    word, _, object_name = name.partition("/")
    return (core.Endpoints if kind_from_word(word).name == "Service" else core.ReplicationController), object_name


async def _is_there(client: ClusterClient, namespace: str, name: str) -> bool:
    message, object_name = _what(name)
    try:
        return is_ready(await client.get(message, object_name, namespace))
    except NotFound:
        return False


async def wait_for_dependencies(
    client: ClusterClient,
    clock: Clock,
    namespace: str,
    names: Sequence[str],
    on_change: Callable[[tuple[str, ...]], Awaitable[None]],
) -> None:
    """Tells which are missing whenever that changes; returns when none is: all of them were ready in one look."""
    missing, pause_s = tuple(names), FIRST_S
    while missing:
        await clock.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_S)
        try:
            still = tuple([name for name in names if not await _is_there(client, namespace, name)])
        except ApiError:
            continue  # nothing was learned
        if still != missing:
            missing = still
            await on_change(missing)
