"""Names, times, owners, conditions, and small facts about pods."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api import names
from cluster.api.conditions import get_condition, is_node_ready, is_pod_ready, set_condition
from cluster.api.meta import from_time
from cluster.api.owners import controller_of, is_controlled_by, owner_reference
from cluster.api.pods import container_ports, find_port, host_ports, is_active, is_finished, qos_class, requests_of
from cluster.api.quantities import quantity
from cluster.api.times import MAX_S, MIN_S, format_time, format_time_exactly, parse_time
from cluster.pb.v1 import core_pb2 as core


@pytest.mark.parametrize("name", ["a", "web-1", "1a", "a" * 63])
def test_labels(name: str) -> None:
    assert names.dns1123_label_problems(name) == []
    assert names.dns1123_subdomain_problems(f"{name}.{name}") == []


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a\0", "a\n", "ä", "%2e", "a" * 64])
def test_what_is_no_label(name: str) -> None:
    assert names.dns1123_label_problems(name)


@given(st.text(max_size=20))
def test_a_good_name_is_safe_as_a_file_name(name: str) -> None:
    if not names.dns1123_subdomain_problems(name):
        assert "/" not in name
        assert "\0" not in name
        assert ".." not in name
        assert not name.startswith((".", "-"))


def test_service_port_and_variable_names() -> None:
    assert names.dns1035_label_problems("web-1") == []
    assert names.dns1035_label_problems("1web")
    assert names.port_name_problems("http-2") == []
    for bad in ("", "1", "-a", "a--b", "a_b", "A", "a" * 16):
        assert names.port_name_problems(bad), bad
    assert names.env_name_problems("MY_ENV.NAME-1") == []
    for bad in ("", "1A", "A=B", "A B", "..", "A\0"):
        assert names.env_name_problems(bad), bad


@given(st.text(alphabet="abc-", max_size=80), st.integers())
def test_generated_names_fit_and_come_from_the_dice(prefix: str, seed: int) -> None:
    name = names.generate_name(prefix, random.Random(seed))
    assert name == names.generate_name(prefix, random.Random(seed))
    assert len(name) <= 63
    assert name[-5:].strip(names.RANDOM_ALPHABET) == ""
    assert name[:-5] == prefix[:58]


@given(st.integers(MIN_S, MAX_S), st.integers(0, 999_999_999))
def test_times_are_read_back(seconds: int, nanos: int) -> None:
    assert parse_time(format_time(seconds)) == (seconds, None)
    assert parse_time(format_time_exactly(seconds, nanos)) == (seconds, nanos)


def test_times() -> None:
    assert format_time(0) == "1970-01-01T00:00:00Z"
    assert format_time_exactly(0, 50_000_000) == "1970-01-01T00:00:00.05Z"
    assert parse_time("1970-01-01t02:00:00.25+02:00") == (0, 250_000_000)
    assert format_time(10**18) == "9999-12-31T23:59:59Z"
    for bad in ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:00", "now",
                "0001-01-01T00:00:00+01:00", "1970-01-01T00:00:00Z\n", "1970-01-01T00:00:60Z"]:  # fmt: skip
        with pytest.raises(ValueError, match="is not a time"):
            parse_time(bad)


def test_owners() -> None:
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="web", uid="u1"))
    pod = core.Pod()
    assert controller_of(pod) is None
    pod.metadata.ownerReferences.append(owner_reference(core.Node(), controller=False))
    assert not is_controlled_by(pod, "u1")
    pod.metadata.ownerReferences.append(owner_reference(rc))
    owner = controller_of(pod)
    assert owner is not None
    assert (owner.apiVersion, owner.kind, owner.name, owner.uid) == ("v1", "ReplicationController", "web", "u1")
    assert is_controlled_by(pod, "u1")
    assert not is_controlled_by(pod, "u2")


def test_a_transition_is_a_change_of_status_and_nothing_else() -> None:
    status = core.PodStatus()
    assert get_condition(status, "Ready") is None
    assert set_condition(status, "Ready", "False", 10.0, "Starting", "not yet")
    assert not set_condition(status, "Ready", "False", 11.0, "Starting", "not yet")
    assert set_condition(status, "Ready", "False", 12.0, "Unhealthy")
    condition = get_condition(status, "Ready")
    assert condition is not None
    assert from_time(condition.lastTransitionTime) == 10.0
    assert condition.reason == "Unhealthy"
    assert not condition.HasField("message")
    assert set_condition(status, "Ready", "True", 13.0)
    assert from_time(condition.lastTransitionTime) == 13.0
    assert is_pod_ready(core.Pod(status=status))
    assert len(status.conditions) == 1


def test_nodes_and_controllers_have_conditions_too() -> None:
    node = core.Node()
    assert not is_node_ready(node)
    set_condition(node.status, "Ready", "True", 1.0)
    assert is_node_ready(node)
    set_condition(node.status, "Ready", "Unknown", 2.0)
    assert not is_node_ready(node)
    assert set_condition(core.ReplicationControllerStatus(), "ReplicaFailure", "True", 1.0)


def container(**resources: dict[str, str]) -> core.Container:
    made = core.Container(name="a")
    for kind, amounts in resources.items():
        for name, text in amounts.items():
            getattr(made.resources, kind)[name].CopyFrom(quantity(text))
    return made


def pod_of(*containers: core.Container) -> core.Pod:
    return core.Pod(spec=core.PodSpec(containers=containers))


def test_requests_are_summed_and_limits_stand_in() -> None:
    pod = pod_of(
        container(requests={"cpu": "100m", "memory": "1Mi"}, limits={"cpu": "1", "gpu": "1"}),
        container(limits={"cpu": "0.25", "gpu": "2"}),
        container(),
    )
    assert requests_of(pod) == {"cpu": 350, "memory": 1048576, "gpu": 3}
    assert requests_of(core.Pod()) == {}


@pytest.mark.parametrize(
    ("containers", "qos"),
    [
        ([container()], "BestEffort"),
        ([container(requests={"gpu": "1"})], "BestEffort"),
        ([container(requests={"cpu": "0"})], "BestEffort"),
        ([container(limits={"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([container(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "1"})], "Guaranteed"),
        ([container(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "500m"})], "Burstable"),
        ([container(limits={"cpu": "1"})], "Burstable"),
        ([container(limits={"cpu": "1", "memory": "1Gi"}), container()], "Burstable"),
    ],
)
def test_qos(containers: list[core.Container], qos: str) -> None:
    assert qos_class(pod_of(*containers)) == qos


def test_ports_and_phases() -> None:
    pod = pod_of(
        core.Container(ports=[core.ContainerPort(name="http", containerPort=80, hostPort=8080)]),
        core.Container(ports=[core.ContainerPort(containerPort=81, protocol="UDP", hostPort=53, hostIP="127.0.0.1")]),
    )
    assert [port.containerPort for port in container_ports(pod)] == [80, 81]
    assert host_ports(pod) == {("0.0.0.0", "TCP", 8080), ("127.0.0.1", "UDP", 53)}
    assert find_port(pod, "http") == 80
    assert find_port(pod, "x") is None
    assert is_active(pod)
    pod.metadata.deletionTimestamp.seconds = 1
    assert not is_active(pod)
    assert not is_finished(pod)
    for phase in ("Succeeded", "Failed"):
        assert is_finished(core.Pod(status=core.PodStatus(phase=phase)))
