"""From a service and its Endpoints to the set that its name stands for."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from cluster.api.resolved import NOT_READY, READY, TERMINATING, resolved, shard_of
from cluster.pb.v1 import core_pb2 as core


def service(**spec: object) -> core.Service:
    return core.Service(
        metadata=core.ObjectMeta(name="web", namespace="default"),
        spec=core.ServiceSpec(type="ClusterIP", clusterIP="127.7.1.1", **spec),  # type: ignore[arg-type]
    )


def subset(ports: dict[str, int], *ready: str, not_ready: str = "", leaving: str = "") -> core.EndpointSubset:
    return core.EndpointSubset(
        addresses=[core.EndpointAddress(ip=ip) for ip in ready],
        notReadyAddresses=[core.EndpointAddress(ip=not_ready)] if not_ready else [],
        terminatingAddresses=[core.EndpointAddress(ip=leaving)] if leaving else [],
        ports=[core.EndpointPort(name=name, port=number) for name, number in ports.items()],
    )


def test_an_address_in_several_subsets_is_one_place_with_all_its_ports() -> None:
    endpoints = core.Endpoints(
        subsets=[subset({"http": 80}, "127.0.0.10", "127.0.0.9"), subset({"db": 1}, "127.0.0.9")]
    )
    found = resolved(service(), endpoints).endpoints
    assert [(each.address, [port.name for port in each.ports]) for each in found] == [
        ("127.0.0.9", ["http", "db"]),
        ("127.0.0.10", ["http"]),
    ]


def test_an_address_is_told_once_for_each_state_it_has_ports_in() -> None:
    endpoints = core.Endpoints(subsets=[subset({"a": 1}, "127.0.0.1"), subset({"b": 2}, not_ready="127.0.0.1")])
    assert [each.state for each in resolved(service(), endpoints).endpoints] == [READY, NOT_READY]


def test_what_is_outside_has_nobody_behind_it() -> None:
    outside = service()
    outside.spec.CopyFrom(core.ServiceSpec(type="ExternalName", externalName="db.example"))
    found = resolved(outside, core.Endpoints(subsets=[subset({"a": 1}, "127.0.0.1")]))
    assert (found.external_name, list(found.endpoints), found.HasField("cluster_ip")) == ("db.example", [], False)
    assert list(resolved(service(), None).endpoints) == []


def test_the_label_wins_over_the_annotation() -> None:
    assert shard_of({"podium.dev/shard": "1"}, {"podium.dev/shard": "2"}) == "1"
    assert shard_of({"shard": "1"}, {"podium.dev/shard": "2"}) == "2"
    assert shard_of({}, {}) == ""


_SUBSETS = st.lists(
    st.builds(
        lambda port, ready, leaving: subset({"p": port}, *ready, leaving=leaving),
        st.integers(1, 3),
        st.lists(st.sampled_from(["127.0.0.1", "127.0.0.2", "127.0.0.30"]), max_size=3, unique=True),
        st.sampled_from(["", "127.0.0.4"]),
    ),
    max_size=4,
    unique_by=lambda subset: subset.ports[0].port,
)


@given(_SUBSETS, st.randoms())
def test_equal_facts_give_equal_sets(subsets: list[core.EndpointSubset], rng: object) -> None:
    """Whatever the order of addresses; and nobody is lost or made up."""
    found = resolved(service(), core.Endpoints(subsets=subsets))
    for each in subsets:
        addresses = list(each.addresses)
        rng.shuffle(addresses)  # type: ignore[attr-defined]
        del each.addresses[:]
        each.addresses.extend(addresses)
    assert resolved(service(), core.Endpoints(subsets=subsets)) == found
    places = {(READY, a.ip, p.port) for s in subsets for p in s.ports for a in s.addresses}
    places |= {(TERMINATING, a.ip, p.port) for s in subsets for p in s.ports for a in s.terminatingAddresses}
    assert {(each.state, each.address, port.port) for each in found.endpoints for port in each.ports} == places
    assert len({(each.state, each.address) for each in found.endpoints}) == len(found.endpoints)
