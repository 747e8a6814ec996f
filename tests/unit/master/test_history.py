"""What became of an object, as the call History tells it."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.diff import LAST_APPLIED
from cluster.api.errors import BadRequest, Expired, Forbidden, Invalid, NotFound, StoreRewound
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master.history import PIECE
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, pod, running
from tests.unit.master.travels import RC, compact, controller, history, scale, status, told


async def test_every_change_newest_first_with_who_why_and_what(rig: Rig) -> None:
    made = await rig.create(controller(3))
    rig.clock.advance(60)
    await scale(rig, 5, core.Cause(revision=7, object="nodes/n1", reason="because"))
    found = await history(rig)
    assert told(found) == ["MODIFIED by admin: spec.replicas 3 -> 5", "ADDED by admin:"]
    newest, oldest = found.entries
    assert (newest.cause.revision, newest.cause.object, newest.cause.reason) == (7, "nodes/n1", "because")
    assert newest.time.seconds - oldest.time.seconds == 60
    assert oldest.object.replicationcontroller == made
    assert newest.object.replicationcontroller.spec.replicas == 5
    assert not oldest.HasField("cause")
    assert (found.revision, found.store_id) == (rig.revision, "store")


async def test_an_object_that_is_gone_and_its_namesake(rig: Rig) -> None:
    await rig.pod()
    await rig.write(ops.delete(Key("Pod", "default", "web")))
    second = await rig.pod()
    found = await history(rig, "Pod")
    assert told(found) == ["ADDED by admin:", "DELETED by admin:", "ADDED by admin:"]
    uids = [entry.object.pod.metadata.uid for entry in found.entries]
    assert uids[0] == second.metadata.uid != uids[1] == uids[2]


async def test_a_name_of_which_nothing_is_known(rig: Rig) -> None:
    with pytest.raises(NotFound, match='pods "never" not found, and nothing of it is kept in the history'):
        await history(rig, "Pod", name="never")


async def test_changes_of_the_status_alone_can_be_left_out(rig: Rig) -> None:
    await rig.create(controller(3))
    await status(rig, replicas=3)
    await scale(rig, 4)
    await status(rig, replicas=4)
    assert told(await history(rig)) == [
        "MODIFIED by admin: status.replicas 3 -> 4",
        "MODIFIED by admin: spec.replicas 3 -> 4",
        "MODIFIED by admin: status.replicas null -> 3",
        "ADDED by admin:",
    ]
    assert told(await history(rig, without_status=True)) == [
        "MODIFIED by admin: spec.replicas 3 -> 4",
        "ADDED by admin:",
    ]
    assert len((await history(rig, limit=1, without_status=True)).entries) == 1


async def test_a_part_of_it_and_pages(rig: Rig) -> None:
    await rig.create(controller(0))
    first = rig.revision
    for count in range(1, 6):
        await scale(rig, count)
    revisions = [entry.revision for entry in (await history(rig)).entries]
    assert revisions == list(range(first + 5, first - 1, -1))
    part = await history(rig, after_revision=first + 1, until_revision=first + 3)
    assert told(part) == ["MODIFIED by admin: spec.replicas 2 -> 3", "MODIFIED by admin: spec.replicas 1 -> 2"]
    page = await history(rig, limit=2)
    rest = await history(rig, until_revision=page.entries[-1].revision - 1)
    assert [entry.revision for entry in (*page.entries, *rest.entries)] == revisions
    assert not (await history(rig, until_revision=first - 1)).entries
    assert not (await history(rig, after_revision=rig.revision)).entries


async def test_more_changes_than_are_read_in_one_go(rig: Rig) -> None:
    await rig.create(controller(0))
    for count in range(1, 2 * PIECE + 1):
        await scale(rig, count)
    found = await history(rig, limit=1000)
    assert told(found) == [
        *(f"MODIFIED by admin: spec.replicas {n - 1} -> {n}" for n in range(2 * PIECE, 0, -1)),
        "ADDED by admin:",
    ]
    assert len((await history(rig)).entries) == 100, "the default"


async def test_what_is_compacted_is_said_to_be() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        await rig.create(controller(1))
        for count in (2, 3, 4):
            await scale(rig, count)
        await compact(rig, journal, rig.revision - 1)
        found = await history(rig)
        assert found.oldest_revision == rig.revision - 1
        assert told(found) == ["MODIFIED by admin: spec.replicas 3 -> 4", "MODIFIED by admin:"]


async def test_requests_that_make_no_sense(rig: Rig) -> None:
    await rig.create(controller())
    with pytest.raises(BadRequest, match="limit must not be negative"):
        await history(rig, limit=-1)
    with pytest.raises(BadRequest, match="a revision must not be negative"):
        await history(rig, after_revision=-1)
    with pytest.raises(BadRequest, match="name: is required"):
        await history(rig, name="")
    with pytest.raises(Invalid, match="nodes have no namespace"):
        await history(rig, "Node", namespace="default")
    with pytest.raises(StoreRewound, match=r"revision 1000 has not happened: this store is at \d+"):
        await history(rig, until_revision=1000)


@pytest.mark.parametrize("who", ["scheduler", "controllers", "proxy", "node:n1", "master"])
async def test_time_travel_is_for_the_admin(rig: Rig, who: str) -> None:
    identity, api = Identity.parse(who), rig.master.api
    calls: list[Any] = [
        api.history(identity, wire.HistoryRequest(kind=RC.kind, name="web")),
        api.undo(identity, wire.UndoRequest(kind=RC.kind, name="web")),
        api.trace(identity, wire.TraceRequest(kind=RC.kind, name="web")),
    ]
    for call in calls:
        with pytest.raises(Forbidden, match="may not call"):
            await call


async def test_what_apply_remembers_is_not_repeated(rig: Rig) -> None:
    made = pod()
    made.metadata.annotations[LAST_APPLIED] = "{}"
    await rig.create(made)
    changes = {"metadata": {"labels": {"tier": "fe"}, "annotations": {LAST_APPLIED: '{"more":1}'}}}
    await rig.write(ops.patch(Key("Pod", "default", "web"), changes))
    assert told(await history(rig, "Pod"))[0] == 'MODIFIED by admin: metadata.labels.tier null -> "fe"'


async def test_a_time_before_what_is_kept_is_told_what_is() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        await rig.create(controller(1))
        early_s = rig.clock.wall()
        rig.clock.advance(60)
        await scale(rig, 2)
        kept = rig.revision
        rig.clock.advance(60)
        await scale(rig, 3)
        await compact(rig, journal, kept)
        with pytest.raises(Expired) as caught:
            await rig.master.store.revision_at(early_s)
        assert str(caught.value) == (
            f"what was at 2023-11-14T22:13:20Z is no longer kept; the oldest revision is {kept}; "
            "the first change after it was made at 2023-11-14T22:15:20Z"
        )
        assert caught.value.oldest_revision == kept
