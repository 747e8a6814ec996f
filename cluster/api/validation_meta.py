"""The rules of metadata: names, labels, annotations, owners, finalizers, and who owns which field.

What differs by kind is only the shape of a name. An update may not touch what the master owns (uid, times); leaving
such a field out is not touching it, and the master puts it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api.kinds import AnyObject, kind_of
from cluster.api.labels import label_key_problems
from cluster.api.managers import APPLY, UPDATE, check_name
from cluster.api.names import dns1035_label_problems, dns1123_label_problems, dns1123_subdomain_problems
from cluster.api.owners import FOREGROUND, ORPHAN
from cluster.api.problems import Report
from cluster.api.raw_json import problem_of
from cluster.pb.v1 import core_pb2 as core

MAX_ANNOTATIONS_BYTES = 256 * 1024
"""Keys and values together."""

_NAME_RULES: dict[str, Callable[[str], list[str]]] = {
    "Namespace": dns1123_label_problems,
    "Service": dns1035_label_problems,
}
_STANDARD_FINALIZERS = (ORPHAN, FOREGROUND, "kubernetes")
"""Names of Kubernetes' own; others are of a domain: example.com/hold."""
_MAX_REVISION_DIGITS = 19
_MAX_SUBRESOURCE = 256


def validate_meta(report: Report, obj: AnyObject) -> None:
    """Checks obj.metadata."""
    kind, meta = kind_of(obj), obj.metadata
    name_problems = _NAME_RULES.get(kind.name, dns1123_subdomain_problems)
    if meta.generateName:
        # A prefix may end in a dash, because something follows it.
        prefix = meta.generateName[:-1] + "a" if meta.generateName.endswith("-") else meta.generateName
        report.check("metadata.generateName", meta.generateName, name_problems(prefix))
    if meta.name:
        report.check("metadata.name", meta.name, name_problems(meta.name))
    elif not meta.generateName:
        report.required("metadata.name", "name or generateName is required")
    if not kind.namespaced:
        if meta.namespace:
            report.forbidden("metadata.namespace", f"not allowed on this type: a {kind.name} is in no namespace")
    elif meta.namespace:
        report.check("metadata.namespace", meta.namespace, dns1123_label_problems(meta.namespace))
    elif not isinstance(obj, core.CustomObject):  # whether it needs one is said by its definition
        report.required("metadata.namespace")
    version = meta.resourceVersion
    if version and not (version.isascii() and version.isdigit() and len(version) <= _MAX_REVISION_DIGITS):
        report.invalid("metadata.resourceVersion", version, "must be a revision, a whole number")
    validate_labels_and_annotations(report, meta, "metadata")
    _validate_owners(report, meta)
    if meta.managedFields:
        _validate_managers(report, meta)
    is_anything_fine = isinstance(obj, core.CustomObject | core.CustomResourceDefinition)
    problems_of = label_key_problems if is_anything_fine else finalizer_problems
    for index, finalizer in enumerate(meta.finalizers):
        report.check(f"metadata.finalizers[{index}]", finalizer, problems_of(finalizer))


def finalizer_problems(name: str) -> list[str]:
    """What keeps a text from being a finalizer, other than of users' kinds and their definitions: Kubernetes asks there
    only that it could be the key of a label."""
    problems = list(label_key_problems(name))
    if not problems and "/" not in name and name not in _STANDARD_FINALIZERS:
        problems.append("name is neither a standard finalizer name nor is it fully qualified")
    return problems


def validate_labels_and_annotations(report: Report, meta: core.ObjectMeta, path: str) -> None:
    """The part of metadata that a template has too."""
    report.labels(f"{path}.labels", meta.labels)
    size = 0
    for key in sorted(meta.annotations):
        report.check(f"{path}.annotations", key, label_key_problems(key.lower()))
        size += len(key.encode()) + len(meta.annotations[key].encode())
    if size > MAX_ANNOTATIONS_BYTES:
        report.too_long(f"{path}.annotations", MAX_ANNOTATIONS_BYTES)


def _validate_owners(report: Report, meta: core.ObjectMeta) -> None:
    controllers = 0
    for index, owner in enumerate(meta.ownerReferences):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not getattr(owner, field):
                report.required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")
        controllers += owner.controller
    if controllers > 1:
        report.invalid(
            "metadata.ownerReferences",
            f"{controllers} references with controller=true",
            "Only one reference can have Controller set to true",
        )


def _validate_managers(report: Report, meta: core.ObjectMeta) -> None:
    if len(meta.managedFields) == 1 and not meta.managedFields[0].ListFields():
        return  # that ends it
    for index, entry in enumerate(meta.managedFields):
        path = f"metadata.managedFields[{index}]"
        if entry.operation not in (APPLY, UPDATE):
            report.invalid(f"{path}.operation", entry.operation, "must be `Apply` or `Update`")
        if entry.fieldsType not in ("", "FieldsV1"):
            report.invalid(f"{path}.fieldsType", entry.fieldsType, "must be `FieldsV1`")
        if entry.fieldsV1.Raw and (problem := problem_of(entry.fieldsV1.Raw)):
            report.invalid(f"{path}.fieldsV1", "fieldsV1", problem)
        check_name(report, f"{path}.manager", entry.manager)
        if len(entry.subresource) > _MAX_SUBRESOURCE:
            report.too_long(f"{path}.subresource", _MAX_SUBRESOURCE)


def validate_meta_update(report: Report, new: core.ObjectMeta, old: core.ObjectMeta) -> None:
    """Checks what an update does to metadata."""
    if new.uid and new.uid != old.uid:
        report.invalid("metadata.uid", new.uid, "field is immutable")
    for name in ("name", "namespace"):
        if getattr(new, name) != getattr(old, name):
            report.invalid(f"metadata.{name}", getattr(new, name), "field is immutable")
    _same_time(report, "metadata.creationTimestamp", new, old, "creationTimestamp", "field is immutable")
    only_by_deletion = "field is immutable; may only be changed via deletion"
    _same_time(report, "metadata.deletionTimestamp", new, old, "deletionTimestamp", only_by_deletion)
    grace = "deletionGracePeriodSeconds"
    if new.HasField("deletionGracePeriodSeconds") and (
        not old.HasField("deletionGracePeriodSeconds")
        or new.deletionGracePeriodSeconds != old.deletionGracePeriodSeconds
    ):
        report.invalid(f"metadata.{grace}", new.deletionGracePeriodSeconds, only_by_deletion)
    if new.HasField("generation") and new.generation < old.generation:
        report.invalid("metadata.generation", new.generation, "must not be decremented")
    if old.HasField("deletionTimestamp"):
        added = sorted(set(new.finalizers) - set(old.finalizers))
        if added:
            report.forbidden(
                "metadata.finalizers",
                f"no new finalizers can be added if the object is being deleted, found new finalizers {added}",
            )


def _same_time(report: Report, path: str, new: core.ObjectMeta, old: core.ObjectMeta, field: Any, message: str) -> None:
    """Compares to the second: what comes back from JSON has no more."""
    if new.HasField(field) and (not old.HasField(field) or getattr(new, field).seconds != getattr(old, field).seconds):
        report.invalid(path, getattr(new, field).seconds, message)
