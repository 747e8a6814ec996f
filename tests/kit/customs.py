"""A definition of a kind, for tests: Widgets, with all that a definition can say."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from cluster.api.json import object_from_json
from cluster.pb.v1 import core_pb2 as core

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A thing to be made.",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 0, "description": "How big it is."},
                "color": {"type": "string", "default": "blue", "enum": ["blue", "red"]},
                "replicas": {"type": "integer"},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "properties": {
                            "port": {"type": "integer"},
                            "protocol": {"type": "string", "default": "TCP"},
                            "note": {"type": "string"},
                        },
                    },
                },
                "selector": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "additionalProperties": {"type": "string"},
                },
                "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": {"type": "string"},
                "replicas": {"type": "integer"},
                "selector": {"type": "string"},
                "since": {"type": "string"},
                "conditions": {
                    "type": "array",
                    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
        },
    },
}
COLUMNS = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Since", "type": "date", "jsonPath": ".status.since"},
    {"name": "Ports", "type": "string", "jsonPath": ".spec.ports", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def version(name: str = "v1", *, storage: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": deepcopy(SCHEMA)},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": COLUMNS,
        "selectableFields": [{"jsonPath": ".spec.color"}],
        **more,
    }


def definition(*versions: dict[str, Any], plural: str = "widgets", **spec: Any) -> dict[str, Any]:
    """A definition as a manifest."""
    kind = plural.removesuffix("s").title()
    names: dict[str, Any] = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    names |= {"shortNames": [plural[:2]], "categories": ["all", "things"]}
    content = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": list(versions or [version()])}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{spec.get('group', 'example.com')}"},
        "spec": {**content, **spec},
    }


def established(*versions: dict[str, Any], plural: str = "widgets", number: int = 7, **spec: Any) -> Any:
    """The same as it is stored when it counts."""
    crd = object_from_json(definition(*versions, plural=plural, **spec))
    assert isinstance(crd, core.CustomResourceDefinition)
    crd.metadata.uid, crd.metadata.resourceVersion = f"uid-of-{plural}", str(number)
    crd.status.acceptedNames.CopyFrom(crd.spec.names)
    for condition in ("NamesAccepted", "Established"):
        crd.status.conditions.add(type=condition, status="True")
    return crd


def widget(name: str = "one", *, version: str = "v1", **spec: Any) -> dict[str, Any]:
    """A widget as a manifest."""
    return {
        "apiVersion": f"example.com/{version}",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 3, **spec},
    }
