"""What a replication controller decides: whose pods are whose, how many to make or to delete, what to report.

The algorithm is Kubernetes' (pkg/controller/replicaset): claim, compare, act in bounded bursts, report. All of it is
here as functions of a controller object and the pods in view; `replication_controller.py` awaits what they ask for.

The fence. Kubernetes has one controller process elected by a lease, and trusts it. Here every batch of new pods
travels in one atomic write with an update of the controller object's status, which must still be at the version that
the decision was made on, and which counts `createdReplicas` up. Of two processes that decide on the same version (one
was killed with its write in flight, the other is its successor) the second is refused as a whole; and whoever finds
`createdReplicas` to be another number than its own book says knows that somebody else has created pods, and counts
again before it creates any (see `Ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.api.conditions import get_condition, is_pod_ready, set_condition
from cluster.api.labels import selector_from_map
from cluster.api.meta import is_terminating, revision_of
from cluster.api.owners import controller_of, owner_reference
from cluster.api.pods import is_active
from cluster.controllers.expectations import Expectations
from cluster.controllers.ranking import deletion_order, ready_since
from cluster.pb.v1 import core_pb2 as core

BURST = 500
"""At most so many pods are created or deleted in answer to one look."""

FAILURE = "ReplicaFailure"
"""The condition that says that pods could not be created or deleted."""


@dataclass(slots=True)
class Ledger:
    """What this process remembers of one controller object (by uid) from one look to the next."""

    uid: str
    created: int | None = None
    """createdReplicas as of our last write or count; None: we have just met."""
    latest: core.ReplicationController | None = None
    """The object as our last write left it; the cache may be behind."""
    expectations: Expectations = field(default_factory=Expectations)
    status_written_at: float = float("-inf")
    """Monotonic seconds."""

    def newest(self, cached: core.ReplicationController) -> core.ReplicationController:
        """The newer of the cache's version and of what our own last write returned."""
        if self.latest is not None and revision_of(self.latest) > revision_of(cached):
            return self.latest
        self.latest = None
        return cached

    def is_echo(self, cached: core.ReplicationController) -> bool:
        """The cache brings nothing newer than what our own last write returned."""
        return self.latest is not None and revision_of(cached) <= revision_of(self.latest)

    def must_recount(self, controller: core.ReplicationController) -> bool:
        """Somebody else (maybe we, before a restart) has created pods that our cache need not hold yet."""
        if self.created is None and controller.status.createdReplicas == 0:
            self.created = 0
        return self.created != controller.status.createdReplicas


@dataclass(frozen=True, slots=True)
class Claim:
    """Which pods are the controller's, and which are to become so or to cease."""

    kept: list[core.Pod]
    adopt: list[core.Pod]
    release: list[core.Pod]


def claim(controller: core.ReplicationController, owned: Iterable[core.Pod], orphans: Iterable[core.Pod]) -> Claim:
    """Sorts the pods that carry the controller's uid, and the ones of its namespace that nobody controls.

    Finished and terminating pods take no part. A terminating controller keeps what it has and changes nothing.
    """
    selector = selector_from_map(controller.spec.selector)
    mine = [pod for pod in owned if is_active(pod)]
    if is_terminating(controller) or selector.is_empty:
        return Claim(mine, [], [])
    return Claim(
        kept=[pod for pod in mine if selector.matches(pod.metadata.labels)],
        adopt=[
            pod
            for pod in orphans
            if is_active(pod) and controller_of(pod) is None and selector.matches(pod.metadata.labels)
        ],
        release=[pod for pod in mine if not selector.matches(pod.metadata.labels)],
    )


def owners_with(pod: core.Pod, owner: core.ReplicationController) -> list[core.OwnerReference]:
    """The pod's owners after its adoption."""
    return [*pod.metadata.ownerReferences, owner_reference(owner)]


def owners_without(pod: core.Pod, owner_uid: str) -> list[core.OwnerReference]:
    """The pod's owners after its release."""
    return [reference for reference in pod.metadata.ownerReferences if reference.uid != owner_uid]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now; at most one of the two is not empty."""

    create: int = 0
    delete: Sequence[core.Pod] = ()


def plan(controller: core.ReplicationController, active: Sequence[core.Pod]) -> Plan:
    """Compares what is wanted with the active pods that the controller owns.

    To be asked only when all expectations are settled.
    """
    if is_terminating(controller):
        return Plan()
    surplus = len(active) - controller.spec.replicas
    if surplus < 0:
        return Plan(create=min(-surplus, BURST))
    if surplus > 0:
        return Plan(delete=deletion_order(active, active)[: min(surplus, BURST)])
    return Plan()


def slow_start(count: int) -> Iterator[int]:
    """Sizes of batches: 1, 2, 4 ... summing up to `count`; the first that fails spares the others the attempt."""
    size = 1
    while count > 0:
        batch = min(size, count)
        yield batch
        count -= batch
        size *= 2


def new_pod(controller: core.ReplicationController) -> core.Pod:
    """A pod from the template, owned by the controller, with a name for the master to complete."""
    template = controller.spec.template
    pod = core.Pod(
        metadata=core.ObjectMeta(
            generateName=f"{controller.metadata.name}-",
            namespace=controller.metadata.namespace,
            ownerReferences=[owner_reference(controller)],
            finalizers=template.metadata.finalizers,
        ),
        spec=template.spec,
    )
    pod.metadata.labels.update(template.metadata.labels)
    pod.metadata.annotations.update(template.metadata.annotations)
    return pod


@dataclass(frozen=True, slots=True)
class Failure:
    """Why pods could not be created or deleted: FailedCreate or FailedDelete, and the words of the error."""

    reason: str
    message: str


def status_of(
    controller: core.ReplicationController,
    active: Sequence[core.Pod],
    *,
    now_s: float,
    unseen: int = 0,
    failure: Failure | None = None,
) -> core.ReplicationControllerStatus:
    """The status to report; equal to the present one if there is nothing new.

    `now_s`: wall clock, as pods' conditions carry it. `unseen`: pods that were created and are not in view yet.
    """
    status = core.ReplicationControllerStatus()
    status.CopyFrom(controller.status)
    template_labels = selector_from_map(controller.spec.template.metadata.labels)
    ready = [pod for pod in active if is_pod_ready(pod)]
    min_ready_s = controller.spec.minReadySeconds
    status.replicas = len(active) + unseen
    status.fullyLabeledReplicas = sum(template_labels.matches(pod.metadata.labels) for pod in active) + unseen
    status.readyReplicas = len(ready)
    status.availableReplicas = sum(is_available(pod, min_ready_s, now_s) for pod in ready)
    status.observedGeneration = controller.metadata.generation
    if failure is None:
        others = [condition for condition in status.conditions if condition.type != FAILURE]
        del status.conditions[:]
        status.conditions.extend(others)
    elif get_condition(status, FAILURE) is None:
        # As in Kubernetes the first reason stays until the trouble is over: a changing text would be written and
        # watched at every retry.
        set_condition(status, FAILURE, "True", now_s, failure.reason, failure.message)
    return status


def is_available(pod: core.Pod, min_ready_s: int, now_s: float) -> bool:
    """The pod is ready, and has been for long enough."""
    return is_pod_ready(pod) and (min_ready_s == 0 or now_s - ready_since(pod) >= min_ready_s)


def next_available_in(pods: Iterable[core.Pod], min_ready_s: int, now_s: float) -> float | None:
    """Seconds until the next ready pod becomes available by the passing of time alone; None if there is none."""
    waits = [
        ready_since(pod) + min_ready_s - now_s
        for pod in pods
        if min_ready_s and is_pod_ready(pod) and not is_available(pod, min_ready_s, now_s)
    ]
    return min(waits, default=None)


def batch_status(status: core.ReplicationControllerStatus, created: int) -> core.ReplicationControllerStatus:
    """The status that goes with a batch of so many new pods: the other half of the fence."""
    after = core.ReplicationControllerStatus()
    after.CopyFrom(status)
    after.replicas += created
    after.fullyLabeledReplicas += created
    after.createdReplicas += created
    return after


def with_status(
    controller: core.ReplicationController, status: core.ReplicationControllerStatus
) -> core.ReplicationController:
    """The controller object with that status, at the version it has: what update_status takes."""
    return core.ReplicationController(
        metadata=core.ObjectMeta(
            name=controller.metadata.name,
            namespace=controller.metadata.namespace,
            uid=controller.metadata.uid,
            resourceVersion=controller.metadata.resourceVersion,
        ),
        status=status,
    )


def significant_change(old: core.Pod | None, new: core.Pod | None) -> bool:
    """The change can make the number of active pods differ: it is what a new pod, or a deletion, is caused by."""
    was = old is not None and is_active(old)
    now = new is not None and is_active(new)
    return was != now or (old is not None and new is not None and _ties(old) != _ties(new))


def _ties(pod: core.Pod) -> tuple[Mapping[str, str], str]:
    owner = controller_of(pod)
    return dict(pod.metadata.labels), owner.uid if owner is not None else ""
