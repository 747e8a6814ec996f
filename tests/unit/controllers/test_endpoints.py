"""From a service and pods to its Endpoints."""

from __future__ import annotations

from cluster.api.services import is_managed
from cluster.controllers.endpoints import (
    desired_endpoints,
    has_changed,
    matters,
    replacement,
)
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import meta, pod


def service(*ports: core.ServicePort, **spec: object) -> core.Service:
    return core.Service(
        metadata=meta("web", labels={"team": "a"}),
        spec=core.ServiceSpec(
            ports=ports or [port("http", 80, 8080)],
            selector={"app": "web"},
            clusterIP="127.1.1.1",
            **spec,  # type: ignore[arg-type]
        ),
    )


def port(name: str, number: int, target: int | str) -> core.ServicePort:
    wanted = (
        core.IntOrString(type=0, intVal=target) if isinstance(target, int) else core.IntOrString(type=1, strVal=target)
    )
    return core.ServicePort(name=name or None, protocol="TCP", port=number, targetPort=wanted)


def serving(name: str, ip: str, *, ready: bool = True, ports: dict[str, int] | None = None, **more: object) -> core.Pod:
    result = pod(name, ip=ip, node="n1", ready_since_s=1 if ready else None, **more)  # type: ignore[arg-type]
    for port_name, number in (ports or {}).items():
        result.spec.containers[0].ports.add(name=port_name, containerPort=number, protocol="TCP")
    return result


def shape(endpoints: core.Endpoints) -> list[tuple[list[str], list[str], list[str]]]:
    return [
        (
            [address.ip for address in subset.addresses],
            [address.ip for address in subset.notReadyAddresses],
            [f"{port.name}={port.port}" for port in subset.ports],
        )
        for subset in endpoints.subsets
    ]


def test_readiness_decides() -> None:
    pods = [serving("b", "10.0.0.10"), serving("a", "10.0.0.9"), serving("c", "10.0.0.2", ready=False)]
    assert shape(desired_endpoints(service(), pods)) == [(["10.0.0.9", "10.0.0.10"], ["10.0.0.2"], ["http=8080"])]


def test_who_does_not_count() -> None:
    pods = [
        serving("no-ip", ""),
        serving("foreign", "10.0.0.1", labels={"app": "db"}),
        serving("going", "10.0.0.2", terminating=True, ready=False),
        serving("done", "10.0.0.3", phase="Succeeded"),
        serving("failed", "10.0.0.4", phase="Failed", ready=False),
    ]
    assert shape(desired_endpoints(service(), pods)) == []


def test_who_serves_while_it_is_deleted_is_told_apart() -> None:
    pods = [
        serving("stays", "10.0.0.1", ports={"web": 8080}),
        serving("goes", "10.0.0.2", ports={"web": 8080}, terminating=True),
        serving("other", "10.0.0.3", ports={"web": 9090}, terminating=True),
        serving("sick", "10.0.0.4", ports={"web": 9090}, terminating=True, ready=False),
    ]
    wanted = desired_endpoints(service(port("http", 80, "web")), pods)
    assert shape(wanted) == [(["10.0.0.1"], [], ["http=8080"]), ([], [], ["http=9090"])]
    leaving = [[address.ip for address in subset.terminatingAddresses] for subset in wanted.subsets]
    assert leaving == [["10.0.0.2"], ["10.0.0.3"]]


def test_publish_not_ready_addresses() -> None:
    pods = [serving("a", "10.0.0.1", ready=False), serving("b", "10.0.0.2", terminating=True)]
    wanted = desired_endpoints(service(publishNotReadyAddresses=True), pods)
    assert shape(wanted) == [(["10.0.0.1", "10.0.0.2"], [], ["http=8080"])]


def test_named_ports_are_looked_up_in_each_pod() -> None:
    pods = [
        serving("old", "10.0.0.4", ports={"web": 8080}),
        serving("sick", "10.0.0.5", ports={"web": 8080}, ready=False),
        serving("new", "10.0.0.6", ports={"web": 9090}),
        serving("none", "10.0.0.7"),
    ]
    assert shape(desired_endpoints(service(port("http", 80, "web")), pods)) == [
        (["10.0.0.4"], ["10.0.0.5"], ["http=8080"]),
        (["10.0.0.6"], [], ["http=9090"]),
    ]


def test_a_pod_that_lacks_one_port_serves_the_others() -> None:
    both = service(port("http", 80, "web"), port("admin", 81, "admin"))
    pods = [serving("a", "10.0.0.1", ports={"web": 1, "admin": 2}), serving("b", "10.0.0.2", ports={"web": 1})]
    assert shape(desired_endpoints(both, pods)) == [
        (["10.0.0.1"], [], ["admin=2", "http=1"]),
        (["10.0.0.2"], [], ["http=1"]),
    ]


def test_protocols_tell_ports_of_one_name_apart() -> None:
    tcp, udp = port("dns-tcp", 53, "dns"), port("dns", 53, "dns")
    udp.protocol, tcp.appProtocol = "UDP", "podium.dev/dns"
    one = serving("a", "10.0.0.1")
    one.spec.containers[0].ports.add(name="dns", containerPort=1053, protocol="TCP")
    one.spec.containers[0].ports.add(name="dns", containerPort=2053, protocol="UDP")
    (subset,) = desired_endpoints(service(tcp, udp), [one]).subsets
    found = [(each.name, each.port, each.protocol, each.appProtocol) for each in subset.ports]
    assert found == [("dns", 2053, "UDP", ""), ("dns-tcp", 1053, "TCP", "podium.dev/dns")]


def test_a_pod_below_the_service_has_its_host_name() -> None:
    pods = [serving(name, f"10.0.0.{number}") for number, name in enumerate(("own", "elsewhere", "plain"), 1)]
    pods[0].spec.MergeFrom(core.PodSpec(hostname="db-0", subdomain="web"))
    pods[1].spec.MergeFrom(core.PodSpec(hostname="db-1", subdomain="other"))
    (subset,) = desired_endpoints(service(), pods).subsets
    assert [address.hostname for address in subset.addresses] == ["db-0", "", ""]


def test_without_target_the_port_itself_is_meant() -> None:
    plain = service(core.ServicePort(port=6379))
    assert shape(desired_endpoints(plain, [serving("a", "10.0.0.1")])) == [(["10.0.0.1"], [], ["=6379"])]


def test_headless_without_ports_lists_addresses() -> None:
    headless = service()
    del headless.spec.ports[:]
    headless.spec.clusterIP = "None"
    wanted = desired_endpoints(headless, [serving("a", "10.0.0.1")])
    assert shape(wanted) == [(["10.0.0.1"], [], [])]
    assert dict(wanted.metadata.labels) == {"team": "a", "service.kubernetes.io/headless": ""}


def test_an_address_tells_who_it_is() -> None:
    one = serving("a", "10.0.0.1", labels={"app": "web", "shard": "7"})
    one.metadata.annotations.update({"role": "primary", "kubectl.kubernetes.io/last-applied-configuration": "{}"})
    address = desired_endpoints(service(), [one]).subsets[0].addresses[0]
    assert dict(address.labels) == {"app": "web", "shard": "7"}
    assert dict(address.annotations) == {"role": "primary"}
    assert (address.nodeName, address.targetRef.kind, address.targetRef.name) == ("n1", "Pod", "a")
    assert (address.targetRef.uid, address.targetRef.resourceVersion) == ("uid-a", "")


def test_equal_facts_give_equal_objects_whatever_their_order() -> None:
    pods = [serving(f"p{i}", f"10.0.0.{i}", ready=i % 3 > 0) for i in range(1, 20)]
    first, second = desired_endpoints(service(), pods), desired_endpoints(service(), reversed(pods))
    assert not has_changed(first, second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_a_replacement_keeps_version_and_annotations() -> None:
    old = desired_endpoints(service(), [])
    old.metadata.resourceVersion = "7"
    old.metadata.annotations["mine"] = "1"
    old.metadata.labels["stale"] = "1"
    new = desired_endpoints(service(), [serving("a", "10.0.0.1")])
    assert has_changed(old, new)
    written = replacement(old, new)
    assert (written.metadata.resourceVersion, written.metadata.annotations["mine"]) == ("7", "1")
    assert not has_changed(written, new)


def test_services_without_selector_are_somebody_elses() -> None:
    plain = service()
    plain.spec.selector.clear()
    assert is_managed(service().spec)
    assert not is_managed(plain.spec)
    assert not is_managed(service(type="ExternalName", externalName="db.example").spec)


def test_which_changes_of_a_pod_matter() -> None:
    before = serving("a", "10.0.0.1")
    restarted = serving("a", "10.0.0.1", restarts=3)
    assert not matters(before, restarted)
    assert matters(None, before)
    assert matters(before, None)
    assert matters(before, serving("a", "10.0.0.1", ready=False))
    assert matters(before, serving("a", "10.0.0.2"))
    assert matters(before, serving("a", "10.0.0.1", terminating=True))
    assert matters(before, serving("a", "10.0.0.1", labels={"app": "x"}))
