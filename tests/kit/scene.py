"""Clusters that no cluster has: nodes, controllers with pods that run, services with endpoints, as a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.api.conditions import set_condition
from cluster.api.defaults import apply_defaults
from cluster.api.kinds import AnyObject
from cluster.api.meta import to_time
from cluster.api.owners import owner_reference
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation import hollow
from cluster.simulation.snapshot import Snapshot

T = TypeVar("T", bound=AnyObject)
TAKEN_AT_S = 1_700_000_000.0
SINCE_S = TAKEN_AT_S - 3600.0


@dataclass(slots=True)
class Scene:
    """What a cluster consists of; `snapshot` makes one."""

    objects: list[AnyObject] = field(default_factory=list)
    _uids: int = 0

    def __post_init__(self) -> None:
        for name in ("default", "kube-system"):
            self._add(core.Namespace(metadata=core.ObjectMeta(name=name), status=core.NamespaceStatus(phase="Active")))

    def snapshot(self) -> Snapshot:
        return Snapshot.made_of(self.objects, taken_at_s=TAKEN_AT_S)

    def nodes(self, *names: str, cpu: str = "4") -> None:
        for name in names:
            self.node(name, cpu=cpu)

    def node(self, name: str, *, cpu: str = "4", ready: str = "True", zone: str = "") -> core.Node:
        node = core.Node(metadata=core.ObjectMeta(name=name))
        node.metadata.labels["kubernetes.io/hostname"] = name
        if zone:
            node.metadata.labels["topology.kubernetes.io/zone"] = zone
        number = sum(isinstance(obj, core.Node) for obj in self.objects)
        node.spec.podCIDR = f"10.{number // 256}.{number % 256}.0/25"
        for amounts in (node.status.capacity, node.status.allocatable):
            amounts["cpu"].string, amounts["memory"].string, amounts["pods"].string = cpu, "8Gi", "110"
        set_condition(node.status, "Ready", ready, SINCE_S)
        return self._add(node)

    def controller(
        self,
        name: str = "web",
        nodes: Sequence[str] = (),
        *,
        replicas: int | None = None,
        cpu: str = "100m",
        **spec: object,
    ) -> core.ReplicationController:
        """A controller, and a ready pod of it on each of these nodes; "" is a pending one."""
        labels = {"app": name}
        container = core.Container(name="main", command=["sleep", "inf"])
        container.resources.requests["cpu"].string = cpu
        template = core.PodTemplateSpec(
            metadata=core.ObjectMeta(labels=labels),
            spec=core.PodSpec(containers=[container], **spec),  # type: ignore[arg-type]
        )
        count = len(nodes) if replicas is None else replicas
        rc = core.ReplicationController(
            metadata=core.ObjectMeta(name=name, namespace="default", generation=1),
            spec=core.ReplicationControllerSpec(replicas=count, selector=labels, template=template),
            status=core.ReplicationControllerStatus(
                replicas=len(nodes),
                fullyLabeledReplicas=len(nodes),
                readyReplicas=sum(bool(node) for node in nodes),
                availableReplicas=sum(bool(node) for node in nodes),
                observedGeneration=1,
                createdReplicas=len(nodes),
            ),
        )
        apply_defaults(rc)
        self._add(rc)
        for number, node in enumerate(nodes):
            self.pod(f"{name}-{number}", node, rc)
        return rc

    def pod(
        self, name: str, node: str = "", owner: core.ReplicationController | None = None, *, tolerates_s: int = 0
    ) -> core.Pod:
        pod = core.Pod(metadata=core.ObjectMeta(name=name, namespace="default"))
        pod.metadata.creationTimestamp.CopyFrom(to_time(SINCE_S))
        if owner is not None:
            pod.metadata.labels.update(owner.spec.template.metadata.labels)
            pod.metadata.ownerReferences.append(owner_reference(owner))
            pod.spec.CopyFrom(owner.spec.template.spec)
        else:
            pod.spec.containers.add(name="main", command=["sleep", "inf"])
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            pod.spec.tolerations.add(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=tolerates_s)
        apply_defaults(pod)
        pod.status.phase = "Pending"
        if node:
            pod.spec.nodeName = node
            address = f"10.99.{self._uids // 250}.{self._uids % 250 + 1}"
            pod.status.CopyFrom(hollow.running(pod, pod_ip=address, host_ip="", now_s=SINCE_S))
        return self._add(pod)

    def service(self, name: str = "web", app: str = "", *, endpoints: Sequence[str] = ()) -> core.Service:
        """A service, and Endpoints with the pods of these names."""
        service = core.Service(
            metadata=core.ObjectMeta(name=name, namespace="default"),
            spec=core.ServiceSpec(selector={"app": app or name}, ports=[core.ServicePort(port=80)]),
        )
        service.spec.clusterIP = f"127.5.1.{self._uids % 250 + 1}"
        apply_defaults(service)
        self._add(service)
        there = core.Endpoints(
            metadata=core.ObjectMeta(name=name, namespace="default", ownerReferences=[owner_reference(service)])
        )
        pods = {obj.metadata.name: obj for obj in self.objects if isinstance(obj, core.Pod)}
        if endpoints:
            subset = there.subsets.add()
            for pod in endpoints:
                subset.addresses.add(ip=pods[pod].status.podIP)
        self._add(there)
        return service

    def _add(self, obj: T) -> T:
        self._uids += 1
        obj.metadata.uid = f"{self._uids:08x}-0000-4000-8000-000000000000"
        self.objects.append(obj)
        return obj
