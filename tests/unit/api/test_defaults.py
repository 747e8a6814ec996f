"""Defaults are Kubernetes', and applying them twice changes nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.defaults import apply_defaults
from cluster.api.json import object_from_json, object_to_json
from cluster.api.kinds import KINDS, Kind
from tests.unit.api.messages import messages


def defaulted(kind: str, **fields: Any) -> dict[str, Any]:
    obj = object_from_json({"apiVersion": "v1", "kind": kind, **fields})
    apply_defaults(obj)
    return object_to_json(obj)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_a_second_time_changes_nothing(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(messages(kind.message))
    apply_defaults(obj)
    once = deepcopy(obj)
    apply_defaults(obj)
    assert obj == once


def test_a_pod() -> None:
    container = {
        "name": "a",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"cpu": "0.5"}},
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 3, "timeoutSeconds": 0},
    }
    pod = defaulted("Pod", spec={"containers": [container], "tolerations": [{"key": "a", "effect": "NoSchedule"}]})
    assert pod["metadata"] == {"namespace": "default"}
    assert pod["status"] == {"phase": "Pending"}
    assert pod["spec"] == {
        "containers": [
            {
                "name": "a",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "livenessProbe": {
                    "exec": {"command": ["true"]},
                    "timeoutSeconds": 1,
                    "periodSeconds": 3,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "readinessProbe": {
                    "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "tolerations": [{"key": "a", "operator": "Equal", "effect": "NoSchedule"}],
        "securityContext": {},
        "enableServiceLinks": True,
    }


def test_what_is_set_stays() -> None:
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "enableServiceLinks": False}
    pod = defaulted("Pod", metadata={"namespace": "x"}, spec=spec, status={"phase": "Running"})
    assert pod["spec"] == {**spec, "schedulerName": "default-scheduler", "securityContext": {}}
    assert pod["metadata"] == {"namespace": "x"}
    assert pod["status"] == {"phase": "Running"}


def test_a_negative_grace_period_is_a_second() -> None:
    assert defaulted("Pod", spec={"terminationGracePeriodSeconds": -7})["spec"]["terminationGracePeriodSeconds"] == 1


def test_a_replication_controller_takes_labels_and_selector_from_its_template() -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
    rc = defaulted("ReplicationController", spec={"template": template})
    assert rc["metadata"]["labels"] == rc["spec"]["selector"] == {"app": "web"}
    assert rc["spec"]["replicas"] == 1
    assert rc["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    rc = defaulted(
        "ReplicationController",
        metadata={"labels": {"a": "b"}},
        spec={"replicas": 0, "selector": {"c": "d"}, "template": template},
    )
    assert (rc["metadata"]["labels"], rc["spec"]["selector"], rc["spec"]["replicas"]) == ({"a": "b"}, {"c": "d"}, 0)


def test_a_service() -> None:
    service = defaulted("Service", spec={"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}]})
    assert service["spec"] == {
        "ports": [
            {"protocol": "TCP", "port": 80, "targetPort": 80},
            {"protocol": "TCP", "port": 81, "targetPort": "http"},
        ],
        "type": "ClusterIP",
        "sessionAffinity": "None",
    }
    service = defaulted("Service", spec={"sessionAffinity": "ClientIP"})
    assert service["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_nodes_namespaces_endpoints() -> None:
    node = defaulted("Node", metadata={"name": "n"}, status={"capacity": {"cpu": "4000m"}})
    assert node["metadata"] == {"name": "n"}
    assert node["status"]["allocatable"] == node["status"]["capacity"] == {"cpu": "4"}
    assert defaulted("Namespace")["status"] == {"phase": "Active"}
    named = defaulted("Namespace", metadata={"name": "team", "labels": {"a": "b"}})
    assert named["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "team"}
    assert defaulted("Endpoints", subsets=[{"ports": [{"port": 1}]}])["subsets"] == [
        {"ports": [{"port": 1, "protocol": "TCP"}]}
    ]


def test_resources_are_never_left_out_in_kubernetes_json() -> None:
    container = {"name": "a", "command": ["x"]}
    assert defaulted("Pod", spec={"containers": [container]})["spec"]["containers"][0]["resources"] == {}
