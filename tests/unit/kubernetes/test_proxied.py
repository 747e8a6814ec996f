"""Where a proxied request goes, and with which headers."""

from __future__ import annotations

import random

import pytest

from cluster.api.errors import BadRequest, Unavailable
from cluster.kubernetes.proxied import Wanted, endpoint_of, forwarded, port_of, returned, upgrade_of, wanted_of
from cluster.pb.v1 import core_pb2 as core

ROOT = "/api/v1/namespaces/default"


@pytest.mark.parametrize(
    ("path", "kind", "name", "port", "rest"),
    [
        ("/pods/web/proxy", "pods", "web", "", "/"),
        ("/pods/web/proxy/", "pods", "web", "", "/"),
        ("/pods/web:8080/proxy/a/b", "pods", "web", "8080", "/a/b"),
        ("/services/https:web:443/proxy", "services", "web", "443", "/"),
        ("/pods/http:web:8080/proxy/a//b%2Fc/../d", "pods", "web", "8080", "/a//b/c/../d"),
        ("/pods/web/proxy/a%20b%252F", "pods", "web", "", "/a%20b%252F"),
        ("/services/web:http/proxy/proxy/x", "services", "web", "http", "/proxy/x"),
        ("/services/:web:/proxy", "services", "web", "", "/"),
    ],
)
def test_what_a_path_asks_for(path: str, kind: str, name: str, port: str, rest: str) -> None:
    prefix = f"{ROOT}{path}".partition("/proxy")[0] + "/proxy"
    tls = "/https:" in path
    assert wanted_of(f"{ROOT}{path}") == Wanted(kind, "default", name, port, prefix, rest, tls=tls)


@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/pods/web",
        f"{ROOT}/pods/web/log",
        f"{ROOT}/pods/web/proxyx",
        f"{ROOT}/configmaps/web/proxy",
        "/api/v1/nodes/n1/proxy/",
        "/api/v1/pods/web/proxy",
        f"{ROOT}/pods/a/b/proxy/",
        f"/x{ROOT}/pods/web/proxy/",
    ],
)
def test_what_is_not_proxied(path: str) -> None:
    assert wanted_of(path) is None


@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/pods/ftp:web:80/proxy",
        f"{ROOT}/pods/a:b:c:d/proxy",
        f"{ROOT}/pods/:80/proxy",
        f"{ROOT}/pods/../proxy",
        f"{ROOT}/pods/%2e%2e/proxy",
        f"{ROOT}/pods/a%2Fb/proxy",
        "/api/v1/namespaces/%2e%2e/pods/web/proxy/",
        f"{ROOT}/pods/web/proxy/\x01",
        f"{ROOT}/pods/web/proxy/" + "x" * 5000,
    ],
)
def test_tricks_are_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        wanted_of(path)


def test_the_port_of_a_pod() -> None:
    pod = core.Pod(metadata=core.ObjectMeta(name="web"))
    assert port_of(pod, "") == 80
    pod.spec.containers.add(name="a")
    pod.spec.containers.add(name="b").ports.add(containerPort=8080)
    assert port_of(pod, "") == 8080
    assert port_of(pod, "99") == 99
    for bad in ("0", "65536", "http", "-1", "9999999999", "000000199999", "00000199999"):
        with pytest.raises(BadRequest, match="a port is a number"):
            port_of(pod, bad)


def service() -> core.Service:
    found = core.Service(metadata=core.ObjectMeta(name="web", namespace="default"))
    found.spec.ports.add(name="http", port=80)
    found.spec.ports.add(name="admin", port=81)
    return found


def endpoints() -> core.Endpoints:
    found = core.Endpoints()
    subset = found.subsets.add()
    subset.ports.add(name="http", port=8080)
    subset.ports.add(name="admin", port=8081)
    for number in (1, 2):
        subset.addresses.add(ip=f"127.0.9.{number}").targetRef.CopyFrom(
            core.ObjectReference(kind="Pod", name=f"web-{number}", namespace="default")
        )
    subset.notReadyAddresses.add(ip="127.0.9.3").targetRef.CopyFrom(core.ObjectReference(kind="Pod", name="web-3"))
    subset.addresses.add(ip="169.254.169.254")
    foreign = core.ObjectReference(kind="Pod", name="other", namespace="kube-system")
    subset.addresses.add(ip="127.0.9.4").targetRef.CopyFrom(foreign)
    return found


def test_only_ready_pods_of_the_namespace_are_behind_a_service() -> None:
    rng = random.Random(1)
    for wanted in ("http", "80"):
        found = {endpoint_of(service(), endpoints(), wanted, rng) for _ in range(50)}
        assert found == {("web-1", 8080), ("web-2", 8080)}
    assert endpoint_of(service(), endpoints(), "81", rng)[1] == 8081


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("", 'no endpoints available for service "web"'),
        ("nope", 'no endpoints available for service "web"'),
        ("000080123", "no service port 000080123 found"),
        ("82", 'no service port 82 found for service "web"'),
    ],
)
def test_no_endpoint(wanted: str, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        endpoint_of(service(), endpoints(), wanted, random.Random(1))
    with pytest.raises(Unavailable):
        endpoint_of(service(), None, "http", random.Random(1))


def test_credentials_and_headers_of_the_connection_stay_here() -> None:
    given = [
        ("Host", "127.1.0.251:6443"),
        ("Authorization", "Bearer secret"),
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "1"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "x"),
        ("Upgrade", "h2c"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Proto", "gopher"),
        ("Cookie", "a=b"),
        ("Content-Length", "3"),
    ]
    assert forwarded(given, "127.0.9.1:80", "/api/x", "127.0.0.1") == [
        ("Host", "127.0.9.1:80"),
        ("Cookie", "a=b"),
        ("Content-Length", "3"),
        ("X-Forwarded-For", "10.0.0.1, 127.0.0.1"),
        ("X-Forwarded-Host", "127.1.0.251:6443"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", "/api/x"),
    ]


@pytest.mark.parametrize(
    ("location", "becomes"),
    [
        ("/login?x=1", "/p/proxy/login?x=1"),
        ("http://127.0.9.1:80/login", "/p/proxy/login"),
        ("https://127.0.9.1:80/login", "/p/proxy/login"),
        ("http://example.com/login", "http://example.com/login"),
        ("//example.com/login", "//example.com/login"),
        ("next", "next"),
    ],
)
def test_redirections_stay_below(location: str, becomes: str) -> None:
    given = [("Location", location), ("Connection", "X-Own"), ("X-Own", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    assert returned(given, "127.0.9.1:80", "/p/proxy") == [
        ("Location", becomes),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
    ]


def test_upgrades() -> None:
    assert upgrade_of([("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]) == "websocket"
    assert upgrade_of([("Upgrade", "websocket")]) == ""
    assert upgrade_of([]) == ""
