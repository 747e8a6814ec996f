"""Addresses, blocks and taints: what the master adds, and takes back."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.api import hollow
from cluster.api.errors import Invalid
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.config.errors import ConfigError
from cluster.master.pools import Pool
from cluster.master.settings import MasterSettings
from cluster.pb.v1 import core_pb2 as core
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, running, service, settings

SVC = Key("Service", "default", "svc")
N1 = Key("Node", "", "n1")


@given(st.lists(st.one_of(st.none(), st.integers(10, 17)), max_size=60))
def test_a_pool_gives_out_each_number_once(steps: list[int | None]) -> None:
    pool, taken = Pool(10, 8), set[int]()
    for step in steps:
        if step is None:
            number = pool.take_next()
            assert (number is None) == (len(taken) == 8)
            if number is not None:
                assert number not in taken
                taken.add(number)
        elif step in taken:
            pool.give_back(step)
            taken.discard(step)
        else:
            pool.take(step)
            taken.add(step)
        assert pool.free == 8 - len(taken)


def test_a_number_just_given_back_is_not_the_next() -> None:
    pool = Pool(0, 3)
    assert pool.take_next() == 0
    pool.give_back(0)
    assert [pool.take_next() for _ in range(4)] == [1, 2, 0, None]


async def _ip(rig: Rig, name: str, ip: str = "") -> str:
    made = await rig.create(service(name, ip))
    assert isinstance(made, core.Service)
    return made.spec.clusterIP


async def test_services_get_addresses_after_the_daemons(rig: Rig) -> None:
    assert [await _ip(rig, name) for name in "abc"] == ["127.1.1.0", "127.1.1.1", "127.1.1.2"]
    assert await _ip(rig, "chosen", "127.1.1.3") == "127.1.1.3"
    assert await _ip(rig, "next") == "127.1.1.4"
    assert await _ip(rig, "headless", "None") == "None"


@pytest.mark.parametrize("ip", ["127.1.0.1", "127.1.16.0", "10.0.0.1", "localhost"])
async def test_a_service_cannot_have_any_address(rig: Rig, ip: str) -> None:
    with pytest.raises(Invalid) as caught:
        await rig.create(service(ip=ip))
    assert caught.value.causes[0].path == "spec.clusterIP"


async def test_an_address_is_taken_once_and_free_after_delete(rig: Rig) -> None:
    await _ip(rig, "svc", "127.1.1.9")
    with pytest.raises(Invalid, match="already allocated"):
        await _ip(rig, "other", "127.1.1.9")
    await rig.write(ops.delete(SVC))
    assert await _ip(rig, "other", "127.1.1.9") == "127.1.1.9"


async def test_a_create_that_fails_takes_no_address(rig: Rig) -> None:
    bad = service()
    bad.spec.ports[0].port = 99999
    with pytest.raises(Invalid):
        await rig.create(bad)
    assert await _ip(rig, "a") == "127.1.1.1", "given back, and not at once given to another"
    assert rig.master._admission.services.addresses.pool.free == 15 * 256 - 1


async def test_an_update_keeps_the_address(rig: Rig) -> None:
    made = await rig.create(service())
    assert isinstance(made, core.Service)
    made.spec.clusterIP = ""
    made.metadata.labels["a"] = "b"
    after = await rig.write(ops.update(made))
    assert isinstance(after, core.Service)
    assert after.spec.clusterIP == "127.1.1.0"
    after.spec.clusterIP = "127.1.1.5"
    with pytest.raises(Invalid):
        await rig.write(ops.update(after))


async def test_when_there_are_no_more_addresses() -> None:
    async with running(service_cidr="127.1.0.0/23") as rig:
        await rig.try_write(*[ops.create(service(f"s{n}")) for n in range(256)])
        with pytest.raises(Invalid, match="all 256 addresses for services are taken"):
            await rig.create(service("more"))


async def test_what_is_taken_is_known_after_a_restart() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        assert await _ip(rig, "svc") == "127.1.1.0"
        assert (await rig.node("n1")).spec.podCIDR == "127.1.16.0/25"
        revision = rig.revision
    async with running(journal) as rig:
        assert rig.revision == revision, "the default namespace is made once"
        assert await _ip(rig, "other") == "127.1.1.1"
        assert (await rig.node("n2")).spec.podCIDR == "127.1.16.128/25"


async def test_nodes_get_blocks_and_give_them_back(rig: Rig) -> None:
    assert [(await rig.node(f"n{n}")).spec.podCIDR for n in range(3)] == [
        "127.1.16.0/25",
        "127.1.16.128/25",
        "127.1.17.0/25",
    ]
    await rig.write(ops.delete(N1))
    assert not rig.master._admission.pods.pool.is_taken(rig.master._admission.pods.number("127.1.16.128/25") or 0)
    with pytest.raises(Invalid, match="already allocated"):
        await rig.create(core.Node(metadata=core.ObjectMeta(name="x"), spec=core.NodeSpec(podCIDR="127.1.17.0/25")))


async def test_when_there_are_no_more_blocks_a_node_has_none() -> None:
    async with running(pod_cidr_base="127.1.255.0") as rig:
        assert [(await rig.node(f"n{n}")).spec.podCIDR for n in range(3)] == ["127.1.255.0/25", "127.1.255.128/25", ""]


async def test_a_new_node_is_tainted_until_it_is_ready(rig: Rig) -> None:
    made = await rig.node()
    assert [(t.key, t.effect) for t in made.spec.taints] == [("node.kubernetes.io/not-ready", "NoSchedule")]


async def test_the_taint_follows_unschedulable(rig: Rig) -> None:
    await rig.node()

    async def cordon(value: bool) -> list[str]:
        after = await rig.write(ops.patch(N1, {"spec": {"unschedulable": value}}))
        assert isinstance(after, core.Node)
        return [taint.key for taint in after.spec.taints]

    assert await cordon(True) == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unschedulable"]
    assert await cordon(False) == ["node.kubernetes.io/not-ready"]


@pytest.mark.parametrize(
    "changes",
    [
        {"service_cidr": "127.1.0.0/24"},
        {"service_cidr": "127.1.0.1/20"},
        {"service_cidr": "x"},
        {"pod_cidr_base": "127.1.16.5"},
        {"pod_cidr_base": "x"},
        {"profile": "lazy"},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        settings(**changes)


def test_the_profile_gives_the_timers() -> None:
    kubernetes = MasterSettings("h:1", Path("d"), Path("c"), profile="kubernetes")
    assert kubernetes.timers.eviction_toleration_s == 300
    assert kubernetes.store.bookmark_interval_s == kubernetes.timers.bookmark_interval_s


async def test_hollow_nodes_take_no_addresses_from_the_others() -> None:
    async with running(pod_cidr_base="127.1.255.0") as rig:
        for number in range(1, 4):
            made = await rig.create(
                core.Node(metadata=core.ObjectMeta(name=f"h-{number}", labels=hollow.labels_of("h"))), "hollow:h"
            )
            assert isinstance(made, core.Node)
            assert made.spec.podCIDR == f"240.0.{(number - 1) // 2}.{(number - 1) % 2 * 128}/25"
        assert [(await rig.node(name)).spec.podCIDR for name in "ab"] == ["127.1.255.0/25", "127.1.255.128/25"]
        rig.master._take_over()
        assert (await rig.node("c")).spec.podCIDR == ""
        again = await rig.create(core.Node(metadata=core.ObjectMeta(name="h-4", labels=hollow.labels_of("h"))))
        assert isinstance(again, core.Node)
        assert again.spec.podCIDR == "240.0.1.128/25"
        await rig.write(ops.delete(Key("Node", "", "h-2")))
        assert rig.master._admission.hollow.pool.free == rig.master._admission.hollow.pool.size - 3
