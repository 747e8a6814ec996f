"""Services on a terminal: where they answer, how they are made of what runs, and what is said of them."""

from __future__ import annotations

import click
import pytest

from cluster.api.defaults import apply_defaults
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.validation import validate
from cluster.cli import describe_service
from cluster.cli.exits import CommandError
from cluster.cli.expose import _numbers, service_for
from cluster.cli.printers import table
from cluster.cli.urls import endpoint_urls, scheme_of, urls_of
from cluster.pb.v1 import core_pb2 as core


def service(type: str = "ClusterIP", *ports: core.ServicePort, **spec: object) -> core.Service:
    made = core.Service(
        metadata=core.ObjectMeta(name="web", namespace="default"),
        spec=core.ServiceSpec(type=type, ports=ports, **{"clusterIP": "127.7.1.4", **spec}),  # type: ignore[arg-type]
    )
    apply_defaults(made)
    return made


def port(number: int, name: str = "", **more: object) -> core.ServicePort:
    return core.ServicePort(port=number, name=name or None, **more)  # type: ignore[arg-type]


def endpoints(*ips: str, leaving: tuple[str, ...] = (), **ports: int) -> core.Endpoints:
    subset = core.EndpointSubset(
        addresses=[core.EndpointAddress(ip=ip, labels={"podium.dev/shard": ip[-1]}) for ip in ips],
        terminatingAddresses=[core.EndpointAddress(ip=ip) for ip in leaving],
        ports=[core.EndpointPort(name=name, port=number, protocol="TCP") for name, number in ports.items()],
    )
    return core.Endpoints(metadata=core.ObjectMeta(name="web", namespace="default"), subsets=[subset])


@pytest.mark.parametrize(
    ("asked", "scheme"),
    [
        (port(80), "http"),
        (port(9000), "http"),
        (port(9000, "metrics"), "tcp"),
        (port(443, "x"), "https"),
        (port(6379, "x"), "redis"),
        (port(9000, "grpc-api"), "grpc"),
        (port(9000, "x", appProtocol="kubernetes.io/h2c"), "http"),
        (port(9000, "x", appProtocol="kubernetes.io/wss"), "wss"),
        (port(9000, "http", appProtocol="postgresql"), "postgresql"),
        (port(9000, "http", appProtocol="example.com/own"), "tcp"),
        (port(53, "http", protocol="UDP"), "udp"),
    ],
)
def test_the_scheme_is_what_the_port_says(asked: core.ServicePort, scheme: str) -> None:
    assert scheme_of(asked) == scheme


def test_each_type_has_its_urls() -> None:
    ports = (port(80, "http"), port(5432, "db"))
    assert urls_of(service("ClusterIP", *ports)) == ["http://127.7.1.4", "postgresql://127.7.1.4:5432"]
    assert urls_of(service("NodePort", port(80, nodePort=30080))) == ["http://127.0.0.1:30080"]
    assert urls_of(service("ClusterIP", *ports, clusterIP="None")) == []
    outside = service("ExternalName", port(8443, "https"), externalName="db.example.", clusterIP="")
    assert urls_of(outside) == ["https://db.example:8443"]
    web = service("ClusterIP", *ports)
    assert urls_of(web, ports=[web.spec.ports[1]]) == ["postgresql://127.7.1.4:5432"]
    assert endpoint_urls(endpoints("127.7.16.1", "127.7.16.2", leaving=("127.7.16.3",), db=5000), web.spec.ports) == [
        "postgresql://127.7.16.1:5000",
        "postgresql://127.7.16.2:5000",
    ]


def columns(obj: core.Service) -> list[str]:
    return table(BY_NAME["Service"], [obj], 0.0, wide=True, headers=False).split()


def test_columns_are_kubectls() -> None:
    assert columns(service("NodePort", port(80, nodePort=30080), selector={"app": "web"})) == [
        *("web", "NodePort", "127.7.1.4", "<none>", "80:30080/TCP", "<unknown>", "app=web")
    ]
    assert columns(service("ExternalName", externalName="db.example", clusterIP="")) == [
        *("web", "ExternalName", "<none>", "db.example", "<none>", "<unknown>", "<none>")
    ]
    headless = service("ClusterIP", port(53, "a"), port(53, "b", protocol="UDP"), clusterIP="None")
    assert columns(headless)[2:5] == ["None", "<none>", "53/TCP,53/UDP"]


def told(obj: core.Service, found: core.Endpoints | None = None) -> dict[str, str]:
    lines = (line.partition(":") for line in describe_service.service(obj, found))
    return {title.strip(): value.strip() for title, _, value in lines}


def test_a_description_tells_of_ports_and_who_is_behind_them() -> None:
    web = service(
        "NodePort",
        port(80, "http", nodePort=30080, targetPort=core.IntOrString(type=1, strVal="web")),
        sessionAffinity="ClientIP",
        trafficDistribution="PreferSameZone",
    )
    lines = told(web, endpoints("127.7.16.1", "127.7.16.2", leaving=("127.7.16.9",), http=8080))
    assert lines == {
        "Selector": "<none>",
        "Type": "NodePort",
        "IP": "127.7.1.4",
        "Port": "http  80/TCP",
        "TargetPort": "web/TCP",
        "NodePort": "http  30080/TCP",
        "Endpoints": "127.7.16.1:8080,127.7.16.2:8080",
        "Terminating": "127.7.16.9:8080",
        "Shards": "1, 2",
        "URL": "http://127.0.0.1:30080",
        "Session Affinity": "ClientIP (10800 s)",
        "Traffic Distribution": "PreferSameZone",
    }
    assert told(service("ClusterIP", port(80)))["Endpoints"] == "<none>"
    many = endpoints(*(f"127.7.16.{n}" for n in range(1, 14)), http=1)
    assert told(web, many)["Endpoints"].endswith("127.7.16.10:1 + 3 more...")


def test_a_description_of_what_is_outside_or_headless() -> None:
    outside = told(service("ExternalName", externalName="db.example", clusterIP=""))
    assert (outside["External Name"], "Endpoints" in outside, "IP" in outside) == ("db.example", False, False)
    headless = told(service("ClusterIP", clusterIP="None"), endpoints("127.7.16.1"))
    assert (headless["IP"], headless["Endpoints"]) == ("None", "127.7.16.1")


def test_manual_endpoints_say_what_they_know() -> None:
    found = endpoints("127.7.16.1", leaving=("127.7.16.2",), http=80)
    found.subsets[0].addresses[0].hostname = "db-0"
    lines = list(describe_service.endpoints(found))
    assert lines[1].split(None, 1)[1] == "127.7.16.1 (db-0)"
    assert any(line.strip().startswith("Terminating:") and line.endswith("127.7.16.2") for line in lines)


def pod(*ports: tuple[int, str]) -> core.Pod:
    declared = [core.ContainerPort(containerPort=number, protocol=protocol) for number, protocol in ports]
    return core.Pod(
        metadata=core.ObjectMeta(name="web", namespace="ns", labels={"app": "web"}),
        spec=core.PodSpec(containers=[core.Container(name="c", command=["x"], ports=declared)]),
    )


def ports_of(made: core.Service) -> list[tuple[str, int, str, int | str]]:
    apply_defaults(made)
    assert validate(made) == []
    return [(p.name, p.port, p.protocol, p.targetPort.strVal or p.targetPort.intVal) for p in made.spec.ports]


def test_a_pod_is_exposed_by_what_it_declares() -> None:
    made = service_for(pod((8080, "TCP"), (53, "UDP"), (8080, "TCP")))
    assert (made.metadata.name, made.metadata.namespace, dict(made.metadata.labels)) == ("web", "ns", {"app": "web"})
    assert dict(made.spec.selector) == {"app": "web"}
    assert ports_of(made) == [("port-1", 8080, "TCP", 8080), ("port-2", 53, "UDP", 53)]


def test_what_is_said_wins() -> None:
    made = service_for(
        pod((8080, "TCP"), (53, "UDP")), name="x", ports=[80, 53], target_port="http", selector={"a": "b"}
    )
    assert (made.metadata.name, dict(made.spec.selector)) == ("x", {"a": "b"})
    assert ports_of(made) == [("port-1", 80, "TCP", "http"), ("port-2", 53, "UDP", "http")]
    assert ports_of(service_for(pod(), ports=[53], protocol="UDP")) == [("", 53, "UDP", 53)]


def test_a_controller_and_a_service_are_exposed_by_their_selector() -> None:
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="web", namespace="ns"))
    rc.spec.selector["app"] = "web"
    rc.spec.template.spec.CopyFrom(pod((8080, "TCP")).spec)
    assert ports_of(service_for(rc)) == [("", 8080, "TCP", 8080)]
    target = core.IntOrString(type=1, strVal="web")
    other = service("NodePort", port(80, nodePort=30080, targetPort=target), selector={"app": "web"})
    made = service_for(other, name="again")
    assert ports_of(made) == [("", 80, "TCP", "web")]
    assert not made.spec.ports[0].nodePort


@pytest.mark.parametrize(
    ("exposed", "why"),
    [
        (pod(), "declares no port: name one with --port"),
        (core.Pod(metadata=core.ObjectMeta(name="web")), "has no labels to select by"),
        (service("ExternalName", externalName="db.example"), "has no labels to select by"),
    ],
)
def test_what_cannot_be_exposed(exposed: AnyObject, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        service_for(exposed)


@pytest.mark.parametrize("text", ["x", "80,", "0", "65536", "-1"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="write a number from 1 to 65535"):
        _numbers(text)
