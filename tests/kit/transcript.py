"""What happened to pods and their controllers, revision by revision, and the promises that it must keep.

A `Transcript` watches through the client library like anyone else, survives restarts of the master like anyone else,
and keeps every change. Afterwards, `never_too_many` and `bound_once` replay it. They know nothing of how the cluster
works inside: they count.

    rev  5  rc/web  replicas=2
    rev  6  pod a added      1 active, 2 asked for
    rev  6  pod b added      2 active, 2 asked for
    rev  7  rc/web  replicas=1
    rev  8  pod b deleted    1 active      (2 of 1 in between is fine: they were there before)
    rev  9  pod c added      2 active, 1 asked for: broken
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from cluster.actor.clock import SystemClock
from cluster.actor.tasks import Tasks
from cluster.api.kinds import AnyObject
from cluster.api.meta import is_terminating, key_of
from cluster.api.owners import controller_of
from cluster.api.pods import is_active
from cluster.client.interface import ClusterClient, EventType, WatchEvent
from cluster.client.reflector import Reflector
from cluster.pb.v1 import core_pb2 as core


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object; `object` is its content after it, or the last before it is deleted."""

    revision: int
    object: AnyObject
    deleted: bool = False


@dataclass(slots=True)
class Log:
    """A sink for a reflector: the state in the beginning, and then every change."""

    changes: list[Change] = field(default_factory=list)
    replaced: int = 0

    def replace(self, objects: Sequence[Any], revision: int) -> None:
        self.replaced += 1
        self.changes += [Change(revision, obj) for obj in objects]

    def apply(self, events: Sequence[WatchEvent[Any]], revision: int) -> None:
        self.changes += [
            Change(event.revision, event.object, event.type is EventType.DELETED)
            for event in events
            if event.object is not None
        ]


class Transcript:
    """Records pods and replication controllers between `start` and `stop`, in the loop of the client."""

    def __init__(self, client: ClusterClient, namespace: str = "default") -> None:
        self._client = client
        self._namespace = namespace
        self._logs = {core.Pod: Log(), core.ReplicationController: Log()}
        rng, clock = random.Random(), SystemClock()
        self._reflectors = [
            Reflector(client, kind, log, namespace=namespace, clock=clock, rng=rng) for kind, log in self._logs.items()
        ]
        self._tasks = Tasks("transcript")

    async def start(self) -> None:
        """Returns when the first state is known."""
        for reflector in self._reflectors:
            self._tasks.spawn(reflector.run(), name="reflector")
        await self._until(1)

    async def stop(self) -> list[Change]:
        """All changes up to now, in the order of revisions. Raises AssertionError if one may have been missed."""
        for _ in range(100):
            try:
                now = (await self._client.list(core.Pod, self._namespace, limit=1, timeout_s=2.0)).revision
                break
            except Exception:
                await asyncio.sleep(0.1)
        await self._until(now)
        await self._tasks.cancel_all()
        for kind, log in self._logs.items():
            assert log.replaced == 1, f"{kind.__name__}: the state was read {log.replaced} times, changes are missing"
        return sorted(
            (change for log in self._logs.values() for change in log.changes), key=lambda change: change.revision
        )

    async def _until(self, revision: int) -> None:
        async with asyncio.timeout(30):
            while any(reflector.revision < revision for reflector in self._reflectors):
                await asyncio.sleep(0.02)


def never_too_many(changes: Sequence[Change]) -> int:
    """At no revision a controller gets more active pods than it asks for; returns how often pods became active.

    Raises AssertionError with the revision. Pods that are too many already, because fewer are asked for now, are fine.
    """
    asked: dict[str, int] = {}
    active: dict[str, set[str]] = {}
    became_active = 0
    for revision, together in groupby(changes, key=lambda change: change.revision):
        before = {owner: len(pods) for owner, pods in active.items()}
        for change in together:
            obj = change.object
            if isinstance(obj, core.ReplicationController):
                asked[obj.metadata.uid] = 0 if change.deleted else obj.spec.replicas
                continue
            assert isinstance(obj, core.Pod)
            for pods in active.values():
                pods.discard(obj.metadata.uid)
            owner = controller_of(obj)
            if owner is not None and not change.deleted and is_active(obj):
                active.setdefault(owner.uid, set()).add(obj.metadata.uid)
        for owner_uid, pods in active.items():
            grown = len(pods) - before.get(owner_uid, 0)
            became_active += max(0, grown)
            assert grown <= 0 or len(pods) <= asked.get(owner_uid, 0), (
                f"revision {revision}: {len(pods)} active pods, {asked.get(owner_uid, 0)} asked for"
            )
    return became_active


def bound_once(changes: Sequence[Change]) -> int:
    """No pod ever changes its node; returns how many pods were bound. Raises AssertionError."""
    nodes: dict[str, str] = {}
    for change in changes:
        if not isinstance(change.object, core.Pod):
            continue
        uid, node = change.object.metadata.uid, change.object.spec.nodeName
        if node or uid in nodes:
            was = nodes.setdefault(uid, node)
            assert was == node, f"revision {change.revision}: {key_of(change.object)} went from {was} to {node!r}"
    return len(nodes)


def removed(changes: Sequence[Change]) -> dict[str, core.Pod]:
    """Pods, by uid, that were deleted or told to end."""
    return {
        change.object.metadata.uid: change.object
        for change in changes
        if isinstance(change.object, core.Pod) and (change.deleted or is_terminating(change.object))
    }
