"""Control groups for containers, where this machine lets us have them: limits, a cap on processes, ends that are whole.

    v2         one hierarchy with all controllers
    v1         one hierarchy per controller: memory, cpu, pids
    hybrid     v1, and an empty v2 hierarchy, of which cgroup.kill is of use

Each container gets a group `podium-<node>/<uid>.<container>` in each hierarchy that it needs: always in those for the
number of processes, for killing, and for cpu, which is divided by what was requested; in that of memory if it has a
limit. Groups are made below the agent's own; in v2 only if that one was delegated, and the daemons move into a group
beside them (one with processes can have none with controllers below it); otherwise below the root. Without the right to
make them there are none: `Cgroups.find` says so, with the command that would change it.

Amounts: memory.max and memory.limit_in_bytes in bytes; cpu.max and cpu.cfs_quota_us in microseconds of processor time
per period of 100 ms; cpu.shares and cpu.weight as Kubernetes has them, 1,024 shares to a processor (Linux,
Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst; KEP-2254).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.cgroup_files import DAEMONS

MOUNT, PROC = Path("/sys/fs/cgroup"), Path("/proc")
CPU_PERIOD_US = 100_000
MAX_PROCESSES = 4096
"""Of one container: a fork bomb ends there, and nothing that works gets there."""
MIN_SHARES, MAX_SHARES, SHARES_OF_A_CPU = 2, 262_144, 1024
DEFAULT_WEIGHT = 100
CONTROLLERS = ("memory", "cpu", "pids")
NOTE = "cgroups.json"
"""In the node's directory: where its groups are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use; 0 is no limit."""

    memory_bytes: int = 0
    cpu_milli: int = 0


def shares_of(cpu_request_milli: int) -> int:
    """Its part of the processors when they are short, beside others'. What requests nothing gets what others leave."""
    return max(MIN_SHARES, min(MAX_SHARES, cpu_request_milli * SHARES_OF_A_CPU // 1000))


def weight_of(shares: int) -> int:
    """The same for v2."""
    return 1 + (shares - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The hierarchies that can be used: controller -> the node's own group in its hierarchy."""

    bases: Mapping[str, Path]
    """Of "memory", "cpu", "pids" those that there are; and "kill", a v2 hierarchy."""
    version: int
    """1 or 2; 0: there are none."""
    missing: tuple[str, ...] = ()
    """What could not be had, and how it could."""
    ooms: dict[str, int] = field(default_factory=dict)
    """By the name of a container's group, how often memory had run out in it before the run that is on: a group that
    was still busy when its container ended is used again."""

    @property
    def enforces(self) -> bool:
        """Limits of memory and cpu are kept."""
        return "memory" in self.bases and "cpu" in self.bases

    @classmethod
    def none(cls, why: str = "") -> Cgroups:
        """There are none."""
        return cls({}, 0, (why,) if why else ())

    @classmethod
    def find(cls, name: str, mount: Path = MOUNT, proc: Path = PROC) -> Cgroups:
        """What this machine has, with a group `podium-<name>` made in each hierarchy."""
        if (mount / "cgroup.controllers").exists():
            return cls._find_v2(f"podium-{name}", mount, proc)
        bases, problems = {}, []
        hierarchies = {controller: mount / controller for controller in CONTROLLERS}
        if (mount / "unified" / "cgroup.procs").exists():
            hierarchies["kill"] = mount / "unified"
        for controller, hierarchy in hierarchies.items():
            try:
                own = own_path(proc, "" if controller == "kill" else controller)
                bases[controller] = _make_base(hierarchy / own / f"podium-{name}")
                if controller == "cpu":  # for all pods together: else they divide what one process outside gets
                    shares = shares_of(1000 * (os.cpu_count() or 1))
                    _write(str(bases[controller]), "cpu.shares", str(shares))
            except OSError as error:
                problems.append(f"{'cgroup.kill' if controller == 'kill' else controller} ({error.strerror})")
        missing = f"control groups: {', '.join(problems)}; run as root, or have them delegated" if problems else ""
        return cls(bases, 1 if bases else 0, (missing,) if missing else ())

    @classmethod
    def _find_v2(cls, name: str, mount: Path, proc: Path) -> Cgroups:
        """Below the group that this process was given (systemd's Delegate=yes, or a container's own), else below the
        root, for root."""
        controllers = " ".join(f"+{controller}" for controller in CONTROLLERS)
        problem = OSError(2, "No such file or directory")
        for parent in _places_v2(mount, proc):
            try:
                if (parent / "cgroup.type").exists():  # all but the root of all
                    _make_room(parent)
                (parent / "cgroup.subtree_control").write_text(controllers)
                base = _make_base(parent / name)
                (base / "cgroup.subtree_control").write_text(controllers)
            except OSError as error:
                problem = error
                continue
            return cls(dict.fromkeys((*CONTROLLERS, "kill"), base), 2)
        wish = "systemd-run --user --scope -p Delegate=yes podium up"
        return cls.none(f"control groups ({problem.strerror}); run as root, or: {wish}")

    def make(self, name: str, limits: Limits) -> tuple[str, ...]:
        """The groups of a container, with its limits but for those of cpu (`divide_cpu`); empty where there are none.
        Raises OSError."""
        wanted = ["pids", "kill", "cpu", *(["memory"] if limits.memory_bytes else [])]
        groups = {each: os.path.join(self.bases[each], name) for each in wanted if each in self.bases}
        made = tuple(dict.fromkeys(groups.values()))
        for group in made:
            try:
                os.mkdir(group)
            except FileExistsError:
                self._write_cpu(name, SHARES_OF_A_CPU, DEFAULT_WEIGHT, 0)
        v2 = self.version == 2
        if "pids" in groups:
            _write(groups["pids"], "pids.max", str(MAX_PROCESSES))
        if "memory" in groups:
            memory, amount = groups["memory"], str(limits.memory_bytes)
            _write(memory, "memory.max" if v2 else "memory.limit_in_bytes", amount)
            # Nor may it go on in swap; and with one process of a container, all end, as in Kubernetes.
            extra = {"memory.swap.max": "0", "memory.oom.group": "1"} if v2 else {"memory.memsw.limit_in_bytes": amount}
            for file, value in extra.items():
                if os.path.exists(os.path.join(memory, file)):
                    _write(memory, file, value)
            self.ooms[name] = self._ooms_of(name)
        return made

    def divide_cpu(self, name: str, limits: Limits, request_milli: int) -> None:
        """Gives a container that has started its part of the processors, and its limit. Again is fine.

        Not before: the spawner goes through the group to start it, and would be held up by the limit of one container,
        or by all others where this one has requested nothing, and all of them with it. Raises OSError.
        """
        shares = shares_of(request_milli)
        try:
            self._write_cpu(name, shares, weight_of(shares), limits.cpu_milli)
        except FileNotFoundError:
            pass  # it has ended

    def _write_cpu(self, name: str, shares: int, weight: int, limit_milli: int) -> None:
        if "cpu" not in self.bases:
            return
        group = os.path.join(self.bases["cpu"], name)
        quota = max(1000, limit_milli * CPU_PERIOD_US // 1000)
        if self.version == 2:
            _write(group, "cpu.weight", str(weight))
            _write(group, "cpu.max", f"{quota if limit_milli else 'max'} {CPU_PERIOD_US}")
        else:
            _write(group, "cpu.shares", str(shares))
            _write(group, "cpu.cfs_quota_us", str(quota if limit_milli else -1))

    def groups_of(self, name: str) -> tuple[str, ...]:
        """The groups that a container has now."""
        groups = (base / name for base in dict.fromkeys(self.bases.values()))
        return tuple(str(group) for group in groups if group.is_dir())

    def was_out_of_memory(self, name: str) -> bool:
        """The kernel has killed a process of the container because it reached its limit of memory."""
        return self._ooms_of(name) > self.ooms.get(name, 0)

    def _ooms_of(self, name: str) -> int:
        """How often that has happened in the group, whichever run it was."""
        for file in ("memory.events", "memory.oom_control"):
            try:
                lines = (self.bases["memory"] / name / file).read_text().splitlines()
            except (OSError, KeyError):
                continue
            return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0

    def remove(self, name: str) -> None:
        """Takes the groups of a container away, once nothing is in them; what is busy still goes another time."""
        self.ooms.pop(name, None)
        for base in dict.fromkeys(self.bases.values()):
            try:
                os.rmdir(os.path.join(base, name))
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


def _write(group: str, file: str, value: str) -> None:
    fd = os.open(os.path.join(group, file), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


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


def own_path(proc: Path = PROC, controller: str = "") -> str:
    """The group of this process, relative to the root of its hierarchy: v2, or v1 with this controller. Raises
    OSError."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    raise FileNotFoundError(2, "no such controller")


def _places_v2(mount: Path, proc: Path) -> list[Path]:
    """Groups of a v2 tree below which there may be ours, best first."""
    own = mount / own_path(proc)
    if own.name == DAEMONS:
        own = own.parent
    return [own, mount] if own != mount and is_delegated(own) else [mount]


def is_delegated(group: Path) -> bool:
    """systemd has given the group to whoever runs in it, to divide it further. That a user may write in it does not say
    so: that is also true of groups that the user's systemd goes on to manage."""
    try:
        return os.getxattr(group, "user.delegate") == b"1"
    except OSError:  # before systemd 250 it does not say so to users: these are the names that systemd-run gives
        return group.name.startswith("run-") and os.access(group / "cgroup.subtree_control", os.W_OK)


def _make_room(parent: Path) -> None:
    """Moves the processes of a v2 group into a group below it, as the kernel wants it before that one can divide its
    resources. Several agents may do this at the same time. Raises OSError."""
    apart = parent / DAEMONS
    apart.mkdir(exist_ok=True)
    for pid in (parent / "cgroup.procs").read_text().split():
        try:
            (apart / "cgroup.procs").write_text(pid)
        except ProcessLookupError:
            continue


def _make_base(base: Path) -> Path:
    """A node's own group, in which this process may make others. Raises OSError, and leaves nothing then."""
    base.mkdir(exist_ok=True)
    if not os.access(base / "cgroup.procs", os.W_OK):
        base.rmdir()
        raise PermissionError(13, "Permission denied")
    return base
