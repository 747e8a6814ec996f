"""Who is behind a service: from a service and the pods of its namespace to its Endpoints object.

Kubernetes' rules (endpoints_controller.go). A pod that the selector matches counts if it has an address and is not
finished; ready ones are addresses, the others notReadyAddresses. Those that are being deleted are none of these; while
they still say that they are ready they are terminatingAddresses, for when nobody else is left (Kubernetes has these in
its EndpointSlices: serving and terminating). With publishNotReadyAddresses all count as ready. A targetPort that is a
name is looked up in each pod by itself, so two versions of a program may listen on different ports behind one service.

Pods that serve the same ports share a subset. Everything is sorted, so that equal facts give equal objects, and an
object that is equal is not written.

  web-1 10.1.0.4 http=8080 ready        subset ports [http 8080]: addresses 10.1.0.4, notReady 10.1.0.5
  web-2 10.1.0.5 http=8080 not ready    subset ports [http 9090]: addresses 10.1.0.6, terminating 10.1.0.7
  web-3 10.1.0.6 http=9090 ready
  web-4 10.1.0.7 http=9090 ready, being deleted

Each address carries the pod's name, uid, node, labels and annotations: this is how a client learns a shard or a role.
Of a pod whose subdomain is the service's name it carries the host name too: the pod's own name below the service's.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.conditions import is_pod_ready
from cluster.api.labels import selector_from_map
from cluster.api.meta import is_terminating
from cluster.api.owners import owner_reference
from cluster.api.pods import find_port, is_finished
from cluster.api.services import HEADLESS
from cluster.pb.v1 import core_pb2 as core

HEADLESS_LABEL = "service.kubernetes.io/headless"
"""Label on the Endpoints of a headless service, as in Kubernetes."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation that addresses do not repeat: it is the whole manifest again."""

Port = tuple[str, int, str, str]
"""Name, number, protocol, protocol of the application."""


def desired_endpoints(service: core.Service, pods: Iterable[core.Pod]) -> core.Endpoints:
    """The Endpoints of the service, without uid and version. `pods`: those of its namespace, or at least its own."""
    endpoints = core.Endpoints(
        metadata=core.ObjectMeta(
            name=service.metadata.name,
            namespace=service.metadata.namespace,
            ownerReferences=[owner_reference(service)],
        )
    )
    endpoints.metadata.labels.update(service.metadata.labels)
    if service.spec.clusterIP == HEADLESS:
        endpoints.metadata.labels[HEADLESS_LABEL] = ""
    else:
        endpoints.metadata.labels.pop(HEADLESS_LABEL, None)
    endpoints.subsets.extend(_pack(service, pods))
    return endpoints


def has_changed(old: core.Endpoints, new: core.Endpoints) -> bool:
    """Whether what we answer for differs: subsets, labels, owner."""
    return (
        list(old.subsets) != list(new.subsets)
        or old.metadata.labels != new.metadata.labels
        or list(old.metadata.ownerReferences) != list(new.metadata.ownerReferences)
    )


def replacement(old: core.Endpoints, new: core.Endpoints) -> core.Endpoints:
    """What to write over `old`, at its version: its own annotations stay."""
    result = core.Endpoints()
    result.CopyFrom(old)
    result.metadata.labels.clear()
    result.metadata.labels.update(new.metadata.labels)
    del result.metadata.ownerReferences[:]
    result.metadata.ownerReferences.extend(new.metadata.ownerReferences)
    del result.subsets[:]
    result.subsets.extend(new.subsets)
    return result


def matters(old: core.Pod | None, new: core.Pod | None) -> bool:
    """Whether a change of a pod can change any Endpoints at all. Most reports of a running pod cannot."""
    if old is None or new is None:
        return True
    return _facts(old) != _facts(new)


def _facts(pod: core.Pod) -> tuple[object, ...]:
    meta = pod.metadata
    return (
        pod.status.podIP,
        is_pod_ready(pod),
        is_terminating(pod),
        is_finished(pod),
        pod.spec.nodeName,
        dict(meta.labels),
        dict(meta.annotations),
    )


def _pack(service: core.Service, pods: Iterable[core.Pod]) -> list[core.EndpointSubset]:
    selector = selector_from_map(service.spec.selector)
    publish_all = service.spec.publishNotReadyAddresses
    by_ports: dict[tuple[Port, ...], core.EndpointSubset] = {}
    for pod in sorted(pods, key=lambda pod: (_address_order(pod.status.podIP), pod.metadata.uid)):
        if not selector.matches(pod.metadata.labels) or not pod.status.podIP or is_finished(pod):
            continue
        ready, leaving = publish_all or is_pod_ready(pod), is_terminating(pod) and not publish_all
        if leaving and not ready:
            continue
        ports = _ports_of(service, pod)
        if not ports and (service.spec.ports or service.spec.clusterIP != HEADLESS):
            continue
        subset = by_ports.setdefault(ports, core.EndpointSubset())
        addresses = subset.addresses if ready else subset.notReadyAddresses
        (subset.terminatingAddresses if leaving else addresses).append(_address(service, pod))
    for ports, subset in by_ports.items():
        for name, number, protocol, application in ports:
            subset.ports.add(name=name or None, port=number, protocol=protocol, appProtocol=application or None)
    return [by_ports[ports] for ports in sorted(by_ports)]


def _ports_of(service: core.Service, pod: core.Pod) -> tuple[Port, ...]:
    """The ports of the service as this pod serves them; a name that the pod does not know is left out."""
    found = set()
    for port in service.spec.ports:
        number = _target(port, pod)
        if number is not None:
            found.add((port.name, number, port.protocol or "TCP", port.appProtocol))
    return tuple(sorted(found))


def _target(port: core.ServicePort, pod: core.Pod) -> int | None:
    target = port.targetPort
    if target.type == 1 or target.strVal:
        return find_port(pod, target.strVal, port.protocol or "TCP")
    return target.intVal or port.port


def _address(service: core.Service, pod: core.Pod) -> core.EndpointAddress:
    meta = pod.metadata
    address = core.EndpointAddress(
        ip=pod.status.podIP,
        nodeName=pod.spec.nodeName or None,
        # Without the pod's version: it would make every report of the pod a change of the Endpoints.
        targetRef=core.ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )
    if pod.spec.hostname and pod.spec.subdomain == service.metadata.name:
        address.hostname = pod.spec.hostname
    address.labels.update(meta.labels)
    address.annotations.update({key: value for key, value in meta.annotations.items() if key != LAST_APPLIED})
    return address


def _address_order(ip: str) -> tuple[int, ...]:
    """127.0.0.9 before 127.0.0.10."""
    try:
        return tuple(int(part) for part in ip.split("."))
    except ValueError:
        return (256, *ip.encode())
