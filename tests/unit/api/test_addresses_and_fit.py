"""Which address a pod gets, and whether the node takes it at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.fit import Claim, Held, admit
from cluster.api.pod_addresses import PodAddresses
from cluster.api.quantities import quantity
from cluster.pb.v1 import core_pb2 as core
from tests.unit.node_agent.kit import make_pod


def test_addresses_are_handed_out_in_turn_and_come_back_late() -> None:
    addresses = PodAddresses("127.7.16.0/29")
    assert [addresses.allocate(f"u{n}") for n in range(3)] == ["127.7.16.1", "127.7.16.2", "127.7.16.3"]
    assert addresses.allocate("u1") == "127.7.16.2"
    addresses.release("u0")
    assert addresses.allocate("u3") == "127.7.16.4"


def test_when_all_are_taken_there_is_none() -> None:
    addresses = PodAddresses("127.7.16.128/30")
    assert [addresses.allocate(uid) for uid in "abc"] == ["127.7.16.129", "127.7.16.130", ""]
    addresses.release("a")
    addresses.release("a")
    assert addresses.allocate("c") == "127.7.16.129"


@pytest.mark.parametrize(
    ("wish", "given_"), [("127.7.16.5", "127.7.16.5"), ("127.7.17.5", "127.7.16.1"), ("x", "127.7.16.1")]
)
def test_a_wish_is_met_if_it_can_be(wish: str, given_: str) -> None:
    assert PodAddresses("127.7.16.0/25").allocate("u", wish) == given_


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_address_is_given_twice(steps: list[tuple[bool, int]]) -> None:
    addresses = PodAddresses("10.0.0.0/29")
    held: dict[str, str] = {}
    for takes, number in steps:
        uid = f"u{number}"
        if takes:
            address = addresses.allocate(uid)
            assert address or len(held) == 6
            if address:
                held[uid] = address
        else:
            addresses.release(uid)
            held.pop(uid, None)
        assert len(set(held.values())) == len(held) == len(addresses)


ROOM = {"cpu": 1000, "memory": 1 << 30, "pods": 3, "gpu": 1}


def asking(**requests: str) -> core.Pod:
    pod = make_pod()
    for name, value in requests.items():
        pod.spec.containers[0].resources.requests[name].CopyFrom(quantity(value))
    return pod


@pytest.mark.parametrize(
    ("pod", "others", "reason"),
    [
        (asking(cpu="500m"), [asking(cpu="500m")], None),
        (asking(cpu="501m"), [asking(cpu="500m")], "OutOfcpu"),
        (asking(memory="2Gi"), [], "OutOfmemory"),
        (asking(gpu="1"), [asking(gpu="1")], "OutOfgpu"),
        (asking(fpga="1"), [], "OutOffpga"),
        (asking(), [asking(), asking()], None),
        (asking(), [asking(), asking(), asking()], "OutOfpods"),
    ],
)
def test_resources(pod: core.Pod, others: list[core.Pod], reason: str | None) -> None:
    rejection = admit(Claim.of(pod), Held(map(Claim.of, others)), ROOM, "node-1", {})
    assert (rejection.reason if rejection else None) == reason


def test_words() -> None:
    rejection = admit(Claim.of(asking(cpu="600m")), Held([Claim.of(asking(cpu="500m"))]), ROOM, "node-1", {})
    assert rejection is not None
    assert rejection.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"
    )


def test_node_selector_and_host_ports() -> None:
    pod = make_pod()
    pod.spec.nodeSelector["disk"] = "ssd"
    assert admit(Claim.of(pod), Held(), ROOM, "node-1", {"disk": "ssd"}) is None
    rejection = admit(Claim.of(pod), Held(), ROOM, "node-1", {"disk": "hdd"})
    assert rejection is not None
    assert rejection.reason == "NodeAffinity"
    affine = make_pod(node="node-1")
    required = affine.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    term = required.nodeSelectorTerms.add()
    term.matchExpressions.add(key="disk", operator="In", values=["ssd"])
    term.matchFields.add(key="metadata.name", operator="In", values=["node-1"])
    assert admit(Claim.of(affine), Held(), ROOM, "node-1", {"disk": "ssd"}) is None
    rejection = admit(Claim.of(affine), Held(), ROOM, "node-1", {"disk": "hdd"})
    assert rejection is not None
    assert rejection.reason == "NodeAffinity"
    one, two = make_pod(), make_pod()
    one.spec.containers[0].ports.add(containerPort=80, hostPort=80)
    two.spec.containers[0].ports.add(containerPort=80, hostPort=80, hostIP="127.0.0.1")
    rejection = admit(Claim.of(two), Held([Claim.of(one)]), ROOM, "node-1", {})
    assert rejection is not None
    assert rejection.reason == "NodePorts"


def test_what_was_held_can_be_had_again() -> None:
    web, worker = asking(cpu="700m", gpu="1"), asking(cpu="200m")
    web.spec.containers[0].ports.add(containerPort=80, hostPort=80)
    claim = Claim.of(web)
    held = Held([claim, Claim.of(worker), claim])  # one was taken over
    assert (held.pods, held.used("cpu"), held.used("pods"), held.used("memory")) == (3, 1600, 3, 0)
    held.remove(claim)
    assert {port for _, _, port in held.ports} == {80}
    held.remove(claim)
    assert not list(held.ports)
    assert admit(claim, held, ROOM, "node-1", {}) is None
