"""May I, what may I, who am I."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.kubernetes import reviews
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.pb.v1 import kubernetes_pb2 as bodies
from tests.unit.kubernetes.conftest import Api
from tests.unit.kubernetes.test_bodies import enveloped

ACCESS = reviews.BY_PARTS["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]
RULES = reviews.BY_PARTS["apis", "authorization.k8s.io", "v1", "selfsubjectrulesreviews"]


def may(who: str, verb: str, resource: str, group: str = "") -> tuple[bool, str]:
    plural, _, subresource = resource.partition("/")
    review = bodies.SelfSubjectAccessReview()
    wanted = review.spec.resourceAttributes
    wanted.verb, wanted.resource, wanted.subresource, wanted.group = verb, plural, subresource, group
    body = enveloped("SelfSubjectAccessReview", review, "authorization.k8s.io/v1")
    kind = who.partition(":")[0]
    status: dict[str, Any] = reviews.read(ACCESS, reviews.Who(kind, who), OWN, PROTOBUF, body)["status"]
    return status["allowed"], status.get("reason", "")


@pytest.mark.parametrize(
    ("who", "verb", "resource", "group", "allowed", "reason"),
    [
        ("admin", "get", "pods", "", True, ""),
        ("admin", "deletecollection", "pods", "", True, ""),
        ("admin", "create", "pods/exec", "", True, ""),
        ("admin", "create", "pods/eviction", "", True, ""),
        ("admin", "update", "pods/status", "", True, ""),
        ("admin", "*", "*", "", True, ""),
        ("admin", "get", "deployments", "apps", False, 'there are no "deployments" here'),
        ("node:n1", "list", "pods", "", True, "but only pods bound to these"),
        ("node:n1", "create", "pods", "", False, "node:n1 may not create pods"),
        ("node:n1", "get", "pods/log", "", False, "node:n1 may not get pods"),
        ("node:n1", "*", "*", "", False, ""),
        ("proxy", "watch", "services", "", True, ""),
        ("proxy", "get", "secrets", "", False, "proxy may not get secrets"),
        ("scheduler", "create", "pods/binding", "", True, ""),
        ("scheduler", "create", "pods/eviction", "", False, "scheduler may not create pods"),
        ("controllers", "patch", "poddisruptionbudgets/status", "policy", True, ""),
    ],
)
def test_what_the_table_says(who: str, verb: str, resource: str, group: str, allowed: bool, reason: str) -> None:
    found, why = may(who, verb, resource, group)
    assert found is allowed, why
    assert why.startswith(reason) if reason else not why or reason == why or allowed


async def test_over_http(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    reply = await api.ask("POST", path, body)
    assert (reply.code, reply.body["kind"], reply.body["status"]) == (201, "SelfSubjectAccessReview", {"allowed": True})
    asked = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}}
    assert (await api.ask("POST", path, asked)).body["status"]["allowed"] is True
    for wrong, code in (({}, 422), ({"kind": "Pod"}, 400), ({"spec": {"x": 1}}, 400)):
        assert (await api.ask("POST", path, wrong)).code == code
    assert (await api.get(path)).code == 405
    who = await api.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert who.body["status"]["userInfo"]["username"] == "admin"


def test_all_that_somebody_may_do() -> None:
    found = reviews.read(RULES, reviews.Who("node", "node:n1"), OWN, "", b"{}")["status"]
    assert found["incomplete"] is True
    rules = {rule["resources"][0]: rule["verbs"] for rule in found["resourceRules"]}
    assert rules["pods"] == ["delete", "deletecollection", "get", "list", "watch"]
    assert "secrets" in rules
    assert "pods/exec" not in rules
    assert reviews.read(RULES, reviews.Who("admin", "admin"), OWN, "", b"{}")["status"]["incomplete"] is False
