"""Taking a snapshot: one revision, all kinds, and nothing to write with."""

from __future__ import annotations

import random
from typing import Any, TypeVar

import pytest

from cluster.api.errors import Expired, Forbidden
from cluster.api.kinds import KINDS, AnyObject
from cluster.client import operations
from cluster.client.interface import ListResult
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation.clock import VirtualClock
from cluster.simulation.snapshot import LEFT_OUT, ReadOnly, Snapshot, take_snapshot
from tests.kit.memory_client import MemoryCluster

T = TypeVar("T", bound=AnyObject)


class Listing:
    """The one call that a snapshot may make; it notes each, and may do something before."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._client = cluster.client("admin")
        self.calls: list[tuple[str, int | None]] = []
        self.failures: dict[str, list[Exception]] = {}

    async def list(self, kind: type[T], *, revision: int | None = None, timeout_s: float = 0.0) -> ListResult[T]:
        self.calls.append((kind.__name__, revision))
        if self.failures.get(kind.__name__):
            raise self.failures[kind.__name__].pop()
        await self._client.write([operations.create(core.Node(metadata=core.ObjectMeta(generateName="later-")))])
        return await self._client.list(kind, revision=revision)


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster(clock=VirtualClock(), rng=random.Random(1))
    cluster.put(core.Node(metadata=core.ObjectMeta(name="n1")))
    cluster.put(core.Pod(metadata=core.ObjectMeta(name="web", namespace="default")))
    cluster.put(core.Event(metadata=core.ObjectMeta(name="said", namespace="default")))
    return cluster


async def test_all_kinds_are_of_one_revision_whatever_is_written_meanwhile(cluster: MemoryCluster) -> None:
    listing = Listing(cluster)
    snapshot = await take_snapshot(listing, clock=VirtualClock(wall_s=5.0))
    first, *others = listing.calls
    assert first[1] is None
    assert {revision for _, revision in others} == {snapshot.revision}
    assert [kind for kind, _ in listing.calls] == [kind.message.__name__ for kind in KINDS if kind.name not in LEFT_OUT]
    assert len(snapshot.of(core.Node)) == 2, "its own, and the one that was made before the first list"
    assert snapshot.taken_at_s == 5.0
    assert snapshot.find(core.Pod, "web", "default") is not None
    assert snapshot.find(core.Pod, "web") is None
    assert snapshot.of(core.Event) == ()


async def test_a_revision_that_is_forgotten_meanwhile_is_given_up_for_a_newer_one(cluster: MemoryCluster) -> None:
    listing = Listing(cluster)
    listing.failures["Secret"] = [Expired("forgotten")]
    snapshot = await take_snapshot(listing)
    assert [revision for kind, revision in listing.calls if kind == "Pod"] == [None, None]
    assert snapshot.revision == listing.calls[-1][1]
    listing.failures["Secret"] = [Expired("forgotten")] * 3
    with pytest.raises(Expired):
        await take_snapshot(listing)


async def test_kinds_that_may_not_be_read_are_named(cluster: MemoryCluster) -> None:
    listing = Listing(cluster)
    listing.failures["Secret"] = [Forbidden("no")]
    snapshot = await take_snapshot(listing)
    assert snapshot.unread == ("Secret",)
    listing.failures = {kind.message.__name__: [Forbidden("no")] for kind in KINDS}
    with pytest.raises(Forbidden, match="of any kind"):
        await take_snapshot(listing)


def test_what_reads_has_nothing_else(cluster: MemoryCluster) -> None:
    reads: Any = ReadOnly(cluster.client("admin"))
    assert [name for name in dir(reads) if not name.startswith("_")] == ["list"]
    with pytest.raises(AttributeError):
        reads.write = None


async def test_nothing_is_written(cluster: MemoryCluster) -> None:
    before = cluster.store.revision
    await take_snapshot(cluster.client("admin"))
    assert (cluster.store.revision, cluster.writes) == (before, [])


def test_records_are_in_the_order_of_the_last_writes() -> None:
    namespace = core.Namespace(metadata=core.ObjectMeta(name="a", resourceVersion="7"))
    pods = [
        core.Pod(
            metadata=core.ObjectMeta(name=name, namespace="a", resourceVersion=version),
            spec=core.PodSpec(nodeName=node),
        )
        for name, version, node in (("x", "9", "n1"), ("y", "3", ""), ("z", "9", ""))
    ]
    snapshot = Snapshot.made_of([namespace, *pods])
    assert snapshot.revision == 9
    found = [(r.revision, r.position, r.kind, r.name, r.node) for r in snapshot.records()]
    assert found == [
        (3, 0, "Pod", "y", ""),
        (7, 0, "Namespace", "a", ""),
        (9, 0, "Pod", "x", "n1"),
        (9, 1, "Pod", "z", ""),
    ]
    assert all(record.version().object.metadata.uid for record in snapshot.records())
