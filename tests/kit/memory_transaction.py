"""The rules of writing of the in-memory cluster: one method for each operation of the wire.

A transaction looks at what there was, and at what it has changed itself; nothing is visible to anybody else before the
store takes its changes over, all of them as one revision.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.actor.clock import new_uid
from cluster.api import aside
from cluster.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
)
from cluster.api.json import merge_patch, object_from_json, object_to_json
from cluster.api.kinds import AnyObject, Kind, kind_named, kind_of, unwrap
from cluster.api.leases import SYSTEM_NAMESPACE
from cluster.api.meta import Key, called, key_of
from cluster.api.names import generate_name
from cluster.api.shapes import shape_of
from cluster.client.interface import OperationOutcome
from cluster.master import managing
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.memory_rules import (
    check,
    check_preconditions,
    full_key,
    own_copy,
    spend_budget,
    take_status,
    take_writer,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One object's step in the history: `old` is None for a create, `new` is None for a removal."""

    revision: int
    key: Key
    old: AnyObject | None
    new: AnyObject | None
    time_s: float
    """Wall time."""
    last: AnyObject | None = None
    """Of a removal: the last content, stamped with who removed it and at which revision."""


class State(Protocol):
    """What there was before, and where times, dice and addresses come from."""

    objects: dict[Key, AnyObject]

    @property
    def now(self) -> core.Time: ...

    @property
    def wall_s(self) -> float: ...

    @property
    def rng(self) -> random.Random: ...

    def next_address(self, prefix: str) -> str: ...


class Transaction:
    """Operations that become visible together, as one revision."""

    def __init__(self, store: State, actor: str, cause: core.Cause | None, revision: int) -> None:
        self._store = store
        self._actor = actor
        self._cause = cause
        self.revision = revision
        self.changes: dict[Key, Change] = {}
        self._manager = wire.FieldManager()

    def apply(self, operation: wire.Operation) -> OperationOutcome:
        self._manager = operation.manager
        managing.check(self._manager)
        which = operation.WhichOneof("operation")
        if which is None:
            raise BadRequest("the operation is empty")
        apply: Callable[[Any], OperationOutcome] = getattr(self, f"_{which}")
        return apply(getattr(operation, which))

    def find(self, key: Key) -> AnyObject | None:
        change = self.changes.get(key)
        return change.new if change is not None else self._store.objects.get(key)

    def need(self, key: Key) -> AnyObject:
        obj = self.find(key)
        if obj is None:
            raise NotFound(f"{called(key)} not found")
        return obj

    def remove(self, obj: AnyObject) -> AnyObject:
        last = own_copy(obj)
        self._stamp(last)
        self._change(key_of(obj), None, last)
        return last

    # --- one method per operation of the wire

    def _create(self, operation: wire.CreateOperation) -> OperationOutcome:
        obj = own_copy(unwrap(operation.object))
        kind, meta = kind_of(obj), obj.metadata
        if meta.resourceVersion:
            raise Invalid("metadata.resourceVersion: must not be set on objects to be created")
        if kind.namespaced and not meta.namespace:
            meta.namespace = "default"
        if not meta.name and meta.generateName:
            meta.name = generate_name(meta.generateName, self._store.rng)
        if kind.has_status and kind.name != "Node":
            obj.ClearField("status")
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.ClearField(field)
        check(obj, None)
        self._check_namespace(kind, meta.namespace)
        if self.find(key_of(obj)) is not None:
            raise AlreadyExists(f"{called(key_of(obj))} already exists")
        if not self._manager.applied:
            meta.ClearField("managedFields")
        meta.uid = new_uid(self._store.rng)
        if not isinstance(obj, core.Endpoints | core.Event | core.Lease | core.PriorityClass):
            meta.generation = 1
        meta.creationTimestamp.CopyFrom(self._store.now)
        self._fill_in(obj)
        return self._save(obj, None)

    def _check_namespace(self, kind: Kind, name: str) -> None:
        # These are always there, without an object.
        if not kind.namespaced or name in ("default", SYSTEM_NAMESPACE):
            return
        if self.need(Key("Namespace", "", name)).metadata.HasField("deletionTimestamp"):
            raise Forbidden(f"unable to create new content in namespace {name} because it is being terminated")

    def _fill_in(self, obj: AnyObject) -> None:
        """What admission decides about a new object."""
        if isinstance(obj, core.Pod):
            obj.status.phase = "Pending"
            if obj.spec.schedulingGates:
                obj.status.conditions.add(type="PodScheduled", status="False", reason="SchedulingGated")
        elif isinstance(obj, core.Service) and not obj.spec.clusterIP and obj.spec.type != "ExternalName":
            obj.spec.clusterIP = self._store.next_address("127.250.")
        elif isinstance(obj, core.Node) and not obj.spec.podCIDR:
            obj.spec.podCIDR = self._store.next_address("127.251.").rsplit(".", 1)[0] + ".0/25"
        elif isinstance(obj, core.Namespace):
            obj.status.phase = "Active"

    def _update(self, operation: wire.UpdateOperation) -> OperationOutcome:
        new = own_copy(unwrap(operation.object))
        old = self._current(new)
        if kind_of(new).has_status:
            take_status(new, old)
            aside.take_status(new, old)
        return self._replace(new, old)

    def _update_status(self, operation: wire.UpdateStatusOperation) -> OperationOutcome:
        wanted = unwrap(operation.object)
        if not kind_of(wanted).has_status:
            raise BadRequest(f"{kind_of(wanted).plural} have no status")
        old = self._current(wanted)
        new = own_copy(old)
        take_status(new, wanted)
        if aside.has_aside(wanted):
            aside.take_status(new, wanted)
        if self._manager.applied:
            new.metadata.ClearField("managedFields")
            new.metadata.managedFields.MergeFrom(wanted.metadata.managedFields)
        if aside.has_aside(wanted):
            aside.take_status(new, wanted)
        return self._replace(new, old, "status")

    def _patch(self, operation: wire.PatchOperation) -> OperationOutcome:
        kind = kind_named(operation.kind)
        old = self.need(full_key(kind, operation.namespace, operation.name))
        check_preconditions(old, operation.preconditions)
        try:
            patch = json.loads(operation.merge_patch)
        except ValueError as error:
            raise BadRequest(f"the patch is not JSON: {error}") from error
        new = object_from_json(merge_patch(object_to_json(old), patch))
        if key_of(new) != key_of(old):
            raise Invalid("metadata.name: a patch cannot rename")
        if operation.status:
            with_status = own_copy(old)
            take_status(with_status, new)
            return self._replace(with_status, old, "status")
        if kind.has_status:
            take_status(new, old)
        return self._replace(new, old)

    def _bind(self, operation: wire.BindOperation) -> OperationOutcome:
        old = self.need(Key("Pod", operation.namespace or "default", operation.name))
        check_preconditions(old, operation.preconditions)
        assert isinstance(old, core.Pod)
        if old.metadata.HasField("deletionTimestamp"):
            raise Conflict(f'pod "{operation.name}" is being deleted, cannot be assigned to a node')
        if old.spec.nodeName:
            raise Conflict(f'pod "{operation.name}" is already assigned to node "{old.spec.nodeName}"')
        if old.spec.schedulingGates:
            gates = [gate.name for gate in old.spec.schedulingGates]
            raise Conflict(f'pod "{operation.name}" cannot be bound: it has the scheduling gates {gates}')
        self.need(Key("Node", "", operation.node_name))
        new = own_copy(old)
        new.spec.nodeName = operation.node_name
        for condition in list(new.status.conditions):
            if condition.type == "PodScheduled":
                new.status.conditions.remove(condition)
        new.status.conditions.add(type="PodScheduled", status="True", lastTransitionTime=self._store.now)
        return self._save(new, old)

    def _evict(self, operation: wire.EvictOperation) -> OperationOutcome:
        pod = self.need(Key("Pod", operation.namespace or "default", operation.name))
        check_preconditions(pod, operation.preconditions)
        assert isinstance(pod, core.Pod)
        keys = {*self._store.objects, *self.changes}
        found = [self.find(key) for key in keys if key.kind == "PodDisruptionBudget"]
        budgets = [budget for budget in found if isinstance(budget, core.PodDisruptionBudget)]
        spent = spend_budget(pod, budgets, self._store.now)
        if spent is not None:
            self._save(spent, self.find(key_of(spent)))
        removal = wire.DeleteOperation(kind="Pod", namespace=operation.namespace, name=operation.name)
        if operation.HasField("grace_period_seconds"):
            removal.grace_period_seconds = operation.grace_period_seconds
        return self._delete(removal)

    def _delete(self, operation: wire.DeleteOperation) -> OperationOutcome:
        kind = kind_named(operation.kind)
        old = self.need(full_key(kind, operation.namespace, operation.name))
        check_preconditions(old, operation.preconditions)
        policy, finalizers = operation.propagation_policy, list(old.metadata.finalizers)
        if policy not in ("", "Background", "Foreground", "Orphan"):
            raise Invalid(f'propagation policy "{policy}" is not known')
        if policy == "Orphan" or (not policy and "orphan" in finalizers):
            self._orphan_dependents_of(old)
            finalizers = [each for each in finalizers if each != "orphan"]
        if policy:
            finalizers = [each for each in finalizers if each not in ("orphan", "foregroundDeletion")]
            if policy == "Foreground":
                finalizers.append("foregroundDeletion")
        if isinstance(old, core.Namespace):
            return self._delete_namespace(old)
        grace_s = self._grace_of(old, operation)
        if grace_s == 0 and not finalizers:
            last = self.remove(old)
            return OperationOutcome(None, last)
        new = own_copy(old)
        meta = new.metadata
        meta.finalizers[:] = finalizers
        if meta.HasField("deletionTimestamp"):
            if grace_s >= meta.deletionGracePeriodSeconds:
                return self._save(new, old) if new != old else OperationOutcome(None, old, unchanged=True)
            meta.deletionTimestamp.seconds -= meta.deletionGracePeriodSeconds
        else:
            meta.generation += 1
            meta.deletionTimestamp.CopyFrom(self._store.now)
        meta.deletionTimestamp.seconds += grace_s
        meta.deletionGracePeriodSeconds = grace_s
        return self._save(new, old)

    def _delete_namespace(self, old: core.Namespace) -> OperationOutcome:
        """The first delete marks it, the second removes it if it is empty."""
        if old.metadata.HasField("deletionTimestamp"):
            if any(key.namespace == old.metadata.name for key in self._store.objects):
                raise Conflict(f'namespace "{old.metadata.name}" is being terminated and is not empty')
            return OperationOutcome(None, self.remove(old))
        new = own_copy(old)
        new.metadata.generation += 1
        new.metadata.deletionTimestamp.CopyFrom(self._store.now)
        new.metadata.deletionGracePeriodSeconds = 0
        new.status.phase = "Terminating"
        return self._save(new, old)

    @staticmethod
    def _grace_of(obj: AnyObject, operation: wire.DeleteOperation) -> int:
        """Only a pod that runs somewhere is given time."""
        if not isinstance(obj, core.Pod) or not obj.spec.nodeName or obj.status.phase in ("Succeeded", "Failed"):
            return 0
        if operation.HasField("grace_period_seconds"):
            return operation.grace_period_seconds if operation.grace_period_seconds >= 0 else 1
        if obj.metadata.HasField("deletionTimestamp"):
            return obj.metadata.deletionGracePeriodSeconds
        spec = obj.spec
        return spec.terminationGracePeriodSeconds if spec.HasField("terminationGracePeriodSeconds") else 30

    def _orphan_dependents_of(self, owner: AnyObject) -> None:
        for obj in list(self._store.objects.values()):
            references = obj.metadata.ownerReferences
            if any(reference.uid == owner.metadata.uid for reference in references):
                new = own_copy(obj)
                kept = [reference for reference in references if reference.uid != owner.metadata.uid]
                del new.metadata.ownerReferences[:]
                new.metadata.ownerReferences.extend(kept)
                self._save(new, obj)

    # --- what they share

    def _current(self, wanted: AnyObject) -> AnyObject:
        kind, meta = kind_of(wanted), wanted.metadata
        old = self.need(full_key(kind, meta.namespace, key_of(wanted).name))
        check_preconditions(old, wire.Preconditions(uid=meta.uid or None, resource_version=meta.resourceVersion))
        return old

    def _replace(self, new: AnyObject, old: AnyObject, subresource: str = "") -> OperationOutcome:
        meta, before = new.metadata, old.metadata
        meta.namespace, meta.uid = before.namespace, before.uid
        meta.ClearField("generation")
        if before.HasField("generation"):
            meta.generation = before.generation
        for field in ("creationTimestamp", "deletionTimestamp"):
            meta.ClearField(field)
            if before.HasField(field):
                getattr(meta, field).CopyFrom(getattr(before, field))
        meta.ClearField("deletionGracePeriodSeconds")
        if before.HasField("deletionGracePeriodSeconds"):
            meta.deletionGracePeriodSeconds = before.deletionGracePeriodSeconds
        check(new, old)
        if kind_of(new).has_status and _content(new) != _content(old):
            meta.generation += 1
        meta.resourceVersion = before.resourceVersion
        take_writer(meta, before)
        managing.note(new, old, shape_of, self._manager, self._actor, self._store.wall_s, subresource)
        may_go = not isinstance(new, core.Pod) or meta.deletionGracePeriodSeconds == 0
        if may_go and meta.HasField("deletionTimestamp") and before.finalizers and not meta.finalizers:
            return OperationOutcome(None, self.remove(new))
        return self._save(new, old)

    def _save(self, new: AnyObject, old: AnyObject | None) -> OperationOutcome:
        meta = new.metadata
        if old is not None:
            # Who wrote, and why, is no content: a write that changes nothing else writes nothing.
            meta.resourceVersion = old.metadata.resourceVersion
            take_writer(meta, old.metadata)
            if new == old:
                return OperationOutcome(None, old, unchanged=True)
        self._stamp(new)
        self._change(key_of(new), new)
        return OperationOutcome(None, new)

    def _stamp(self, obj: AnyObject) -> None:
        meta = obj.metadata
        meta.resourceVersion = str(self.revision)
        meta.actor = self._actor
        meta.ClearField("cause")
        if self._cause is not None:
            meta.cause.CopyFrom(self._cause)

    def _change(self, key: Key, new: AnyObject | None, last: AnyObject | None = None) -> None:
        # Two operations on one object in one revision are one change.
        store = self._store
        self.changes[key] = Change(self.revision, key, store.objects.get(key), new, store.wall_s, last)


def _content(obj: Any) -> Any:
    """What a new generation is counted of."""
    return obj.content if isinstance(obj, core.CustomObject) else obj.spec
