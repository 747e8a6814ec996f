"""An object as it was, written anew."""

from __future__ import annotations

import json

import pytest

from cluster.api.diff import LAST_APPLIED
from cluster.api.errors import ApiError, BadRequest, Conflict, Expired, Invalid, NotFound, StoreRewound
from cluster.api.json import object_to_json
from cluster.api.kinds import unwrap
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.client.apply import three_way_patch
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.interface import Request
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, pod, running, service
from tests.unit.master.travels import ADMIN, RC, change_text, compact, controller, history, scale, status, told, undo

POD = Key("Pod", "default", "web")


def found(rig: Rig) -> core.ReplicationController:
    obj = rig.find("ReplicationController", "web")
    assert isinstance(obj, core.ReplicationController)
    return obj


def changes(response: wire.UndoResponse) -> list[str]:
    return [change_text(change) for change in response.changes]


async def test_the_last_change_is_undone_and_undoing_that_does_it_again(rig: Rig) -> None:
    made = await rig.create(controller(3))
    await scale(rig, 5)
    await status(rig, replicas=5)
    before = rig.revision

    undone = await undo(rig)
    assert changes(undone) == ["spec.replicas 5 -> 3"]
    assert undone.to_revision == int(made.metadata.resourceVersion)
    assert undone.revision == rig.revision == before + 1
    assert unwrap(undone.result.object) == found(rig)
    assert (found(rig).spec.replicas, found(rig).status.replicas, found(rig).metadata.generation) == (3, 5, 3)
    cause = found(rig).metadata.cause
    assert (cause.revision, cause.object, cause.reason) == (
        undone.to_revision,
        "replicationcontrollers/default/web",
        "undo",
    )

    redone = await undo(rig)
    assert changes(redone) == ["spec.replicas 3 -> 5"]
    assert redone.to_revision == before, "as it was just before it was undone"
    assert changes(await undo(rig)) == ["spec.replicas 5 -> 3"]


async def test_to_a_revision_at_which_something_else_was_written(rig: Rig) -> None:
    made = await rig.create(controller(1))
    await scale(rig, 2)
    at_two = rig.revision
    await rig.pod("other")
    await scale(rig, 3)
    await scale(rig, 4)
    undone = await undo(rig, to_revision=at_two + 1)
    assert (undone.to_revision, found(rig).spec.replicas) == (at_two, 2)
    first = int(made.metadata.resourceVersion)
    assert (await undo(rig, to_revision=first)).to_revision == first
    assert found(rig).spec.replicas == 1


async def test_nothing_to_do_writes_nothing(rig: Rig) -> None:
    await rig.create(controller(1))
    before = rig.revision
    undone = await undo(rig, to_revision=before)
    assert undone.result.unchanged
    assert not undone.changes
    assert rig.revision == before


async def test_dry_run(rig: Rig) -> None:
    await rig.create(controller(3))
    await scale(rig, 5)
    before = rig.revision
    tried = await undo(rig, dry_run=True)
    assert changes(tried) == ["spec.replicas 5 -> 3"]
    assert rig.revision == before
    assert found(rig).spec.replicas == 5


async def test_an_object_that_is_gone_is_made_again_with_another_uid(rig: Rig) -> None:
    made = controller(3)
    made.metadata.labels["tier"] = "fe"
    first = await rig.create(made)
    await scale(rig, 4)
    at_four = rig.revision
    await rig.write(ops.delete(RC))
    undone = await undo(rig)
    again = found(rig)
    assert undone.to_revision == at_four
    assert not undone.changes
    assert (again.spec.replicas, again.metadata.labels["tier"], again.metadata.generation) == (4, "fe", 1)
    assert again.metadata.uid != first.metadata.uid
    assert again.metadata.cause.reason == "undo"
    with pytest.raises(Invalid, match=r"has not been changed since it was made at revision .* podium delete"):
        await undo(rig)
    assert (await undo(rig, to_revision=int(first.metadata.resourceVersion))).to_revision < at_four
    assert found(rig).spec.replicas == 3


async def test_a_pod_that_is_made_again_is_not_placed_and_nobodys(rig: Rig) -> None:
    await rig.node()
    made = pod()
    made.metadata.ownerReferences.add(apiVersion="v1", kind="ReplicationController", name="x", uid="u", controller=True)
    await rig.create(made)
    await rig.write(ops.bind(POD, "n1"))
    await rig.write(ops.delete(POD, grace_period_s=0))
    await undo(rig, "Pod")
    again = rig.find("Pod", "web")
    assert isinstance(again, core.Pod)
    assert (again.spec.nodeName, again.status.phase) == ("", "Pending")
    assert not again.metadata.ownerReferences


async def test_a_pod_that_is_made_again_has_the_priority_that_its_class_gives_now(rig: Rig) -> None:
    await rig.pod()
    await rig.write(ops.delete(POD))
    await rig.create(core.PriorityClass(metadata=core.ObjectMeta(name="usual"), value=10, globalDefault=True))
    again = unwrap((await undo(rig, "Pod")).result.object)
    assert isinstance(again, core.Pod)
    assert (again.spec.priorityClassName, again.spec.priority) == ("usual", 10)


async def test_classes_and_budgets_are_undone_like_others(rig: Rig) -> None:
    high, pdb = Key("PriorityClass", "", "high"), Key("PodDisruptionBudget", "default", "pdb")
    await rig.create(core.PriorityClass(metadata=core.ObjectMeta(name="high"), value=1000, description="first"))
    await rig.write(ops.patch(high, {"description": "second"}))
    assert changes(await undo(rig, high.kind, high.name)) == ['description "second" -> "first"']
    await rig.write(ops.delete(high))
    assert unwrap((await undo(rig, high.kind, high.name)).result.object).value == 1000  # type: ignore[union-attr]
    budget = core.PodDisruptionBudget(metadata=core.ObjectMeta(name="pdb", namespace="default"))
    budget.spec.maxUnavailable.intVal = 1
    await rig.create(budget)
    await rig.write(ops.patch(pdb, {"spec": {"maxUnavailable": "25%"}}))
    assert changes(await undo(rig, pdb.kind, pdb.name)) == ['spec.maxUnavailable "25%" -> 1']


async def test_a_pod_keeps_its_place_when_a_label_is_undone(rig: Rig) -> None:
    await rig.node()
    await rig.create(pod())
    await rig.write(ops.patch(POD, {"metadata": {"labels": {"tier": "fe"}}}))
    await rig.write(ops.bind(POD, "n1"))
    assert changes(await undo(rig, "Pod")) == ['metadata.labels.tier "fe" -> null']
    again = rig.find("Pod", "web")
    assert isinstance(again, core.Pod)
    assert again.spec.nodeName == "n1"


async def test_placing_is_not_undone(rig: Rig) -> None:
    await rig.node()
    await rig.create(pod())
    await rig.write(ops.bind(POD, "n1"))
    with pytest.raises(Invalid, match="has not been changed since it was made"):
        await undo(rig, "Pod")


async def test_what_cannot_be_changed_is_said_in_words_with_what_to_do(rig: Rig) -> None:
    await rig.create(pod())
    first = rig.revision
    await rig.write(ops.delete(POD))
    other = pod()
    other.spec.containers[0].command[:] = ["true"]
    await rig.create(other)
    with pytest.raises(Invalid) as caught:
        await undo(rig, "Pod", to_revision=first)
    assert f'pods "web" cannot be as it was at revision {first}' in str(caught.value)
    assert f"podium delete pod/web -n default; podium undo pod/web -n default --to {first}" in str(caught.value)
    assert caught.value.causes
    await rig.write(ops.delete(POD))
    await undo(rig, "Pod", to_revision=first)
    again = rig.find("Pod", "web")
    assert isinstance(again, core.Pod)
    assert list(again.spec.containers[0].command) == ["sleep", "inf"]


async def test_an_address_that_somebody_else_has_by_now(rig: Rig) -> None:
    made = await rig.create(service())
    assert isinstance(made, core.Service)
    await rig.write(ops.delete(Key("Service", "default", "svc")))
    taken = await rig.create(service("other", made.spec.clusterIP))
    with pytest.raises(Invalid, match=r"already allocated\. To go on: write it from a manifest that leaves this out"):
        await undo(rig, "Service", "svc")
    await rig.write(ops.delete(Key("Service", "default", taken.metadata.name)))
    await undo(rig, "Service", "svc")
    again = rig.find("Service", "svc")
    assert isinstance(again, core.Service)
    assert again.spec.clusterIP == made.spec.clusterIP


async def test_what_is_being_deleted_cannot_be_undone_yet(rig: Rig) -> None:
    await rig.node()
    await rig.pod(node="n1", grace_s=30)
    await rig.write(ops.delete(POD))
    with pytest.raises(Conflict, match="is being deleted, which cannot be taken back"):
        await undo(rig, "Pod")


async def test_what_is_not_there_to_be_undone(rig: Rig) -> None:
    with pytest.raises(NotFound, match="nothing of it is kept"):
        await undo(rig)
    before = rig.revision
    await rig.create(controller())
    made_at = rig.revision
    with pytest.raises(NotFound, match=f'replicationcontrollers "web" not found at revision {before}'):
        await undo(rig, to_revision=before)
    with pytest.raises(StoreRewound, match="has not happened"):
        await undo(rig, to_revision=rig.revision + 1)
    await rig.write(ops.delete(RC))
    with pytest.raises(NotFound, match=f"did not exist at revision .* as it was before: --to {made_at}"):
        await undo(rig, to_revision=rig.revision)
    with pytest.raises(BadRequest, match="events are what happened"):
        await undo(rig, "Event", "x")


async def test_what_is_compacted() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        await rig.create(controller(1))
        first = rig.revision
        await scale(rig, 2)
        await scale(rig, 3)
        await compact(rig, journal, rig.revision)
        with pytest.raises(
            Expired, match=r"was before revision .* is no longer kept; the oldest revision is"
        ) as caught:
            await undo(rig)
        assert caught.value.oldest_revision == rig.revision
        with pytest.raises(Expired, match=f"revision {first} is no longer kept"):
            await undo(rig, to_revision=first)
        await scale(rig, 4)
        assert changes(await undo(rig)) == ["spec.replicas 4 -> 3"], (
            "what it was before is kept as long as it is needed"
        )


async def test_a_status_that_is_written_meanwhile_does_not_matter_but_a_wish_does(rig: Rig) -> None:
    await rig.create(controller(3))
    await scale(rig, 5)
    api = rig.master.api
    real = api.write
    meanwhile = [lambda: status(rig, replicas=1), lambda: status(rig, replicas=2)]

    async def write(identity: object, request: wire.WriteRequest) -> bytes:
        if request.cause.reason == "undo" and meanwhile:
            await meanwhile.pop(0)()
        return await real(ADMIN, request)

    api._travel._undo._write = write
    assert changes(await undo(rig)) == ["spec.replicas 5 -> 3"]
    assert (found(rig).spec.replicas, found(rig).status.replicas) == (3, 2)

    meanwhile[:] = [lambda: scale(rig, 9)]
    with pytest.raises(Conflict, match="was changed while it was to be undone"):
        await undo(rig)
    assert found(rig).spec.replicas == 9


async def test_the_rules_for_writes_hold(rig: Rig) -> None:
    """Undo goes through the same door: what admission or validation refuses today, it refuses of the past, too."""
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    made = pod(namespace="team")
    await rig.create(made)
    await rig.write(ops.delete(Key("Pod", "team", "web")))
    await rig.write(ops.delete(Key("Namespace", "", "team")))
    with pytest.raises(ApiError, match=r"namespaces \"team\" not found|being terminated"):
        await undo(rig, "Pod", namespace="team")


async def test_endpoints_have_no_spec_and_are_restored_all_the_same(rig: Rig) -> None:
    made = core.Endpoints(metadata=core.ObjectMeta(name="db", namespace="default"))
    made.subsets.add(addresses=[core.EndpointAddress(ip="127.0.0.9")], ports=[core.EndpointPort(port=5432)])
    await rig.create(made)
    empty = {"subsets": None}
    await rig.write(ops.patch(Key("Endpoints", "default", "db"), empty))
    assert await undo(rig, "Endpoints", "db")
    again = rig.find("Endpoints", "db")
    assert isinstance(again, core.Endpoints)
    assert [address.ip for address in again.subsets[0].addresses] == ["127.0.0.9"]


async def test_apply_after_undo_compares_with_what_was_applied_then(rig: Rig) -> None:
    def applied(replicas: int, **labels: str) -> core.ReplicationController:
        made = controller(replicas)
        made.metadata.labels.update(labels)
        data = object_to_json(made)
        made.metadata.annotations[LAST_APPLIED] = json.dumps(data)
        return made

    async def apply(wanted: core.ReplicationController) -> None:
        desired = object_to_json(wanted)
        live = object_to_json(found(rig))
        patch = three_way_patch(json.loads(live["metadata"]["annotations"][LAST_APPLIED]), desired, live)
        await rig.write(ops.patch(RC, patch))

    await rig.create(applied(3, old="1"))
    first = controller(3)
    first.metadata.labels.update(old="1")
    second = controller(5)
    second.metadata.labels.update(new="1")
    await apply(second)
    assert dict(found(rig).metadata.labels) == {"new": "1"}
    await undo(rig)
    assert dict(found(rig).metadata.labels) == {"old": "1"}
    await apply(second)  # removes what only the first manifest had: undo has brought back the memory of it
    assert (found(rig).spec.replicas, dict(found(rig).metadata.labels)) == (5, {"new": "1"})


async def test_history_shows_the_undo(rig: Rig) -> None:
    await rig.create(controller(3))
    await scale(rig, 5)
    await undo(rig)
    entries = await history(rig)
    assert told(entries)[0] == "MODIFIED by admin: spec.replicas 5 -> 3"
    assert entries.entries[0].cause.reason == "undo"


async def test_an_undo_that_is_sent_again_is_not_undone(rig: Rig) -> None:
    await rig.create(controller(3))
    await scale(rig, 5)
    first = await undo(rig, request_id="x1")
    # As the writer keeps it; a caller who has heard no answer asks again.
    rig.master.store.requests.add([Request("admin/x1", first.revision, rig.clock.wall(), b"")])
    again = await undo(rig, request_id="x1")
    assert again == first
    assert found(rig).spec.replicas == 3
    with pytest.raises(BadRequest, match="another request was sent with this id"):
        await undo(rig, "Node", "n1", request_id="x1")
    assert changes(await undo(rig, request_id="x2")) == ["spec.replicas 3 -> 5"]
