"""Kinds that are not stored but made of what is, whenever somebody asks: to be read, and no more.

    discovery.k8s.io/v1   endpointslices     the Endpoints of a service, for `kubectl describe service`
    metrics.k8s.io/v1beta1   nodes, pods     what they use, looked at by the nodes' agents, for `kubectl top`

Discovery says that they can be got and listed; everything else is not allowed. As a table they have
Kubernetes' columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from cluster.api.columns import age
from cluster.api.errors import ApiError, BadRequest, Forbidden, NotFound
from cluster.api.hollow import is_hollow
from cluster.api.json import to_json
from cluster.api.labels import parse_selector
from cluster.api.times import format_time, parse_time
from cluster.client.agent_client import NodeAgentClient, agent_address
from cluster.client.interface import ClusterClient
from cluster.kubernetes.discovery import OTHERS, Other
from cluster.kubernetes.negotiation import Accepted
from cluster.kubernetes.protobuf import METADATA, METADATA_VERSION
from cluster.kubernetes.statuses import denied
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core

Cell: TypeAlias = Callable[[dict[str, Any], float], str]
"""The text of a column, of one of them and at a time."""
Columns: TypeAlias = tuple[tuple[str, Cell], ...]

WINDOW = "500ms"
"""Over which an agent looks at what processor time is used."""
_AT_ONCE = 50
"""Agents that are asked at the same time."""
_SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, and by whom."""

    client: ClusterClient
    """With the caller's rights."""
    reach: Callable[[str], NodeAgentClient]
    now_s: float
    namespace: str = ""
    name: str = ""
    """Empty: all of them."""


def derived_of(parts: list[str]) -> tuple[Other, str, str] | None:
    """The kind, namespace and name at a path; None if there is none of these."""
    if len(parts) < 4 or parts[0] != "apis":
        return None
    group, version, rest = parts[1], parts[2], parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    row = _BY_PATH.get((group, version, rest[0]))
    if row is None or len(rest) > 2 or (namespace and not row.namespaced):
        return None
    name = rest[1] if len(rest) > 1 else ""
    return None if name and row.namespaced and not namespace else (row, namespace, name)


async def read(row: Other, asked: Asked, query: Mapping[str, str]) -> dict[str, Any]:
    """One of them, or those that the selectors choose. Raises NotFound, BadRequest, Forbidden."""
    selector = parse_selector(query.get("labelSelector", ""))
    wanted = _fields(query.get("fieldSelector", ""))
    try:
        found = await _FIND[row.group, row.plural](asked)
    except Forbidden as error:
        verb = "get" if asked.name else "list"
        raise Forbidden(denied(error.message, verb, row.group, row.plural, asked.namespace, asked.name)) from error
    api_version = f"{row.group}/{row.version}"
    if asked.name:
        for item in found:
            if item["metadata"]["name"] == asked.name:
                return {"kind": row.kind, "apiVersion": api_version, **item}
        raise NotFound(f'{row.plural}.{row.group} "{asked.name}" not found')
    items = [
        item
        for item in found
        if selector.matches(item["metadata"].get("labels", {}))
        and all((item["metadata"].get(field, "") == value) is equal for field, value, equal in wanted)
    ]
    return {
        "kind": f"{row.kind}List",
        "apiVersion": api_version,
        "metadata": {},
        "items": [{"kind": row.kind, "apiVersion": api_version, **item} for item in items],
    }


def _fields(text: str) -> list[tuple[str, str, bool]]:
    """What a field selector asks for: a field of the metadata, the value, and whether it shall be that one."""
    terms = []
    for term in filter(None, text.split(",")):
        path, sign, value = (part.strip() for part in term.replace("==", "=").partition("="))
        field = path.removesuffix("!").strip().removeprefix("metadata.")
        if not sign or field not in ("name", "namespace") or not path.startswith("metadata."):
            raise BadRequest(
                f'field label not supported: "{path[:80]}"; there are metadata.name and metadata.namespace'
            )
        terms.append((field, value, not path.endswith("!")))
    return terms


# --- as a table


def table(row: Other, document: dict[str, Any], accepted: Accepted, include: str, now_s: float) -> dict[str, Any]:
    """What was read as a Table. `include`: how much of each one its row has, Metadata, Object or None."""
    return table_of(_COLUMNS[row.group, row.plural], document, accepted, include, now_s)


def scale_table(scale: dict[str, Any], accepted: Accepted, include: str, now_s: float) -> dict[str, Any]:
    """A Scale as a Table."""
    return table_of(_SCALE_COLUMNS, scale, accepted, include, now_s)


def table_of(
    columns: Columns, document: dict[str, Any], accepted: Accepted, include: str, now_s: float
) -> dict[str, Any]:
    """A list, or one thing, as a Table with these columns."""
    items = document.get("items", [document])
    rows = []
    for item in items:
        shown = {
            "None": None,
            "Object": item,
        }.get(include, _partial(item))
        rows.append({"cells": [cell(item, now_s) for _, cell in columns], "object": shown})
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{accepted.version}",
        "metadata": document["metadata"] if "items" in document else {},
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 0,
            }
            for name, _ in columns
        ],
        "rows": rows,
    }


def metadata_only(document: dict[str, Any]) -> dict[str, Any]:
    """What was read without all but its metadata."""
    if "items" not in document:
        return _partial(document)
    items = [_partial(item) for item in document["items"]]
    return {**document, "kind": f"{METADATA}List", "apiVersion": METADATA_VERSION, "items": items}


def _partial(item: dict[str, Any]) -> dict[str, Any]:
    return {"kind": METADATA, "apiVersion": METADATA_VERSION, "metadata": item["metadata"]}


def _name(item: dict[str, Any], now_s: float) -> str:
    return str(item["metadata"]["name"])


def _age(item: dict[str, Any], now_s: float) -> str:
    created = item["metadata"].get("creationTimestamp")
    return age(now_s - parse_time(created)[0]) if created else "<unknown>"


def _shortened(values: list[str]) -> str:
    """The first three of them, and how many more there are."""
    more = f" + {len(values) - 3} more..." if len(values) > 3 else ""
    return ",".join(values[:3]) + more if values else "<unset>"


def _used(resource: str) -> Cell:
    def cell(item: dict[str, Any], now_s: float) -> str:
        usages = [each["usage"] for each in item.get("containers", [item])]
        number = sum(int(usage[resource].rstrip("Kin")) for usage in usages)
        return f"{number}{'n' if resource == 'cpu' else 'Ki'}"

    return cell


# --- slices of endpoints


async def _slices(asked: Asked) -> list[dict[str, Any]]:
    listed = await asked.client.list(core.Endpoints, asked.namespace)
    return [
        _slice(endpoints, index, subset) for endpoints in listed.items for index, subset in enumerate(endpoints.subsets)
    ]


def _slice(endpoints: core.Endpoints, index: int, subset: core.EndpointSubset) -> dict[str, Any]:
    meta = endpoints.metadata
    metadata: dict[str, Any] = {
        "name": f"{meta.name}-{index}",
        "namespace": meta.namespace,
        "uid": meta.uid,
        "resourceVersion": meta.resourceVersion,
        "labels": {_SERVICE_NAME: meta.name, "endpointslice.kubernetes.io/managed-by": "podium"},
    }
    if meta.HasField("creationTimestamp"):
        metadata["creationTimestamp"] = to_json(meta.creationTimestamp)
    behind = [_endpoint(each, ready=True, serving=True) for each in subset.addresses]
    behind += [_endpoint(each, ready=False, serving=False) for each in subset.notReadyAddresses]
    behind += [_endpoint(each, ready=False, serving=True) for each in subset.terminatingAddresses]
    is_v6 = any(":" in address for each in behind for address in each["addresses"])
    return {
        "metadata": metadata,
        "addressType": "IPv6" if is_v6 else "IPv4",
        "endpoints": behind,
        # kubectl looks at all three without asking whether they are there.
        "ports": [{"name": each.name, "port": each.port, "protocol": each.protocol or "TCP"} for each in subset.ports],
    }


def _endpoint(address: core.EndpointAddress, *, ready: bool, serving: bool) -> dict[str, Any]:
    """What serves and is not ready is being deleted."""
    found: dict[str, Any] = {
        "addresses": [address.ip],
        "conditions": {"ready": ready, "serving": serving, "terminating": serving and not ready},
    }
    if address.nodeName:
        found["nodeName"] = address.nodeName
    if address.HasField("targetRef"):
        found["targetRef"] = to_json(address.targetRef)
    return found


# --- metrics


async def _pod_metrics(asked: Asked) -> list[dict[str, Any]]:
    labels = {
        (pod.metadata.namespace, pod.metadata.name): dict(pod.metadata.labels)
        for pod in (await asked.client.list(core.Pod, asked.namespace)).items
    }
    found = []
    for _, stats in await _stats(asked, asked.namespace):
        for pod in stats.pods:
            if pod.containers and (pod.namespace, pod.pod) in labels:
                found.append(
                    {
                        "metadata": {
                            "name": pod.pod,
                            "namespace": pod.namespace,
                            "labels": labels[pod.namespace, pod.pod],
                            "creationTimestamp": format_time(int(asked.now_s)),
                        },
                        "timestamp": format_time(int(asked.now_s)),
                        "window": WINDOW,
                        "containers": [{"name": each.name, "usage": _usage([each.usage])} for each in pod.containers],
                    }
                )
    return sorted(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))


async def _node_metrics(asked: Asked) -> list[dict[str, Any]]:
    return [
        {
            "metadata": {
                "name": node.metadata.name,
                "labels": dict(node.metadata.labels),
                "creationTimestamp": format_time(int(asked.now_s)),
            },
            "timestamp": format_time(int(asked.now_s)),
            "window": WINDOW,
            "usage": _usage([each.usage for pod in stats.pods for each in pod.containers]),
        }
        for node, stats in await _stats(asked, "")
    ]


async def _stats(asked: Asked, namespace: str) -> list[tuple[core.Node, agent_pb2.StatsResponse]]:
    """What the agents of all nodes say; those that do not answer, and nodes that are only played, are left out.

    Raises Forbidden if the caller may not ask them.
    """
    nodes = [node for node in (await asked.client.list(core.Node)).items if not is_hollow(node) and agent_address(node)]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(node: core.Node) -> agent_pb2.StatsResponse | ApiError:
        try:
            async with turns, aclosing(asked.reach(agent_address(node))) as agent:
                return await agent.stats(namespace)
        except ApiError as error:
            return error

    answers = await asyncio.gather(*(ask(node) for node in nodes))
    for answer in answers:
        if isinstance(answer, ApiError) and answer.code in (401, 403):
            raise answer
    return [(node, answer) for node, answer in zip(nodes, answers, strict=True) if not isinstance(answer, ApiError)]


def _usage(usages: list[agent_pb2.Usage]) -> dict[str, str]:
    nanocores = round(sum(usage.cpu_cores for usage in usages) * 1e9)
    return {"cpu": f"{nanocores}n", "memory": f"{sum(usage.memory_bytes for usage in usages) // 1024}Ki"}


_FIND: dict[tuple[str, str], Callable[[Asked], Awaitable[list[dict[str, Any]]]]] = {
    ("discovery.k8s.io", "endpointslices"): _slices,
    ("metrics.k8s.io", "nodes"): _node_metrics,
    ("metrics.k8s.io", "pods"): _pod_metrics,
}
"""(group, plural) -> those of a namespace, or of all, without kind and apiVersion."""
_SCALE_COLUMNS: Columns = (
    ("Name", _name),
    ("Desired", lambda item, now_s: str(item["spec"]["replicas"])),
    ("Available", lambda item, now_s: str(item["status"]["replicas"])),
    ("Age", _age),
)
_METRICS: Columns = (
    ("Name", _name),
    ("CPU", _used("cpu")),
    ("Memory", _used("memory")),
    ("Window", lambda item, now_s: str(item["window"])),
)
_COLUMNS: dict[tuple[str, str], Columns] = {
    ("discovery.k8s.io", "endpointslices"): (
        ("Name", _name),
        ("AddressType", lambda item, now_s: str(item["addressType"])),
        ("Ports", lambda item, now_s: _shortened([str(each["port"]) for each in item["ports"]])),
        ("Endpoints", lambda item, now_s: _shortened([each["addresses"][0] for each in item["endpoints"]])),
        ("Age", _age),
    ),
    ("metrics.k8s.io", "nodes"): _METRICS,
    ("metrics.k8s.io", "pods"): _METRICS,
}
_BY_PATH = {(row.group, row.version, row.plural): row for row in OTHERS if (row.group, row.plural) in _FIND}
