"""What is told when it is applied."""

from __future__ import annotations

from cluster.api.caveats import caveats
from cluster.pb.v1 import core_pb2 as core


def test_a_host_port_is_a_reservation() -> None:
    spec = core.PodSpec()
    spec.containers.add(name="one").ports.add(containerPort=80)
    spec.containers.add(name="two").ports.add(containerPort=81, hostPort=8081)
    words = "8081 is reserved for the pod on its node, but not forwarded: the program itself is to listen there"
    assert caveats(core.Pod(spec=spec)) == [f"spec.containers[1].ports[0].hostPort: {words}"]
    controller = core.ReplicationController()
    controller.spec.template.spec.CopyFrom(spec)
    assert caveats(controller) == [f"spec.template.spec.containers[1].ports[0].hostPort: {words}"]


def test_a_host_port_of_an_init_container_is_not_even_that() -> None:
    spec = core.PodSpec()
    spec.initContainers.add(name="prepare").ports.add(containerPort=80, hostPort=8080)
    spec.initContainers.add(name="side", restartPolicy="Always").ports.add(containerPort=81, hostPort=8081)
    init, side = caveats(core.Pod(spec=spec))
    assert init.startswith("spec.initContainers[0].ports[0].hostPort: has no effect")
    assert side.startswith("spec.initContainers[1].ports[0].hostPort: 8081 is reserved")


def test_an_image_that_is_changed_too_late() -> None:
    def of(wanted: str, runs: str) -> list[str]:
        pod = core.Pod(spec=core.PodSpec(containers=[core.Container(name="one"), core.Container(name="two")]))
        pod.spec.containers[1].image = wanted
        assert caveats(pod) == [], "nothing runs yet"
        pod.status.containerStatuses.add(name="two", image=runs)
        return caveats(pod)

    words = 'has no effect: the container goes on with image "host", as the pod was when it came to its node'
    assert of("nginx", "host") == of("nginx", "") == [f"spec.containers[1].image: {words}"]
    assert of("nginx", "nginx") == of("host", "") == of("", "host") == []


def test_what_a_service_gets_in_another_way() -> None:
    def of(**spec: object) -> list[str]:
        return [text.partition(":")[0] for text in caveats(core.Service(spec=core.ServiceSpec(**spec)))]  # type: ignore[arg-type]

    assert of(type="NodePort") == ["spec.type"]
    assert of(type="ExternalName", externalName="db.example", selector={"a": "b"}) == ["spec.selector"]
    headless = of(clusterIP="None", sessionAffinity="ClientIP", trafficDistribution="PreferClose")
    assert headless == ["spec.sessionAffinity", "spec.trafficDistribution"]
    assert of(clusterIP="127.1.1.1", sessionAffinity="ClientIP", trafficDistribution="PreferClose") == []
    assert of(clusterIP="None", sessionAffinity="None") == []


def test_nothing_else_is() -> None:
    assert caveats(core.Pod(spec=core.PodSpec(containers=[core.Container(name="one")]))) == []
    assert caveats(core.Service()) == []
