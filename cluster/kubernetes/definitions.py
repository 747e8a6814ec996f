"""From a CustomResourceDefinition to the rows that are served because of it: one for each served version.

A definition counts from when its condition Established is True, with the names that were accepted. Of its schema, its
columns and its paths everything that a request needs is made here, once; what does not make sense in them (the master
has looked at them before they were stored) is as if it were not there. Pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from cluster.api.columns import Column
from cluster.api.conditions import get_condition
from cluster.api.custom_columns import custom_columns
from cluster.api.definitions import (
    has_status,
    is_established,
    is_namespaced,
    schema_of,
    selectable_paths,
    storage_version,
    version_order,
)
from cluster.api.jsonpath import parse
from cluster.api.kinds import Kind
from cluster.api.meta import is_terminating
from cluster.api.structural import default, only_defaults
from cluster.kubernetes.resources import CHANGED, Resource, Subresource
from cluster.pb.v1 import core_pb2 as core


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where an object says how many it is to have, how many it has, and of what."""

    wanted: tuple[str, ...]
    """The fields on the way; so are the others."""
    there: tuple[str, ...]
    selector: tuple[str, ...] | None


class SchemaText:
    """A schema, kept as text until somebody needs it: operators bring schemas of some hundred kilobytes, which take ten
    times as much when they are read, and of most kinds objects are only looked at."""

    def __init__(self, version: core.CustomResourceDefinitionVersion) -> None:
        self._version = core.CustomResourceDefinitionVersion(schema=version.schema)
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """As JSON's values; read once, and not to be changed."""
        if self._data is None:
            self._data = schema_of(self._version)
        return self._data

    def copy(self) -> dict[str, Any]:
        """The same for the caller alone; nothing more is kept because of it."""
        return schema_of(self._version)


class Defaults:
    """What is added to objects when they are read: what was stored before a default was there has it, too. It is that
    of the version that is stored, as in Kubernetes."""

    def __init__(self, version: core.CustomResourceDefinitionVersion) -> None:
        self._text: SchemaText | None = None
        self._schema: dict[str, Any] | None = None
        if b'"default":' in version.schema.openAPIV3Schema.Raw:
            self._text = SchemaText(version)

    @property
    def any(self) -> bool:
        """There are some."""
        self._read()
        return self._schema is not None

    def add(self, data: dict[str, Any]) -> bool:
        """Adds them to an object as JSON's values, in place; returns whether any was missing."""
        self._read()
        return self._schema is not None and default(data, self._schema)

    def _read(self) -> None:
        """Of the schema, only what leads to defaults is kept."""
        if self._text is not None:
            text, self._text = self._text, None
            self._schema = only_defaults(text.copy())


@dataclass(frozen=True, slots=True, eq=False)
class Defined:
    """What a version of a definition says, besides the names."""

    name: str
    """Of the definition: PLURAL.GROUP."""
    tag: str
    """Names this very version of this very definition: what was made by another one is not to be used."""
    schema: SchemaText
    defaults: Defaults
    columns: tuple[Column, ...]
    """Of tables."""
    selectable: tuple[str, ...]
    """Fields that a field selector may use, besides name and namespace: spec.color."""
    scale: ScalePaths | None
    warning: str
    """What everybody is told who uses this version; mostly empty."""
    terminating: bool
    """It is being deleted: nothing more is created."""


def is_decided(crd: core.CustomResourceDefinition) -> bool:
    """Whether it is clear that the kind is served, or that it is not as long as the definition is as it is."""
    names = get_condition(crd.status, "NamesAccepted")
    return is_established(crd) or (names is not None and names.status == "False")


def rows_of(crd: core.CustomResourceDefinition) -> list[Resource]:
    """The rows of an established definition, those of the newest version first."""
    names = crd.status.acceptedNames if crd.status.HasField("acceptedNames") else crd.spec.names
    versions = sorted((each for each in crd.spec.versions if each.served), key=lambda each: version_order(each.name))
    content = b"%s %s" % (_bytes(crd.spec), _bytes(names))
    tag = f"{crd.metadata.uid} {hashlib.sha256(content).hexdigest()[:16]}"
    stored = storage_version(crd)
    defaults = Defaults(stored or core.CustomResourceDefinitionVersion())
    return [_row(crd, names, version, defaults, tag) for version in versions]


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _row(
    crd: core.CustomResourceDefinition,
    names: core.CustomResourceDefinitionNames,
    version: core.CustomResourceDefinitionVersion,
    defaults: Defaults,
    tag: str,
) -> Resource:
    group, kind_name = crd.spec.group, names.kind
    stored = selectable_paths(crd)  # the master looks at objects as they are stored
    status_apart = has_status(version)
    scale = _scale(version)
    subresources = []
    if scale is not None:
        subresources.append(Subresource("scale", "Scale", "autoscaling", "v1", CHANGED))
    if status_apart:
        subresources.append(Subresource("status", kind_name, group, version.name, CHANGED))
    kind = Kind(
        kind_name,
        names.plural,
        core.CustomObject,
        names.singular or kind_name.lower(),
        tuple(names.shortNames),
        namespaced=is_namespaced(crd),
        has_status=status_apart,
        api_version=f"{group}/{version.name}",
    )
    custom = Defined(
        crd.metadata.name,
        f"{tag} {version.name}",
        SchemaText(version),
        defaults,
        custom_columns(version.additionalPrinterColumns),
        tuple(path for each in version.selectableFields if (path := each.jsonPath.removeprefix(".")) in stored),
        scale,
        _warning(version, f"{group}/{version.name} {kind_name}"),
        is_terminating(crd),
    )
    return Resource(
        kind,
        group,
        version.name,
        tuple(subresources),
        categories=tuple(names.categories),
        list_kind=names.listKind or f"{kind_name}List",
        custom=custom,
    )


def _warning(version: core.CustomResourceDefinitionVersion, what: str) -> str:
    if not version.deprecated:
        return ""
    return version.deprecationWarning if version.HasField("deprecationWarning") else f"{what} is deprecated"


def _scale(version: core.CustomResourceDefinitionVersion) -> ScalePaths | None:
    if not version.subresources.HasField("scale"):
        return None
    given = version.subresources.scale
    wanted, there = _fields(given.specReplicasPath), _fields(given.statusReplicasPath)
    if wanted is None or there is None:
        return None
    return ScalePaths(wanted, there, _fields(given.labelSelectorPath) if given.labelSelectorPath else None)


def _fields(text: str) -> tuple[str, ...] | None:
    try:
        return parse(text).names
    except ValueError:
        return None
