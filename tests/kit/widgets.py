"""A kind that a user might define, and objects of it: what tests of definitions begin with."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from cluster.api.json import custom_from_json, object_from_json
from cluster.pb.v1 import core_pb2 as core

WIDGETS = "widgets.example.com"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "colour": {"type": "string", "default": "red", "enum": ["red", "green"]},
                "weight": {"type": "number"},
                "note": {"type": "string", "nullable": True},
                "port": {"x-kubernetes-int-or-string": True},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "pattern": "^[a-z]+$"},
                            "count": {"type": "integer", "default": 1},
                        },
                    },
                },
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}, "phase": {"type": "string"}}},
    },
}


def definition(
    plural: str = "widgets",
    kind: str = "Widget",
    *,
    group: str = "example.com",
    scope: str = "Namespaced",
    status: bool = True,
    schema: dict[str, Any] | None = None,
    versions: tuple[str, ...] = ("v1",),
    **names: Any,
) -> core.CustomResourceDefinition:
    """The first version is the one that is stored."""
    data = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": kind, **names},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[0],
                    "schema": {"openAPIV3Schema": deepcopy(SCHEMA if schema is None else schema)},
                    **({"subresources": {"status": {}}} if status else {}),
                }
                for version in versions
            ],
        },
    }
    made = object_from_json(data)
    assert isinstance(made, core.CustomResourceDefinition)
    return made


def widget(
    name: str = "blue",
    spec: dict[str, Any] | None = None,
    *,
    namespace: str = "default",
    resource: str = WIDGETS,
    version: str = "v1",
    kind: str = "Widget",
    metadata: dict[str, Any] | None = None,
    **rest: Any,
) -> core.CustomObject:
    where = {"namespace": namespace} if namespace else {}
    data = {
        "apiVersion": f"{resource.partition('.')[2]}/{version}",
        "kind": kind,
        "metadata": {"name": name, **where, **(metadata or {})},
        "spec": {"size": 3} if spec is None else spec,
        **rest,
    }
    return custom_from_json(data, resource)
