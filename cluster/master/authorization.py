"""Who may do what: one table, verb x kind x identity, and what is not in it is denied.

`CALLS` says which identities may make which call at all; a call that has no row is nobody's. `TABLE` says what they may
do with objects of a kind (both are in `cluster.api.rights`), and for nodes, with which of them: a node agent is the
part of the cluster that is most easily stolen (it runs other people's programs), so it reads and writes nothing but
itself and the pods bound to it. Changes are judged on the object before and the object after. The idea is that of
Kubernetes' node authorizer and NodeRestriction.

A service account reads what is in its namespace, but no secrets, and writes nothing.

Who plays hollow nodes (`cluster.api.hollow`) may do for them what an agent may do for its node, and remove them; but it
reads no configuration. They are those of its prefix, by name and by label: a real node of such a name is none of them.

Pure: identity and objects in, nothing or Forbidden out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from cluster.api import hollow
from cluster.api.defaults import DEFAULT_NAMESPACE
from cluster.api.errors import Forbidden
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.leases import COMPONENT_LEASES
from cluster.api.meta import Key
from cluster.api.pods import config_references
from cluster.api.rights import CALLS, TABLE, Scope
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity

_NODE_LABEL_DOMAINS = ("kubernetes.io", "topology.kubernetes.io", "podium.dev")
_ADMIN_LABEL_DOMAIN = "node-restriction.kubernetes.io"


class Known(Protocol):
    """What a judgement asks of the state."""

    def bound_to(self, pod: Key) -> str | None:
        """The node of the pod with that key: "" if it has none yet, None if there is no such pod."""
        ...

    def hollow_prefix(self, node: str) -> str | None:
        """The prefix whose process plays the node of that name; empty if it is no hollow node, None if there is none of
        that name."""
        ...


PodsOf = Callable[[str, str], Iterable[core.Pod]]
"""The pods of a namespace that are bound to a node."""


def authorize_call(identity: Identity, method: str) -> None:
    """Whether this identity may make this call at all. Raises Forbidden."""
    if identity.kind not in CALLS.get(method, ()):
        raise Forbidden(f"{identity} may not call {method}")


def authorize_name(identity: Identity, kind: str, key: Key, pods: PodsOf) -> None:
    """Whether this identity may ask for the object of that name, whether there is one or not. Raises Forbidden."""
    if _scope(identity, "get", kind) is Scope.NAMESPACE and key.namespace != _namespace_of(identity):
        raise _forbidden(identity, "get", kind, Scope.NAMESPACE.value)
    if _scope(identity, "get", kind) is Scope.USED and not any(
        (kind, key.name) in config_references(pod.spec) for pod in pods(key.namespace, identity.name)
    ):
        raise _forbidden(identity, "get", kind, "only those that pods bound to it use")


def authorize_get(identity: Identity, kind: str, obj: AnyObject, known: Known) -> None:
    """Whether this identity may read this object. Raises Forbidden."""
    _check(identity, "get", kind, obj, obj, known)


def authorize_selection(
    identity: Identity,
    verb: str,
    kind: str,
    namespace: str,
    fields: Mapping[str, str],
    labels: Mapping[str, str],
    known: Known,
) -> None:
    """Whether this identity may list or watch what is selected by namespace (empty: all), and by fields and labels that
    must be equal to these, if by nothing else. Raises Forbidden."""
    scope = _scope(identity, verb, kind)
    if scope is Scope.ANY:
        return
    if scope is Scope.NAMESPACE:
        if namespace != _namespace_of(identity):
            raise _forbidden(identity, verb, kind, scope.value)
        return
    if identity.kind == "hollow" and scope is Scope.ITSELF:
        if any(labels.get(key) != value for key, value in hollow.labels_of(identity.name).items()):
            selector = hollow.selector_of(identity.name)
            raise _forbidden(identity, verb, kind, f"only with the label selector {selector}")
        return
    field = {Scope.ITSELF: "metadata.name", Scope.BOUND: "spec.nodeName"}.get(scope)
    if field is None or not _is_its_own(identity, fields.get(field, ""), known):
        whose = identity.name if identity.kind == "node" else "a node that it plays"
        raise _forbidden(identity, verb, kind, f"only with the field selector {field}={whose}")


def authorize_heartbeat(identity: Identity, node: str, known: Known) -> None:
    """Whether this identity may say that this node is alive. Raises Forbidden."""
    if identity.kind == "admin" or _is_its_own(identity, node, known):
        return
    # Of a node that is gone, who plays it must be told that it is: nothing is noted.
    is_gone = identity.kind == "hollow" and known.hollow_prefix(node) is None
    if not (is_gone and hollow.has_prefix(node, identity.name)):
        raise Forbidden(f'{identity} may not send heartbeats of node "{node}"')


def authorize_write(
    identity: Identity, verb: str, kind: str, old: AnyObject | None, new: AnyObject | None, known: Known
) -> None:
    """Whether this identity may take the object from `old` to `new` (None: there is none). Raises Forbidden.

    For everything but create, call it before anything else is said about the object, with new=old, and again with the
    outcome: someone who may not touch an object learns nothing of it from other errors.
    """
    _check(identity, verb, kind, old, new, known)


def is_unrestricted(identity: Identity, verb: str, kind: str) -> bool:
    """Whether this identity may do this with every object of a kind, whatever is in it: then there is nothing to be
    looked at, and `authorize_write` says nothing. Raises Forbidden if it may do it with none."""
    return _scope(identity, verb, kind) is Scope.ANY


def authorize_removal(identity: Identity, request: wire.DeleteOperation) -> None:
    """A node removes a pod only when it has ended there (grace 0), and only the very pod that it ran (uid)."""
    if identity.kind in ("node", "hollow") and not (
        request.HasField("grace_period_seconds")
        and request.grace_period_seconds == 0
        and request.HasField("preconditions")
        and request.preconditions.uid
    ):
        raise _forbidden(identity, "delete", request.kind, "only with grace period 0 and the uid as a precondition")


def _is_its_own(identity: Identity, node: str, known: Known) -> bool:
    """Whether the identity is the agent of the node of that name, or plays it."""
    if identity.kind == "hollow":
        return bool(node) and known.hollow_prefix(node) == identity.name
    return identity.kind == "node" and node == identity.name


def _namespace_of(identity: Identity) -> str:
    """Of a service account."""
    return identity.name.partition("/")[0]


def _scope(identity: Identity, verb: str, kind: str) -> Scope:
    verbs = TABLE.get((identity.kind, kind))
    scope = verbs.get(verb) if verbs is not None else None
    if scope is None:
        raise _forbidden(identity, verb, kind)
    return scope


def _check(
    identity: Identity, verb: str, kind: str, old: AnyObject | None, new: AnyObject | None, known: Known
) -> None:
    scope = _scope(identity, verb, kind)
    if scope is Scope.ANY:
        return
    problem = _PROBLEMS[scope](identity, old, new, known)
    if problem:
        raise _forbidden(identity, verb, kind, problem)


def _forbidden(identity: Identity, verb: str, kind: str, why: str = "") -> Forbidden:
    words = verb.replace("update_status", "update the status of")
    return Forbidden(f"{identity} may not {words} {BY_NAME[kind].plural}" + (f": {why}" if why else ""))


# --- what is wrong, by scope


def _not_itself(identity: Identity, old: AnyObject | None, new: AnyObject | None, _: Known) -> str:
    is_hollow = identity.kind == "hollow"
    for node in (old, new):
        if not isinstance(node, core.Node):
            continue
        if not is_hollow and node.metadata.name != identity.name:
            return "only itself"
        if is_hollow and hollow.prefix_of(node) != identity.name:
            selector = hollow.selector_of(identity.name)
            return f"only those named {hollow.node_name(identity.name, 1)} and so on, with the labels {selector}"
    if not isinstance(new, core.Node):
        return ""
    if old is None:
        if new.spec.podCIDR:
            return "spec.podCIDR is given to it"
        if any(key.startswith(_ADMIN_LABEL_DOMAIN) for key in new.metadata.labels):
            return f"labels of {_ADMIN_LABEL_DOMAIN} are not its own to set"
        if not is_hollow and any(key in new.metadata.labels for key in hollow.HOLLOW_LABELS):
            return f"the label {hollow.HOLLOW_LABEL} is for nodes that are only played"
        if new.metadata.ownerReferences or new.metadata.finalizers:
            return "it has no owners and no finalizers"
        return ""
    assert isinstance(old, core.Node)
    if old is new:
        return ""
    if new.spec != old.spec:
        return "its spec is not its own to change"
    before, after = old.metadata, new.metadata
    changed = {key for key in {*before.labels, *after.labels} if before.labels.get(key) != after.labels.get(key)}
    foreign = sorted(
        key for key in changed if key.partition("/")[0] not in _NODE_LABEL_DOMAINS or key in hollow.HOLLOW_LABELS
    )
    if foreign:
        return f"the label {foreign[0]} is not its own to change"
    if list(after.ownerReferences) != list(before.ownerReferences) or list(after.finalizers) != list(before.finalizers):
        return "its owners and finalizers are not its own to change"
    return ""


def _not_bound(identity: Identity, old: AnyObject | None, new: AnyObject | None, known: Known) -> str:
    nodes = {pod.spec.nodeName for pod in (old, new) if isinstance(pod, core.Pod)}
    if all(_is_its_own(identity, node, known) for node in nodes):
        return ""
    return "only those bound to it" if identity.kind == "node" else "only those bound to nodes that it plays"


def _not_used(identity: Identity, old: AnyObject | None, new: AnyObject | None, _: Known) -> str:
    """Judged by its name, in `authorize_name`, which sees the pods; and only reading is in the table."""
    return "" if old is new else "only to read"


def _not_about_it(identity: Identity, old: AnyObject | None, new: AnyObject | None, known: Known) -> str:
    for event in (old, new):
        if not isinstance(event, core.Event):
            continue
        about = event.involvedObject
        if about.kind == "Node" and _is_its_own(identity, about.name, known):
            continue
        if about.kind == "Pod":
            node = known.bound_to(Key("Pod", about.namespace, about.name))
            # A pod that is gone already may still get its last words ("Killing").
            if node is None or _is_its_own(identity, node, known):
                continue
        return "only those about itself and the pods bound to it"
    return ""


_SCHEDULERS_CONDITIONS = ("PodScheduled", "DisruptionTarget")


def _not_the_condition(identity: Identity, old: AnyObject | None, new: AnyObject | None, _: Known) -> str:
    if isinstance(old, core.Pod) and isinstance(new, core.Pod) and old is not new:
        before, after = core.PodStatus(), core.PodStatus()
        for status, pod in ((before, old), (after, new)):
            status.CopyFrom(pod.status)
            status.ClearField("nominatedNodeName")
            kept = [condition for condition in status.conditions if condition.type not in _SCHEDULERS_CONDITIONS]
            del status.conditions[:]
            status.conditions.extend(kept)
        if before != after:
            return f"only the conditions {' and '.join(_SCHEDULERS_CONDITIONS)}, and nominatedNodeName"
    return ""


def _not_by_lease(identity: Identity, old: AnyObject | None, new: AnyObject | None, _: Known) -> str:
    own = COMPONENT_LEASES[identity.kind]
    for lease in (old, new):
        if lease is not None and (lease.metadata.namespace or DEFAULT_NAMESPACE, lease.metadata.name) != own[1:]:
            return f"only {own.namespace}/{own.name}"
    return ""


def _not_in_its_namespace(identity: Identity, old: AnyObject | None, new: AnyObject | None, _: Known) -> str:
    namespaces = {obj.metadata.namespace for obj in (old, new) if obj is not None}
    return Scope.NAMESPACE.value if namespaces - {_namespace_of(identity)} else ""


_PROBLEMS: dict[Scope, Callable[[Identity, AnyObject | None, AnyObject | None, Known], str]] = {
    Scope.ITSELF: _not_itself,
    Scope.BOUND: _not_bound,
    Scope.ABOUT: _not_about_it,
    Scope.SCHEDULED: _not_the_condition,
    Scope.USED: _not_used,
    Scope.BY_LEASE: _not_by_lease,
    Scope.NAMESPACE: _not_in_its_namespace,
}
