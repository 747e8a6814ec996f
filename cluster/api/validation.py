"""Whether an object may be stored: all rules that look at one object, or at one object before and after a change.

Called by the master for every write, and by the client before it sends a manifest; both after `apply_defaults`. Pure;
rules that need to see other objects (does the namespace exist, is the address free) are the master's.

    errors = validate(pod) + validate_update(pod, stored)
    if errors: raise invalid(pod, errors)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from cluster.api.errors import FieldError, Invalid
from cluster.api.json import to_json
from cluster.api.json_parse import NOT_CARRIED_OUT
from cluster.api.kinds import AnyObject, kind_of
from cluster.api.problems import Report
from cluster.api.validation_config import validate_config_map, validate_config_update, validate_secret
from cluster.api.validation_definition import (
    validate_custom_object,
    validate_definition,
    validate_definition_update,
)
from cluster.api.validation_fault import validate_fault, validate_fault_update
from cluster.api.validation_kinds import (
    validate_event,
    validate_lease,
    validate_namespace,
    validate_node,
    validate_pod,
    validate_replication_controller,
    validate_service_account,
)
from cluster.api.validation_meta import validate_meta, validate_meta_update
from cluster.api.validation_placement import validate_placement_update
from cluster.api.validation_policy import (
    validate_disruption_budget,
    validate_priority_class,
    validate_priority_class_update,
)
from cluster.api.validation_service import validate_endpoints, validate_service, validate_service_update
from cluster.pb.v1 import core_pb2 as core

MAX_OBJECT_BYTES = 3 * 512 * 1024
"""1.5 MiB, encoded: Kubernetes' (etcd's) limit."""

_RULES: dict[type[AnyObject], Callable[[Report, Any], None]] = {
    core.Pod: validate_pod,
    core.ReplicationController: validate_replication_controller,
    core.Service: validate_service,
    core.Endpoints: validate_endpoints,
    core.Node: validate_node,
    core.Event: validate_event,
    core.Namespace: validate_namespace,
    core.Lease: validate_lease,
    core.ConfigMap: validate_config_map,
    core.Secret: validate_secret,
    core.PriorityClass: validate_priority_class,
    core.PodDisruptionBudget: validate_disruption_budget,
    core.ServiceAccount: validate_service_account,
    core.Fault: validate_fault,
    core.CustomResourceDefinition: validate_definition,
    core.CustomObject: validate_custom_object,
}


def validate(obj: AnyObject) -> list[FieldError]:
    """What is wrong with an object whose defaults have been applied; nothing if it may be stored.

    An object without a name is fine if it has a generateName. Unknown fields are the business of `unknown_fields`.
    """
    report = Report()
    if obj.ByteSize() > MAX_OBJECT_BYTES:
        report.too_long("", MAX_OBJECT_BYTES)
        return report.errors  # nobody wants a hundred errors of a huge object
    validate_meta(report, obj)
    _RULES[type(obj)](report, obj)
    return report.errors


def validate_update(new: AnyObject, old: AnyObject) -> list[FieldError]:
    """What an update changes that it may not. Both have their defaults; the status is not looked at.

    Fields that the master owns (uid, times, generation, a service's address) may be missing in `new`: the master keeps
    the old ones. A pod's nodeName changes only by a bind operation, which does not come here.
    """
    if type(new) is not type(old):
        return [FieldError("kind", "cannot change")]
    report = Report()
    validate_meta_update(report, new.metadata, old.metadata)
    if isinstance(new, core.Pod) and isinstance(old, core.Pod):
        _validate_pod_update(report, new.spec, old.spec)
    elif isinstance(new, core.Service) and isinstance(old, core.Service):
        validate_service_update(report, new.spec, old.spec)
    elif isinstance(new, core.ConfigMap | core.Secret) and isinstance(old, core.ConfigMap | core.Secret):
        validate_config_update(report, new, old)
    elif isinstance(new, core.PriorityClass) and isinstance(old, core.PriorityClass):
        validate_priority_class_update(report, new, old)
    elif isinstance(new, core.Fault) and isinstance(old, core.Fault):
        validate_fault_update(report, new, old)
    elif isinstance(new, core.CustomResourceDefinition) and isinstance(old, core.CustomResourceDefinition):
        validate_definition_update(report, new, old)
    elif isinstance(new, core.Node) and isinstance(old, core.Node) and _replaced(new.spec.podCIDR, old.spec.podCIDR):
        report.forbidden("spec.podCIDR", "node updates may not change podCIDR except from empty to valid")
    return report.errors


def _replaced(new: str, old: str) -> bool:
    """Both are set, and not to the same."""
    return bool(old and new and new != old)


def _validate_pod_update(report: Report, new: core.PodSpec, old: core.PodSpec) -> None:
    """A pod is what it was made as; only images may change, tolerations may be added, gates taken away, and the time
    that it may be active be set or become shorter."""
    if new == old:
        return
    if new.nodeName != old.nodeName:
        report.forbidden("spec.nodeName", "may only be set by a bind operation")
    tolerated = [_without_seconds(toleration) for toleration in new.tolerations]
    if any(_without_seconds(toleration) not in tolerated for toleration in old.tolerations):
        report.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    _validate_limit_update(report, new, old)
    rest, before = core.PodSpec(), core.PodSpec()
    rest.CopyFrom(new)
    before.CopyFrom(old)
    validate_placement_update(report, rest, before)
    for spec in (rest, before):
        spec.ClearField("nodeName")
        spec.ClearField("tolerations")
        spec.ClearField("activeDeadlineSeconds")
        spec.securityContext.SetInParent()  # pods that were made by an older version have none
        for container in spec.containers:
            container.ClearField("image")
    if rest != before:
        for path in _changes(to_json(rest), to_json(before), "spec")[:10]:
            report.forbidden(
                path,
                "pod updates may not change fields other than `spec.containers[*].image`,"
                " `spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)",
            )


def _validate_limit_update(report: Report, new: core.PodSpec, old: core.PodSpec) -> None:
    name = "activeDeadlineSeconds"
    if old.HasField(name) and not new.HasField(name):
        report.add(f"spec.{name}", "Invalid value: null: must not update from a positive integer to nil value")
    elif old.HasField(name) and old.activeDeadlineSeconds < new.activeDeadlineSeconds:
        report.invalid(f"spec.{name}", new.activeDeadlineSeconds, "must be less than or equal to previous value")


def _without_seconds(toleration: core.Toleration) -> tuple[str, str, str, str]:
    return toleration.key, toleration.operator, toleration.value, toleration.effect


def _changes(new: Any, old: Any, path: str) -> list[str]:
    """The paths of the smallest parts that differ."""
    if isinstance(new, dict) and isinstance(old, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [change for key in keys for change in _changes(new.get(key), old.get(key), f"{path}.{key}")]
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        pairs = enumerate(zip(new, old, strict=True))
        return [change for index, (one, other) in pairs for change in _changes(one, other, f"{path}[{index}]")]
    return [] if new == old else [path]


def unknown_fields(msg: Message) -> list[FieldError]:
    """Fields, anywhere in the message, that came over the wire and are in no schema of ours. They would be stored,
    sent on and never seen by any rule, so they are refused.
    """
    if not has_unknown_fields(msg):  # as nearly always: cheaper than to visit every message
        return []
    errors: list[FieldError] = []
    _collect_unknown(msg, "", errors)
    return errors


def has_unknown_fields(msg: Message) -> bool:
    """Whether there are any, anywhere in the message."""
    known = type(msg)()
    known.CopyFrom(msg)
    known.DiscardUnknownFields()
    return known.ByteSize() != msg.ByteSize()


def _collect_unknown(message: Message, path: str, errors: list[FieldError]) -> None:
    reserved: DescriptorProto | None = None
    unknown: Any = UnknownFieldSet(message)
    for number in sorted({field.field_number for field in unknown}):
        if reserved is None:
            reserved = DescriptorProto()
            message.DESCRIPTOR.CopyToProto(reserved)
        ours = any(span.start <= number < span.end for span in reserved.reserved_range)
        text = f"field number {number} " + (NOT_CARRIED_OUT if ours else "is not known")
        errors.append(FieldError(path, text, "FieldValueForbidden" if ours else "FieldValueInvalid"))
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    _collect_unknown(value[key], f"{where}[{key}]", errors)
        elif field.is_repeated:
            for index, item in enumerate(value):
                _collect_unknown(item, f"{where}[{index}]", errors)
        else:
            _collect_unknown(value, where, errors)


def invalid(obj: AnyObject, errors: Sequence[FieldError]) -> Invalid:
    """The error that answers a write of this object, as Kubernetes words it."""
    name = obj.metadata.name or obj.metadata.generateName
    shown = [str(error) for error in errors]
    text = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    kind = kind_of(obj).name
    if isinstance(obj, core.CustomObject):
        kind = f"{obj.kind}.{obj.apiVersion.rpartition('/')[0]}"
    return Invalid(f'{kind} "{name}" is invalid: {text}', causes=errors)
