"""What the agent says about its node: the Node object and its status. Pure but for reading the machine's facts once.

Capacity is what the machine has, unless it is told otherwise: several agents on one machine share it out by flags.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata as package_metadata
from pathlib import Path

import psutil

from cluster.api.conditions import set_condition
from cluster.api.meta import to_time
from cluster.api.pods import CPU, MEMORY, PODS, amount
from cluster.api.quantities import format_bytes, quantity
from cluster.pb.v1 import core_pb2 as core

STORAGE = "ephemeral-storage"
PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
"""Of each condition the reason and the message while it is false, and while it is true."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine is and has."""

    cpus: int
    memory_bytes: int
    disk_bytes: int
    machine_id: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str

    @classmethod
    def read(cls, directory: Path) -> Machine:
        """Facts of the machine; the disk is the one that holds `directory`."""
        disk = os.statvfs(directory)
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return cls(
            cpus=len(os.sched_getaffinity(0)),
            memory_bytes=psutil.virtual_memory().total,
            disk_bytes=disk.f_blocks * disk.f_frsize,
            machine_id=_read("/etc/machine-id"),
            boot_id=_read("/proc/sys/kernel/random/boot_id"),
            kernel=platform.release(),
            os_image=_os_image(),
            architecture=architecture,
        )


def capacity(
    machine: Machine, cpu: str, memory: str, pods: int, resources: Mapping[str, str]
) -> dict[str, core.Quantity]:
    """The node's resources. Raises ValueError for a bad quantity."""
    return {
        CPU: quantity(cpu or machine.cpus),
        MEMORY: quantity(memory or format_bytes(machine.memory_bytes)),
        PODS: quantity(pods),
        STORAGE: quantity(format_bytes(machine.disk_bytes)),
        **{name: quantity(value) for name, value in resources.items()},
    }


def amounts(resources: Mapping[str, core.Quantity]) -> dict[str, int]:
    """The same in the units that sums are kept in (`cluster.api.pods.amount`)."""
    return {name: amount(name, value) for name, value in resources.items()}


def node_labels(name: str, machine: Machine, extra: Mapping[str, str]) -> dict[str, str]:
    """The labels that a node registers with."""
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        **extra,
    }


def make_node(name: str, labels: Mapping[str, str]) -> core.Node:
    """The object to register."""
    return core.Node(metadata=core.ObjectMeta(name=name, labels=dict(labels)), spec=core.NodeSpec())


def make_node_status(
    before: core.NodeStatus,
    *,
    name: str,
    host: str,
    port: int,
    machine: Machine,
    resources: Mapping[str, core.Quantity],
    isolation: core.Isolation,
    pressures: Sequence[str],
    data_directories: Sequence[str],
    now_s: float,
    stopping: bool = False,
    runtime: str = "process",
) -> core.NodeStatus:
    """The status to report; conditions keep the transition times of `before`. `pressures` are those that are true,
    `data_directories` the named ones that lie here, as NAMESPACE/NAME."""
    status = core.NodeStatus()
    status.conditions.extend(before.conditions)
    for resource, amount_ in resources.items():
        status.capacity[resource].CopyFrom(amount_)
        status.allocatable[resource].CopyFrom(amount_)
    for type, words in PRESSURES.items():
        is_true = type in pressures
        set_condition(status, type, "True" if is_true else "False", now_s, *words[is_true])
    if stopping:
        set_condition(status, "Ready", "False", now_s, "KubeletNotReady", "node is shutting down")
    else:
        set_condition(status, "Ready", "True", now_s, "KubeletReady", "kubelet is posting ready status")
    for condition in status.conditions:
        condition.lastHeartbeatTime.CopyFrom(to_time(now_s))
    status.addresses.add(type="InternalIP", address=host)
    status.addresses.add(type="Hostname", address=name)
    status.daemonEndpoints.kubeletEndpoint.Port = port
    status.isolation.CopyFrom(isolation)
    status.dataDirectories.extend(data_directories)
    info = status.nodeInfo
    info.machineID, info.systemUUID, info.bootID = machine.machine_id, machine.machine_id, machine.boot_id
    info.kernelVersion, info.osImage = machine.kernel, machine.os_image
    info.containerRuntimeVersion = f"{runtime}://{_version()}"
    info.kubeletVersion, info.kubeProxyVersion = f"podium-{_version()}", f"podium-{_version()}"
    info.operatingSystem, info.architecture = "linux", machine.architecture
    return status


@cache
def _version() -> str:
    try:
        return package_metadata.version("podium")
    except package_metadata.PackageNotFoundError:
        return "0"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"
