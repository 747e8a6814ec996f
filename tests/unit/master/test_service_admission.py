"""Node ports, and what becomes of a service's address and ports when its type changes."""

from __future__ import annotations

from ipaddress import IPv4Network

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.api.errors import Invalid
from cluster.api.meta import Key
from cluster.api.services import NODE_PORTS, node_ports
from cluster.client import operations as ops
from cluster.master.pools import NodePorts, Pool, ServiceAddresses
from cluster.master.service_admission import ServiceAdmission
from cluster.master.stage import Stage
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.store.memory import MemoryJournal
from cluster.store.mvcc import State
from tests.unit.master.rig import Rig, running, service

SVC = Key("Service", "default", "svc")
FIRST = 30000 + NodePorts.CHOSEN + 10
"""What a cluster of block 1 gives out first."""


def node_port(name: str = "svc", *ports: core.ServicePort) -> core.Service:
    made = service(name)
    made.spec.type = "NodePort"
    if ports:
        del made.spec.ports[:]
        made.spec.ports.extend(ports)
    return made


def port(name: str, number: int, node_port: int = 0, protocol: str = "TCP") -> core.ServicePort:
    return core.ServicePort(name=name, port=number, protocol=protocol, nodePort=node_port or None)


async def made(rig: Rig, service: core.Service) -> core.Service:
    created = await rig.create(service)
    assert isinstance(created, core.Service)
    return created


async def changed(rig: Rig, service: core.Service, **spec: object) -> core.Service:
    service.spec.MergeFrom(core.ServiceSpec(**spec))  # type: ignore[arg-type]
    after = await rig.write(ops.update(service))
    assert isinstance(after, core.Service)
    return after


def pool(rig: Rig) -> Pool:
    return rig.master._admission.services.ports.pool


def taken(rig: Rig) -> list[int]:
    return [number for number in NODE_PORTS if pool(rig).is_taken(number)]


async def test_a_node_port_is_given_to_each_port_and_the_address_as_well(rig: Rig) -> None:
    one = await made(rig, node_port("a", port("web", 80), port("admin", 81)))
    assert [each.nodePort for each in one.spec.ports] == [FIRST, FIRST + 1]
    assert one.spec.clusterIP == "127.1.1.0"
    assert node_ports((await made(rig, node_port("b"))).spec) == [FIRST + 2]


async def test_one_that_is_chosen_is_taken_once_and_free_after_delete(rig: Rig) -> None:
    await made(rig, node_port("svc", port("web", 80, 30080)))
    with pytest.raises(Invalid) as caught:
        await made(rig, node_port("other", port("web", 80, 30080)))
    (why,) = caught.value.causes
    assert why.path == "spec.ports[0].nodePort"
    assert why.message.endswith("30080: provided port is already allocated, to service default/svc")
    await rig.write(ops.delete(SVC))
    assert taken(rig) == []
    await made(rig, node_port("other", port("web", 80, 30080)))


async def test_a_write_that_fails_takes_none(rig: Rig) -> None:
    bad = node_port("bad", port("web", 80), port("Bad", 81))
    with pytest.raises(Invalid):
        await made(rig, bad)
    assert taken(rig) == []
    await rig.try_write(ops.create(node_port("dry")), dry_run=True)
    assert taken(rig) == []


@pytest.mark.parametrize("number", [80, 29999, 32768])
async def test_one_outside_of_the_range_is_refused(rig: Rig, number: int) -> None:
    with pytest.raises(Invalid, match="30000-32767"):
        await made(rig, node_port("svc", port("web", 80, number)))


async def test_two_protocols_of_one_number_share_one(rig: Rig) -> None:
    dns = await made(rig, node_port("dns", port("udp", 53, protocol="UDP"), port("tcp", 53)))
    assert [each.nodePort for each in dns.spec.ports] == [FIRST, FIRST]
    both = await made(rig, node_port("svc", port("udp", 53, 30053, "UDP"), port("tcp", 53, 30053)))
    assert node_ports(both.spec) == [30053]
    with pytest.raises(Invalid, match="already allocated"):
        await made(rig, node_port("other", port("tcp", 99, 30053)))
    await rig.write(ops.delete(SVC))
    assert taken(rig) == [FIRST]


async def test_an_update_keeps_what_it_does_not_name(rig: Rig) -> None:
    await made(rig, node_port("svc", port("web", 80), port("admin", 81)))
    wanted = node_port("svc", port("admin", 82), port("new", 83), port("web", 80))
    after = await rig.write(ops.update(wanted))
    assert isinstance(after, core.Service)
    assert [each.nodePort for each in after.spec.ports] == [FIRST + 1, FIRST + 2, FIRST]
    assert after.spec.clusterIP == "127.1.1.0"
    wanted = node_port("svc", port("web", 80, 30080))
    after = await rig.write(ops.update(wanted))
    assert isinstance(after, core.Service)
    assert taken(rig) == node_ports(after.spec) == [30080], "what it has no more is free again"


async def test_an_update_that_fails_changes_nothing(rig: Rig) -> None:
    await made(rig, node_port("other", port("web", 80, 30090)))
    await made(rig, node_port("svc", port("web", 80, 30080)))
    with pytest.raises(Invalid, match="already allocated"):
        await rig.write(ops.update(node_port("svc", port("web", 80, 30090))))
    with pytest.raises(Invalid, match="RFC 1123"):
        await rig.write(ops.update(node_port("svc", port("Web", 80, 30081))))
    assert taken(rig) == [30080, 30090]


async def test_a_service_changes_its_type(rig: Rig) -> None:
    addresses = rig.master._admission.services.addresses
    svc = await made(rig, service())
    svc = await changed(rig, svc, type="NodePort")
    assert (svc.spec.clusterIP, node_ports(svc.spec)) == ("127.1.1.0", [FIRST])
    svc = await changed(rig, svc, type="ClusterIP")
    assert (svc.spec.clusterIP, node_ports(svc.spec), taken(rig)) == ("127.1.1.0", [], [])
    svc = await changed(rig, svc, type="ExternalName", externalName="db.example")
    assert svc.spec.clusterIP == ""
    assert not addresses.pool.is_taken(addresses.pool.first)
    svc = await changed(rig, svc, type="NodePort")
    assert (svc.spec.externalName, svc.spec.clusterIP) == ("", "127.1.1.1")
    assert node_ports(svc.spec) == [FIRST + 1]
    svc = await changed(rig, svc, type="ExternalName", externalName="db.example")
    assert taken(rig) == []
    await rig.write(ops.delete(SVC))
    assert addresses.pool.free == addresses.pool.size


async def test_a_type_without_node_ports_that_names_some_is_refused(rig: Rig) -> None:
    svc = await made(rig, node_port())
    svc.spec.type = "ClusterIP"
    svc.spec.ports[0].nodePort = 30080
    with pytest.raises(Invalid, match="may not be used when `type` is 'ClusterIP'"):
        await rig.write(ops.update(svc))
    assert taken(rig) == [FIRST]


async def test_a_headless_service_gets_no_address_and_stays_headless(rig: Rig) -> None:
    svc = await made(rig, service(ip="None"))
    svc.spec.clusterIP = ""
    after = await rig.write(ops.update(svc))
    assert isinstance(after, core.Service)
    assert after.spec.clusterIP == "None"
    after.spec.type = "NodePort"
    with pytest.raises(Invalid, match="may not be set to 'None' for NodePort"):
        await rig.write(ops.update(after))
    assert taken(rig) == []


async def test_what_is_taken_is_known_after_a_restart() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        await made(rig, node_port("svc", port("web", 80, 30080)))
        await made(rig, node_port("other"))
    async with running(journal) as rig:
        assert taken(rig) == [30080, FIRST]
        assert node_ports((await made(rig, node_port("new"))).spec) == [FIRST + 1]
        with pytest.raises(Invalid, match="already allocated"):
            await made(rig, node_port("late", port("web", 80, 30080)))


async def test_an_undo_of_a_deletion_takes_the_port_again_if_it_is_free(rig: Rig) -> None:
    undo = wire.UndoRequest(kind="Service", namespace="default", name="svc")
    await made(rig, node_port("svc", port("web", 80, 30080)))
    await rig.write(ops.delete(SVC))
    await rig.master.api.undo(Identity("admin"), undo)
    assert taken(rig) == [30080]
    await rig.write(ops.delete(SVC))
    await made(rig, node_port("other", port("web", 80, 30080)))
    with pytest.raises(Invalid, match="already allocated, to service default/other"):
        await rig.master.api.undo(Identity("admin"), undo)
    assert taken(rig) == [30080]


def test_clusters_side_by_side_begin_apart_and_reach_every_port() -> None:
    begins = [NodePorts(block).pool.take_next() for block in range(1, 255)]
    assert len(set(begins)) == len(begins)
    ports = NodePorts(200).pool
    given = [ports.take_next() for _ in NODE_PORTS]
    assert sorted(filter(None, given)) == list(NODE_PORTS)
    assert ports.take_next() is None


_PORTS = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from([80, 53]), st.sampled_from([0, 30001, 30002]), st.sampled_from("TU")
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda port: port[0],
)


@given(
    st.lists(st.tuples(st.sampled_from(["ClusterIP", "NodePort", "ExternalName"]), _PORTS, st.booleans()), max_size=8)
)
def test_what_is_taken_is_what_services_have_whatever_fails(
    steps: list[tuple[str, list[tuple[str, int, int, str]], bool]],
) -> None:
    """Two services, updated at random; each write may fail in the end, and then nothing was taken nor given back."""
    admission = ServiceAdmission(ServiceAddresses(IPv4Network("127.1.0.0/20")), NodePorts(1))
    specs: dict[int, core.ServiceSpec] = {}
    for number, (kind, ports, fails) in enumerate(steps):
        stage = Stage(State(), 0.0)
        stage.begin()
        new = core.ServiceSpec(type=kind)
        for name, target, node, protocol in ports:
            new.ports.append(port(name, target, node, {"T": "TCP", "U": "UDP"}[protocol]))
        which = number % 2
        try:
            if which in specs:
                admission.before_update(stage, new, specs[which])
            else:
                admission.before_create(stage, new)
        except Invalid:
            fails = True
        if fails or (kind != "NodePort" and node_ports(new)):  # which validation refuses
            stage.abort()
        else:
            stage.finish()
            specs[which] = new
        expected = {number for spec in specs.values() for number in node_ports(spec)}
        assert {number for number in NODE_PORTS if admission.ports.pool.is_taken(number)} == expected
        addresses = {spec.clusterIP for spec in specs.values() if spec.type != "ExternalName"}
        assert len(addresses) == admission.addresses.pool.size - admission.addresses.pool.free
        every = [number for spec in specs.values() for number in node_ports(spec)]
        assert len(every) == len(set(every)), "each number is one service's"
