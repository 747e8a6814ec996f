"""Routes out of services and endpoints, and what a change makes necessary."""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core
from proxy.balancer import Target
from proxy.routing import Changes, RouteKey, RoutingTable, ServiceName, routes_of, unserved_ports

WEB = ServiceName("default", "web")


def service(ip: str = "127.9.1.1", *ports: core.ServicePort, **spec: object) -> core.Service:
    return core.Service(
        metadata=core.ObjectMeta(namespace="default", name="web"),
        spec=core.ServiceSpec(clusterIP=ip, ports=ports or [port(80)], **spec),  # type: ignore[arg-type]
    )


def port(number: int, name: str = "", protocol: str = "TCP") -> core.ServicePort:
    return core.ServicePort(name=name, port=number, protocol=protocol)


def subset(*ips: str, not_ready: tuple[str, ...] = (), **ports: int) -> core.EndpointSubset:
    """Ports by name; `_` is the port without a name."""
    return core.EndpointSubset(
        addresses=[core.EndpointAddress(ip=ip) for ip in ips],
        notReadyAddresses=[core.EndpointAddress(ip=ip) for ip in not_ready],
        ports=[
            core.EndpointPort(name="" if name == "_" else name, port=number, protocol="TCP")
            for name, number in ports.items()
        ],
    )


def endpoints(*subsets: core.EndpointSubset) -> core.Endpoints:
    return core.Endpoints(metadata=core.ObjectMeta(namespace="default", name="web"), subsets=subsets)


def test_only_ready_endpoints_at_the_pods_own_ports() -> None:
    (route,) = routes_of(
        WEB,
        service(),
        endpoints(subset("127.9.16.2", "127.9.16.1", not_ready=("127.9.16.3",), _=8080), subset("127.9.17.1", _=9090)),
    )
    assert route.key == RouteKey(WEB, "80")
    assert route.listen == Target("127.9.1.1", 80)
    assert route.targets == (Target("127.9.16.1", 8080), Target("127.9.16.2", 8080), Target("127.9.17.1", 9090))
    assert route.affinity_timeout_s is None


def test_several_ports_are_matched_by_name() -> None:
    http, admin = routes_of(
        WEB,
        service("127.9.1.1", port(80, "http"), port(81, "admin")),
        endpoints(subset("127.9.16.1", http=8080, admin=8081), subset("127.9.16.2", http=9090)),
    )
    assert http.key == RouteKey(WEB, "http")
    assert http.targets == (Target("127.9.16.1", 8080), Target("127.9.16.2", 9090))
    assert admin.targets == (Target("127.9.16.1", 8081),)


def test_headless_and_addressless_services_have_no_route() -> None:
    assert routes_of(WEB, service("None"), endpoints()) == []
    assert routes_of(WEB, service(""), endpoints()) == []
    assert routes_of(WEB, None, endpoints(subset("127.9.16.1", _=8080))) == []


def test_a_node_port_is_listened_for_on_the_machine_too() -> None:
    web = service(
        "127.9.1.1",
        core.ServicePort(name="http", port=80, protocol="TCP", nodePort=30080),
        port(53, "dns", "SCTP"),
        type="NodePort",
    )
    routes = routes_of(WEB, web, endpoints(subset("127.9.16.1", http=8080)))
    assert [(str(route.key), route.listen) for route in routes] == [
        ("default/web:http", Target("127.9.1.1", 80)),
        ("default/web:http:30080", Target("127.0.0.1", 30080)),
    ]
    assert {route.targets for route in routes} == {(Target("127.9.16.1", 8080),)}
    table = RoutingTable()
    assert len(table.set_service(WEB, web).open) == 2
    web.spec.ports[0].nodePort = 30081
    changes = table.set_service(WEB, web)
    assert [key.port for key in changes.close] == ["http:30080"]
    assert [route.listen.port for route in changes.open] == [30081]


def test_a_service_that_stands_for_something_outside_has_no_route() -> None:
    outside = service("", type="ExternalName", externalName="db.example")
    assert routes_of(WEB, outside, endpoints(subset("127.9.16.1", _=8080))) == []
    assert unserved_ports(outside) == []


def test_other_protocols_are_not_served_and_named() -> None:
    dns = service("127.9.1.1", port(53, "dns", "UDP"), port(53, "dns-tcp"), port(53, "other", "SCTP"))
    assert [(route.key.port, route.protocol) for route in routes_of(WEB, dns, None)] == [
        ("dns", "UDP"),
        ("dns-tcp", "TCP"),
    ]
    assert [unserved.name for unserved in unserved_ports(dns)] == ["other"]


def test_affinity_and_its_default_time() -> None:
    (route,) = routes_of(WEB, service(sessionAffinity="ClientIP"), None)
    assert route.affinity_timeout_s == 10800
    config = core.SessionAffinityConfig(clientIP=core.ClientIPConfig(timeoutSeconds=7))
    (route,) = routes_of(WEB, service(sessionAffinity="ClientIP", sessionAffinityConfig=config), None)
    assert route.affinity_timeout_s == 7


def test_a_life_of_a_service() -> None:
    table = RoutingTable()
    key = RouteKey(WEB, "80")
    assert not table.set_endpoints(WEB, endpoints(subset("127.9.16.1", _=8080)))
    opened = table.set_service(WEB, service())
    assert [(route.key, route.targets) for route in opened.open] == [(key, (Target("127.9.16.1", 8080),))]
    assert (opened.close, opened.update) == ((), ())
    assert len(table) == 1

    assert not table.set_service(WEB, service()), "nothing new"
    updated = table.set_endpoints(WEB, endpoints(subset("127.9.16.2", _=8080)))
    assert [(route.key, route.targets) for route in updated.update] == [(key, (Target("127.9.16.2", 8080),))]
    assert (updated.close, updated.open) == ((), ())

    emptied = table.set_endpoints(WEB, None)
    assert [route.targets for route in emptied.update] == [()]

    assert table.set_service(WEB, None) == Changes(close=(key,))
    assert len(table) == 0
    assert not table.set_service(WEB, None)


def test_an_address_that_moves_is_closed_and_opened() -> None:
    table = RoutingTable()
    table.set_service(WEB, service("127.9.1.1", port(80, "http"), port(81, "admin")))
    changes = table.set_service(WEB, service("127.9.1.1", port(8080, "http"), port(81, "admin")))
    assert changes.close == (RouteKey(WEB, "http"),)
    assert [route.listen.port for route in changes.open] == [8080]
    assert changes.update == ()
