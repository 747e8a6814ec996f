"""The Kubernetes DNS specification, form by form."""

from __future__ import annotations

import dns.flags
import pytest

from tests.unit.proxy.dns.scene import Scene, endpoints, said, service

PORTS = (("http", "TCP", 80), ("dns", "UDP", 53), ("", "TCP", 99))
PODS = (("127.28.16.1", "web-0"), ("127.28.16.2", "web-1"), ("127.28.17.1", ""))
SERVED = (("http", "TCP", 8080), ("dns", "UDP", 5353), ("", "TCP", 99))

WITH_ADDRESS = [
    ("dns-version", "TXT", ['"1.1.0"']),
    ("web.default.svc", "A", ["127.28.1.1"]),
    ("web.default.svc", "AAAA", ["NODATA"]),
    ("web.default.svc", "CNAME", ["NODATA"]),
    ("web.default.svc", "SRV", ["NODATA"]),
    ("_http._tcp.web.default.svc", "SRV", ["0 100 80 web.default.svc.cluster.local."]),
    ("_dns._udp.web.default.svc", "SRV", ["0 100 53 web.default.svc.cluster.local."]),
    ("_http._tcp.web.default.svc", "A", ["NODATA"]),
    ("_http._udp.web.default.svc", "SRV", ["NXDOMAIN"]),
    ("_99._tcp.web.default.svc", "SRV", ["NXDOMAIN"]),
    ("_tcp.web.default.svc", "SRV", ["NODATA"]),
    ("web-0.web.default.svc", "A", ["NXDOMAIN"]),
    ("1.1.28.127.in-addr.arpa.", "PTR", ["web.default.svc.cluster.local."]),
    ("1.16.28.127.in-addr.arpa.", "PTR", ["NXDOMAIN"]),
    ("2.1.28.127.in-addr.arpa.", "PTR", ["NXDOMAIN"]),
    ("1.28.127.in-addr.arpa.", "PTR", ["NODATA"]),
    ("web.other.svc", "A", ["NXDOMAIN"]),
    ("web.default", "A", ["NXDOMAIN"]),
    ("default.svc", "A", ["NODATA"]),
    ("other.svc", "A", ["NXDOMAIN"]),
    ("svc", "A", ["NODATA"]),
    ("pod", "A", ["NODATA"]),
    ("cluster.local.", "A", ["NODATA"]),
    ("cluster.local.", "NS", ["ns.dns.cluster.local."]),
    ("ns.dns", "A", ["127.28.0.253"]),
    ("dns", "A", ["NODATA"]),
    ("example.com.", "A", ["REFUSED"]),
    ("local.", "A", ["REFUSED"]),
    (".", "NS", ["REFUSED"]),
    ("1.0.0.127.in-addr.arpa.", "PTR", ["REFUSED"]),
    ("xcluster.local.", "A", ["REFUSED"]),
]


@pytest.mark.parametrize(("name", "type_", "expected"), WITH_ADDRESS, ids=lambda value: str(value))
def test_a_service_with_an_address(name: str, type_: str, expected: list[str]) -> None:
    scene = Scene().put(service(ports=PORTS), endpoints(*PODS, ports=SERVED))
    assert scene.tell(name, type_) == expected


HEADLESS = [
    ("web.default.svc", "A", ["127.28.16.1", "127.28.16.2", "127.28.17.1"]),
    ("web.default.svc", "AAAA", ["NODATA"]),
    ("web-0.web.default.svc", "A", ["127.28.16.1"]),
    ("web-1.web.default.svc", "A", ["127.28.16.2"]),
    ("127-28-17-1.web.default.svc", "A", ["127.28.17.1"]),
    ("127-28-16-1.web.default.svc", "A", ["NXDOMAIN"]),
    ("web-9.web.default.svc", "A", ["NXDOMAIN"]),
    (
        "_http._tcp.web.default.svc",
        "SRV",
        [
            "0 100 8080 127-28-17-1.web.default.svc.cluster.local.",
            "0 100 8080 web-0.web.default.svc.cluster.local.",
            "0 100 8080 web-1.web.default.svc.cluster.local.",
        ],
    ),
    ("_dns._udp.web-0.web.default.svc", "SRV", ["NXDOMAIN"]),
    ("1.16.28.127.in-addr.arpa.", "PTR", ["web-0.web.default.svc.cluster.local."]),
    ("1.17.28.127.in-addr.arpa.", "PTR", ["127-28-17-1.web.default.svc.cluster.local."]),
]


@pytest.mark.parametrize(("name", "type_", "expected"), HEADLESS, ids=lambda value: str(value))
def test_a_headless_service(name: str, type_: str, expected: list[str]) -> None:
    scene = Scene().put(service(ip="None", ports=PORTS), endpoints(*PODS, ports=SERVED))
    assert scene.tell(name, type_) == expected


def test_each_named_port_of_each_endpoint_has_an_srv_record() -> None:
    several = endpoints(*PODS[:2], ports=SERVED)
    more = several.subsets.add()
    more.addresses.add(ip="127.28.16.9", hostname="web-9")
    more.ports.add(name="http", port=9090)
    scene = Scene().put(service(ip="None", ports=PORTS), several)
    assert scene.tell("_http._tcp.web.default.svc", "SRV") == [
        "0 100 8080 web-0.web.default.svc.cluster.local.",
        "0 100 8080 web-1.web.default.svc.cluster.local.",
        "0 100 9090 web-9.web.default.svc.cluster.local.",
    ]
    assert len(scene.tell("_dns._udp.web.default.svc", "SRV")) == 2


def test_a_headless_service_without_a_ready_endpoint_has_no_name() -> None:
    scene = Scene().put(service(ip="None"), endpoints(not_ready=PODS))
    for name in ("web.default.svc", "web-0.web.default.svc", "_http._tcp.web.default.svc", "1.16.28.127.in-addr.arpa."):
        for type_ in ("A", "SRV", "PTR"):
            assert scene.tell(name, type_) == ["NXDOMAIN"]
    scene.put(endpoints(PODS[0], not_ready=PODS[1:]))
    assert scene.tell("web.default.svc") == ["127.28.16.1"]
    assert scene.tell("web-1.web.default.svc") == ["NXDOMAIN"]


def test_not_ready_endpoints_count_if_the_service_says_so() -> None:
    scene = Scene().put(service(ip="None", publish_all=True), endpoints(PODS[0], not_ready=PODS[1:]))
    assert scene.tell("web.default.svc") == ["127.28.16.1", "127.28.16.2", "127.28.17.1"]
    assert scene.tell("2.16.28.127.in-addr.arpa.", "PTR") == ["web-1.web.default.svc.cluster.local."]


def test_an_address_of_several_headless_services_has_several_names() -> None:
    scene = Scene()
    for name in ("a", "b"):
        scene.put(service(name, ip="None"), endpoints(("127.28.16.1", "x"), name=name))
    both = ["x.a.default.svc.cluster.local.", "x.b.default.svc.cluster.local."]
    assert scene.tell("1.16.28.127.in-addr.arpa.", "PTR") == both
    scene.remove(service("a"))
    assert scene.tell("1.16.28.127.in-addr.arpa.", "PTR") == both[1:]


def test_an_external_name_stands_for_another() -> None:
    scene = Scene().put(service("db", external="db.example.com"))
    for type_ in ("A", "CNAME", "SRV", "ANY"):
        assert scene.tell("db.default.svc", type_) == ["db.example.com."]
    assert scene.tell("x.db.default.svc") == ["NXDOMAIN"]


def test_an_external_name_within_the_cluster_is_followed() -> None:
    scene = Scene().put(service(), service("alias", external="web.default.svc.cluster.local"))
    assert said(scene.ask("alias.default.svc")) == ["web.default.svc.cluster.local.", "127.28.1.1"]
    scene.put(service(ip="127.28.1.9"))
    assert said(scene.ask("alias.default.svc")) == ["web.default.svc.cluster.local.", "127.28.1.9"], "nothing was kept"
    scene.remove(service())
    answer = scene.ask("alias.default.svc")
    assert (said(answer), answer.rcode()) == (["web.default.svc.cluster.local."], 3)


def test_external_names_that_go_round_in_a_circle_end() -> None:
    scene = Scene()
    scene.put(
        service("a", external="b.default.svc.cluster.local"), service("b", external="a.default.svc.cluster.local")
    )
    assert set(said(scene.ask("a.default.svc"))) == {f"{each}.default.svc.cluster.local." for each in "ab"}


PODS_OF = [
    ("127-28-16-1.default.pod", ["127.28.16.1"]),
    ("127-28-16-1.other.pod", ["NXDOMAIN"]),
    ("127-28-16-256.default.pod", ["NXDOMAIN"]),
    ("127-28-16-01.default.pod", ["NXDOMAIN"]),
    ("127-28-16.default.pod", ["NXDOMAIN"]),
    ("x.127-28-16-1.default.pod", ["NXDOMAIN"]),
    ("web-0.default.pod", ["NXDOMAIN"]),
    ("default.pod", ["NODATA"]),
]


@pytest.mark.parametrize(("name", "expected"), PODS_OF, ids=lambda value: str(value))
def test_names_of_pods(name: str, expected: list[str]) -> None:
    assert Scene().tell(name) == expected
    assert Scene().tell(name, "AAAA") == (["NODATA"] if expected[0][0] != "N" or expected == ["NODATA"] else expected)
    assert Scene(pod_names="disabled").tell(name) == (expected if expected == ["NODATA"] else ["NXDOMAIN"])


def test_names_of_pods_can_be_verified() -> None:
    scene = Scene(pod_names="verified")
    name = "127-28-16-1.default.pod"
    assert scene.tell(name) == ["NXDOMAIN"]
    for before, after, expected in (
        ("", "127.28.16.1", "127.28.16.1"),
        ("127.28.16.1", "127.28.16.1", "127.28.16.1"),
        ("127.28.16.1", "127.28.16.2", "NXDOMAIN"),
    ):
        scene.responder.forget(scene.zone.move_pod("default", before, after))
        assert scene.tell(name) == [expected]
    scene.responder.forget(scene.zone.move_pod("default", "127.28.16.2", ""))
    assert scene.tell("127-28-16-2.default.pod") == ["NXDOMAIN"]


def test_a_negative_answer_says_how_long_it_holds() -> None:
    scene = Scene(ttl_s=7).put(service())
    for name, zone in (("no.default.svc", "cluster.local."), ("9.9.28.127.in-addr.arpa.", "28.127.in-addr.arpa.")):
        answer = scene.ask(name)
        assert not answer.answer
        (soa,) = answer.authority
        assert soa.name.to_text() == zone
        assert (soa.ttl, soa[0].minimum) == (7, 7)
        assert answer.flags & dns.flags.AA
    assert scene.ask("web.default.svc").answer[0].ttl == 7
    first = scene.ask("cluster.local.", "SOA").answer[0][0].serial
    scene.put(service("other"))
    assert scene.ask("cluster.local.", "SOA").answer[0][0].serial > first


def test_who_asks_for_a_port_gets_the_addresses_along() -> None:
    scene = Scene().put(service(ip="None"), endpoints(*PODS))
    answer = scene.ask("_http._tcp.web.default.svc", "SRV")
    assert {rrset.name.to_text(): rrset[0].to_text() for rrset in answer.additional} == {
        "web-0.web.default.svc.cluster.local.": "127.28.16.1",
        "web-1.web.default.svc.cluster.local.": "127.28.16.2",
        "127-28-17-1.web.default.svc.cluster.local.": "127.28.17.1",
    }


def test_what_cannot_be_a_name_or_an_address_is_left_out() -> None:
    odd = endpoints(("127.28.16.1", "ok"), ("::1", "v6"), ("nowhere", "x"), ("127.28.16.2", "x" * 64))
    scene = Scene().put(service(ip="None"), odd)
    assert scene.tell("web.default.svc") == ["127.28.16.1"]
    assert scene.put(service("e", external="..")).tell("e.default.svc") == ["NXDOMAIN"]
    assert scene.put(service("p", ip="")).tell("p.default.svc") == ["NXDOMAIN"]


def test_another_domain() -> None:
    scene = Scene(domain="corp.example").put(service())
    assert scene.tell("web.default.svc.corp.example.") == ["127.28.1.1"]
    assert scene.tell("web.default.svc.cluster.local.") == ["REFUSED"]
