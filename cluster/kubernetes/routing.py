"""From a request to its answer, but for HTTP itself: who does what a method at a path asks for.

GET    collection          list, or watch (?watch=1)
GET    object              get, or watch
POST   collection          create
PUT PATCH DELETE object    update, patch, delete
DELETE collection          delete_collection
object/status              GET, PUT, PATCH of the status
object/scale, /binding, /eviction, /token      see subresources.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cluster.kubernetes import discovery, openapi, query, reading, subresources, writing
from cluster.kubernetes.bodies import media_type
from cluster.kubernetes.call import Answer, Call, encoded, in_yaml
from cluster.kubernetes.catalog import Catalog
from cluster.kubernetes.negotiation import JSON, YAML, Form, media_of, negotiate
from cluster.kubernetes.patching import APPLY
from cluster.kubernetes.paths import NoSuchPath
from cluster.kubernetes.statuses import Refused

HEALTH = ("healthz", "readyz", "livez")


def is_watch(call: Call, method: str) -> bool:
    """Whether the answer goes on for as long as the caller listens."""
    return method == "GET" and not call.target.subresource and query.flag(call.query, "watch")


async def answer(call: Call, method: str) -> Answer:
    """What a request about objects is answered with, in the form that the caller wants. Raises ApiError."""
    found = await _answer(call, method)
    return await in_yaml(found) if call.accepted.is_yaml and isinstance(found.body, bytes) else found


async def _answer(call: Call, method: str) -> Answer:
    target = call.target
    if method in ("POST", "PUT", "PATCH"):
        applies = method == "PATCH" and media_type(call.content_type) == APPLY
        query.check_manager(call.query, method, applies=applies)
    if target.subresource == "scale":
        if method in ("GET", "PUT", "PATCH"):
            return await subresources.scale(call, method)
        raise not_allowed(method)
    if target.subresource in subresources.POSTED:
        if method != "POST":
            raise not_allowed(method)
        return await subresources.POSTED[target.subresource](call)
    if target.name:
        if method == "GET":
            return await reading.get(call)
        if method == "PUT":
            return await writing.update(call)
        if method == "PATCH":
            return await writing.patch(call)
        if method == "DELETE" and not target.subresource:
            return await writing.delete(call)
        raise not_allowed(method)
    if method == "GET":
        return await reading.list_objects(call)
    if target.resource.kind.namespaced and not target.namespace:
        raise not_allowed(method)
    if method == "POST":
        return await writing.create(call)
    if method == "DELETE":
        return await writing.delete_collection(call)
    raise not_allowed(method)


def not_allowed(method: str) -> Refused:
    """There is something at that path, but not that."""
    return Refused(405, "MethodNotAllowed", f"the server does not allow {method} at this path")


@dataclass(frozen=True, slots=True)
class Document:
    """What is said of the server itself, rather than of objects."""

    body: bytes
    media: str
    digest: str
    """Another one for another body."""


def about_the_server(parts: list[str], accept: str, address: str, catalog: Catalog) -> Document | None:
    """Discovery, the version, OpenAPI; None: that is no such path. Each is made once for a catalog.

    Raises NoSuchPath for a group that is not served, Refused.
    """
    if not parts:
        return _kept(catalog, ["/"], JSON, lambda: discovery.paths(catalog))
    if parts == ["version"]:
        return _kept(catalog, parts, JSON, discovery.version)
    if parts in (["api"], ["apis"]):
        accepted = negotiate(accept, discovery=True)
        is_core = parts == ["api"]
        if accepted.form is Form.DISCOVERY:
            form = accepted.version
            media = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
            return _kept(catalog, parts, media, lambda: discovery.aggregated(catalog, is_core, form))
        if is_core:
            return _kept(catalog, [*parts, address], accepted.media, lambda: discovery.api_versions(address))
        return _kept(catalog, parts, accepted.media, lambda: discovery.api_groups(catalog))
    if parts[:1] == ["apis"] and len(parts) == 2:
        return _kept(catalog, parts, _plain(accept), lambda: _found(discovery.api_group(catalog, parts[1])))
    if (parts[:1] == ["api"] and len(parts) == 2) or (parts[:1] == ["apis"] and len(parts) == 3):
        group = parts[1] if len(parts) == 3 else ""
        resources = partial(discovery.api_resources, catalog, group, parts[-1])
        return _kept(catalog, parts, _plain(accept), lambda: _found(resources()))
    if parts[:1] == ["openapi"]:
        body, media = openapi.document(parts[1:], accept, catalog)
        return catalog.kept(("document", *parts, media), lambda: Document(body, media, openapi.digest_of(body)))
    return None


def _kept(catalog: Catalog, parts: list[str], media: str, make: Callable[[], Any]) -> Document:
    def document() -> Document:
        body = encoded(make(), media)
        return Document(body, media, openapi.digest_of(body))

    return catalog.kept(("document", *parts, media), document)


def _plain(accept: str) -> str:
    """As what to send a document that is not there in protobuf."""
    return YAML if media_of(accept, whole=True) == YAML else JSON


def _found(document: dict[str, Any] | None) -> dict[str, Any]:
    if document is None:
        raise NoSuchPath
    return document
