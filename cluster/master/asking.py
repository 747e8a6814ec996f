"""What a read asks for, and whether its reader may have it: from a request to a key, or to what the store looks for.

Selectors are read here, and what of them the index answers is told apart from what objects have to be looked into for.
A watch or list that asks for the pods of one node (spec.nodeName=...) goes by the index, a watch of one object
(metadata.name=...) as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cluster.api.errors import BadRequest, Forbidden, Invalid, NotFound
from cluster.api.fields import FieldSelector, asked_for, parse_field_selector
from cluster.api.kinds import AnyObject, Kind, kind_named
from cluster.api.labels import Selector, parse_selector
from cluster.api.meta import Key
from cluster.api.names import dns1035_label_problems, dns1123_label_problems
from cluster.master import service_watch
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.authorization import Known, authorize_selection, is_unrestricted
from cluster.master.customs import Customs
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.store.store import Store
from cluster.store.watchers import Interest

_INDEXED = {"Pod": "spec.nodeName", "CustomObject": "resource"}
"""What the index knows of a kind, besides names: see `cluster.api.meta.place_of`."""


class Asking:
    """See above. `known`: what authorization asks of the state."""

    def __init__(self, store: Store, known: Known) -> None:
        self._store = store
        self._known = known
        self._customs = Customs()

    def key(self, kind: Kind, request: wire.GetRequest) -> Key:
        """The object that is asked for. Raises BadRequest, Invalid, NotFound."""
        namespace = request.namespace
        if kind.message is core.CustomObject:
            if request.HasField("revision") or request.HasField("time"):
                # Whether it has a namespace is said by its definition, which may have gone since.
                version = self._store.get(Key("CustomResourceDefinition", "", request.name.partition("/")[0]))
                if version is None:
                    return Key(kind.name, namespace or DEFAULT_NAMESPACE, request.name)
            return self._customs.key(self._store, namespace, request.name)
        return Key(
            kind.name, _namespace(kind, namespace) or (DEFAULT_NAMESPACE if kind.namespaced else ""), request.name
        )

    def pods_of(self, namespace: str, node: str) -> Iterator[core.Pod]:
        """The pods of a namespace that are bound to a node."""
        for version in self._store.state.list("Pod", namespace, node):
            pod = version.parse()
            assert isinstance(pod, core.Pod)
            yield pod

    def _selectable(self, kind: Kind, selector: str) -> Sequence[str]:
        """The fields that a selector of objects of a kind may name because the kind's definition says so."""
        resource = asked_for("resource", selector) if selector and kind.message is core.CustomObject else ""
        try:
            return self._customs.definition(self._store, resource).selectable if resource else ()
        except NotFound:
            return ()  # then there is nothing of it, either

    def interest(
        self, identity: Identity, verb: str, kind: Kind, request: wire.ListRequest | wire.WatchRequest
    ) -> Interest:
        """What a list or watch asks for, if this identity may. Raises BadRequest, Forbidden."""
        more = self._selectable(kind, request.field_selector)
        fields = parse_field_selector(kind.name, request.field_selector, more)
        labels = parse_selector(request.label_selector)
        namespace = _namespace(kind, request.namespace)
        authorize_selection(identity, verb, kind.name, namespace, fields.equals, labels.equals, self._known)
        # Of pods the index knows those of a node, of objects of kinds that users define those of a definition.
        node = fields.equals.get(_INDEXED.get(kind.name, ""), "")
        name = fields.equals.get("metadata.name", "") if verb == "watch" else ""
        asked = len(fields.terms)
        if name and kind.message is core.CustomObject:
            name, node, asked = (f"{node}/{name}", "", asked - 1) if node else ("", "", asked)
        elif node:
            name = ""
        matches = _matcher(labels, fields, by_index=bool(node or name) and asked == 1)
        selector = f"{request.label_selector}\n{request.field_selector}" if matches is not None else ""
        return Interest(kind.name, namespace, node, name, selector, matches)

    def wish(self, identity: Identity, request: wire.WatchRequest) -> tuple[Interest, int | None]:
        """What a watch asks for, and after which revision (None: from now on). Raises BadRequest, Forbidden."""
        interest = self.interest(identity, "watch", kind_named(request.kind), request)
        if request.initial_state and request.HasField("after_revision"):
            raise BadRequest("initial_state and after_revision cannot be given together")
        return interest, request.after_revision if request.HasField("after_revision") else None

    @staticmethod
    def service(identity: Identity, verb: str, request: wire.ResolveRequest) -> tuple[str, str]:
        """Its namespace and name, if this identity may read services and who is behind them. Raises BadRequest,
        Forbidden."""
        for kind in service_watch.WATCHED:
            if not is_unrestricted(identity, verb, kind):
                raise Forbidden(f"{identity} may not {verb} all {kind}, and so it may not resolve them")
        namespace = request.namespace or DEFAULT_NAMESPACE
        if dns1035_label_problems(request.name) or dns1123_label_problems(namespace):
            raise BadRequest(f'"{request.name}" in "{namespace}" cannot be the name of a service')
        return namespace, request.name


def _matcher(labels: Selector, fields: FieldSelector, *, by_index: bool) -> Callable[[AnyObject], bool] | None:
    """What selectors ask of an object, beyond what the index answers (`by_index`: the fields); None: nothing."""
    by_labels, by_fields = not labels.is_empty, not fields.is_empty and not by_index
    if by_labels and by_fields:
        return lambda obj: labels.matches(obj.metadata.labels) and fields.matches(obj)
    if by_labels:
        return lambda obj: labels.matches(obj.metadata.labels)
    return fields.matches if by_fields else None


def _namespace(kind: Kind, namespace: str) -> str:
    if namespace and not kind.namespaced:
        raise Invalid(f"{kind.plural} have no namespace")
    return namespace
