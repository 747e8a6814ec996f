"""The endpoints controller as a whole."""

from __future__ import annotations

from cluster.api.meta import key_of
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import pod
from tests.unit.controllers.rig import Rig, running


def service(name: str = "web", selector: dict[str, str] | None = None) -> core.Service:
    return core.Service(
        metadata=core.ObjectMeta(name=name, namespace="default"),
        spec=core.ServiceSpec(
            ports=[core.ServicePort(port=80, targetPort=core.IntOrString(type=0, intVal=8080))],
            selector={"app": "web"} if selector is None else selector,
        ),
    )


def addresses(rig: Rig, name: str = "web") -> tuple[list[str], list[str]]:
    found = rig.cluster.find(core.Endpoints, name)
    assert found is not None
    return (
        [address.ip for subset in found.subsets for address in subset.addresses],
        [address.ip for subset in found.subsets for address in subset.notReadyAddresses],
    )


def leaving(rig: Rig, name: str = "web") -> list[str]:
    found = rig.cluster.find(core.Endpoints, name)
    assert found is not None
    return [address.ip for subset in found.subsets for address in subset.terminatingAddresses]


async def test_readiness_is_followed_within_milliseconds() -> None:
    async with running() as rig:
        await rig.create(service())
        await rig.run(0.01)
        assert addresses(rig) == ([], [])
        one = rig.cluster.put(pod("a", ip="10.0.0.1"))
        await rig.run(0.01)
        assert addresses(rig) == ([], ["10.0.0.1"])
        one = rig.change(one, lambda p: p.status.conditions.add(type="Ready", status="True"))
        await rig.run(0.01)
        assert addresses(rig) == (["10.0.0.1"], [])
        one = rig.change(one, lambda p: p.metadata.deletionTimestamp.CopyFrom(core.Time(seconds=1)))
        await rig.run(0.01)
        assert addresses(rig) == ([], [])
        assert leaving(rig) == ["10.0.0.1"]
        rig.change(one, lambda p: p.status.conditions[0].MergeFrom(core.PodCondition(status="False")))
        await rig.run(0.01)
        assert leaving(rig) == []


async def test_many_changes_share_a_write_and_reports_that_do_not_matter_make_none() -> None:
    async with running() as rig:
        await rig.create(service())
        await rig.run(0.05)
        before = len(rig.cluster.writes)
        pods = [rig.cluster.put(pod(f"p{i}", ip=f"10.0.0.{i}", ready_since_s=1)) for i in range(1, 40)]
        await rig.run(0.05)
        assert len(addresses(rig)[0]) == 39
        assert len(rig.cluster.writes) - before == 1
        for one in pods:
            rig.change(one, lambda p: p.status.containerStatuses.add(name="main", restartCount=1))
        await rig.run(0.05)
        assert len(rig.cluster.writes) - before == 1


async def test_labels_decide_and_a_relabelled_pod_leaves() -> None:
    async with running() as rig:
        await rig.create(service(), service("db", {"app": "db"}))
        one = rig.cluster.put(pod("a", ip="10.0.0.1", ready_since_s=1))
        await rig.run()
        assert (addresses(rig), addresses(rig, "db")) == ((["10.0.0.1"], []), ([], []))
        rig.change(one, lambda p: p.metadata.labels.update({"app": "db"}))
        await rig.run()
        assert (addresses(rig), addresses(rig, "db")) == (([], []), (["10.0.0.1"], []))


async def test_endpoints_go_with_their_service_and_others_are_left_alone() -> None:
    async with running() as rig:
        foreign = rig.cluster.put(core.Endpoints(metadata=core.ObjectMeta(name="foreign", namespace="default")))
        plain = service("plain", {})
        await rig.create(service(), plain)
        by_hand = rig.cluster.put(core.Endpoints(metadata=core.ObjectMeta(name="plain", namespace="default")))
        await rig.run()
        await rig.admin.write([operations.delete(key_of(service())), operations.delete(key_of(plain))])
        await rig.run()
        assert rig.cluster.objects(core.Endpoints) == [foreign, by_hand]


async def test_manual_endpoints_are_left_alone_and_go_on_from_ours() -> None:
    async with running() as rig:
        made = service()
        await rig.create(made)
        rig.cluster.put(pod("a", ip="10.0.0.1", ready_since_s=1))
        await rig.run()
        stored = rig.cluster.find(core.Service, "web")
        assert stored is not None
        rig.change(stored, lambda s: s.spec.selector.clear())
        await rig.run()
        assert addresses(rig) == (["10.0.0.1"], []), "as they were"
        found = rig.cluster.find(core.Endpoints, "web")
        assert found is not None
        rig.change(found, lambda e: e.subsets[0].addresses.add(ip="10.9.9.9"))
        await rig.run()
        assert addresses(rig) == (["10.0.0.1", "10.9.9.9"], []), "somebody else's word now"


async def test_a_service_that_stands_for_something_outside_has_no_endpoints() -> None:
    async with running() as rig:
        await rig.create(service())
        rig.cluster.put(pod("a", ip="10.0.0.1", ready_since_s=1))
        await rig.run()
        stored = rig.cluster.find(core.Service, "web")
        assert stored is not None

        def outside(service: core.Service) -> None:
            service.spec.type, service.spec.externalName = "ExternalName", "db.example"

        rig.change(stored, outside)
        await rig.run()
        assert rig.cluster.objects(core.Endpoints) == []


async def test_leftovers_of_a_service_that_went_while_nobody_looked() -> None:
    async with running() as rig:
        await rig.create(service())
        await rig.run()
        await rig.stop()
        rig.cluster.remove(service())
        await rig.start()
        await rig.run()
        assert rig.cluster.objects(core.Endpoints) == []


async def test_what_somebody_changed_is_put_right() -> None:
    async with running() as rig:
        await rig.create(service())
        rig.cluster.put(pod("a", ip="10.0.0.1", ready_since_s=1))
        await rig.run()
        found = rig.cluster.find(core.Endpoints, "web")
        assert found is not None
        spoilt = core.Endpoints()
        spoilt.CopyFrom(found)
        spoilt.subsets[0].addresses[0].ip = "10.9.9.9"
        rig.cluster.put(spoilt)
        await rig.run()
        assert addresses(rig) == (["10.0.0.1"], [])
        rig.cluster.remove(spoilt)
        await rig.run()
        assert addresses(rig) == (["10.0.0.1"], [])


async def test_stale_caches_and_lost_answers_end_well() -> None:
    async with running() as rig:
        await rig.create(service())
        await rig.run()
        rig.client.shut(core.Endpoints)
        one = rig.cluster.put(pod("a", ip="10.0.0.1"))
        await rig.run()
        rig.change(one, lambda p: p.status.conditions.add(type="Ready", status="True"))
        await rig.run()
        rig.client.open()
        await rig.run(1)
        assert addresses(rig) == (["10.0.0.1"], [])
