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

from typing import Any

from cluster.kubernetes import discovery, openapi, query, reading, subresources, writing
from cluster.kubernetes.bodies import media_type
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.negotiation import Form, negotiate
from cluster.kubernetes.patching import APPLY
from cluster.kubernetes.paths import NoSuchPath
from cluster.kubernetes.statuses import Refused

HEALTH = ("healthz", "readyz", "livez")


def is_watch(call: Call, method: str) -> bool:
    """Whether the answer goes on for as long as the caller listens."""
    return method == "GET" and not call.target.subresource and query.flag(call.query, "watch")


async def answer(call: Call, method: str) -> Answer:
    """What a request about objects is answered with. Raises ApiError."""
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


def about_the_server(parts: list[str], accept: str, address: str) -> tuple[Any, str] | None:
    """Discovery, the version, OpenAPI: JSON's values or bytes, and their type; None: that is no such path.

    Raises NoSuchPath for a group that is not served, Refused.
    """
    if parts == ["version"]:
        return discovery.version(), "application/json"
    if parts in (["api"], ["apis"]):
        accepted = negotiate(accept, discovery=True)
        if accepted.form is Form.DISCOVERY:
            form = accepted.version
            media = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
            return discovery.aggregated(parts == ["api"], form), media
        plain = discovery.api_versions(address) if parts == ["api"] else discovery.api_groups()
        return plain, "application/json"
    if parts[:1] == ["apis"] and len(parts) == 2:
        return _found(discovery.api_group(parts[1])), "application/json"
    if (parts[:1] == ["api"] and len(parts) == 2) or (parts[:1] == ["apis"] and len(parts) == 3):
        group = parts[1] if len(parts) == 3 else ""
        return _found(discovery.api_resources(group, parts[-1])), "application/json"
    if parts[:1] == ["openapi"]:
        return openapi.document(parts[1:], accept)
    return None


def _found(document: dict[str, Any] | None) -> dict[str, Any]:
    if document is None:
        raise NoSuchPath
    return document
