"""What each operation of a write makes of the state: create, update, patch, update_status, bind, delete, evict.

    outcome = operations.carry_out(stage, operation, writer)    # stages changes, or raises what is wrong with it

Every operation finds its object, asks whether its writer may do that with it, makes the new version, lets admission and
validation look at it, and stages it; what changes nothing stages nothing. The rules are Kubernetes' (semantics K2, K3,
K8), and so are the words of the errors. Server-owned metadata (uid, creationTimestamp, generation, deletion) is the
stage's and cannot be written; the status is written by its own operation only, and by that alone. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from cluster.api import aside
from cluster.api.conditions import get_condition
from cluster.api.defaults import apply_defaults
from cluster.api.errors import AlreadyExists, ApiError, BadRequest, Invalid, NotFound
from cluster.api.json import patched, read_json
from cluster.api.kinds import AnyObject, Kind, kind_named, kind_of, unwrap
from cluster.api.meta import Key, called, key_of, to_time
from cluster.api.names import Dice, generate_name
from cluster.api.shapes import shape_of
from cluster.api.validation import has_unknown_fields, invalid, unknown_fields, validate, validate_update
from cluster.master import binding, definitions, deletion, eviction, managing
from cluster.master.admission import DEFAULT_NAMESPACE, Admission
from cluster.master.authorization import authorize_removal, authorize_write, is_unrestricted
from cluster.master.known import Facts, Prefixes
from cluster.master.metadata import (
    asks_for_more,
    check_preconditions,
    check_version,
    counts_generations,
    keep_owned,
    keep_stamps,
)
from cluster.master.stage import Stage, copy_of
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.store.version import Version

_CONDITIONS_OF_NODES = frozenset({"PodScheduled", "Initialized", "ContainersReady", "Ready"})
"""What a node says of a pod itself."""
_NAME_TRIES = 8
_NOBODY = wire.FieldManager()
"""In whose name an operation is that says nothing of it."""


class Writer:
    """Who writes, and what made them."""

    __slots__ = ("actor", "cause", "identity")

    def __init__(self, identity: Identity, cause: core.Cause | None = None) -> None:
        self.identity = identity
        self.cause = cause
        self.actor = str(identity)
        """As it stands in what is written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: an error, or the object (for a delete, its last content)."""

    error: ApiError | None = None
    version: Version | None = None
    unchanged: bool = False


class Operations:
    """See the head of this file. Ids and dice are handed in. It carries out one request after the other (`begin`)."""

    def __init__(self, admission: Admission, new_uid: Callable[[], str], rng: Dice) -> None:
        self._admission = admission
        self._new_uid = new_uid
        self._rng = rng
        self._prefixes = Prefixes()
        self._all_known = False
        """Of the request that is being carried out: it was looked through, and every field in it is known."""
        self._manager = _NOBODY
        """Of the operation that is being carried out."""

    def begin(self, request: wire.WriteRequest) -> None:
        """What is carried out from now on is of this request."""
        # All its objects at once: that is cheaper than one by one, and nearly always says all there is to say.
        self._all_known = not has_unknown_fields(request)

    def carry_out(self, stage: Stage, operation: wire.Operation, writer: Writer) -> Outcome:
        """Stages what it comes to. Raises ApiError; what it had staged by then is to be aborted."""
        word = operation.WhichOneof("operation")
        self._manager = _NOBODY
        if operation.HasField("manager"):
            self._manager = operation.manager
            managing.check(operation.manager)
        if word == "update_status":  # most writes of a running cluster
            return self._update_status(stage, operation.update_status, writer)
        if word is None:
            raise BadRequest("an operation that says nothing")
        return _OPERATIONS[word](self, stage, getattr(operation, word), writer)

    # --- operations

    def _create(self, stage: Stage, request: wire.CreateOperation, writer: Writer) -> Outcome:
        obj = copy_of(unwrap(request.object))
        kind, meta = kind_of(obj), obj.metadata
        authorize_write(writer.identity, "create", kind.name, None, obj, Facts(stage, self._prefixes))
        self._refuse_unknown(obj)
        if meta.resourceVersion:
            raise Invalid("metadata.resourceVersion: must not be set on an object to be created")
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.ClearField(field)
        if not self._manager.applied:
            meta.ClearField("managedFields")  # nobody has applied it yet
        apply_defaults(obj)
        if isinstance(obj, core.CustomObject):
            self._admission.customs.place(stage, obj)
        if not meta.name and meta.generateName:
            meta.name = self._free_name(stage, obj)
        key = self._key_of(stage, obj)
        if stage.get(key) is not None:
            raise AlreadyExists(f"{called(key)} already exists")
        meta.uid = self._new_uid()
        meta.creationTimestamp.CopyFrom(to_time(stage.now_s))
        if counts_generations(obj):
            meta.generation = 1
        errors = self._admission.before_create(stage, obj)
        errors += validate(obj)
        if errors:
            raise invalid(obj, errors)
        return Outcome(version=stage.put(obj, key, writer.actor, writer.cause))

    def _free_name(self, stage: Stage, obj: AnyObject) -> str:
        for _ in range(_NAME_TRIES):
            obj.metadata.name = generate_name(obj.metadata.generateName, self._rng)
            key = self._key_of(stage, obj)
            if stage.get(key) is None:
                return obj.metadata.name
        raise AlreadyExists(
            f'no free name was found for {kind_of(obj).plural} "{obj.metadata.generateName}"; try again'
        )

    def _update(self, stage: Stage, request: wire.UpdateOperation, writer: Writer) -> Outcome:
        new = copy_of(unwrap(request.object))
        version = self._find(stage, writer, "update", kind_of(new), new.metadata.namespace, _name_of(new))
        self._refuse_unknown(new)
        return self._replace(stage, "update", version, new, writer)

    def _update_status(self, stage: Stage, request: wire.UpdateStatusOperation, writer: Writer) -> Outcome:
        given = unwrap(request.object)
        version = self._find(stage, writer, "update_status", kind_of(given), given.metadata.namespace, _name_of(given))
        self._refuse_unknown(given)
        return self._replace_status(stage, version, given, writer)

    def _patch(self, stage: Stage, request: wire.PatchOperation, writer: Writer) -> Outcome:
        verb = "update_status" if request.status else "patch"
        version = self._find(stage, writer, verb, kind_named(request.kind), request.namespace, request.name)
        check_preconditions(version, request)
        patch = _read_patch(request.merge_patch)
        old = version.object
        new = patched(old, patch)
        if (new.metadata.namespace, new.metadata.name) != (old.metadata.namespace, old.metadata.name):
            raise Invalid("metadata.name and metadata.namespace cannot be patched")
        if request.status:
            return self._replace_status(stage, version, new, writer)
        return self._replace(stage, verb, version, new, writer)

    def _bind(self, stage: Stage, request: wire.BindOperation, writer: Writer) -> Outcome:
        version = self._find(stage, writer, "bind", kind_named("Pod"), request.namespace, request.name)
        check_preconditions(version, request)
        pod = version.object
        assert isinstance(pod, core.Pod)
        bound = binding.bound(pod, request.node_name, stage)
        return Outcome(version=stage.put(bound, version.key, writer.actor, writer.cause))

    def _delete(self, stage: Stage, request: wire.DeleteOperation, writer: Writer) -> Outcome:
        version = self._find(stage, writer, "delete", kind_named(request.kind), request.namespace, request.name)
        authorize_removal(writer.identity, request)
        check_preconditions(version, request)
        return self._end(stage, version, request, writer)

    def _evict(self, stage: Stage, request: wire.EvictOperation, writer: Writer) -> Outcome:
        version = self._find(stage, writer, "evict", kind_named("Pod"), request.namespace, request.name)
        check_preconditions(version, request)
        pod = version.object
        assert isinstance(pod, core.Pod)
        budgets = [found.parse() for found in stage.list("PodDisruptionBudget", version.key.namespace)]
        spent = eviction.spend(pod, cast(list[core.PodDisruptionBudget], budgets), stage.now_s)
        if spent is not None:
            stage.put(spent, key_of(spent), writer.actor, writer.cause)
        removal = wire.DeleteOperation(kind=version.key.kind, namespace=version.key.namespace, name=version.key.name)
        if request.HasField("grace_period_seconds"):
            removal.grace_period_seconds = request.grace_period_seconds
        return self._end(stage, version, removal, writer)

    # --- steps

    def _end(self, stage: Stage, version: Version, request: wire.DeleteOperation, writer: Writer) -> Outcome:
        verdict = deletion.decide(version.object, request, stage)
        if not verdict.remove and verdict.changed is None:
            return Outcome(version=version, unchanged=True)
        if deletion.orphans(version.object, request):
            for dependent, freed in deletion.orphaned(version.object, stage):
                stage.put(freed, dependent.key, writer.actor, writer.cause)
        if verdict.changed is not None:
            return Outcome(version=stage.put(verdict.changed, version.key, writer.actor, writer.cause))
        return self._remove(stage, version, writer)

    def _key(self, stage: Stage, kind: Kind, namespace: str, name: str) -> Key:
        """The key that a request means. Raises BadRequest, Invalid, NotFound."""
        if kind.message is core.CustomObject:
            return self._admission.customs.key(stage, namespace, name)
        return _key(kind, namespace, name)

    def _key_of(self, stage: Stage, obj: AnyObject) -> Key:
        return self._key(stage, kind_of(obj), obj.metadata.namespace, _name_of(obj))

    def _find(self, stage: Stage, writer: Writer, verb: str, kind: Kind, namespace: str, name: str) -> Version:
        """The object to be written, if this writer may do that with it. Raises Invalid, NotFound, Forbidden."""
        unrestricted = is_unrestricted(writer.identity, verb, kind.name)
        if not name:
            raise Invalid("metadata.name: is required")
        key = self._key(stage, kind, namespace, name)
        version = stage.get(key)
        if version is None:
            raise NotFound(f"{called(key)} not found")
        if not unrestricted:
            known = Facts(stage, self._prefixes)
            authorize_write(writer.identity, verb, kind.name, version.object, version.object, known)
        return version

    def _refuse_unknown(self, obj: AnyObject) -> None:
        if not self._all_known and (errors := unknown_fields(obj)):
            raise invalid(obj, errors)

    def _remove(self, stage: Stage, version: Version, writer: Writer) -> Outcome:
        self._admission.removed(stage, version.object)
        outcome = Outcome(version=stage.remove(version, writer.actor, writer.cause))
        self._accept_others(stage, version.object, writer)
        return outcome

    @staticmethod
    def _accept_others(stage: Stage, changed: AnyObject, writer: Writer) -> None:
        """A definition has gone, or has other names now: perhaps one that waited for its names can have them."""
        if isinstance(changed, core.CustomResourceDefinition):
            for key, other in list(definitions.others_accepted(stage, changed)):
                stage.put(other, key, writer.actor, writer.cause)

    def _replace(self, stage: Stage, verb: str, version: Version, new: AnyObject, writer: Writer) -> Outcome:
        """Spec and metadata as in `new`, which belongs to us; what is the master's, and the status, as it is."""
        old = version.object
        check_version(version, old, new)
        keep_owned(new.metadata, old.metadata)
        if kind_of(old).has_status and not isinstance(
            new, core.CustomObject
        ):  # its definition says whether it is apart
            _copy_status(new, old)
            aside.take_status(new, old)
        apply_defaults(new)
        problems = self._admission.before_update(stage, new, old)
        authorize_write(writer.identity, verb, version.key.kind, old, new, Facts(stage, self._prefixes))
        errors = problems + validate(new) + validate_update(new, old)
        if errors:
            raise invalid(new, errors)
        if counts_generations(new) and asks_for_more(new, old):
            new.metadata.generation += 1
        keep_stamps(new.metadata, old.metadata)
        self._note(stage, new, old, writer)
        return self._put_if_changed(stage, version, new, writer)

    def _replace_status(self, stage: Stage, version: Version, given: AnyObject, writer: Writer) -> Outcome:
        """The status as in `given`, all else as it is."""
        kind = kind_of(given)
        if not kind.has_status:
            raise BadRequest(f"{kind.plural} have no status")
        new = version.parse_own()
        check_version(version, new, given)
        if isinstance(new, core.CustomObject) and isinstance(given, core.CustomObject):
            return self._replace_custom_status(stage, version, new, given, writer)
        of_others = _conditions_of_others(new, writer)
        _copy_status(new, given)
        if aside.has_aside(given):  # whoever knows nothing of such fields changes none of them
            aside.take_status(new, given)
        for condition in of_others:
            if get_condition(new.status, condition.type) is None:  # type: ignore[union-attr, arg-type]
                new.status.conditions.append(condition)  # type: ignore[union-attr, arg-type]
        if not is_unrestricted(writer.identity, "update_status", kind.name):
            known = Facts(stage, self._prefixes)
            authorize_write(writer.identity, "update_status", kind.name, version.object, new, known)
        if isinstance(new, core.CustomResourceDefinition):
            old = version.object
            assert isinstance(old, core.CustomResourceDefinition)
            definitions.before_update_status(stage, new, old)
        # What placement, evictions and whoever reads objects of a kind reckon with.
        if isinstance(new, core.Node | core.PodDisruptionBudget | core.CustomResourceDefinition):
            apply_defaults(new)
            errors = validate(new)
            if errors:
                raise invalid(new, errors)
        self._note_status(stage, new, given, version, writer)
        return self._put_if_changed(stage, version, new, writer)

    def _put_if_changed(self, stage: Stage, version: Version, new: AnyObject, writer: Writer) -> Outcome:
        """`new` has the stamps of the old version: then the same bytes mean that nothing was changed."""
        if new.SerializeToString(deterministic=True) == version.data:
            return Outcome(version=version, unchanged=True)
        if deletion.may_go(new):  # the last finalizer was taken away
            return self._remove(stage, stage.put(new, version.key, writer.actor, writer.cause), writer)
        outcome = Outcome(version=stage.put(new, version.key, writer.actor, writer.cause))
        self._accept_others(stage, new, writer)
        return outcome

    def _replace_custom_status(
        self, stage: Stage, version: Version, new: core.CustomObject, given: core.CustomObject, writer: Writer
    ) -> Outcome:
        """The status of an object of a kind that users define: any JSON that its schema takes."""
        authorize_write(
            writer.identity, "update_status", version.key.kind, version.object, new, Facts(stage, self._prefixes)
        )
        errors = self._admission.customs.complete_status(stage, new, given)
        errors += validate(new)
        if errors:
            raise invalid(new, errors)
        self._note_status(stage, new, given, version, writer)
        return self._put_if_changed(stage, version, new, writer)

    def _note_status(self, stage: Stage, new: AnyObject, given: AnyObject, version: Version, writer: Writer) -> None:
        if self._manager.applied:
            new.metadata.ClearField("managedFields")
            new.metadata.managedFields.MergeFrom(given.metadata.managedFields)
        self._note(stage, new, version.object, writer, "status")

    def _note(self, stage: Stage, new: AnyObject, old: AnyObject, writer: Writer, subresource: str = "") -> None:
        """Who answers for which fields from now on, if that is kept of this object."""
        managing.note(
            new,
            old,
            lambda obj: (
                self._admission.customs.shape(stage, obj) if isinstance(obj, core.CustomObject) else shape_of(obj)
            ),
            self._manager,
            writer.actor,
            stage.now_s,
            subresource,
        )


_OPERATIONS: dict[str, Callable[[Operations, Stage, Any, Writer], Outcome]] = {
    "create": Operations._create,
    "update": Operations._update,
    "patch": Operations._patch,
    "update_status": Operations._update_status,
    "bind": Operations._bind,
    "delete": Operations._delete,
    "evict": Operations._evict,
}


def _conditions_of_others(old: AnyObject, writer: Writer) -> list[core.PodCondition]:
    """What others than its node say of a pod. A node writes what it knows over whatever is there, as nobody else does,
    and may not have heard of it yet: it takes nothing away."""
    if not isinstance(old, core.Pod) or writer.identity.kind not in ("node", "hollow"):
        return []
    found = []
    for condition in old.status.conditions:
        if condition.type not in _CONDITIONS_OF_NODES:
            kept = core.PodCondition()
            kept.CopyFrom(condition)
            found.append(kept)
    return found


def _copy_status(new: Any, source: Any) -> None:
    if source.HasField("status"):
        new.status.CopyFrom(source.status)
    else:
        new.ClearField("status")


def _name_of(obj: AnyObject) -> str:
    """As requests name it: an object of a kind that users define by RESOURCE/NAME."""
    return f"{obj.resource}/{obj.metadata.name}" if isinstance(obj, core.CustomObject) else obj.metadata.name


def _key(kind: Kind, namespace: str, name: str) -> Key:
    if not kind.namespaced:
        if namespace:
            raise Invalid(f"metadata.namespace: {kind.plural} have no namespace")
        return Key(kind.name, "", name)
    return Key(kind.name, namespace or DEFAULT_NAMESPACE, name)


def _read_patch(text: bytes) -> dict[str, Any]:
    patch = read_json(text)
    if not isinstance(patch, dict):
        raise BadRequest("a merge patch is a JSON object")
    return patch
