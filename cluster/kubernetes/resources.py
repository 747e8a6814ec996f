"""What is served: a row for each kind, from which discovery, paths and OpenAPI follow.

The rows are those of `cluster.api.kinds`, with what only Kubernetes' API says about them: the group and version apart,
subresources with the kinds of their bodies, and categories ("all"). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cluster.api.kinds import BY_NAME, KINDS, Kind
from cluster.pb.v1 import kubernetes_pb2 as bodies

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part or an action of an object: pods/NAME/eviction."""

    name: str
    kind: str
    """Of its bodies."""
    group: str
    version: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as it is served."""

    kind: Kind
    group: str
    """Empty for those of old."""
    version: str
    subresources: tuple[Subresource, ...]
    categories: tuple[str, ...] = ()
    shape: type[Message] | None = None
    """The message that says which fields it has, if they are called otherwise than where it is kept (views.py)."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def plural(self) -> str:
        return self.kind.plural

    @property
    def descriptor(self) -> Descriptor:
        """Of its message."""
        return cast(Descriptor, (self.shape or self.kind.message).DESCRIPTOR)

    @property
    def qualified(self) -> str:
        """As errors name it: "pods", "leases.coordination.k8s.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def in_protobuf(self) -> bool:
        """Whether the messages of this kind are Kubernetes' own; others are served as JSON alone."""
        return self.group in _IN_PROTOBUF

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.subresources if each.name == name), None)


_IN_PROTOBUF = ("", "policy", "coordination.k8s.io", "scheduling.k8s.io")
_IN_ALL = ("Pod", "ReplicationController", "Service")
_CHANGED = ("get", "patch", "update")
_PROXIED = ("create", "delete", "get", "patch", "update")


def _subresources(kind: Kind, group: str, version: str) -> tuple[Subresource, ...]:
    found = []
    if kind.name == "Pod":
        found += [
            Subresource("attach", "PodAttachOptions", "", "v1", ("create", "get")),
            Subresource("binding", "Binding", "", "v1", ("create",)),
            Subresource("eviction", "Eviction", "policy", "v1", ("create",)),
            Subresource("exec", "PodExecOptions", "", "v1", ("create", "get")),
            Subresource("log", "Pod", "", "v1", ("get",)),
            Subresource("portforward", "PodPortForwardOptions", "", "v1", ("create", "get")),
            Subresource("proxy", "PodProxyOptions", "", "v1", _PROXIED),
        ]
    if kind.name == "Service":
        found.append(Subresource("proxy", "ServiceProxyOptions", "", "v1", _PROXIED))
    if kind.name == "ServiceAccount":
        found.append(Subresource("token", "TokenRequest", "authentication.k8s.io", "v1", ("create",)))
    if kind.name == "ReplicationController":
        found.append(Subresource("scale", "Scale", "autoscaling", "v1", _CHANGED))
    if kind.has_status:
        found.append(Subresource("status", kind.name, group, version, _CHANGED))
    return tuple(found)


def _row(kind: Kind) -> Resource:
    group, _, version = kind.api_version.rpartition("/")
    categories = ("all",) if kind.name in _IN_ALL else ()
    return Resource(kind, group, version, _subresources(kind, group, version), categories)


_VIEWS = (Resource(BY_NAME["Event"], "events.k8s.io", "v1", (), shape=bodies.ReportedEvent),)
"""Kinds that are served in a second group."""
RESOURCES: tuple[Resource, ...] = (*(_row(kind) for kind in KINDS), *_VIEWS)
BY_PATH: dict[tuple[str, str, str], Resource] = {(row.group, row.version, row.plural): row for row in RESOURCES}
"""(group, version, plural) -> row."""
BY_KIND: dict[str, Resource] = {row.kind.name: row for row in RESOURCES if row.shape is None}
GROUP_VERSIONS: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((row.group, row.version) for row in RESOURCES))
"""In the order of the table, the core group first."""


def resources_of(group: str, version: str) -> list[Resource]:
    """Those of one group and version, sorted by name."""
    return sorted(
        (row for row in RESOURCES if (row.group, row.version) == (group, version)), key=lambda row: row.plural
    )
