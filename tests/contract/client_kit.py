"""Words for the client suite: small objects, writes that must succeed or fail, and a watch that tells its story."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

from cluster.api.errors import (
    ApiError,
)
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.interface import ClusterClient, EventType, WatchEvent, WatchStream
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

ClusterClientFactory = Callable[[str], ClusterClient]

PATIENCE_S = 20.0
"""How long anything may take before the suite gives up; nothing here measures time."""


def pod(name: str = "a", **labels: str) -> core.Pod:
    return core.Pod(
        metadata=core.ObjectMeta(name=name, namespace="default", labels=labels),
        spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
    )


def controller(name: str = "rc", replicas: int = 3) -> core.ReplicationController:
    template = core.PodTemplateSpec(
        metadata=core.ObjectMeta(labels={"app": name}),
        spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
    )
    return core.ReplicationController(
        metadata=core.ObjectMeta(name=name, namespace="default"),
        spec=core.ReplicationControllerSpec(replicas=replicas, selector={"app": name}, template=template),
    )


def node(name: str = "node-1") -> core.Node:
    return core.Node(metadata=core.ObjectMeta(name=name))


def key(name: str = "a", kind: str = "Pod") -> Key:
    return Key(kind, "default", name)


async def write(client: ClusterClient, *ops: wire.Operation, cause: core.Cause | None = None) -> list[AnyObject]:
    """Applies operations that must all succeed; the objects afterwards."""
    written = await client.write(list(ops), cause=cause)
    return [outcome.unwrap() for outcome in written.outcomes]


async def error_of(client: ClusterClient, operation: wire.Operation) -> ApiError:
    """The error that an operation must be answered with."""
    (outcome,) = (await client.write([operation])).outcomes
    assert outcome.error is not None, f"it succeeded: {operation}"
    return outcome.error


async def create_pod(client: ClusterClient, name: str = "a", **labels: str) -> core.Pod:
    (created,) = await write(client, operations.create(pod(name, **labels)))
    return cast(core.Pod, created)


async def bound_pod(client: ClusterClient, name: str = "a") -> core.Pod:
    await client.write([operations.create(node())])
    await create_pod(client, name)
    (bound,) = await write(client, operations.bind(key(name), "node-1"))
    return cast(core.Pod, bound)


def managed(obj: AnyObject) -> dict[str, str]:
    """Who answers for which fields of an object."""
    return {
        f"{each.manager} {each.operation} {each.subresource}".strip(): each.fieldsV1.Raw.decode().replace(" ", "")
        for each in obj.metadata.managedFields
    }


class Watcher:
    """Reads a watch, and remembers the batches."""

    def __init__(self, batches: WatchStream[core.Pod]) -> None:
        self._batches = batches
        self.batches: list[Sequence[WatchEvent[core.Pod]]] = []

    async def until(self, revision: int) -> list[str]:
        """The changes up to a revision, as "ADDED a@3"; the marker is "|"."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.batches or self.batches[-1][-1].revision < revision:
                self.batches.append(await anext(self._batches))
        return self.story()

    async def until_marker(self) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            while "|" not in self.story():
                self.batches.append(await anext(self._batches))
        return self.story()

    async def until_news(self) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            while not self.story():
                self.batches.append(await anext(self._batches))
        return self.story()

    def story(self) -> list[str]:
        lines = []
        for batch in self.batches:
            for event in batch:
                if event.type is EventType.INITIAL_STATE_END:
                    lines.append("|")
                elif event.object is not None:
                    lines.append(f"{event.type.value} {event.object.metadata.name}@{event.revision}")
        return lines

    @property
    def revisions(self) -> list[list[int]]:
        return [[event.revision for event in batch] for batch in self.batches]


@asynccontextmanager
async def watching(
    client: ClusterClient,
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    after_revision: int | None = None,
    initial_state: bool = False,
) -> AsyncIterator[Watcher]:
    async with client.watch(
        core.Pod,
        namespace,
        label_selector=label_selector,
        field_selector=field_selector,
        after_revision=after_revision,
        initial_state=initial_state,
    ) as batches:
        yield Watcher(batches)
