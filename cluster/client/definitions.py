"""Which definition is meant: of manifests of kinds that users define, and of words for such kinds.

The cluster is asked once, and only if there is something that none of our own kinds explains. A manifest may come
together with the definition of its kind: definitions are put first, and both are written in one revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cluster.api.custom_json import custom_to_json
from cluster.api.definitions import (
    defined_as,
    defined_by_word,
    is_namespaced,
    row_of,
    schema_of,
    version_named,
)
from cluster.api.errors import FieldError, Invalid
from cluster.api.kinds import DefinedKind
from cluster.api.manifest import Manifest
from cluster.api.structural import prune
from cluster.client.interface import ClusterClient, ListResult
from cluster.pb.v1 import core_pb2 as core


async def find_definitions(client: ClusterClient, manifests: Sequence[Manifest], namespace: str) -> list[Manifest]:
    """The manifests, definitions first, and each object of a kind that they or the cluster define with its definition
    and its namespace. Raises Invalid for kinds that nobody defines, and for fields that their schema does not know: the
    master would take those out without a word."""
    if not any(isinstance(each.object, core.CustomObject | core.CustomResourceDefinition) for each in manifests):
        return list(manifests)
    brought = [each.object for each in manifests if isinstance(each.object, core.CustomResourceDefinition)]
    known = [*brought]
    if any(isinstance(each.object, core.CustomObject) for each in manifests):
        known += (await client.list(core.CustomResourceDefinition)).items
    found: list[Manifest] = []
    problems: list[FieldError] = []
    for manifest in manifests:
        if not isinstance(manifest.object, core.CustomObject):
            found.append(manifest)
            continue
        obj = core.CustomObject()
        obj.CopyFrom(manifest.object)
        definition = defined_as(known, obj.apiVersion, obj.kind)
        if definition is None:
            message = f'no matches for kind "{obj.kind}" in version "{obj.apiVersion}": nobody has defined it'
            problems.append(FieldError(f"{manifest.source}:{manifest.line}: kind", message, "FieldValueNotSupported"))
            continue
        where = f"{manifest.source}:{manifest.line}"
        problems += [FieldError(f"{where}: {path}", "unknown field") for path in _unknown(obj, definition)]
        obj.resource = definition.metadata.name
        if is_namespaced(definition) and not obj.metadata.namespace:
            obj.metadata.namespace = namespace
        found.append(replace(manifest, object=obj))
    if problems:
        raise Invalid("\n".join(map(str, problems)), causes=problems)
    return sorted(found, key=lambda each: not isinstance(each.object, core.CustomResourceDefinition))


def _unknown(obj: core.CustomObject, definition: core.CustomResourceDefinition) -> list[str]:
    version = version_named(definition, obj.apiVersion.rpartition("/")[2])
    if version is None:
        return []
    return prune(custom_to_json(obj), schema_of(version))


class Definitions(Protocol):
    """Where definitions are looked up: a client, or what was there at a moment."""

    async def list(self, kind: type[core.CustomResourceDefinition], /) -> ListResult[core.CustomResourceDefinition]:
        """All of them."""


async def kinds_of_words(source: Definitions, words: Sequence[str]) -> dict[str, DefinedKind]:
    """The kinds that users have defined and that are meant by these words; words that mean none are left out."""
    known = (await source.list(core.CustomResourceDefinition)).items
    found = {word: defined_by_word(known, word) for word in words}
    return {word: row_of(definition) for word, definition in found.items() if definition is not None}
