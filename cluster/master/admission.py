"""What the master adds to objects that are written, because only it knows the cluster: kind by kind.

Pods get a priority (`priorities.py`) and tolerations for the failure of their node, with the profile's patience;
those that gates hold back get a condition that says so. Services get an address and node ports
(`service_admission.py`). Nodes get a block of addresses for their pods (hollow ones of addresses that are nobody's) and
the taint that keeps pods away until they are ready; the taint `unschedulable` follows the field of that name. A
namespace that is being deleted takes in nothing new. Of priority classes one at most is the default.

How a namespace ends: `delete` sets its deletionTimestamp and its phase to Terminating, whatever it holds. The namespace
controller then deletes what is in it (the master refuses new objects there, so that this comes to an end) and, when it
sees none left, deletes the namespace once more: a repeated delete of a Terminating namespace removes it if it is empty,
and is a Conflict that says what is left if it is not. No finalizer and no call of its own is needed, and nobody can
remove a namespace from under its objects, for the one writer itself looks. spec.finalizers is kept as it is written,
and holds nothing back.

Pure: pools and stage are handed in; what is taken from a pool is given back if the write fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.api.conditions import set_condition
from cluster.api.errors import FieldError, Forbidden, NotFound
from cluster.api.hollow import is_hollow
from cluster.api.kinds import AnyObject, kind_of
from cluster.api.meta import Key, called, is_terminating, key_of, to_time
from cluster.api.pods import POD_SCHEDULED, SCHEDULING_GATED, qos_class
from cluster.api.remembered import remembered
from cluster.master import definitions
from cluster.master.customs import Customs
from cluster.master.fault_rules import begin_fault
from cluster.master.pools import PodBlocks
from cluster.master.priorities import check_only_default, keep_priority, set_priority
from cluster.master.service_admission import ServiceAdmission, give_back, take
from cluster.master.stage import Reader, Stage
from cluster.pb.v1 import core_pb2 as core

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
DEFAULT_NAMESPACE = "default"
_GATED = "Scheduling is blocked due to non-empty scheduling gates"


@dataclass(slots=True)
class Admission:
    """The rules, and what they give out."""

    eviction_toleration_s: int
    """How long a pod stays on a node that is not ready or unreachable."""
    services: ServiceAdmission
    pods: PodBlocks
    hollow: PodBlocks
    """For the pods of hollow nodes."""
    customs: Customs = field(default_factory=Customs)
    """What users have defined."""

    def rebuild(self, state: Reader) -> None:
        """Takes from the pools what existing objects have."""
        services = [version.parse() for version in state.list("Service")]
        nodes = (version.parse() for version in state.list("Node"))
        blocks = [node.spec.podCIDR for node in nodes if isinstance(node, core.Node)]
        self.services.rebuild([service.spec for service in services if isinstance(service, core.Service)])
        self.pods.rebuild(blocks)
        self.hollow.rebuild(blocks)

    def before_create(self, stage: Stage, obj: AnyObject) -> list[FieldError]:
        """Completes a new object, in place, before it is validated; its defaults are applied. Returns what is wrong
        with it that only the cluster knows. Raises Invalid, Forbidden, NotFound."""
        if kind_of(obj).namespaced and obj.metadata.namespace:  # who has none and needs one is told by the validation
            _check_namespace(stage, obj)
        if isinstance(obj, core.Pod):
            set_priority(stage, obj)
            self._pod(obj, stage.now_s)
        elif isinstance(obj, core.Node):
            self._node(stage, obj)
        elif isinstance(obj, core.Service):
            self.services.before_create(stage, obj.spec)
        elif isinstance(obj, core.ReplicationController | core.PodDisruptionBudget):
            obj.ClearField("status")
        elif isinstance(obj, core.PriorityClass):
            check_only_default(stage, obj)
        elif isinstance(obj, core.Fault):
            begin_fault(stage, obj)
        elif isinstance(obj, core.Namespace):
            obj.status.phase = "Active"
        elif isinstance(obj, core.CustomResourceDefinition):
            definitions.before_create(stage, obj)
        elif isinstance(obj, core.CustomObject):
            return self.customs.complete(stage, obj, None)
        return []

    def before_update(self, stage: Stage, new: AnyObject, old: AnyObject) -> list[FieldError]:
        """Completes an update, in place, before it is validated: what was given out stays, if it is not named. Returns
        what is wrong with it that only the cluster knows."""
        if isinstance(new, core.Pod) and isinstance(old, core.Pod):
            keep_priority(new.spec, old.spec)
        elif isinstance(new, core.PriorityClass):
            check_only_default(stage, new)
        elif isinstance(new, core.Service) and isinstance(old, core.Service):
            self.services.before_update(stage, new.spec, old.spec)
        elif isinstance(new, core.Node) and isinstance(old, core.Node):
            if not new.spec.podCIDR and old.spec.podCIDR:
                new.spec.podCIDR = old.spec.podCIDR
            _follow_unschedulable(new, stage.now_s)
        elif isinstance(new, core.CustomResourceDefinition) and isinstance(old, core.CustomResourceDefinition):
            definitions.before_update(stage, new, old)
        elif isinstance(new, core.CustomObject) and isinstance(old, core.CustomObject):
            return self.customs.complete(stage, new, old)
        return []

    def removed(self, stage: Stage, obj: AnyObject) -> None:
        """Takes back what the object had."""
        if isinstance(obj, core.Service):
            self.services.removed(stage, obj.spec)
        elif isinstance(obj, core.Node):
            for blocks in (self.pods, self.hollow):
                give_back(stage, blocks.pool, blocks.number(obj.spec.podCIDR))

    def _pod(self, pod: core.Pod, now_s: float) -> None:
        completed, qos = _completed_pod(pod.spec.SerializeToString(deterministic=True), self.eviction_toleration_s)
        pod.spec.ParseFromString(completed)
        pod.ClearField("status")
        pod.status.phase = "Pending"
        pod.status.qosClass = qos
        if pod.spec.nodeName:
            set_condition(pod.status, POD_SCHEDULED, "True", now_s)
        elif pod.spec.schedulingGates:
            set_condition(pod.status, POD_SCHEDULED, "False", now_s, SCHEDULING_GATED, _GATED)

    def _node(self, stage: Stage, node: core.Node) -> None:
        _taint(node, NOT_READY, stage.now_s)
        _follow_unschedulable(node, stage.now_s)
        blocks = self.hollow if is_hollow(node) else self.pods
        if node.spec.podCIDR:
            number = blocks.number(node.spec.podCIDR)
            if number is not None:
                take(stage, blocks.pool, number, "spec.podCIDR", node.spec.podCIDR)
            return
        # When all blocks are given out, the node gets none: it can be registered, but pods have no address there.
        number = blocks.pool.take_next()
        if number is not None:
            stage.claim(lambda: blocks.pool.give_back(number))
            node.spec.podCIDR = blocks.text(number)


def _check_namespace(stage: Stage, obj: AnyObject) -> None:
    """Nothing is made in a namespace that does not exist or is on its way out."""
    name = obj.metadata.namespace
    version = stage.get(Key("Namespace", "", name))
    if version is None:
        raise NotFound(f'namespaces "{name}" not found')
    if is_terminating(version.object):
        raise Forbidden(
            f"{called(key_of(obj))} is forbidden: unable to create new content in namespace "
            f"{name} because it is being terminated",
            # Controllers know by this that there is nothing to try again.
            causes=[FieldError("metadata.namespace", f"namespace {name} is being terminated", "NamespaceTerminating")],
        )


@remembered
def _completed_pod(given: bytes, eviction_toleration_s: int) -> tuple[bytes, str]:
    """A specification with what a pod gets, and its class of service."""
    spec = core.PodSpec.FromString(given)
    for key in (NOT_READY, UNREACHABLE):
        if not any(_tolerates_eviction(toleration, key) for toleration in spec.tolerations):
            spec.tolerations.add(
                key=key, operator="Exists", effect="NoExecute", tolerationSeconds=eviction_toleration_s
            )
    return spec.SerializeToString(deterministic=True), qos_class(core.Pod(spec=spec))


def _tolerates_eviction(toleration: core.Toleration, key: str) -> bool:
    return toleration.key in ("", key) and toleration.effect in ("", "NoExecute")


def _taint(node: core.Node, key: str, now_s: float) -> None:
    if not any(taint.key == key and taint.effect == "NoSchedule" for taint in node.spec.taints):
        node.spec.taints.add(key=key, effect="NoSchedule", timeAdded=to_time(now_s))


def _follow_unschedulable(node: core.Node, now_s: float) -> None:
    """The taint says the same as the field, so that placement and tolerations need to look at taints only."""
    if node.spec.unschedulable:
        _taint(node, UNSCHEDULABLE, now_s)
        return
    kept = [taint for taint in node.spec.taints if taint.key != UNSCHEDULABLE]
    if len(kept) < len(node.spec.taints):
        del node.spec.taints[:]
        node.spec.taints.extend(kept)
