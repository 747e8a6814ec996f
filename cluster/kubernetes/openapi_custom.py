"""What OpenAPI says of kinds that users define: their schema, as their definition gives it, with what it leaves out.

A schema in a definition may say nothing of apiVersion, kind and metadata, which every object has; and version 2 of
OpenAPI knows less than a schema may say. Pure.
"""

from __future__ import annotations

from typing import Any

from cluster.kubernetes.resources import Resource

_NOT_IN_2 = frozenset(("anyOf", "oneOf", "not", "nullable", "x-kubernetes-validations"))
_API_VERSION = "The versioned schema of this representation of an object."
_KIND = "The kind of this object, as a word in CamelCase."
_METADATA = "What every object has: name, labels, annotations and the like."


def name_of(row: Resource) -> str:
    """Of its schema: com.example.v1.Widget."""
    return ".".join((*reversed(row.group.split(".")), row.version, row.kind.name))


def title_of(row: Resource) -> str:
    """The group in names of operations: ExampleCom."""
    return "".join(part.title() for part in row.group.split("."))


def schema_of(row: Resource, metadata: str, form: int) -> dict[str, Any]:
    """The schema of such objects, in version 2 or 3. `metadata`: where the schema of metadata stands."""
    assert row.custom is not None
    given = row.custom.schema.copy()
    if form == 2:
        given = _without(given)
    properties = dict(given.get("properties") or {})
    meta: dict[str, Any] = {"description": _METADATA, "allOf": [{"$ref": metadata}]}
    if form == 2:
        meta = {"$ref": metadata}
    given["type"] = "object"
    given["properties"] = {
        "apiVersion": {"type": "string", "description": _API_VERSION},
        "kind": {"type": "string", "description": _KIND},
        "metadata": meta,
        **{key: value for key, value in properties.items() if key not in ("apiVersion", "kind", "metadata")},
    }
    if row.custom.selectable:
        given["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in row.custom.selectable]
    given["x-kubernetes-group-version-kind"] = [{"group": row.group, "version": row.version, "kind": row.kind.name}]
    return given


def _without(schema: Any, *, names: bool = False) -> Any:
    """A schema without what version 2 has no words for. `names`: what stands here are schemas by names."""
    if isinstance(schema, dict):
        return {
            key: _without(value, names=key in ("properties", "patternProperties") and not names)
            for key, value in schema.items()
            if names or key not in _NOT_IN_2
        }
    return [_without(each) for each in schema] if isinstance(schema, list) else schema
