"""What a path names, and what it cannot be made to name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest, NotFound
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.paths import NoSuchPath, parts_of, refuse_not_served, target_of


@pytest.mark.parametrize(
    ("path", "kind", "namespace", "name", "subresource"),
    [
        ("/api/v1/pods", "Pod", "", "", ""),
        ("/api/v1/pods/", "Pod", "", "", ""),
        ("/api/v1/namespaces/ns/pods", "Pod", "ns", "", ""),
        ("/api/v1/namespaces/ns/pods/web", "Pod", "ns", "web", ""),
        ("/api/v1/namespaces/ns/pods/web/eviction", "Pod", "ns", "web", "eviction"),
        ("/api/v1/namespaces/ns/replicationcontrollers/web/scale", "ReplicationController", "ns", "web", "scale"),
        ("/api/v1/nodes/node-1/status", "Node", "", "node-1", "status"),
        ("/api/v1/namespaces", "Namespace", "", "", ""),
        ("/api/v1/namespaces/ns", "Namespace", "", "ns", ""),
        ("/api/v1/namespaces/ns/status", "Namespace", "", "ns", "status"),
        ("/apis/policy/v1/namespaces/ns/poddisruptionbudgets/b", "PodDisruptionBudget", "ns", "b", ""),
        ("/apis/scheduling.k8s.io/v1/priorityclasses/high", "PriorityClass", "", "high", ""),
        ("/api/v1/namespaces/ns/pods/a%20b", "Pod", "ns", "a b", ""),
    ],
)
def test_what_a_path_names(path: str, kind: str, namespace: str, name: str, subresource: str) -> None:
    target = target_of(parts_of(path), OWN)
    assert (target.resource.kind.name, target.namespace, target.name, target.subresource) == (
        kind,
        namespace,
        name,
        subresource,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/pods",
        "/apis/v1/pods",
        "/apis/policy/v1/pods",
        "/api/v1/nothing",
        "/api/v1/pods/web",
        "/api/v1/namespaces/ns/nodes/n",
        "/api/v1/namespaces/ns/pods/web/status/more",
        "/api/v1/namespaces/ns/nothing/web",
        "/secrets",
    ],
)
def test_what_is_not_served(path: str) -> None:
    with pytest.raises(NoSuchPath):
        target_of(parts_of(path), OWN)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/ns%2fpods/pods",
        "/api/v1/namespaces/../secrets",
        "/api/v1/namespaces/%2e%2e/secrets",
        "/api/v1/./pods",
        "/api/v1/namespaces/a%00b/pods",
        "/api/v1/namespaces/a%0d%0ab/pods",
        "/api/v1/namespaces/%ff/pods",
        "/api/v1/namespaces/%zz/pods",
        "/api/v1/namespaces/default/pods/%4",
        "/api/v1/namespaces/default/pods/%",
        "/" + "a" * 5000,
    ],
)
def test_tricks_are_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        parts_of(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/v1/nodes/n1/proxy", "nodes/proxy is not served"),
        ("/api/v1/nodes/n1/proxy/metrics", "nodes/proxy is not served"),
        ("/api/v1/namespaces/ns/pods/web/ephemeralcontainers", "pods/ephemeralcontainers is not served"),
    ],
)
def test_what_kubernetes_has_at_a_path_and_podium_has_not_is_explained(path: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        refuse_not_served(parts_of(path))


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nodes/proxy",
        "/api/v1/namespaces/nodes/pods/proxy",
        "/api/v1/namespaces/ns/pods/ephemeralcontainers",
        "/apis/example.com/v1/nodes/n1/proxy",
    ],
)
def test_what_only_looks_like_it_is_not_refused(path: str) -> None:
    refuse_not_served(parts_of(path))


@given(st.text(max_size=60))
def test_no_path_does_anything_but_name_something_or_nothing(text: str) -> None:
    try:
        target = target_of(parts_of(f"/api/v1/namespaces/{text}"), OWN)
    except (NoSuchPath, BadRequest):
        return
    assert "/" not in target.name
    assert "/" not in target.namespace
