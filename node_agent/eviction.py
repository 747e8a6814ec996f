"""Which pod has to go when a node runs short of memory, disk or processes. Pure.

The rules are the kubelet's (pkg/kubelet/eviction/helpers.go). A threshold names a signal and how little of it may be
left. If less is left, the node has a condition, which keeps new pods away (but for critical ones), and one pod after
the other is ended until enough is left: first those that use more than they asked for, among them those of the lowest
priority, among them those that use the most beyond it.

    signal                what it measures                          condition        pods are ranked by
    memory.available      memory that programs can still have       MemoryPressure   memory
    nodefs.available      room on the disk of the node's directory  DiskPressure     ephemeral-storage
    nodefs.inodesFree     files that it can still take              DiskPressure     ephemeral-storage
    pid.available         processes that the kernel still allows    PIDPressure      number of processes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.api.fit import Rejection
from cluster.api.pods import MEMORY, qos_class
from cluster.api.priorities import is_critical
from cluster.api.quantities import format_bytes, parse_quantity
from cluster.pb.v1 import core_pb2 as core

MEMORY_LEFT, DISK_LEFT, FILES_LEFT, PROCESSES_LEFT = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "pid.available",
)
CONDITIONS = {
    MEMORY_LEFT: "MemoryPressure",
    DISK_LEFT: "DiskPressure",
    FILES_LEFT: "DiskPressure",
    PROCESSES_LEFT: "PIDPressure",
}
RESOURCES = {
    MEMORY_LEFT: MEMORY,
    DISK_LEFT: "ephemeral-storage",
    FILES_LEFT: "inodes",
    PROCESSES_LEFT: "pids",
}
MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


@dataclass(frozen=True, slots=True)
class Threshold:
    """So little of a signal may be left: an amount, or a share of the whole."""

    signal: str
    amount: int = 0
    share: float = 0.0

    def of(self, whole: int) -> int:
        """The amount, of so much in all."""
        return self.amount or round(self.share * whole)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a signal says now, in bytes or numbers."""

    left: int
    whole: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one pod has of what runs short."""

    uid: str
    used: int
    requested: int
    """What it asked for; 0 if it did not say, or cannot."""
    containers: tuple[tuple[str, int, int], ...] = ()
    """Of its containers, where that is known: (name, used, requested)."""
    priority: int = 0


def parse_thresholds(text: str) -> tuple[Threshold, ...]:
    """Reads "memory.available<100Mi,nodefs.available<10%", or "none". Raises ValueError."""
    found: dict[str, Threshold] = {}
    if text.strip() == "none":
        return ()
    for part in (part.strip() for part in text.split(",")):
        signal, less, value = (word.strip() for word in part.partition("<"))
        if not less or signal not in CONDITIONS:
            raise ValueError(
                f'"{part}": write SIGNAL<AMOUNT or SIGNAL<PERCENT%, with a signal of {", ".join(CONDITIONS)}'
            )
        if signal in found:
            raise ValueError(f'"{part}": there is a threshold for {signal} already')
        if value.endswith("%"):
            share = float(value[:-1]) / 100
            if not 0 < share < 1:
                raise ValueError(f'"{part}": a share must be between 0% and 100%')
            found[signal] = Threshold(signal, share=share)
        else:
            amount = int(parse_quantity(value))
            if amount <= 0:
                raise ValueError(f'"{part}": an amount must be greater than 0')
            found[signal] = Threshold(signal, amount)
    return tuple(found.values())


def met(thresholds: Iterable[Threshold], readings: Mapping[str, Reading]) -> list[Threshold]:
    """The thresholds of which too little is left; memory first, since it kills fastest."""
    short = [
        threshold
        for threshold in thresholds
        if (reading := readings.get(threshold.signal)) and reading.left < threshold.of(reading.whole)
    ]
    return sorted(short, key=lambda threshold: list(CONDITIONS).index(threshold.signal))


def victims(shares: Iterable[Share]) -> list[Share]:
    """Pods in the order in which they have to go; those that use nothing of it help nobody."""
    return sorted(
        (share for share in shares if share.used > 0),
        key=lambda share: (
            share.used <= share.requested,
            share.priority,
            share.requested - share.used,
            share.uid,
        ),
    )


def message(threshold: Threshold, reading: Reading, victim: Share) -> str:
    """Why this pod goes, in Kubernetes' words."""
    resource = RESOURCES[threshold.signal]
    in_bytes = threshold.signal in (MEMORY_LEFT, DISK_LEFT)

    def show(amount: int) -> str:
        return format_bytes(amount) if in_bytes else str(amount)

    text = (
        f"The node was low on resource: {resource}. "
        f"Threshold quantity: {show(threshold.of(reading.whole))}, available: {show(reading.left)}. "
    )
    for name, used, requested in victim.containers:
        if used > requested:
            text += (
                f"Container {name} was using {show(used)}, request is {show(requested)}, has larger consumption of"
                f" {resource}. "
            )
    return text


def refuses(conditions: Sequence[str], pod: core.Pod) -> Rejection | None:
    """Whether a node with these conditions takes a pod that was bound to it. It takes critical ones; where only memory
    is short, also those that say how much they need, and those that tolerate it."""
    if not conditions or is_critical(pod):
        return None
    if list(conditions) == ["MemoryPressure"]:
        tolerates = any(
            (each.key == MEMORY_TAINT or (not each.key and each.operator == "Exists"))
            and each.effect in ("", "NoSchedule")
            for each in pod.spec.tolerations
        )
        if tolerates or qos_class(pod) != "BestEffort":
            return None
    return Rejection("Evicted", f"The node had condition: [{' '.join(conditions)}]. ")
