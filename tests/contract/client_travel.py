"""The part of the suite about the past: history, undo, trace. What each tells in detail is tested with the master."""

from __future__ import annotations

import pytest

from cluster.api.errors import Invalid, NotFound, StoreRewound
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import controller, create_pod, key, pod, write

RC = core.ReplicationController
RC_KEY = key("rc", "ReplicationController")


def told(found: wire.HistoryResponse) -> list[tuple[str, list[str]]]:
    return [
        (wire.WatchEvent.Type.Name(entry.type), [change.path for change in entry.changes]) for entry in found.entries
    ]


async def scaled(client: ClusterClient, *counts: int) -> list[int]:
    """Makes a controller with the first count, then scales it to the others; the revisions of all that."""
    revisions = [(await client.write([operations.create(controller(replicas=counts[0]))])).revision]
    for count in counts[1:]:
        patch = operations.patch(RC_KEY, {"spec": {"replicas": count}})
        revisions.append((await client.write([patch], cause=core.Cause(reason="scale"))).revision)
    return revisions


class TravelContract:
    """To be inherited by `ClientContract`."""

    async def test_history_tells_every_change_newest_first(self, client: ClusterClient) -> None:
        revisions = await scaled(client, 1, 2, 3)
        found = await client.history(RC, "rc", "default")
        assert told(found) == [("MODIFIED", ["spec.replicas"]), ("MODIFIED", ["spec.replicas"]), ("ADDED", [])]
        assert [entry.revision for entry in found.entries] == revisions[::-1]
        assert [entry.actor for entry in found.entries] == ["admin"] * 3
        assert found.entries[0].cause.reason == "scale"
        assert [(c.old, c.new) for c in found.entries[0].changes] == [("2", "3")]
        assert found.entries[0].time.seconds > 0
        part = await client.history(RC, "rc", "default", after_revision=revisions[0], until_revision=revisions[1])
        assert [entry.revision for entry in part.entries] == [revisions[1]]
        assert len((await client.history(RC, "rc", limit=1)).entries) == 1

    async def test_history_of_what_is_gone_and_of_what_never_was(self, client: ClusterClient) -> None:
        await create_pod(client)
        await write(client, operations.delete(key()))
        found = await client.history(core.Pod, "a")
        assert told(found) == [("DELETED", []), ("ADDED", [])]
        assert found.entries[0].object.pod.metadata.resourceVersion == str(found.entries[0].revision)
        with pytest.raises(NotFound):
            await client.history(core.Pod, "never")
        with pytest.raises(StoreRewound):
            await client.history(core.Pod, "a", until_revision=found.revision + 1000)

    async def test_history_without_status(self, client: ClusterClient) -> None:
        await scaled(client, 1)
        live = await client.get(RC, "rc", "default")
        live.status.replicas = 1
        await write(client, operations.update_status(live))
        assert told(await client.history(RC, "rc")) == [("MODIFIED", ["status.replicas"]), ("ADDED", [])]
        assert told(await client.history(RC, "rc", without_status=True)) == [("ADDED", [])]

    async def test_undo_and_undo_of_the_undo(self, client: ClusterClient) -> None:
        revisions = await scaled(client, 3, 5)
        undone = await client.undo(RC, "rc", "default")
        assert undone.to_revision == revisions[0]
        assert [(c.path, c.old, c.new) for c in undone.changes] == [("spec.replicas", "5", "3")]
        live = await client.get(RC, "rc", "default")
        assert undone.result.object.replicationcontroller == live
        assert (live.spec.replicas, live.metadata.cause.reason, live.metadata.cause.revision) == (
            3,
            "undo",
            revisions[0],
        )
        await client.undo(RC, "rc", "default")
        assert (await client.get(RC, "rc", "default")).spec.replicas == 5
        await client.undo(RC, "rc", "default", to_revision=revisions[0])
        assert (await client.get(RC, "rc", "default")).spec.replicas == 3

    async def test_undo_of_a_deletion_makes_another_object(self, client: ClusterClient) -> None:
        first = await create_pod(client, app="web")
        await write(client, operations.delete(key()))
        await client.undo(core.Pod, "a")
        again = await client.get(core.Pod, "a", "default")
        assert again.metadata.uid != first.metadata.uid
        assert dict(again.metadata.labels) == {"app": "web"}

    async def test_a_dry_undo_writes_nothing(self, client: ClusterClient) -> None:
        await scaled(client, 3, 5)
        tried = await client.undo(RC, "rc", "default", dry_run=True)
        assert [change.path for change in tried.changes] == ["spec.replicas"]
        assert (await client.get(RC, "rc", "default")).spec.replicas == 5

    async def test_undo_of_nothing(self, client: ClusterClient) -> None:
        await scaled(client, 3)
        with pytest.raises(Invalid, match="nothing to undo"):
            await client.undo(RC, "rc", "default")
        with pytest.raises(NotFound):
            await client.undo(core.Pod, "never")

    async def test_trace_follows_causes(self, client: ClusterClient) -> None:
        (revision,) = await scaled(client, 3)
        cause = core.Cause(revision=revision, object="replicationcontrollers/default/rc", reason="scale")
        await write(client, operations.create(pod()), cause=cause)
        found = await client.trace(core.Pod, "a", "default")
        assert [(step.object, step.step) for step in found.steps] == [
            ("replicationcontrollers/default/rc", "Created"),
            ("pods/default/a", "Created"),
        ]
        assert found.steps[1].cause == cause
        assert found.gap == ""
        with pytest.raises(NotFound):
            await client.trace(core.Pod, "never")
