"""The rules of definitions of kinds: names, scope, versions, columns, subresources. (Schemas: `validation_schema.py`.)

Kubernetes' rules (apiextensions' ValidateCustomResourceDefinition), narrowed to what Podium carries out: versions are
converted by changing their name, so there are no webhooks; and a group of Podium's own kinds is nobody else's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from cluster.api.definitions import CLUSTER, NAMESPACED, OUR_GROUPS, definition_name, is_established, schema_of
from cluster.api.errors import FieldError
from cluster.api.names import dns1035_label_problems, dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.api.raw_json import problem_of, unpack
from cluster.api.structural import RULES
from cluster.pb.v1 import core_pb2 as core

APPROVED = "api-approved.kubernetes.io"
"""The annotation by which Kubernetes' own projects say that a definition in its group is meant to be there."""
MAX_VERSIONS = 100
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password")
_PROTECTED = ("k8s.io", "kubernetes.io")
_EXPRESSIONS = ("rule", "messageExpression")
_WARNING_MAX_BYTES = 256
_simple_path = re.compile(r"(\.[a-zA-Z_][a-zA-Z0-9_-]*|\['[a-zA-Z0-9_./-]{1,253}'\])+", re.ASCII)
"""Fields only: no lists, no filters."""
_column_path = re.compile(r"[.\[][^\x00-\x1f]{0,1023}", re.ASCII)


def validate_definition(report: Report, definition: core.CustomResourceDefinition) -> None:
    """Checks the spec, and of the status what others build on."""
    spec = definition.spec
    _group(report, definition)
    _names(report, spec.names, "spec.names")
    if spec.names.plural and spec.group and definition.metadata.name != definition_name(spec.names.plural, spec.group):
        report.invalid("metadata.name", definition.metadata.name, 'must be spec.names.plural+"."+spec.group')
    if not spec.scope:
        report.required("spec.scope")
    else:
        report.one_of("spec.scope", spec.scope, (CLUSTER, NAMESPACED))
    if spec.preserveUnknownFields:
        report.invalid(
            "spec.preserveUnknownFields",
            True,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        )
    if spec.conversion.strategy not in ("", "None"):
        why = "versions are converted by changing apiVersion; webhooks are not called"
        report.not_supported("spec.conversion.strategy", spec.conversion.strategy, ("None",), why)
    _versions(report, spec.versions)
    _stored(report, definition)


def validate_definition_update(
    report: Report, new: core.CustomResourceDefinition, old: core.CustomResourceDefinition
) -> None:
    """Checks what an update changes."""
    if is_established(old):
        for path, now, before in (
            ("spec.scope", new.spec.scope, old.spec.scope),
            ("spec.names.kind", new.spec.names.kind, old.spec.names.kind),
        ):
            if now != before:
                report.invalid(path, now, "field is immutable")
    for path, now, before in (
        ("spec.group", new.spec.group, old.spec.group),
        ("spec.names.plural", new.spec.names.plural, old.spec.names.plural),
    ):
        if now != before:
            report.invalid(path, now, "field is immutable")


def validate_custom_object(report: Report, obj: core.CustomObject) -> None:
    """What can be said of an object without its definition: that it says what it is."""
    for field, value in (("apiVersion", obj.apiVersion), ("kind", obj.kind)):
        if not value:
            report.required(field)


def _group(report: Report, definition: core.CustomResourceDefinition) -> None:
    group = definition.spec.group
    if not group:
        report.required("spec.group")
        return
    report.check("spec.group", group, dns1123_subdomain_problems(group))
    if "." not in group:
        report.invalid("spec.group", group, "should be a domain with at least one dot")
    if group in OUR_GROUPS:
        report.forbidden("spec.group", f"{group} is a group of the cluster's own kinds")
    protected = any(group == suffix or group.endswith(f".{suffix}") for suffix in _PROTECTED)
    if protected and not definition.metadata.annotations.get(APPROVED):
        why = (
            f'protected groups must have approval annotation "{APPROVED}", '
            "see https://github.com/kubernetes/enhancements/pull/1111"
        )
        report.required(f"metadata.annotations[{APPROVED}]", why)


def _names(report: Report, names: core.CustomResourceDefinitionNames, path: str) -> None:
    for field, what in (("plural", names.plural), ("singular", names.singular)):
        if not what and field == "plural":
            report.required(f"{path}.{field}")
        elif what:
            report.check(f"{path}.{field}", what, dns1035_label_problems(what))
    for field, what in (("kind", names.kind), ("listKind", names.listKind)):
        if not what:
            report.required(f"{path}.{field}")
        else:
            problems = dns1035_label_problems(what.lower())
            why = [f"may have mixed case, but should otherwise match: {problem}" for problem in problems]
            report.check(f"{path}.{field}", what, why)
    if names.kind and names.kind == names.listKind:
        report.invalid(f"{path}.listKind", names.listKind, "kind and listKind may not be the same")
    for field, found in (("shortNames", names.shortNames), ("categories", names.categories)):
        for index, word in enumerate(found):
            report.check(f"{path}.{field}[{index}]", word, dns1035_label_problems(word))


def _versions(report: Report, versions: Sequence[core.CustomResourceDefinitionVersion]) -> None:
    path = "spec.versions"
    if not versions:
        report.required(path, "must have at least one version")
        return
    if len(versions) > MAX_VERSIONS:
        report.invalid(path, len(versions), f"must have at most {MAX_VERSIONS} versions")
        return
    names = [version.name for version in versions]
    if len(set(names)) < len(names):
        report.invalid(path, ",".join(names), "must contain unique version names")
    if sum(version.storage for version in versions) != 1:
        report.invalid(path, ",".join(names), "must have exactly one version marked as storage version")
    if not _rules(report, versions, path):
        return
    for index, version in enumerate(versions):
        _version(report, version, f"{path}[{index}]")


def _rules(report: Report, versions: Sequence[core.CustomResourceDefinitionVersion], path: str) -> bool:
    """Whether the rules of all versions can be compiled without that anybody waits too long."""
    if not any(RULES.encode() in version.schema.openAPIV3Schema.Raw for version in versions):
        return True
    from cluster.api.cel.definitions import MAX_RULES, MAX_RULES_BYTES, rules_in

    try:
        found = [rule for version in versions for rule in rules_in(schema_of(version))]
    except (ValueError, RecursionError):
        return True  # which is said of the schema
    texts = [str(rule.get(word) or "") for rule in found for word in _EXPRESSIONS]
    count, size_bytes = sum(map(bool, texts)), sum(len(text.encode()) for text in texts)
    for what, there, limit in (("expressions", count, MAX_RULES), ("bytes", size_bytes, MAX_RULES_BYTES)):
        if there > limit:
            report.invalid(path, there, f"must have at most {limit} {what} in {RULES}")
    return count <= MAX_RULES and size_bytes <= MAX_RULES_BYTES


def _version(report: Report, version: core.CustomResourceDefinitionVersion, path: str) -> None:
    if not version.name:
        report.required(f"{path}.name")
    else:
        report.check(f"{path}.name", version.name, dns1035_label_problems(version.name))
    if version.deprecationWarning:
        if not version.deprecated:
            report.invalid(
                f"{path}.deprecationWarning", version.deprecationWarning, "can only be set for deprecated versions"
            )
        if len(version.deprecationWarning.encode()) > _WARNING_MAX_BYTES:
            report.too_long(f"{path}.deprecationWarning", _WARNING_MAX_BYTES)
        if not version.deprecationWarning.isprintable():
            report.invalid(
                f"{path}.deprecationWarning", version.deprecationWarning, "must only contain printable characters"
            )
    for index, column in enumerate(version.additionalPrinterColumns):
        _column(report, column, f"{path}.additionalPrinterColumns[{index}]")
    if version.subresources.HasField("scale"):
        _scale(report, version.subresources.scale, f"{path}.subresources.scale")
    where = f"{path}.schema.openAPIV3Schema"
    if not version.schema.openAPIV3Schema.Raw:
        report.required(where, "schemas are required")
        return
    for problem in _schema_problems(version.schema.openAPIV3Schema.Raw, where):
        report.add(problem.path, problem.message, problem.reason)
    _selectable(report, version, path)


def _column(report: Report, column: core.CustomResourceColumnDefinition, path: str) -> None:
    if not column.name:
        report.required(f"{path}.name")
    if not column.type:
        report.required(f"{path}.type", f"must be one of {', '.join(COLUMN_TYPES)}")
    else:
        report.one_of(f"{path}.type", column.type, COLUMN_TYPES)
    if column.format:
        report.one_of(f"{path}.format", column.format, COLUMN_FORMATS)
    if not column.jsonPath:
        report.required(f"{path}.jsonPath")
    elif not _column_path.fullmatch(column.jsonPath):
        report.invalid(f"{path}.jsonPath", column.jsonPath, "must be a json path: .spec.size")


def _scale(report: Report, scale: core.CustomResourceSubresourceScale, path: str) -> None:
    for field, value, roots in (
        ("specReplicasPath", scale.specReplicasPath, (".spec.",)),
        ("statusReplicasPath", scale.statusReplicasPath, (".status.",)),
        ("labelSelectorPath", scale.labelSelectorPath, (".spec.", ".status.")),
    ):
        where = f"{path}.{field}"
        if not value:
            if field != "labelSelectorPath":
                report.required(where)
        elif not _simple_path.fullmatch(value):
            report.invalid(where, value, "must be a simple json path without array notation")
        elif not value.startswith(roots):
            report.invalid(where, value, f"should be a json path under {' or '.join(root[:-1] for root in roots)}")


@lru_cache(8)
def _schema_problems(raw: bytes, where: str) -> tuple[FieldError, ...]:
    """What is wrong with a schema. It is remembered: a large one takes a while, and most writes do not change it."""
    from cluster.api.validation_schema import validate_schema  # only who has definitions pays for it

    report = Report()
    if problem := problem_of(raw):
        report.invalid(where, "schema", problem)
    else:
        validate_schema(report, where, unpack(raw))
    return tuple(report.errors)


def _selectable(report: Report, version: core.CustomResourceDefinitionVersion, path: str) -> None:
    if not version.selectableFields:
        return
    try:
        schema = schema_of(version)
    except (ValueError, RecursionError):
        return  # which is said already
    seen: set[str] = set()
    for index, field in enumerate(version.selectableFields):
        where = f"{path}.selectableFields[{index}].jsonPath"
        if not field.jsonPath:
            report.required(where)
            continue
        if not _simple_path.fullmatch(field.jsonPath):
            report.invalid(where, field.jsonPath, "must be a simple json path")
        elif field.jsonPath.startswith(".metadata."):
            report.invalid(where, field.jsonPath, "must not point to fields in metadata")
        elif _type_at(schema, field.jsonPath) not in ("string", "integer", "boolean"):
            report.invalid(where, field.jsonPath, "must point to a field of type string, boolean or integer")
        if field.jsonPath in seen:
            report.duplicate(where, field.jsonPath)
        seen.add(field.jsonPath)
    if len(version.selectableFields) > 8:
        report.invalid(f"{path}.selectableFields", len(version.selectableFields), "must have at most 8 items")


def _type_at(schema: object, path: str) -> object:
    """The type of the field that a simple path leads to; None: there is no such field."""
    place = schema
    for step in path.removeprefix(".").split("."):
        properties = place.get("properties") if isinstance(place, dict) else None
        place = properties.get(step) if isinstance(properties, dict) else None
    return place.get("type") if isinstance(place, dict) else None


def _stored(report: Report, definition: core.CustomResourceDefinition) -> None:
    """Versions that objects may be kept as must not go away."""
    names = {version.name for version in definition.spec.versions}
    for index, name in enumerate(definition.status.storedVersions):
        if name not in names:
            report.invalid(f"status.storedVersions[{index}]", name, "must appear in spec.versions")
    storage = [version.name for version in definition.spec.versions if version.storage]
    if definition.status.storedVersions and storage and storage[0] not in definition.status.storedVersions:
        shown = ",".join(definition.status.storedVersions)
        report.invalid("status.storedVersions", shown, f"must have the storage version {storage[0]}")
