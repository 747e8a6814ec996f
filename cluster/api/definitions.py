"""Kinds that users define: what a CustomResourceDefinition says, for those who carry it out. Pure.

Whoever serves or stores objects of such a kind asks here: which versions there are and which one is stored, what the
schema of a version is, whether the names were accepted. Names are accepted if no older definition of the same group has
them (`accept_names`); a definition whose names were not is stored, and nothing can be written by it until whoever has
its names is gone. Versions differ in apiVersion alone (`spec.conversion.strategy: None`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cluster.api.conditions import FALSE, TRUE, is_condition_true, set_condition
from cluster.api.formats import KNOWN
from cluster.api.jsonpath import parse
from cluster.api.kinds import KINDS, DefinedKind, kind_of_type
from cluster.api.raw_json import unpack
from cluster.api.structural import subschemas
from cluster.pb.v1 import core_pb2 as core

NAMES_ACCEPTED, ESTABLISHED, TERMINATING = "NamesAccepted", "Established", "Terminating"
NAMESPACED, CLUSTER = "Namespaced", "Cluster"
OUR_GROUPS = frozenset(kind.api_version.partition("/")[0] for kind in KINDS if "/" in kind.api_version)
"""Of the cluster's own kinds: nobody defines kinds there."""
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that keeps a definition until its objects are gone."""


def definition_name(plural: str, group: str) -> str:
    """What a definition is called, and the `resource` of its objects."""
    return f"{plural}.{group}"


def is_established(definition: core.CustomResourceDefinition) -> bool:
    """Objects of that kind can be read and written."""
    return is_condition_true(definition.status, ESTABLISHED)


def is_namespaced(definition: core.CustomResourceDefinition) -> bool:
    """Its objects live in namespaces."""
    return definition.spec.scope == NAMESPACED


def storage_version(definition: core.CustomResourceDefinition) -> core.CustomResourceDefinitionVersion | None:
    """The version as which its objects are kept."""
    return next((version for version in definition.spec.versions if version.storage), None)


def version_named(definition: core.CustomResourceDefinition, name: str) -> core.CustomResourceDefinitionVersion | None:
    """The version of that name, served or not."""
    return next((version for version in definition.spec.versions if version.name == name), None)


def version_order(name: str) -> tuple[Any, ...]:
    """The order in which clients are offered versions: v2, v1, v2beta1, v1alpha3, and then other names."""
    kind, numbers = "", [0, 0]
    if name.startswith("v"):
        major, _, rest = name[1:].replace("alpha", " alpha ").replace("beta", " beta ").partition(" ")
        word, _, minor = rest.partition(" ")
        if major.isdecimal() and major.isascii() and (not rest or (minor.isdecimal() and minor.isascii())):
            kind, numbers = word or "ga", [int(major), int(minor or 0)]
    rank = {"ga": 0, "beta": 1, "alpha": 2}.get(kind, 3)
    return rank, -numbers[0], -numbers[1], name


def schema_of(version: core.CustomResourceDefinitionVersion) -> dict[str, Any]:
    """Its schema, as JSON's values, for the caller alone. A stored definition has one."""
    raw = version.schema.openAPIV3Schema.Raw
    schema = unpack(raw) if raw else {}
    return schema if isinstance(schema, dict) else {}


def has_status(version: core.CustomResourceDefinitionVersion) -> bool:
    """The status is written apart from the rest."""
    return version.subresources.HasField("status")


def selectable_paths(definition: core.CustomResourceDefinition) -> list[str]:
    """Paths that a field selector may use, in the version that is stored: "spec.colour"."""
    version = storage_version(definition)
    return [] if version is None else [field.jsonPath.removeprefix(".") for field in version.selectableFields]


def accept_names(
    definition: core.CustomResourceDefinition, others: Iterable[core.CustomResourceDefinition], now_s: float
) -> None:
    """Says in the definition's status which of its names were accepted, seen what others of its group have; in place.

    What was accepted once stays so, even if another one asks for it; a name that is taken keeps the one from before.
    """
    names, status = definition.spec.names, definition.status
    taken = _Taken(others, definition.spec.group, definition.metadata.name)
    accepted, conflict = core.CustomResourceDefinitionNames(), None
    for field, reason in _SINGLE:
        wanted = getattr(names, field)
        if wanted in taken.of(field):
            conflict = (f"{reason}Conflict", f'"{wanted}" is already in use')
            wanted = getattr(status.acceptedNames, field)
        if wanted:
            setattr(accepted, field, wanted)
    used = [short for short in names.shortNames if short in taken.resources]
    if used:
        shown = " ".join(f'"{short}" is already in use' for short in used)
        conflict = ("ShortNamesConflict", f"[{shown}]" if len(used) > 1 else shown)
    accepted.shortNames.extend(status.acceptedNames.shortNames if used else names.shortNames)
    accepted.categories.extend(names.categories)
    status.acceptedNames.CopyFrom(accepted)
    if conflict is not None:
        set_condition(status, NAMES_ACCEPTED, FALSE, now_s, *conflict)
        if not is_established(definition):
            set_condition(status, ESTABLISHED, FALSE, now_s, "NotAccepted", "not all names are accepted")
        return
    set_condition(status, NAMES_ACCEPTED, TRUE, now_s, "NoConflicts", "no conflicts found")
    if not is_established(definition):
        set_condition(status, ESTABLISHED, TRUE, now_s, "InitialNamesAccepted", "the initial names have been accepted")


_SINGLE = (("plural", "Plural"), ("singular", "Singular"), ("kind", "Kind"), ("listKind", "ListKind"))


class _Taken:
    """Names that others of a group have: of resources (plural, singular, short) and of kinds (objects, lists)."""

    def __init__(self, others: Iterable[core.CustomResourceDefinition], group: str, name: str) -> None:
        self.resources: set[str] = set()
        self.kinds: set[str] = set()
        for other in others:
            if other.spec.group == group and other.metadata.name != name:
                accepted = other.status.acceptedNames
                self.resources.update(filter(None, (accepted.plural, accepted.singular, *accepted.shortNames)))
                self.kinds.update(filter(None, (accepted.kind, accepted.listKind)))

    def of(self, field: str) -> set[str]:
        return self.kinds if field in ("kind", "listKind") else self.resources


def remember_stored(definition: core.CustomResourceDefinition) -> None:
    """Adds the version that is stored to those that have ever been; in place."""
    version = storage_version(definition)
    if version is not None and version.name not in definition.status.storedVersions:
        definition.status.storedVersions.append(version.name)


def mark_terminating(definition: core.CustomResourceDefinition, now_s: float) -> None:
    """Says that its objects are being deleted, because it is; in place."""
    set_condition(
        definition.status,
        TERMINATING,
        TRUE,
        now_s,
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    )


def row_of(definition: core.CustomResourceDefinition) -> DefinedKind:
    """The kind that it describes, as a row like those of our own kinds; its plural is the definition's name."""
    spec, row = definition.spec, kind_of_type(core.CustomObject)
    version = storage_version(definition)
    return DefinedKind(
        row.name,
        definition.metadata.name,
        row.message,
        definition_name(spec.names.singular, spec.group),
        tuple(spec.names.shortNames),
        is_namespaced(definition),
        row.has_status,
        f"{spec.group}/{version.name if version is not None else ''}",
        definition=definition,
    )


def defined_by_word(
    definitions: Iterable[core.CustomResourceDefinition], word: str
) -> core.CustomResourceDefinition | None:
    """The definition of the kind meant by a word on the command line: "widgets", "widget", "wd", "Widget",
    "widgets.example.com", "widget.example.com". Of several the first by name."""
    wanted = word.lower()
    for definition in sorted(definitions, key=lambda each: each.metadata.name):
        names, group = definition.spec.names, definition.spec.group
        words = {name.lower() for name in (names.plural, names.singular, names.kind) if name}
        if wanted in words or wanted in {definition_name(one, group) for one in words} or wanted in names.shortNames:
            return definition
    return None


def defined_as(
    definitions: Iterable[core.CustomResourceDefinition], api_version: str, kind: str
) -> core.CustomResourceDefinition | None:
    """The definition of the kind that a manifest's apiVersion and kind mean."""
    group, _, version = api_version.rpartition("/")
    for definition in definitions:
        if (definition.spec.group, definition.spec.names.kind) == (group, kind) and version_named(definition, version):
            return definition
    return None


def may_be_defined(api_version: str) -> bool:
    """Whether users may define kinds of this apiVersion: its group has a dot, and is none of ours."""
    group = api_version.rpartition("/")[0]
    return "." in group and group not in OUR_GROUPS


def not_carried_out(definition: core.CustomResourceDefinition) -> Iterator[str]:
    """One sentence for what is asked for and not carried out, with the path of the value that it is about."""
    for index, version in enumerate(definition.spec.versions):
        formats = []
        for path, schema in subschemas(schema_of(version)):
            if schema.get("format") and schema["format"] not in KNOWN:
                formats.append(path or "(root)")
        for number, column in enumerate(version.additionalPrinterColumns):
            try:
                parse(column.jsonPath)
            except ValueError as error:
                path = f"spec.versions[{index}].additionalPrinterColumns[{number}].jsonPath"
                yield f"{path}: is not understood, and the column is left out: {error}"
        where = f"spec.versions[{index}].schema.openAPIV3Schema"
        if formats:
            yield f"{where}: unrecognized formats ask for nothing, at {_few(formats)}"


def _few(paths: list[str], limit: int = 10) -> str:
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + more
