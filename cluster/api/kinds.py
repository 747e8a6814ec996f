"""The kinds of objects that a cluster has: one row per kind, and everything else asks this table.

A kind's row says how it is called (in a manifest, on the command line, in a path), whether its names live in a
namespace, which message holds it, and in which field of the wire's `Object` it travels. To add a kind: add the message
to core.proto, a field to `Object` in cluster.proto, and a row here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from cluster.api.errors import Invalid
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

AnyObject: TypeAlias = (
    core.Pod
    | core.Node
    | core.ReplicationController
    | core.Service
    | core.Endpoints
    | core.Event
    | core.Namespace
    | core.Lease
    | core.ConfigMap
    | core.Secret
    | core.PriorityClass
    | core.PodDisruptionBudget
    | core.ServiceAccount
    | core.Fault
    | core.CustomResourceDefinition
    | core.CustomObject
)
"""An API object: every one has `metadata`; all but Endpoints, Event, ConfigMap, Secret, PriorityClass and
ServiceAccount have `spec`, and those but Lease `status`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known about a kind."""

    name: str
    """As in a manifest's `kind`: "Pod"."""
    plural: str
    """As on the command line and in references: "pods"."""
    message: type[AnyObject]
    field: str
    """The field of wire.Object that holds it; also the singular on the command line."""
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = True
    """Status is written apart from the rest (update_status)."""
    api_version: str = "v1"


@dataclass(frozen=True, slots=True)
class DefinedKind(Kind):
    """A kind that users have defined. Such objects are kept as CustomObjects; the plural is the definition's name."""

    definition: core.CustomResourceDefinition = field(kw_only=True, compare=False)


KINDS: tuple[Kind, ...] = (
    Kind("Pod", "pods", core.Pod, "pod", ("po",)),
    Kind("Node", "nodes", core.Node, "node", ("no",), namespaced=False),
    Kind(
        "ReplicationController", "replicationcontrollers", core.ReplicationController, "replicationcontroller", ("rc",)
    ),
    Kind("Service", "services", core.Service, "service", ("svc",)),
    Kind("Endpoints", "endpoints", core.Endpoints, "endpoints", ("ep",), has_status=False),
    Kind("Event", "events", core.Event, "event", ("ev",), has_status=False),
    Kind("Namespace", "namespaces", core.Namespace, "namespace", ("ns",), namespaced=False),
    Kind("Lease", "leases", core.Lease, "lease", has_status=False, api_version="coordination.k8s.io/v1"),
    Kind("ConfigMap", "configmaps", core.ConfigMap, "configmap", ("cm",), has_status=False),
    Kind("Secret", "secrets", core.Secret, "secret", has_status=False),
    Kind(
        "PriorityClass",
        "priorityclasses",
        core.PriorityClass,
        "priorityclass",
        ("pc",),
        namespaced=False,
        has_status=False,
        api_version="scheduling.k8s.io/v1",
    ),
    Kind(
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        core.PodDisruptionBudget,
        "poddisruptionbudget",
        ("pdb",),
        api_version="policy/v1",
    ),
    Kind("ServiceAccount", "serviceaccounts", core.ServiceAccount, "serviceaccount", ("sa",), has_status=False),
    Kind("Fault", "faults", core.Fault, "fault", api_version="podium.dev/v1"),
    Kind(
        "CustomResourceDefinition",
        "customresourcedefinitions",
        core.CustomResourceDefinition,
        "customresourcedefinition",
        ("crd", "crds"),
        namespaced=False,
        api_version="apiextensions.k8s.io/v1",
    ),
    Kind("CustomObject", "customobjects", core.CustomObject, "customobject", api_version="podium.dev/v1"),
)

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
_BY_MESSAGE: dict[type, Kind] = {kind.message: kind for kind in KINDS}
_BY_FIELD: dict[str, Kind] = {kind.field: kind for kind in KINDS}
_BY_WORD: dict[str, Kind] = {
    word: kind for kind in KINDS for word in (kind.name.lower(), kind.plural, kind.field, *kind.short_names)
}


def kind_named(name: str) -> Kind:
    """The kind of a manifest's `kind`, case and all. Raises Invalid."""
    kind = BY_NAME.get(name)
    if kind is None:
        raise Invalid(f'kind "{name}" is not known; known are {", ".join(BY_NAME)}')
    return kind


_INSTEAD = dict.fromkeys(
    ("deployment", "deployments", "deploy", "replicaset", "replicasets", "rs"), "ReplicationController"
)
"""Kinds of Kubernetes that Podium does not have, and what does here what most people use them for."""


def kind_hint(word: str, known: Collection[str]) -> str:
    """What may have been meant by a word for a kind; empty: nobody knows."""
    if word.lower() in _INSTEAD:
        return f" (what keeps a number of pods here is a {_INSTEAD[word.lower()]})"
    from difflib import get_close_matches  # which nobody needs who knows what there is

    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return f' (did you mean "{by_lower[close[0]]}"?)' if close else ""


def kind_of(obj: AnyObject) -> Kind:
    """The row of an object's kind."""
    return _BY_MESSAGE[type(obj)]


def kind_of_type(message: type[object]) -> Kind:
    """The row of the kind that such messages hold: kind_of_type(core.Pod)."""
    return _BY_MESSAGE[message]


def kind_from_word(word: str) -> Kind:
    """The kind meant by a word on the command line: "po", "pod", "pods", "Pod". Raises Invalid."""
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        known = ", ".join(
            f"{kind.plural} ({', '.join(kind.short_names)})" if kind.short_names else kind.plural for kind in KINDS
        )
        raise Invalid(f'there is no kind "{word}"{kind_hint(word, _BY_WORD)}; known are {known}')
    return kind


def wrap(obj: AnyObject) -> wire.Object:
    """An object as it travels. The content is copied."""
    return wire.Object(**{kind_of(obj).field: obj})  # type: ignore[arg-type]


def put_in(envelope: wire.Object, obj: AnyObject) -> None:
    """The same into an envelope that is there already: an object that travels inside something is copied once."""
    place = getattr(envelope, _BY_MESSAGE[type(obj)].field)
    place.SetInParent()
    place.CopyFrom(obj)


def unwrap(envelope: wire.Object) -> AnyObject:
    """The object in an envelope (not a copy). Raises Invalid if the envelope is empty."""
    field = envelope.WhichOneof("object")
    if field is None:
        raise Invalid("the operation carries no object")
    obj: AnyObject = getattr(envelope, field)
    return obj
