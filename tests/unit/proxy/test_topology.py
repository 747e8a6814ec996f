"""Where an address is, and which endpoints are near it."""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core
from proxy.balancer import Balancer, Target, Terms
from proxy.topology import Topology

A, B, C = (Target(f"127.9.{n}.1", 8080) for n in (16, 17, 18))
NODES = {A: "node-1", B: "node-2", C: "node-3"}


def node(number: int, zone: str = "") -> core.Node:
    return core.Node(
        metadata=core.ObjectMeta(name=f"node-{number}", labels={"topology.kubernetes.io/zone": zone} if zone else {}),
        spec=core.NodeSpec(podCIDR=f"127.9.{15 + number}.0/24"),
        status=core.NodeStatus(
            addresses=[
                core.NodeAddress(type="InternalIP", address=f"127.9.0.{10 + number}"),
                core.NodeAddress(type="Hostname", address="here"),
            ]
        ),
    )


def topology(*zones: str) -> Topology:
    made = Topology()
    for number, zone in enumerate(zones, 1):
        made.set_node(f"node-{number}", node(number, zone))
    return made


def test_an_address_tells_its_node() -> None:
    where = topology("a", "a", "b")
    assert where.node_of("127.9.16.200") == "node-1"
    assert where.node_of("127.9.18.0") == "node-3"
    assert where.node_of("127.9.0.12") == "node-2", "the node itself"
    assert where.node_of("127.9.19.1") == where.node_of("127.0.0.1") == where.node_of("10.0.0.1") == ""
    assert (where.zone_of("node-2"), where.zone_of("node-3"), where.zone_of("node-9")) == ("a", "b", "")


def test_changes_that_matter() -> None:
    where = topology("a")
    assert not where.set_node("node-1", node(1, "a"))
    assert where.set_node("node-1", node(1, "b"))
    assert where.zone_of("node-1") == "b"
    assert where.set_node("node-1", None)
    assert not where.set_node("node-1", None)
    assert where.node_of("127.9.16.1") == where.node_of("127.9.0.11") == ""
    shared = node(2)
    shared.status.addresses[0].address = "127.0.0.1"
    where.set_node("node-2", shared)
    assert where.node_of("127.0.0.1") == "", "whoever binds nothing comes from there"


def balancer(prefer: str, where: Topology, *targets: Target, policy: str = "RoundRobin") -> Balancer:
    return Balancer(targets, terms=Terms(policy=policy, prefer=prefer, nodes=NODES), topology=where)


def picks(it: Balancer, client: str, count: int = 4) -> list[Target | None]:
    return [it.choose(client, 0.0) for _ in range(count)]


def test_the_same_node_then_the_same_zone_then_anywhere() -> None:
    where = topology("a", "a", "b")
    it = balancer("PreferSameNode", where, A, B, C)
    assert picks(it, "127.9.16.5") == [A, A, A, A]
    assert picks(it, "127.0.0.1", 3) == [A, B, C], "nobody knows where that is"
    it.replace([B, C], None, 10, terms=it.terms)
    assert picks(it, "127.9.16.5") == [B, B, B, B]
    it.replace([C], None, 10, terms=it.terms)
    assert picks(it, "127.9.16.5", 1) == [C]


def test_the_same_zone() -> None:
    where = topology("a", "a", "b")
    for prefer in ("PreferSameZone", "PreferClose"):
        it = balancer(prefer, where, A, B, C)
        assert picks(it, "127.9.16.5") == [A, B, A, B]
        assert picks(it, "127.9.18.5") == [C, C, C, C]


def test_near_ones_that_are_unfit_or_refused_are_passed_over() -> None:
    it = balancer("PreferSameNode", topology("a", "a", "b"), A, B, C)
    it.unhealthy = frozenset({A})
    assert picks(it, "127.9.16.5", 2) == [B, B]
    assert it.choose("127.9.16.5", 0.0, {B}) == C
    assert it.choose("127.9.16.5", 0.0, {B, C}) == A, "better than nobody"


def test_a_node_that_moves_to_another_zone() -> None:
    where = topology("a", "b", "b")
    it = balancer("PreferSameZone", where, A, B, C)
    assert picks(it, "127.9.16.5", 2) == [A, A]
    where.set_node("node-1", node(1, "b"))
    assert set(picks(it, "127.9.16.5", 3)) == {A, B, C}


def test_any_policy_may_be_near() -> None:
    loads = {A: 5, B: 1, C: 0}
    it = Balancer(
        [A, B, C],
        terms=Terms(policy="LeastConnections", prefer="PreferSameZone", nodes=NODES),
        load=loads.__getitem__,
        topology=topology("a", "a", "b"),
    )
    assert picks(it, "127.9.16.5", 2) == [B, B]
    assert picks(it, "127.0.0.1", 2) == [C, C]
