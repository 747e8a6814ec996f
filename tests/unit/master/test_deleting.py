"""Grace periods, finalizers, owners, namespaces."""

from __future__ import annotations

import pytest

from cluster.api.errors import Conflict, Forbidden, Invalid, NotFound
from cluster.api.meta import Key, from_time
from cluster.api.owners import owner_reference
from cluster.client import operations as ops
from cluster.pb.v1 import core_pb2 as core
from tests.unit.master.rig import Rig, pod, service

WEB = Key("Pod", "default", "web")
TEAM = Key("Namespace", "", "team")


@pytest.mark.parametrize("grace_s", [None, 30])
async def test_an_unscheduled_pod_goes_at_once(rig: Rig, grace_s: int | None) -> None:
    made = await rig.pod()
    gone = await rig.write(ops.delete(WEB, grace_period_s=grace_s))
    assert rig.find("Pod", "web") is None
    assert gone.metadata.uid == made.metadata.uid
    assert gone.metadata.resourceVersion == str(rig.revision), "its last content, with the revision of its removal"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_a_finished_pod_goes_at_once(rig: Rig, phase: str) -> None:
    await rig.node()
    await rig.pod(node="n1")
    await rig.write(ops.patch(WEB, {"status": {"phase": phase}}, status=True))
    await rig.write(ops.delete(WEB))
    assert rig.find("Pod", "web") is None


@pytest.mark.parametrize(("own_s", "asked_s", "expected_s"), [(None, None, 30), (7, None, 7), (7, 3, 3), (7, 60, 60)])
async def test_a_running_pod_gets_its_grace(rig: Rig, own_s: int | None, asked_s: int | None, expected_s: int) -> None:
    await rig.node()
    await rig.pod(node="n1", grace_s=own_s)
    await rig.write(ops.delete(WEB, grace_period_s=asked_s))
    found = rig.find("Pod", "web")
    assert found is not None
    assert found.metadata.deletionGracePeriodSeconds == expected_s
    assert from_time(found.metadata.deletionTimestamp) == pytest.approx(rig.clock.wall() + expected_s)
    assert found.metadata.generation == 2


async def test_a_repeated_delete_only_shortens(rig: Rig) -> None:
    await rig.node()
    await rig.pod(node="n1")
    await rig.write(ops.delete(WEB, grace_period_s=20))
    first = rig.find("Pod", "web")
    revision = rig.revision
    rig.clock.advance(5)
    for grace_s in (None, 20, 100):
        await rig.write(ops.delete(WEB, grace_period_s=grace_s))
    assert rig.revision == revision
    await rig.write(ops.delete(WEB, grace_period_s=8))
    second = rig.find("Pod", "web")
    assert first is not None
    assert second is not None
    shortened = from_time(first.metadata.deletionTimestamp) - from_time(second.metadata.deletionTimestamp)
    assert shortened == pytest.approx(12)
    assert (second.metadata.deletionGracePeriodSeconds, second.metadata.generation) == (8, 2)
    await rig.write(ops.delete(WEB, grace_period_s=0))
    assert rig.find("Pod", "web") is None


async def test_an_update_cannot_take_back_a_delete(rig: Rig) -> None:
    await rig.node()
    made = await rig.pod(node="n1")
    await rig.write(ops.delete(WEB))
    made.metadata.resourceVersion = ""
    made.metadata.ClearField("deletionTimestamp")
    after = await rig.write(ops.update(made))
    assert after.metadata.HasField("deletionTimestamp")


async def test_the_agent_removes_the_pod_that_it_ran_and_no_other(rig: Rig) -> None:
    await rig.node()
    made = await rig.pod(node="n1")
    await rig.write(ops.delete(WEB))
    with pytest.raises(Conflict):
        await rig.write(ops.delete(WEB, uid="another", grace_period_s=0), "node:n1")
    await rig.write(ops.delete(WEB, uid=made.metadata.uid, grace_period_s=0), "node:n1")
    assert rig.find("Pod", "web") is None


async def test_finalizers_hold_an_object(rig: Rig) -> None:
    held = service()
    held.metadata.finalizers.append("example.com/hold")
    await rig.create(held)
    key = Key("Service", "default", "svc")
    await rig.write(ops.delete(key))
    found = rig.find("Service", "svc")
    assert found is not None
    assert found.metadata.HasField("deletionTimestamp")
    revision = rig.revision
    await rig.write(ops.delete(key))
    assert rig.revision == revision
    with pytest.raises(Invalid):
        await rig.write(ops.patch(key, {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}))
    await rig.write(ops.patch(key, {"metadata": {"finalizers": None}}))
    assert rig.find("Service", "svc") is None
    assert rig.revision == revision + 1
    assert not rig.master._admission.services.addresses.pool.is_taken(
        rig.master._admission.services.addresses.pool.first
    )


async def test_a_pod_with_finalizers_waits_for_both(rig: Rig) -> None:
    await rig.node()
    held = pod()
    held.metadata.finalizers.append("example.com/hold")
    await rig.create(held)
    await rig.write(ops.bind(WEB, "n1"))
    await rig.write(ops.delete(WEB))
    await rig.write(ops.delete(WEB, grace_period_s=0))
    assert rig.find("Pod", "web") is not None
    await rig.write(ops.patch(WEB, {"metadata": {"finalizers": None}}))
    assert rig.find("Pod", "web") is None


async def test_a_finalizer_taken_away_early_does_not_shorten_the_grace(rig: Rig) -> None:
    await rig.node()
    held = pod()
    held.metadata.finalizers.append("example.com/hold")
    await rig.create(held)
    await rig.write(ops.bind(WEB, "n1"))
    await rig.write(ops.delete(WEB))
    await rig.write(ops.patch(WEB, {"metadata": {"finalizers": None}}))
    assert rig.find("Pod", "web") is not None


async def _controller(rig: Rig) -> core.ReplicationController:
    template = core.PodTemplateSpec(metadata=core.ObjectMeta(labels={"app": "web"}), spec=pod().spec)
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc"), spec={"replicas": 1, "template": template})
    made = await rig.create(rc)
    assert isinstance(made, core.ReplicationController)
    owned = pod()
    owned.metadata.ownerReferences.append(owner_reference(made))
    await rig.create(owned)
    await rig.create(pod("other"))
    return made


async def test_orphans_lose_their_owner_in_the_same_revision(rig: Rig) -> None:
    await _controller(rig)
    before = rig.revision
    await rig.write(ops.delete(Key("ReplicationController", "default", "rc"), propagation="Orphan"))
    found = rig.find("Pod", "web")
    assert found is not None
    assert not found.metadata.ownerReferences
    assert found.metadata.resourceVersion == str(before + 1) == str(rig.revision)


async def test_by_default_the_owned_are_left_to_the_garbage_collector(rig: Rig) -> None:
    await _controller(rig)
    await rig.write(ops.delete(Key("ReplicationController", "default", "rc")))
    found = rig.find("Pod", "web")
    assert found is not None
    assert len(found.metadata.ownerReferences) == 1


RC = Key("ReplicationController", "default", "rc")


async def test_in_the_foreground_it_stays_until_it_is_deleted_in_the_background(rig: Rig) -> None:
    await _controller(rig)
    await rig.write(ops.delete(RC, propagation="Foreground"))
    found = rig.find("ReplicationController", "rc")
    assert found is not None
    assert list(found.metadata.finalizers) == ["foregroundDeletion"]
    assert found.metadata.HasField("deletionTimestamp")
    assert found.metadata.generation == 2
    revision = rig.revision
    await rig.write(ops.delete(RC))
    await rig.write(ops.delete(RC, propagation="Foreground"))
    assert rig.revision == revision, "it is as it was"
    await rig.write(ops.delete(RC, propagation="Background"), "controllers")
    assert rig.find("ReplicationController", "rc") is None
    assert len(rig.find("Pod", "web").metadata.ownerReferences) == 1  # type: ignore[union-attr]


async def test_in_the_foreground_a_pod_has_its_time_and_waits_for_the_collector(rig: Rig) -> None:
    await rig.node()
    await rig.pod()
    await rig.write(ops.bind(WEB, "n1"))
    await rig.write(ops.delete(WEB, propagation="Foreground"))
    await rig.write(ops.delete(WEB, propagation="Background"), "controllers")
    left = rig.find("Pod", "web")
    assert left is not None
    assert not left.metadata.finalizers, "its grace period holds it now"
    await rig.write(ops.delete(WEB, propagation="Foreground"))
    await rig.write(ops.delete(WEB, grace_period_s=0))
    assert rig.find("Pod", "web") is not None
    await rig.write(ops.delete(WEB, propagation="Background"), "controllers")
    assert rig.find("Pod", "web") is None


async def test_the_finalizers_of_an_object_say_what_becomes_of_what_it_owns(rig: Rig) -> None:
    await _controller(rig)
    await rig.write(ops.patch(RC, {"metadata": {"finalizers": ["orphan", "example.com/hold"]}}))
    await rig.write(ops.delete(RC))
    assert not rig.find("Pod", "web").metadata.ownerReferences  # type: ignore[union-attr]
    assert list(rig.find("ReplicationController", "rc").metadata.finalizers) == ["example.com/hold"]  # type: ignore[union-attr]


async def test_a_policy_that_is_named_counts_more_than_the_finalizers(rig: Rig) -> None:
    await _controller(rig)
    await rig.write(ops.patch(RC, {"metadata": {"finalizers": ["orphan"]}}))
    await rig.write(ops.delete(RC, propagation="Background"))
    assert rig.find("ReplicationController", "rc") is None
    assert len(rig.find("Pod", "web").metadata.ownerReferences) == 1  # type: ignore[union-attr]


async def test_a_kind_that_is_not_followed_goes_in_the_foreground_if_it_owns_nothing(rig: Rig) -> None:
    about = core.ObjectReference(kind="Pod", name="web", namespace="default")
    made, _ = [
        await rig.create(core.Event(metadata=core.ObjectMeta(name=name, namespace="default"), involvedObject=about))
        for name in ("c", "d")
    ]
    owned = pod()
    owned.metadata.ownerReferences.append(owner_reference(made))
    await rig.create(owned)
    with pytest.raises(Invalid, match='events "c" owns other objects'):
        await rig.write(ops.delete(Key("Event", "default", "c"), propagation="Foreground"))
    await rig.write(ops.delete(Key("Event", "default", "d"), propagation="Foreground"))
    assert rig.find("Event", "d") is None


async def test_a_namespace_in_the_foreground_waits_for_the_collector_and_for_what_is_in_it(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    await rig.create(pod(namespace="team"))
    await rig.write(ops.delete(TEAM, propagation="Foreground"))
    await rig.write(ops.delete(TEAM, propagation="Background"), "controllers")
    found = rig.find("Namespace", "team")
    assert found is not None
    assert not found.metadata.finalizers
    with pytest.raises(Conflict, match="still holds 1 pods"):
        await rig.write(ops.delete(TEAM), "controllers")
    await rig.write(ops.patch(TEAM, {"metadata": {"labels": {"a": "b"}}}))
    assert rig.find("Namespace", "team") is not None, "no other write removes it from under what is in it"


async def test_a_namespace_goes_when_it_is_empty(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    await rig.create(pod(namespace="team"))
    await rig.write(ops.delete(TEAM))
    found = rig.find("Namespace", "team")
    assert isinstance(found, core.Namespace)
    assert found.status.phase == "Terminating"
    with pytest.raises(Conflict, match="still holds 1 pods"):
        await rig.write(ops.delete(TEAM), "controllers")
    await rig.write(ops.delete(Key("Pod", "team", "web")), "controllers")
    await rig.write(ops.delete(TEAM), "controllers")
    assert rig.find("Namespace", "team") is None


async def test_deletes_that_are_refused(rig: Rig) -> None:
    for name in ("default", "kube-system"):
        with pytest.raises(Forbidden, match="may not be deleted"):
            await rig.write(ops.delete(Key("Namespace", "", name)))
    with pytest.raises(NotFound, match='pods "web" not found'):
        await rig.write(ops.delete(WEB))
    await rig.pod()
    with pytest.raises(Invalid, match='"Sideways" is not one of Background, Foreground, Orphan'):
        await rig.write(ops.delete(WEB, propagation="Sideways"))
    with pytest.raises(Invalid, match="is not known"):
        await rig.write(ops.delete(Key("Dragon", "", "x")))


async def test_a_name_is_free_again_for_a_new_object(rig: Rig) -> None:
    old = await rig.pod()
    found = await rig.try_write(ops.delete(WEB), ops.create(pod()))
    assert not any(isinstance(o, Exception) for o in found)
    new = rig.find("Pod", "web")
    assert new is not None
    assert new.metadata.uid != old.metadata.uid
