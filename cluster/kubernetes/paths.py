"""What the path of a request names.

    /api/v1/pods                                   all pods
    /api/v1/namespaces/NS/pods/NAME                one pod
    /api/v1/namespaces/NS/pods/NAME/eviction       an action of it
    /apis/policy/v1/poddisruptionbudgets           all budgets
    /api/v1/namespaces/NAME, .../NAME/status       a namespace itself

A path is taken apart as it was sent, and each part is decoded by itself, so no encoded slash makes two parts of one,
and no dots lead elsewhere: such parts are refused. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cluster.api.errors import BadRequest, NotFound
from cluster.kubernetes.catalog import Catalog
from cluster.kubernetes.resources import Resource

MAX_PATH = 4096
NOT_SERVED = {
    ("nodes", "proxy"): "the agents of nodes speak gRPC, and nothing in HTTP",
    ("pods", "ephemeralcontainers"): (
        "a pod has the containers that it was made with; kubectl exec and podium debug run a command in it,"
        " kubectl debug --copy-to makes another pod of it"
    ),
}
"""What people look for at this place of Kubernetes' API, by kind and subresource, and what to tell them."""
_HALF_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    resource: Resource
    namespace: str = ""
    """Empty: all namespaces, or a kind without them."""
    name: str = ""
    """Empty: the collection."""
    subresource: str = ""


class NoSuchPath(Exception):
    """Nothing is served there."""


def parts_of(raw_path: str) -> list[str]:
    """The decoded parts of a path. Raises BadRequest for one that plays tricks."""
    if len(raw_path) > MAX_PATH:
        raise BadRequest(f"the path is longer than {MAX_PATH} characters")
    parts = []
    for part in raw_path.split("/"):
        if not part:
            continue
        try:
            text = _decoded(part) if "%" in part else part
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
        if "/" in text or text in (".", "..") or not text.isprintable():
            raise BadRequest("a part of the path holds a slash, is made of dots, or cannot be printed")
        parts.append(text)
    return parts


def _decoded(part: str) -> str:
    """Raises BadRequest for a per cent sign without two hexadecimal digits, UnicodeDecodeError."""
    if _HALF_ESCAPE.search(part):
        raise BadRequest("a per cent sign in the path is not followed by two hexadecimal digits")
    return unquote_to_bytes(part).decode()


def refuse_not_served(parts: list[str]) -> None:
    """Raises NotFound for what Kubernetes serves at this path and Podium does not, if there is something to be said.
    The answer names no object: by that kubectl knows that it is the subresource that is missing, and says so."""
    if parts[:2] != ["api", "v1"]:
        return
    rest = parts[4:] if parts[2:3] == ["namespaces"] else parts[2:]
    if len(rest) > 2 and (why := NOT_SERVED.get((rest[0], rest[2]))) is not None:
        raise NotFound(f"{rest[0]}/{rest[2]} is not served: {why}")


def target_of(parts: list[str], catalog: Catalog) -> Target:
    """What these parts name, of what is served. Raises NoSuchPath."""
    if parts[:1] == ["api"]:
        group, rest = "", parts[1:]
    elif parts[:1] == ["apis"] and len(parts) > 1:
        group, rest = parts[1], parts[2:]
    else:
        raise NoSuchPath
    if len(rest) < 2:
        raise NoSuchPath
    version, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in catalog.by_path:
        namespace, rest = rest[1], rest[2:]
    resource = catalog.by_path.get((group, version, rest[0]))
    if resource is None or len(rest) > 3 or (namespace and not resource.kind.namespaced):
        raise NoSuchPath
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if name and resource.kind.namespaced and not namespace:
        raise NoSuchPath
    if subresource and resource.subresource(subresource) is None:
        raise NoSuchPath
    return Target(resource, namespace, name, subresource)
