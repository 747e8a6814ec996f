"""How a service's traffic may be treated: defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.defaults import apply_defaults
from cluster.api.json import object_from_json
from cluster.api.service_traffic import weight_of
from cluster.api.validation import validate
from cluster.pb.v1 import core_pb2 as core


def service(**spec: Any) -> core.Service:
    made = object_from_json(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
        }
    )
    assert isinstance(made, core.Service)
    apply_defaults(made)
    return made


def problems(obj: core.Service | core.Pod) -> dict[str, str]:
    return {error.path: error.message for error in validate(obj)}


def test_what_is_absent_stays_absent() -> None:
    spec = service().spec
    for field in ("balancing", "outlierDetection", "healthCheck", "timeouts"):
        assert not spec.HasField(field)


def test_what_was_begun_is_filled() -> None:
    spec = service(balancing={}, outlierDetection={"consecutiveFailures": 3}, healthCheck={"httpPath": "/healthz"}).spec
    assert spec.balancing.policy == "RoundRobin"
    assert not spec.balancing.hashKey
    outliers = spec.outlierDetection
    assert (outliers.consecutiveFailures, outliers.intervalSeconds, outliers.baseEjectionSeconds) == (3, 10, 30)
    assert (outliers.maxEjectionSeconds, outliers.maxEjectionPercent) == (300, 10)
    check = spec.healthCheck
    assert (check.intervalSeconds, check.timeoutSeconds, check.failureThreshold, check.successThreshold) == (
        10,
        1,
        3,
        1,
    )
    assert service(balancing={"policy": "ConsistentHash"}).spec.balancing.hashKey == "ClientIP"


@pytest.mark.parametrize(
    "policy", ["RoundRobin", "LeastConnections", "PowerOfTwoChoices", "Weighted", "ConsistentHash"]
)
def test_each_policy_may_be_asked_for(policy: str) -> None:
    assert problems(service(balancing={"policy": policy})) == {}


def test_outlier_detection_may_be_switched_off() -> None:
    assert problems(service(outlierDetection={"consecutiveFailures": 0})) == {}


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"balancing": {"policy": "Random"}}, "spec.balancing.policy", "supported values"),
        ({"balancing": {"policy": "RoundRobin", "hashKey": "ClientIP"}}, "spec.balancing.hashKey", "ConsistentHash"),
        ({"balancing": {"policy": "ConsistentHash", "hashKey": "Cookie:a"}}, "spec.balancing.hashKey", "ClientIP"),
        ({"trafficDistribution": "PreferNear"}, "spec.trafficDistribution", "PreferSameNode"),
        ({"outlierDetection": {"consecutiveFailures": -1}}, "spec.outlierDetection.consecutiveFailures", "between 0"),
        ({"outlierDetection": {"maxEjectionPercent": 101}}, "spec.outlierDetection.maxEjectionPercent", "100"),
        ({"outlierDetection": {"maxEjectionSeconds": 5}}, "spec.outlierDetection.maxEjectionSeconds", "baseEjection"),
        ({"healthCheck": {"intervalSeconds": 0}}, "spec.healthCheck.intervalSeconds", "between 1"),
        ({"healthCheck": {"httpPath": "healthz"}}, "spec.healthCheck.httpPath", "must begin with '/'"),
        ({"healthCheck": {"httpPath": "/a\r\nHost: b"}}, "spec.healthCheck.httpPath", "control characters"),
        ({"timeouts": {"idleSeconds": 0}}, "spec.timeouts.idleSeconds", "between 1"),
        ({"timeouts": {"connectSeconds": -5}}, "spec.timeouts.connectSeconds", "between 1"),
        (
            {"ports": [{"port": 1, "protocol": "SCTP"}]},
            "spec.ports[0].protocol",
            "Podium carries out no other",
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], path: str, message: str) -> None:
    found = problems(service(**spec))
    assert list(found) == [path]
    assert message in found[path]


def test_a_pods_weight() -> None:
    assert [weight_of({"podium.dev/weight": text}) for text in ("5", "0", "x", "-1", "", "99999")] == [
        5,
        0,
        1,
        1,
        1,
        1000,
    ]
    assert weight_of({}) == 1
    pod = core.Pod(
        metadata=core.ObjectMeta(name="a", namespace="default"),
        spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
    )
    apply_defaults(pod)
    pod.metadata.annotations["podium.dev/weight"] = "10"
    assert problems(pod) == {}
    for wrong in ("heavy", "-1", "1001", "1.5"):
        pod.metadata.annotations["podium.dev/weight"] = wrong
        assert "whole number" in problems(pod)["metadata.annotations[podium.dev/weight]"]


def test_an_endpoint_that_is_only_terminating_is_enough() -> None:
    endpoints = core.Endpoints(
        metadata=core.ObjectMeta(name="web", namespace="default"),
        subsets=[
            core.EndpointSubset(
                terminatingAddresses=[core.EndpointAddress(ip="127.0.0.1")],
                ports=[core.EndpointPort(port=80, protocol="TCP")],
            )
        ],
    )
    assert [error.path for error in validate(endpoints)] == []
    endpoints.subsets[0].terminatingAddresses[0].ip = "nowhere"
    assert [error.path for error in validate(endpoints)] == ["subsets[0].terminatingAddresses[0].ip"]
