"""Where containers run: what the pods of one node have in common, and what is a pod's own on it.

Both are what a container is prepared with (`node_agent.preparation`). Much of what a node has is known only when its
agent has begun, or changes while it runs: that is asked for when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cluster.api.pods import CPU, MEMORY, RESTRICTED, SANDBOX, TRUSTED, amount, security_profile
from cluster.api.resolv_conf import ResolvConf
from cluster.pb.v1 import core_pb2 as core
from node_agent.configuration import Configured
from node_agent.environment import Place
from node_agent.ownership import Owner
from node_agent.patience import Patience
from node_agent.resolver import Names, is_common, variables
from node_agent.runtime.cgroups import Cgroups, Limits
from node_agent.security import Profiles
from node_agent.volumes import Shelves

KUBERNETES_TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' default for terminationMessagePath, which its clients write out: the same as none."""
TERMINATION_LOG = "termination-log"


class ReadConfiguration(Protocol):
    """Reads a ConfigMap or Secret; see `node_agent.configuration`."""

    def __call__(self, kind: str, namespace: str, name: str, *, max_age_s: float) -> Awaitable[Configured]:
        """Raises ApiError."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What the pods of one node have in common."""

    node_name: str
    host_ip: str
    path: str
    """PATH for containers."""
    lang: str
    services: Callable[[], Iterable[core.Service]]
    """All services of the cluster, as far as they are known here."""
    read_configuration: ReadConfiguration
    allocatable: Callable[[], Mapping[str, int]]
    """What the node has to give, in the units of `cluster.api.pods.amount`."""
    data: Path
    """Where named data directories lie."""
    on_new_data: Callable[[], None]
    """Called when one of them was made."""
    memory: Path
    """A directory in memory, where secrets lie."""
    can_mount: Callable[[], bool]
    """Whether containers can have mounts of their own."""
    cgroups: Callable[[], Cgroups]
    profiles: Callable[[], Profiles]
    """The security profiles that the node carries out."""
    uid: int
    gid: int
    """The agent's user and group, who run all pods."""
    allow_root: bool
    """Pods may run as root, if that is who the agent is."""
    ordinary: Owner | None = None
    """Of an agent that is root: the user and group of restricted and sandboxed pods."""
    names: Names = field(default_factory=Names)
    """Whom pods ask for names."""
    machine_names: Callable[[], ResolvConf] = ResolvConf
    """Whom the machine asks."""
    shares_names: Callable[[], bool] = lambda: False
    """Pods without mounts of their own find the node's resolv.conf."""
    patience: Patience = field(default_factory=Patience)
    """For files that are the machine's."""


@dataclass(frozen=True, slots=True)
class Home:
    """What is a pod's own on its node."""

    pod: core.Pod
    pod_ip: str
    dir: Path
    """The pod's private directory."""
    configuration: dict[tuple[str, str], core.ConfigMap | core.Secret] = field(default_factory=dict)
    """What was read last of what the pod uses: good enough while the master cannot be asked."""

    def shelves(self, host: Host) -> Shelves:
        """Where its volumes lie."""
        # Without links: those lie where programs do not see them.
        memory = Path(os.path.realpath(host.memory)) / self.pod.metadata.uid
        return Shelves(self.dir, memory, host.data, owner_of(host, self.pod))


def owner_of(host: Host, pod: core.Pod) -> Owner | None:
    """Who the pod's programs are and whose its files are, if not the agent's."""
    return host.ordinary if security_profile(pod.spec) in (RESTRICTED, SANDBOX) else None


def place_of(host: Host, home: Home) -> Place:
    """Where the pod runs."""
    room, spec = host.allocatable(), home.pod.spec
    shares = host.shares_names() and security_profile(spec) != TRUSTED and is_common(spec)
    namespace = home.pod.metadata.namespace
    names = variables(spec, namespace, host.names, host.machine_names(), shares=shares)
    return Place(
        host.node_name,
        host.host_ip,
        home.pod_ip,
        str(home.dir),
        host.path,
        host.lang,
        room.get(CPU, 0),
        room.get(MEMORY, 0),
        names,
    )


def limits_of(container: core.Container) -> Limits:
    """What a container may use."""
    limits = container.resources.limits
    return Limits(
        amount(MEMORY, limits[MEMORY]) if MEMORY in limits else 0, amount(CPU, limits[CPU]) if CPU in limits else 0
    )


def cpu_request_of(container: core.Container) -> int:
    """In thousandths of a processor; what has a limit and no request requests its limit."""
    for wanted in (container.resources.requests, container.resources.limits):
        if CPU in wanted:
            return amount(CPU, wanted[CPU])
    return 0


def group_name(home: Home, container: str) -> str:
    """The name of a container's control groups."""
    return f"{home.pod.metadata.uid}.{container}"


def termination_log(home: Home, container: core.Container) -> Path:
    """The file in which a container leaves its last words."""
    if container.terminationMessagePath in ("", KUBERNETES_TERMINATION_LOG):
        return home.dir / "logs" / container.name / TERMINATION_LOG
    return home.dir / container.terminationMessagePath
