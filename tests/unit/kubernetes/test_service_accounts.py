"""Tokens of service accounts, and what can be done with them."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from cluster.kubernetes import authentication, reviews
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, Reply
from tests.unit.kubernetes.test_bodies import enveloped

ROBOT = "/api/v1/namespaces/default/serviceaccounts/robot"
WHO = "serviceaccount:default/robot"


@pytest.fixture
def robot(cluster: MemoryCluster) -> core.ServiceAccount:
    return cluster.put(core.ServiceAccount(metadata=core.ObjectMeta(name="robot", namespace="default")))


async def token_of(api: Api, **spec: Any) -> Reply:
    return await api.ask("POST", f"{ROBOT}/token", {"kind": "TokenRequest", "spec": spec})


async def ask(api: Api, token: str, path: str, method: str = "GET", body: Any = None) -> Reply:
    """With a token and no certificate."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.trust())) as session:
        headers = {"Authorization": f"Bearer {token}"}
        async with session.request(method, f"https://{api.address}{path}", headers=headers, json=body) as response:
            return Reply(response.status, await response.json(content_type=None), response.headers)


async def test_a_token_names_its_account(api: Api, robot: core.ServiceAccount) -> None:
    made = await token_of(api)
    assert made.code == 201, made.body
    assert made.body["spec"]["expirationSeconds"] == 3600
    assert made.body["status"]["expirationTimestamp"].endswith("Z")
    token = made.body["status"]["token"]
    who = await ask(api, token, "/apis/authentication.k8s.io/v1/selfsubjectreviews", "POST", {})
    assert who.body["status"]["userInfo"] == {
        "username": "system:serviceaccount:default:robot",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
    }
    assert (await ask(api, token, "/api/v1/namespaces/default/pods")).code == 200
    assert WHO in api.callers, "the master is asked with the account's rights"
    assert (await ask(api, token, f"{ROBOT}/token", "POST", {})).code == 403


async def test_kubectls_request_in_protobuf(api: Api, robot: core.ServiceAccount) -> None:
    request = bodies.TokenRequest(spec=bodies.TokenRequestSpec(expirationSeconds=600))
    body = enveloped("TokenRequest", request, "authentication.k8s.io/v1")
    made = await api.ask("POST", f"{ROBOT}/token", body, headers={"Content-Type": PROTOBUF})
    assert (made.code, made.body["spec"]["expirationSeconds"]) == (201, 600), made.body


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"expirationSeconds": 599}, "spec.expirationSeconds", "less than 10 minutes"),
        ({"expirationSeconds": 2**33}, "spec.expirationSeconds", r"larger than 2^32 seconds"),
        ({"audiences": ["vault"]}, "spec.audiences[0]", 'Unsupported value: "vault"'),
        ({"boundObjectRef": {"kind": "Pod", "name": "p"}}, "spec.boundObjectRef", "Forbidden"),
    ],
)
async def test_what_is_refused(
    api: Api, robot: core.ServiceAccount, spec: dict[str, Any], field: str, message: str
) -> None:
    reply = await token_of(api, **spec)
    assert (reply.code, reply.reason) == (422, "Invalid")
    (cause,) = reply.body["details"]["causes"]
    assert cause["field"] == field
    assert message in cause["message"]


async def test_a_long_one_is_shortened_and_one_of_nobody_is_not_made(api: Api, robot: core.ServiceAccount) -> None:
    reply = await token_of(api, expirationSeconds=2**31)
    assert (reply.code, reply.body["spec"]["expirationSeconds"]) == (201, 365 * 86400)
    assert "shortened to 31536000 seconds" in reply.headers["Warning"]
    reply = await api.ask("POST", f"{ROBOT}2/token", {})
    assert (reply.code, reply.body["message"]) == (404, 'serviceaccounts "robot2" not found')
    assert (await api.ask("GET", f"{ROBOT}/token")).code == 405


async def test_it_ends_with_its_account(
    api: Api, cluster: MemoryCluster, robot: core.ServiceAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "BELIEVED_S", 0.0)
    token = (await token_of(api)).body["status"]["token"]
    assert (await ask(api, token, "/version")).code == 200
    cluster.remove(robot)
    reply = await ask(api, token, "/version")
    assert (reply.code, reply.reason) == (401, "Unauthorized")
    cluster.put(core.ServiceAccount(metadata=core.ObjectMeta(name="robot", namespace="default")))
    assert (await ask(api, token, "/version")).code == 401, "another one of the same name"


def may(verb: str, resource: str, namespace: str) -> bool:
    review = bodies.SelfSubjectAccessReview()
    wanted = review.spec.resourceAttributes
    wanted.verb, wanted.resource, wanted.namespace = verb, resource.partition("/")[0], namespace
    wanted.subresource = resource.partition("/")[2]
    body = enveloped("SelfSubjectAccessReview", review, "authorization.k8s.io/v1")
    row = reviews.BY_PARTS["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]
    return bool(reviews.read(row, reviews.Who("serviceaccount", WHO), OWN, PROTOBUF, body)["status"]["allowed"])


def test_what_it_may_is_told() -> None:
    assert may("list", "pods", "default")
    assert not may("list", "pods", "other")
    assert not may("list", "pods", "")
    assert not may("get", "secrets", "default")
    assert not may("create", "pods", "default")
    assert not may("get", "nodes", "")
    assert not may("create", "serviceaccounts/token", "default")
    row = reviews.BY_PARTS["apis", "authorization.k8s.io", "v1", "selfsubjectrulesreviews"]
    for namespace, some in (("default", True), ("other", False)):
        review = bodies.SelfSubjectRulesReview(spec=bodies.SelfSubjectRulesReviewSpec(namespace=namespace))
        body = enveloped("SelfSubjectRulesReview", review, "authorization.k8s.io/v1")
        status = reviews.read(row, reviews.Who("serviceaccount", WHO), OWN, PROTOBUF, body)["status"]
        told = [rule for rule in status["resourceRules"] if rule["apiGroups"] == [""]]
        assert bool(told) == some
        assert not status.get("incomplete", False)


async def test_a_token_of_this_cluster_counts_before_a_certificate(api: Api, robot: core.ServiceAccount) -> None:
    token = (await token_of(api)).body["status"]["token"]

    async def user(authorization: str) -> tuple[int, str]:
        reply = await api.ask(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {},
            headers={"Authorization": authorization},
        )
        return reply.code, reply.body["status"]["userInfo"]["username"] if reply.code == 201 else ""

    assert await user(f"Bearer {token}") == (201, "system:serviceaccount:default:robot")
    assert (await user(f"Bearer {token[:-6]}AAAAAA"))[0] == 401, "it does not fall back to more rights"
    for foreign in ("Bearer something-else", "Basic dXNlcjpwYXNz", f"Bearer {'x' * 5000}"):
        assert await user(foreign) == (201, "admin")
