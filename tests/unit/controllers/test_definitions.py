"""How definitions of kinds end, and who goes with objects of such kinds: the controllers on a real master."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.api.definitions import CLEANUP
from cluster.api.errors import Conflict
from cluster.api.kinds import AnyObject, kind_of
from cluster.api.meta import Key, custom_key, key_of
from cluster.api.owners import owner_reference
from cluster.client import operations as ops
from cluster.config.profiles import PROFILES
from cluster.controllers.garbage_collector import GarbageCollector
from cluster.controllers.manager import ControllerManager
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.simulation.client import LocalClient
from tests.kit.widgets import WIDGETS, definition, widget
from tests.unit.master.rig import Rig, pod, running

CRD = Key("CustomResourceDefinition", "", WIDGETS)
BLUE = custom_key(WIDGETS, "default", "blue")


@asynccontextmanager
async def managed(rig: Rig) -> AsyncIterator[None]:
    """With a manager that knows nothing at first."""
    client = LocalClient(rig.master.api, Identity.parse("controllers"), rig.clock)
    manager = ControllerManager(client, PROFILES["test"], clock=rig.clock, rng=random.Random(1))
    await manager.start()
    try:
        yield
    finally:
        await manager.stop()
        await client.close()


@pytest.fixture
async def unmanaged() -> AsyncIterator[Rig]:
    async with running() as made:
        yield made


@pytest.fixture
async def rig(unmanaged: Rig) -> AsyncIterator[Rig]:
    async with managed(unmanaged):
        yield unmanaged


def owned_by(obj: AnyObject, owner: core.CustomObject) -> AnyObject:
    meta = owner.metadata
    obj.metadata.ownerReferences.add(
        apiVersion=owner.apiVersion, kind=owner.kind, name=meta.name, uid=meta.uid, controller=True
    )
    return obj


async def made(rig: Rig, obj: core.CustomObject) -> core.CustomObject:
    found = await rig.create(obj)
    assert isinstance(found, core.CustomObject)
    return found


def left(rig: Rig) -> list[str]:
    return [f"{v.key.namespace}/{v.key.name}" for v in rig.master.store.state.list("CustomObject")]


async def test_a_definition_goes_with_its_objects(rig: Rig) -> None:
    await rig.create(definition())
    await rig.create(definition("gadgets", "Gadget"))
    for number in range(450):
        await rig.create(widget(f"w{number}"))
    await rig.create(widget(resource="gadgets.example.com", kind="Gadget"))
    await rig.write(ops.delete(CRD))
    await rig.clock.run_for(2.0)
    assert left(rig) == ["default/gadgets.example.com/blue"]
    assert rig.find("CustomResourceDefinition", WIDGETS) is None
    assert rig.find("CustomResourceDefinition", "gadgets.example.com") is not None


async def test_it_waits_for_who_holds_an_object_and_cannot_be_hurried(rig: Rig) -> None:
    await rig.create(definition())
    await rig.create(widget(metadata={"finalizers": ["example.com/held"]}))
    await rig.write(ops.delete(CRD))
    await rig.clock.run_for(30.0)
    held = rig.find("CustomObject", f"{WIDGETS}/blue")
    assert held is not None
    assert held.metadata.HasField("deletionTimestamp")
    with pytest.raises(Conflict, match="still has 1 objects"):
        await rig.write(ops.patch(CRD, {"metadata": {"finalizers": None}}))
    await rig.write(ops.patch(BLUE, {"metadata": {"finalizers": None}}))
    await rig.clock.run_for(1.0)
    assert left(rig) == []
    assert rig.find("CustomResourceDefinition", WIDGETS) is None


async def test_other_finalizers_of_a_definition_are_left_alone(rig: Rig) -> None:
    crd = definition()
    crd.metadata.finalizers.append("example.com/mine")
    await rig.create(crd)
    await rig.create(widget())
    await rig.write(ops.delete(CRD))
    await rig.clock.run_for(2.0)
    found = rig.find("CustomResourceDefinition", WIDGETS)
    assert found is not None
    assert list(found.metadata.finalizers) == ["example.com/mine"]
    assert CLEANUP not in found.metadata.finalizers
    await rig.write(ops.patch(CRD, {"metadata": {"finalizers": None}}))
    assert rig.find("CustomResourceDefinition", WIDGETS) is None


async def test_many_definitions_at_once_are_one_reason_to_look_for_owners(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.clock.run_for(1.0)
    looked = 0
    look = GarbageCollector._add_all

    def counted(collector: GarbageCollector) -> None:
        nonlocal looked
        looked += 1
        look(collector)

    monkeypatch.setattr(GarbageCollector, "_add_all", counted)
    made = [ops.create(definition(f"kinds{number}", f"Kind{number}")) for number in range(20)]
    await rig.try_write(*made)
    await rig.clock.run_for(1.0)
    assert looked == 1


async def test_a_namespace_is_emptied_of_them(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    await rig.create(definition())
    await rig.create(definition("rings", "Ring", scope="Cluster"))
    await rig.create(widget(namespace="team"))
    await rig.create(widget())
    await rig.create(widget("one", namespace="", resource="rings.example.com", kind="Ring"))
    await rig.write(ops.delete(Key("Namespace", "", "team")))
    await rig.clock.run_for(2.0)
    assert rig.find("Namespace", "team") is None
    assert left(rig) == ["/rings.example.com/one", f"default/{WIDGETS}/blue"]


async def test_what_an_object_owned_goes_with_it(rig: Rig) -> None:
    await rig.create(definition())
    blue = await made(rig, widget())
    part = await made(rig, widget("part"))
    await rig.write(ops.update(owned_by(widget("part"), blue)))
    of_part = core.ConfigMap(metadata=core.ObjectMeta(name="of-part", namespace="default"))
    await rig.create(owned_by(of_part, part))
    await rig.create(owned_by(pod("of-blue"), blue))
    await rig.create(owned_by(core.Secret(metadata=core.ObjectMeta(name="s", namespace="default")), blue))
    await rig.create(pod("free"))
    await rig.clock.run_for(1.0)
    assert rig.find("Pod", "of-blue") is not None
    await rig.write(ops.delete(BLUE))
    await rig.clock.run_for(2.0)
    assert left(rig) == []
    for kind, name in (("ConfigMap", "of-part"), ("Pod", "of-blue"), ("Secret", "s")):
        assert rig.find(kind, name) is None, name
    assert rig.find("Pod", "free") is not None


@pytest.mark.parametrize(
    "owner",
    [
        core.Node(metadata=core.ObjectMeta(name="n1")),
        core.PriorityClass(metadata=core.ObjectMeta(name="high"), value=1),
        core.Lease(metadata=core.ObjectMeta(name="lock", namespace="default")),
        definition(),
    ],
    ids=lambda owner: kind_of(owner).name,
)
async def test_every_kind_goes_after_what_it_owns_if_it_is_to(rig: Rig, owner: AnyObject) -> None:
    made = await rig.create(owner)
    key = key_of(made)
    if isinstance(made, core.CustomResourceDefinition):
        await rig.create(widget())
    owned = pod("owned")
    owned.metadata.ownerReferences.append(owner_reference(made))
    owned.metadata.finalizers.append("example.com/held")
    await rig.create(owned)
    await rig.clock.run_for(1.0)
    await rig.write(ops.delete(key, propagation="Foreground"))
    await rig.clock.run_for(2.0)
    held = rig.find("Pod", "owned")
    assert held is not None
    assert held.metadata.HasField("deletionTimestamp")
    waiting = rig.find(key.kind, key.name)
    assert waiting is not None
    assert list(waiting.metadata.finalizers) == ["foregroundDeletion"]
    await rig.write(ops.patch(key_of(held), {"metadata": {"finalizers": None}}))
    await rig.clock.run_for(2.0)
    assert rig.find("Pod", "owned") is None
    assert rig.find(key.kind, key.name) is None


async def test_what_is_to_be_orphaned_stays(rig: Rig) -> None:
    await rig.create(definition())
    blue = await made(rig, widget())
    await rig.create(owned_by(pod("of-blue"), blue))
    await rig.create(owned_by(widget("part"), blue))
    await rig.write(ops.delete(BLUE, propagation="Orphan"))
    await rig.clock.run_for(2.0)
    freed = rig.find("Pod", "of-blue")
    assert freed is not None
    assert not freed.metadata.ownerReferences
    assert left(rig) == [f"default/{WIDGETS}/part"]


async def test_what_shows_up_when_its_owner_and_the_kind_of_that_are_gone_is_collected(rig: Rig) -> None:
    await rig.create(definition())
    blue = await made(rig, widget())
    await rig.write(ops.delete(CRD))
    await rig.clock.run_for(2.0)
    assert rig.find("CustomResourceDefinition", WIDGETS) is None
    await rig.create(owned_by(pod("late"), blue))
    await rig.clock.run_for(2.0)
    assert rig.find("Pod", "late") is None


async def test_an_owner_that_was_never_there_is_collected_once_its_kind_is_known(rig: Rig) -> None:
    ghost = widget("ghost")
    ghost.metadata.uid = "no-such-uid"
    await rig.create(owned_by(pod("haunted"), ghost))
    await rig.clock.run_for(2.0)
    assert rig.find("Pod", "haunted") is not None, "nobody knows that kind yet"
    await rig.create(definition())
    await rig.clock.run_for(2.0)
    assert rig.find("Pod", "haunted") is None


async def test_what_is_left_of_kinds_that_went_while_no_manager_was_there_is_collected(unmanaged: Rig) -> None:
    rig = unmanaged
    await rig.create(definition())
    await rig.create(definition("rings", "Ring", scope="Cluster"))
    blue = await made(rig, widget())
    one = await made(rig, widget("one", namespace="", resource="rings.example.com", kind="Ring"))
    for owner in (blue, one):
        for number in range(2):
            await rig.create(owned_by(pod(f"of-{owner.kind.lower()}-{number}"), owner))
            await rig.clock.run_for(10.0)
    both = owned_by(pod("of-both"), blue)
    kept = await rig.create(pod("kept"))
    both.metadata.ownerReferences.add(apiVersion="v1", kind="Pod", name="kept", uid=kept.metadata.uid)
    await rig.create(both)
    await rig.clock.run_for(10.0)
    for key in (BLUE, custom_key("rings.example.com", "", "one"), CRD, CRD._replace(name="rings.example.com")):
        await rig.write(ops.delete(key))
    await rig.clock.run_for(10.0)
    ghost = widget("ghost", kind="Ghost")
    ghost.metadata.uid = "no-such-uid"
    await rig.create(owned_by(pod("haunted"), ghost))
    async with managed(rig):
        await rig.clock.run_for(1.0)
        pods = sorted(version.key.name for version in rig.master.store.state.list("Pod"))
        assert pods == ["haunted", "kept", "of-both"], "there never was a Ghost, as far as anybody knows"


async def test_a_kind_whose_end_the_history_has_forgotten_stays_unknown(unmanaged: Rig) -> None:
    rig = unmanaged
    await rig.create(definition())
    blue = await made(rig, widget())
    await rig.create(owned_by(pod("of-blue"), blue))
    await rig.clock.run_for(10.0)
    for key in (BLUE, CRD):
        await rig.write(ops.delete(key))
    await rig.clock.run_for(10.0)
    store = rig.master.store
    await store.journal.compact(store.revision, 100)
    store.history.compacted = store.revision
    async with managed(rig):
        await rig.clock.run_for(1.0)
    assert rig.find("Pod", "of-blue") is not None
