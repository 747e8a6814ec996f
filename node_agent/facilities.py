"""What a node has for its pods: room, control groups, security profiles, names; and what of that could not be had.

It is found out when the agent begins, in two steps: what the machine lets the agent do (`find`), and, once there is a
spawner, which profiles work within it (`try_profiles`). Pods are then prepared for all that (`host`), and the node says
what is missing, with the command that would change it (`isolation`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from cluster.actor.clock import Clock
from cluster.api.pods import RESTRICTED, SANDBOX
from cluster.config.dirs import make_private_dir
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import node_object
from node_agent.confine import NOBODY, can_become
from node_agent.host import Host, ReadConfiguration
from node_agent.memory_dir import LINK, memory_dir, remove_memory_dir
from node_agent.node_object import Machine
from node_agent.resolver import Names
from node_agent.resolver_file import LOOK_S, ResolverFile
from node_agent.runtime.cgroups import Cgroups
from node_agent.runtime.interface import Runtime
from node_agent.security import find_profiles, try_profile, without
from node_agent.settings import AgentSettings

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = get_logger("node_agent")


class Facilities:
    """Of one node. Before `find` there are none."""

    def __init__(
        self,
        settings: AgentSettings,
        runtime: Runtime,
        environ: Mapping[str, str],
        *,
        services: Callable[[], Iterable[core.Service]],
        read_configuration: ReadConfiguration,
        on_new_data: Callable[[], None],
    ) -> None:
        """`services` of the cluster; `on_new_data` is called when a pod got a data directory that was not there."""
        self._settings, self._runtime = settings, runtime
        path = environ.get("PATH") or DEFAULT_PATH
        self.pods_dir = settings.dir / "pods"
        """Where each pod has a directory, by its uid."""
        self.data_dir = settings.dir / "data"
        self.machine: Machine | None = None
        self.resources: dict[str, core.Quantity] = {}
        """What all pods together may request."""
        self.profiles = find_profiles(path, allow_trusted=settings.allow_trusted)
        self.cgroups = Cgroups.none("control groups: switched off (--no-cgroups)")
        self._has_memory = False
        names = Names(settings.dns, settings.cluster_domain, settings.dns_forwards)
        self._resolver = ResolverFile(settings.dir, names, settings.resolv_conf)
        self.host = Host(
            node_name=settings.name,
            host_ip=settings.host,
            path=path,
            lang=environ.get("LANG") or "C.UTF-8",
            services=services,
            read_configuration=read_configuration,
            allocatable=self.amounts,
            data=self.data_dir,
            on_new_data=on_new_data,
            memory=settings.dir / LINK,
            can_mount=lambda: runtime.can_mount,
            cgroups=lambda: self.cgroups,
            profiles=lambda: self.profiles,
            uid=os.geteuid(),
            gid=os.getegid(),
            allow_root=settings.allow_root,
            ordinary=(NOBODY, NOBODY) if can_become(NOBODY) else None,
            names=names,
            machine_names=self._resolver.machine,
            shares_names=lambda: runtime.names,
        )

    def amounts(self) -> Mapping[str, int]:
        """`resources`, in the units of `cluster.api.pods.amount`."""
        return node_object.amounts(self.resources)

    def find(self) -> None:
        """Makes the node's directories and control groups, and looks at the machine. Once, before the runtime begins.
        Raises OSError."""
        settings = self._settings
        for directory in (self.pods_dir, self.data_dir):
            make_private_dir(directory)
        _, self._has_memory = memory_dir(settings.dir)
        if settings.cgroups:
            self.cgroups = Cgroups.find(cgroup_name(settings))
            self.cgroups.remember(settings.dir)
        self.machine = Machine.read(settings.dir)
        self.resources = node_object.capacity(
            self.machine, settings.cpu, settings.memory, settings.pods, settings.resources
        )
        self._resolver.refresh()

    async def try_profiles(self) -> None:
        """From now on only those profiles are offered that work within the runtime, which has begun."""
        if not self._runtime.hides:
            log.error("pods can read the cluster's keys", missing=list(self._runtime.missing))
        host, settings = self.host, self._settings
        # For others than root, what restricted needs was found already.
        for profile in (SANDBOX, *([RESTRICTED] if host.ordinary else [])):
            if profile not in self.profiles.offered:
                continue
            problem = "switched off (--no-sandbox)"
            if profile != SANDBOX or settings.sandbox:
                problem = await try_profile(self._runtime, profile, self.profiles, settings.dir, host.ordinary)
            if problem:
                self.profiles = without(self.profiles, profile, problem)

    def isolation(self) -> core.Isolation:
        """How far this node can contain the processes of pods."""
        missing = [*self._runtime.missing, *self.cgroups.missing, *self.profiles.missing]
        if not self._has_memory:
            missing.append("secrets lie on the disk: there is no /dev/shm")
        if self._settings.dns and not self.host.names.nameserver:
            where = f"a resolv.conf cannot say {self._settings.dns}; programs find that in PODIUM_DNS"
            missing.append(f"pods do not ask the cluster's DNS server by themselves: {where}")
        volumes = "namespace" if self._runtime.can_mount else "directory"
        enforcement = "cgroup" if self.cgroups.enforces else "rlimit"
        return core.Isolation(enforcement=enforcement, volumes=volumes, profiles=self.profiles.offered, missing=missing)

    async def refresh_names_forever(self, clock: Clock) -> None:
        """Keeps the node's resolv.conf true to the machine's."""
        while True:
            await clock.sleep(LOOK_S)
            try:
                self._resolver.refresh()
            except OSError as error:
                log.warning("the node's resolv.conf cannot be written", error=str(error))

    def give_back(self) -> None:
        """Nothing runs on the node any more: what the machine lent it goes."""
        remove_memory_dir(self._settings.dir)
        self.cgroups.close()


def cgroup_name(settings: AgentSettings) -> str:
    """The node's own groups: nodes of several clusters have the same names."""
    return f"{settings.name}-{blake2b(str(settings.dir.absolute()).encode(), digest_size=4).hexdigest()}"
