"""May I, what may I, who am I: questions of a caller about itself, which are posted like objects and stored nowhere.

    authorization.k8s.io/v1   selfsubjectaccessreviews    kubectl auth can-i VERB KIND
                              selfsubjectrulesreviews     kubectl auth can-i --list
    authentication.k8s.io/v1  selfsubjectreviews          kubectl auth whoami

The answers are read from the same table that the master judges by (`cluster.api.rights`). Where the master looks at the
object as well (a node may read the pods bound to it, and no others), the answer is yes, with what is to be heeded.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from cluster.api.errors import BadRequest, Invalid
from cluster.api.json import message_from_json, to_json
from cluster.api.rights import CALLS, TABLE, Scope
from cluster.kubernetes.bodies import read_dict
from cluster.kubernetes.catalog import Catalog
from cluster.kubernetes.resources import VERBS, Resource
from cluster.kubernetes.statuses import user_of
from cluster.pb.v1 import kubernetes_pb2 as bodies

_CALLS_OF = {"log": "Logs", "exec": "Exec", "attach": "Attach", "portforward": "PortForward", "proxy": "PortForward"}
_WRITES_OF = {"binding": ("create", "bind"), "eviction": ("create", "evict"), "token": ("create", "token")}


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks."""

    kind: str
    """Of its identity: rights are given by it."""
    name: str
    """Of its identity, as text."""

    @property
    def is_account(self) -> bool:
        """It is a service account: NAMESPACE/NAME is what its identity is called."""
        return self.kind == "serviceaccount"

    @property
    def namespace(self) -> str:
        """Of a service account."""
        return self.name.partition(":")[2].partition("/")[0] if self.is_account else ""

    @property
    def user(self) -> str:
        """Its name, as Kubernetes calls it."""
        return user_of(self.name)


@dataclass(frozen=True, slots=True)
class Review:
    """A kind of question."""

    plural: str
    kind: str
    group: str
    message: type[Message]
    answer: Callable[[Who, Catalog, Any], None]
    """Called with the caller, with what is served, and with the message, whose status it fills in."""


def read(review: Review, who: Who, catalog: Catalog, content_type: str, body: bytes) -> dict[str, Any]:
    """The question with its answer. Raises BadRequest, Invalid, Refused."""
    data = read_dict(content_type, body, review.kind)
    if data.get("kind") not in (None, "", review.kind):
        raise BadRequest(f'a "{review.kind}" is expected, not "{str(data["kind"])[:80]}"')
    content = {key: value for key, value in data.items() if key not in ("kind", "apiVersion", "status")}
    try:
        message = message_from_json(review.message, content)
    except Invalid as error:
        raise BadRequest(f"{review.kind}: {error.message}", causes=error.causes) from error
    review.answer(who, catalog, message)
    return {"kind": review.kind, "apiVersion": f"{review.group}/v1", **to_json(message)}


def _access(who: Who, catalog: Catalog, review: bodies.SelfSubjectAccessReview) -> None:
    spec = review.spec
    if spec.HasField("resourceAttributes") == spec.HasField("nonResourceAttributes"):
        raise Invalid("spec: exactly one of resourceAttributes and nonResourceAttributes must be given")
    status = review.status
    if spec.HasField("nonResourceAttributes"):
        # Discovery and health are for everyone who is somebody.
        status.allowed = spec.nonResourceAttributes.verb in ("get", "head")
        return
    wanted = spec.resourceAttributes
    if wanted.resource == "*" or wanted.verb == "*":
        whole = [_may(who.kind, row, verb, "") for row in catalog.rows for verb in VERBS]
        status.allowed = all(scope is Scope.ANY for scope in whole)
        return
    row = _row_of(wanted.group, wanted.version, wanted.resource, catalog)
    if row is None:
        status.allowed = False
        status.reason = f'there are no "{wanted.resource[:80]}" here'
        return
    scope = _may(who.kind, row, wanted.verb, wanted.subresource)
    if scope is Scope.NAMESPACE:
        scope = Scope.ANY if who.namespace == wanted.namespace else None
    status.allowed = scope is not None
    if scope is None:
        status.reason = f"{who.user} may not {wanted.verb} {row.plural}"
        if who.is_account:
            status.reason += ": it reads what is in its namespace, secrets excepted"
    elif scope is not Scope.ANY:
        status.reason = f"but only {scope.value}"


def _row_of(group: str, version: str, plural: str, catalog: Catalog) -> Resource | None:
    """The row that is meant; where no version is named, any one of them, and where no group is, any group."""
    rows = [row for row in catalog.rows if row.plural == plural]
    if group:
        rows = [row for row in rows if row.group == group and version in ("", "*", row.version)]
    return next(iter(rows), None)


def _once(catalog: Catalog) -> Iterable[Resource]:
    """The rows, each kind in one version only: rights do not depend on it."""
    found: dict[tuple[str, str], Resource] = {}
    for row in catalog.rows:
        found.setdefault((row.group, row.plural), row)
    return found.values()


def _may(identity_kind: str, row: Resource, verb: str, subresource: str) -> Scope | None:
    """With which objects an identity may do that; None: with none."""
    if subresource in _CALLS_OF:
        allowed = identity_kind in CALLS[f"/cluster.pb.v1.NodeAgent/{_CALLS_OF[subresource]}"]
        part = row.subresource(subresource)
        return Scope.ANY if allowed and part is not None and verb in (*part.verbs, "get", "create") else None
    if subresource in _WRITES_OF:
        given, verb_there = _WRITES_OF[subresource]
        verb = verb_there if verb == given else ""
    elif subresource == "status":
        verb = {"update": "update_status", "patch": "update_status"}.get(verb, verb if verb == "get" else "")
    elif subresource not in ("", "scale"):
        return None
    rights = TABLE.get((identity_kind, row.stored_kind), {})
    if verb == "deletecollection":
        return rights.get("delete") if "list" in rights else None
    return rights.get(verb)


def _rules(who: Who, catalog: Catalog, review: bodies.SelfSubjectRulesReview) -> None:
    status = review.status
    elsewhere = who.is_account and who.namespace != review.spec.namespace
    for row in () if elsewhere else _once(catalog):
        verbs = [verb for verb in VERBS if _may(who.kind, row, verb, "") is not None]
        if verbs:
            status.resourceRules.add(verbs=verbs, apiGroups=[row.group], resources=[row.plural])
        for part in row.subresources:
            verbs = [verb for verb in part.verbs if _may(who.kind, row, verb, part.name) is not None]
            if verbs:
                status.resourceRules.add(verbs=verbs, apiGroups=[row.group], resources=[f"{row.plural}/{part.name}"])
    for review_ in REVIEWS:
        status.resourceRules.add(verbs=["create"], apiGroups=[review_.group], resources=[review_.plural])
    urls = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"]
    status.nonResourceRules.add(verbs=["get"], nonResourceURLs=urls)
    restricted = [verbs for (kind, _), verbs in TABLE.items() if kind == who.kind]
    exact = (Scope.ANY, Scope.NAMESPACE)
    status.incomplete = any(scope not in exact for verbs in restricted for scope in verbs.values())


def _who(who: Who, catalog: Catalog, review: bodies.SelfSubjectReview) -> None:
    user = review.status.userInfo
    user.username = who.user
    if who.is_account:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{who.namespace}", "system:authenticated"]
        user.groups.extend(groups)
    else:
        user.groups.extend(["system:authenticated", f"podium:{who.kind}"])


REVIEWS = (
    Review("selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io", bodies.SelfSubjectReview, _who),
    Review(
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "authorization.k8s.io",
        bodies.SelfSubjectAccessReview,
        _access,
    ),
    Review(
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        "authorization.k8s.io",
        bodies.SelfSubjectRulesReview,
        _rules,
    ),
)
BY_PARTS: dict[tuple[str, ...], Review] = {("apis", each.group, "v1", each.plural): each for each in REVIEWS}
"""By the parts of the path that they are posted to."""
