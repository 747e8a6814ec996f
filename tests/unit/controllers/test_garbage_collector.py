"""What is collected, and what is not; and how a namespace ends."""

from __future__ import annotations

from cluster.api.meta import Key, to_time
from cluster.api.owners import owner_reference
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import controller, names, node, pod
from tests.unit.controllers.rig import running

RC_KEY = Key("ReplicationController", "default", "web")


async def test_pods_of_a_deleted_controller_go() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=300), pod("free", labels={"app": "x"}))
        await rig.run()
        before = len(rig.cluster.writes)
        await rig.admin.write([operations.delete(RC_KEY)])
        await rig.run(0.1)
        assert names(rig.pods()) == ["free"]
        deletes = [ops for _, ops in rig.cluster.writes[before + 1 :] if ops[0].HasField("delete")]
        assert [len(ops) for ops in deletes] == [200, 100]


async def test_orphaned_on_request_they_stay() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=3))
        await rig.run()
        await rig.admin.write([operations.delete(RC_KEY, propagation="Orphan")])
        await rig.run(30)
        assert len(rig.active()) == 3


async def test_in_the_foreground_the_pods_go_first() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=3), node("n1"))
        await rig.run()
        last = rig.change(rig.pods()[0], lambda p: setattr(p.spec, "nodeName", "n1"))
        await rig.admin.write([operations.delete(RC_KEY, propagation="Foreground")])
        await rig.run(1)
        assert names(rig.pods()) == [last.metadata.name], "it has its grace period"
        assert rig.rc().metadata.HasField("deletionTimestamp")
        rig.cluster.remove(rig.pods()[0])
        await rig.run(1)
        assert rig.pods() == []
        assert rig.cluster.find(core.ReplicationController, "web") is None


async def test_foreground_goes_on_after_a_restart() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=3))
        await rig.run()
        await rig.stop()
        await rig.admin.write([operations.delete(RC_KEY, propagation="Foreground")])
        await rig.start()
        await rig.run(0.01)
        await rig.restart()
        await rig.run(1)
        assert rig.pods() == []
        assert rig.cluster.find(core.ReplicationController, "web") is None


async def test_foreground_waits_for_what_the_cache_has_not_seen_yet() -> None:
    async with running() as rig:
        rig.client.shut(core.Pod)
        await rig.create(controller(replicas=2))
        await rig.run(0.05)
        await rig.admin.write([operations.delete(RC_KEY, propagation="Foreground")])
        await rig.run(0.05)
        assert rig.cluster.find(core.ReplicationController, "web") is not None
        rig.client.open()
        await rig.run(0.02)
        assert rig.pods() == []
        await rig.run(1)
        assert rig.cluster.find(core.ReplicationController, "web") is None


async def test_what_has_another_owner_stays_and_holds_nobody() -> None:
    async with running() as rig:
        await rig.create(controller("a", replicas=0), controller("b", replicas=0))
        shared = pod("shared", owner=rig.rc("a"), labels={"app": "x"})
        shared.metadata.ownerReferences.append(owner_reference(rig.rc("b"), controller=False))
        rig.cluster.put(shared)
        await rig.run()
        await rig.admin.write(
            [operations.delete(Key("ReplicationController", "default", "a"), propagation="Foreground")]
        )
        await rig.run(1)
        assert rig.cluster.find(core.ReplicationController, "a") is None
        assert names(rig.active()) == ["shared"]


async def test_owners_that_went_while_nobody_looked() -> None:
    async with running() as rig:
        await rig.create(controller(replicas=2))
        await rig.run()
        await rig.stop()
        rig.cluster.remove(rig.rc())
        await rig.create(controller(replicas=1))
        await rig.start()
        await rig.run()
        assert len(rig.pods()) == 1, "those of the old one went, though the new one has its name"


async def test_the_master_is_asked_before_anything_goes() -> None:
    async with running() as rig:
        rig.client.shut(core.ReplicationController)
        await rig.create(controller(replicas=0))
        rig.cluster.put(pod("a", owner=rig.rc()))
        await rig.run(1)
        assert names(rig.active()) == ["a"], "the cache does not know its owner, but the master does"


async def test_pods_of_a_vanished_node_go_after_the_quarantine() -> None:
    async with running() as rig:
        gone = rig.cluster.put(node("n1"))
        rig.cluster.put(pod("a", node="n1", labels={"app": "x"}))
        await rig.run()
        rig.cluster.remove(gone)
        await rig.run(1.9)
        assert names(rig.pods()) == ["a"]
        await rig.run(0.5)
        assert rig.pods() == []


async def test_nodes_that_vanish_one_after_the_other_wait_for_no_sweep() -> None:
    async with running() as rig:
        gone = [rig.cluster.put(node(f"n{number}")) for number in range(4)]
        for number in range(4):
            rig.cluster.put(pod(f"p{number}", node=f"n{number}", labels={"app": "x"}))
        await rig.run()
        for one in gone:
            rig.cluster.remove(one)
            await rig.run(0.7)
        await rig.run(1.5)
        assert rig.pods() == []


async def test_a_node_that_registers_again_keeps_its_pods() -> None:
    async with running() as rig:
        gone = rig.cluster.put(node("n1"))
        rig.cluster.put(pod("a", node="n1", labels={"app": "x"}))
        await rig.run()
        rig.cluster.remove(gone)
        await rig.run(1.5)
        rig.cluster.put(node("n1"))
        await rig.run(60)
        assert names(rig.pods()) == ["a"]


async def test_terminating_pods_that_nobody_runs_go_in_a_sweep() -> None:
    async with running() as rig:
        rig.cluster.put(pod("a", terminating=True, labels={"app": "x"}))
        await rig.run(25)
        assert rig.pods() == []


async def test_old_events_expire() -> None:
    async with running() as rig:
        now = rig.clock.wall()
        for name, age_s in (("old", 4000), ("new", 10)):
            rig.cluster.put(
                core.Event(metadata=core.ObjectMeta(name=name, namespace="default"), lastTimestamp=to_time(now - age_s))
            )
        await rig.run(40)
        assert [e.metadata.name for e in rig.cluster.objects(core.Event)] == ["new"]
        await rig.run(3700)
        assert rig.cluster.objects(core.Event) == []


async def test_a_terminating_namespace_is_emptied_and_goes() -> None:
    async with running() as rig:
        rig.cluster.put(
            core.Namespace(metadata=core.ObjectMeta(name="shop"), status=core.NamespaceStatus(phase="Active"))
        )
        rc = controller(replicas=3)
        rc.metadata.namespace = "shop"
        service = core.Service(metadata=core.ObjectMeta(name="s", namespace="shop"))
        service.spec.ports.add(port=80)
        service.spec.selector["app"] = "web"
        await rig.create(rc, service)
        await rig.run(0.2)
        running_pod = rig.change(rig.pods()[0], lambda p: setattr(p.spec, "nodeName", "n1"))
        rig.cluster.put(node("n1"))
        found = rig.cluster.find(core.Namespace, "shop", "")
        assert found is not None
        going = core.Namespace()
        going.CopyFrom(found)
        going.metadata.deletionTimestamp.CopyFrom(to_time(1))
        rig.cluster.put(going)
        await rig.run(1)
        assert names(rig.pods()) == [running_pod.metadata.name], "it is given time to end"
        assert rig.cluster.find(core.Namespace, "shop", "") is not None
        rig.cluster.remove(rig.pods()[0])
        await rig.run(1)
        left = [obj for obj in rig.cluster.store.objects.values() if obj.metadata.namespace == "shop"]
        assert left == []
        assert rig.cluster.find(core.Namespace, "shop", "") is None
