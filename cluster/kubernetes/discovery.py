"""What is served, as clients ask for it: discovery in both its forms, and the version.

Newer kubectl asks /api and /apis for all of it at once (aggregated); older ones, and most libraries, ask for groups and
then for the resources of each. Pure.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any

from cluster.kubernetes.catalog import OWN, Catalog
from cluster.kubernetes.resources import Resource, Subresource
from cluster.kubernetes.reviews import REVIEWS

MAJOR, MINOR = "1", "35"
"""Whose API this is. What is served of it is older than that, and the kinds' fields are known up to 1.37: the number is
the one that is least in the way, the newest that kr8s takes without a warning at every start. kubectl warns of a server
that is further than one minor version away only when it is asked for versions."""


@dataclass(frozen=True, slots=True)
class Other:
    """Something that is served beside the kinds of objects: what can only be asked, or only be read."""

    plural: str
    singular: str
    kind: str
    group: str
    version: str
    namespaced: bool
    verbs: tuple[str, ...]


OTHERS = (
    *(Other(each.plural, each.kind.lower(), each.kind, each.group, "v1", False, ("create",)) for each in REVIEWS),
    Other("endpointslices", "endpointslice", "EndpointSlice", "discovery.k8s.io", "v1", True, ("get", "list")),
    Other("nodes", "", "NodeMetrics", "metrics.k8s.io", "v1beta1", False, ("get", "list")),
    Other("pods", "", "PodMetrics", "metrics.k8s.io", "v1beta1", True, ("get", "list")),
)
_OTHER_GROUP_VERSIONS = tuple((each.group, each.version) for each in OTHERS)


def version() -> dict[str, str]:
    """GET /version."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": f"v{MAJOR}.{MINOR}.0+podium-{installed_version('podium')}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": sys.implementation.name,
        "platform": f"linux/{machine}",
    }


def paths(catalog: Catalog) -> dict[str, Any]:
    """GET /: where there is something to read that is about no object."""
    found = {"/api", "/apis", "/version", "/openapi/v2", "/openapi/v3", "/healthz", "/livez", "/readyz"}
    for group, versions in _groups(catalog).items():
        root = f"/apis/{group}" if group else "/api"
        found |= {root, *(f"{root}/{version}" for version in versions)}
    return {"paths": sorted(found)}


def api_versions(address: str) -> dict[str, Any]:
    """GET /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_groups(catalog: Catalog) -> dict[str, Any]:
    """GET /apis."""
    groups = [_group(group, versions) for group, versions in _groups(catalog).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(catalog: Catalog, group: str) -> dict[str, Any] | None:
    """GET /apis/GROUP; None if there is none of that name."""
    versions = _groups(catalog).get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)} if group and versions else None


def api_resources(catalog: Catalog, group: str, version: str) -> dict[str, Any] | None:
    """GET /api/v1 and /apis/GROUP/VERSION; None if there is none of that name."""
    if version not in _groups(catalog).get(group, ()):
        return None
    resources: list[dict[str, Any]] = []
    for row in catalog.resources_of(group, version):
        resources.append(_resource(row))
        resources += [_subresource(row, each) for each in row.subresources]
    for other in OTHERS:
        if (other.group, other.version) == (group, version):
            shown = {"name": other.plural, "singularName": other.singular, "namespaced": other.namespaced}
            resources.append({**shown, "kind": other.kind, "verbs": list(other.verbs)})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def aggregated(catalog: Catalog, core: bool, form: str) -> dict[str, Any]:
    """GET /api (the core group) or /apis (all others), asked for as an APIGroupDiscoveryList of v2 or v2beta1."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": [
                            *(_discovered(row) for row in catalog.resources_of(group, version)),
                            *(
                                _discovered_other(each)
                                for each in OTHERS
                                if (each.group, each.version) == (group, version)
                            ),
                        ],
                        "freshness": "Current",
                    }
                    for version in versions
                ],
            }
            for group, versions in _groups(catalog).items()
            if core is not bool(group)
        ],
    }


def _groups(catalog: Catalog) -> dict[str, list[str]]:
    """The groups, with their versions: that of old first, which has no name."""
    found: dict[str, list[str]] = {}
    own = [pair for pair in catalog.group_versions if pair in OWN.group_versions]
    for group, version in dict.fromkeys((*own, *_OTHER_GROUP_VERSIONS, *catalog.group_versions)):
        found.setdefault(group, []).append(version)
    return found


def _group(group: str, names: list[str]) -> dict[str, Any]:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in names]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _resource(row: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": row.plural,
        "singularName": row.kind.field,
        "namespaced": row.kind.namespaced,
        "kind": row.kind.name,
        "verbs": list(row.verbs),
    }
    if row.kind.short_names:
        found["shortNames"] = list(row.kind.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    return found


def _subresource(row: Resource, part: Subresource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"{row.plural}/{part.name}",
        "singularName": "",
        "namespaced": row.kind.namespaced,
        "kind": part.kind,
        "verbs": list(part.verbs),
    }
    if (part.group, part.version) != (row.group, row.version):
        found |= {"group": part.group, "version": part.version}
    return found


def _discovered(row: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind.name},
        "scope": "Namespaced" if row.kind.namespaced else "Cluster",
        "singularResource": row.kind.field,
        "verbs": list(row.verbs),
    }
    if row.kind.short_names:
        found["shortNames"] = list(row.kind.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.subresources:
        found["subresources"] = [
            {
                "subresource": part.name,
                "responseKind": {"group": part.group, "version": part.version, "kind": part.kind},
                "verbs": list(part.verbs),
            }
            for part in row.subresources
        ]
    return found


def _discovered_other(other: Other) -> dict[str, Any]:
    return {
        "resource": other.plural,
        "responseKind": {"group": other.group, "version": other.version, "kind": other.kind},
        "scope": "Namespaced" if other.namespaced else "Cluster",
        "singularResource": other.singular,
        "verbs": list(other.verbs),
    }
