"""What a manifest asks for and gets in another way than its writer may think. Pure.

What cannot be carried out at all is refused (`cluster.api.validation`); this is for what is carried out as far as it
can be, and is told when it is applied, as `kubectl` shows the warnings of a server.
"""

from __future__ import annotations

from cluster.api.definitions import not_carried_out
from cluster.api.kinds import AnyObject
from cluster.api.pods import HOST_IMAGE, runs_on_host
from cluster.api.services import EXTERNAL_NAME, HEADLESS, NODE_PORT
from cluster.pb.v1 import core_pb2 as core


def caveats(obj: AnyObject) -> list[str]:
    """One sentence each, beginning with the path of the field."""
    if isinstance(obj, core.Pod):
        return [*_of_pod(obj.spec, "spec"), *_images_of(obj)]
    if isinstance(obj, core.ReplicationController):
        return _of_pod(obj.spec.template.spec, "spec.template.spec")
    if isinstance(obj, core.ServiceAccount):
        return [_ACCOUNT]
    if isinstance(obj, core.Service):
        return _of_service(obj.spec)
    if isinstance(obj, core.CustomResourceDefinition):
        return list(not_carried_out(obj))
    return []


def _of_service(spec: core.ServiceSpec) -> list[str]:
    found = []
    if spec.type == NODE_PORT:
        found.append("spec.type: node ports are listened for at 127.0.0.1: other machines do not reach them")
    if spec.type == EXTERNAL_NAME and spec.selector:
        found.append("spec.selector: has no effect: an ExternalName has no endpoints")
    if spec.type == EXTERNAL_NAME or spec.clusterIP == HEADLESS:
        for field, is_set in (
            ("sessionAffinity", spec.sessionAffinity == "ClientIP"),
            ("trafficDistribution", bool(spec.trafficDistribution)),
        ):
            if is_set:
                found.append(f"spec.{field}: has no effect: clients do not come through an address of the service")
    return found


def _of_pod(spec: core.PodSpec, where: str) -> list[str]:
    found = []
    for group, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for place, container in enumerate(containers):
            reserved = group == "containers" or container.restartPolicy == "Always"  # as `cluster.api.pods.host_ports`
            for index, port in enumerate(container.ports):
                if port.hostPort:
                    path = f"{where}.{group}[{place}].ports[{index}].hostPort"
                    found.append(f"{path}: {_RESERVED.format(port.hostPort) if reserved else _INIT}")
    return found


def _images_of(pod: core.Pod) -> list[str]:
    """An image that was changed when the container was there already: nobody starts it anew for that."""
    statuses = {each.name: each for each in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)}
    found = []
    for group, containers in (("initContainers", pod.spec.initContainers), ("containers", pod.spec.containers)):
        for place, container in enumerate(containers):
            status = statuses.get(container.name)
            if status is None or status.image == container.image:
                continue
            if not (runs_on_host(container) and runs_on_host(core.Container(image=status.image))):
                found.append(f"spec.{group}[{place}].image: {_GOES_ON.format(status.image or HOST_IMAGE)}")
    return found


_GOES_ON = 'has no effect: the container goes on with image "{}", as the pod was when it came to its node'
_ACCOUNT = (
    "a service account is kept for Kubernetes' tools, which may get tokens of it: pods have no identity of their own"
)
_RESERVED = "{} is reserved for the pod on its node, but not forwarded: the program itself is to listen there"
_INIT = "has no effect: what an init container listens on is nobody's to reach"
