"""Control groups for containers, where this machine lets us have them: limits, a cap on processes, ends that are whole.

    v2         one hierarchy with all controllers
    v1         one hierarchy per controller: memory, cpu, pids
    hybrid     v1, and an empty v2 hierarchy, of which cgroup.kill is of use

Each container gets a group `podium-<node>/<uid>.<container>` in each hierarchy that it needs: always in those for the
number of processes and for killing; in those of memory and cpu if it has limits. Groups are made below the agent's own
(v1) or below the root (v2, where a group with processes can have no groups with controllers below it). Without the
right to make them there are none: `Cgroups.find` says so, with the command that would change it.

Amounts: memory.max and memory.limit_in_bytes in bytes; cpu.max and cpu.cfs_quota_us in microseconds of processor time
per period of 100 ms (Linux, Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
CPU_PERIOD_US = 100_000
MAX_PROCESSES = 4096
"""Of one container: a fork bomb ends there, and nothing that works gets there."""
CONTROLLERS = ("memory", "cpu", "pids")
NOTE = "cgroups.json"
"""In the node's directory: where its groups are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use; 0 is no limit."""

    memory_bytes: int = 0
    cpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The hierarchies that can be used: controller -> the node's own group in its hierarchy."""

    bases: Mapping[str, Path]
    """Of "memory", "cpu", "pids" those that there are; and "kill", a v2 hierarchy."""
    version: int
    """1 or 2; 0: there are none."""
    missing: tuple[str, ...] = ()
    """What could not be had, and how it could."""
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By the name of a container's group, its directories."""

    @property
    def enforces(self) -> bool:
        """Limits of memory and cpu are kept."""
        return "memory" in self.bases and "cpu" in self.bases

    @classmethod
    def none(cls, why: str = "") -> Cgroups:
        """There are none."""
        return cls({}, 0, (why,) if why else ())

    @classmethod
    def find(cls, name: str, mount: Path = MOUNT) -> Cgroups:
        """What this machine has, with a group `podium-<name>` made in each hierarchy."""
        if (mount / "cgroup.controllers").exists():
            return cls._find_v2(name, mount)
        bases, problems = {}, []
        for controller in CONTROLLERS:
            hierarchy = mount / controller
            try:
                base = hierarchy / _own_path(controller).lstrip("/") / f"podium-{name}"
                base.mkdir(exist_ok=True)
                if not os.access(base / "cgroup.procs", os.W_OK):
                    raise PermissionError(13, "Permission denied")
                bases[controller] = base
            except OSError as error:
                problems.append(f"{controller} ({error.strerror})")
        if (mount / "unified" / "cgroup.procs").exists():
            try:
                base = mount / "unified" / f"podium-{name}"
                base.mkdir(exist_ok=True)
                bases["kill"] = base
            except OSError as error:
                problems.append(f"cgroup.kill ({error.strerror})")
        missing = f"control groups: {', '.join(problems)}; run as root, or have them delegated" if problems else ""
        return cls(bases, 1 if bases else 0, (missing,) if missing else ())

    @classmethod
    def _find_v2(cls, name: str, mount: Path) -> Cgroups:
        wish = "systemd-run --user --scope -p Delegate=yes podium up"
        try:
            base = mount / f"podium-{name}"
            (mount / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in CONTROLLERS))
            base.mkdir(exist_ok=True)
            (base / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in CONTROLLERS))
        except OSError as error:
            return cls.none(f"control groups ({error.strerror}); run as root, or: {wish}")
        return cls(dict.fromkeys((*CONTROLLERS, "kill"), base), 2)

    def make(self, name: str, limits: Limits) -> tuple[str, ...]:
        """The groups of a container, with its limits; empty where there are none. Raises OSError."""
        wanted = ["pids", "kill"]
        if limits.memory_bytes:
            wanted.append("memory")
        if limits.cpu_milli:
            wanted.append("cpu")
        groups = {controller: self.bases[controller] / name for controller in wanted if controller in self.bases}
        for group in dict.fromkeys(groups.values()):
            group.mkdir(exist_ok=True)
        v2 = self.version == 2
        if "pids" in groups:
            (groups["pids"] / "pids.max").write_text(str(MAX_PROCESSES))
        if "memory" in groups:
            (groups["memory"] / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limits.memory_bytes))
        if "cpu" in groups:
            quota = max(1000, limits.cpu_milli * CPU_PERIOD_US // 1000)
            if v2:
                (groups["cpu"] / "cpu.max").write_text(f"{quota} {CPU_PERIOD_US}")
            else:
                (groups["cpu"] / "cpu.cfs_quota_us").write_text(str(quota))
        made = tuple(dict.fromkeys(map(str, groups.values())))
        self.own[name] = made
        return made

    def was_out_of_memory(self, name: str) -> bool:
        """The kernel has killed a process of the container because it reached its limit of memory."""
        base = self.bases.get("memory")
        if base is None:
            return False
        for file in ("memory.events", "memory.oom_control"):
            try:
                lines = (base / name / file).read_text().splitlines()
            except OSError:
                continue
            return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in lines)
        return False

    def remove(self, name: str) -> None:
        """Takes the groups of a container away, once nothing is in them; what is busy still goes another time."""
        self.own.pop(name, None)
        for base in dict.fromkeys(self.bases.values()):
            try:
                (base / name).rmdir()
            except OSError:
                pass

    def remove_all_but(self, names: Iterable[str]) -> None:
        """Takes away the groups of containers that are no more."""
        kept = set(names)
        for base in dict.fromkeys(self.bases.values()):
            for group in base.iterdir() if base.is_dir() else ():
                if group.is_dir() and group.name not in kept:
                    self.remove(group.name)

    def remember(self, node_dir: Path) -> None:
        """Notes where the node's groups are, for whoever removes the node when no agent is there to do it."""
        (node_dir / NOTE).write_text(json.dumps([str(base) for base in dict.fromkeys(self.bases.values())]))

    def close(self) -> None:
        """The node is over: its own groups go, too."""
        remove_groups(self.bases.values())


def remove_groups(bases: Iterable[Path]) -> None:
    """Takes away groups with those below them; what is busy stays."""
    for base in dict.fromkeys(bases):
        for group in [*(each for each in base.glob("*") if each.is_dir()), base]:
            try:
                group.rmdir()
            except OSError:
                pass


def remove_remembered(node_dir: Path) -> None:
    """The same for a node whose agent is gone. Nothing happens if it had none."""
    try:
        remove_groups(map(Path, json.loads((node_dir / NOTE).read_text())))
    except (OSError, ValueError):
        pass


def _own_path(controller: str) -> str:
    """The group of this process in a v1 hierarchy. Raises OSError."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    raise FileNotFoundError(2, "no such controller")
