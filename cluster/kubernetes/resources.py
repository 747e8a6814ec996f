"""What is served: a row for each kind, from which discovery, paths and OpenAPI follow.

The rows are those of `cluster.api.kinds`, with what only Kubernetes' API says about them: the group and version apart,
subresources with the kinds of their bodies, and categories ("all"). Kinds that users define have rows as well, one for
each version that is served (`definitions.py`); which there are at a time, `catalog.py` knows. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cluster.api.errors import BadRequest
from cluster.api.fields import paths_in
from cluster.api.kinds import BY_NAME, KINDS, Kind
from cluster.api.meta import Key, custom_key
from cluster.api.shapes import OfCustom, OfMessage, Shape
from cluster.pb.v1 import kubernetes_pb2 as bodies

if TYPE_CHECKING:
    from cluster.kubernetes.definitions import Defined

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CUSTOM = "CustomObject"
"""The kind that objects of all kinds that users define are stored as; it is not served by itself."""


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part or an action of an object: pods/NAME/eviction."""

    name: str
    kind: str
    """Of its bodies."""
    group: str
    version: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A kind as it is served, in one version."""

    kind: Kind
    group: str
    """Empty for those of old."""
    version: str
    subresources: tuple[Subresource, ...]
    categories: tuple[str, ...] = ()
    list_kind: str = ""
    """Of lists of it."""
    view: type[Message] | None = None
    """The message that says which fields it has, if they are called otherwise than where it is kept (views.py)."""
    custom: Defined | None = None
    """What its definition says besides; None: it is one of Podium's own."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def shape(self) -> Shape:
        """What server-side apply goes by."""
        if self.custom is not None:
            return OfCustom(self.custom.schema.data, status_apart=self.kind.has_status)
        return OfMessage(self.descriptor)

    @property
    def plural(self) -> str:
        return self.kind.plural

    @property
    def descriptor(self) -> Descriptor:
        """Of its message."""
        return cast(Descriptor, (self.view or self.kind.message).DESCRIPTOR)

    @property
    def qualified(self) -> str:
        """As errors name it: "pods", "leases.coordination.k8s.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def in_protobuf(self) -> bool:
        """Whether the messages of this kind are Kubernetes' own; others are served as JSON alone."""
        return self.custom is None and self.group in _IN_PROTOBUF

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be done with objects of it, but for their parts."""
        is_going = self.custom is not None and self.custom.terminating
        return ("delete", "deletecollection", "get", "list", "watch") if is_going else VERBS

    @property
    def stored_kind(self) -> str:
        """The kind that it is stored as, and that rights are given to."""
        return self.kind.name if self.custom is None else CUSTOM

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.subresources if each.name == name), None)

    def key(self, namespace: str, name: str) -> Key:
        """Of an object of that name."""
        if self.custom is not None:
            return custom_key(self.custom.name, namespace, name)
        return Key(self.kind.name, namespace, name)

    def selector(self, *terms: str) -> str:
        """A field selector that chooses objects of this kind by all of these terms; those that are empty do not
        count. Raises BadRequest for fields that a definition does not offer."""
        given = [term for term in terms if term]
        if self.custom is None:
            return ",".join(given)
        for path in (path for term in given for path in paths_in(term)):
            if path not in ("metadata.name", "metadata.namespace", *self.custom.selectable):
                raise BadRequest(f"field label not supported: {path[:80]}")
        return ",".join([f"resource={self.custom.name}", *given])


_IN_PROTOBUF = ("", "policy", "coordination.k8s.io", "scheduling.k8s.io", "events.k8s.io")
_IN_ALL = ("Pod", "ReplicationController", "Service")
CHANGED = ("get", "patch", "update")
"""What can be done with a part of an object that is read and written like the whole."""
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
        found.append(Subresource("scale", "Scale", "autoscaling", "v1", CHANGED))
    if kind.has_status:
        found.append(Subresource("status", kind.name, group, version, CHANGED))
    return tuple(found)


def _row(kind: Kind) -> Resource:
    group, _, version = kind.api_version.rpartition("/")
    return Resource(
        kind,
        group,
        version,
        _subresources(kind, group, version),
        categories=("all",) if kind.name in _IN_ALL else ("api-extensions",) if kind.name in _EXTENSIONS else (),
        list_kind=f"{kind.name}List",
    )


_EXTENSIONS = ("CustomResourceDefinition",)
_VIEWS = (Resource(BY_NAME["Event"], "events.k8s.io", "v1", (), list_kind="EventList", view=bodies.ReportedEvent),)
"""Kinds that are served in a second group."""
RESOURCES: tuple[Resource, ...] = (*(_row(kind) for kind in KINDS if kind.name != CUSTOM), *_VIEWS)
"""Podium's own, in the order of the table, the core group first."""
BY_KIND: dict[str, Resource] = {row.kind.name: row for row in RESOURCES if row.view is None}
"""Podium's own."""
