"""What may be said of a container's life: probes, hooks, order, last words."""

from __future__ import annotations

import pytest

from cluster.api.defaults import default_pod_spec
from cluster.api.pods import oom_score_adjustment, qos_class, requests_of
from cluster.api.problems import Report
from cluster.api.validation_pod import validate_pod_spec
from cluster.pb.v1 import core_pb2 as core

HTTP = "httpGet { port { intVal: 80 } }"


def errors(text: str, policies: tuple[str, ...] | None = None) -> list[str]:
    """The spec in protobuf's text format, completed and judged."""
    from google.protobuf import text_format

    spec = text_format.Parse(text, core.PodSpec())
    default_pod_spec(spec)
    report = Report()
    if policies is None:
        validate_pod_spec(report, spec, "spec")
    else:
        validate_pod_spec(report, spec, "spec", policies)
    return [f"{error.path}: {error.message}" for error in report.errors]


def container(inside: str = "", name: str = "a") -> str:
    return f'containers {{ name: "{name}" command: "run" {inside} }}'


def init(inside: str = "", name: str = "i") -> str:
    return f'initContainers {{ name: "{name}" command: "run" {inside} }}'


@pytest.mark.parametrize(
    "text",
    [
        container() + init(),
        container() + init('restartPolicy: "Always" readinessProbe { handler { grpc { port: 50051 } } }'),
        container(f"lifecycle {{ preStop {{ {HTTP} }} postStart {{ sleep {{ seconds: 3 }} }} }}"),
        container(f"startupProbe {{ handler {{ {HTTP} }} terminationGracePeriodSeconds: 5 }}"),
        container('dependsOn: "b"') + container(name="b") + 'dependsOn: "service/db" dependsOn: "rc/cache"',
        container('dependsOn: "i"') + init('restartPolicy: "Always"'),
        container('terminationMessagePath: "/dev/termination-log" terminationMessagePolicy: "File"'),
        container() + "activeDeadlineSeconds: 1",
    ],
)
def test_what_is_fine(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (container() + init(name="a"), 'spec.containers[0].name: Duplicate value: "a"'),
        (container('restartPolicy: "Always"'), "spec.containers[0].restartPolicy: Unsupported value"),
        (container() + init('restartPolicy: "Never"'), "of an init container, Always makes a sidecar"),
        (container() + init(f"readinessProbe {{ handler {{ {HTTP} }} }}"), "without restartPolicy=Always"),
        (container() + init("lifecycle { preStop { sleep { seconds: 1 } } }"), "without restartPolicy=Always"),
        (container() + init('dependsOn: "a"'), "order them"),
        (container("lifecycle { preStop { } }"), "must specify a handler type: one of exec, httpGet, tcpSocket, sleep"),
        (container("lifecycle { preStop { sleep { seconds: -1 } } }"), "must be greater than or equal to 0"),
        (container("startupProbe { handler { grpc { } } }"), "grpc.port: Invalid value: 0"),
        (container(f"readinessProbe {{ handler {{ {HTTP} }} terminationGracePeriodSeconds: 5 }}"), "must not be set"),
        (container(f"startupProbe {{ handler {{ {HTTP} }} successThreshold: 2 }}"), "must be 1"),
        (container('dependsOn: "zzz"'), 'dependsOn[0]: Invalid value: "zzz": must be the name of another container'),
        (container('dependsOn: "a"'), "a waits for a: neither would ever start"),
        (container('dependsOn: "b"') + container('dependsOn: "a"', "b"), "b waits for a: neither would ever start"),
        (container() + 'dependsOn: "db"', "must be replicationcontroller/NAME or service/NAME"),
        (container() + 'dependsOn: "pod/db"', "must be replicationcontroller/NAME or service/NAME"),
        (container() + 'dependsOn: "service/A B"', "dependsOn[0]"),
        (container('terminationMessagePath: "/etc/x"'), "must be a path within the pod's directory"),
        (container('terminationMessagePath: "../x"'), "must be a path within the pod's directory"),
        (container('terminationMessagePolicy: "Never"'), "Unsupported value"),
        (container() + "activeDeadlineSeconds: 0", "must be greater than or equal to 1"),
    ],
)
def test_what_is_refused_and_why(text: str, words: str) -> None:
    found = errors(text)
    assert any(words in error for error in found), found


def test_a_controllers_pods_have_no_deadline() -> None:
    assert any("run for ever" in error for error in errors(container() + "activeDeadlineSeconds: 5", ("Always",)))


def pod_of(*containers: tuple[str, str]) -> core.Pod:
    """(role, cpu): role is init, sidecar or main."""
    pod = core.Pod()
    for number, (role, cpu) in enumerate(containers):
        into = pod.spec.containers if role == "main" else pod.spec.initContainers
        one = into.add(name=f"c{number}", restartPolicy="Always" if role == "sidecar" else "")
        if cpu:
            one.resources.requests["cpu"].string = cpu
    return pod


@pytest.mark.parametrize(
    ("containers", "cpu_milli"),
    [
        ([("main", "1"), ("main", "500m")], 1500),
        ([("init", "3"), ("main", "1")], 3000),
        ([("init", "1"), ("init", "2"), ("main", "1")], 2000),
        ([("sidecar", "1"), ("init", "2"), ("main", "1")], 3000),
        ([("init", "2"), ("sidecar", "1"), ("main", "1")], 2000),
        ([("sidecar", "1"), ("main", "1")], 2000),
    ],
)
def test_what_a_pod_asks_for(containers: list[tuple[str, str]], cpu_milli: int) -> None:
    assert requests_of(pod_of(*containers))["cpu"] == cpu_milli


def test_init_containers_count_for_the_class_of_service() -> None:
    assert qos_class(pod_of(("main", ""))) == "BestEffort"
    assert qos_class(pod_of(("init", "1"), ("main", ""))) == "Burstable"


@pytest.mark.parametrize(
    ("requests", "limits", "score"),
    [
        ({}, {}, 1000),
        ({"memory": "1Gi", "cpu": "1"}, {"memory": "1Gi", "cpu": "1"}, -997),
        ({}, {"memory": "1Gi", "cpu": "1"}, -997),
        ({"memory": "1Gi"}, {}, 750),
        ({"cpu": "1"}, {}, 999),
        ({"memory": "1"}, {}, 999),
        ({"memory": "4Gi"}, {}, 3),
        ({"memory": "1Gi"}, {"memory": "2Gi"}, 750),
        ({}, {"memory": "2Gi"}, 500),
    ],
)
def test_who_is_killed_first_when_memory_is_used_up(
    requests: dict[str, str], limits: dict[str, str], score: int
) -> None:
    """On a node of 4 GiB, with Kubernetes' numbers."""
    pod = core.Pod()
    container = pod.spec.containers.add(name="main")
    for name, text in requests.items():
        container.resources.requests[name].string = text
    for name, text in limits.items():
        container.resources.limits[name].string = text
    assert oom_score_adjustment(pod, container, 4 << 30) == score
