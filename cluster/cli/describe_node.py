"""`podium describe node`: what it has and takes, its pods and what they ask for, what its machine has in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster.cli.rows import conditions, row, rows

if TYPE_CHECKING:
    from cluster.client.interface import ClusterClient
    from cluster.pb.v1 import core_pb2 as core


def node(node: core.Node) -> Iterable[str]:
    """What it says of itself."""
    yield from rows("Taints", (f"{t.key}{'=' + t.value if t.value else ''}:{t.effect}" for t in node.spec.taints))
    yield row("Unschedulable", str(node.spec.unschedulable).lower())
    yield row("PodCIDR", node.spec.podCIDR)
    yield from conditions(node.status.conditions)
    yield from rows("Addresses", (f"{a.type} {a.address}" for a in node.status.addresses))
    isolation, info = node.status.isolation, node.status.nodeInfo
    yield row("Security profiles", ", ".join(isolation.profiles))
    yield row("Limits kept by", isolation.enforcement)
    yield row("Volumes in", f"a {isolation.volumes} of the container's own" if isolation.volumes else "")
    yield from rows("Missing here", isolation.missing)
    yield from rows("Data Directories", node.status.dataDirectories)
    yield row(
        "System",
        f"{info.osImage}, kernel {info.kernelVersion}, agent {info.kubeletVersion}, {info.containerRuntimeVersion}",
    )


def pods_of(node: core.Node, pods: list[core.Pod]) -> list[str]:
    """The pods on it, and how much of what it has they ask for."""
    from cluster.api.pods import amount, is_active, requests_of
    from cluster.cli.printers import align

    totals: dict[str, int] = {}
    rows = [["  Namespace", "Name", "CPU (m)", "Memory"]]
    for pod in pods:
        requests = requests_of(pod)
        rows.append(
            [
                f"  {pod.metadata.namespace}",
                pod.metadata.name,
                str(requests.get("cpu", 0)),
                str(requests.get("memory", 0)),
            ]
        )
        if is_active(pod):
            for name, value in requests.items():
                totals[name] = totals.get(name, 0) + value
    lines = [f"Pods:             {len(pods)}"] + ([align(rows)] if pods else [])
    lines.append("Allocated resources (requests of allocatable; cpu in thousandths):")
    for name in sorted(node.status.allocatable):
        total = amount(name, node.status.allocatable[name])
        used = totals.get(name, len(pods) if name == "pods" else 0)
        share = f" ({100 * used // total}%)" if total else ""
        lines.append(f"  {name:<20}{used} of {total}{share}")
    return lines


async def usage(client: ClusterClient, node: str) -> list[str]:
    """What the node's last heartbeat said is in use on its machine."""
    async with client.watch_heartbeats() as batches:
        async for batch in batches:  # the first one holds every node ever heard of
            for beat in batch.heartbeats:
                if beat.node == node:
                    amounts = [f"{name} {beat.usage[name].string}" for name in sorted(beat.usage)]
                    return [row("Usage", f"{', '.join(amounts)} (of the machine, at heartbeat {beat.sequence})")]
            break
    return [row("Usage", "")]
