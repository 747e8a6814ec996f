"""Validation: a good object passes; each rule, broken alone, is named with its path."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.defaults import apply_defaults
from cluster.api.errors import FieldError, Invalid
from cluster.api.json import merge_patch, object_from_json
from cluster.api.kinds import KINDS, AnyObject, Kind
from cluster.api.quantities import quantity
from cluster.api.validation import invalid, unknown_fields, validate, validate_update
from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.messages import messages

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "main", "command": ["true"]}]},
}
RC: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "web"},
    "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}
NODE: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
NAMESPACE: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
ENDPOINTS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "web"},
    "subsets": [{"addresses": [{"ip": "127.3.16.1"}], "ports": [{"port": 80}]}],
}
EVENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "web.1"},
    "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
    "type": "Normal",
}
LEASE: dict[str, Any] = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "a"},
    "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0},
}
PRIORITY: dict[str, Any] = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "high"},
    "value": 1000,
}
BUDGET: dict[str, Any] = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
}
FAULT: dict[str, Any] = {
    "apiVersion": "podium.dev/v1",
    "kind": "Fault",
    "metadata": {"name": "slow"},
    "spec": {"target": {"service": "web"}, "durationSeconds": 30, "delayMilliseconds": 200},
}
ALL = [POD, RC, SERVICE, NODE, NAMESPACE, ENDPOINTS, EVENT, LEASE, PRIORITY, BUDGET, FAULT]


def made(data: dict[str, Any], patch: dict[str, Any] | None = None) -> Any:
    obj = object_from_json(merge_patch(data, patch or {}))
    apply_defaults(obj)
    return obj


def container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "command": ["true"], **fields}]}}


def meta(**fields: Any) -> dict[str, Any]:
    return {"metadata": fields}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


@pytest.mark.parametrize("data", ALL, ids=lambda data: data["kind"])
def test_a_good_object_passes(data: dict[str, Any]) -> None:
    obj = made(data)
    assert validate(obj) == []
    assert validate_update(obj, obj) == []
    assert unknown_fields(obj) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_no_object_can_break_it(kind: Kind, data: st.DataObject) -> None:
    new, old = data.draw(messages(kind.message)), data.draw(messages(kind.message))
    for obj in (new, old):
        apply_defaults(obj)
        assert all(isinstance(error, FieldError) for error in validate(obj))
        assert unknown_fields(obj) == []
    assert all(isinstance(error, FieldError) for error in validate_update(new, old))
    assert [error for error in validate_update(old, deepcopy(old)) if not error.path.startswith("metadata")] == []


def test_finalizers_of_users_kinds_and_of_definitions_may_have_any_name() -> None:
    for obj in (core.CustomObject(), core.CustomResourceDefinition()):
        obj.metadata.finalizers.extend(["hold", "a b"])
        paths = [error.path for error in validate(obj) if error.path.startswith("metadata.finalizers")]
        assert paths == ["metadata.finalizers[1]"]


GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (POD, meta(name=None, generateName="web-")),
    (POD, meta(labels={"a.b/c": "", "d": "e"}, annotations={"Example.com/Any": "line\nline\0"})),
    (POD, meta(finalizers=["orphan", "foregroundDeletion", "kubernetes", "example.com/hold"])),
    (NAMESPACE, {"spec": {"finalizers": ["kubernetes"]}}),
    (POD, container(image="redis:7", command=[])),
    (POD, container(image="host", args=["x"])),
    (POD, container(command=[], args=["x"])),
    (POD, container(ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 80, "protocol": "UDP"}])),
    (POD, container(ports=[{"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 2}])),
    (POD, container(env=[{"name": "A", "value": "$(B)"}, {"name": "a.b-C_1"}])),
    (POD, container(resources={"limits": {"cpu": 1, "gpu": 2}, "requests": {"cpu": "1000m", "example.com/x": 0}})),
    (POD, container(livenessProbe={"exec": {"command": ["x"]}}, readinessProbe={"tcpSocket": {"port": "http"}})),
    (POD, container(readinessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "Host", "value": "a b"}]}})),
    (POD, container(readinessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2})),
    (
        POD,
        spec(
            tolerations=[
                {"operator": "Exists"},
                {"key": "a", "value": "b", "tolerationSeconds": 1, "effect": "NoExecute"},
            ]
        ),
    ),
    (RC, spec(replicas=0, selector={"app": "web"})),
    (SERVICE, spec(clusterIP="None", ports=[], selector=None)),
    (SERVICE, spec(clusterIP="127.3.1.1", sessionAffinity="ClientIP")),
    (SERVICE, spec(ports=[{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}])),
    (SERVICE, spec(type="NodePort")),
    (SERVICE, spec(type="NodePort", ports=[{"port": 1, "nodePort": 30000, "appProtocol": "kubernetes.io/h2c"}])),
    (
        SERVICE,
        spec(
            type="NodePort",
            ports=[
                {"name": "t", "port": 53, "nodePort": 30053},
                {"name": "u", "port": 53, "nodePort": 30053, "protocol": "UDP"},
            ],
        ),
    ),
    (SERVICE, spec(type="ExternalName", externalName="db.example.com", ports=[], selector=None)),
    (SERVICE, spec(type="ExternalName", externalName="db.example.com.")),
    (SERVICE, spec(trafficDistribution="PreferSameZone")),
    (POD, spec(hostname="db-0", subdomain="db")),
    (ENDPOINTS, {"subsets": [{"terminatingAddresses": [{"ip": "127.3.16.1"}], "ports": [{"port": 80}]}]}),
    (ENDPOINTS, {"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 5432}]}]}),
    (SERVICE, spec(ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2, "targetPort": "http"}])),
    (
        NODE,
        spec(
            podCIDR="127.3.16.0/25", taints=[{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoSchedule"}]
        ),
    ),
    (EVENT, {"involvedObject": {"kind": "Node", "name": "n", "namespace": None}}),
    (LEASE, {"spec": None}),
    (LEASE, spec(holderIdentity="")),
]


@pytest.mark.parametrize(("data", "patch"), GOOD)
def test_what_is_allowed(data: dict[str, Any], patch: dict[str, Any]) -> None:
    assert validate(made(data, patch)) == []


C = "spec.containers[0]"
BAD: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    # metadata
    (POD, meta(name=None), "metadata.name", "Required value"),
    (POD, meta(name="Web"), "metadata.name", "lowercase RFC 1123 subdomain"),
    (POD, meta(name="../x"), "metadata.name", "lowercase RFC 1123 subdomain"),
    (POD, meta(name="a" * 254), "metadata.name", "no more than 253"),
    (POD, meta(name=None, generateName="A-"), "metadata.generateName", "lowercase RFC 1123"),
    (NAMESPACE, meta(name="a.b"), "metadata.name", "lowercase RFC 1123 label"),
    (SERVICE, meta(name="1web"), "metadata.name", "DNS-1035 label"),
    (POD, meta(namespace="A"), "metadata.namespace", "RFC 1123 label"),
    (NODE, meta(namespace="a"), "metadata.namespace", "not allowed on this type"),
    (POD, meta(resourceVersion="x"), "metadata.resourceVersion", "must be a revision"),
    (POD, meta(labels={"-a": "b"}), "metadata.labels", "name part must consist of"),
    (POD, meta(labels={"a": "b c"}), "metadata.labels", "a valid label must be"),
    (POD, meta(labels={"a": "b" * 64}), "metadata.labels", "no more than 63"),
    (POD, meta(annotations={"a b": ""}), "metadata.annotations", "name part must consist of"),
    (POD, meta(annotations={"a": "x" * 262144}), "metadata.annotations", "Too long"),
    (POD, meta(finalizers=["a b"]), "metadata.finalizers[0]", "name part"),
    (POD, meta(finalizers=["a.b/c", "hold"]), "metadata.finalizers[1]", "neither a standard finalizer name nor"),
    (NODE, meta(finalizers=["hold.example.com"]), "metadata.finalizers[0]", "nor is it fully qualified"),
    (NAMESPACE, {"spec": {"finalizers": ["hold"]}}, "spec.finalizers[0]", "neither a standard finalizer name nor"),
    (
        POD,
        meta(ownerReferences=[{"kind": "A", "name": "a", "apiVersion": "v1"}]),
        "metadata.ownerReferences[0].uid",
        "Req",
    ),
    (
        POD,
        meta(ownerReferences=[{"kind": "A", "name": "a", "apiVersion": "v1", "uid": "u", "controller": True}] * 2),
        "metadata.ownerReferences",
        "Only one reference",
    ),
    # containers
    (POD, spec(containers=[]), "spec.containers", "Required value"),
    (POD, container(name=None), f"{C}.name", "Required value"),
    (POD, container(name="A"), f"{C}.name", "RFC 1123 label"),
    (POD, spec(containers=[{"name": "a", "image": "i"}] * 2), "spec.containers[1].name", 'Duplicate value: "a"'),
    (POD, container(command=[]), f"{C}.command", "Required value: without an image"),
    (POD, container(command=[], image="host"), f"{C}.command", "Required value: without an image"),
    (POD, container(command=[""]), f"{C}.command[0]", "must name a program"),
    (POD, container(command=["a\0"]), f"{C}.command[0]", "NUL"),
    (POD, container(args=["a\0"]), f"{C}.args[0]", "NUL"),
    (POD, container(workingDir="a\0"), f"{C}.workingDir", "NUL"),
    (POD, container(image=" x"), f"{C}.image", "whitespace"),
    # ports
    (POD, container(ports=[{}]), f"{C}.ports[0].containerPort", "Required value"),
    (POD, container(ports=[{"containerPort": 0}]), f"{C}.ports[0].containerPort", "between 1 and 65535"),
    (POD, container(ports=[{"containerPort": 65536}]), f"{C}.ports[0].containerPort", "between 1 and 65535"),
    (POD, container(ports=[{"containerPort": 1}] * 2), f"{C}.ports[1].containerPort", 'Duplicate value: "1/TCP"'),
    (
        POD,
        container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        f"{C}.ports[1].name",
        'Duplicate value: "a"',
    ),
    (POD, container(ports=[{"containerPort": 1, "name": "a_"}]), f"{C}.ports[0].name", "alpha-numeric"),
    (POD, container(ports=[{"containerPort": 1, "hostPort": 70000}]), f"{C}.ports[0].hostPort", "between 1 and 65535"),
    (
        POD,
        container(ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
        f"{C}.ports[1].hostPort",
        'Duplicate value: "9/TCP"',
    ),
    (POD, container(ports=[{"containerPort": 1, "hostIP": "x"}]), f"{C}.ports[0].hostIP", "valid IP address"),
    (POD, container(ports=[{"containerPort": 1, "protocol": "tcp"}]), f"{C}.ports[0].protocol", "Unsupported value"),
    # environment
    (POD, container(env=[{}]), f"{C}.env[0].name", "Required value"),
    (POD, container(env=[{"name": "1A"}]), f"{C}.env[0].name", "environment variable name"),
    (POD, container(env=[{"name": "A", "value": "\0"}]), f"{C}.env[0].value", "NUL"),
    (POD, container(env=[{"name": "A", "valueFrom": {}}]), f"{C}.env[0].valueFrom", "must specify one of"),
    (
        POD,
        container(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        f"{C}.env[0].valueFrom",
        "when `value` is not empty",
    ),
    (
        POD,
        container(env=[{"name": "A", "valueFrom": {"fieldRef": {}}}]),
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        "Required",
    ),
    (
        POD,
        container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}}]),
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'supported values: "metadata.name"',
    ),
    (
        POD,
        container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a b']"}}}]),
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        "name part must consist",
    ),
    (
        POD,
        container(env=[{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}}]),
        f"{C}.env[0].valueFrom.fieldRef.apiVersion",
        "Unsupported value",
    ),
    # resources
    (
        POD,
        container(resources={"requests": {"cpu": "-1"}}),
        f"{C}.resources.requests[cpu]",
        "greater than or equal to 0",
    ),
    (POD, container(resources={"requests": {"gpu": "1.5"}}), f"{C}.resources.requests[gpu]", "must be an integer"),
    (POD, container(resources={"requests": {"c u": "1"}}), f"{C}.resources.requests[c u]", "name part"),
    (POD, container(resources={"requests": {"pods": "1"}}), f"{C}.resources.requests[pods]", "pods are counted"),
    (
        POD,
        container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        f"{C}.resources.requests",
        "must be less than or equal to cpu limit",
    ),
    # probes
    (POD, container(livenessProbe={}), f"{C}.livenessProbe", "must specify a handler type"),
    (
        POD,
        container(livenessProbe={"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
        f"{C}.livenessProbe.tcpSocket",
        "more than 1 handler",
    ),
    (
        POD,
        container(livenessProbe={"exec": {"command": ["x"]}, "successThreshold": 2}),
        f"{C}.livenessProbe.successThreshold",
        "must be 1",
    ),
    (POD, container(livenessProbe={"exec": {}}), f"{C}.livenessProbe.exec.command", "Required value"),
    (POD, container(readinessProbe={"tcpSocket": {}}), f"{C}.readinessProbe.tcpSocket.port", "Required value"),
    (
        POD,
        container(readinessProbe={"tcpSocket": {"port": 0}}),
        f"{C}.readinessProbe.tcpSocket.port",
        "between 1 and 65535",
    ),
    (
        POD,
        container(readinessProbe={"tcpSocket": {"port": "a_"}}),
        f"{C}.readinessProbe.tcpSocket.port",
        "alpha-numeric",
    ),
    (
        POD,
        container(readinessProbe={"tcpSocket": {"port": 1, "host": "10.0.0.1"}}),
        f"{C}.readinessProbe.tcpSocket.host",
        "own address only",
    ),
    (
        POD,
        container(readinessProbe={"httpGet": {"port": 1, "host": "169.254.169.254"}}),
        f"{C}.readinessProbe.httpGet.host",
        "own address only",
    ),
    (
        POD,
        container(readinessProbe={"httpGet": {"port": 1, "scheme": "FTP"}}),
        f"{C}.readinessProbe.httpGet.scheme",
        "Unsupp",
    ),
    (
        POD,
        container(readinessProbe={"httpGet": {"port": 1, "path": "/ HTTP/1.1\r\nX: y"}}),
        f"{C}.readinessProbe.httpGet.path",
        "control characters",
    ),
    (
        POD,
        container(readinessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a:", "value": "b"}]}}),
        f"{C}.readinessProbe.httpGet.httpHeaders[0].name",
        "HTTP header",
    ),
    (
        POD,
        container(readinessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a", "value": "b\r\nc: d"}]}}),
        f"{C}.readinessProbe.httpGet.httpHeaders[0].value",
        "control characters",
    ),
    *[
        (
            POD,
            container(readinessProbe={"exec": {"command": ["x"]}, field: -1}),
            f"{C}.readinessProbe.{field}",
            "greater than",
        )
        for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    ],
    # the rest of a pod
    (POD, spec(restartPolicy="Sometimes"), "spec.restartPolicy", '"Always", "OnFailure", "Never"'),
    (POD, spec(nodeSelector={"a": "b c"}), "spec.nodeSelector", "a valid label"),
    (POD, spec(nodeName="A"), "spec.nodeName", "RFC 1123"),
    (POD, spec(schedulerName="A"), "spec.schedulerName", "RFC 1123"),
    (POD, spec(tolerations=[{}]), "spec.tolerations[0].operator", "operator must be Exists"),
    (POD, spec(tolerations=[{"key": "a", "operator": "In"}]), "spec.tolerations[0].operator", "Unsupported value"),
    (
        POD,
        spec(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        "spec.tolerations[0].value",
        "must be empty",
    ),
    (POD, spec(tolerations=[{"key": "a", "effect": "No"}]), "spec.tolerations[0].effect", "Unsupported value"),
    (
        POD,
        spec(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
        "spec.tolerations[0].effect",
        "must be 'NoExecute'",
    ),
    (POD, {"status": {"phase": "Fine"}}, "status.phase", "Unsupported value"),
    # replication controllers
    (RC, spec(replicas=-1), "spec.replicas", "greater than or equal to 0"),
    (RC, spec(selector={"app": "x"}), "spec.template.metadata.labels", "`selector` does not match template `labels`"),
    (RC, spec(template={"metadata": None}), "spec.selector", "Required value"),
    (RC, spec(template=None, selector={"a": "b"}), "spec.template", "Required value"),
    (
        RC,
        spec(template={"spec": {"restartPolicy": "Never"}}),
        "spec.template.spec.restartPolicy",
        'supported values: "Always"',
    ),
    (
        RC,
        spec(template={"spec": {"containers": [{"name": "A", "command": ["x"]}]}}),
        "spec.template.spec.containers[0].name",
        "RFC 1123",
    ),
    (POD, spec(hostname="a.b"), "spec.hostname", "RFC 1123 label"),
    (POD, spec(subdomain="-"), "spec.subdomain", "RFC 1123 label"),
    # services
    (SERVICE, spec(ports=[]), "spec.ports", "Required value"),
    (SERVICE, spec(ports=[{}]), "spec.ports[0].port", "Required value"),
    (SERVICE, spec(ports=[{"port": 70000}]), "spec.ports[0].port", "between 1 and 65535"),
    (SERVICE, spec(ports=[{"port": 1}, {"port": 2, "name": "a"}]), "spec.ports[0].name", "Required value"),
    (
        SERVICE,
        spec(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
        "spec.ports[1].name",
        "Duplicate value",
    ),
    (
        SERVICE,
        spec(ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]),
        "spec.ports[1].port",
        "Duplicate value",
    ),
    (
        SERVICE,
        spec(ports=[{"port": 1, "protocol": "SCTP"}]),
        "spec.ports[0].protocol",
        "carries out no other protocols",
    ),
    (SERVICE, spec(ports=[{"port": 1, "targetPort": 70000}]), "spec.ports[0].targetPort", "between 1 and 65535"),
    (SERVICE, spec(type="LoadBalancer"), "spec.type", "no load balancer outside of the cluster: use NodePort"),
    (SERVICE, spec(type="Round"), "spec.type", 'supported values: "ClusterIP", "NodePort", "ExternalName"'),
    (SERVICE, spec(ports=[{"port": 1, "nodePort": 30001}]), "spec.ports[0].nodePort", "when `type` is 'ClusterIP'"),
    (SERVICE, spec(ports=[{"port": 1, "appProtocol": "a/b/c"}]), "spec.ports[0].appProtocol", "must consist of"),
    *[
        (SERVICE, spec(type="NodePort", ports=[{"port": 1, "nodePort": n}]), "spec.ports[0].nodePort", "30000-32767")
        for n in (80, 29999, 32768)
    ],
    (
        SERVICE,
        spec(
            type="NodePort",
            ports=[{"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2, "nodePort": 30001}],
        ),
        "spec.ports[1].nodePort",
        "Duplicate value: 30001",
    ),
    (SERVICE, spec(type="NodePort", clusterIP="None"), "spec.clusterIP", "may not be set to 'None' for NodePort"),
    (SERVICE, spec(type="ExternalName"), "spec.externalName", "Required value"),
    (SERVICE, spec(type="ExternalName", externalName="a_b.example"), "spec.externalName", "RFC 1123 subdomain"),
    (SERVICE, spec(type="ExternalName", externalName="10.1.2.3"), "spec.externalName", "is an address"),
    (SERVICE, spec(externalName="db.example"), "spec.externalName", "only be used when `type` is 'ExternalName'"),
    (
        SERVICE,
        spec(type="ExternalName", externalName="db.example", clusterIP="127.3.1.1"),
        "spec.clusterIP",
        "may not be set for ExternalName",
    ),
    (
        SERVICE,
        spec(type="ExternalName", externalName="db.example", ports=[{"port": 1, "nodePort": 30001}]),
        "spec.ports[0].nodePort",
        "may not be used when `type` is 'ExternalName'",
    ),
    (SERVICE, spec(trafficDistribution="Near"), "spec.trafficDistribution", '"PreferClose", "PreferSameZone"'),
    (SERVICE, spec(clusterIP="x"), "spec.clusterIP", "'None', or a valid IPv4 address"),
    (SERVICE, spec(sessionAffinity="Cookie"), "spec.sessionAffinity", "Unsupported value"),
    (
        SERVICE,
        spec(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "86400",
    ),
    (SERVICE, spec(selector={"a": "b c"}), "spec.selector", "a valid label"),
    # the others
    (ENDPOINTS, {"subsets": [{"ports": [{"port": 1}]}]}, "subsets[0]", "must specify `addresses`"),
    (ENDPOINTS, {"subsets": [{"addresses": [{"ip": "x"}]}]}, "subsets[0].addresses[0].ip", "valid IP address"),
    (
        ENDPOINTS,
        {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}]},
        "subsets[0].ports[0].port",
        "betw",
    ),
    *[
        (ENDPOINTS, {"subsets": [{"addresses": [{"ip": ip}]}]}, "subsets[0].addresses[0].ip", why)
        for ip, why in (
            ("0.0.0.0", "may not be unspecified"),
            ("169.254.169.254", "link-local range"),
            ("224.0.0.1", "multicast or broadcast"),
            ("255.255.255.255", "multicast or broadcast"),
            ("::1", "must be an IPv4 address"),
        )
    ],
    (
        ENDPOINTS,
        {"subsets": [{"terminatingAddresses": [{"ip": "x"}]}]},
        "subsets[0].terminatingAddresses[0].ip",
        "valid IP address",
    ),
    (
        ENDPOINTS,
        {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "a", "port": n} for n in (1, 2)]}]},
        "subsets[0].ports[1].name",
        "Duplicate value",
    ),
    (
        ENDPOINTS,
        {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1, "protocol": "SCTP"}]}]},
        "subsets[0].ports[0].protocol",
        "Unsupported value",
    ),
    (NODE, spec(podCIDR="127.3.16.1/25"), "spec.podCIDR", "valid CIDR"),
    (NODE, spec(taints=[{"effect": "NoExecute"}]), "spec.taints[0].key", "Required value"),
    (NODE, spec(taints=[{"key": "a"}]), "spec.taints[0].effect", "Unsupported value"),
    (NODE, spec(taints=[{"key": "a", "effect": "NoExecute"}] * 2), "spec.taints[1]", "unique by key and effect"),
    (NODE, {"status": {"capacity": {"cpu": "-1"}}}, "status.capacity[cpu]", "greater than or equal to 0"),
    *[
        (NODE, {"status": {"dataDirectories": ["a/b", name]}}, "status.dataDirectories[1]", "must be NAMESPACE/NAME")
        for name in ("db", "A/db", "a/b/c", "a/")
    ],
    (EVENT, {"involvedObject": {"namespace": "other"}}, "involvedObject.namespace", "does not match"),
    # leases
    (LEASE, spec(leaseDurationSeconds=0), "spec.leaseDurationSeconds", "must be greater than 0"),
    (LEASE, spec(leaseTransitions=-1), "spec.leaseTransitions", "must be greater than or equal to 0"),
    (
        LEASE,
        meta(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]),
        "metadata.ownerReferences",
        "does not collect leases",
    ),
    (NAMESPACE, {"status": {"phase": "Gone"}}, "status.phase", "Unsupported value"),
    (SECRET, {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}, "data[tls.key]", "Required value"),
    (SECRET, {"type": "kubernetes.io/ssh-auth"}, "data[ssh-privatekey]", "Required value"),
    (SECRET, {"type": "kubernetes.io/basic-auth"}, "data[username]", "or a password"),
    (
        SECRET,
        {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}},
        "data[.dockerconfigjson]",
        "<secret contents redacted>",
    ),
    (
        SECRET,
        {"type": "kubernetes.io/service-account-token"},
        "metadata.annotations[kubernetes.io/service-account.name]",
        "Required value",
    ),
]


@pytest.mark.parametrize(
    ("data", "patch", "path", "message"),
    BAD,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not(data: dict[str, Any], patch: dict[str, Any], path: str, message: str) -> None:
    errors = validate(made(data, patch))
    assert [error.path for error in errors].count(path) == 1, errors
    assert any(error.path == path and message in error.message for error in errors), errors


def test_quantities_that_came_over_the_wire_are_checked_too() -> None:
    pod = made(POD, container(resources={"limits": {"cpu": "1"}}))
    pod.spec.containers[0].resources.limits["cpu"].string = "one"
    apply_defaults(pod)
    assert any(
        error.path == f"{C}.resources.limits[cpu]" and "not a quantity" in error.message for error in validate(pod)
    )


def test_an_object_has_a_largest_size() -> None:
    errors = validate(made(POD, container(args=["x" * 1024] * 1536)))
    assert [str(error) for error in errors] == ["Too long: must have at most 1572864 bytes"]


def test_problems_have_a_limit() -> None:
    containers = [{"name": "A", "command": ["x"]} for _ in range(1000)]
    assert len(validate(made(POD, spec(containers=containers)))) == 100


# --- Unknown fields on the wire


def test_fields_of_no_schema_are_found_anywhere() -> None:
    pod = made(POD, container(resources={"limits": {"cpu": "1"}}))
    pod.spec.containers[0].MergeFromString(b"\xaa\x01\x01x")  # 21, volumeDevices
    pod.spec.containers[0].resources.limits["cpu"].MergeFromString(b"\x12\x01x")
    pod.metadata.MergeFromString(b"\xf2\x3f\x01x")  # 1022
    assert [str(error) for error in unknown_fields(pod)] == [
        "metadata: field number 1022 is not known",
        "spec.containers[0]: field number 21 is a field of Kubernetes that Podium does not carry out",
        "spec.containers[0].resources.limits[cpu]: field number 2 is not known",
    ]


def test_the_answer_names_the_object() -> None:
    pod: AnyObject = core.Pod(metadata=core.ObjectMeta(name="web"))
    one, two = FieldError("spec.a", "is bad"), FieldError("spec.b", "is worse")
    error = invalid(pod, [one])
    assert isinstance(error, Invalid)
    assert str(error) == 'Pod "web" is invalid: spec.a: is bad'
    assert str(invalid(pod, [one, two])) == 'Pod "web" is invalid: [spec.a: is bad, spec.b: is worse]'
    assert invalid(pod, [one, two]).causes == (one, two)


def test_amounts_keep_their_unit() -> None:
    pod = made(POD, container(resources={"requests": {"memory": "1.5"}}))
    assert pod.spec.containers[0].resources.requests["memory"] == quantity("1500m")
    assert validate(pod) == []
