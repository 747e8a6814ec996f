"""Short words for the objects that the controllers' tests are about."""

from __future__ import annotations

from cluster.api.defaults import apply_defaults
from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

NOW_S = 1_000_000.0


def meta(name: str, **more: object) -> core.ObjectMeta:
    return core.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", **more)  # type: ignore[arg-type]


def controller(
    name: str = "web", replicas: int = 3, *, labels: dict[str, str] | None = None, version: int = 1, created: int = 0
) -> core.ReplicationController:
    labels = labels or {"app": "web"}
    rc = core.ReplicationController(
        metadata=meta(name, resourceVersion=str(version), generation=1),
        spec=core.ReplicationControllerSpec(
            replicas=replicas,
            selector=labels,
            template=core.PodTemplateSpec(
                metadata=core.ObjectMeta(labels=labels),
                spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
            ),
        ),
    )
    if created:
        rc.status.createdReplicas = created
    return rc


def owned_by(rc: core.ReplicationController) -> core.OwnerReference:
    return core.OwnerReference(
        apiVersion="v1",
        kind="ReplicationController",
        name=rc.metadata.name,
        uid=rc.metadata.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


def pod(
    name: str,
    *,
    owner: core.ReplicationController | None = None,
    labels: dict[str, str] | None = None,
    node: str = "",
    phase: str = "Running",
    ready_since_s: float | None = None,
    created_s: float = NOW_S - 100,
    cost: str | None = None,
    restarts: int = 0,
    ip: str = "",
    terminating: bool = False,
    version: int = 1,
) -> core.Pod:
    result = core.Pod(
        metadata=meta(name, labels=labels or {"app": "web"}, resourceVersion=str(version)),
        spec=core.PodSpec(containers=[core.Container(name="main", command=["true"])]),
        status=core.PodStatus(phase=phase),
    )
    result.metadata.creationTimestamp.CopyFrom(to_time(created_s))
    if owner is not None:
        result.metadata.ownerReferences.append(owned_by(owner))
    if node:
        result.spec.nodeName = node
    if ip:
        result.status.podIP = ip
    if cost is not None:
        result.metadata.annotations["controller.kubernetes.io/pod-deletion-cost"] = cost
    if ready_since_s is not None:
        result.status.conditions.add(type="Ready", status="True", lastTransitionTime=to_time(ready_since_s))
    if restarts:
        result.status.containerStatuses.add(name="main", restartCount=restarts)
    if terminating:
        result.metadata.deletionTimestamp.CopyFrom(to_time(NOW_S))
    apply_defaults(result)
    return result


def node(name: str, ready: str = "True", *, zone: str = "", unschedulable: bool = False) -> core.Node:
    result = core.Node(metadata=core.ObjectMeta(name=name, uid=f"uid-{name}", resourceVersion="1"))
    result.metadata.creationTimestamp.CopyFrom(to_time(NOW_S))
    if zone:
        result.metadata.labels["topology.kubernetes.io/zone"] = zone
    if ready:
        result.status.conditions.add(type="Ready", status=ready)
    if unschedulable:
        result.spec.unschedulable = True
    return result


def names(pods: object) -> list[str]:
    return [pod.metadata.name for pod in pods]  # type: ignore[attr-defined]
